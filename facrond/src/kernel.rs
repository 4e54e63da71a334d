//! Every unsafe line and raw system call: fanotify groups, their records, file
//! handles, leases, children, peers. It knows nothing of rules.

#![allow(unsafe_code, reason = "the one place for it")]

pub mod confine;
pub mod detach;
pub mod fanotify;
pub mod forks;
pub mod group;
pub mod mounts;
pub mod object;
pub mod packet;
pub mod peer;
mod perf;
pub mod permission;
pub mod pidfd;
pub mod process;
pub mod record;
pub mod sources;
pub mod spawn;
pub mod wait;
pub mod whose;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for a descriptor's becoming ready, within a tokio runtime.
pub fn readiness(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays the same open descriptor until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Waits for children to end, within a tokio runtime: SIGCHLD by a descriptor,
/// which is cheaper than by a handler. To be called while the process has one thread.
pub fn child_signals() -> io::Result<AsyncFd<SignalFd>> {
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    child.thread_block()?;
    let fd = SignalFd::with_flags(&child, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    // SAFETY: a `SignalFd` stays the same open descriptor until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
