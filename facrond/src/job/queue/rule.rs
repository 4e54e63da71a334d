//! What waits and runs of one rule, from an event to the turn of its job.
//!
//! ```text
//! push -> settle or batch -> lanes -> start
//! ```

use super::batch::Batch;
use super::lanes::Lanes;
use super::rate::Window;
use super::settle::Settle;
use super::{Admission, Job};
use crate::config::rule::Options;
use crate::config::when::{Busy, Gather, Quiet};
use crate::event::Event;
use std::time::Instant;

/// The key of all batches.
const BATCH: &[u8] = b"";

/// Whether there is room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Some,
    None,
}

#[derive(Debug, Default)]
pub(super) struct RuleQueue {
    /// `jobs=`
    limit: Option<usize>,
    settle: Settle,
    batch: Batch,
    lanes: Lanes,
    window: Window,
    /// Whether the batch that is due has stopped the one that runs.
    has_interrupted: bool,
    busy: Busy,
    pub(super) last_start: Option<Instant>,
    /// Whether it is in [`Queue::turns`](super::Queue).
    pub(super) has_turn: bool,
    pub(super) timer: Option<Instant>,
}

impl RuleQueue {
    pub(super) fn push(&mut self, job: Job, now: Instant, room: Room, stops: &mut Vec<u64>) -> Admission {
        self.obey(&job);
        let busy = self.busy;
        let gather = job.spec.options.gather();
        let key = if matches!(gather, Some(Gather::ByRule(_))) { BATCH } else { &job.event.path };
        if busy == Busy::Skip && self.lanes.running_with(key).is_some() {
            return Admission::Skipped;
        }
        match gather {
            // It has waited for quiet already.
            _ if job.batch.is_some() => self.push_to_lane(job, room, stops),
            Some(Gather::ByRule(quiet)) => self.push_to_batch(job, quiet, now, room),
            Some(Gather::ByPath(quiet)) => self.push_to_settle(job, quiet, now, room),
            None => self.push_to_lane(job, room, stops),
        }
    }

    /// Takes over what the rule says about its jobs.
    fn obey(&mut self, job: &Job) {
        let Options { jobs, busy, .. } = *job.spec.options;
        self.limit = jobs.map(|limit| limit.get() as usize);
        self.busy = busy;
    }

    /// Takes a job in that waits for another try.
    pub(super) fn push_paused(&mut self, job: Job, until: Instant) {
        self.obey(&job);
        let (seq, key) = (job.seq, job.shared_key());
        self.lanes.push(job);
        self.lanes.delay(seq, &key, until);
    }

    /// Takes note of a job that runs already.
    pub(super) fn adopt(&mut self, job: &Job) {
        self.obey(job);
        self.lanes.adopt(job);
    }

    fn push_to_batch(&mut self, job: Job, quiet: Quiet, now: Instant, room: Room) -> Admission {
        if room == Room::None && !self.batch.has(&job.event.path) {
            return Admission::Dropped;
        }
        let seq = job.seq;
        match self.batch.add(job, quiet, now) {
            into if into != seq => Admission::Merged { into },
            _ => Admission::Queued,
        }
    }

    fn push_to_settle(&mut self, job: Job, quiet: Quiet, now: Instant, room: Room) -> Admission {
        let job = match self.settle.absorb(job, quiet, now) {
            Ok(into) => return Admission::Merged { into },
            Err(job) => job,
        };
        if self.busy != Busy::Queue
            && let Some(mut waiting) = self.lanes.take_back(&job.event.path)
        {
            let into = waiting.seq;
            waiting.absorb(job);
            waiting.tries = 0;
            self.settle.insert(waiting, quiet, now);
            return Admission::Merged { into };
        }
        if room == Room::None {
            return self.merge(job).unwrap_or(Admission::Dropped);
        }
        self.settle.insert(job, quiet, now);
        Admission::Queued
    }

    fn push_to_lane(&mut self, job: Job, room: Room, stops: &mut Vec<u64>) -> Admission {
        let job = if self.busy == Busy::Queue && room == Room::Some {
            job
        } else {
            match self.merge(job) {
                Ok(admission) => return admission,
                Err(job) => job,
            }
        };
        if room == Room::None {
            return Admission::Dropped;
        }
        self.enqueue(job, stops);
        Admission::Queued
    }

