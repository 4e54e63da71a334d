//! The state of the daemon itself.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The result of the method `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the daemon, such as `1.2.3`.
    pub version: String,
    /// The pid of the daemon, in its own pid namespace.
    pub pid: u32,
    /// Milliseconds since the daemon was started.
    pub uptime_ms: u64,
    /// Number of rules by state.
    pub rules: BTreeMap<String, u64>,
    /// Number of kernel marks by kind.
    pub marks: BTreeMap<String, u64>,
    /// Waiting events and running commands.
    pub queue: Queue,
    /// Counters of events.
    pub events: Events,
    /// How the daemon recognizes events that facron's own commands caused.
    #[serde(default)]
    pub own_events: OwnEvents,
    /// Counters of jobs.
    pub jobs: Jobs,
    /// The gate, if there is or was a permission rule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gate: Option<Gate>,
    /// How far rules have caught up with the time before they were watched, if any had to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub catch_up: Option<CatchUp>,
    /// `ok`, or the problems in one line.
    pub health: String,
}

/// How the daemon recognizes events that facron's own commands and their descendants
/// caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnEvents {
    /// The kernel reports each fork (`perf_event_open(2)`). No descendant is missed.
    Perf,
    /// By the parents of a process. A descendant is missed if its parents have ended.
    #[default]
    Parents,
    /// By the time and path of events, because the kernel tells no pids to ordinary users.
    Behaviour,
}

/// How far rules have caught up, since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// Rules that have not caught up yet.
    pub rules: u64,
    /// Entries of directories that were compared with the time when the rule was last watched.
    pub compared: u64,
    /// Those that may have changed since.
    pub changed: u64,
}

/// Numbers of waiting events and running commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Events that wait for their command.
    pub pending: u64,
    /// Commands that run at present.
    pub running: u64,
    /// The greatest number of waiting events, `--max-pending`.
    pub limit: u64,
}

/// Counters of events since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Events that were read from the kernel.
    pub read: u64,
    /// Firings of rules. One event may fire several rules.
    pub matched: u64,
    /// Events that were ignored because facron's own commands caused them.
    pub ignored_own: u64,
    /// Overflows of the kernel's queue.
    pub overflows: u64,
}

/// Counters of jobs since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    /// Commands that have run and ended.
    pub run: u64,
    /// Commands that have failed, or could not be started.
    pub failed: u64,
    /// Events that were merged into another run.
    pub merged: u64,
    /// Events whose command did not run because of a policy.
    pub skipped: u64,
    /// Events that were dropped because too many were waiting.
    pub dropped: u64,
    /// Commands that were stopped by their `timeout=`.
    pub timeout: u64,
}

/// The gate, the process that answers permission events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The pid of the gate, while it runs.
    pub pid: Option<u32>,
    /// How often it was started.
    pub starts: u64,
    /// Processes that are waiting for the verdict of a command.
    pub open: u64,
    /// The longest time that a process has waited, in milliseconds.
    pub longest_wait_ms: f64,
    /// Answers that allowed the access.
    pub allowed: u64,
    /// Answers that gave the process `EPERM`.
    pub denied: u64,
    /// Answers by `on-failure=`, which are also counted above.
    pub failures: u64,
    /// Accesses of facron and its commands, which are allowed before any rule.
    pub own: u64,
    /// Accesses that the kernel denied, because no descriptor was left.
    pub lost: u64,
    /// Answers for which there is no record, because the daemon was too slow.
    pub untold: u64,
}
