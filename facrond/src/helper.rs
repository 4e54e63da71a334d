//! Processes of our own program that work beside the engine, such as the gate.
//!
//! A helper is facrond itself, executed with another first argument and with one end of
//! a socket pair as its standard input. This module starts it, carries packets in both
//! directions, notices that it has ended or does not answer, and says when the next one
//! may be started. It knows nothing of the helper's work.
//!
//! The engine never waits for a helper. Packets that the socket has no room for stay in
//! a bounded outbox. Requests that have a reply are numbered by the caller; the replies
//! come in any order, whenever they come.

mod channel;
mod restart;

pub(crate) use channel::Channel;
pub(crate) use restart::Restart;

use crate::config::rule::RuleSpec;
use crate::job::run::Runner;
use crate::kernel::process_group::ProcessGroup;
use crate::kernel::{packet, readiness, wait};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes in the outbox from which on callers should wait, see [`Helper::has_room`].
const ROOM: usize = 1 << 20;

/// Bytes in the outbox at most: a helper that leaves so much unread is not working.
const MOST: usize = 64 << 20;

/// Why a packet was not sent, or none can be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The process has closed its end, usually by ending.
    Ended,
    /// It has left too much unread, or has not replied in time.
    Unresponsive,
    /// The message does not fit into a packet. The others are not affected.
    TooLong,
}

/// A helper that was started. Dropping it closes the socket, which the process takes as
/// the order to end.
#[derive(Debug)]
pub(crate) struct Helper {
    process: ProcessGroup,
    channel: Channel,
    readiness: AsyncFd<OwnedFd>,
    /// Whether there may be packets that were not received yet.
    may_receive: bool,
    outbox: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    outbox_bytes: usize,
    /// The numbers of the requests without a reply.
    awaited: BTreeSet<u64>,
    /// When the last packet came, or the first awaited request was sent.
    heard: Instant,
    timeout: Duration,
}

impl Helper {
    /// Starts the program with these arguments. One that is silent for `timeout` although
    /// it has requests to reply to is overdue. Within a tokio runtime.
    pub fn start(runner: &mut Runner, arguments: &[CString], timeout: Duration) -> Result<Self, Errno> {
        Self::start_for(runner, None, arguments, timeout)
    }

    /// The same for a rule, as its commands are started.
    pub fn start_for(
        runner: &mut Runner,
        rule: Option<&RuleSpec>,
        arguments: &[CString],
        timeout: Duration,
    ) -> Result<Self, Errno> {
        let (ours, theirs) = packet::pair()?;
        let process = runner.start_helper(arguments, theirs.as_fd(), rule)?;
        let from_io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
        let both = Interest::READABLE | Interest::WRITABLE;
        let readiness = readiness(ours.try_clone().map_err(from_io)?, both).map_err(from_io)?;
        Ok(Self {
            process,
            channel: Channel::new(ours),
            readiness,
            may_receive: true,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            awaited: BTreeSet::new(),
            heard: Instant::now(),
            timeout,
        })
    }

    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Ends the process by SIGKILL. One that hangs in a system call ends when that returns.
    pub fn kill(&self) {
        if let Err(errno) = self.process.signal(Signal::SIGKILL) {
            tracing::error!(pid = self.pid(), "cannot end a process of facron's own: {}", errno.desc());
        }
    }

    /// Gives the line up, and keeps the process to see it end.
    pub fn into_process(self) -> ProcessGroup {
        self.process
    }

    /// Whether a signal has stopped the process since the last call.
    pub fn has_stopped(&self) -> bool {
        wait::has_stopped(self.pid())
    }

