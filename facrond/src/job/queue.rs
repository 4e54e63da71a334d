//! Which job may start next. A state machine without I/O, over the time that it is told.
//!
//! - Of one rule, jobs for the same path never run together and keep their
//!   order; otherwise its oldest job comes first. The batches of a rule never run
//!   together, either.
//! - Rules that have something to start take turns, so that none waits behind
//!   another's million.
//! - What waits is bounded, whatever it waits for: quiet, its turn, its rate or
//!   another try. At the bound a job is merged into the last waiting one of its
//!   rule and path; where there is none, it is dropped.
//! - Of the room for what waits, and of that for what runs, no rule takes more than half
//!   of what the others leave. So there is always some for a rule that has none yet.
//!
//! A *lane* is what waits for its turn on one path of one rule. Most lanes hold one
//! job, so the first lives in the hash table itself.

mod batch;
mod lanes;
mod rate;
mod rule;
mod settle;
#[cfg(test)]
mod tests;

use super::Job;
use facron_proto::RuleId;
use rule::{Room, RuleQueue};
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

/// What became of a job that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Queued,
    /// The waiting job of this number stands for it now.
    Merged {
        into: u64,
    },
    /// The rule's command runs, and `busy=skip`.
    Skipped,
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The [room](crate::event::Event::room) for events that wait: `--max-pending`.
    pub pending: usize,
    /// How many jobs may run at a time: `--max-jobs`.
    pub running: usize,
}

/// The jobs that wait, and what is known of those that run.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    /// The room that is taken.
    pending: usize,
    running: usize,
    /// Those of which something waits or runs.
    rules: FxHashMap<RuleId, RuleQueue>,
    /// The rules that could start something, each once.
    turns: VecDeque<RuleId>,
    /// When time changes something for a rule, each at most once.
    timers: BTreeSet<(Instant, RuleId)>,
    /// The running jobs that a new one is to replace.
    stops: Vec<u64>,
}

