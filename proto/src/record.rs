//! Records: what happened, and what became of it.

use crate::{RuleId, Text};
use serde::{Deserialize, Serialize};

/// One firing of one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, in the order of the events; from 1.
    pub seq: u64,
    /// When the daemon read the event (RFC 3339, UTC, nanoseconds).
    pub time: String,
    /// The rule that the event fired.
    pub rule: RuleId,
    /// The rule's `name=` at that time, if it had one.
    pub rule_name: Option<String>,
    /// The events of the rule that were in it.
    pub events: Vec<String>,
    /// The path of the event; of `FAN_RENAME` the new one.
    pub path: Text,
    /// The path before, for renames.
    pub old_path: Option<Text>,
    /// The process that caused it; 0 where unknown.
    pub pid: i32,
    /// That process's executable, where it could be told.
    pub exe: Option<Text>,
    /// That process's user, where it could be told.
    pub uid: Option<u32>,
    /// Found by looking, not told by the kernel.
    pub synthetic: bool,
    /// Run again, because the daemon ended before it was known to be done.
    pub repeated: bool,
    /// How many further events this record stands for. Its own are those of the last
    /// of them, but `seq` of the first and `events` of all; under `batch=` there is one
    /// record a run.
    pub merged: u64,
    /// What became of the event; changes until it is final.
    pub outcome: Outcome,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The state; the other members are present where they apply.
    pub state: OutcomeState,
    /// The pid of the command, once it was started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<i32>,
    /// The exit status of a command that ended by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<i32>,
    /// From its start to its end, in milliseconds; of a permission event, how long the
    /// process waited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_ms: Option<f64>,
    /// Why it did not run, or was stopped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Of a permission event, what the verdict comes from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<By>,
    /// The last lines that it wrote.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<Text>,
    /// How often the command was started, where that was more than once (`retry=`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tries: Option<u32>,
    /// The command was stopped to start anew for a later event (`busy=restart`); absent if not.
    #[serde(skip_serializing_if = "is_false", default)]
    pub restarted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl From<OutcomeState> for Outcome {
    fn from(state: OutcomeState) -> Self {
        Self {
            state,
            pid: None,
            exit: None,
            signal: None,
            duration_ms: None,
            error: None,
            by: None,
            output: None,
            tries: None,
            restarted: false,
        }
    }
}

impl Outcome {
    /// Whether something went wrong that a user would want to see.
    pub fn is_failure(&self) -> bool {
        match self.state {
            _ if self.restarted => false,
            OutcomeState::Exited => self.exit != Some(0),
            OutcomeState::Signaled
            | OutcomeState::Timeout
            | OutcomeState::SpawnFailed
            | OutcomeState::Dropped => true,
            _ => false,
        }
    }

    /// Whether nothing more will become of it.
    pub fn is_final(&self) -> bool {
        !matches!(self.state, OutcomeState::Pending | OutcomeState::Running)
    }
}

/// The states of an [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeState {
    /// The event waits for quiet, or its command for its turn.
    Pending,
    /// The command was started and has not ended.
    Running,
    /// The command exited by itself.
    Exited,
    /// A signal ended the command.
    Signaled,
    /// The command ran into its `timeout=`.
    Timeout,
    /// The command could not be started.
    SpawnFailed,
    /// A policy said not to run it.
    Skipped,
    /// There was no room for it.
    Dropped,
    /// COMMAND is `-`: there was nothing to run.
    Recorded,
    /// A permission event that was allowed.
    Allowed,
    /// A permission event that was denied.
    Denied,
}

/// What the verdict on a permission event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// `verdict=`, of the record's rule or of the one that `error` names.
    Rule,
    /// The exit status of COMMAND decided.
    Command,
    /// An earlier verdict for the same file, by `cache=`.
    Cache,
    /// `on-failure=`, since the deadline passed.
    Deadline,
    /// `on-failure=`, for the reason in `error`.
    Failure,
}

impl By {
    /// The name that stands in the JSON text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Command => "command",
            Self::Cache => "cache",
            Self::Deadline => "deadline",
            Self::Failure => "failure",
        }
    }
}
