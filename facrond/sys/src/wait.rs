//! Collects children that have ended.

// nix's waitpid loses children that a real-time signal ended.

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    Signal(i32),
}

/// What there was to collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// The child of this pid, and how it ended.
    Child(i32, Exit),
    /// Nothing at present: all children run.
    NoneYet,
    /// There is no child, neither an own nor an inherited one.
    NoChildren,
}

/// Collects one child of the calling thread that has ended, if there is one.
///
/// Children of other threads are not touched: who starts processes through
/// `std::process` elsewhere still finds them.
pub fn reap_any() -> Reaped {
    match wait(-1, libc::WNOHANG | libc::__WNOTHREAD) {
        Ok(Some((pid, exit))) => Reaped::Child(pid, exit),
        Ok(None) => Reaped::NoneYet,
        Err(_) => Reaped::NoChildren,
    }
}

/// Whether this is a child of ours that has ended and is not collected yet.
pub fn is_to_be_reaped(pid: i32) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(Pid::from_raw(pid)), flags).is_ok_and(|status| status != WaitStatus::StillAlive)
}

/// Whether a signal has stopped a child since the last call.
pub fn has_stopped(pid: i32) -> bool {
    let stopped = waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG);
    matches!(stopped, Ok(WaitStatus::Stopped(..)))
}

/// Collects a child that is known to be ending.
pub(super) fn reap(pid: i32) -> Option<Exit> {
    wait(pid, 0).ok().flatten().map(|(_, exit)| exit)
}

fn wait(pid: i32, flags: c_int) -> Result<Option<(i32, Exit)>, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is written by the call only.
        return match Errno::result(unsafe { libc::waitpid(pid, &raw mut status, flags) }) {
            Ok(0) => Ok(None),
            Ok(pid) if libc::WIFEXITED(status) => Ok(Some((pid, Exit::Code(libc::WEXITSTATUS(status))))),
            Ok(pid) => Ok(Some((pid, Exit::Signal(libc::WTERMSIG(status))))),
            Err(Errno::EINTR) => continue,
            Err(errno) => Err(errno),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::thread::yield_now;
    use std::time::{Duration, Instant};

    #[test]
    fn a_child_is_to_be_reaped_from_its_end_until_it_is() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(!is_to_be_reaped(pid));
        child.kill().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_to_be_reaped(pid) {
            assert!(Instant::now() < deadline);
            yield_now();
        }
        child.wait().unwrap();
        assert!(!is_to_be_reaped(pid) && !is_to_be_reaped(1));
    }
}
