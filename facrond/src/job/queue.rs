//! Which job may start next. A state machine without I/O or a clock.
//!
//! - Of one rule, jobs for the same path never run together and keep their
//!   order; otherwise its oldest job comes first.
//! - Rules that have something to start take turns, so that none waits behind
//!   another's million.
//! - What waits is bounded. At the bound a job is merged into the last waiting
//!   one of its rule and path; where there is none, it is dropped.
//!
//! A *lane* is what waits for one path of one rule. Most lanes hold one job, so
//! the first lives in the hash table itself.

mod lanes;
#[cfg(test)]
mod tests;

use super::Job;
use facron_proto::RuleId;
use lanes::Lanes;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::num::NonZeroU32;

/// What became of a job that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It waits for its turn.
    Queued,
    /// The waiting job of this number stands for it now.
    Merged {
        /// That job's number.
        into: u64,
    },
    /// There was no room for it.
    Dropped,
}

/// The limits of a [`Queue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many jobs may wait: `--max-pending`.
    pub pending: usize,
    /// How many jobs may run at a time: `--max-jobs`.
    pub running: usize,
}

/// The jobs that wait, and what is known of those that run.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    pending: usize,
    running: usize,
    /// Those of which something waits or runs.
    rules: FxHashMap<RuleId, RuleQueue>,
    /// The rules that could start something, each once.
    turns: VecDeque<RuleId>,
}

#[derive(Debug, Default)]
struct RuleQueue {
    /// Its `jobs=`.
    limit: Option<NonZeroU32>,
    lanes: Lanes,
    /// Whether it is in [`Queue::turns`].
    has_turn: bool,
}

impl RuleQueue {
    fn can_start(&self) -> bool {
        let below_limit = self.limit.is_none_or(|limit| self.lanes.running() < limit.get() as usize);
        below_limit && self.lanes.has_ready()
    }
}

impl Queue {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self { limits, pending: 0, running: 0, rules: FxHashMap::default(), turns: VecDeque::new() }
    }

    /// The limits that it keeps.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How many jobs wait.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// How many jobs run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Takes a job in, behind those of the same rule and path.
    pub fn push(&mut self, job: Job) -> Admission {
        if self.pending >= self.limits.pending {
            return self.merge(&job);
        }
        let id = job.rule;
        let rule = self.rules.entry(id).or_default();
        rule.limit = job.spec.options.jobs;
        rule.lanes.push(job);
        self.pending += 1;
        self.give_turn(id);
        Admission::Queued
    }

    fn merge(&mut self, job: &Job) -> Admission {
        let rule = self.rules.get_mut(&job.rule);
        let Some(last) = rule.and_then(|rule| rule.lanes.last_mut(&job.event.path)) else {
            return Admission::Dropped;
        };
        last.merged += 1 + job.merged;
        last.event.events = last.event.events.with(job.event.events);
        last.event.mask |= job.event.mask;
        Admission::Merged { into: last.seq }
    }

    /// The next job that may start, which counts as running from now on.
    pub fn start_next(&mut self) -> Option<Job> {
        if self.running >= self.limits.running {
            return None;
        }
        loop {
            let id = self.turns.pop_front()?;
            let Some(rule) = self.rules.get_mut(&id) else { continue };
            rule.has_turn = false;
            if !rule.can_start() {
                continue;
            }
            let Some(job) = rule.lanes.start_oldest() else { continue };
            self.pending -= 1;
            self.running += 1;
            self.give_turn(id);
            return Some(job);
        }
    }

    /// Notes that the job of this rule and path that was started has ended.
    pub fn finished(&mut self, id: RuleId, path: &[u8]) {
        let Some(rule) = self.rules.get_mut(&id) else { return };
        if rule.lanes.finish(path) {
            self.running -= 1;
        }
        if rule.lanes.is_idle() {
            self.rules.remove(&id);
        } else {
            self.give_turn(id);
        }
    }

    /// Takes out what waits of a rule, oldest first. What runs of it still
    /// counts until it has finished.
    pub fn remove_rule(&mut self, id: RuleId) -> Vec<Job> {
        let Some(rule) = self.rules.get_mut(&id) else { return Vec::new() };
        let mut jobs: Vec<Job> = rule.lanes.drain().collect();
        jobs.sort_by_key(|job| job.seq);
        self.pending -= jobs.len();
        rule.has_turn = false;
        if rule.lanes.is_idle() {
            self.rules.remove(&id);
        }
        self.turns.retain(|turn| *turn != id);
        jobs
    }

    /// Takes out all that waits, oldest first.
    pub fn drain(&mut self) -> Vec<Job> {
        let ids: Vec<RuleId> = self.rules.keys().copied().collect();
        let mut jobs: Vec<Job> = ids.into_iter().flat_map(|id| self.remove_rule(id)).collect();
        jobs.sort_by_key(|job| job.seq);
        jobs
    }

    /// Puts a rule that can start something at the end of the line.
    fn give_turn(&mut self, id: RuleId) {
        if let Some(rule) = self.rules.get_mut(&id)
            && !rule.has_turn
            && rule.can_start()
        {
            rule.has_turn = true;
            self.turns.push_back(id);
        }
    }
}
