//! What wakes the engine besides the kernel's queue: signals, times, forks.

use crate::kernel::child_signals;
use nix::sys::signalfd::SignalFd;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the daemon answers.
pub(super) struct Signals {
    pub(super) child: AsyncFd<SignalFd>,
    pub(super) reload: [Signal; 2],
    pub(super) stop: [Signal; 2],
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            child: child_signals()?,
            reload: [signal(SignalKind::user_defined1())?, signal(SignalKind::hangup())?],
            stop: [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?],
        })
    }
}

/// Waits until then; without a time, for ever.
pub(super) async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Becomes ready when the forks of commands should be read, lest they are lost.
pub(super) async fn forks_are_many(
    forks: Option<&AsyncFd<OwnedFd>>,
) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
    match forks {
        Some(forks) => forks.readable().await,
        None => std::future::pending().await,
    }
}

/// Takes a SIGCHLD that is pending; others that come meanwhile make it ready anew.
pub(super) fn take(ready: io::Result<AsyncFdReadyGuard<'_, SignalFd>>) -> io::Result<()> {
    let mut ready = ready?;
    ready.clear_ready();
    ready.get_inner().read_signal()?;
    Ok(())
}
