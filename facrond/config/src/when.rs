//! The options that decide when a command runs: their meaning, and how their values are read.

use super::options::{choice, count, positive};
use super::rule::Options;
use std::time::Duration;

/// The greatest number of runs in a `rate=`. Each run is remembered for its time.
const MOST_RUNS: u32 = 100_000;

/// Without `max-wait=`, an event waits at most this many times the duration of `settle=` or
/// `batch=`.
const DEFAULT_FACTOR: u32 = 10;

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

impl Options {
    /// The effect of `settle=`, `batch=` and `max-wait=` together. With both `settle=` and
    /// `batch=` the longer one counts.
    pub fn gather(&self) -> Option<Gather> {
        let lasts = self.settle.max(self.batch)?;
        let quiet = Quiet { lasts, at_most: self.max_wait.unwrap_or(lasts * DEFAULT_FACTOR) };
        Some(if self.batch.is_some() { Gather::ByRule(quiet) } else { Gather::ByPath(quiet) })
    }

    /// Whether these options can delay a job.
    pub fn waits(&self) -> bool {
        self.rate.is_some() || self.gather().is_some()
    }

    /// The problem with `max-wait=` and a correction, if there is a problem.
    pub(super) fn max_wait_error(&self) -> Option<(&'static str, &'static str)> {
        let max_wait = self.max_wait?;
        match self.settle.max(self.batch) {
            None => Some((
                "`max-wait` bounds a waiting that this rule does not have",
                "add `settle=` or `batch=`, or leave it out",
            )),
            Some(quiet) if max_wait < quiet => Some((
                "`max-wait` is shorter than the quiet that is waited for",
                "make it at least as long as `settle` and `batch`",
            )),
            Some(_) => None,
        }
    }
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

pub(super) fn busy(value: &[u8]) -> Result<Busy, String> {
    let words =
        [("queue", Busy::Queue), ("skip", Busy::Skip), ("restart", Busy::Restart), ("rerun", Busy::Rerun)];
    choice(value, &words, "write `queue`, `skip`, `restart` or `rerun`")
}
