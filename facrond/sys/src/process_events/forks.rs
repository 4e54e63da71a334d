//! Forks and exits of all descendants of the daemon.
//!
//! The thread that starts commands has one perf dummy event for each CPU, and all its
//! descendants inherit the event. It counts nothing. The kernel writes a record into a
//! ring before a new process runs its first instruction (`PERF_RECORD_FORK`) and when a
//! thread ends (`PERF_RECORD_EXIT`). It writes none for other processes.
//! See `perf_event_open(2)`.

use super::ProcessEvent;
use crate::perf::{RECORD_EXIT, RECORD_FORK, RECORD_LOST, Record, Rings, Scope, TASK};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// The rings of the inherited events.
#[derive(Debug)]
pub struct Forks(Rings);

impl Forks {
    /// Follows the processes that the calling thread starts from now on.
    ///
    /// # Errors
    /// The error of `perf_event_open(2)` or `mmap(2)`: the kernel has no perf, or this
    /// user may not use it, or not with that much memory.
    pub fn follow() -> Result<Self, Errno> {
        Rings::open(Scope::Descendants, TASK).map(Self)
    }

    /// Adds all events before the call to `events`, in order. If a process executes a
    /// set-user-ID program, the kernel stops reporting it, which counts as its exit.
    pub fn read<T>(&mut self, events: &mut Vec<ProcessEvent<T>>) {
        events.extend(self.0.read().iter().filter_map(event));
    }
}

impl AsFd for Forks {
    /// Becomes readable when the rings must be read before they overflow.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(crate) fn event<T>(record: &Record<'_>) -> Option<ProcessEvent<T>> {
    let (pid, time) = (record.number(0), record.time);
    match record.kind {
        RECORD_FORK if record.number(4) == pid => Some(ProcessEvent::Thread { pid: pid? }),
        RECORD_FORK => Some(ProcessEvent::Fork { pid: pid?, parent: record.number(4)?, time }),
        RECORD_EXIT => Some(ProcessEvent::Exit { pid: pid?, time }),
        RECORD_LOST => Some(ProcessEvent::Lost),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
