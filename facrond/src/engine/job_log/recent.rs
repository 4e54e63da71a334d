//! The last jobs and their outcomes, in memory: bounded in records and in bytes, since paths
//! may be long.

use super::wanted::{Facts, Wanted};
use crate::event::Event;
use crate::job::Job;
use crate::job::outcome::Outcome;
use crate::wire;
use facron_proto::Record;
use std::collections::VecDeque;

/// The bytes of all, and the more for each record that there may be.
const BYTES: usize = 8 << 20;
const BYTES_A_RECORD: usize = 512;

/// A job and what became of it so far.
#[derive(Debug)]
pub struct Past {
    pub job: Job,
    pub outcome: Outcome,
}

impl Past {
    fn new(job: &Job, outcome: Outcome) -> Self {
        Self { job: job.without_batch(), outcome }
    }

    /// Its memory in bytes.
    fn size(&self) -> usize {
        let Event { path, old_path, exe, .. } = &self.job.event;
        let texts = [Some(path), old_path.as_ref(), exe.as_ref()].into_iter().flatten();
        size_of::<Self>() + texts.map(|text| text.len()).sum::<usize>() + self.outcome.text_size()
    }

    pub fn is_wanted(&self, wanted: &Wanted) -> bool {
        wanted.covers(&Facts::of(&self.job, &self.outcome))
    }

    pub fn record(&self) -> Record {
        wire::record(&self.job, &self.outcome)
    }
}

#[derive(Debug)]
pub struct Recent {
    /// How many are kept.
    limit: usize,
    /// In the order of their numbers.
    history: VecDeque<Past>,
    bytes: usize,
    /// The number from which on all are here.
    oldest: u64,
}

impl Recent {
    /// `next` is the number of the first one that will come.
    pub fn new(limit: usize, next: u64) -> Self {
        Self { limit, history: VecDeque::new(), bytes: 0, oldest: next }
    }

    /// Adds a job with a greater number than all others.
    pub fn push(&mut self, job: &Job, outcome: Outcome) {
        let past = Past::new(job, outcome);
        self.bytes += past.size();
        self.history.push_back(past);
        while self.history.len() > self.limit || self.bytes > BYTES + self.limit * BYTES_A_RECORD {
            let Some(oldest) = self.history.pop_front() else { break };
            self.bytes -= oldest.size();
            self.oldest = self.oldest.max(oldest.job.seq + 1);
        }
    }

    /// Takes the present state of a job over, if it is still here.
    pub fn update(&mut self, job: &Job, outcome: Outcome) {
        let new = Past::new(job, outcome);
        let size = new.size();
        if let Some(past) = self.get_mut(job.seq) {
            let before = std::mem::replace(past, new).size();
            self.bytes = self.bytes + size - before;
        }
    }

    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Past> {
        let place = self.history.binary_search_by_key(&seq, |past| past.job.seq).ok()?;
        self.history.get_mut(place)
    }

    /// All with this number and greater ones, as far as all are here.
    pub fn from(&self, seq: u64) -> impl Iterator<Item = &Past> {
        let seq = seq.max(self.oldest);
        let first = self.history.partition_point(|past| past.job.seq < seq);
        self.history.range(first..)
    }

    /// The last ones, the latest first. Of the jobs of an earlier daemon those that go on: the
    /// others are in the history on the disk.
    pub fn backwards(&self) -> impl Iterator<Item = &Past> {
        let is_here = |past: &&Past| past.job.seq >= self.oldest || !past.outcome.is_final();
        self.history.iter().rev().filter(is_here)
    }

    /// The number from which on all are here.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }
}

/// Records as they travel, as long as there is room for them in a reply.
#[derive(Debug)]
pub struct Page {
    pub records: Vec<Record>,
    limit: usize,
    bytes: usize,
    /// Whether one was refused because of its bytes.
    pub is_truncated: bool,
}

impl Page {
    pub fn new(limit: u64, bytes: usize) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { records: Vec::new(), limit, bytes, is_truncated: false }
    }

    /// An empty one for as much.
    pub fn like(&self) -> Self {
        Self { records: Vec::new(), ..*self }
    }

    /// Takes the records of another one, as long as there is room.
    pub fn append(&mut self, other: Self) {
        if !self.is_truncated {
            let room = self.limit.saturating_sub(self.records.len());
            self.records.extend(other.records.into_iter().take(room));
        }
    }

    /// Takes a record of this size; false if there is no room.
    pub fn take(&mut self, size: usize, record: impl FnOnce() -> Record) -> bool {
        if self.is_full() {
            return false;
        }
        let Some(left) = self.bytes.checked_sub(size) else {
            self.is_truncated = true;
            return false;
        };
        self.bytes = left;
        self.records.push(record());
        true
    }

    pub fn take_past(&mut self, past: &Past) -> bool {
        self.take(past.size(), || past.record())
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.is_truncated || self.records.len() >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::testing::job;

    #[test]
    fn it_is_bounded_in_bytes_and_so_is_a_page() {
        let mut recent = Recent::new(1000, 1);
        let path = "/x".repeat(50_000);
        for seq in 1..=200 {
            recent.push(&job(seq, 1, &path), Outcome::Recorded);
        }
        let size = |recent: &Recent| recent.history.iter().map(Past::size).sum::<usize>();
        let kept = recent.history.len();
        assert!((80..100).contains(&kept) && recent.bytes == size(&recent), "{kept}");
        assert_eq!(recent.oldest(), 201 - kept as u64);
        let mut page = Page::new(1000, 1 << 20);
        let taken = recent.backwards().take_while(|past| page.take_past(past)).count();
        assert!((9..=10).contains(&taken) && page.is_truncated, "{taken}");
        let mut page = Page::new(3, 1 << 20);
        assert_eq!(recent.backwards().take_while(|past| page.take_past(past)).count(), 3);
        assert!(!page.is_truncated);
        // an update may be the larger one
        let waiting = job(201, 1, "/a");
        recent.push(&waiting, Outcome::Pending);
        recent.update(&waiting, Outcome::NotStarted { why: "y".repeat(1000) });
        assert_eq!(recent.bytes, size(&recent));
    }

    #[test]
    fn numbers_may_have_gaps() {
        let mut recent = Recent::new(3, 1);
        for seq in [1, 2, 7, 9] {
            recent.push(&job(seq, 1, "/a"), Outcome::Recorded);
        }
        let seqs = |from| recent.from(from).map(|past| past.job.seq).collect::<Vec<_>>();
        assert_eq!((seqs(0), seqs(3), seqs(8), recent.oldest()), (vec![2, 7, 9], vec![7, 9], vec![9], 2));
        assert!(recent.get_mut(1).is_none() && recent.get_mut(3).is_none() && recent.get_mut(7).is_some());
    }
}
