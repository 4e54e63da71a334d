//! Telling systemd and the log.

use crate::config::Diagnostic;

/// For `RELOADING=1`, which systemd wants to know the time of.
pub(super) fn monotonic_now() -> sd_notify::NotifyState<'static> {
    sd_notify::NotifyState::monotonic_usec_now().unwrap_or(sd_notify::NotifyState::Status(""))
}

/// Tells systemd; elsewhere there is nobody to tell.
pub fn sd_notify_quietly(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

/// Diagnostics into the log, a line each.
pub fn log_diagnostics(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let place = diagnostic.file.as_deref().map(|file| {
            let file = facron_proto::Text::from(std::os::unix::ffi::OsStrExt::as_bytes(file.as_os_str()));
            format!("{file}:{}:{}: ", diagnostic.line, diagnostic.column)
        });
        let (place, message) = (place.unwrap_or_default(), &diagnostic.message);
        let help = diagnostic.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        match diagnostic.severity {
            facron_proto::Severity::Error => tracing::error!("{place}{message}{help}"),
            facron_proto::Severity::Warning => tracing::warn!("{place}{message}{help}"),
        }
    }
}
