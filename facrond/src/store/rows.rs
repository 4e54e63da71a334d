//! The rows of the store, and what changes them.

use super::history::Block;
use std::collections::HashMap;

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
    /// Until when everything that happened is known, in nanoseconds since 1970.
    KnownUntil,
    /// 1 while the daemon runs, 2 if it has ended in order.
    CleanEnd,
}

impl Number {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NextRule => "next rule",
            Self::NextSeq => "next seq",
            Self::Oldest => "oldest seq",
            Self::KnownUntil => "known until",
            Self::CleanEnd => "clean end",
        }
    }
}

/// A job that is not concluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    pub seq: u64,
    pub rule: u64,
    /// The number of its rule as it was, among the [`Saved::specs`].
    pub spec: u64,
    pub data: Vec<u8>,
    /// How many further events it stands for.
    pub merged: u64,
    /// Events that were added later, with numbers that only grow.
    pub events: Vec<(u64, Vec<u8>)>,
    /// How many tries are over.
    pub tries: u32,
    pub phase: Phase,
}

impl JobRow {
    pub(super) fn size(&self) -> usize {
        let events = self.events.iter().map(|(_, data)| data.capacity() + size_of::<(u64, Vec<u8>)>());
        size_of::<Self>() + self.data.capacity() + events.sum::<usize>() + self.phase.size()
    }
}

/// What a job does, in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Waits,
    WaitsUntil(i64),
    /// Its command was started; `identity` tells the process from all others, once it is known.
    Runs {
        pid: i32,
        identity: Option<String>,
        began: i64,
        /// What its files were before.
        files: Vec<u8>,
    },
    /// Its command has ended, and its files get their places.
    Settles {
        files: Vec<u8>,
    },
}

impl Phase {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Waits | Self::WaitsUntil(_) => 0,
            Self::Runs { files, .. } | Self::Settles { files } => files.capacity(),
        }
    }
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobChange {
    Opened(Box<JobRow>),
    /// It stands for more events; one of them may be needed.
    Merged {
        count: u64,
        event: Option<(u64, Vec<u8>)>,
    },
    Went {
        tries: u32,
        phase: Phase,
    },
    Ended,
}

/// One change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Number {
        name: Number,
        value: u64,
    },
    Rule(RuleRow),
    PauseRule {
        id: u64,
        paused: bool,
    },
    RemoveRule {
        id: u64,
    },
    /// A rule as it is while jobs have it.
    Spec {
        id: u64,
        data: Vec<u8>,
    },
    RemoveSpec {
        id: u64,
    },
    Job {
        seq: u64,
        change: JobChange,
    },
    History(Block),
    Watermark(WatermarkRow),
    /// Those that are at the common time are at this one from now on.
    FreezeWatermarks {
        since: u64,
    },
    RemoveWatermark {
        rule: u64,
    },
    Directories(DirectoriesRow),
    /// The common time, what rules were told of since the last one, and what was before `forget`
    /// goes.
    Known {
        until: u64,
        told: Vec<u8>,
        forget: u64,
    },
}

/// Until when a rule knows what has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatermarkRow {
    /// A number for its words.
    pub rule: u64,
    /// When it was first watched, in nanoseconds since 1970.
    pub begun: u64,
    /// The same; `None` for the time that is common to all.
    pub since: Option<u64>,
}

/// The directories in the tree of a rule at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoriesRow {
    pub rule: u64,
    pub time: u64,
    /// Numbers of eight bytes each.
    pub numbers: Vec<u8>,
}

/// What an earlier daemon knew at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Until when everything is known that has happened, in nanoseconds since 1970.
    pub until: u64,
    pub watermarks: Vec<WatermarkRow>,
    /// What rules were told of around that time, as [`Change::Known`] had it.
    pub told: Vec<Vec<u8>>,
    /// Of some rules.
    pub directories: Vec<DirectoriesRow>,
    pub end: End,
}

/// How a daemon has ended, as a number of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// It has not, as far as the store knows.
    #[default]
    None = 1,
    InOrder = 2,
    /// In order, and it is known what it had still to tell.
    AllTold = 3,
}

impl From<u64> for End {
    fn from(number: u64) -> Self {
        [Self::InOrder, Self::AllTold].into_iter().find(|end| *end as u64 == number).unwrap_or_default()
    }
}

impl Change {
    /// Its memory in bytes, about.
    pub(super) fn size(&self) -> usize {
        let data = match self {
            Self::History(block) => block.data.capacity(),
            Self::Known { told, .. } => told.capacity(),
            Self::Directories(row) => row.numbers.capacity(),
            Self::Rule(RuleRow { data, .. })
            | Self::Spec { data, .. }
            | Self::Job { change: JobChange::Merged { event: Some((_, data)), .. }, .. } => data.capacity(),
            Self::Job { change: JobChange::Opened(row), .. } => row.size(),
            Self::Job { change: JobChange::Went { phase, .. }, .. } => phase.size(),
            _ => 0,
        };
        size_of::<Self>() + data
    }
}

/// What an earlier daemon has left.
#[derive(Debug)]
pub struct Saved {
    pub rules: Vec<RuleRow>,
    /// In the order of their numbers.
    pub jobs: Vec<JobRow>,
    pub specs: HashMap<u64, Vec<u8>>,
    pub next_rule: u64,
    pub next_seq: u64,
    /// From this number on, all records are in the history.
    pub oldest: u64,
    pub known: Known,
    /// What went wrong, in sentences.
    pub problems: Vec<String>,
}

impl Default for Saved {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            jobs: Vec::new(),
            specs: HashMap::new(),
            next_rule: 1,
            next_seq: 1,
            oldest: 1,
            known: Known::default(),
            problems: Vec::new(),
        }
    }
}
