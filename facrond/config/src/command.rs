//! COMMAND: the program, its arguments and the tokens in them.

use super::diagnostic::{Line, Problems, show};
use super::lex::Word;
use super::rule::{Argument, Command, Part, Token};
use super::shell;
use std::borrow::Cow;
use std::ffi::OsString;
use std::iter;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The way in which a literal dollar is written in the words of a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Dollars {
    /// As in a file: the lexer has removed the backslashes.
    Lexed,
    /// As in arguments of a command line: `\$` is still in the text.
    InText,
}

impl Command {
    /// The command as words. [`parse_words`](super::parse_words) reads them as the same command.
    pub fn words(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Record => vec![b"-".to_vec()],
            Self::Exec { program, args } => {
                let program = Part::Literal(program.as_bytes().to_vec());
                iter::once(text_of(&[program])).chain(args.iter().map(|arg| arg.text.clone())).collect()
            }
            Self::Shell(script) => vec![script.clone()],
        }
    }
}

impl Token {
    /// The tokens, as they are written, and what they become, for the manual.
    const TABLE: [(Self, &str, &str); 10] = [
        (Self::Path, "$$", "the full path"),
        (Self::Directory, "$@", "its directory"),
        (Self::Name, "$#", "its file name"),
        (Self::OldPath, "$<", "the path before a rename, else empty"),
        (Self::Pid, "$*", "the pid of the process that caused the event, 0 where it is not known"),
        (Self::Events, "$%", "the names of the events, joined by `|`"),
        (Self::Mask, "$&", "the kernel's event mask, decimal"),
        (Self::Increment, "$+", "a counter that all rules share, incremented first"),
        (Self::Decrement, "$-", "the same counter, decremented first"),
        (Self::Counter, "$=", "the same counter as it is"),
    ];

    /// Each token as it is written, and what it becomes.
    pub(crate) fn reference() -> impl Iterator<Item = (&'static str, &'static str)> {
        Self::TABLE.into_iter().map(|(_, written, meaning)| (written, meaning))
    }

    /// The token that is written as `$` and this byte.
    pub fn of(byte: u8) -> Option<Self> {
        Self::TABLE.iter().find(|(_, written, _)| written.as_bytes()[1] == byte).map(|(token, ..)| *token)
    }

    pub fn as_str(self) -> &'static str {
        Self::TABLE.iter().find(|(token, ..)| *token == self).map_or("", |(_, written, _)| written)
    }
}

impl Argument {
    fn new(mut parts: Vec<Part>) -> Self {
        let mut text = text_of(&parts);
        // There may be many rules, which are kept for long.
        parts.shrink_to_fit();
        text.shrink_to_fit();
        Self { parts, text }
    }

    /// A shell's script, in which nothing is replaced and `\$` is no escape.
    fn verbatim(bytes: &[u8]) -> Self {
        let parts = if bytes.is_empty() { Vec::new() } else { vec![Part::Literal(bytes.to_vec())] };
        Self { parts, text: bytes.to_vec() }
    }
}

/// The command of a rule; `None` if it has errors.
pub(super) fn command(
    line: &Line<'_>,
    words: &[Word],
    dollars: Dollars,
    problems: &mut Problems,
) -> Option<Command> {
    let lexed: Vec<Cow<'_, Word>> = match dollars {
        Dollars::Lexed => words.iter().map(Cow::Borrowed).collect(),
        Dollars::InText => words.iter().map(|word| Cow::Owned(word.with_dollars_unescaped())).collect(),
    };
    let (program, rest) = lexed.split_first()?;
    if program.bytes == b"-" {
        if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
            let message = "the COMMAND `-` runs nothing and takes no arguments";
            problems.push(line.error(first.span.start..last.span.end, message));
        }
        return Some(Command::Record);
    }
    check_program(line, program, problems)?;
    let script = shell::script(&lexed.iter().map(|word| word.bytes.as_slice()).collect::<Vec<_>>());
    if let Some(script) = script {
        shell::warn(line, &lexed[script], &lexed[script + 1..], problems);
    }
    let argument = |i: usize| {
        if script == Some(i) { Argument::verbatim(&words[i].bytes) } else { Argument::new(parts(&lexed[i])) }
    };
    Some(Command::Exec {
        program: OsString::from_vec(program.bytes.clone()),
        args: (1..words.len()).map(argument).collect(),
    })
}

