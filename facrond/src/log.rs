//! The log: to standard error, with priorities where systemd's journal reads it.
//!
//! Users choose names, and how often something happens. So values are shortened and escaped
//! here ([`form`]), and messages are limited here ([`limit`]), whoever logs them.

mod form;
mod limit;

use crate::cli::{Log, LogFormat};
use crate::config::Diagnostic;
use facron_proto::{Severity, Text};
use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// Starts logging. `quiet` shows only what goes wrong, unless `-v` asks for more.
pub fn start(options: &Log, quiet: bool) {
    let level = match options.verbose {
        0 if quiet => Level::WARN,
        0 => Level::INFO,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let fields = || debug_fn(form::field).delimited(" ");
    // A log that cannot be written is no reason to end, and there is no other place to tell.
    let layer = || tracing_subscriber::fmt::layer().log_internal_errors(false);
    let layer = match options.log_format {
        LogFormat::Json => layer().json().with_writer(|| form::JsonLines).boxed(),
        LogFormat::Text if is_journal() => {
            layer().with_writer(io::stderr).fmt_fields(fields()).event_format(Journal).boxed()
        }
        LogFormat::Text => {
            let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            layer().with_writer(io::stderr).fmt_fields(fields()).with_target(false).with_ansi(ansi).boxed()
        }
    };
    let level = LevelFilter::from_level(level);
    tracing_subscriber::registry().with(layer).with(limit::Limit).with(level).init();
}

/// Says what was left out until now.
pub fn end() {
    limit::tell_all();
}

/// Logs the problems of configuration files, a line each.
pub(crate) fn diagnostics(diagnostics: &[Diagnostic]) {
    for Diagnostic { file, line, column, message, help, severity, .. } in diagnostics {
        let place = file
            .as_deref()
            .map(|file| format!("{}:{line}:{column}: ", Text::from(file.as_os_str().as_bytes())));
        let place = place.unwrap_or_default();
        let help = help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        match severity {
            Severity::Error => tracing::error!(target: limit::UNLIMITED, "{place}{message}{help}"),
            Severity::Warning => tracing::warn!(target: limit::UNLIMITED, "{place}{message}{help}"),
        }
    }
}

/// Whether standard error is the stream that systemd says it made (systemd.exec(5),
/// `JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(std::io::stderr().as_fd())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// `<PRIORITY>message`, as sd-daemon(3) has it; the journal adds time and name.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        ctx.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
