//! A problem of a configuration: what is wrong, where, and what would be right.
//!
//! What is shown never reaches a terminal raw: control characters and bytes
//! that are not UTF-8 are escaped, and the marker stays under its place.

use annotate_snippets::{Annotation, AnnotationKind, Level, Origin, Renderer, Snippet};
use facron_proto::{Severity, Text};
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// This many diagnostics are kept; the rest is only counted, so that a large
/// file of rubbish cannot use up the memory.
const KEPT: usize = 10_000;

/// Bytes of a source line that are kept on either side of the start of a mark.
const CONTEXT: usize = 200;

/// What stands for the file of a rule that comes from none.
const COMMAND_LINE: &str = "<command line>";

#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Errors drop the rule, warnings do not.
    pub severity: Severity,
    /// What is wrong, in one lowercase sentence.
    pub message: String,
    pub help: Option<String>,
    /// The file; `None` for a rule given as words.
    pub file: Option<PathBuf>,
    /// From 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// Of the first wrong byte, in bytes from 1; 0 where the file as a whole is meant.
    pub column: u32,
    source: Option<Excerpt>,
}

/// The part of a source line around a mark, escaped.
#[derive(Clone, Debug, PartialEq)]
struct Excerpt {
    text: String,
    mark: Range<usize>,
}

impl Diagnostic {
    /// An error of a file that is not one of its lines.
    pub(super) fn of_file(severity: Severity, file: &Path, message: impl Into<String>) -> Self {
        let file = Some(file.to_owned());
        Self { severity, message: message.into(), help: None, file, line: 0, column: 0, source: None }
    }

    /// About a rule that comes from no file, as a whole.
    pub(super) fn of_words(severity: Severity, message: impl Into<String>) -> Self {
        Self { severity, message: message.into(), help: None, file: None, line: 0, column: 0, source: None }
    }

    /// The same with what would be right.
    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Drawn in the manner of rustc, several lines, no newline at the end.
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

/// Bytes for a message: escaped, and cut where they are many.
pub(super) fn show(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    match bytes.get(..SHOWN) {
        Some(start) if bytes.len() > SHOWN => format!("{}...", Text::from(start)),
        _ => Text::from(bytes).to_string(),
    }
}

/// A path for a message: escaped, never cut.
pub(super) fn show_path(path: &Path) -> String {
    Text::from(path.as_os_str().as_bytes()).to_string()
}

/// One logical line: the physical lines that `\` joins, or a rule given as words.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    /// `None` for a rule given as words; its text is then one line, whatever it has in it.
    pub(super) file: Option<&'a Path>,
    /// Of its first physical line, from 1.
    pub(super) number: u32,
    /// With what joins its physical lines, without what ends the last.
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

    /// The number of the physical line that a place is in, and where that line begins and ends.
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

    /// The place that the drawing has: its column counts what is shown, not the bytes of the file.
    fn drawn_place(&self, of: &Diagnostic) -> String {
        let column = self.text[..self.mark.start].chars().count() + 1;
        format!("{}:{}:{column}", of.file_name(), of.line)
    }
}

/// Like the display of [`Text`], but source stays as it is written: `\` is not doubled.
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

/// The diagnostics of one reading, in the order of their finding.
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

    /// How many diagnostics there are so far, for [`Problems::sort_from`].
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Brings what was found of one line since then into the order of its columns.
    pub(super) fn sort_from(&mut self, start: usize) {
        self.kept[start..].sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    }

    /// How many errors there were so far.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// All of them; where there were too many to keep, the last says how many are left out.
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
