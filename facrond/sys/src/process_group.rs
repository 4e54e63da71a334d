//! A process group that we started: how to signal all of it, and nobody else.

use crate::pidfd::Pidfd;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// `pidfd_send_signal(2)`: to the whole group (Linux 6.9).
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// The process group of a command; its leader's pid is the group's number.
#[derive(Debug)]
pub struct ProcessGroup {
    pid: i32,
    /// It names the group even when the leader has been reaped and the leader's pid
    /// belongs to another process.
    leader: Option<Pidfd>,
}

impl ProcessGroup {
    /// The group led by process `pid`, a child that is not reaped.
    pub(crate) fn new(pid: i32) -> Self {
        Self { pid, leader: None }
    }

    /// Makes sure that signals go to this group and to no other that gets its number.
    /// To be called before the leader is reaped. Most commands end by themselves, and
    /// none of their groups needs it.
    pub fn hold(&mut self) {
        self.leader = self.leader.take().or_else(|| Pidfd::open(self.pid).ok());
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has members, be they zombies.
    pub fn exists(&self) -> bool {
        self.send(0) != Err(Errno::ESRCH)
    }

    /// Signals every member. That there is none left is no error.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match self.send(signal as c_int) {
            Err(Errno::ESRCH) => Ok(()),
            result => result,
        }
    }

    /// Before Linux 6.9, and out of descriptors, only the number is left to go by.
    fn send(&self, signal: c_int) -> Result<(), Errno> {
        let by_number = || killpg(Pid::from_raw(self.pid), Signal::try_from(signal).ok());
        match self.leader.as_ref().map(|leader| leader.send(signal, PIDFD_SIGNAL_PROCESS_GROUP)) {
            None | Some(Err(Errno::EINVAL | Errno::ENOSYS)) => by_number(),
            Some(result) => result,
        }
    }
}
