//! The daemon's own state.

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
    /// Commands that wait and run.
    pub queue: Queue,
    /// What came from the kernel.
    pub events: Events,
    /// How events are told apart that facron's own commands caused.
    #[serde(default)]
    pub own_events: OwnEvents,
    /// What became of the matched events.
    pub jobs: Jobs,
    /// The gate, where there is or was a permission rule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gate: Option<Gate>,
    /// `ok`, or what is wrong, in one line.
    pub health: String,
}

/// How events are told apart that facron's own commands and all that descends
/// from them cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnEvents {
    /// The kernel tells of each fork (`perf_event_open(2)`): completely.
    Perf,
    /// By the parents of processes, as long as they live.
    #[default]
    Parents,
    /// By what happens: the kernel tells an ordinary user no process of an event.
    Behaviour,
}

/// Commands that wait and run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Events that wait for their command.
    pub pending: u64,
    /// Commands that run at present.
    pub running: u64,
    /// How many events may wait, `--max-pending`.
    pub limit: u64,
}

/// Counters of events since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Events that were read from the kernel.
    pub read: u64,
    /// Firings of rules: one event may fire several.
    pub matched: u64,
    /// Not counted as firings, because facron's own commands caused them.
    pub ignored_own: u64,
    /// Overflows of the kernel's queue.
    pub overflows: u64,
}

/// Counters of jobs since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    /// Commands that ran to an end.
    pub run: u64,
    /// Of those, the ones that did not exit with 0, and what could not be started.
    pub failed: u64,
    /// Events that became part of another run.
    pub merged: u64,
    /// Events that a policy did not run.
    pub skipped: u64,
    /// Events for which there was no room.
    pub dropped: u64,
    /// Commands that were stopped by their `timeout=`.
    pub timeout: u64,
}

/// The process that answers permission events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// How often it was started.
    pub starts: u64,
    /// Processes that wait for a command's verdict at present.
    pub open: u64,
    /// The longest that one has waited, in milliseconds.
    pub longest_wait_ms: f64,
    /// Answers that let the process go on.
    pub allowed: u64,
    /// Answers that gave the process `EPERM`.
    pub denied: u64,
    /// Of both, those by `on-failure=`.
    pub failures: u64,
    /// Facron's own accesses, allowed before any rule.
    pub own: u64,
    /// What the kernel denied itself, for want of descriptors.
    pub lost: u64,
    /// Answers for which there is no record, because the daemon was too slow.
    pub untold: u64,
}
