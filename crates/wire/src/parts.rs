//! The parts of a key or a sequence: nearly always none or one, so that none of them allocates.

use std::borrow::Cow;
use std::ops::Deref;

use serde_json::value::RawValue;

/// The parts of a key or a sequence, as a slice. None and one do not allocate.
#[derive(Debug, Default)]
pub struct Parts<'a>(Few<'a>);

#[derive(Debug, Default)]
enum Few<'a> {
    #[default]
    None,
    One(Cow<'a, RawValue>),
    Many(Vec<Cow<'a, RawValue>>),
}

impl<'a> Parts<'a> {
    /// Adds a part after the others.
    pub(crate) fn push(&mut self, part: Cow<'a, RawValue>) {
        self.0 = match std::mem::take(&mut self.0) {
            Few::None => Few::One(part),
            Few::One(first) => Few::Many(vec![first, part]),
            Few::Many(mut parts) => {
                parts.push(part);
                Few::Many(parts)
            }
        };
    }
}

impl<'a> Deref for Parts<'a> {
    type Target = [Cow<'a, RawValue>];

    fn deref(&self) -> &Self::Target {
        match &self.0 {
            Few::None => &[],
            Few::One(part) => std::slice::from_ref(part),
            Few::Many(parts) => parts,
        }
    }
}

impl<'p, 'a> IntoIterator for &'p Parts<'a> {
    type Item = &'p Cow<'a, RawValue>;
    type IntoIter = std::slice::Iter<'p, Cow<'a, RawValue>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
