//! From a logical line to words: blanks, quotes and backslashes.
//!
//! | written | means |
//! |---|---|
//! | `'...'` | everything between, unchanged |
//! | `"..."` | everything between, unchanged but for backslashes |
//! | `\` and any byte | that byte, without its special meaning |
//! | `\` and a newline | nothing, also inside quotes |
//!
//! Quotes only group bytes into words: tokens are replaced inside both kinds of quotes.
//! Only a backslash removes the special meaning of a byte. So `\$` is a literal dollar,
//! except between single quotes.

use super::diagnostic::{Line, Problems};
use std::ops::Range;

/// A word without its quotes and backslashes. It knows its place in the line.
#[derive(Clone, Debug, Default)]
pub(super) struct Word {
    pub(super) bytes: Vec<u8>,
    /// The place of the whole word in the line, with its quotes.
    pub(super) span: Range<usize>,
    /// The bytes that were escaped by a backslash, in order.
    pub(super) escaped: Vec<usize>,
    /// Whether a part of it is quoted or escaped.
    pub(super) quoted: bool,
    /// The place of each byte in the line; empty if the bytes are adjacent.
    at: Vec<usize>,
}

impl Word {
    /// A word whose bytes are at these places.
    pub(super) fn new(bytes: Vec<u8>, at: Vec<usize>, span: Range<usize>) -> Self {
        Self { bytes, span, escaped: Vec::new(), quoted: false, at }
    }

    /// The place of some of its bytes in the line.
    pub(super) fn place(&self, part: Range<usize>) -> Range<usize> {
        if self.bytes.is_empty() {
            return self.span.clone();
        }
        let start = if part.start < self.bytes.len() { self.at(part.start) } else { self.span.end };
        let end = if part.is_empty() { start } else { self.at(part.end - 1) + 1 };
        start..end
    }

    fn at(&self, index: usize) -> usize {
        self.at.get(index).copied().unwrap_or(self.span.start + index)
    }

    fn push(&mut self, byte: u8, at: usize) {
        if !self.at.is_empty() || at != self.at(self.bytes.len()) {
            let before = self.at.len()..self.bytes.len();
            self.at.extend(before.map(|index| self.span.start + index));
            self.at.push(at);
        }
        self.bytes.push(byte);
    }

    /// The word with `\$` read as a literal dollar, for arguments of a command line,
    /// which have no quotes any more.
    ///
    /// Two backslashes before a `$` are one literal backslash. All other backslashes
    /// stay. So every sequence of bytes and tokens can be written.
    pub(super) fn with_dollars_unescaped(&self) -> Self {
        let mut word = Self { span: self.span.clone(), quoted: self.quoted, ..Self::default() };
        let mut backslashes = 0;
        for (index, byte) in self.bytes.iter().enumerate() {
            if *byte == b'$' && backslashes > 0 {
                let kept = word.bytes.len() - (backslashes - backslashes / 2);
                word.bytes.truncate(kept);
                word.at.truncate(kept);
                if backslashes % 2 == 1 {
                    word.escaped.push(kept);
                }
            }
            backslashes = if *byte == b'\\' { backslashes + 1 } else { 0 };
            word.push(*byte, self.at(index));
        }
        word
    }
}

impl Line<'_> {
    /// Whether the line has a NUL byte, which no path or argument can contain.
    pub(super) fn refuses_nul(&self, problems: &mut Problems) -> bool {
        let Some(nul) = self.text.iter().position(|byte| *byte == 0) else { return false };
        let message = "the line has a NUL byte in it";
        problems
            .push(self.error(nul..nul + 1, message).help("no path or argument can have one; leave it out"));
        true
    }
}

/// The place of a word, which decides what ends it besides blanks.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Inside {
    /// On a line: only blanks end it.
    Line,
    /// In a bracketed group: its `]` ends the word. A `]` for a `[` in the word does not.
    Brackets,
}

