//! Picks the values at several paths from a line in one pass, however deep they stand.

use serde_json::value::RawValue;

use crate::path::Segment;
use crate::scan::{Broken, Scanner};

/// The paths as a tree. Nodes are numbered from the root downwards, each before its children, so
/// that what stands below a node has the numbers that follow its own.
#[derive(Debug, Default)]
pub(crate) struct Picker {
    root: Node,
    size: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// The step that leads here; none to the root.
    step: Option<Segment>,
    /// Whether a path ends here.
    is_wanted: bool,
    children: Vec<Node>,
    number: usize,
    /// The number after those of all that stand below.
    end: usize,
}

impl Picker {
    /// A picker of the values at `paths`.
    pub(crate) fn new<'p>(paths: impl Iterator<Item = &'p [Segment]>) -> Self {
        let mut root = Node::default();
        for path in paths {
            let mut node = &mut root;
            for step in path {
                node = node.child(step);
            }
            node.is_wanted = true;
        }
        let size = root.number_from(0);
        Self { root, size }
    }

    /// How many values a pass may find: the length of the slice to give it.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The place in that slice of the value at `path`.
    pub(crate) fn place(&self, path: &[Segment]) -> Option<usize> {
        let mut node = &self.root;
        for step in path {
            node = node.children.iter().find(|child| child.step.as_ref() == Some(step))?;
        }
        Some(node.number)
    }

    /// Reads the line into `found`. Of members that stand twice, the last counts.
    pub(crate) fn pick<'a>(
        &self,
        line: &'a str,
        found: &mut [Option<&'a RawValue>],
    ) -> Result<(), Broken> {
        let mut scanner = Scanner::new(line);
        self.root.pick(&mut scanner, found)?;
        scanner.end()
    }
}

impl Node {
    fn child(&mut self, step: &Segment) -> &mut Node {
        let known = self.children.iter().position(|child| child.step.as_ref() == Some(step));
        let index = known.unwrap_or_else(|| {
            self.children.push(Node { step: Some(step.clone()), ..Node::default() });
            self.children.len() - 1
        });
        &mut self.children[index]
    }

    fn number_from(&mut self, number: usize) -> usize {
        self.number = number;
        self.end = number + 1;
        for child in &mut self.children {
            self.end = child.number_from(self.end);
        }
        self.end
    }

    fn pick<'a>(
        &self,
        scanner: &mut Scanner<'a>,
        found: &mut [Option<&'a RawValue>],
    ) -> Result<(), Broken> {
        // What an earlier member of the same name had below it counts no more.
        found[self.number..self.end].fill(None);
        let value = scanner.spanned(self.is_wanted, |scanner| match scanner.peek() {
            _ if self.children.is_empty() => scanner.pass(),
            b'{' => scanner.object(|scanner, name| {
                let is_it = |child: &&Node| child.step.as_ref().is_some_and(|s| name.is(&s.name));
                match self.children.iter().find(is_it) {
                    Some(child) => child.pick(scanner, found),
                    None => scanner.pass(),
                }
            }),
            b'[' => {
                let mut index = 0;
                scanner.array(|scanner| {
                    let is_it = |child: &&Node| {
                        child.step.as_ref().is_some_and(|step| step.index == Some(index))
                    };
                    let child = self.children.iter().find(is_it);
                    index += 1;
                    match child {
                        Some(child) => child.pick(scanner, found),
                        None => scanner.pass(),
                    }
                })
            }
            _ => scanner.pass(),
        })?;
        found[self.number] = value;
        Ok(())
    }
}
