//! From the words of one rule to its [`RuleSpec`].

use super::command::{Dollars, command, script};
use super::diagnostic::{Line, Problems, show};
use super::event_names::events;
use super::fate;
use super::filter::ObjectKind;
use super::lex::{Inside, Lexer, Word, joint};
use super::options::{given, options};
use super::permission;
use super::rule::{Argument, Command, Part, RuleSpec, Token};
use crate::events::Events;
use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;

/// The form of a rule, for messages.
const SHAPE: &str = "write `PATH EVENTS [OPTIONS] COMMAND [ARGUMENT...]`, with `-` as COMMAND to run nothing";

/// The words of a rule, by their roles.
pub(super) struct Pieces {
    pub(super) path: Word,
    pub(super) events: Option<Word>,
    pub(super) options: Vec<Word>,
    pub(super) options_text: Vec<u8>,
    pub(super) command: Vec<Word>,
    pub(super) dollars: Dollars,
    /// The number of errors before the first of these words was read.
    pub(super) errors: usize,
}

/// A rule, and the places in the line that later checks refer to.
pub(super) struct Parsed {
    pub(super) spec: RuleSpec,
    pub(super) path: Range<usize>,
    pub(super) program: Range<usize>,
    /// Empty without `cwd=`.
    pub(super) cwd: Range<usize>,
    pub(super) output: Range<usize>,
    pub(super) name: Option<Range<usize>>,
}

/// The pieces of a line of a file; `None` for a blank one.
pub(super) fn split(line: Line<'_>, problems: &mut Problems) -> Option<Pieces> {
    let errors = problems.errors();
    let mut lexer = Lexer::new(line, 0..line.text.len());
    let path = lexer.word(Inside::Line, problems)?;
    let events = lexer.word(Inside::Line, problems);
    let (options, options_text) = lexer.brackets(problems).unwrap_or_default();
    let mut command = Vec::new();
    if has_shell(&options) {
        command.extend(lexer.rest());
    } else {
        while let Some(word) = lexer.word(Inside::Line, problems) {
            command.push(word);
        }
    }
    let options_text = without_joints(&line.text[options_text]);
    Some(Pieces { path, events, options, options_text, command, dollars: Dollars::Lexed, errors })
}

/// The rule of these pieces; `None` if they have errors, which are then added to the problems.
pub(super) fn rule(line: &Line<'_>, pieces: &Pieces, problems: &mut Problems) -> Option<Parsed> {
    if problems.errors() == pieces.errors {
        check_presence(line, pieces, problems);
    }
    let path = path(line, &pieces.path, problems);
    let events = pieces.events.as_ref().and_then(|word| events(line, word, problems));
    let options = options(line, &pieces.options, problems);
    let command = if has_shell(&pieces.options) {
        script(line, &pieces.command, problems)
    } else {
        command(line, &pieces.command, pieces.dollars, problems)
    };
    if problems.errors() > pieces.errors {
        return None;
    }
    let ((path, mut events), (options, command)) = (path.zip(events)?, options.zip(command)?);
    if options.options.filter.kind() == Some(ObjectKind::Directory) && !events.contains(Events::ONDIR) {
        events = events.with(Events::ONDIR).with(Events::EVENT_ON_CHILD);
    }
    if options.options.batch.is_some() {
        warn_of_lost_paths(line, &pieces.command, &command, problems);
    }
    let options_text = pieces.options_text.clone();
    let spec = RuleSpec { path, events, options: Rc::new(options.options), options_text, command };
    let program = pieces.command.first()?.span.clone();
    let place = permission::Place {
        path: &pieces.path,
        events: pieces.events.as_ref()?,
        options: &pieces.options,
        command: program.clone(),
    };
    permission::check(line, &spec, &place, problems);
    fate::check(line, &spec, &place, problems);
    if problems.errors() > pieces.errors {
        return None;
    }
    let place_of = |name: &[u8]| given(&pieces.options, &[name]).map_or(0..0, |word| word.span.clone());
    let (path, cwd, output) = (pieces.path.span.clone(), place_of(b"cwd"), place_of(b"output"));
    Some(Parsed { spec, path, program, cwd, output, name: options.name })
}

/// Whether COMMAND is a script. This must be known before the options are read, because the
/// rest of the line is read differently.
fn has_shell(options: &[Word]) -> bool {
    options.iter().any(|word| word.bytes == b"shell")
}

fn check_presence(line: &Line<'_>, pieces: &Pieces, problems: &mut Problems) {
    let missing = match (&pieces.events, pieces.command.as_slice()) {
        (None, _) => "EVENTS and COMMAND are missing",
        (Some(_), []) => "COMMAND is missing",
        (Some(_), [..]) => return,
    };
    let end = line.text.len();
    problems.push(line.error(end..end, missing).help(SHAPE));
}

/// Warns if a rule with `batch=` has `$$` only inside of words: only a `$$` that is a whole
/// argument becomes all paths.
fn warn_of_lost_paths(line: &Line<'_>, words: &[Word], command: &Command, problems: &mut Problems) {
    let Command::Exec { args, .. } = command else { return };
    let path = Part::Token(Token::Path);
    let has_path = |argument: &Argument| argument.parts.contains(&path);
    if args.iter().any(|argument| has_path(argument) && argument.parts.len() == 1) {
        return;
    }
    if let Some((_, word)) = args.iter().zip(words.iter().skip(1)).find(|(argument, _)| has_path(argument)) {
        let message = "of a batch, this is only the path of the last event";
        let help = "write `$$` as a word of its own, which becomes one argument a path";
        problems.push(line.warning(word.span.clone(), message).help(help));
    }
}

fn path(line: &Line<'_>, word: &Word, problems: &mut Problems) -> Option<PathBuf> {
    let bytes = &word.bytes;
    if !bytes.starts_with(b"/") {
        let message = format!("PATH must be absolute, and `{}` is not", show(bytes));
        problems.push(line.error(word.span.clone(), message).help("write it from `/` on"));
        return None;
    }
    if let Some(newline) = bytes.iter().position(|byte| *byte == b'\n') {
        let message = "PATH has a newline in it, which no rule can have";
        problems.push(line.error(word.place(newline..newline + 1), message).help("watch its directory"));
        return None;
    }
    if let Some(star) = bytes.iter().position(|byte| *byte == b'*')
        && !word.quoted
    {
        let message = "PATH is literal: this `*` is only a character of its name";
        let help = "watch the directory with `[include=GLOB]`, or quote PATH if the name has a `*`";
        problems.push(line.warning(word.place(star..star + 1), message).help(help));
    }
    clean(line, word, problems)
}

/// The path without a trailing slash, `//` and `.`, which change nothing.
fn clean(line: &Line<'_>, word: &Word, problems: &mut Problems) -> Option<PathBuf> {
    let mut clean = Vec::with_capacity(word.bytes.len());
    let mut at = 0;
    for component in word.bytes.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                let message = "PATH has a `..` in it, and where that leads can change";
                let help = "write the path that is meant without it";
                problems.push(line.error(word.place(at..at + 2), message).help(help));
                return None;
            }
            component => {
                clean.push(b'/');
                clean.extend(component);
            }
        }
        at += component.len() + 1;
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Some(PathBuf::from(OsString::from_vec(clean)))
}

/// OPTIONS for display: on one line, without blanks around them.
fn without_joints(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        let joint = joint(rest);
        if joint == 0 {
            out.push(*first);
        }
        rest = &rest[joint.max(1)..];
    }
    out.trim_ascii().to_vec()
}
