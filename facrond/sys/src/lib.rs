//! Every unsafe line and raw system call: fanotify groups, their records, file
//! handles, leases, children, peers. It knows nothing of rules.

#![allow(unsafe_code, reason = "the one place for it")]
#![allow(missing_docs, reason = "an inner crate: a comment stands where the name does not say all")]

pub mod confine;
pub mod descriptors;
pub mod detach;
pub mod fanotify;
pub mod fuzz;
pub mod memory;
pub mod mounts;
pub mod object;
pub mod packet;
pub mod peer;
mod perf;
pub mod permission;
pub mod pidfd;
pub mod process;
pub mod process_events;
pub mod process_group;
pub mod record;
pub mod signals;
pub mod slots;
pub mod sources;
pub mod spawn;
pub mod wait;

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with tokio, to wait until it is ready. Needs a tokio runtime.
pub fn readiness(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays the same open descriptor until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
