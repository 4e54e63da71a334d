//! `settle=`: jobs that wait until their path is quiet.

use super::Job;
use crate::config::when::Quiet;
use hashbrown::HashTable;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

/// What waits for quiet of one rule, a job a path.
#[derive(Debug, Default)]
pub(super) struct Settle {
    /// Boxed: half of a table's places are empty.
    paths: HashTable<Box<Settling>>,
    /// The room that is taken.
    room: usize,
    /// When each is due, the number of its job, by which it is told from others,
    /// and the hash of its path, by which it is found.
    deadlines: BTreeSet<(Instant, u64, u64)>,
    /// Others choose the file names: keyed, so that they cannot collide at will.
    hasher: RandomState,
}

#[derive(Debug)]
struct Settling {
    hash: u64,
    /// When its first event came.
    since: Instant,
    due: Instant,
    job: Job,
}

impl Settling {
    fn deadline(&self) -> (Instant, u64, u64) {
        (self.due, self.job.seq, self.hash)
    }
}

impl Settle {
    /// Lets the job that waits for this one's path stand for it, too, and wait on;
    /// that job's number. Gives it back where there is none.
    #[expect(clippy::result_large_err, reason = "no error: the job, not to be copied")]
    pub(super) fn absorb(&mut self, job: Job, quiet: Quiet, now: Instant) -> Result<u64, Job> {
        let hash = self.hasher.hash_one(&*job.event.path);
        let Some(settling) = self.paths.find_mut(hash, |settling| settling.job.event.path == job.event.path)
        else {
            return Err(job);
        };
        self.deadlines.remove(&settling.deadline());
        self.room -= settling.job.room();
        settling.job.absorb(job);
        self.room += settling.job.room();
        settling.due = due(settling.since, now, quiet);
        self.deadlines.insert(settling.deadline());
        Ok(settling.job.seq)
    }

    /// Takes a job in for whose path none waits.
    pub(super) fn insert(&mut self, job: Job, quiet: Quiet, now: Instant) {
        self.room += job.room();
        let hash = self.hasher.hash_one(&*job.event.path);
        let settling = Box::new(Settling { hash, since: now, due: due(now, now, quiet), job });
        self.deadlines.insert(settling.deadline());
        self.paths.insert_unique(hash, settling, |settling| settling.hash);
    }

    /// Takes out the next job that is due.
    pub(super) fn release(&mut self, now: Instant) -> Option<Job> {
        let (due, seq, hash) = *self.deadlines.first()?;
        if due > now {
            return None;
        }
        self.deadlines.pop_first();
        let entry = self.paths.find_entry(hash, |settling| settling.job.seq == seq).ok()?;
        let job = entry.remove().0.job;
        self.room -= job.room();
        Some(job)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, ..)| *due)
    }

    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Takes out all that waits, in any order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Job> {
        self.deadlines.clear();
        self.room = 0;
        self.paths.drain().map(|settling| settling.job)
    }
}

/// When it has been quiet for long enough, if `last` was the last event.
pub(super) fn due(first: Instant, last: Instant, quiet: Quiet) -> Instant {
    (last + quiet.lasts).min(first + quiet.at_most)
}
