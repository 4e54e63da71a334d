//! A problem of a configuration: its message, its place, and a correction.
//!
//! Source lines are escaped before they are shown: control characters and bytes that
//! are not UTF-8 never reach a terminal, and the marker stays under its place.

use annotate_snippets::{Annotation, AnnotationKind, Level, Origin, Renderer, Snippet};
use facron_proto::{Severity, Text};
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The number of diagnostics that are kept. Further ones are only counted, so that a large
/// file of garbage cannot use up the memory.
const KEPT: usize = 10_000;

/// The bytes of a source line that are kept on each side of the start of a marker.
const CONTEXT: usize = 200;

/// Shown in place of a file name if a rule is not in a file.
const COMMAND_LINE: &str = "<command line>";

#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Errors drop the rule, warnings do not.
    pub severity: Severity,
    /// The problem, in one lowercase sentence.
    pub message: String,
    pub help: Option<String>,
    /// The file; `None` for a rule that is given as words.
    pub file: Option<PathBuf>,
    /// The line, from 1; 0 for the file as a whole.
    pub line: u32,
    /// The column of the first wrong byte, in bytes from 1; 0 for the file as a whole.
    pub column: u32,
    source: Option<Excerpt>,
}

/// The part of a source line around a marker, escaped.
#[derive(Clone, Debug, PartialEq)]
struct Excerpt {
    text: String,
    mark: Range<usize>,
}

impl Diagnostic {
    /// A problem of a file that concerns none of its lines.
    pub(super) fn of_file(severity: Severity, file: &Path, message: impl Into<String>) -> Self {
        let file = Some(file.to_owned());
        Self { severity, message: message.into(), help: None, file, line: 0, column: 0, source: None }
    }

    /// A problem of a rule as a whole that is not in a file.
    pub(super) fn of_words(severity: Severity, message: impl Into<String>) -> Self {
        Self { severity, message: message.into(), help: None, file: None, line: 0, column: 0, source: None }
    }

    /// Adds a correction.
    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Several lines in the style of rustc, without a newline at the end.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&self.message);
        let mut group = match &self.source {
            Some(source) => title.element(source.snippet(self)),
            None => title.element(Origin::path(self.file_name())),
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let drawn = renderer.render(&[group]);
        match &self.source {
            Some(source) => drawn.replacen(&source.drawn_place(self), &self.place(), 1),
            None => drawn,
        }
    }

    pub fn to_proto(&self) -> facron_proto::Diagnostic {
        facron_proto::Diagnostic {
            severity: self.severity,
            message: self.message.clone(),
            file: self.file.as_ref().map(|file| Text::from(file.as_os_str().as_bytes())),
            line: self.line,
            column: self.column,
            help: self.help.clone(),
            rendered: self.render(false),
        }
    }

    /// `FILE:LINE:COLUMN`, or the file alone.
    fn place(&self) -> String {
        let file = self.file_name();
        if self.line == 0 { file } else { format!("{file}:{}:{}", self.line, self.column) }
    }

    fn file_name(&self) -> String {
        self.file.as_ref().map_or_else(|| COMMAND_LINE.to_owned(), |file| show_path(file))
    }
}

/// One line for the log: place, message, help.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

/// Whether one of them is an error.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

/// Bytes for a message: escaped, and shortened if there are many.
pub(super) fn show(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    match bytes.get(..SHOWN) {
        Some(start) if bytes.len() > SHOWN => format!("{}...", Text::from(start)),
        _ => Text::from(bytes).to_string(),
    }
}

/// A path for a message: escaped, never shortened.
pub(super) fn show_path(path: &Path) -> String {
    Text::from(path.as_os_str().as_bytes()).to_string()
}

/// One logical line: several physical lines joined by `\`, or a rule that is given as words.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    /// The file; `None` for a rule that is given as words. Its text counts as one line, even
    /// with newlines in it.
    pub(super) file: Option<&'a Path>,
    /// The number of its first physical line, from 1.
    pub(super) number: u32,
    /// The text, with the newlines between its physical lines, without the last newline.
    pub(super) text: &'a [u8],
}

