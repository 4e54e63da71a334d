//! What became of a job. Clients get it in the flat form that [`crate::wire`] makes of it.

use super::running::Stop;
use crate::config::permission::Verdict;
use crate::kernel::wait::Exit;
use facron_proto::{By, Text};
use std::time::Duration;

/// Why the exit of a command is not known.
const UNKNOWN: &str = "its exit status is not known: an earlier daemon had started it";

/// What became of a job, or its present state.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It waits for its turn, or for another try.
    Pending,
    Running {
        pid: i32,
    },
    /// Its command ran, and has ended.
    Ended(Ended),
    /// Its command has ended, and a file that was to be moved stays where it is.
    Left(Box<Left>),
    /// Its command could not be started.
    NotStarted {
        why: String,
    },
    /// Its command could not be started for want of something that others have at present:
    /// it waits for another try.
    Short {
        why: String,
    },
    /// A policy said not to run it.
    Skipped {
        why: String,
    },
    Dropped {
        why: String,
    },
    Recorded,
    /// A process waited for permission, and got an answer.
    Answered(Box<Answer>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    pub command: Outcome,
    pub why: String,
    /// Whether that went wrong.
    pub is_failure: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub pid: i32,
    pub exit: Exit,
    pub ending: Ending,
    pub duration: Duration,
    /// The last lines that it wrote.
    pub output: Option<Text>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    ByItself,
    TimedOut,
    Stopped(Stop),
    DaemonStops,
}

/// The answer to a permission event.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub verdict: Verdict,
    pub by: By,
    pub why: Option<String>,
    /// How long the process waited, where that is known.
    pub held: Option<Duration>,
    /// What became of the command that was to decide.
    pub command: Outcome,
}

impl Outcome {
    pub fn skipped(why: &str) -> Self {
        Self::Skipped { why: why.to_owned() }
    }

    /// What it is if there is no other try.
    #[must_use]
    pub fn given_up(self) -> Self {
        if let Self::Short { why } = self { Self::NotStarted { why } } else { self }
    }

    /// Whether something went wrong that a user would want to see.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Ended(ended) => match ended.ending {
                Ending::Stopped(Stop::ForLaterEvent) => false,
                Ending::TimedOut => true,
                _ => !matches!(ended.exit, Exit::Code(0) | Exit::Unknown),
            },
            Self::NotStarted { .. } | Self::Dropped { .. } => true,
            Self::Left(left) => left.is_failure || left.command.is_failure(),
            _ => false,
        }
    }

    /// Whether it will not change any more.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Pending | Self::Running { .. } | Self::Short { .. })
    }

    /// Whether its command was stopped to start anew for a later event.
    pub fn is_restart(&self) -> bool {
        matches!(self, Self::Ended(Ended { ending: Ending::Stopped(Stop::ForLaterEvent), .. }))
    }

    /// The memory of its texts in bytes.
    pub fn text_size(&self) -> usize {
        let more = match self {
            Self::Ended(ended) => ended.output.as_ref().map_or(0, |output| output.as_bytes().len()),
            Self::Answered(answer) => size_of::<Answer>() + answer.command.text_size(),
            Self::Left(left) => size_of::<Left>() + left.command.text_size(),
            _ => 0,
        };
        self.why().map_or(0, str::len) + more
    }

    /// Why it did not run, or was stopped.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Ended(ended) => ended.ending.reason().or((ended.exit == Exit::Unknown).then_some(UNKNOWN)),
            Self::NotStarted { why }
            | Self::Short { why }
            | Self::Skipped { why }
            | Self::Dropped { why } => Some(why),
            Self::Left(left) => Some(&left.why),
            Self::Answered(answer) => answer.why.as_deref(),
            Self::Pending | Self::Running { .. } | Self::Recorded => None,
        }
    }
}

impl Ending {
    /// The one with this reason; without any it was by itself.
    pub fn of_reason(reason: &str) -> Self {
        let all = [Self::Stopped(Stop::ForLaterEvent), Self::Stopped(Stop::RuleRemoved), Self::DaemonStops];
        all.into_iter().find(|ending| ending.reason() == Some(reason)).unwrap_or(Self::ByItself)
    }

    fn reason(self) -> Option<&'static str> {
        match self {
            Self::ByItself | Self::TimedOut => None,
            Self::Stopped(Stop::ForLaterEvent) => Some("stopped to start anew for a later event"),
            Self::Stopped(Stop::RuleRemoved) => Some("stopped because its rule was removed"),
            Self::DaemonStops => Some("stopped because the daemon stops"),
        }
    }
}
