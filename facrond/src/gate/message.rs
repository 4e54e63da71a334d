//! The messages of the daemon to the gate, and of the gate to the daemon. An order
//! sometimes comes with the descriptor that it is about.

use crate::config::filter::Patterns;
use crate::config::permission::{Decision, Verdict};
use crate::config::process_filter::ProcessFilter;
use crate::config::rule::{RuleSpec, Stdin};
use facron_proto::{RuleId, Text};
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// From the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Takes a rule in, or in place of the one that had its number. Until the rule is
    /// placed, the marks of both forms count.
    Rule(Box<Rule>),
    /// Marks the inode that comes with it for a rule; `below` is its path below PATH.
    Mark {
        rule: RuleId,
        below: Text,
    },
    /// Everything that was found for a rule is marked; asks for [`Notice::Placed`].
    Placed {
        rule: RuleId,
        extent: Extent,
        number: u64,
    },
    Forget(RuleId),
    /// Takes from the mark of the inode that comes with it what no rule needs of `mask`.
    Unmark {
        mask: u64,
    },
    /// What was at and below a path of a rule's tree is elsewhere now, or nowhere.
    Gone {
        rule: RuleId,
        below: Text,
    },
    /// Answers a question. Without a verdict the command has failed to give one.
    Decided {
        question: u64,
        verdict: Option<Verdict>,
    },
    /// Answers [`Notice::Find`]; the file comes with it, unless it was deleted.
    Found(u64),
    /// Asks for [`Notice::Counted`].
    Count(u64),
}

/// How much of a rule's tree was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// All of it: inodes that were not found belong to it no longer.
    Whole,
    /// A part, beside what is marked already.
    Part,
}

/// What a rule's command does after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Afterwards {
    Nothing,
    /// It runs, but must not for what it does itself.
    Runs,
}

/// A rule as the gate needs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rule {
    pub id: RuleId,
    /// PATH, all symbolic links resolved.
    pub path: Text,
    pub is_directory: bool,
    pub events: u64,
    pub recursive: bool,
    /// `include=`, `exclude=` and `type=`
    pub patterns: Patterns,
    /// `uid=` and `exe=`
    pub process_filter: ProcessFilter,
    pub decision: Decision,
    pub afterwards: Afterwards,
    pub deadline_ms: u64,
    pub on_failure: Verdict,
    pub cache_ms: Option<u64>,
    /// Whether the command gets the opened file itself. Only then its verdict is remembered.
    pub gives_file: bool,
    /// What is never held up, although it is below PATH.
    pub spared: Vec<Text>,
}

impl Rule {
    /// But for what only the walker finds out.
    pub fn new(id: RuleId, spec: &RuleSpec) -> Self {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let permission = &spec.options.permission;
        Self {
            id,
            path: Text::from(spec.path.as_os_str().as_bytes()),
            is_directory: false,
            events: spec.events.mask(),
            recursive: spec.options.recursive,
            patterns: spec.options.filter.patterns(),
            process_filter: spec.options.process_filter.clone(),
            decision: permission.decision(),
            afterwards: if spec.runs_afterwards() { Afterwards::Runs } else { Afterwards::Nothing },
            deadline_ms: milliseconds(permission.deadline()),
            on_failure: permission.on_failure(),
            cache_ms: permission.cache.map(milliseconds),
            gives_file: spec.stdin() == Stdin::File,
            spared: Vec::new(),
        }
    }
}

#[cfg(test)]
impl Rule {
    /// A recursive rule that denies, for tests.
    pub(in crate::gate) fn denying(path: &std::path::Path, events: crate::events::Events) -> Self {
        Self {
            id: RuleId(1),
            path: Text::from(path.as_os_str().as_bytes()),
            is_directory: path.is_dir(),
            events: events.mask(),
            recursive: true,
            patterns: Patterns::default(),
            process_filter: ProcessFilter::default(),
            decision: Decision::Always(Verdict::Deny),
            afterwards: Afterwards::Nothing,
            deadline_ms: 1000,
            on_failure: Verdict::Allow,
            cache_ms: None,
            gives_file: false,
            spared: Vec::new(),
        }
    }
}

/// From the gate.
#[derive(Debug, Serialize, Deserialize)]
pub enum Notice {
    /// It has its group, and carries out orders.
    Ready,
    /// It cannot open a group, for this reason of the system.
    Unfit(i32),
    /// An [`Order::Placed`] and all orders before it are carried out. `refused` is the
    /// error of the first mark of the rule that the kernel refused.
    Placed { number: u64, refused: Option<i32> },
    /// An [`Order::Count`] and all orders before it are carried out.
    Counted { number: u64, totals: Totals },
    /// Asks where a file is whose verdict is remembered.
    Find(Lost),
    /// Asks for a command's verdict about a process that waits.
    Question(Question),
    /// These were answered; the gate's numbers since its start.
    Answered(Vec<Answered>, Totals),
}

/// A file that is not where it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lost {
    pub number: u64,
    pub path: Text,
    pub device: u64,
    pub inode: u64,
    pub handle: Text,
}

/// What happened, and to whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Occasion {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    pub path: Text,
    pub mask: u64,
    /// The process that waits; 0 where unknown.
    pub pid: i32,
    pub exe: Option<Text>,
    pub uid: Option<u32>,
    /// Whether `path` leads there from here. A process can have mounts of its own.
    pub is_here: bool,
    /// Whether a command of facron, which does not decide, has caused it.
    pub is_own: bool,
}

/// Asks for a verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    pub number: u64,
    /// The rule whose command is to decide.
    pub rule: RuleId,
    pub events: u64,
    /// When no answer counts any more, in nanoseconds of `CLOCK_MONOTONIC`.
    pub deadline_ns: u64,
    /// Whether the opened object is a regular file, which comes with it.
    pub has_file: bool,
    pub occasion: Occasion,
}

/// Tells of an answer, after it was given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answered {
    pub occasion: Occasion,
    pub verdict: Verdict,
    /// How long it waited, in microseconds.
    pub held_us: u64,
    /// The rules that matched, each with its part in this.
    pub parts: Vec<Part>,
    /// How many more times the same happened at once.
    pub merged: u64,
}

/// What a rule had to do with an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    pub rule: RuleId,
    pub events: u64,
    /// The question that its command was asked.
    pub question: Option<u64>,
    /// How it came to its verdict.
    pub by: By,
}

/// Where a verdict comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// `verdict=`
    Rule,
    Command,
    /// What was remembered.
    Cache,
    /// `on-failure=`, since the deadline passed.
    Deadline,
    /// `on-failure=`, since the command gave no verdict.
    Failure,
    /// `on-failure=`, since too many waited already.
    Full,
    /// Another rule had denied it.
    Other(RuleId),
}

/// Numbers since the gate's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub allowed: u64,
    pub denied: u64,
    /// Of both, those by `on-failure=`.
    pub failures: u64,
    /// Of the daemon and of commands that decide, which no rule was asked about.
    pub own: u64,
    /// Events that the kernel denied itself, for want of a descriptor.
    pub lost: u64,
    /// Answers that could not be told of.
    pub untold: u64,
}

impl Totals {
    pub fn plus(self, other: Self) -> Self {
        Self {
            allowed: self.allowed + other.allowed,
            denied: self.denied + other.denied,
            failures: self.failures + other.failures,
            own: self.own + other.own,
            lost: self.lost + other.lost,
            untold: self.untold + other.untold,
        }
    }
}
