//! The options that say when a command runs: what they mean, and how their values are read.

use super::options::{count, positive};
use super::rule::Options;
use std::time::Duration;

/// How many runs within its time a `rate=` may allow: each of them is remembered.
const MOST_RUNS: u32 = 100_000;

/// Without `max-wait=`, events wait for quiet this many times as long as the quiet has to last.
const PATIENCE: u32 = 10;

/// `rate=`: at most so many runs start in any span of so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// From 1.
    pub runs: u32,
    /// More than nothing.
    pub per: Duration,
}

/// `busy=`: what a new event does while the rule's command runs on that path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Busy {
    /// It waits for a run of its own.
    #[default]
    Queue,
    /// It is dropped.
    Skip,
    /// It stops the command, which then starts anew.
    Restart,
    /// The command runs once more afterwards, however many events there are.
    Rerun,
}

/// What events wait for before their command is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// Quiet of their path.
    ByPath(Quiet),
    /// Quiet of the rule; then all its paths are one run.
    ByRule(Quiet),
}

/// A time without events, and for how long it is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// How long there has to be no event.
    pub lasts: Duration,
    /// How long the first event waits at most.
    pub at_most: Duration,
}

impl Options {
    /// What `settle=`, `batch=` and `max-wait=` make together: with both, a path
    /// has to be quiet for the one and the rule for the other, and the longer of
    /// the two is that.
    pub fn gather(&self) -> Option<Gather> {
        let lasts = self.settle.max(self.batch)?;
        let quiet = Quiet { lasts, at_most: self.max_wait.unwrap_or(lasts * PATIENCE) };
        Some(if self.batch.is_some() { Gather::ByRule(quiet) } else { Gather::ByPath(quiet) })
    }

    /// Whether more than its turn may keep a job from starting at once.
    pub fn waits(&self) -> bool {
        self.rate.is_some() || self.gather().is_some()
    }

    /// What is wrong with the `max-wait=`, if there is one.
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
    match value {
        b"queue" => Ok(Busy::Queue),
        b"skip" => Ok(Busy::Skip),
        b"restart" => Ok(Busy::Restart),
        b"rerun" => Ok(Busy::Rerun),
        _ => Err("write `queue`, `skip`, `restart` or `rerun`".into()),
    }
}