/// Reads the words of a line from left to right.
pub(super) struct Lexer<'a> {
    line: Line<'a>,
    text: &'a [u8],
    pos: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer for a part of the line.
    pub(super) fn new(line: Line<'a>, part: Range<usize>) -> Self {
        Self { line, text: &line.text[..part.end], pos: part.start }
    }

    /// Skips blanks. Returns the next byte, if there is one.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.pos)? {
                byte if is_blank(*byte) => self.pos += 1,
                b'\\' if self.joint() > 0 => self.pos += self.joint(),
                byte => return Some(*byte),
            }
        }
    }

    /// The next word, if there is one.
    pub(super) fn word(&mut self, inside: Inside, problems: &mut Problems) -> Option<Word> {
        self.peek()?;
        let mut word = Word { span: self.pos..self.pos, ..Word::default() };
        let mut nested = 0_usize;
        while let Some(&byte) = self.text.get(self.pos) {
            match byte {
                b'\\' => self.backslash(&mut word),
                b'\'' | b'"' => self.quotes(byte, &mut word, problems),
                b']' if inside == Inside::Brackets && nested == 0 => break,
                byte if is_blank(byte) => break,
                byte => {
                    match byte {
                        b'[' => nested += 1,
                        b']' => nested = nested.saturating_sub(1),
                        _ => {}
                    }
                    word.push(byte, self.pos);
                    self.pos += 1;
                }
            }
        }
        word.span.end = self.pos;
        Some(word)
    }

    /// The rest of the line, unchanged but for blanks around it.
    pub(super) fn rest(&mut self) -> Option<Word> {
        self.peek()?;
        let span = self.pos..self.text.trim_ascii_end().len();
        self.pos = self.text.len();
        Some(Word { quoted: true, ..Word::new(self.text[span.clone()].to_vec(), Vec::new(), span) })
    }

    /// The words of a bracketed group, and the place of its text, if there is a group next.
    pub(super) fn brackets(&mut self, problems: &mut Problems) -> Option<(Vec<Word>, Range<usize>)> {
        if self.peek() != Some(b'[') {
            return None;
        }
        let open = self.pos;
        self.pos += 1;
        let mut words = Vec::new();
        loop {
            match self.peek() {
                None => {
                    let message = "the `]` that ends OPTIONS is missing";
                    let help =
                        "write `[once timeout=30s]`; a program whose name begins with `[` must be quoted";
                    problems.push(self.line.error(open..open + 1, message).help(help));
                    return Some((Vec::new(), open + 1..self.pos));
                }
                Some(b']') => break,
                Some(_) => words.extend(self.word(Inside::Brackets, problems)),
            }
        }
        let close = self.pos;
        self.pos += 1;
        if self.text.get(self.pos).is_some_and(|byte| !is_blank(*byte)) && self.joint() == 0 {
            let message = "a blank is missing behind the `]` that ends OPTIONS";
            problems.push(self.line.error(self.pos..self.pos + 1, message));
        }
        Some((words, open + 1..close))
    }

    fn joint(&self) -> usize {
        joint(&self.text[self.pos..])
    }

    fn backslash(&mut self, word: &mut Word) {
        let joint = self.joint();
        if joint > 0 {
            self.pos += joint;
            return;
        }
        word.quoted = true;
        word.escaped.push(word.bytes.len());
        word.push(self.text[self.pos + 1], self.pos + 1);
        self.pos += 2;
    }

    fn quotes(&mut self, quote: u8, word: &mut Word, problems: &mut Problems) {
        let open = self.pos;
        word.quoted = true;
        self.pos += 1;
        while let Some(&byte) = self.text.get(self.pos) {
            match byte {
                b'\\' if quote == b'"' => self.backslash(word),
                b'\\' if self.joint() > 0 => self.pos += self.joint(),
                byte if byte == quote => {
                    self.pos += 1;
                    return;
                }
                byte => {
                    word.push(byte, self.pos);
                    self.pos += 1;
                }
            }
        }
        let message = format!("the quote {} is not closed on this line", char::from(quote));
        let help = "close it, or write a backslash before it if it stands for itself";
        problems.push(self.line.error(open..open + 1, message).help(help));
    }
}

/// The number of bytes at the start of a text that join two physical lines: a backslash before
/// a newline, or at the end.
pub(super) fn joint(text: &[u8]) -> usize {
    match text {
        [b'\\'] => 1,
        [b'\\', b'\n', ..] => 2,
        [b'\\', b'\r', b'\n', ..] => 3,
        _ => 0,
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n')
}

/// Writes bytes as a word, with quotes if necessary. Returns the place of each byte.
///
/// A newline cannot be written in this way.
pub(super) fn quote_into(bytes: &[u8], out: &mut Vec<u8>) -> Vec<usize> {
    let bare = !matches!(bytes.first(), None | Some(b'#' | b'@' | b'['))
        && !bytes.iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f | b'"' | b'\'' | b'\\'));
    let mut at = Vec::with_capacity(bytes.len());
    let mark = |out: &mut Vec<u8>| {
        if !bare {
            out.push(b'\'');
        }
    };
    mark(out);
    for byte in bytes {
        match byte {
            b'\'' => {
                out.extend(b"'\\''");
                at.push(out.len() - 2);
            }
            byte => {
                at.push(out.len());
                out.push(*byte);
            }
        }
    }
    mark(out);
    at
}
