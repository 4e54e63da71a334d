//! Changes on their way into one transaction.

use super::database::Database;
use super::rows::Change;
use rusqlite::{Result, Transaction};

/// What is written at once.
#[derive(Debug, Default)]
pub(super) struct Group {
    changes: Vec<Change>,
    /// The changes that somebody waits for, by promise.
    promised: Vec<(u64, Vec<Change>)>,
    bytes: usize,
}

impl Group {
    pub(super) fn add(&mut self, changes: Vec<Change>, promised: Vec<(u64, Vec<Change>)>) {
        self.bytes += changes.iter().map(Change::size).sum::<usize>();
        for change in changes {
            self.add_one(change);
        }
        self.promised.extend(promised);
    }

    fn add_one(&mut self, change: Change) {
        let change = match (self.changes.last_mut(), change) {
            (Some(Change::History(last)), Change::History(block)) => match last.absorb(block) {
                None => return,
                Some(block) => Change::History(block),
            },
            (_, change) => change,
        };
        self.changes.push(change);
    }

    /// How many records of the history there are in it.
    pub(super) fn records(&self) -> u64 {
        let promised = self.promised.iter().flat_map(|(_, changes)| changes);
        let count = |change: &Change| if let Change::History(block) = change { block.count } else { 0 };
        self.changes.iter().chain(promised).map(count).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.promised.is_empty()
    }

    pub(super) fn is_promised(&self) -> bool {
        !self.promised.is_empty()
    }

    /// How many changes wait that nobody waits for, and their memory.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.changes.len(), self.bytes)
    }

    /// Takes out what somebody waits for: it was decided.
    pub(super) fn take_promises(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.promised).into_iter().map(|(promise, _)| promise).collect()
    }

    pub(super) fn apply(&self, transaction: &Transaction<'_>, boot: &str) -> Result<()> {
        let promised = self.promised.iter().flat_map(|(_, changes)| changes);
        self.changes.iter().chain(promised).try_for_each(|change| Database::change(transaction, boot, change))
    }
}
