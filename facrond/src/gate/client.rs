//! The daemon's end of the line to a gate.

use super::message::{Line, Notice, Order, Totals};
use crate::kernel::readiness;
use facron_proto::RuleId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use std::{future, io};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A gate carries out orders at once. One that does not for this long is ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no word from a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// It has ended.
    #[error("the gate, which answers permission events, has ended; another is started")]
    Gone,
    /// It was ended.
    #[error("the gate, which answers permission events, did not carry out an order and was ended")]
    Silent,
    /// This kernel, or this user, has no permission events.
    #[error("permission events need root and a kernel that has them: {}", .0.desc())]
    Unfit(Errno),
    /// Something was lacking, which may be there the next time.
    #[error("the gate, which answers permission events, cannot be started: {}; it is tried again", .0.desc())]
    NotStarted(Errno),
    /// An order is too long.
    #[error("the rule's patterns are too long for permission events")]
    TooLong,
}

impl Failed {
    fn to_start(errno: Errno) -> Self {
        match errno {
            Errno::EPERM | Errno::EINVAL | Errno::ENOSYS => Self::Unfit(errno),
            _ => Self::NotStarted(errno),
        }
    }
}

/// A gate that runs, as the daemon sees it. Dropping it ends the gate.
#[derive(Debug)]
pub struct Client {
    pid: i32,
    line: Line,
    readiness: AsyncFd<OwnedFd>,
    inbox: VecDeque<Notice>,
    next_sync: u64,
}

impl Client {
    /// Over the line to a gate that was just started; waits until it is ready.
    pub fn new(pid: i32, socket: OwnedFd) -> io::Result<Result<Self, Failed>> {
        let readiness = readiness(socket.try_clone()?, Interest::READABLE)?;
        let line = Line::new(socket);
        let mut client = Self { pid, line, readiness, inbox: VecDeque::new(), next_sync: 0 };
        Ok(client
            .await_notice(|notice| match notice {
                Notice::Ready => Some(Ok(())),
                Notice::Unfit(errno) => Some(Err(Failed::to_start(Errno::from_raw(*errno)))),
                _ => None,
            })
            .and_then(|result| result)
            .map(|()| client))
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Ends it: the kernel lets go of all that waits.
    pub fn end(&self) {
        // Its pid is its own as long as the line is open or it is not reaped.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
    }

    /// Gives an order, with the object that it is about.
    pub fn order(&mut self, order: &Order, object: Option<BorrowedFd<'_>>) -> Result<(), Failed> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.line.send(order, object) {
                Ok(()) => return Ok(()),
                // ETOOMANYREFS: too many descriptors are on their way.
                Err(Errno::EAGAIN | Errno::ETOOMANYREFS) => {
                    // It may itself have no room for what it says.
                    self.receive()?;
                    self.poll(PollFlags::POLLIN | PollFlags::POLLOUT, deadline)?;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EMSGSIZE) => return Err(Failed::TooLong),
                Err(_) => return Err(Failed::Gone),
            }
        }
    }

    /// Waits until all orders are carried out; the marks that were refused meanwhile,
    /// and the gate's numbers.
    pub fn sync(&mut self) -> Result<(Vec<(RuleId, i32)>, Totals), Failed> {
        self.next_sync += 1;
        let number = self.next_sync;
        self.order(&Order::Sync(number), None)?;
        self.await_notice(|notice| match notice {
            Notice::Done { sync, refused, totals } if *sync == number => Some((refused.clone(), *totals)),
            _ => None,
        })
    }

    /// Waits until there may be something to read.
    pub async fn readable(&self) {
        if self.inbox.is_empty() {
            match self.readiness.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime ends.
                Err(_) => future::pending().await,
            }
        }
    }

    /// What it has said, in order; `None` when there is no more at present.
    pub fn next_notice(&mut self) -> Result<Option<Notice>, Failed> {
        if self.inbox.is_empty() {
            self.receive()?;
        }
        Ok(self.inbox.pop_front())
    }

    fn receive(&mut self) -> Result<(), Failed> {
        loop {
            match self.line.receive() {
                Ok(Some((notice, _))) => self.inbox.push_back(notice),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Ok(None) | Err(_) => return Err(Failed::Gone),
            }
        }
    }

    fn await_notice<T>(&mut self, is_it: impl Fn(&Notice) -> Option<T>) -> Result<T, Failed> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            let received = self.receive();
            for at in seen..self.inbox.len() {
                if let Some(found) = is_it(&self.inbox[at]) {
                    self.inbox.remove(at);
                    return Ok(found);
                }
            }
            seen = self.inbox.len();
            received?;
            self.poll(PollFlags::POLLIN, deadline)?;
        }
    }

    /// Waits for the line; ends a gate that lets time go by.
    fn poll(&self, flags: PollFlags, deadline: Instant) -> Result<(), Failed> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.line.as_fd(), flags)], timeout) {
            Ok(0) => {
                self.end();
                Err(Failed::Silent)
            }
            _ => Ok(()),
        }
    }
}
