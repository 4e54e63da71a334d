//! Collects children that have ended. By hand, since nix's `waitpid` loses those
//! that a real-time signal ended.

use nix::errno::Errno;
use nix::libc::{self, c_int};

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
