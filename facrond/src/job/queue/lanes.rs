//! What waits and runs of one rule, by path.

use super::Job;
use hashbrown::HashTable;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// The lanes of one rule.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Boxed: half of a table's places are empty.
    waiting: HashTable<Box<Lane>>,
    /// The lanes whose path is not busy: the number of the first job, by which
    /// they are ordered, and the path's hash, by which they are found again.
    ready: BinaryHeap<Reverse<(u64, u64)>>,
    /// The paths for which a command runs.
    busy: HashSet<Box<[u8]>>,
    /// Others choose the file names: keyed, so that they cannot collide at will.
    hasher: RandomState,
}

/// The jobs that wait for one path, in order.
#[derive(Debug)]
struct Lane {
    hash: u64,
    first: Job,
    rest: VecDeque<Job>,
}

impl Lanes {
    /// Appends a job to its path's lane.
    pub(super) fn push(&mut self, job: Job) {
        let hash = self.hash(&job.event.path);
        if let Some(lane) = self.waiting.find_mut(hash, |lane| lane.first.event.path == job.event.path) {
            lane.rest.push_back(job);
            return;
        }
        if !self.busy.contains(&job.event.path) {
            self.ready.push(Reverse((job.seq, hash)));
        }
        let lane = Box::new(Lane { hash, first: job, rest: VecDeque::new() });
        self.waiting.insert_unique(hash, lane, |lane| lane.hash);
    }

    /// The last job that waits for a path.
    pub(super) fn last_mut(&mut self, path: &[u8]) -> Option<&mut Job> {
        let hash = self.hash(path);
        let lane = self.waiting.find_mut(hash, |lane| *lane.first.event.path == *path)?;
        Some(lane.rest.back_mut().unwrap_or(&mut lane.first))
    }

    /// Takes the oldest job whose path is free, and makes the path busy.
    pub(super) fn start_oldest(&mut self) -> Option<Job> {
        let Reverse((seq, hash)) = self.ready.pop()?;
        let mut entry = self.waiting.find_entry(hash, |lane| lane.first.seq == seq).ok()?;
        let lane = entry.get_mut();
        let job = match lane.rest.pop_front() {
            Some(next) => std::mem::replace(&mut lane.first, next),
            None => entry.remove().0.first,
        };
        self.busy.insert(job.event.path.clone());
        Some(job)
    }

    /// Makes a path free; whether it was busy.
    pub(super) fn finish(&mut self, path: &[u8]) -> bool {
        if !self.busy.remove(path) {
            return false;
        }
        let hash = self.hash(path);
        if let Some(lane) = self.waiting.find(hash, |lane| *lane.first.event.path == *path) {
            self.ready.push(Reverse((lane.first.seq, hash)));
        }
        true
    }

    /// Takes out all that waits, in any order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Job> {
        self.ready.clear();
        self.waiting.drain().flat_map(|lane| std::iter::once(lane.first).chain(lane.rest))
    }

    /// Whether a job waits whose path is free.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many commands run.
    pub(super) fn running(&self) -> usize {
        self.busy.len()
    }

    /// Whether nothing waits and nothing runs.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.busy.is_empty()
    }

    fn hash(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path)
    }
}
