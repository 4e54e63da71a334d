//! The service manager learns when facrond is ready, reloads and stops, and that it is alive
//! (`sd_notify(3)`).
//! Where none has started facrond, all of this does nothing.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// Signs of life within the time that the service manager waits for one.
const SIGNS_OF_LIFE: u32 = 4;

pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

/// Announces a reload; systemd wants to know the time of it.
pub(crate) fn notify_reloading() {
    let now = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Status(""));
    notify(&[NotifyState::Reloading, now]);
}

/// When the service manager is to be told that the daemon is alive. It ends and restarts one
/// that it has not heard of for `WATCHDOG_USEC`.
#[derive(Debug)]
pub(crate) struct Watchdog {
    interval: Option<Duration>,
    due: Option<Instant>,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        let interval = sd_notify::watchdog_enabled().map(|time| time / SIGNS_OF_LIFE);
        Self { interval, due: interval.map(|_| Instant::now()) }
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a sign of life is due. The next one is due later.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = self.interval.map(|interval| now + interval);
        }
        is_due
    }
}
