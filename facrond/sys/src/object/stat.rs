//! The facts that `statx(2)` returns about an object.

use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    File,
    Directory,
    Link,
    /// A device, FIFO or socket.
    Other,
}

impl Kind {
    /// The kind of an entry as a character, see [`Kind::of_digit`].
    pub fn digit(kind: Option<Self>) -> u8 {
        match kind {
            Some(Self::File) => b'f',
            Some(Self::Directory) => b'd',
            Some(Self::Link) => b'l',
            Some(Self::Other) => b'o',
            None => b'?',
        }
    }

    /// The kind that [`Kind::digit`] has turned into this character.
    pub fn of_digit(digit: u8) -> Option<Self> {
        [Self::File, Self::Directory, Self::Link, Self::Other]
            .into_iter()
            .find(|kind| Self::digit(Some(*kind)) == digit)
    }
}

/// The facts about an object at the time when it was opened.
#[derive(Clone, Copy)]
pub struct Stat(libc::statx);

impl Stat {
    /// Asks about the object of a descriptor, as `stat(2)` does.
    pub fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        Self::get(fd, libc::AT_STATX_SYNC_AS_STAT)
    }

    /// As [`Stat::of`], from the kernel's cache, without asking a server.
    pub fn cached(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        Self::get(fd, libc::AT_STATX_DONT_SYNC)
    }

    /// Of what a descriptor holds, as its file system has it now.
    pub(super) fn fresh(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        Self::get(fd, libc::AT_STATX_FORCE_SYNC)
    }

    /// Of an entry of a directory, from the kernel's cache, without opening it.
    pub(super) fn of_entry(dir: BorrowedFd<'_>, name: &CStr) -> Result<Self, Errno> {
        let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC;
        Self::get_at(dir, name, flags)
    }

    fn get(fd: BorrowedFd<'_>, flags: i32) -> Result<Self, Errno> {
        Self::get_at(fd, c"", libc::AT_EMPTY_PATH | flags)
    }

    fn get_at(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<Self, Errno> {
        // SAFETY: a structure of integers, for which zeroes are valid.
        let mut stat = unsafe { std::mem::zeroed::<libc::statx>() };
        let wanted = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_MNT_ID;
        // SAFETY: the string is NUL-terminated, and there is room for what the kernel writes.
        Errno::result(unsafe { libc::statx(dir.as_raw_fd(), name.as_ptr(), flags, wanted, &raw mut stat) })?;
        Ok(Self(stat))
    }

    pub fn kind(&self) -> Kind {
        match u32::from(self.0.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => Kind::File,
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFLNK => Kind::Link,
            _ => Kind::Other,
        }
    }

    pub fn size(&self) -> u64 {
        self.0.stx_size
    }

    /// The number of its hard links.
    pub fn links(&self) -> u64 {
        self.0.stx_nlink.into()
    }

    /// The numbers of its device and of its inode.
    pub fn numbers(&self) -> (u64, u64) {
        (libc::makedev(self.0.stx_dev_major, self.0.stx_dev_minor), self.0.stx_ino)
    }

    /// The number of the mount through which it was opened. Since Linux 5.8.
    pub fn mount(&self) -> Option<u64> {
        (self.0.stx_mask & libc::STATX_MNT_ID != 0).then_some(self.0.stx_mnt_id)
    }

    /// When its content, metadata or name changed last.
    pub fn changed(&self) -> SystemTime {
        time(self.0.stx_ctime)
    }

    /// When its content changed last.
    pub fn modified(&self) -> SystemTime {
        time(self.0.stx_mtime)
    }

    /// When it was made, if the file system stores that.
    pub fn born(&self) -> Option<SystemTime> {
        (self.0.stx_mask & libc::STATX_BTIME != 0).then(|| time(self.0.stx_btime))
    }
}

impl std::fmt::Debug for Stat {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (device, number) = self.numbers();
        write!(out, "Stat({:?} {device}:{number})", self.kind())
    }
}

fn time(stamp: libc::statx_timestamp) -> SystemTime {
    let whole = Duration::from_secs(stamp.tv_sec.unsigned_abs());
    let start = if stamp.tv_sec < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    start + Duration::from_nanos(stamp.tv_nsec.into())
}
