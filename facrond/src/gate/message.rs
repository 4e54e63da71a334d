//! What the daemon and the gate say to each other: one JSON text a packet, on a
//! `SOCK_SEQPACKET` pair, an order sometimes with the descriptor that it is about.

use crate::config::filter::Patterns;
use crate::config::permission::{Decision, Verdict};
use crate::config::process_filter::ProcessFilter;
use crate::kernel::packet;
use facron_proto::{RuleId, Text};
use nix::errno::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest packet.
const LONGEST: usize = packet::LONGEST;

/// From the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Takes a rule in, or in place of the one that had its number.
    Rule(Box<Rule>),
    /// All inodes of a rule have been marked since it was told of last; others are its no more.
    Settled(RuleId),
    /// Lets a rule go, after its marks.
    Forget(RuleId),
    /// Marks the inode that comes with it.
    Mark {
        /// For this rule.
        rule: RuleId,
        /// Its path below the rule's.
        below: Text,
    },
    /// Marks the inode that comes with it no more, as far as this rule is concerned.
    Unmark(RuleId),
    /// What was here, and below, is elsewhere now, or nowhere.
    Gone {
        /// Below the PATH of this rule.
        rule: RuleId,
        /// The path below it; empty for all.
        below: Text,
    },
    /// Answers a question.
    Decided {
        /// Its number.
        question: u64,
        /// The verdict; none where the command has failed to give one.
        verdict: Option<Verdict>,
    },
    /// Answers [`Notice::Find`]; the file comes with it, where there still is one.
    Found(u64),
    /// Asks for [`Notice::Done`].
    Sync(u64),
}

/// A rule as the gate needs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// Its number.
    pub id: RuleId,
    /// PATH, all symbolic links resolved.
    pub path: Text,
    /// Whether a directory is there.
    pub is_directory: bool,
    /// EVENTS as a mask.
    pub events: u64,
    /// `recursive`
    pub recursive: bool,
    /// `include=`, `exclude=` and `type=`
    pub patterns: Patterns,
    /// `uid=` and `exe=`
    pub process_filter: ProcessFilter,
    /// Who decides.
    pub decision: Decision,
    /// `deadline=`
    pub deadline_ms: u64,
    /// `on-failure=`
    pub on_failure: Verdict,
    /// `cache=`
    pub cache_ms: Option<u64>,
    /// What is never held up, although it is below PATH.
    pub spared: Vec<Text>,
}

/// From the gate.
#[derive(Debug, Serialize, Deserialize)]
pub enum Notice {
    /// It asks for its first orders.
    Ready,
    /// It cannot be one, for this reason of the system.
    Unfit(i32),
    /// All orders before a [`Order::Sync`] are carried out.
    Done {
        /// The number of that order.
        sync: u64,
        /// Marks that the kernel refused since the last one, the first of each rule.
        refused: Vec<(RuleId, i32)>,
        /// The gate's numbers.
        totals: Totals,
    },
    /// Where is a file that was remembered?
    Find(Lost),
    /// Somebody waits for a command's verdict.
    Question(Question),
    /// These were answered; the gate's numbers since.
    Answered(Vec<Answered>, Totals),
}

/// A file that is not where it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lost {
    /// The number of the question.
    pub number: u64,
    /// Where it was.
    pub path: Text,
    /// Its device.
    pub device: u64,
    /// Its inode's number.
    pub inode: u64,
    /// Its handle.
    pub handle: Text,
}

/// What happened, and to whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Occasion {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// The full path.
    pub path: Text,
    /// The kernel's mask.
    pub mask: u64,
    /// The process that waits; 0 where unknown.
    pub pid: i32,
    /// Its executable.
    pub exe: Option<Text>,
    /// Its effective user.
    pub uid: Option<u32>,
}

/// Asks for a verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    /// Its number.
    pub number: u64,
    /// The rule whose command is to decide.
    pub rule: RuleId,
    /// The rule's events that are in it.
    pub events: u64,
    /// When no answer counts any more, in nanoseconds of `CLOCK_MONOTONIC`.
    pub deadline_ns: u64,
    /// What it is about.
    pub occasion: Occasion,
}

/// Tells of an answer, after it was given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answered {
    /// What it was about.
    pub occasion: Occasion,
    /// What the process was told.
    pub verdict: Verdict,
    /// How long it waited, in microseconds.
    pub held_us: u64,
    /// The rules that matched, each with its part in this.
    pub parts: Vec<Part>,
    /// How many more times the same happened at once.
    pub merged: u64,
}

/// What a rule had to do with an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The rule.
    pub rule: RuleId,
    /// The rule's events that are in it.
    pub events: u64,
    /// The question that its command was asked.
    pub question: Option<u64>,
    /// How it came to its verdict.
    pub by: By,
}

/// Where a verdict comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// `verdict=`
    Rule,
    /// The command.
    Command,
    /// What was remembered.
    Cache,
    /// `on-failure=`, since the deadline passed.
    Deadline,
    /// `on-failure=`, since the command gave no verdict.
    Failure,
    /// `on-failure=`, since too many waited already.
    Full,
    /// Another rule had denied it.
    Other(RuleId),
}

/// Numbers since the gate's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Allowed.
    pub allowed: u64,
    /// Denied.
    pub denied: u64,
    /// Of both, those by `on-failure=`.
    pub failures: u64,
    /// Facron's own, which no rule was asked about.
    pub own: u64,
    /// Events that the kernel denied itself, for want of a descriptor.
    pub lost: u64,
    /// Answers that could not be told of.
    pub untold: u64,
}

impl Totals {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            allowed: self.allowed + other.allowed,
            denied: self.denied + other.denied,
            failures: self.failures + other.failures,
            own: self.own + other.own,
            lost: self.lost + other.lost,
            untold: self.untold + other.untold,
        }
    }
}

/// One end of the line between them.
#[derive(Debug)]
pub struct Line {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Line {
    /// Over one end of a [`packet::pair`].
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; LONGEST] }
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// `EAGAIN` where there is no room, `EPIPE` where nobody is left, `EMSGSIZE` for
    /// what is too long.
    pub fn send(&self, message: &impl Serialize, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let bytes = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
        if bytes.len() > LONGEST {
            return Err(Errno::EMSGSIZE);
        }
        packet::send(&self.socket, &bytes, fd)
    }

    /// Receives without waiting; `None` where the other end is closed.
    ///
    /// # Errors
    /// `EAGAIN` where there is nothing, `EBADMSG` for nonsense.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Option<OwnedFd>)>, Errno> {
        let (length, fd) = packet::receive(&self.socket, &mut self.buffer)?;
        if length == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.buffer[..length]).map_err(|_| Errno::EBADMSG)?;
        Ok(Some((message, fd)))
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
