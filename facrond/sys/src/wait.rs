//! Reaps children that have ended.

// nix's waitpid loses children that a real-time signal ended.

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The child has ended by itself, with this exit status.
    Code(i32),
    Signal(i32),
    /// It was not our child, and nobody has told us.
    Unknown,
}

impl Exit {
    /// Of a status of wait(2).
    pub(crate) fn of_status(status: c_int) -> Self {
        if libc::WIFEXITED(status) {
            Self::Code(libc::WEXITSTATUS(status))
        } else {
            Self::Signal(libc::WTERMSIG(status))
        }
    }
}

/// The result of a look for children that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// The pid of a child that has ended, and its exit.
    Child(i32, Exit),
    /// All children are still running.
    NoneYet,
    /// There are no children, neither own nor inherited.
    NoChildren,
}

/// Reaps one child of the calling thread that has ended, if there is one.
///
/// Children of other threads are not reaped, so that `std::process` can be used there.
pub fn reap_any() -> Reaped {
    match wait(-1, libc::WNOHANG | libc::__WNOTHREAD) {
        Ok(Some((pid, exit))) => Reaped::Child(pid, exit),
        Ok(None) => Reaped::NoneYet,
        Err(_) => Reaped::NoChildren,
    }
}

/// Whether this process is our child, has ended and is not reaped yet.
pub fn is_to_be_reaped(pid: i32) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(Pid::from_raw(pid)), flags).is_ok_and(|status| status != WaitStatus::StillAlive)
}

/// Whether a signal has stopped a child since the last call.
pub fn has_stopped(pid: i32) -> bool {
    let stopped = waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG);
    matches!(stopped, Ok(WaitStatus::Stopped(..)))
}

/// Waits for a child to end, and reaps it.
#[cfg(test)]
pub(super) fn reap(pid: i32) -> Option<Exit> {
    wait(pid, 0).ok().flatten().map(|(_, exit)| exit)
}

fn wait(pid: i32, flags: c_int) -> Result<Option<(i32, Exit)>, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is written by the call only.
        return match Errno::result(unsafe { libc::waitpid(pid, &raw mut status, flags) }) {
            Ok(0) => Ok(None),
            Ok(pid) => Ok(Some((pid, Exit::of_status(status)))),
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
