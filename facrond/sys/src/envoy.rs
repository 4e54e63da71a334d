//! A process that looks in the daemon's place where a look may never end: at file
//! systems that are served by somebody else than this kernel.
//!
//! Who asks a server that hangs, hangs with it. Once a FUSE server has read a
//! request, not even SIGKILL frees who waits for the answer, and a daemon of which
//! one thread waits cannot end. So a process of its own asks; the daemon waits for a
//! while, and can leave it behind.
//!
//! A question carries the descriptor that it is about. One that is not answered in
//! time is the last: a late answer is a sign of life, and another envoy is sent.

mod desk;

pub use desk::run;

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

/// What a look ends with at a server that does not answer.
pub const SILENT: Errno = Errno::EHOSTDOWN;

/// How long the first answer is waited for.
pub const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// How long an answer is waited for at least: on a busy machine it takes time.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// How long at most.
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// How many times longer than the last one took.
const INDULGENCE: u32 = 4;

/// The longest packet: a directory's entries come in several.
const LONGEST: usize = 64 * 1024;

/// What is to be done.
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
    /// The group that comes with it is the one for the next mark.
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

/// An answer: what it says, and the descriptor that it has.
type Answer = (Vec<u8>, Option<OwnedFd>);

/// The daemon's end of the line to such a process. When it is dropped, the process
/// ends, unless it hangs.
#[derive(Debug)]
pub struct Envoy {
    socket: OwnedFd,
    buffer: RefCell<Vec<u8>>,
    patience: Cell<Duration>,
    asked: Cell<Instant>,
    silence: Cell<Option<SystemTime>>,
}

impl Envoy {
    /// Starts one for the mount at this place; `patience` is how long its first answer
    /// is waited for.
    pub fn start(point: &[u8], patience: Duration) -> Result<Self, Errno> {
        let (socket, theirs) = packet::pair()?;
        let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        let point = CString::new(point).map_err(|_| Errno::EINVAL)?;
        let arguments = [c"facrond".into(), c"envoy".into(), point];
        let spawn = Spawn::of_self(&arguments, [theirs.as_fd(), null.as_fd(), null.as_fd()]);
        Spawner::new()?.spawn(&spawn).map_err(|error| error.errno)?;
        Ok(Self {
            socket,
            buffer: RefCell::new(vec![0; LONGEST]),
            patience: Cell::new(patience),
            asked: Cell::new(Instant::now()),
            silence: Cell::new(None),
        })
    }

    /// Since when there is no answer.
    pub fn silent_since(&self) -> Option<SystemTime> {
        self.silence.get()
    }

    /// Whether there is a late answer, or nobody left who could give one: then how long
    /// the next envoy is to be waited for.
    pub fn has_awoken(&self) -> Option<Duration> {
        match packet::receive(&self.socket, &mut self.buffer.borrow_mut()) {
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            _ => Some(self.learn_patience().max(FIRST_PATIENCE)),
        }
    }

    fn learn_patience(&self) -> Duration {
        let took = self.asked.replace(Instant::now()).elapsed();
        self.patience.set((took * INDULGENCE).clamp(LEAST_PATIENCE, MOST_PATIENCE));
        self.patience.get()
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

    /// Fetches an object's handle; the id of its file system.
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

    /// Whether a read lease could be had, where that can be told.
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
        if self.silence.get().is_some() {
            return Err(SILENT);
        }
        self.asked.set(Instant::now());
        let question = [&[task as u8][..], what].concat();
        packet::send(&self.socket, &question, fd).map_err(|_| self.fall_silent())
    }

    /// Waits for what the last question is answered with, or for more of it.
    fn answer(&self) -> Result<Answer, Errno> {
        let mut buffer = self.buffer.borrow_mut();
        let deadline = Instant::now() + self.patience.get();
        loop {
            match packet::receive(&self.socket, &mut buffer) {
                Ok((length, fd)) => {
                    let Some((errno, says)) = buffer[..length].split_first_chunk() else {
                        return Err(self.fall_silent());
                    };
                    self.learn_patience();
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
        self.silence.set(Some(SystemTime::now()));
        SILENT
    }
}

/// Readable when there is a late answer, or nobody left who could give one.
impl AsFd for Envoy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until the line is ready; `false` when it was not in time.
fn wait(socket: &OwnedFd, flags: PollFlags, deadline: Option<Instant>) -> bool {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let timeout =
        left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    poll(&mut [PollFd::new(socket.as_fd(), flags)], timeout) != Ok(0)
}
