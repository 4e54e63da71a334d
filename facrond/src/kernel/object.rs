//! Objects of the file system held by descriptor, and their handles.
//!
//! A path is looked up once; from then on everything (marking, asking for the
//! handle, reading a directory) happens through the descriptor, so that what is
//! marked is what was looked at, whatever is renamed meanwhile.

use super::record::{FsId, Handle};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::libc;
use nix::sys::stat::Mode;
use nix::sys::statfs::{self, FsType};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, FIFO or socket.
    Other,
}

impl Kind {
    fn of_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Link,
            _ => Self::Other,
        }
    }
}

/// Device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    /// Of the file system.
    pub device: u64,
    /// Within it.
    pub number: u64,
}

/// File systems in which there is nothing but the kernel's doing.
const KERNEL_FS: [FsType; 7] = [
    statfs::PROC_SUPER_MAGIC,
    statfs::SYSFS_MAGIC,
    statfs::DEVPTS_SUPER_MAGIC,
    statfs::CGROUP_SUPER_MAGIC,
    statfs::CGROUP2_SUPER_MAGIC,
    statfs::DEBUGFS_MAGIC,
    statfs::TRACEFS_MAGIC,
];

/// An entry of a directory; its kind only where the file system tells it for free.
pub type DirEntry = (Box<[u8]>, Option<Kind>);

/// An object, held without following a last symbolic link.
#[derive(Debug)]
pub struct Object {
    fd: OwnedFd,
    kind: Kind,
    size: u64,
    links: u64,
    device: u64,
    number: u64,
    changed: SystemTime,
    modified: SystemTime,
}

