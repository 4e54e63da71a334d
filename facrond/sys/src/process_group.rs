//! A process group that we started. Signals go to all its members, and to no other process.

use crate::pidfd::Pidfd;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// `pidfd_send_signal(2)`: signals the whole group (Linux 6.9).
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// The process group of a command; its leader's pid is the group's number.
#[derive(Debug)]
pub struct ProcessGroup {
    pid: i32,
    /// Refers to the group even after the leader was reaped and another process has its pid.
    leader: Option<Pidfd>,
}

impl ProcessGroup {
    /// The group led by process `pid`, a child that is not reaped.
    pub(crate) fn new(pid: i32) -> Self {
        Self { pid, leader: None }
    }

    /// The group led by a process that is no child of ours.
    pub fn of(leader: Pidfd) -> Self {
        Self { pid: leader.pid(), leader: Some(leader) }
    }

    /// Makes sure that signals go to this group, and to no other group that gets its number
    /// later. Must be called before the leader is reaped. Most commands end by themselves,
    /// and their groups do not need it.
    pub fn hold(&mut self) {
        self.leader = self.leader.take().or_else(|| Pidfd::open(self.pid).ok());
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has members. Zombies count.
    pub fn exists(&self) -> bool {
        self.send(0) != Err(Errno::ESRCH)
    }

    /// Sends a signal to every member. A group without members is no error.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match self.send(signal as c_int) {
            Err(Errno::ESRCH) => Ok(()),
            result => result,
        }
    }

    /// Uses the descriptor. Before Linux 6.9, or if descriptors were short, uses the number.
    fn send(&self, signal: c_int) -> Result<(), Errno> {
        let by_number = || killpg(Pid::from_raw(self.pid), Signal::try_from(signal).ok());
        let Some(leader) = &self.leader else { return by_number() };
        let sent = match leader.send(signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            Err(Errno::EINVAL | Errno::ENOSYS) => by_number(),
            result => result,
        };
        match sent {
            // A leader that was just started has no group yet.
            Err(Errno::ESRCH) => leader.send(signal, 0),
            result => result,
        }
    }
}
