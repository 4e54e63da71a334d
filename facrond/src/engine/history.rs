//! The last records, for `tail`.

use facron_proto::Record;
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

    /// Puts a record in the place of the one that has its number, if that is still kept.
    pub fn replace(&mut self, record: Record) {
        if let Some(old) = self.get_mut(record.seq) {
            *old = record;
        }
    }

    /// All that are kept, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().rev()
    }
}
