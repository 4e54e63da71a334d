//! The service manager learns when facrond is ready, reloads and stops (`sd_notify(3)`).
//! Where none has started facrond, all of this does nothing.

use sd_notify::NotifyState;

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
