//! Reads what a command writes: never waits for it, never makes it wait.

use super::lines::{Lines, Tail};
use super::log::RuleLog;
use facron_proto::Text;
use nix::unistd::read;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

/// How much is read at once; the pipe holds four times as much.
const CHUNK: usize = 16 * 1024;

/// Most commands end before this, and what they wrote is read at their end. Only
/// the pipes of others are worth the runtime's attention.
const SHORT_LIVED: Duration = Duration::from_millis(5);

/// How many reads get at what a full pipe holds. More would be new.
const DRAIN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::job) enum Progress {
    /// Somebody can still write to it.
    Open,
    /// Nobody can.
    Ended,
}

/// The output of one command on its way into the log.
#[derive(Debug)]
pub(in crate::job) struct Capture {
    pipe: Pipe,
    sink: Sink,
    since: Instant,
}

/// Our end of a command's pipe, which does not block.
#[derive(Debug)]
enum Pipe {
    /// Nobody waits for it.
    Plain(OwnedFd),
    /// The runtime waits for it.
    Watched(Receiver),
}

impl Pipe {
    fn watched(&mut self) -> io::Result<&mut Receiver> {
        if let Self::Plain(fd) = self {
            *self = Self::Watched(Receiver::from_owned_fd_unchecked(fd.try_clone()?)?);
        }
        match self {
            Self::Watched(receiver) => Ok(receiver),
            Self::Plain(_) => unreachable!("it has just been replaced"),
        }
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(fd) => fd.as_fd(),
            Self::Watched(receiver) => receiver.as_fd(),
        }
    }
}

/// What becomes of the bytes.
#[derive(Debug)]
struct Sink {
    log: Rc<RuleLog>,
    pid: i32,
    lines: Lines,
    tail: Tail,
}

impl Capture {
    /// The output of process `pid`, which holds the other end of the pipe.
    pub(in crate::job) fn new(pipe: OwnedFd, pid: i32, log: Rc<RuleLog>, since: Instant) -> Self {
        Self {
            since,
            pipe: Pipe::Plain(pipe),
            sink: Sink { log, pid, lines: Lines::default(), tail: Tail::default() },
        }
    }

    /// The command that it is the output of.
    pub(super) fn pid(&self) -> i32 {
        self.sink.pid
    }

    /// Reads until nobody can write any more. May be dropped at any time.
    pub(in crate::job) async fn follow(&mut self) {
        sleep_until(self.since + SHORT_LIVED).await;
        // Without the runtime's help it is read when the command has ended.
        let Ok(pipe) = self.pipe.watched() else { return };
        while pipe.readable().await.is_ok() {
            match self.sink.take(|chunk| pipe.try_read(chunk)) {
                // A command that writes without end leaves room for others.
                Ok(Progress::Open) => yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(Progress::Ended) | Err(_) => return,
            }
        }
    }

    /// Reads what is there, without regard to whether the runtime knows of it.
    pub(in crate::job) fn drain(&mut self) -> Progress {
        for _ in 0..DRAIN {
            match self.sink.take(|chunk| Ok(read(&self.pipe, chunk)?)) {
                Ok(Progress::Open) => {}
                Ok(Progress::Ended) => return Progress::Ended,
                Err(_) => break,
            }
        }
        Progress::Open
    }

    /// The end of what was written so far.
    pub(in crate::job) fn take_tail(&mut self) -> Option<Text> {
        self.sink.tail.take().map(Text)
    }
}

impl Sink {
    /// Takes in what one `read` gets.
    fn take(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Progress> {
        let mut chunk = [0; CHUNK];
        let length = read(&mut chunk)?;
        let bytes = &chunk[..length];
        if bytes.is_empty() {
            self.lines.finish(|line| self.log.line(self.pid, line));
            return Ok(Progress::Ended);
        }
        self.tail.push(bytes);
        if self.log.is_full() {
            self.log.leave_out(self.lines.skip(bytes));
        } else {
            self.lines.feed(bytes, |line| self.log.line(self.pid, line));
        }
        Ok(Progress::Open)
    }
}
