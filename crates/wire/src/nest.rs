//! Which containers a scanner is in, however deep, without a stack of its own per level.

/// Which of the containers that a value stands in are objects: a bit each, the innermost last.
#[derive(Default)]
pub(crate) struct Nest {
    bits: u64,
    depth: usize,
    outer: Vec<u64>,
}

impl Nest {
    #[inline]
    pub(crate) fn push(&mut self, is_object: bool) {
        if self.depth == 64 {
            self.outer.push(self.bits);
            self.depth = 0;
        }
        self.bits = self.bits << 1 | u64::from(is_object);
        self.depth += 1;
    }

    #[inline]
    pub(crate) fn pop(&mut self) {
        self.bits >>= 1;
        self.depth -= 1;
        if self.depth == 0
            && let Some(bits) = self.outer.pop()
        {
            self.bits = bits;
            self.depth = 64;
        }
    }

    #[inline]
    pub(crate) fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }
}
