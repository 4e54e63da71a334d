//! Process events (fork, exec, change of user, exit) from the kernel. There are three
//! sources: `forks` has the daemon's own descendants, from perf; `programs` has the
//! executables of all processes, from perf; `users` has the effective users of all
//! processes, from the proc connector.
//!
//! `/proc` alone is too late: half of the processes that write a file and end are
//! gone before their file event is read.

pub(crate) mod forks;
pub(crate) mod programs;
pub(crate) mod users;

pub use forks::Forks;
pub use programs::Programs;
pub use users::Users;

use nix::errno::Errno;
use std::os::fd::AsFd;

/// An event of a process. `T` is the type of the facts that the source reports, for example
/// a user. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent<T> {
    /// A process was made by another process. It has the same facts as its parent.
    Fork { pid: i32, parent: i32, time: u64 },
    /// A process got one more thread. Only [`Forks`] has this event.
    Thread { pid: i32 },
    /// A fact about a process has changed, for example its executable.
    Fact { pid: i32, fact: T, time: u64 },
    /// A thread ended ([`Forks`]), or the first thread of a process (the others).
    Exit { pid: i32, time: u64 },
    /// Some events are missing, because they were not read in time.
    Lost,
}

/// Process events of the whole system. The descriptor becomes readable when the
/// source must be read before events get lost.
pub trait ProcessEventSource: AsFd + Sized {
    /// The fact that the source reports about a process.
    type Fact: Clone + std::fmt::Debug;

    fn follow() -> Result<Self, Errno>;

    /// Adds all events before the call to `events`, in order.
    fn read(&mut self, events: &mut Vec<ProcessEvent<Self::Fact>>) -> Result<(), Errno>;

    /// The present fact about a process, from `/proc`.
    fn look_up(pid: i32) -> Option<Self::Fact>;
}

#[cfg(test)]
mod tests {
    use super::ProcessEvent;

    /// The events of one process; their times have to grow and are left out.
    pub(super) fn of<T>(events: &mut Vec<ProcessEvent<T>>, wanted: i32) -> Vec<ProcessEvent<T>> {
        let mut last = 0;
        let mut take = |pid: i32, time: &mut u64| {
            if pid == wanted {
                assert!(*time >= last && *time > 0);
                last = std::mem::take(time);
            }
            pid == wanted
        };
        let is_of = |event: &mut ProcessEvent<T>| match event {
            ProcessEvent::Fork { pid, time, .. }
            | ProcessEvent::Fact { pid, time, .. }
            | ProcessEvent::Exit { pid, time } => take(*pid, time),
            ProcessEvent::Thread { .. } | ProcessEvent::Lost => false,
        };
        events.extract_if(.., is_of).collect()
    }
}
