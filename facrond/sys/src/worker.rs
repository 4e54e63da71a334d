//! File-system workers. A worker is a process that looks at one mount in place of the
//! daemon, because the look may never end: the mount depends on a server.
//!
//! A process that asks a server which hangs, hangs with it. After a FUSE server has read a
//! request, not even SIGKILL ends the process that waits for the answer, nor a daemon with
//! one waiting thread. So the worker asks. The daemon waits for a limited time, and can
//! leave the worker behind.
//!
//! A request carries the descriptor that it is about. A request that is not answered in
//! time is the last one. A late answer shows that the server works again, and the next look
//! starts another worker.

mod server;

pub use server::run;

use super::object::{HandleBuffer, Kind, Object, Stat};
use super::packet;
use super::record::{FsId, Handle};
use super::spawn::{Spawn, Spawner};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// The error of a look if the server does not answer.
pub const UNRESPONSIVE: Errno = Errno::EHOSTDOWN;

/// The timeout of the first request.
pub const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// The shortest timeout. On a busy machine every answer takes some time.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest timeout of any request.
const MOST_TIMEOUT: Duration = Duration::from_secs(2);

/// The timeout, as a multiple of the time of the last answer.
const TIMEOUT_FACTOR: u32 = 4;

/// The longest packet. The entries of a directory come in several packets.
const LONGEST: usize = 64 * 1024;

/// The tasks of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Task {
    Open,
    Entry,
    ByHandle,
    Handle,
    Entries,
    Target,
    Lease,
    /// Passes the group for the next mark.
    Group,
    Mark,
}

const TASKS: [Task; 9] = [
    Task::Open,
    Task::Entry,
    Task::ByHandle,
    Task::Handle,
    Task::Entries,
    Task::Target,
    Task::Lease,
    Task::Group,
    Task::Mark,
];

/// An answer: its bytes, and its descriptor.
type Answer = (Vec<u8>, Option<OwnedFd>);

/// The client of a worker, in the daemon. When it is dropped, the worker ends, unless it
/// hangs.
#[derive(Debug)]
pub struct Worker {
    socket: OwnedFd,
    buffer: RefCell<Vec<u8>>,
    timeout: Cell<Duration>,
    asked: Cell<Instant>,
    unresponsive_since: Cell<Option<SystemTime>>,
}

impl Worker {
    /// Starts a worker for the mount at `point`. `timeout` is that of the first request.
    pub fn start(point: &[u8], timeout: Duration) -> Result<Self, Errno> {
        let (socket, theirs) = packet::pair()?;
        let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        let point = CString::new(point).map_err(|_| Errno::EINVAL)?;
        let arguments = [c"facrond".into(), c"worker".into(), point];
        let spawn = Spawn::of_self(&arguments, [theirs.as_fd(), null.as_fd(), null.as_fd()]);
        Spawner::default().spawn(&spawn).map_err(|error| error.errno)?;
        Ok(Self {
            socket,
            buffer: RefCell::new(vec![0; LONGEST]),
            timeout: Cell::new(timeout),
            asked: Cell::new(Instant::now()),
            unresponsive_since: Cell::new(None),
        })
    }

    /// Since when the server does not answer.
    pub fn unresponsive_since(&self) -> Option<SystemTime> {
        self.unresponsive_since.get()
    }

    /// Whether a late answer has come, or the worker has ended. Then returns the timeout for
    /// the next worker.
    pub fn has_awoken(&self) -> Option<Duration> {
        match packet::receive(&self.socket, &mut self.buffer.borrow_mut()) {
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            _ => Some(self.learn_timeout().max(FIRST_TIMEOUT)),
        }
    }

    fn learn_timeout(&self) -> Duration {
        let took = self.asked.replace(Instant::now()).elapsed();
        self.timeout.set((took * TIMEOUT_FACTOR).clamp(LEAST_TIMEOUT, MOST_TIMEOUT));
        self.timeout.get()
    }

    /// As [`Object::open`].
    pub fn open(self: &Rc<Self>, path: &Path) -> Result<Object, Errno> {
        self.found(self.ask(Task::Open, path.as_os_str().as_bytes(), None)?)
    }

    /// As [`Object::entry`].
    pub(super) fn entry(self: &Rc<Self>, dir: &Object, name: &[u8]) -> Result<Object, Errno> {
        self.found(self.ask(Task::Entry, name, Some(dir.as_fd()))?)
    }