impl Line<'_> {
    /// An error at a place of the text.
    pub(super) fn error(&self, at: Range<usize>, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Error, at, message.into())
    }

    /// A warning at a place of the text.
    pub(super) fn warning(&self, at: Range<usize>, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Warning, at, message.into())
    }

    /// The physical line of a place: its number, and its range in the text.
    fn physical(&self, at: usize) -> (u32, Range<usize>) {
        if self.file.is_none() {
            return (self.number, 0..self.text.len());
        }
        let is_newline = |byte: &u8| *byte == b'\n';
        let (before, after) = self.text.split_at(at);
        let newlines = before.split(is_newline).count() - 1;
        let start = before.iter().rposition(is_newline).map_or(0, |newline| newline + 1);
        let end = after.iter().position(is_newline).map_or(self.text.len(), |len| at + len);
        (self.number.saturating_add(to_u32(newlines)), start..end)
    }

    fn diagnostic(&self, severity: Severity, at: Range<usize>, message: String) -> Diagnostic {
        let (line, whole) = self.physical(at.start);
        let mark = at.start - whole.start..at.end.clamp(at.start, whole.end) - whole.start;
        Diagnostic {
            severity,
            message,
            help: None,
            file: self.file.map(Path::to_owned),
            line,
            column: to_u32(mark.start).saturating_add(1),
            source: Some(Excerpt::new(&self.text[whole], mark)),
        }
    }
}

impl Excerpt {
    fn new(line: &[u8], mark: Range<usize>) -> Self {
        let start = mark.start.saturating_sub(CONTEXT);
        let end = line.len().min(mark.start + CONTEXT);
        let mark = mark.start..mark.end.min(end);
        let mut text = String::from(if start > 0 { "..." } else { "" });
        escape(&line[start..mark.start], &mut text);
        let from = text.len();
        escape(&line[mark.clone()], &mut text);
        let to = text.len();
        escape(&line[mark.end..end], &mut text);
        if end < line.len() {
            text.push_str("...");
        }
        Self { text, mark: from..to }
    }

    fn snippet(&self, of: &Diagnostic) -> Snippet<'_, Annotation<'_>> {
        Snippet::source(&self.text)
            .path(of.file_name())
            .line_start(of.line as usize)
            .annotation(AnnotationKind::Primary.span(self.mark.clone()))
    }

    /// The place for display. Its column counts shown characters, not bytes of the file.
    fn drawn_place(&self, of: &Diagnostic) -> String {
        let column = self.text[..self.mark.start].chars().count() + 1;
        format!("{}:{}:{column}", of.file_name(), of.line)
    }
}

/// Like the display of [`Text`], but a `\` of the source is not doubled.
fn escape(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push(c),
                '\t' => out.push_str("    "),
                c => _ = write!(out, "{}", Text::from(c.encode_utf8(&mut [0; 4]).as_bytes())),
            }
        }
        _ = write!(out, "{}", Text::from(chunk.invalid()));
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The diagnostics of one reading of the configuration, in the order of discovery.
#[derive(Default)]
pub(super) struct Problems {
    kept: Vec<Diagnostic>,
    errors: usize,
    hidden: usize,
}

impl Problems {
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.errors += usize::from(diagnostic.severity == Severity::Error);
        if self.kept.len() < KEPT {
            self.kept.push(diagnostic);
        } else {
            self.hidden += 1;
        }
    }

    /// The number of diagnostics so far, for [`Problems::sort_from`].
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Sorts the diagnostics since `start`, which are of one line, by column.
    pub(super) fn sort_from(&mut self, start: usize) {
        self.kept[start..].sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    }

    /// The number of errors so far.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// All diagnostics. If there were too many to keep, the last one says how many are missing.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        if let (1.., Some(last)) = (self.hidden, self.kept.last()) {
            let file = last.file.clone().unwrap_or_default();
            let message = format!("{} more problems are not shown", self.hidden);
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            self.kept.push(Diagnostic::of_file(severity, &file, message));
        }
        self.kept
    }
}
