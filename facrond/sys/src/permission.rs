//! Permission groups of fanotify(7): each event holds the process that caused it
//! until it is answered.
//!
//! Such a group reports open descriptors, by whose numbers answers find their
//! events. Where the kernel cannot make one it denies on its own: so whoever reads
//! must have descriptors to spare for all that one read may give.

use super::fanotify::{init, mark};
use super::object::Object;
use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Events that one read gives at most: their openers wait for one another.
pub const EVENTS_PER_READ: usize = 16;

/// Linux 6.13: a descriptor that could not be made is told with its error.
const FAN_REPORT_FD_ERROR: u32 = 0x2000;

const METADATA: usize = size_of::<libc::fanotify_event_metadata>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Allow,
    /// It gets `EPERM`.
    Deny,
}

/// An event that waits for its answer.
#[derive(Debug)]
pub struct Held {
    pub mask: u64,
    /// The process that waits, 0 where it is in no namespace of ours.
    pub pid: i32,
    /// What it happened to. Its number is what the answer goes by.
    pub fd: OwnedFd,
}

#[derive(Debug)]
pub enum Told {
    Held(Held),
    /// The kernel had no descriptor for an event, and has denied it.
    Lost,
    /// The queue was full; the kernel has allowed what did not fit.
    Overflow,
}

/// A permission group. Dropping it allows all that waits and removes its marks.
#[derive(Debug)]
pub struct Group {
    fd: OwnedFd,
    buffer: Box<Buffer>,
}

/// Aligned as the kernel's structures are.
#[derive(Debug)]
#[repr(align(8))]
struct Buffer([u8; METADATA * EVENTS_PER_READ]);

impl Group {
    /// Opens a group without limits. Its class is the only one that has `FAN_PRE_ACCESS`;
    /// groups of the other class are asked after it.
    ///
    /// # Errors
    /// That of `fanotify_init(2)`; `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` without
    /// `CONFIG_FANOTIFY_ACCESS_PERMISSIONS`.
    pub fn open() -> Result<Self, Errno> {
        let base = libc::FAN_CLASS_PRE_CONTENT
            | libc::FAN_UNLIMITED_QUEUE
            | libc::FAN_UNLIMITED_MARKS
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK;
        let fd = match init(base | FAN_REPORT_FD_ERROR) {
            Err(Errno::EINVAL) => init(base)?,
            other => other?,
        };
        Ok(Self { fd, buffer: Box::new(Buffer([0; METADATA * EVENTS_PER_READ])) })
    }

    /// Adds `mask` to the mark of an inode.
    pub fn add_mark(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        mark(self.fd.as_fd(), libc::FAN_MARK_ADD, object, mask)
    }

    /// Takes `mask` out of the mark of an inode. A mark that is not there is no error.
    pub fn remove_mark(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        match mark(self.fd.as_fd(), libc::FAN_MARK_REMOVE, object, mask) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// No longer asks about `mask` at this file, until it is modified. On a file that
    /// is open for writing the kernel takes it and does nothing.
    pub fn ignore(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_IGNORED_MASK;
        // A mark that is there already, and asks for events, cannot become evictable.
        match mark(self.fd.as_fd(), flags | libc::FAN_MARK_EVICTABLE, object, mask) {
            Err(Errno::EEXIST | Errno::EINVAL) => mark(self.fd.as_fd(), flags, object, mask),
            other => other,
        }
    }

    /// Asks about `mask` at this file again.
    pub fn unignore(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        let flags = libc::FAN_MARK_REMOVE | libc::FAN_MARK_IGNORED_MASK;
        match mark(self.fd.as_fd(), flags, object, mask) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Reads what fits; adds nothing when the queue is empty.
    pub fn read(&mut self, told: &mut Vec<Told>) -> Result<(), Errno> {
        let length = match nix::unistd::read(&self.fd, &mut self.buffer.0) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            other => other?,
        };
        let mut rest = &self.buffer.0[..length];
        while let Some(event) = Metadata::of(rest) {
            told.push(event.told());
            rest = rest.get(event.length..).unwrap_or_default();
        }
        Ok(())
    }

    /// Lets the process go on. That it is gone already is no error.
    ///
    /// `fd` is the descriptor that came with the event.
    pub fn answer(&self, fd: BorrowedFd<'_>, answer: Answer) -> Result<(), Errno> {
        let response = match answer {
            Answer::Allow => libc::FAN_ALLOW,
            Answer::Deny => libc::FAN_DENY,
        };
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&fd.as_raw_fd().to_ne_bytes());
        bytes[4..].copy_from_slice(&response.to_ne_bytes());
        match nix::unistd::write(&self.fd, &bytes) {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The head of an event; what follows it is not needed.
struct Metadata {
    length: usize,
    mask: u64,
    fd: RawFd,
    pid: i32,
}

impl Metadata {
    fn of(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let mask = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
        let (fd, pid) = (u32_at(16)?.cast_signed(), u32_at(20)?.cast_signed());
        Some(Self { length: usize::try_from(u32_at(0)?).ok()?.max(METADATA), mask, fd, pid })
    }

    fn told(&self) -> Told {
        if self.mask & libc::FAN_Q_OVERFLOW != 0 {
            return Told::Overflow;
        }
        if self.fd < 0 {
            return Told::Lost;
        }
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(self.fd) };
        Told::Held(Held { mask: self.mask, pid: self.pid, fd })
    }
}
