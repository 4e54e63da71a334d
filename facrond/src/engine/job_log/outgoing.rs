//! Records on their way to the store, and which of them it may not have yet.

use super::row;
use crate::job::Job;
use crate::job::outcome::Outcome;
use crate::store::{Block, Change, Store, seconds};
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub struct Outgoing {
    blocks: Vec<Block>,
    /// The changes that the store was given and has not tried, with the lowest number in each.
    given: VecDeque<(u64, u64)>,
}

impl Outgoing {
    /// Adds a record whose outcome is final.
    pub fn push(&mut self, job: &Job, outcome: &Outcome) {
        let seq = job.seq;
        if !self.blocks.last().is_some_and(|block| block.has_room(seq, seq)) {
            self.blocks.push(Block::new(seq));
        }
        let Some(block) = self.blocks.last_mut() else { return };
        (block.first, block.last) = (block.first.min(seq), block.last.max(seq));
        (block.count, block.newest) = (block.count + 1, block.newest.max(seconds(job.event.time)));
        row::append(&mut block.data, job, outcome);
    }

    /// Gives the store what there is.
    pub fn give(&mut self, store: &Store) {
        for block in self.blocks.drain(..) {
            let first = block.first;
            self.given.push_back((store.write(Change::History(block)), first));
        }
        while self.given.front().is_some_and(|(change, _)| store.is_tried(*change)) {
            self.given.pop_front();
        }
    }

    /// The lowest number of a record that may not be on the disk.
    pub fn first(&self) -> Option<u64> {
        self.given.iter().map(|(_, first)| *first).min()
    }
}
