//! What waits and runs of one rule, by key: by path, that is, but for batches.

use super::Job;
use hashbrown::HashTable;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Boxed: half of a table's places are empty.
    waiting: HashTable<Box<Lane>>,
    /// The room that is taken.
    room: usize,
    /// The lanes whose key is not busy: the number of the first job, by which
    /// they are ordered, and the key's hash, by which they are found again.
    ready: BTreeSet<(u64, u64)>,
    /// The lanes whose first job is to be tried again, and when; the rest as above.
    paused: BTreeSet<(Instant, u64, u64)>,
    /// The keys for which a command runs, and the number of its job.
    busy: HashMap<Rc<[u8]>, u64>,
    /// Others choose the file names: keyed, so that they cannot collide at will.
    hasher: RandomState,
}

/// The jobs that wait with one key, in order.
#[derive(Debug)]
struct Lane {
    hash: u64,
    until: Option<Instant>,
    first: Job,
    rest: VecDeque<Job>,
}

impl Lanes {
    pub(super) fn push(&mut self, job: Job) {
        let hash = self.hash(job.key());
        self.room += job.room();
        if let Some(lane) = self.waiting.find_mut(hash, |lane| lane.first.key() == job.key()) {
            lane.rest.push_back(job);
            return;
        }
        if !self.busy.contains_key(job.key()) {
            self.ready.insert((job.seq, hash));
        }
        self.open(hash, job);
    }

    /// Puts a job in front of its lane, whose key is busy.
    pub(super) fn push_front(&mut self, job: Job) {
        let hash = self.hash(job.key());
        self.room += job.room();
        if let Some(lane) = self.waiting.find_mut(hash, |lane| lane.first.key() == job.key()) {
            lane.rest.push_front(std::mem::replace(&mut lane.first, job));
        } else {
            self.open(hash, job);
        }
    }

    /// Puts a job that ran back in front of its lane, to pause there.
    pub(super) fn pause(&mut self, job: Job, until: Instant) {
        let hash = self.hash(job.key());
        let was_busy = self.busy.remove(job.key()).is_some();
        debug_assert!(was_busy, "only what ran is tried again");
        self.paused.insert((until, job.seq, hash));
        let seq = job.seq;
        self.push_front(job);
        if let Some(lane) = self.waiting.find_mut(hash, |lane| lane.first.seq == seq) {
            lane.until = Some(until);
        }
    }

    /// Lets a job that waits pause until then, if it is the first of its lane.
    pub(super) fn delay(&mut self, seq: u64, key: &[u8], until: Instant) {
        let hash = self.hash(key);
        if let Some(lane) = self.waiting.find_mut(hash, |lane| lane.first.key() == key)
            && self.ready.remove(&(seq, hash))
        {
            lane.until = Some(until);
            self.paused.insert((until, seq, hash));
        }
    }

    /// Makes the key of a job busy that runs already.
    pub(super) fn adopt(&mut self, job: &Job) {
        self.busy.insert(job.shared_key(), job.seq);
    }

    pub(super) fn advance(&mut self, now: Instant) {
        while let Some((until, seq, hash)) = self.paused.first().copied().filter(|(until, ..)| *until <= now)
        {
            self.paused.remove(&(until, seq, hash));
            self.resume(seq, hash);
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.paused.first().map(|(until, ..)| *until)
    }

    fn resume(&mut self, seq: u64, hash: u64) {
        if let Some(lane) = self.waiting.find_mut(hash, |lane| lane.first.seq == seq) {
            lane.until = None;
            self.ready.insert((seq, hash));
        }
    }

    fn open(&mut self, hash: u64, first: Job) {
        let lane = Box::new(Lane { hash, until: None, first, rest: VecDeque::new() });
        self.waiting.insert_unique(hash, lane, |lane| lane.hash);
    }

    /// Lets the last job that waits with this one's key stand for it, too; that job's
    /// number. Gives it back where there is none.
    #[expect(clippy::result_large_err, reason = "no error: the job, not to be copied")]
    pub(super) fn absorb(&mut self, job: Job) -> Result<u64, Job> {
        let hash = self.hash(job.key());
        let Some(lane) = self.waiting.find_mut(hash, |lane| lane.first.key() == job.key()) else {
            return Err(job);
        };
        let last = lane.rest.back_mut().unwrap_or(&mut lane.first);
        self.room -= last.room();
        last.absorb(job);
        self.room += last.room();
        Ok(last.seq)
    }

    /// Takes the last job that waits with a key out again.
    pub(super) fn take_back(&mut self, key: &[u8]) -> Option<Job> {
        let hash = self.hash(key);
        let mut entry = self.waiting.find_entry(hash, |lane| lane.first.key() == key).ok()?;
        let job = entry.get_mut().rest.pop_back().unwrap_or_else(|| {
            let Lane { until, first, .. } = *entry.remove().0;
            self.ready.remove(&(first.seq, hash));
            if let Some(until) = until {
                self.paused.remove(&(until, first.seq, hash));
            }
            first
        });
        self.room -= job.room();
        Some(job)
    }

    /// Ends the pause of a lane; its job begins from the beginning.
    pub(super) fn hurry(&mut self, key: &[u8]) {
        let hash = self.hash(key);
        if let Some(lane) = self.waiting.find_mut(hash, |lane| lane.first.key() == key)
            && let Some(until) = lane.until
        {
            lane.first.tries = 0;
            let seq = lane.first.seq;
            self.paused.remove(&(until, seq, hash));
            self.resume(seq, hash);
        }
    }

    /// Takes the oldest job whose key is free, and makes the key busy.
    pub(super) fn start_oldest(&mut self) -> Option<Job> {
        let (seq, hash) = self.ready.pop_first()?;
        let mut entry = self.waiting.find_entry(hash, |lane| lane.first.seq == seq).ok()?;
        let lane = entry.get_mut();
        let job = match lane.rest.pop_front() {
            Some(next) => std::mem::replace(&mut lane.first, next),
            None => entry.remove().0.first,
        };
        self.room -= job.room();
        self.busy.insert(job.shared_key(), job.seq);
        Some(job)
    }

    /// Makes a key free; whether it was busy.
    pub(super) fn finish(&mut self, key: &[u8]) -> bool {
        if self.busy.remove(key).is_none() {
            return false;
        }
        let hash = self.hash(key);
        if let Some(lane) = self.waiting.find(hash, |lane| lane.first.key() == key) {
            self.ready.insert((lane.first.seq, hash));
        }
        true
    }

    /// Takes out all that waits, in any order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Job> {
        self.room = 0;
        self.ready.clear();
        self.paused.clear();
        self.waiting.drain().flat_map(|lane| std::iter::once(lane.first).chain(lane.rest))
    }

    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Whether a job waits whose key is free.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn running(&self) -> usize {
        self.busy.len()
    }

    /// The number of the job that runs with a key.
    pub(super) fn running_with(&self, key: &[u8]) -> Option<u64> {
        self.busy.get(key).copied()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.busy.is_empty()
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }
}