impl Queue {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            pending: 0,
            running: 0,
            rules: FxHashMap::default(),
            turns: VecDeque::new(),
            timers: BTreeSet::new(),
            stops: Vec::new(),
        }
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The room that what waits takes: the number of events, and more with long paths.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// What waits of a rule, in the same measure.
    pub fn pending_of(&self, id: RuleId) -> usize {
        self.rules.get(&id).map_or(0, RuleQueue::pending)
    }

    /// How much more of a rule can wait, with as much left for what else may come.
    pub fn room(&self, id: RuleId) -> usize {
        self.limits.pending.saturating_sub(self.pending + self.pending_of(id)) / 4
    }

    pub fn running(&self) -> usize {
        self.running
    }

    /// Takes a job in, behind those of the same rule and path. One that is a batch
    /// already waits for its turn only.
    pub fn push(&mut self, job: Job, now: Instant) -> Admission {
        let id = job.rule;
        let pending = self.rules.entry(id).or_default().pending();
        let is_below = is_below_half(pending, self.pending, self.limits.pending);
        let room = if is_below { Room::Some } else { Room::None };
        self.update(id, |rule, stops| rule.push(job, now, room, stops)).unwrap_or(Admission::Dropped)
    }

    /// Takes a job in that waits for another try until then.
    pub fn push_paused(&mut self, job: Job, until: Instant) {
        let id = job.rule;
        self.rules.entry(id).or_default();
        self.update(id, |rule, _| rule.push_paused(job, until));
    }

    /// Takes note of a job whose command runs already, since an earlier daemon.
    pub fn adopt(&mut self, job: &Job) {
        self.rules.entry(job.rule).or_default();
        self.update(job.rule, |rule, _| rule.adopt(job));
        self.running += 1;
    }

    /// The next job that may start, which counts as running from now on.
    pub fn start_next(&mut self, now: Instant) -> Option<Job> {
        self.advance(now);
        if self.running >= self.limits.running {
            return None;
        }
        // Those that it passes over run something each, so they are not many.
        let at = self.turns.iter().position(|id| self.may_run_more(*id))?;
        let id = self.turns.remove(at)?;
        let start = |rule: &mut RuleQueue, _: &mut _| {
            rule.has_turn = false;
            rule.last_start = Some(now);
            rule.start(now)
        };
        let job = self.update(id, start).flatten();
        self.running += usize::from(job.is_some());
        job
    }

    fn may_run_more(&self, id: RuleId) -> bool {
        let is_below = |rule: &RuleQueue| is_below_half(rule.running(), self.running, self.limits.running);
        self.rules.get(&id).is_some_and(is_below)
    }

    /// The rules of which something waits for the end of other commands since then at
    /// least, and how many run.
    pub fn stuck_since(&self, then: Instant) -> impl Iterator<Item = (RuleId, usize)> {
        let waiting = self.turns.iter().filter(|id| !self.may_run_more(**id));
        let rules = waiting.filter_map(|id| Some((*id, self.rules.get(id)?)));
        let stuck = rules.filter(move |(_, rule)| rule.last_start.is_some_and(|start| start <= then));
        stuck.map(|(id, rule)| (id, rule.running()))
    }

    /// When [`start_next`](Self::start_next) may have something new, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// The numbers of the running jobs that are to be stopped, each of which must
    /// then be [`stopped`](Self::stopped).
    pub fn take_stops(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.stops)
    }

    /// Notes that a job that was started has ended.
    pub fn finished(&mut self, job: &Job) {
        let was_running = self.update(job.rule, |rule, _| rule.finish(job));
        self.running -= usize::from(was_running == Some(true));
    }

    /// Notes that a job has ended because it was to make room for a new one, which
    /// then has to do what this one has not done; its number, if it does.
    pub fn stopped(&mut self, job: &mut Job) -> Option<u64> {
        self.finished(job);
        let batch = job.batch.take()?;
        self.update(job.rule, |rule, _| rule.take_back(batch)).flatten()
    }

    /// Notes that a job has ended and is to be started again, but not before `then`.
    pub fn retry(&mut self, job: Job, then: Instant) {
        self.running -= 1;
        self.update(job.rule, |rule, _| rule.pause(job, then));
    }

    /// Takes back what of a job that was just started is to be a job of its own, the next one.
    pub fn put_back(&mut self, rest: Job) {
        self.update(rest.rule, |rule, _| rule.put_back(rest));
    }

    /// Lets what waits of a rule wait for quiet no longer: the rule was changed.
    pub fn flush(&mut self, id: RuleId) {
        self.update(id, |rule, _| rule.flush());
    }

    /// Takes out what waits of a rule, oldest first. What runs of it still
    /// counts until it has finished.
    pub fn remove_rule(&mut self, id: RuleId) -> Vec<Job> {
        let mut jobs = self.update(id, |rule, _| rule.drain()).unwrap_or_default();
        jobs.sort_by_key(|job| job.seq);
        jobs
    }

    /// Takes out all that waits, oldest first.
    pub fn drain(&mut self) -> Vec<Job> {
        let ids: Vec<RuleId> = self.rules.keys().copied().collect();
        let mut jobs: Vec<Job> = ids.into_iter().flat_map(|id| self.remove_rule(id)).collect();
        jobs.sort_by_key(|job| job.seq);
        jobs
    }

    fn advance(&mut self, now: Instant) {
        while let Some((_, id)) = self.timers.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.update(id, |rule, stops| rule.advance(now, stops));
        }
    }

    /// Changes a rule's queue, and what follows from it: the count of what waits,
    /// the rule's turn and its timer.
    fn update<T>(
        &mut self,
        id: RuleId,
        change: impl FnOnce(&mut RuleQueue, &mut Vec<u64>) -> T,
    ) -> Option<T> {
        let rule = self.rules.get_mut(&id)?;
        self.pending -= rule.pending();
        let result = change(rule, &mut self.stops);
        self.pending += rule.pending();
        let can_start = rule.can_start();
        match (can_start, std::mem::replace(&mut rule.has_turn, can_start)) {
            (true, false) => self.turns.push_back(id),
            (false, true) => self.turns.retain(|turn| *turn != id),
            _ => {}
        }
        let deadline = rule.next_deadline();
        if deadline != rule.timer {
            if let Some(old) = std::mem::replace(&mut rule.timer, deadline) {
                self.timers.remove(&(old, id));
            }
            self.timers.extend(deadline.map(|new| (new, id)));
        }
        if rule.is_idle() {
            self.rules.remove(&id);
        }
        Some(result)
    }
}

/// Whether what a rule has, of all that is taken, is less than half of what the others
/// leave it of `limit`.
fn is_below_half(has: usize, taken: usize, limit: usize) -> bool {
    has < limit.saturating_sub(taken)
}