    /// Lets the last job that waits for its turn on this path stand for a job, too.
    #[expect(clippy::result_large_err, reason = "no error: the job, not to be copied")]
    fn merge(&mut self, job: Job) -> Result<Admission, Job> {
        if self.busy == Busy::Restart {
            self.lanes.hurry(job.key());
        }
        if job.batch.is_some() {
            return Err(job);
        }
        self.lanes.absorb(job).map(|into| Admission::Merged { into })
    }

    /// Puts a job that is due in its lane.
    fn enqueue(&mut self, job: Job, stops: &mut Vec<u64>) {
        if self.busy == Busy::Restart {
            stops.extend(self.lanes.running_with(job.key()));
        }
        self.lanes.push(job);
    }

    pub(super) fn advance(&mut self, now: Instant, stops: &mut Vec<u64>) {
        while let Some(job) = self.settle.release(now) {
            self.enqueue(job, stops);
        }
        if self.batch_due().is_some_and(|due| due <= now) {
            self.release_batch(stops);
        }
        self.lanes.advance(now);
        self.window.advance(now);
    }

    /// A batch goes on to grow while another runs.
    fn release_batch(&mut self, stops: &mut Vec<u64>) {
        if !self.lanes.is_idle() {
            self.has_interrupted = true;
            stops.extend(self.lanes.running_with(BATCH));
        } else if let Some(job) = self.batch.take() {
            self.lanes.push(job);
        }
    }

    fn batch_due(&self) -> Option<Instant> {
        let interrupts = self.busy == Busy::Restart && !self.has_interrupted;
        if self.lanes.is_idle() || interrupts { self.batch.due() } else { None }
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let window = self.window.full_until().filter(|_| self.has_startable());
        [self.settle.due(), self.batch_due(), self.lanes.due(), window].into_iter().flatten().min()
    }

    fn has_startable(&self) -> bool {
        self.limit.is_none_or(|limit| self.lanes.running() < limit) && self.lanes.has_ready()
    }

    /// Whether a job may start, as far as time was let pass.
    pub(super) fn can_start(&self) -> bool {
        self.has_startable() && self.window.full_until().is_none()
    }

    /// Starts the oldest job that [`can_start`](Self::can_start): it counts as running from now on.
    pub(super) fn start(&mut self, now: Instant) -> Option<Job> {
        let job = self.lanes.start_oldest()?;
        if let Some(rate) = job.spec.options.rate.filter(|_| !job.spec.options.once) {
            self.window.note(rate, now);
        }
        Some(job)
    }

    /// Makes a job's key free; whether it was busy.
    pub(super) fn finish(&mut self, job: &Job) -> bool {
        self.has_interrupted = false;
        self.lanes.finish(job.key())
    }

    /// Takes the events of a stopped batch back.
    pub(super) fn take_back(&mut self, batch: Box<[Event]>) -> Option<u64> {
        self.batch.prepend(batch)
    }

    /// Takes a job back that ran, to be started again after a pause.
    pub(super) fn pause(&mut self, job: Job, until: Instant) {
        self.has_interrupted = false;
        self.lanes.pause(job, until);
    }

    /// Takes the rest of a job back that runs.
    pub(super) fn put_back(&mut self, rest: Job) {
        self.lanes.push_front(rest);
    }

    /// Waits for quiet no longer.
    pub(super) fn flush(&mut self) {
        // What a run is stopped for comes together with what it ran for.
        let batch = if self.has_interrupted { None } else { self.batch.take() };
        for job in self.settle.drain().chain(batch) {
            self.lanes.push(job);
        }
    }

    /// Takes out what waits, in any order, and forgets what was.
    pub(super) fn drain(&mut self) -> Vec<Job> {
        self.window.clear();
        self.settle.drain().chain(self.batch.take()).chain(self.lanes.drain()).collect()
    }

    pub(super) fn pending(&self) -> usize {
        self.settle.room() + self.batch.room() + self.lanes.room()
    }

    pub(super) fn running(&self) -> usize {
        self.lanes.running()
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_idle(&self) -> bool {
        self.pending() == 0 && self.lanes.is_idle() && self.window.is_empty()
    }
}
