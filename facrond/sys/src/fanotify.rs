//! Notification groups of fanotify(7) that report handles and names.
//!
//! `nix` supports groups with open files only and drops the information records.
//! So this module makes the three calls itself.

mod info;
mod special;

pub use info::Listed;

use super::object::Object;
use nix::errno::Errno;
use nix::libc;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The size of the read buffer, in bytes. Larger buffers are not faster.
pub const READ_SIZE: usize = 16 * 1024;

/// The kind of group that the kernel gives to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Unlimited queue and marks, pids of all processes.
    Full,
    /// An ordinary user's: limited marks and queue, and every foreign pid is 0.
    User,
}

/// A fanotify group. Dropping it removes its marks.
#[derive(Debug)]
pub struct Group {
    fd: OwnedFd,
    privilege: Privilege,
    target_fid: bool,
}

const FAN_MARK_EVICTABLE: u32 = 0x200;
/// `FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY`
const FAN_MARK_IGNORE_SURV: u32 = 0x440;

/// Asks for records with the parent directory, the name and, if possible, the object itself.
const REPORT: u32 = libc::FAN_REPORT_FID | libc::FAN_REPORT_DIR_FID | libc::FAN_REPORT_NAME;
const BASE: u32 = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | REPORT;
const UNLIMITED: u32 = libc::FAN_UNLIMITED_QUEUE | libc::FAN_UNLIMITED_MARKS;

impl Group {
    /// Opens the best group that the kernel and the privileges of the process allow. It
    /// asks for everything first, and for less if that is refused.
    ///
    /// # Errors
    /// The error of `fanotify_init(2)` for the simplest useful group: `ENOSYS` without
    /// fanotify, `EINVAL` before Linux 5.9, `EPERM` if the user is not permitted,
    /// `EMFILE` if the user has too many groups.
    pub fn open() -> Result<Self, Errno> {
        let steps = [
            (UNLIMITED | libc::FAN_REPORT_TARGET_FID, Privilege::Full),
            (UNLIMITED, Privilege::Full),
            (libc::FAN_REPORT_TARGET_FID, Privilege::User),
            (0, Privilege::User),
        ];
        let mut last = Errno::EINVAL;
        for (flags, privilege) in steps {
            match init(BASE | flags) {
                Ok(fd) => {
                    let target_fid = flags & libc::FAN_REPORT_TARGET_FID != 0;
                    return Ok(Self { fd, privilege, target_fid });
                }
                Err(errno @ (Errno::EPERM | Errno::EINVAL)) => last = errno,
                Err(errno) => return Err(errno),
            }
        }
        Err(last)
    }

    /// A group that another process has opened, to change its marks only.
    pub fn of_other(fd: OwnedFd) -> Self {
        Self { fd, privilege: Privilege::Full, target_fid: false }
    }

    /// A group of an earlier process, with its marks and its queue. `None` if it is not of the
    /// kind of `like`, which this process has opened.
    pub fn taken_back(fd: OwnedFd, like: &Self) -> Option<Self> {
        let is_alike = info::flags(fd.as_fd()).is_some_and(|flags| Some(flags) == info::flags(like.as_fd()));
        is_alike.then_some(Self { fd, ..*like })
    }

    /// All marks of this group, as the kernel lists them.
    ///
    /// # Errors
    /// Those of reading `/proc/self/fdinfo`.
    pub fn marks(&self) -> io::Result<impl Iterator<Item = Listed> + use<>> {
        info::marks(self.fd.as_fd())
    }

    /// The kind of this group.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// Whether the kernel has `FAN_RENAME`, and records of entries contain the entry's own
    /// handle. Both came with Linux 5.17.
    pub fn has_rename(&self) -> bool {
        self.target_fid
    }

    /// Adds `mask` to the inode's mark in this group. Makes the mark if there is none.
    ///
    /// # Errors
    /// The error of `fanotify_mark(2)`: `ENOSPC` at the user's limit of marks, `EXDEV`
    /// if this file system needs a group of its own, `ENODEV` or `EOPNOTSUPP` if it
    /// cannot be watched by handle.
    pub fn add_mark(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        self.mark(libc::FAN_MARK_ADD, object, mask)
    }

