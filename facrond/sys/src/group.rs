//! A process group that we started: how to signal all of it, and nobody else.

use super::process;
use nix::errno::Errno;
use nix::libc::{self, c_int, c_long};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

/// `pidfd_send_signal(2)`: to the whole group (Linux 6.9).
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// The process group of a command; its leader's pid is the group's number.
#[derive(Debug)]
pub struct Group {
    pid: i32,
    /// The leader's pidfd names the group even when the leader has been reaped and
    /// its number belongs to somebody else.
    pidfd: Option<OwnedFd>,
}

impl Group {
    /// The group led by process `pid`, a child that is not reaped.
    pub(super) fn new(pid: i32) -> Self {
        Self { pid, pidfd: None }
    }

    /// Makes sure that signals go to this group and to no other that gets its number.
    /// To be called before the leader is reaped. Most commands end by themselves, and
    /// none of their groups needs it.
    pub fn hold(&mut self) {
        self.pidfd = self.pidfd.take().or_else(|| process::open(self.pid).ok());
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
        let Some(pidfd) = &self.pidfd else { return by_number() };
        // SAFETY: the descriptor is open, and no siginfo is passed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                signal,
                ptr::null::<libc::siginfo_t>(),
                PIDFD_SIGNAL_PROCESS_GROUP,
            )
        };
        match Errno::result::<c_long>(result) {
            Err(Errno::EINVAL | Errno::ENOSYS) => by_number(),
            result => result.map(drop),
        }
    }
}
