//! A rule as it is written: the result of parsing, without any state.

use super::account::Account;
use super::fate::Done;
use super::filter::Filter;
use super::permission::Permission;
use super::process_filter::ProcessFilter;
use super::when::{Busy, CatchUp, Gather, Quiet, Rate};
use crate::events::Events;
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// Without `max-wait=`, an event waits at most this many times the duration of `settle=` or
/// `batch=`.
const DEFAULT_FACTOR: u32 = 10;

/// The number of levels below PATH that `recursive` reaches.
pub const DEEPEST: usize = 512;

/// The time from SIGTERM to SIGKILL if the rule has no `kill-after=`.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(5);

/// The umask of a command if the rule has no `umask=`.
pub(crate) const UMASK: u32 = 0o022;

/// The `PATH` in a command's environment if the rule's `env=` does not set it.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// When one of `events` happens at `path`, run `command`.
///
/// Two specs are equal if they have the same meaning. Then a reload changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    /// Absolute and lexically clean: no trailing slash, no `//`, no `.` component.
    pub path: PathBuf,
    /// EVENTS with their flags. `type=dir` adds `ONDIR`, and also `EVENT_ON_CHILD` unless
    /// the line has `FAN_ONDIR`.
    pub events: Events,
    /// OPTIONS. Neighbouring rules with the same options share them.
    pub options: Rc<Options>,
    /// OPTIONS as written, without the brackets; empty if absent.
    pub options_text: Vec<u8>,
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-`: runs nothing. The event is recorded, counted and shown.
    Record,
    /// A program and its arguments, with their tokens. The program has no tokens.
    Exec {
        /// An absolute path, or a name that is looked up in `PATH`.
        program: OsString,
        args: Vec<Argument>,
    },
    /// `shell`: a script for `/bin/sh -c`, in which nothing is replaced.
    Shell(Vec<u8>),
}

/// One argument: bytes, and tokens between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The parts in order; empty for an empty argument.
    pub parts: Vec<Part>,
    /// The text for display, without quotes. A literal dollar before a token character is
    /// written `\$`. [`parse_words`](super::parse_words) reads the text as the same argument.
    pub text: Vec<u8>,
}

/// A piece of an [`Argument`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Literal(Vec<u8>),
    /// A token, which is replaced when the command starts.
    Token(Token),
}

/// The tokens in arguments, which are replaced when a command starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    Path,
    Directory,
    Name,
    /// `$*`: the pid of the process that caused the event.
    Pid,
    /// `$<`: the path before a rename.
    OldPath,
    /// `$+`: the global counter, incremented first.
    Increment,
    /// `$-`: the global counter, decremented first.
    Decrement,
    Counter,
    /// `$%`: event names, joined by `|`.
    Events,
    /// `$&`: the event mask, decimal.
    Mask,
}

/// The options of a rule, with their defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub name: Option<String>,
    pub recursive: bool,
    pub filter: Filter,
    /// `self`: also events that facron's own commands cause.
    pub include_own: bool,
    pub process_filter: ProcessFilter,
    pub once: bool,
    pub catch_up: CatchUp,
    pub account: Option<Account>,
    pub umask: u32,
    pub nice: Option<i32>,
    /// `stdin=`; the default is [`RuleSpec::stdin`]'s.
    pub stdin: Option<Stdin>,
    /// `cwd=`, an absolute path.
    pub cwd: Option<PathBuf>,
    /// `env=`, in the order of the line.
    pub env: Vec<(OsString, OsString)>,
    pub output: Output,
    pub timeout: Option<Duration>,
    pub kill_after: Duration,
    pub jobs: Option<NonZeroU32>,
    pub settle: Option<Duration>,
    pub batch: Option<Duration>,
    pub max_wait: Option<Duration>,
    pub rate: Option<Rate>,
    pub busy: Busy,
    /// `retry=`; 0 if it is not given.
    pub retry: u32,
    pub done: Option<Done>,
    /// `failed=`, an absolute path.
    pub failed: Option<PathBuf>,
    /// `verdict=`, `deadline=`, `on-failure=` and `cache=`.
    pub permission: Permission,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            recursive: false,
            filter: Filter::default(),
            include_own: false,
            process_filter: ProcessFilter::default(),
            once: false,
            catch_up: CatchUp::Missed,
            account: None,
            umask: UMASK,
            nice: None,
            stdin: None,
            cwd: None,
            env: Vec::new(),
            output: Output::Log,
            timeout: None,
            kill_after: KILL_AFTER,
            jobs: None,
            settle: None,
            batch: None,
            max_wait: None,
            rate: None,
            busy: Busy::Queue,
            retry: 0,
            done: None,
            failed: None,
            permission: Permission::default(),
        }
    }
}

impl Options {
    /// The effect of `settle=`, `batch=` and `max-wait=` together. With both `settle=` and
    /// `batch=` the longer one counts.
    pub fn gather(&self) -> Option<Gather> {
        let lasts = self.settle.max(self.batch)?;
        let quiet = Quiet { lasts, at_most: self.max_wait.unwrap_or(lasts * DEFAULT_FACTOR) };
        Some(if self.batch.is_some() { Gather::ByRule(quiet) } else { Gather::ByPath(quiet) })
    }

    /// Whether these options can delay a job.
    pub fn waits(&self) -> bool {
        self.rate.is_some() || self.gather().is_some()
    }

    /// The problem with `max-wait=` and a correction, if there is a problem.
    pub(super) fn max_wait_error(&self) -> Option<(&'static str, &'static str)> {
        let max_wait = self.max_wait?;
        match self.settle.max(self.batch) {
            None => Some((
                "`max-wait` bounds a waiting that this rule does not have",
                "add `settle=` or `batch=`, or leave it out",
            )),
            Some(quiet) if max_wait < quiet => Some((
                "`max-wait` is shorter than the quiet that is waited for",
                "make it at least as long as `settle` and `batch`",
            )),
            Some(_) => None,
        }
    }
}

/// The standard input of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    Null,
    /// The event, as one JSON object on one line.
    Json,
    /// The file that the event is about.
    File,
}

/// The destination of a command's standard output and standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Into the daemon's log, line by line.
    Log,
    Null,
    /// To the end of a file, which has an absolute path.
    File(PathBuf),
}

impl Output {
    /// The file.
    pub fn file(&self) -> Option<&Path> {
        if let Self::File(path) = self { Some(path) } else { None }
    }
}
