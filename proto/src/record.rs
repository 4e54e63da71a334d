//! Records: an event that fired a rule, and its outcome.

use crate::{RuleId, Text};
use serde::{Deserialize, Serialize};

/// One firing of one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, from 1, in the order of the events. It is never used again, also after a
    /// restart, as long as the state directory exists. Numbers may be left out.
    pub seq: u64,
    /// When the daemon read the event (RFC 3339, UTC, nanoseconds).
    pub time: String,
    /// The rule that the event fired.
    pub rule: RuleId,
    /// The rule's `name=` at that time, if it had one.
    pub rule_name: Option<String>,
    /// The events of the rule that have happened.
    pub events: Vec<String>,
    /// The path of the event. For `FAN_RENAME`, the new path.
    pub path: Text,
    /// For renames, the old path.
    pub old_path: Option<Text>,
    /// The process that caused the event; 0 if it is not known.
    pub pid: i32,
    /// The executable of that process, if it is known.
    pub exe: Option<Text>,
    /// The effective user of that process, if it is known.
    pub uid: Option<u32>,
    /// Whether the daemon found the change by looking, without an event of the kernel. Also of a
    /// command that runs once more because its file has changed, see `done=`.
    pub synthetic: bool,
    /// Whether an earlier daemon may have run the command already; it has not seen its end.
    pub repeated: bool,
    /// How many further events this record stands for. Then `seq` is that of the first event,
    /// `events` are those of all events, and everything else is that of the last event.
    /// With `batch=` there is one record for each run.
    pub merged: u64,
    /// The outcome, which changes until it is final.
    pub outcome: Outcome,
}

/// The outcome of an event: its state, and what belongs to the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The state. The other members are present if they apply to it.
    pub state: OutcomeState,
    /// The pid of the command, if it was started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<i32>,
    /// The exit status of a command that ended by itself. It is not known of a command that an
    /// earlier daemon had started, before Linux 6.15.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit: Option<i32>,
    /// The signal that ended the command.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<i32>,
    /// The time from the start of the command to its end, in milliseconds. For a permission
    /// event, how long the process waited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_ms: Option<f64>,
    /// The reason why the command did not run, was stopped, or why its file stays where it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// For a permission event, the origin of the verdict.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<By>,
    /// The last lines that the command wrote.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<Text>,
    /// How often the command was started, if more than once (`retry=`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tries: Option<u32>,
    /// Whether the command was stopped to start again for a later event (`busy=restart`).
    /// Absent if not.
    #[serde(skip_serializing_if = "is_false", default)]
    pub restarted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) fn is_false(value: &bool) -> bool {
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
    /// Whether it is a failure, which `tail --failed` shows.
    pub fn is_failure(&self) -> bool {
        match self.state {
            _ if self.restarted => false,
            OutcomeState::Exited => self.exit.is_some_and(|exit| exit != 0),
            OutcomeState::Signaled
            | OutcomeState::Timeout
            | OutcomeState::SpawnFailed
            | OutcomeState::NotMoved
            | OutcomeState::Dropped => true,
            _ => false,
        }
    }

    /// Whether it will not change any more.
    pub fn is_final(&self) -> bool {
        !matches!(self.state, OutcomeState::Pending | OutcomeState::Running)
    }
}

/// The states of an [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeState {
    /// The event or its command waits.
    Pending,
    /// The command is running.
    Running,
    /// The command has exited by itself.
    Exited,
    /// The command was ended by a signal.
    Signaled,
    /// The command was stopped by its `timeout=`.
    Timeout,
    /// The command could not be started.
    SpawnFailed,
    /// The command did not run because of a policy, such as `busy=skip`.
    Skipped,
    /// The event was dropped, because too many were waiting.
    Dropped,
    /// The event was recorded. COMMAND is `-`, which runs nothing.
    Recorded,
    /// The permission event was allowed.
    Allowed,
    /// The permission event was denied.
    Denied,
    /// The command has ended, and its file could not be moved or removed as `done=` or `failed=`
    /// says. It is where it was.
    NotMoved,
}

/// The origin of the verdict on a permission event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// `verdict=` of the record's rule, or of the rule that `error` names.
    Rule,
    /// The exit status of COMMAND.
    Command,
    /// An earlier verdict for the same file, by `cache=`.
    Cache,
    /// `on-failure=`, because the deadline has passed.
    Deadline,
    /// `on-failure=`, for the reason in `error`.
    Failure,
}

impl By {
    /// The name in the JSON text.
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
