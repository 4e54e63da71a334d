//! `include=`, `exclude=` and `type=`: which objects below PATH count.

/// What an event's object must be for a rule to fire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {}
