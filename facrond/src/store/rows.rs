//! The rows of the store, and what changes them.

use super::history::Block;

/// What is kept of a rule that was added at runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRow {
    pub id: u64,
    pub layer: Layer,
    pub paused: bool,
    pub data: Vec<u8>,
}

/// How long a rule lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    UntilBoot,
    ForEver,
}

/// Numbers that are given out: those below are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    NextRule,
    NextSeq,
    /// Records below this are not in the history any more, or not all.
    Oldest,
}

impl Number {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NextRule => "next rule",
            Self::NextSeq => "next seq",
            Self::Oldest => "oldest seq",
        }
    }
}

/// One change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Number { name: Number, value: u64 },
    Rule(RuleRow),
    PauseRule { id: u64, paused: bool },
    RemoveRule { id: u64 },
    History(Block),
}

impl Change {
    /// Its memory in bytes, about.
    pub(super) fn size(&self) -> usize {
        let data = match self {
            Self::Rule(row) => row.data.capacity(),
            Self::History(block) => block.data.capacity(),
            Self::Number { .. } | Self::PauseRule { .. } | Self::RemoveRule { .. } => 0,
        };
        size_of::<Self>() + data
    }
}

/// What an earlier daemon has left.
#[derive(Debug)]
pub struct Saved {
    pub rules: Vec<RuleRow>,
    pub next_rule: u64,
    pub next_seq: u64,
    /// From this number on, all records are in the history.
    pub oldest: u64,
    /// What went wrong, in sentences.
    pub problems: Vec<String>,
}

impl Default for Saved {
    fn default() -> Self {
        Self { rules: Vec::new(), next_rule: 1, next_seq: 1, oldest: 1, problems: Vec::new() }
    }
}
