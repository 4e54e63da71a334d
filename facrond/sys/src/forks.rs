//! Forks and exits of all our descendants, as the kernel tells them.
//!
//! One perf dummy event a CPU on the thread that starts commands, inherited by
//! all that descends from it: it counts nothing, and writes a record into a ring
//! before a new process runs its first instruction (`PERF_RECORD_FORK`) and when
//! one ends (`PERF_RECORD_EXIT`). Nobody else's forks are told.
//! Reading a ring is a look at shared memory and no system call. See
//! `perf_event_open(2)`.

use super::perf::{RECORD_EXIT, RECORD_FORK, RECORD_LOST, Record, Rings, TASK, Whom};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// What happened to a descendant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A process was made by another, or a thread of it (then `pid` is `parent`).
    Fork {
        /// The new process.
        pid: i32,
        /// The process that made it.
        parent: i32,
    },
    /// A thread ended, and with the last one its process. Also told when the
    /// kernel stops telling of a process: it executed what is set-user-ID.
    Exit {
        /// The process.
        pid: i32,
    },
    /// A ring was full: changes before this one are missing.
    Lost,
}

/// A change and when it was, in nanoseconds of `CLOCK_MONOTONIC`.
pub type Told = (u64, Change);

/// The rings.
#[derive(Debug)]
pub struct Forks(Rings);

impl Forks {
    /// Follows what the calling thread starts from now on.
    ///
    /// # Errors
    /// That of `perf_event_open(2)` or `mmap(2)`: the kernel has no perf, or does
    /// not let this user have it or that much memory of it.
    pub fn follow() -> Result<Self, Errno> {
        Rings::open(Whom::Descendants, TASK).map(Self)
    }

    /// Adds all changes before the call to `changes`, in order.
    pub fn read(&mut self, changes: &mut Vec<Told>) {
        let records = self.0.read();
        changes.extend(records.iter().filter_map(|record| Some((record.time, change(record)?))));
    }
}

impl AsFd for Forks {
    /// Becomes readable when the rings should be read, lest they overflow.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn change(record: &Record<'_>) -> Option<Change> {
    match record.kind {
        RECORD_FORK => Some(Change::Fork { pid: record.number(0)?, parent: record.number(4)? }),
        RECORD_EXIT => Some(Change::Exit { pid: record.number(0)? }),
        RECORD_LOST => Some(Change::Lost),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