    /// Sends a packet, or keeps it in the outbox until there is room for it.
    pub fn send(&mut self, message: &impl Serialize, fd: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        let bytes = Channel::encode(message).map_err(|_| Failure::TooLong)?;
        if self.outbox.is_empty() {
            match self.channel.send_bytes(&bytes, fd) {
                Ok(()) => return Ok(()),
                Err(errno) if is_full(errno) => {}
                Err(_) => return Err(Failure::Ended),
            }
        }
        // Without a descriptor to spare the packet would be another one.
        let fd = fd.map(|fd| fd.try_clone_to_owned()).transpose().map_err(|_| Failure::Unresponsive)?;
        if self.outbox.is_empty() && self.awaited.is_empty() {
            self.heard = Instant::now();
        }
        self.outbox_bytes += bytes.len();
        self.outbox.push_back((bytes, fd));
        if self.outbox_bytes > MOST { Err(Failure::Unresponsive) } else { Ok(()) }
    }

    /// Sends a request that has a reply.
    pub fn request(
        &mut self,
        number: u64,
        message: &impl Serialize,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), Failure> {
        self.send(message, fd)?;
        self.expect(number);
        Ok(())
    }

    /// A reply of this number is awaited from now on.
    pub fn expect(&mut self, number: u64) {
        if self.awaited.is_empty() {
            self.heard = Instant::now();
        }
        self.awaited.insert(number);
    }

    /// The reply has come, or nobody needs it any more.
    pub fn settle(&mut self, number: u64) {
        self.awaited.remove(&number);
    }

    /// The first of the requests that wait for a reply.
    pub fn oldest(&self) -> Option<u64> {
        self.awaited.first().copied()
    }

    /// Whether a request waits for its reply.
    pub fn awaits(&self, number: u64) -> bool {
        self.awaited.contains(&number)
    }

    /// Whether the process keeps up with what it is sent. A caller with much to send does
    /// so as long as there is room.
    pub fn has_room(&self) -> bool {
        self.outbox_bytes < ROOM
    }

    /// The next packet, with the descriptor that came with it; `None` when there is none
    /// at present. Sends from the outbox, too.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Option<OwnedFd>)>, Failure> {
        self.flush()?;
        loop {
            match self.channel.receive() {
                Ok(Some(packet)) => {
                    self.heard = Instant::now();
                    return Ok(Some(packet));
                }
                Err(Errno::EAGAIN) => {
                    self.may_receive = false;
                    return Ok(None);
                }
                Err(Errno::EINTR) => {}
                Ok(None) | Err(_) => return Err(Failure::Ended),
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        while let Some((bytes, fd)) = self.outbox.front() {
            match self.channel.send_bytes(bytes, fd.as_ref().map(AsFd::as_fd)) {
                Ok(()) => {
                    self.outbox_bytes -= bytes.len();
                    self.outbox.pop_front();
                }
                Err(errno) if is_full(errno) => return Ok(()),
                Err(_) => return Err(Failure::Ended),
            }
        }
        Ok(())
    }

    /// Ready when there may be a packet to receive, or room for what is in the outbox.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // An error means that the runtime ends.
        while let Poll::Ready(Ok(mut ready)) = self.readiness.poll_read_ready(context) {
            ready.clear_ready();
            self.may_receive = true;
        }
        let mut may_send = false;
        while !self.outbox.is_empty()
            && let Poll::Ready(Ok(mut ready)) = self.readiness.poll_write_ready(context)
        {
            ready.clear_ready();
            may_send = true;
        }
        if self.may_receive || may_send { Poll::Ready(()) } else { Poll::Pending }
    }

    /// When the process is overdue if nothing comes from it.
    pub fn deadline(&self) -> Option<Instant> {
        let is_waiting = !self.awaited.is_empty() || !self.outbox.is_empty();
        is_waiting.then(|| self.heard + self.timeout)
    }

    /// Whether the process owes something since long ago, and has sent nothing that was
    /// not received yet: a daemon that was slow itself must not blame it.
    pub fn is_overdue(&self, now: Instant) -> bool {
        !self.may_receive && self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// The process was not listened to until now, which is no fault of its own.
    pub fn excuse(&mut self) {
        self.heard = Instant::now();
    }
}

/// Readable when there is a packet to receive.
impl AsFd for Helper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// `ETOOMANYREFS`: too many descriptors are on their way.
fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::EAGAIN | Errno::ETOOMANYREFS | Errno::EINTR)
}
