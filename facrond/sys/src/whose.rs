//! What all processes of the system do that matters to whose their events are, as
//! the kernel tells it: `users` by netlink, `programs` by perf.
//!
//! `/proc` alone is too late: half of the processes that write a file and end are
//! gone before their event is read.

mod programs;
mod users;

pub use programs::Programs;
pub use users::Users;

use nix::errno::Errno;
use std::os::fd::AsFd;

/// What a process did, where a fact about it is of type `T`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed<T> {
    /// It was made by another process, of which all facts hold for it too.
    Forked {
        /// The process that made it.
        parent: i32,
    },
    /// This is now the fact.
    Became(T),
    /// It has ended.
    Ended,
}

/// What one reading gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// This process did that.
    Deed(i32, Deed<T>),
    /// Deeds went untold, since nobody read them in time.
    Lost,
}

/// Who tells of all processes. Its descriptor becomes readable when it should be
/// read, lest deeds get lost.
pub trait Teller: AsFd + Sized {
    /// What is told of a process.
    type Fact: Clone + std::fmt::Debug;

    /// Tells from now on.
    fn follow() -> Result<Self, Errno>;

    /// Adds all that was done before the call to `told`, in order.
    fn read(&mut self, told: &mut Vec<Told<Self::Fact>>) -> Result<(), Errno>;

    /// What `/proc` says of a process at present.
    fn look_up(pid: i32) -> Option<Self::Fact>;
}
