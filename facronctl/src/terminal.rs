//! The output: where it goes, its width and its colours.

use crate::format::safe_block;
use crate::style::{Style, When};
use facron_proto::{Diagnostic, SafeJson};
use jiff::tz::TimeZone;
use std::io::{self, IsTerminal, Write};

/// Standard output and error, and how to write on them.
pub(crate) struct Terminal<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) err: &'a mut dyn Write,
    /// Whether replies are printed as JSON.
    pub(crate) json: bool,
    pub(crate) style: Style,
    /// The width in columns; none if the output is no terminal.
    pub(crate) width: Option<usize>,
    pub(crate) time_zone: TimeZone,
}

impl<'a> Terminal<'a> {
    pub(crate) fn of_process(
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
        json: bool,
        color: When,
    ) -> Self {
        let stdout = io::stdout();
        let columns = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns > 0);
        Self {
            out,
            err,
            json,
            style: Style::new(color, stdout.is_terminal()),
            width: terminal_size::terminal_size_of(&stdout)
                .map(|(width, _)| usize::from(width.0))
                .or_else(columns),
            time_zone: TimeZone::system(),
        }
    }

    /// Shows JSON as one line.
    pub(crate) fn json(&mut self, json: &str) -> io::Result<()> {
        writeln!(self.out, "{}", SafeJson(json))
    }

    /// Shows a diagnostic on standard error, as the daemon drew it.
    pub(crate) fn diagnostic(&mut self, diagnostic: &Diagnostic) -> io::Result<()> {
        writeln!(self.err, "{}", safe_block(diagnostic.rendered.trim_end()))
    }
}
