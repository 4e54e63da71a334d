//! A rule as its line says it: the result of parsing, nothing of its fate.

use super::account::Account;
use super::filter::Filter;
use super::permission::Permission;
use super::process_filter::ProcessFilter;
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
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(5);

/// The umask of a command where the rule has no `umask=`.
pub(crate) const UMASK: u32 = 0o022;

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
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-`: nothing; the event is recorded, counted and shown.
    Record,
    /// A program and its arguments, tokens not replaced yet; the program has none.
    Exec {
        /// An absolute path, or a name looked up in the rule's PATH.
        program: OsString,
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
    Literal(Vec<u8>),
    /// What is replaced when the command is started.
    Token(Token),
}

/// The tokens of the interface, section 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    Path,
    Directory,
    Name,
    /// `$*`: the pid that caused it.
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

/// The options of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub name: Option<String>,
    pub recursive: bool,
    pub filter: Filter,
    /// `self`: also what facron's own commands cause
    pub include_own: bool,
    pub process_filter: ProcessFilter,
    pub once: bool,
    pub account: Option<Account>,
    pub umask: u32,
    pub nice: Option<i32>,
    pub stdin: Stdin,
    /// `cwd=`, absolute
    pub cwd: Option<PathBuf>,
    /// `env=`, in order
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
            process_filter: ProcessFilter::default(),
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
    Null,
    /// The event as a JSON object on a line.
    Json,
}

/// Where a command's standard output and error go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Into the daemon's log, line by line.
    Log,
    Null,
    /// Appended to a file, an absolute path.
    File(PathBuf),
}
