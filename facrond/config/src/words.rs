//! A rule that is given as words, by `facronctl add`, `facrond watch` or the protocol.
//!
//! Path and arguments are literal: they have no quotes, and a backslash is special only in
//! `\$`. The options are text as in a file. For diagnostics the words are put together as
//! one line of a file.

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
    /// OPTIONS without the brackets, separated by blanks, quoted as in a file.
    pub options: &'a [u8],
    /// The program and its arguments, unquoted.
    pub command: Vec<&'a [u8]>,
}

/// The rule with its warnings, or its errors.
///
/// The caller has to check whether its name is free.
pub fn parse_words(words: &Words<'_>) -> Result<(RuleSpec, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let mut text = Vec::new();
    let path = put(words.path, &mut text);
    let events = put(words.events, &mut text);
    let options = put_options(words.options, &mut text);
    // Here OPTIONS have a place of their own: a command may begin with `[`.
    let mut command: Vec<_> = words.command.iter().map(|word| put(word, &mut text)).collect();
    for word in &mut command {
        word.quoted = true;
    }
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

/// Adds a word and a blank to the line.
fn put(bytes: &[u8], line: &mut Vec<u8>) -> Word {
    let start = line.len();
    let at = quote_into(bytes, line);
    let word = Word::new(bytes.to_vec(), at, start..line.len());
    line.push(b' ');
    word
}

/// Adds the options in brackets and a blank to the line, if there are any. Returns the place
/// of the options.
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
