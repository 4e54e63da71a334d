//! Commands that were started a moment ago.
//!
//! Most commands end within milliseconds: then there is nothing to be done for them
//! meanwhile, and what they wrote is read at their end. Only those that go on to run
//! are worth a task, which looks after their output and their time.

use crate::job::Job;
use crate::job::running::Running;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a command is fresh: longer than most run, also when many run at once, and
/// too short for anybody to notice that its output is not read yet.
const FRESH: Duration = Duration::from_millis(25);

/// A job and its command.
#[derive(Debug)]
pub struct Started {
    /// What is run.
    pub job: Job,
    /// The command.
    pub running: Running,
    since: Instant,
}

/// The fresh commands, the oldest first.
#[derive(Debug, Default)]
pub struct Fresh(VecDeque<Started>);

impl Fresh {
    /// A command was started just now. Given back if its time is too short to be left alone.
    pub fn push(&mut self, job: Job, running: Running) -> Option<Started> {
        let is_short = job.spec.options.timeout.is_some_and(|timeout| timeout < FRESH);
        let started = Started { job, running, since: Instant::now() };
        if is_short {
            return Some(started);
        }
        self.0.push_back(started);
        None
    }

    /// A command has ended; nothing if it was not fresh any more.
    pub fn take(&mut self, pid: i32) -> Option<Started> {
        let index = self.0.iter().position(|started| started.running.pid() == pid)?;
        self.0.remove(index)
    }

    /// When [`Fresh::take_old`] has one.
    pub fn next_due(&self) -> Option<Instant> {
        self.0.front().map(|oldest| oldest.since + FRESH)
    }

    /// One that is fresh no longer.
    pub fn take_old(&mut self, now: Instant) -> Option<Started> {
        self.next_due().filter(|due| *due <= now)?;
        self.0.pop_front()
    }

    /// All of them.
    pub fn take_all(&mut self) -> impl Iterator<Item = Started> + use<> {
        std::mem::take(&mut self.0).into_iter()
    }
}
