//! Collects children that have ended.

// nix's waitpid loses children that a real-time signal ended.

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Collects one child of the calling thread that has ended, if there is one.
///
/// Children of other threads are not touched: who starts processes through
/// `std::process` elsewhere still finds them.
pub fn reap_any() -> Option<(i32, Exit)> {
    wait(-1, libc::WNOHANG | libc::__WNOTHREAD)
}

/// Whether this process has children at all, its own or inherited ones.
pub fn any_left() -> bool {
    waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) != Err(Errno::ECHILD)
}

/// Whether a signal has stopped a child since the last call.
pub fn has_stopped(pid: i32) -> bool {
    let stopped = waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG);
    matches!(stopped, Ok(WaitStatus::Stopped(..)))
}

/// Collects a child that is known to be ending.
pub(super) fn reap(pid: i32) -> Option<Exit> {
    wait(pid, 0).map(|(_, exit)| exit)
}

fn wait(pid: i32, flags: c_int) -> Option<(i32, Exit)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is written by the call only.
        match Errno::result(unsafe { libc::waitpid(pid, &raw mut status, flags) }) {
            Ok(0) => return None,
            Ok(pid) if libc::WIFEXITED(status) => return Some((pid, Exit::Code(libc::WEXITSTATUS(status)))),
            Ok(pid) => return Some((pid, Exit::Signal(libc::WTERMSIG(status)))),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}
