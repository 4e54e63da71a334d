//! `include=`, `exclude=` and `type=`: which objects below PATH count.

/// What an event's object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// What an event's object must be for a rule to fire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {}

impl Filter {
    /// Whether.
    pub fn accepts(&self, _relative: &[u8], _name: &[u8], _kind: ObjectKind) -> bool {
        true
    }
    /// Whether.
    pub fn excludes_tree(&self, _relative: &[u8]) -> bool {
        false
    }
}
