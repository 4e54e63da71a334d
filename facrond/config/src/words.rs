//! A rule given as words: `facronctl add`, `facrond watch` and the protocol.
//!
//! Path and arguments are as they are meant: no quotes, and no backslash means
//! anything but `\$`. Only the options are text of the grammar. For diagnostics
//! the line is put together as a file would have it.

use super::command::Dollars;
use super::diagnostic::{Diagnostic, Line, Problems};
use super::lex::{Inside, Lexer, Word, quote_into};
use super::parse::{self, Pieces};
use super::rule::RuleSpec;
use std::ops::Range;

#[derive(Clone, Debug, Default)]
pub struct Words<'a> {
    pub path: &'a [u8],
    pub events: &'a [u8],
    /// OPTIONS without the brackets, blanks between them, quoted as in a file.
    pub options: &'a [u8],
    /// The program and its arguments, unquoted.
    pub command: Vec<&'a [u8]>,
}

/// The rule and the warnings about it, or what is wrong with it.
///
/// Whether its name is free is for the caller to know.
pub fn parse_words(words: &Words<'_>) -> Result<(RuleSpec, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let mut text = Vec::new();
    let path = put(words.path, &mut text);
    let events = put(words.events, &mut text);
    let options = put_options(words.options, &mut text);
    let command: Vec<_> = words.command.iter().map(|word| put(word, &mut text)).collect();
    text.pop();

    let line = Line { file: None, number: 1, text: &text };
    if line.refuses_nul(&mut problems) {
        return Err(problems.into_diagnostics());
    }
    let mut lexer = Lexer::new(line, options);
    let mut options = Vec::new();
    while let Some(word) = lexer.word(Inside::Line, &mut problems) {
        options.push(word);
    }
    let pieces = Pieces {
        path,
        events: Some(events),
        options,
        options_text: words.options.trim_ascii().to_vec(),
        command,
        dollars: Dollars::InText,
        errors: 0,
    };
    let parsed = parse::rule(&line, &pieces, &mut problems);
    problems.sort_from(0);
    match parsed {
        Some(parsed) => Ok((parsed.spec, problems.into_diagnostics())),
        None => Err(problems.into_diagnostics()),
    }
}

/// Puts a word and a blank at the end of the line.
fn put(bytes: &[u8], line: &mut Vec<u8>) -> Word {
    let start = line.len();
    let at = quote_into(bytes, line);
    let word = Word::new(bytes.to_vec(), at, start..line.len());
    line.push(b' ');
    word
}

/// Puts the options in brackets and a blank at the end of the line, if there are any; where the options stand.
fn put_options(options: &[u8], line: &mut Vec<u8>) -> Range<usize> {
    if options.trim_ascii().is_empty() {
        return 0..0;
    }
    line.push(b'[');
    let start = line.len();
    line.extend(options);
    let end = line.len();
    line.extend(b"] ");
    start..end
}
