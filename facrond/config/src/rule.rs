//! A rule as its line says it: the result of parsing, nothing of its fate.

use super::account::Account;
use super::culprit::Culprit;
use super::filter::Filter;
use super::permission::Permission;
use super::when::{Busy, Rate};
use crate::events::Events;
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// As many levels below PATH are looked at: each holds a descriptor while a tree is read.
pub const DEEPEST: usize = 512;

/// SIGKILL follows SIGTERM after this long where the rule has no `kill-after=`.
pub const KILL_AFTER: Duration = Duration::from_secs(5);

/// The umask of a command where the rule has no `umask=`.
pub const UMASK: u32 = 0o022;

/// `PATH` of a command's environment where the rule's `env=` does not set it.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// When one of `events` happens at `path`, run `command`.
///
/// Equality is that of meaning: two equal specs need no change in a reload.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    /// Absolute and lexically clean: no trailing slash, no `//`, no `.` component.
    pub path: PathBuf,
    /// EVENTS with their flags, unions taken apart; `type=dir` adds `ONDIR`, and
    /// `EVENT_ON_CHILD` with it where the line does not say `FAN_ONDIR` itself.
    pub events: Events,
    /// OPTIONS, which rules that stand together mostly share.
    pub options: Rc<Options>,
    /// OPTIONS as written, without the brackets; empty if absent.
    pub options_text: Vec<u8>,
    /// COMMAND.
    pub command: Command,
}

/// What a rule runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-`: nothing; the event is recorded, counted and shown.
    Record,
    /// A program and its arguments, tokens not replaced yet; the program has none.
    Exec {
        /// An absolute path, or a name looked up in the rule's PATH.
        program: OsString,
        /// The arguments after it.
        args: Vec<Argument>,
    },
    /// `shell`: a script for `/bin/sh -c`, in which nothing is replaced.
    Shell(Vec<u8>),
}

/// One argument: bytes and the tokens between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The parts in order; empty for an empty argument.
    pub parts: Vec<Part>,
    /// For showing, and read again as the same by [`parse_words`](super::parse_words):
    /// unquoted, a literal dollar before a token character written `\$`.
    pub text: Vec<u8>,
}

/// A piece of an [`Argument`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes that stay.
    Literal(Vec<u8>),
    /// What is replaced when the command is started.
    Token(Token),
}

/// The tokens of the interface, section 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// `$$`: the full path.
    Path,
    /// `$@`: its directory.
    Directory,
    /// `$#`: its file name.
    Name,
    /// `$*`: the pid that caused it.
    Pid,
    /// `$<`: the path before a rename.
    OldPath,
    /// `$+`: the global counter, incremented first.
    Increment,
    /// `$-`: the global counter, decremented first.
    Decrement,
    /// `$=`: the global counter.
    Counter,
    /// `$%`: event names, joined by `|`.
    Events,
    /// `$&`: the event mask, decimal.
    Mask,
}

/// The options of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `name=`
    pub name: Option<String>,
    /// `recursive`
    pub recursive: bool,
    /// `include=`, `exclude=` and `type=`
    pub filter: Filter,
    /// `self`: also what facron's own commands cause
    pub include_own: bool,
    /// `uid=` and `exe=`
    pub culprit: Culprit,
    /// `once`
    pub once: bool,
    /// `user=` and `group=`
    pub account: Option<Account>,
    /// `umask=`
    pub umask: u32,
    /// `nice=`
    pub nice: Option<i32>,
    /// `stdin=`
    pub stdin: Stdin,
    /// `cwd=`, absolute
    pub cwd: Option<PathBuf>,
    /// `env=`, in order
    pub env: Vec<(OsString, OsString)>,
    /// `output=`
    pub output: Output,
    /// `timeout=`
    pub timeout: Option<Duration>,
    /// `kill-after=`
    pub kill_after: Duration,
    /// `jobs=`
    pub jobs: Option<NonZeroU32>,
    /// `settle=`; see [`gather`](Self::gather)
    pub settle: Option<Duration>,
    /// `batch=`; see [`gather`](Self::gather)
    pub batch: Option<Duration>,
    /// `max-wait=`; see [`gather`](Self::gather)
    pub max_wait: Option<Duration>,
    /// `rate=`
    pub rate: Option<Rate>,
    /// `busy=`
    pub busy: Busy,
    /// `retry=`; 0 where it is not given
    pub retry: u32,
    /// `verdict=`, `deadline=`, `on-failure=` and `cache=`
    pub permission: Permission,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            recursive: false,
            filter: Filter::default(),
            include_own: false,
            culprit: Culprit::default(),
            once: false,
            account: None,
            umask: UMASK,
            nice: None,
            stdin: Stdin::Null,
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
            permission: Permission::default(),
        }
    }
}

/// What a command has as standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// Nothing.
    Null,
    /// The event as a JSON object on a line.
    Json,
}

/// Where a command's standard output and error go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Into the daemon's log, line by line.
    Log,
    /// Nowhere.
    Null,
    /// Appended to a file, an absolute path.
    File(PathBuf),
}
