//! A process group that we started: how to signal all of it, and nobody else.

use nix::errno::Errno;
use nix::libc::{self, c_int, c_long};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

/// `pidfd_send_signal(2)`: to the whole group (Linux 6.9).
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// The process group of a command; its leader's pid is the group's number.
///
/// The leader's pidfd names the group even when the leader has been reaped and
/// its number belongs to somebody else.
#[derive(Debug)]
pub struct Group {
    pid: i32,
    pidfd: OwnedFd,
}

impl Group {
    /// The group led by process `pid`, which `pidfd` refers to.
    pub(super) fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// The leader's pid.
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

    /// Before Linux 6.9 only the number is left to go by.
    fn send(&self, signal: c_int) -> Result<(), Errno> {
        // SAFETY: the descriptor is open, and no siginfo is passed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                ptr::null::<libc::siginfo_t>(),
                PIDFD_SIGNAL_PROCESS_GROUP,
            )
        };
        match Errno::result::<c_long>(result) {
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                killpg(Pid::from_raw(self.pid), Signal::try_from(signal).ok())
            }
            result => result.map(drop),
        }
    }
}
