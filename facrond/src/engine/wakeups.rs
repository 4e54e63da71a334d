//! What wakes the engine besides the kernel's queue and its clients.

use crate::kernel::signals::Signals;
use nix::sys::signal::Signal;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::time::Instant;
use tokio::time::{Sleep, sleep_until};

/// What a signal asks for.
pub(super) const RELOAD: [Signal; 2] = [Signal::SIGUSR1, Signal::SIGHUP];
pub(super) const STOP: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

pub(super) fn signals() -> io::Result<Signals> {
    Signals::take(&[&[Signal::SIGCHLD][..], &RELOAD, &STOP].concat())
}

/// One timer for all deadlines. Most that are set never come, and setting a timer costs
/// a system call: it is set anew only where it would go off too late.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: Pin<Box<Sleep>>,
    is_set: bool,
}

impl Alarm {
    /// Within a tokio runtime.
    pub(super) fn new() -> Self {
        Self { timer: Box::pin(sleep_until(Instant::now().into())), is_set: false }
    }

    /// Waits until then at the latest; without a time, for ever. May be dropped at any
    /// time.
    pub(super) async fn reached(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return pending().await };
        if !self.is_set || deadline < self.timer.deadline().into_std() {
            self.timer.as_mut().reset(deadline.into());
            self.is_set = true;
        }
        self.timer.as_mut().await;
        self.is_set = false;
    }
}