impl Object {
    /// Opens an absolute path that has no symbolic link in its directories.
    ///
    /// # Errors
    /// `ELOOP` where there is a link after all, else those of `openat2(2)`.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        Self::held(openat2(nix::fcntl::AT_FDCWD, path, how)?)
    }

    /// Opens an entry of this directory.
    pub fn entry(&self, name: &[u8]) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Self::held(openat(&self.fd, OsStr::from_bytes(name), flags, Mode::empty())?)
    }

    fn held(fd: OwnedFd) -> Result<Self, Errno> {
        let stat = nix::sys::stat::fstat(&fd)?;
        Ok(Self {
            fd,
            kind: Kind::of_mode(stat.st_mode),
            size: stat.st_size.cast_unsigned(),
            links: stat.st_nlink,
            device: stat.st_dev,
            number: stat.st_ino,
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
        })
    }

    /// What a descriptor that is open already refers to; gives it back where that
    /// cannot be told. No file system's server is asked: it could be who waits.
    pub fn of(fd: OwnedFd) -> Result<Self, (OwnedFd, Errno)> {
        let stat = match statx(fd.as_fd()) {
            Ok(stat) => stat,
            Err(errno) => return Err((fd, errno)),
        };
        let time_of = |stamp: libc::statx_timestamp| time(stamp.tv_sec, stamp.tv_nsec.into());
        Ok(Self {
            kind: Kind::of_mode(stat.stx_mode.into()),
            size: stat.stx_size,
            links: stat.stx_nlink.into(),
            device: libc::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            number: stat.stx_ino,
            changed: time_of(stat.stx_ctime),
            modified: time_of(stat.stx_mtime),
            fd,
        })
    }

    /// Whether size and times are what they were when this was opened.
    pub fn is_unchanged(&self) -> bool {
        statx(self.fd.as_fd()).is_ok_and(|stat| {
            let time_of = |stamp: libc::statx_timestamp| time(stamp.tv_sec, stamp.tv_nsec.into());
            stat.stx_size == self.size
                && time_of(stat.stx_ctime) == self.changed
                && time_of(stat.stx_mtime) == self.modified
        })
    }

    /// The bytes of a `file_handle` by which [`open_by_handle`] finds it again; an
    /// error where the file system has none.
    pub fn lasting_handle(&self) -> Result<Box<[u8]>, Errno> {
        let mut room = HandleBuffer::default();
        room.ask(self.fd.as_fd(), 0)?;
        Handle::from_prefix(self.own_fs(), &room.0.0)
            .map(|handle| handle.bytes.into())
            .ok_or(Errno::EOVERFLOW)
    }

    /// What has this handle on the mount that this directory is on.
    pub fn open_beside(&self, handle: &[u8]) -> Result<Self, Errno> {
        let handle = Handle::from_prefix(self.own_fs(), handle).ok_or(Errno::EINVAL)?;
        open_by_handle(self, handle)
    }

    /// As [`Object::open`], but only where no disk and no server has to be asked for it.
    ///
    /// # Errors
    /// `EAGAIN` where one would have to be (Linux 5.12; before, always).
    pub fn open_cached(path: &Path) -> Result<Self, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED));
        let fd = match openat2(nix::fcntl::AT_FDCWD, path, how) {
            Err(Errno::EINVAL) => return Err(Errno::EAGAIN),
            other => other?,
        };
        Self::of(fd).map_err(|(_, errno)| errno)
    }

    /// Tells it from all others that exist at the same time.
    pub fn inode(&self) -> Inode {
        Inode { device: self.device, number: self.number }
    }

    /// Whether it is the kernel's own, such as `/proc`, in which nothing may be held up.
    pub fn is_of_kernel(&self) -> bool {
        nix::sys::statfs::fstatfs(&self.fd).is_ok_and(|fs| KERNEL_FS.contains(&fs.filesystem_type()))
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When its content, its metadata or its name changed last, in ticks of the
    /// kernel's clock.
    pub fn changed(&self) -> SystemTime {
        self.changed
    }

    /// When its content changed last.
    pub fn modified(&self) -> SystemTime {
        self.modified
    }

    /// When it was made, where the file system keeps that.
    pub fn born(&self) -> Option<SystemTime> {
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        std::fs::metadata(link).and_then(|metadata| metadata.created()).ok()
    }

    /// The number of its hard links when it was opened.
    pub fn links(&self) -> u64 {
        self.links
    }

    /// Where a symbolic link points.
    pub fn target(&self) -> Result<Vec<u8>, Errno> {
        readlinkat(&self.fd, "").map(OsStringExt::into_vec)
    }

    /// A path that leads to what this descriptor holds; none for a directory,
    /// where `.` does.
    pub(super) fn link(&self) -> Option<CString> {
        if self.kind == Kind::Directory {
            return None;
        }
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        Some(CString::new(link).expect("no NUL in it"))
    }

    /// Its path as it is now, from the root of what this process sees.
    pub fn path(&self) -> Option<Vec<u8>> {
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        nix::fcntl::readlink(link.as_str()).ok().map(OsStringExt::into_vec)
    }

    /// Writes its handle, as records of the kernel have it, into `out`.
    pub fn handle<'o>(&self, out: &'o mut HandleBuffer) -> Result<Handle<'o>, Errno> {
        let fs = fsid_of(self.fd.as_fd())?;
        match out.ask(self.fd.as_fd(), AT_HANDLE_FID) {
            Err(Errno::EINVAL) => out.ask(self.fd.as_fd(), 0)?,
            other => other?,
        }
        Handle::from_prefix(fs.or(self.own_fs()), &out.0.0).ok_or(Errno::EOVERFLOW)
    }

    /// Its file system: the same for all objects in it, which the device of an overlay's is not.
    pub fn fs(&self) -> FsId {
        fsid_of(self.fd.as_fd()).unwrap_or_default().or(self.own_fs())
    }

    /// Tells its file system from others where it has no id: by its device.
    fn own_fs(&self) -> FsId {
        FsId(self.device | 1 << 63)
    }

    /// Whether its file system has no id, so that it needs a group of its own.
    pub fn is_on_nameless(handle: Handle<'_>) -> bool {
        handle.fs.0 >> 63 == 1 && u32::try_from(handle.fs.0 & !(1 << 63)).is_ok()
    }

    /// The names and kinds of a directory's entries, without `.` and `..`.
    pub fn entries(&self) -> Result<Vec<DirEntry>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = nix::dir::Dir::openat(&self.fd, ".", flags, Mode::empty())?;
        let mut entries = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                entries.push((name.into(), entry.file_type().map(kind_of_entry)));
            }
        }
        Ok(entries)
    }

    /// Whether a regular file is complete under its name: nobody has it open for
    /// writing. `None` where that cannot be told.
    ///
    /// A read lease (fcntl(2), `F_SETLEASE`) can be had only while nobody has the
    /// file open for writing. It is given back at once. File systems that may block
    /// or know no leases are asked for a second hard link instead: a file that is
    /// still being made has one name.
    pub fn is_complete(&self) -> Option<bool> {
        if self.kind != Kind::File {
            return None;
        }
        if self.links > 1 {
            return Some(true);
        }
        let file = self.reopen().ok()?;
        // SAFETY: F_SETLEASE takes an int and touches no memory of ours.
        let lease =
            |kind: i32| Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) });
        match lease(libc::F_RDLCK) {
            Ok(_) => {
                // Closing the descriptor would end the lease as well.
                let _ = lease(libc::F_UNLCK);
                Some(true)
            }
            Err(Errno::EAGAIN) => Some(false),
            Err(_) => None,
        }
    }

    fn reopen(&self) -> Result<OwnedFd, Errno> {
        let link = self.link().ok_or(Errno::EISDIR)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        nix::fcntl::open(link.as_c_str(), flags, Mode::empty())
    }
}