    /// As [`open_by_handle`].
    pub(super) fn by_handle(self: &Rc<Self>, mount: &Object, handle: Handle<'_>) -> Result<Object, Errno> {
        self.found(self.ask(Task::ByHandle, handle.bytes, Some(mount.as_fd()))?)
    }

    fn found(self: &Rc<Self>, (stat, fd): Answer) -> Result<Object, Errno> {
        let stat = Stat::from_bytes(&stat).ok_or(Errno::EBADMSG)?;
        Ok(Object::seen_by(fd.ok_or(Errno::EBADMSG)?, stat, Rc::clone(self)))
    }

    /// Fetches an object's handle. Returns the id of its file system.
    pub(super) fn handle(&self, object: &Object, out: &mut HandleBuffer) -> Result<FsId, Errno> {
        let (bytes, _) = self.ask(Task::Handle, b"", Some(object.as_fd()))?;
        let (fs, handle) = bytes.split_first_chunk().ok_or(Errno::EBADMSG)?;
        out.fill(handle).ok_or(Errno::EBADMSG)?;
        Ok(FsId(u64::from_ne_bytes(*fs)))
    }

    /// As [`Object::entries`].
    pub(super) fn entries(
        &self,
        dir: &Object,
        mut visit: impl FnMut(&[u8], Option<Kind>),
    ) -> Result<(), Errno> {
        let (mut some, _) = self.ask(Task::Entries, b"", Some(dir.as_fd()))?;
        while !some.is_empty() {
            for (kind, name) in some.split(|byte| *byte == 0).filter_map(<[u8]>::split_first) {
                visit(name, Kind::of_digit(*kind));
            }
            (some, _) = self.answer()?;
        }
        Ok(())
    }

    /// As [`Object::target`].
    pub(super) fn target(&self, link: &Object) -> Result<Vec<u8>, Errno> {
        self.ask(Task::Target, b"", Some(link.as_fd())).map(|(target, _)| target)
    }

    /// Whether a read lease could be taken, as [`Object::lease`].
    pub(super) fn lease(&self, file: &Object) -> Result<bool, Errno> {
        self.ask(Task::Lease, b"", Some(file.as_fd())).map(|(answer, _)| answer == [1])
    }

    /// Changes the mark that a group has on an object.
    pub(super) fn mark(
        &self,
        group: BorrowedFd<'_>,
        action: u32,
        object: &Object,
        mask: u64,
    ) -> Result<(), Errno> {
        self.send(Task::Group, b"", Some(group))?;
        let change = [&action.to_ne_bytes()[..], &mask.to_ne_bytes()].concat();
        self.ask(Task::Mark, &change, Some(object.as_fd())).map(drop)
    }

    fn ask(&self, task: Task, what: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<Answer, Errno> {
        self.send(task, what, fd)?;
        self.answer()
    }

    fn send(&self, task: Task, what: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        if self.unresponsive_since.get().is_some() {
            return Err(UNRESPONSIVE);
        }
        self.asked.set(Instant::now());
        let question = [&[task as u8][..], what].concat();
        packet::send(&self.socket, &question, fd).map_err(|_| self.fall_silent())
    }

    /// Waits for the answer of the last request, or for its next packet.
    fn answer(&self) -> Result<Answer, Errno> {
        let mut buffer = self.buffer.borrow_mut();
        let deadline = Instant::now() + self.timeout.get();
        loop {
            match packet::receive(&self.socket, &mut buffer) {
                Ok((length, fd)) => {
                    let Some((errno, says)) = buffer[..length].split_first_chunk() else {
                        return Err(self.fall_silent());
                    };
                    self.learn_timeout();
                    return match i32::from_ne_bytes(*errno) {
                        0 => Ok((says.to_vec(), fd)),
                        errno => Err(Errno::from_raw(errno)),
                    };
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if wait(&self.socket, PollFlags::POLLIN, Some(deadline)) => {}
                Err(_) => return Err(self.fall_silent()),
            }
        }
    }

    fn fall_silent(&self) -> Errno {
        self.unresponsive_since.set(Some(SystemTime::now()));
        UNRESPONSIVE
    }
}

/// Readable when a late answer has come, or the worker has ended.
impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until the socket is ready. `false` if the deadline has passed.
fn wait(socket: &OwnedFd, flags: PollFlags, deadline: Option<Instant>) -> bool {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let timeout =
        left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    poll(&mut [PollFd::new(socket.as_fd(), flags)], timeout) != Ok(0)
}
