//! The service manager learns when facrond is ready, reloads and stops, and that it is alive
//! (`sd_notify(3)`). It keeps descriptors for the next start.
//! Where none has started facrond, all of this does nothing.

use crate::kernel::descriptors::take_passed;
use sd_notify::NotifyState;
use std::os::fd::{BorrowedFd, OwnedFd};
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

/// The descriptor store of the service manager. What is kept there outlives this process,
/// and is passed to the next one of the service.
#[derive(Debug, Default)]
pub(crate) struct DescriptorStore {
    is_used: bool,
    passed: Vec<(String, OwnedFd)>,
    /// What tests have kept.
    #[cfg(test)]
    pub(crate) kept: std::rc::Rc<std::cell::RefCell<Vec<(String, OwnedFd)>>>,
}

impl DescriptorStore {
    /// The store, with what an earlier process of the service has kept.
    pub(crate) fn open() -> Self {
        Self {
            is_used: true,
            passed: take_passed(),
            #[cfg(test)]
            kept: std::rc::Rc::default(),
        }
    }

    /// A store with this content.
    #[cfg(test)]
    pub(crate) fn of(passed: Vec<(String, OwnedFd)>) -> Self {
        Self { passed, ..Self::default() }
    }

    /// Takes out what an earlier process has kept under names that begin so.
    pub(crate) fn take(&mut self, prefix: &str) -> Vec<(String, OwnedFd)> {
        self.passed.extract_if(.., |(name, _)| name.starts_with(prefix)).collect()
    }

    /// Lets go of what nobody has taken: another version has kept it.
    pub(crate) fn discard_rest(&mut self) {
        for (name, _) in std::mem::take(&mut self.passed) {
            tracing::warn!(%name, "a descriptor of the last start is of another version of facron: it is closed");
            self.discard(&name);
        }
    }

    /// Whether somebody keeps what is to be kept.
    pub(crate) fn is_used(&self) -> bool {
        cfg!(test) || (self.is_used && std::env::var_os("NOTIFY_SOCKET").is_some())
    }

    /// Keeps a descriptor under a name, until it is discarded.
    pub(crate) fn keep(&self, name: &str, fd: BorrowedFd<'_>) {
        #[cfg(test)]
        self.kept.borrow_mut().extend(fd.try_clone_to_owned().map(|fd| (name.to_owned(), fd)));
        if self.is_used {
            let states = [NotifyState::FdStore, NotifyState::FdName(name)];
            if let Err(error) = sd_notify::notify_with_fds(&states, &[fd]) {
                tracing::warn!(%error, "the service manager cannot keep {name} for the next start");
            }
        }
    }

    /// The store forgets a descriptor, which otherwise would stay open with it.
    pub(crate) fn discard(&self, name: &str) {
        #[cfg(test)]
        self.kept.borrow_mut().retain(|(other, _)| other != name);
        if self.is_used {
            notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
        }
    }
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