impl AsFd for Object {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    start + Duration::from_nanos(nanoseconds.unsigned_abs())
}

fn statx(fd: BorrowedFd<'_>) -> Result<libc::statx, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::statx>::uninit();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let wanted = libc::STATX_BASIC_STATS;
    // SAFETY: the string is NUL-terminated, and there is room for what the kernel writes.
    Errno::result(unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, wanted, stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so the structure is initialised.
    Ok(unsafe { stat.assume_init() })
}

fn kind_of_entry(kind: nix::dir::Type) -> Kind {
    match kind {
        nix::dir::Type::File => Kind::File,
        nix::dir::Type::Directory => Kind::Directory,
        nix::dir::Type::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

/// Tells the paths of open descriptors, of which one walk through `/proc` is the dearest part.
#[derive(Debug)]
pub struct Paths(OwnedFd);

impl Paths {
    /// Of this process's descriptors.
    pub fn new() -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open("/proc/self/fd", flags, Mode::empty()).map(Self)
    }

    /// As [`Object::path`].
    pub fn of(&self, object: &Object) -> Option<Vec<u8>> {
        let name = object.fd.as_raw_fd().to_string();
        readlinkat(&self.0, name.as_str()).ok().map(OsStringExt::into_vec)
    }
}

/// Opens what a handle names, which must lie on the mount that the directory
/// `mount` is on.
///
/// Needs `CAP_DAC_READ_SEARCH`; a fallback, never the way of an event.
///
/// # Errors
/// `ESTALE` when it is gone (and always on overlayfs), `EPERM` for users.
pub fn open_by_handle(mount: &Object, handle: Handle<'_>) -> Result<Object, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mount = openat(&mount.fd, ".", flags, Mode::empty())?;
    let mut room = HandleBuffer::default();
    room.0.0[..handle.bytes.len()].copy_from_slice(handle.bytes);
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the buffer holds a `struct file_handle` (length, type, bytes) that is as
    // long as it says, as `Handle` guarantees, and aligned.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), room.0.0.as_mut_ptr().cast(), flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Object::held(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `MAX_HANDLE_SZ` of `<linux/exportfs.h>`.
const MAX_HANDLE: usize = 128;
const ROOM: usize = 8 + MAX_HANDLE;
/// Take a handle that identifies, even where it cannot be opened; Linux 6.5.
const AT_HANDLE_FID: i32 = 0x200;

#[repr(align(8))]
#[derive(Debug)]
struct Aligned([u8; ROOM]);

/// Room for one handle.
#[derive(Debug)]
pub struct HandleBuffer(Aligned);

impl Default for HandleBuffer {
    fn default() -> Self {
        Self(Aligned([0; ROOM]))
    }
}

impl HandleBuffer {
    fn ask(&mut self, fd: BorrowedFd<'_>, flags: i32) -> Result<(), Errno> {
        let room = u32::try_from(MAX_HANDLE).expect("a small constant");
        self.0.0[..4].copy_from_slice(&room.to_ne_bytes());
        let mut mount_id = 0;
        let empty: &CStr = c"";
        // SAFETY: the pointer leads to a `struct file_handle` with `MAX_HANDLE` bytes
        // of room, as its length says, aligned to 8 bytes; the string is NUL-terminated.
        let result = unsafe {
            libc::name_to_handle_at(
                fd.as_raw_fd(),
                empty.as_ptr(),
                self.0.0.as_mut_ptr().cast(),
                &raw mut mount_id,
                AtFlags::AT_EMPTY_PATH.bits() | flags,
            )
        };
        Errno::result(result).map(drop)
    }
}

/// The file system id as fanotify reports it.
fn fsid_of(fd: BorrowedFd<'_>) -> Result<FsId, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the pointer leads to room for one `struct statfs`, which the kernel fills.
    Errno::result(unsafe { libc::fstatfs(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so the structure is initialised; `fsid_t` is two
    // ints without padding, as in fanotify's `__kernel_fsid_t`.
    let id = unsafe { std::mem::transmute::<libc::fsid_t, [u8; 8]>(stat.assume_init().f_fsid) };
    Ok(FsId(u64::from_ne_bytes(id)))
}
