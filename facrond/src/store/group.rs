//! Changes on their way into one transaction.
//!
//! What happens to one job is put together first: a job that is opened and concluded within one
//! group is not written at all.

use super::database::Database;
use super::rows::{Change, JobChange, JobRow, Phase};
use crate::kernel::process;
use rusqlite::{Result, Transaction};
use std::collections::{BTreeMap, HashSet};

/// What is written at once.
#[derive(Debug, Default)]
pub(super) struct Group {
    changes: Vec<Change>,
    jobs: BTreeMap<u64, Pending>,
    /// The changes that somebody waits for, by promise.
    promised: Vec<(u64, Vec<Change>)>,
    bytes: usize,
}

/// What is to be written of a job.
#[derive(Debug)]
pub(super) enum Pending {
    New(Box<JobRow>),
    Changed(Changed),
    Ended,
}

#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) merged: u64,
    pub(super) events: Vec<(u64, Vec<u8>)>,
    pub(super) went: Option<(u32, Phase)>,
}

impl Pending {
    fn size(&self) -> usize {
        match self {
            Self::New(row) => row.size(),
            Self::Changed(changed) => {
                let events = changed.events.iter().map(|(_, data)| data.capacity()).sum::<usize>();
                events + changed.went.as_ref().map_or(0, |(_, phase)| phase.size())
            }
            Self::Ended => 0,
        }
    }

    fn merge(&mut self, count: u64, event: Option<(u64, Vec<u8>)>) {
        let (merged, events) = match self {
            Self::New(row) => (&mut row.merged, &mut row.events),
            Self::Changed(changed) => (&mut changed.merged, &mut changed.events),
            Self::Ended => return,
        };
        *merged += count;
        events.extend(event);
    }

    fn go(&mut self, tries: u32, phase: Phase) {
        match self {
            Self::New(row) => (row.tries, row.phase) = (tries, phase),
            Self::Changed(changed) => changed.went = Some((tries, phase)),
            Self::Ended => {}
        }
    }

    /// Which process it is, of a command that runs. Most have ended before this is asked.
    fn identify(&mut self) {
        let phase = match self {
            Self::New(row) => &mut row.phase,
            Self::Changed(Changed { went: Some((_, phase)), .. }) => phase,
            Self::Changed(_) | Self::Ended => return,
        };
        if let Phase::Runs { pid, identity, .. } = phase
            && identity.is_none()
        {
            *identity = process::identity(*pid);
        }
    }
}

impl Group {
    pub(super) fn add(&mut self, changes: Vec<Change>, promised: Vec<(u64, Vec<Change>)>) {
        for change in changes {
            match change {
                Change::Job { seq, change } => self.add_job(seq, change),
                change => {
                    self.bytes += change.size();
                    self.add_one(change);
                }
            }
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

    fn add_job(&mut self, seq: u64, change: JobChange) {
        if let JobChange::Opened(row) = change {
            self.bytes += row.size();
            self.jobs.insert(seq, Pending::New(row));
            return;
        }
        if change == JobChange::Ended {
            let before = self.jobs.insert(seq, Pending::Ended);
            self.bytes -= before.as_ref().map_or(0, Pending::size);
            if matches!(before, Some(Pending::New(_))) {
                self.jobs.remove(&seq);
            }
            return;
        }
        let pending = self.jobs.entry(seq).or_insert_with(|| Pending::Changed(Changed::default()));
        self.bytes -= pending.size();
        match change {
            JobChange::Merged { count, event } => pending.merge(count, event),
            JobChange::Went { tries, phase } => pending.go(tries, phase),
            JobChange::Opened(_) | JobChange::Ended => {}
        }
        self.bytes += pending.size();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.jobs.is_empty() && self.promised.is_empty()
    }

    pub(super) fn is_promised(&self) -> bool {
        !self.promised.is_empty()
    }

    /// How many changes wait that nobody waits for, and their memory.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.changes.len() + self.jobs.len(), self.bytes)
    }

    /// Takes out what somebody waits for: it was decided.
    pub(super) fn take_promises(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.promised).into_iter().map(|(promise, _)| promise).collect()
    }

    /// Finds out what only the moment before the writing knows. Of the jobs in the database
    /// these are `written`; those of permission rules never are.
    pub(super) fn complete(&mut self, written: &HashSet<u64>) {
        self.jobs.retain(|seq, pending| matches!(pending, Pending::New(_)) || written.contains(seq));
        self.jobs.values_mut().for_each(Pending::identify);
    }

    /// Notes which jobs are in the database now.
    pub(super) fn note(&self, written: &mut HashSet<u64>) {
        for (seq, pending) in &self.jobs {
            match pending {
                Pending::New(_) => written.insert(*seq),
                Pending::Changed(_) => false,
                Pending::Ended => written.remove(seq),
            };
        }
    }

    pub(super) fn apply(&self, transaction: &Transaction<'_>, boot: &str) -> Result<()> {
        let promised = self.promised.iter().flat_map(|(_, changes)| changes);
        self.changes
            .iter()
            .chain(promised)
            .try_for_each(|change| Database::change(transaction, boot, change))?;
        self.jobs.iter().try_for_each(|(seq, pending)| Database::change_job(transaction, *seq, pending))
    }
}
