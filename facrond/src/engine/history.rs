//! What happened last, for `tail`.
//!
//! A record is made for those who ask; what is kept is the job, most of which it has
//! in common with others.

use crate::job::Job;
use facron_proto::{Outcome, Record, RuleId, Text};
use std::collections::VecDeque;

/// A job, and what became of it so far.
#[derive(Debug)]
pub struct Past {
    job: Job,
    outcome: Outcome,
}

impl Past {
    fn of(job: &Job, outcome: Outcome) -> Self {
        Self { job: job.without_batch(), outcome }
    }

    /// The rule that matched.
    pub fn rule(&self) -> RuleId {
        self.job.rule
    }

    /// What became of it so far.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// As clients see it.
    pub fn record(&self) -> Record {
        record_of(&self.job, self.outcome.clone())
    }
}

/// The last `limit` jobs. Their numbers have no gaps.
#[derive(Debug)]
pub struct History {
    limit: usize,
    past: VecDeque<Past>,
}

impl History {
    /// An empty history.
    pub fn new(limit: usize) -> Self {
        Self { limit, past: VecDeque::new() }
    }

    /// Adds a job, whose number follows the last one's.
    pub fn push(&mut self, job: &Job, outcome: Outcome) {
        if self.limit == 0 {
            return;
        }
        if self.past.len() == self.limit {
            self.past.pop_front();
        }
        self.past.push_back(Past::of(job, outcome));
    }

    /// Notes what became of a job that was added, if it is still kept.
    pub fn replace(&mut self, job: &Job, outcome: Outcome) {
        if let Some(past) = self.get_mut(job.seq) {
            *past = Past::of(job, outcome);
        }
    }

    /// The job of this number stands for one more event.
    pub fn merge(&mut self, seq: u64) {
        if let Some(past) = self.get_mut(seq) {
            past.job.merged += 1;
        }
    }

    fn get_mut(&mut self, seq: u64) -> Option<&mut Past> {
        let first = self.past.front()?.job.seq;
        let index = usize::try_from(seq.checked_sub(first)?).ok()?;
        self.past.get_mut(index)
    }

    /// All that are kept, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Past> {
        self.past.iter().rev()
    }
}

/// A job as clients see it.
pub fn record_of(job: &Job, outcome: Outcome) -> Record {
    let event = &job.event;
    Record {
        seq: job.seq,
        time: super::report::timestamp(event.time),
        rule: job.rule,
        rule_name: job.spec.options.name.clone(),
        events: event.events.names().map(str::to_owned).collect(),
        path: Text::from(&*event.path),
        old_path: event.old_path.as_deref().map(Text::from),
        pid: event.pid,
        exe: event.exe.as_deref().map(Text::from),
        uid: event.uid,
        synthetic: event.synthetic,
        repeated: job.repeated,
        merged: job.merged,
        outcome,
    }
}