/// The script of a rule with `shell`. Several words are joined by blanks.
pub(super) fn script(line: &Line<'_>, words: &[Word], problems: &mut Problems) -> Option<Command> {
    let (first, last) = (words.first()?, words.last()?);
    let script = words.iter().map(|word| word.bytes.as_slice()).collect::<Vec<_>>().join(&b' ');
    if script.trim_ascii().is_empty() || script == b"-" {
        let message = "`shell` needs a script, and there is none";
        let help = "write the script behind OPTIONS, as the rest of the line";
        problems.push(line.error(first.span.start..last.span.end, message).help(help));
        return None;
    }
    Some(Command::Shell(script))
}

fn check_program(line: &Line<'_>, program: &Word, problems: &mut Problems) -> Option<()> {
    let bytes = &program.bytes;
    let (at, message, help) = if let Some((at, token)) = tokens(program).next() {
        let message =
            format!("the program cannot come from an event: `{}` stands in its name", token.as_str());
        (
            program.place(at..at + 2),
            message,
            "tokens are replaced in arguments only; write `\\$` for a dollar",
        )
    } else if bytes.is_empty() {
        let help = "write an absolute path or a name, or `-` to run nothing";
        (program.span.clone(), "the program has no name".to_owned(), help)
    } else if bytes.starts_with(b"[") && bytes != b"[" && !program.quoted {
        let help = "write `PATH EVENTS [OPTIONS] COMMAND`";
        (program.span.clone(), "OPTIONS are one group before COMMAND".to_owned(), help)
    } else if bytes.starts_with(b"|") || bytes.starts_with(b",") {
        let help = "write EVENTS as one word, without blanks: `FAN_CLOSE_WRITE|FAN_MOVED_TO`";
        (program.span.clone(), format!("`{}` is not a program", show(bytes)), help)
    } else if bytes.contains(&b'/') && !bytes.starts_with(b"/") {
        let help = "write its absolute path, or its name alone to look it up in PATH";
        (program.span.clone(), format!("the program `{}` is a relative path", show(bytes)), help)
    } else {
        return Some(());
    };
    problems.push(line.error(at, message).help(help));
    None
}

/// The tokens of a word, with their places in its bytes.
pub(super) fn tokens(word: &Word) -> impl Iterator<Item = (usize, Token)> {
    let mut pos = 0;
    iter::from_fn(move || {
        loop {
            let pair = word.bytes.get(pos..pos + 2)?;
            let at = pos;
            match Token::of(pair[1]) {
                Some(token) if pair[0] == b'$' && !is_escaped(word, at) && !is_escaped(word, at + 1) => {
                    pos += 2;
                    return Some((at, token));
                }
                _ => pos += 1,
            }
        }
    })
}

fn is_escaped(word: &Word, at: usize) -> bool {
    word.escaped.binary_search(&at).is_ok()
}

fn parts(word: &Word) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut done = 0;
    for (at, token) in tokens(word) {
        if at > done {
            parts.push(Part::Literal(word.bytes[done..at].to_vec()));
        }
        parts.push(Part::Token(token));
        done = at + 2;
    }
    if done < word.bytes.len() {
        parts.push(Part::Literal(word.bytes[done..].to_vec()));
    }
    parts
}

/// The text of some parts. [`Word::with_dollars_unescaped`] and [`parts`] read it as the same
/// parts.
fn text_of(parts: &[Part]) -> Vec<u8> {
    let mut text = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        match part {
            Part::Token(token) => {
                double_backslashes(&mut text);
                text.extend(token.as_str().bytes());
            }
            Part::Literal(bytes) => {
                let after = if i + 1 < parts.len() { Some(b'$') } else { None };
                let next = bytes.iter().skip(1).copied().map(Some).chain(iter::once(after));
                for (byte, next) in bytes.iter().zip(next) {
                    if *byte == b'$' {
                        double_backslashes(&mut text);
                        if next.and_then(Token::of).is_some() {
                            text.push(b'\\');
                        }
                    }
                    text.push(*byte);
                }
            }
        }
    }
    text
}

/// Doubles the backslashes at the end, so that they are literal before a `$`.
fn double_backslashes(text: &mut Vec<u8>) {
    let run = text.iter().rev().take_while(|byte| **byte == b'\\').count();
    text.extend(iter::repeat_n(b'\\', run));
}