    /// Removes `mask` from the inode's mark. A missing mark is no error.
    pub fn remove_mark(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        match self.mark(libc::FAN_MARK_REMOVE, object, mask) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Adds `mask` to the mark of the object's whole file system.
    ///
    /// # Errors
    /// `EOPNOTSUPP` on overlayfs, `ENODEV` on FUSE, `EXDEV` on btrfs subvolumes,
    /// `EPERM` for ordinary users.
    pub fn add_fs_mark(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        self.mark(libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM, object, mask)
    }

    /// Removes `mask` from the file system's mark.
    pub fn remove_fs_mark(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        self.mark(libc::FAN_MARK_REMOVE | libc::FAN_MARK_FILESYSTEM, object, mask)
    }

    /// Makes the kernel drop these events of a directory. The ignore mark survives
    /// modifications, but the kernel may remove it when memory is short (Linux 6.0).
    pub fn ignore(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        self.mark(libc::FAN_MARK_ADD | FAN_MARK_IGNORE_SURV | FAN_MARK_EVICTABLE, object, mask)
    }

    /// Whether the inode has a mark in this group. The test removes the event `absent`, which
    /// the mark must not have, so that nothing changes.
    pub fn has_mark(&self, object: &Object, absent: u64) -> Result<bool, Errno> {
        match self.mark(libc::FAN_MARK_REMOVE, object, absent) {
            Err(Errno::ENOENT) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Whether the inode has a mark in this group, other than an evictable one. If not, it gets an
    /// evictable one for `mask`: the kernel refuses to make a lasting mark evictable. `None`
    /// if the kernel is too old to say (before Linux 5.19).
    pub fn is_marked(&self, object: &Object, mask: u64) -> Option<bool> {
        match self.mark(libc::FAN_MARK_ADD | FAN_MARK_EVICTABLE, object, mask) {
            Err(Errno::EEXIST) => Some(true),
            Ok(()) => Some(false),
            Err(_) => None,
        }
    }

    /// Undoes [`Group::ignore`]. A missing mark is no error.
    pub fn unignore(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        match self.mark(libc::FAN_MARK_REMOVE | FAN_MARK_IGNORE_SURV, object, mask) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn mark(&self, action: u32, object: &Object, mask: u64) -> Result<(), Errno> {
        mark(self.fd.as_fd(), action, object, mask)
    }

    /// Reads as many whole records as fit into the buffer. `Ok(None)` if the queue is empty.
    pub fn read<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Errno> {
        match nix::unistd::read(&self.fd, buffer) {
            Ok(len) => Ok(Some(&buffer[..len])),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl AsRawFd for Group {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Changes the mark of `group` on an inode, or on its file system.
pub(super) fn mark(group: BorrowedFd<'_>, action: u32, object: &Object, mask: u64) -> Result<(), Errno> {
    // fanotify_mark(2) takes no O_PATH descriptor itself, but a path that starts at one.
    let link = object.link();
    let (dirfd, path) = match &link {
        None => (object.as_fd().as_raw_fd(), c".".as_ptr()),
        Some(link) => (libc::AT_FDCWD, link.as_ptr()),
    };
    // SAFETY: `path` is a NUL-terminated string that lives until the call returns.
    let result = unsafe { libc::fanotify_mark(group.as_raw_fd(), action, mask, dirfd, path) };
    Errno::result(result).map(drop)
}

/// Opens a group. The descriptors in its events are read-only. To open them never waits: not for
/// the writer of a FIFO, and not for the owner of a lease.
pub(super) fn init(flags: u32) -> Result<OwnedFd, Errno> {
    let event_flags =
        (libc::O_RDONLY | libc::O_NONBLOCK | libc::O_LARGEFILE | libc::O_CLOEXEC).cast_unsigned();
    // SAFETY: the call takes no pointers.
    let fd = Errno::result(unsafe { libc::fanotify_init(flags, event_flags) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
