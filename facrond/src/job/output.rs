//! Where a command's standard output and error go.

mod capture;
mod leftovers;
mod lines;
mod log;

pub(super) use capture::{Capture, Progress};
pub(super) use leftovers::Leftovers;
pub(super) use log::RuleLog;

use super::error::StartError;
use crate::config::rule::Output;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// The daemon's log, line by line.
    Log,
    /// The daemon's own standard output and error, which the command inherits.
    Stdout,
}

/// The command's side of its output.
#[derive(Debug)]
pub(super) enum Target {
    /// A pipe that we read.
    Own(OwnedFd),
    Null,
    Inherited(io::Stdout, io::Stderr),
}

impl Target {
    /// The command's standard output and error.
    pub(super) fn for_child<'a>(&'a self, null: BorrowedFd<'a>) -> [BorrowedFd<'a>; 2] {
        match self {
            Self::Own(fd) => [fd.as_fd(), fd.as_fd()],
            Self::Null => [null, null],
            Self::Inherited(out, err) => [out.as_fd(), err.as_fd()],
        }
    }
}

/// The command's side of `output`, and our side of it where we read it.
pub(super) fn open(output: &Output, log_to: LogTo) -> Result<(Target, Option<OwnedFd>), StartError> {
    match (output, log_to) {
        (Output::Log, LogTo::Log) => {
            let (reader, writer) = open_pipe().map_err(StartError::Pipe)?;
            Ok((Target::Own(writer), Some(reader)))
        }
        (Output::Log, LogTo::Stdout) => Ok((Target::Inherited(io::stdout(), io::stderr()), None)),
        // The command's user opens a file.
        (Output::Null | Output::File(_), _) => Ok((Target::Null, None)),
    }
}

/// Only our end does not block: the command waits while the pipe is full.
fn open_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader, writer))
}
