//! The last records, for `tail`.

use facron_proto::{Outcome, Record};
use std::collections::VecDeque;

/// The last `limit` records. Their numbers have no gaps.
#[derive(Debug)]
pub struct History {
    limit: usize,
    records: VecDeque<Record>,
}

impl History {
    /// An empty history.
    pub fn new(limit: usize) -> Self {
        Self { limit, records: VecDeque::new() }
    }

    /// Adds a record, whose number follows the last one's.
    pub fn push(&mut self, record: Record) {
        if self.limit == 0 {
            return;
        }
        if self.records.len() == self.limit {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// The record of this number, if it is still kept.
    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Record> {
        let first = self.records.front()?.seq;
        let index = usize::try_from(seq.checked_sub(first)?).ok()?;
        self.records.get_mut(index)
    }

    /// Notes what became of a record.
    pub fn settle(&mut self, seq: u64, outcome: &Outcome) {
        if let Some(record) = self.get_mut(seq) {
            record.outcome = outcome.clone();
        }
    }

    /// All that are kept, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().rev()
    }
}
