//! The options that decide when a command runs: their meaning, and how their values are read.

use super::options::{choice, count, positive};
use std::time::Duration;

/// The greatest number of runs in a `rate=`. Each run is remembered for its time.
const MOST_RUNS: u32 = 100_000;

/// `rate=`: at most `runs` runs start within any time of length `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number of runs, from 1.
    pub runs: u32,
    /// The time, longer than zero.
    pub per: Duration,
}

/// `busy=`: what a new event does while the rule's command runs on that path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Busy {
    /// It waits for a run of its own.
    #[default]
    Queue,
    /// The new event is dropped.
    Skip,
    /// It stops the command, which then starts again.
    Restart,
    /// The command runs once more afterwards, for all new events together.
    Rerun,
}

/// `catch-up=`: what a rule is told of the time before it is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// What has changed since the rule was last watched.
    #[default]
    Missed,
    /// The same, and everything that is there when it is watched for the first time.
    All,
    No,
}

/// What an event waits for before its command is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// Until its path is quiet.
    ByPath(Quiet),
    /// Until the whole rule is quiet. Then all its paths are one run.
    ByRule(Quiet),
}

/// A time without events, and how long to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// How long there must be no event.
    pub lasts: Duration,
    /// How long the first event waits at most.
    pub at_most: Duration,
}

pub(super) fn rate(value: &[u8]) -> Result<Rate, String> {
    let slash = value.iter().position(|byte| *byte == b'/');
    let slash = slash.ok_or("write a number of runs and a time: `rate=10/1m`")?;
    let runs = count(&value[..slash])?.get();
    if runs > MOST_RUNS {
        return Err(format!("the number of runs must not be more than {MOST_RUNS}"));
    }
    Ok(Rate { runs, per: positive(&value[slash + 1..], "the time must be more than nothing")? })
}

pub(super) fn catch_up(value: &[u8]) -> Result<CatchUp, String> {
    let words = [("missed", CatchUp::Missed), ("all", CatchUp::All), ("no", CatchUp::No)];
    choice(value, &words, "write `missed`, `all` or `no`")
}

pub(super) fn busy(value: &[u8]) -> Result<Busy, String> {
    let words =
        [("queue", Busy::Queue), ("skip", Busy::Skip), ("restart", Busy::Restart), ("rerun", Busy::Rerun)];
    choice(value, &words, "write `queue`, `skip`, `restart` or `rerun`")
}
