//! `batch=`: events that wait until their rule is quiet, to become one job.

use super::Job;
use super::settle::due;
use crate::config::rule::RuleSpec;
use crate::config::when::Quiet;
use crate::event::Event;
use facron_proto::RuleId;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Instant;

/// The batch that grows of one rule, if there is one.
#[derive(Debug, Default)]
pub(super) struct Batch {
    open: Option<Open>,
    /// Others choose the file names: keyed, so that they cannot collide at will.
    hasher: RandomState,
}

#[derive(Debug)]
struct Open {
    seq: u64,
    rule: RuleId,
    spec: Rc<RuleSpec>,
    since: Instant,
    due: Instant,
    /// How many events it stands for.
    count: u64,
    paths: Paths,
}

/// What happened, one event a path, in the order of the paths' first events.
#[derive(Debug, Default)]
struct Paths {
    events: Vec<Event>,
    /// Places in `events`, by path.
    index: HashTable<usize>,
    /// The room that they take.
    room: usize,
    /// The place of the one that came last.
    last: usize,
}

impl Paths {
    fn find(&self, path: &[u8], hasher: &RandomState) -> Option<usize> {
        let is_it = |at: &usize| *self.events[*at].path == *path;
        self.index.find(hasher.hash_one(path), is_it).copied()
    }

    fn add(&mut self, event: Event, hasher: &RandomState) {
        if let Some(at) = self.find(&event.path, hasher) {
            self.room -= self.events[at].room();
            self.events[at].absorb(event);
            self.room += self.events[at].room();
            self.last = at;
            return;
        }
        self.room += event.room();
        self.last = self.events.len();
        let hash = hasher.hash_one(&*event.path);
        self.events.push(event);
        self.index.insert_unique(hash, self.last, |at| hasher.hash_one(&*self.events[*at].path));
    }
}

impl Batch {
    /// Whether this path is in it already, so that another event of it needs no room.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.open.as_ref().is_some_and(|open| open.paths.find(path, &self.hasher).is_some())
    }

    /// Takes a job's event in, and waits on; the number of the batch's job.
    pub(super) fn add(&mut self, job: Job, quiet: Quiet, now: Instant) -> u64 {
        let Job { seq, rule, spec, event, merged, .. } = job;
        let open = self.open.get_or_insert_with(|| Open {
            seq,
            rule,
            spec: Rc::clone(&spec),
            since: now,
            due: now,
            count: 0,
            paths: Paths::default(),
        });
        open.spec = spec;
        open.count += 1 + merged;
        open.due = due(open.since, now, quiet);
        open.paths.add(event, &self.hasher);
        open.seq
    }

    /// Puts events before those that it has, of a run that was stopped for it; the number of
    /// the batch's job, if there is one.
    pub(super) fn prepend(&mut self, events: Box<[Event]>) -> Option<u64> {
        let open = self.open.as_mut()?;
        let later = std::mem::take(&mut open.paths);
        // The last event stays the last.
        let last = later.events[later.last].path.clone();
        for event in events.into_iter().chain(later.events) {
            open.paths.add(event, &self.hasher);
        }
        open.paths.last = open.paths.find(&last, &self.hasher).unwrap_or_default();
        Some(open.seq)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.due)
    }

    pub(super) fn room(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.paths.room)
    }

    pub(super) fn take(&mut self) -> Option<Job> {
        let Open { seq, rule, spec, count, paths, .. } = self.open.take()?;
        let event = paths.events[paths.last].clone();
        let batch = Some(paths.events.into_boxed_slice());
        Some(Job { seq, merged: count - 1, batch, ..Job::new(rule, spec, event) })
    }
}
