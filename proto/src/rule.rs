//! Rules, in the form for clients.

use crate::{Outcome, Text};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a rule. It is never used again while the state directory exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(pub u64);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A rule in a request: its number, or its `name=`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "a rule is a number or a name")]
pub enum RuleRef {
    /// The `id`, a JSON number.
    Id(RuleId),
    /// The value of its `name=` option.
    Name(String),
}

/// Digits are a number. All other text is a name.
impl From<&str> for RuleRef {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), |id| Self::Id(RuleId(id)))
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => Text::from(name.as_str()).fmt(f),
        }
    }
}

/// The layer that a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A line of a configuration file.
    File,
    /// Added by `add`. It exists until it is removed, or until the next boot.
    Runtime,
    /// Added by `add` with `persist`. It exists until it is removed.
    Persisted,
}

impl Source {
    /// The name in the JSON text.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Runtime => "runtime",
            Self::Persisted => "persisted",
        }
    }
}

/// Whether a rule can fire at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its marks are in the kernel.
    Active,
    /// Its path does not exist yet. It waits at the nearest directory that exists.
    Waiting,
    /// It does not fire until it is resumed.
    Paused,
    /// It cannot be watched; `reason` has the reason.
    Failed,
    /// It has the option `once`, and has fired.
    Done,
}

impl State {
    /// The name in the JSON text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

/// A command of a rule that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The number of its record.
    pub seq: u64,
    /// When it failed (RFC 3339, UTC).
    pub time: String,
    /// The path that it ran for.
    pub path: Text,
    /// How it failed, with the last lines that it wrote.
    pub outcome: Outcome,
}

/// One rule, with its state and its counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its number. No other rule gets it while the state directory exists.
    pub id: RuleId,
    /// Its `name=`, if it has one.
    pub name: Option<String>,
    /// The layer of the rule.
    pub source: Source,
    /// The configuration file, for `source: file`.
    pub file: Option<Text>,
    /// The line in that file, from 1.
    pub line: Option<u32>,
    /// Whether the rule can fire at present.
    pub state: State,
    /// The reason if it is waiting or failed.
    pub reason: Option<String>,
    /// How a recursive rule watches its tree: `one mark a directory`, or `one mark on
    /// the file system` if the tree is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// PATH, absolute and without a slash at the end.
    pub path: Text,
    /// The names of EVENTS. A name for several events is replaced by their names.
    pub events: Vec<String>,
    /// OPTIONS as written, without the brackets.
    pub options: Text,
    /// COMMAND and its arguments, with their tokens.
    pub command: Vec<Text>,
    /// When it was added (RFC 3339, UTC).
    pub added: String,
    /// How many events it has matched.
    pub fired: u64,
    /// How many of its commands failed.
    pub failed: u64,
    /// The last of these failures, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_failure: Option<Failure>,
    /// When it fired last (RFC 3339, UTC).
    pub last: Option<String>,
}
