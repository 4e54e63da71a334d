//! Objects of the file system held by descriptor, and their handles.
//!
//! A path is looked up once. Everything after that (marking, asking for the handle,
//! reading a directory) uses the descriptor. So the object that gets the mark is the
//! object that was looked at, even if it is renamed meanwhile.

mod detached;
mod handle;
mod stat;
mod xattr;

pub use detached::DetachedMount;
use handle::fsid_of;
pub(crate) use handle::{AT_HANDLE_FID, MAX_HANDLE};
pub use handle::{HandleBuffer, open_by_handle};
pub use stat::{Kind, Stat};
pub use xattr::copy_attributes;

use super::record::{FsId, Handle};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::libc;
use nix::sys::stat::Mode;
use nix::sys::statfs::{self, FsType};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    pub device: u64,
    pub number: u64,
}

/// The length of a path that is too long for a system call.
pub const PATH_MAX: usize = libc::PATH_MAX.cast_unsigned() as usize;

/// File systems whose content is made by the kernel.
const KERNEL_FS: [FsType; 7] = [
    statfs::PROC_SUPER_MAGIC,
    statfs::SYSFS_MAGIC,
    statfs::DEVPTS_SUPER_MAGIC,
    statfs::CGROUP_SUPER_MAGIC,
    statfs::CGROUP2_SUPER_MAGIC,
    statfs::DEBUGFS_MAGIC,
    statfs::TRACEFS_MAGIC,
];

/// An entry of a directory, with its kind if readdir(3) returns it.
pub type DirEntry = (Box<[u8]>, Option<Kind>);

/// An object. If it is a symbolic link, the link itself and not its target.
#[derive(Debug)]
pub struct Object {
    fd: OwnedFd,
    stat: Stat,
}

impl Object {
    /// Opens an absolute path whose directories are no symbolic links.
    ///
    /// # Errors
    /// `ELOOP` if one of them is a symbolic link, else those of `openat2(2)`.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        Self::open_at(nix::fcntl::AT_FDCWD, path.as_os_str().as_bytes())
    }

    /// The same from a directory. A path that is too long for the kernel is opened in parts.
    fn open_at(dir: BorrowedFd<'_>, path: &[u8]) -> Result<Self, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let (mut upper, mut rest): (Option<OwnedFd>, _) = (None, path);
        loop {
            let part = match rest.get(..PATH_MAX) {
                None => rest,
                Some(most) => most.rsplitn(2, |byte| *byte == b'/').last().unwrap_or_default(),
            };
            let from = upper.as_ref().map_or(dir, AsFd::as_fd);
            let object = openat2(from, OsStr::from_bytes(part), how)?;
            match rest.get(part.len() + 1..) {
                None => return Self::held(object),
                Some(below) => (upper, rest) = (Some(object), below),
            }
        }
    }

    /// Opens an entry of this directory.
    pub fn entry(&self, name: &[u8]) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Self::held(openat(&self.fd, OsStr::from_bytes(name), flags, Mode::empty())?)
    }

    /// Size, times and so on of an entry of this directory, from the kernel's cache, without
    /// opening it.
    pub fn entry_stat(&self, name: &[u8]) -> Result<Stat, Errno> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        Stat::of_entry(self.fd.as_fd(), &name)
    }

    fn held(fd: OwnedFd) -> Result<Self, Errno> {
        Ok(Self { stat: Stat::of(fd.as_fd())?, fd })
    }

    /// The object of an open descriptor. Returns the descriptor if the object cannot be
    /// examined. Does not ask the server of a file system, which could itself be waiting.
    pub fn of(fd: OwnedFd) -> Result<Self, (OwnedFd, Errno)> {
        match Stat::cached(fd.as_fd()) {
            Ok(stat) => Ok(Self { fd, stat }),
            Err(errno) => Err((fd, errno)),
        }
    }

    /// Asks its file system for it anew, whatever is known here: returns when that has
    /// answered.
    pub fn ask(&self) -> Result<(), Errno> {
        Stat::fresh(self.fd.as_fd()).map(drop)
    }

    /// Size, times and so on, as they were when it was opened.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Whether size and times are still the same as when it was opened.
    pub fn is_unchanged(&self) -> bool {
        Stat::cached(self.fd.as_fd()).is_ok_and(|now| {
            now.size() == self.stat.size()
                && now.changed() == self.stat.changed()
                && now.modified() == self.stat.modified()
        })
    }

    /// The bytes of a `file_handle` with which [`open_by_handle`] can open it again. An
    /// error if the file system has no such handles.
    pub fn lasting_handle(&self) -> Result<Box<[u8]>, Errno> {
        let mut room = HandleBuffer::default();
        room.ask(self.fd.as_fd(), 0)?;
        Handle::from_prefix(self.own_fs(), room.bytes())
            .map(|handle| handle.bytes.into())
            .ok_or(Errno::EOVERFLOW)
    }

    /// Opens the object with this handle on the mount of this directory.
    pub fn open_beside(&self, handle: &[u8]) -> Result<Self, Errno> {
        let handle = Handle::from_prefix(self.own_fs(), handle).ok_or(Errno::EINVAL)?;
        open_by_handle(self, handle)
    }

    /// As [`Object::open`], but only if that needs neither a disk nor a server.
    ///
    /// # Errors
    /// `EAGAIN` if it does need one; always before Linux 5.12.
    pub fn open_cached(path: &Path) -> Result<Self, Errno> {
        open_cached(nix::fcntl::AT_FDCWD, path, ResolveFlag::empty())
    }

    /// As [`Object::open_cached`], from the root directory of a process.
    pub fn open_cached_as(pid: i32, path: &Path) -> Result<Self, Errno> {
        let root = format!("/proc/{pid}/root");
        let root =
            openat(nix::fcntl::AT_FDCWD, root.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        open_cached(root.as_fd(), path, ResolveFlag::RESOLVE_IN_ROOT)
    }

    /// As [`Object::entry`], but only if that needs neither a disk nor a server, and not what
    /// is mounted there.
    pub fn entry_cached(&self, name: &[u8]) -> Result<Self, Errno> {
        open_cached(self.fd.as_fd(), Path::new(OsStr::from_bytes(name)), ResolveFlag::RESOLVE_NO_XDEV)
    }

    /// The executable of a process. From the cache, as [`Object::of`].
    pub fn executable(pid: i32) -> Result<Self, Errno> {
        let link = format!("/proc/{pid}/exe");
        let fd =
            openat(nix::fcntl::AT_FDCWD, link.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        Self::of(fd).map_err(|(_, errno)| errno)
    }

    /// Device and inode number: different for all objects that exist at the same time.
    pub fn inode(&self) -> Inode {
        let (device, number) = self.stat.numbers();
        Inode { device, number }
    }

    /// Whether it is on a file system of the kernel, such as `/proc`. Nobody may be made to
    /// wait there.
    pub fn is_of_kernel(&self) -> bool {
        nix::sys::statfs::fstatfs(&self.fd).is_ok_and(|fs| KERNEL_FS.contains(&fs.filesystem_type()))
    }

    pub fn kind(&self) -> Kind {
        self.stat.kind()
    }

    /// The target of a symbolic link.
    pub fn target(&self) -> Result<Vec<u8>, Errno> {
        readlinkat(&self.fd, "").map(OsStringExt::into_vec)
    }

    /// A path in `/proc` that leads to the object of this descriptor. None for a directory,
    /// for which `.` is enough.
    pub(super) fn link(&self) -> Option<CString> {
        if self.kind() == Kind::Directory {
            return None;
        }
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        Some(CString::new(link).expect("no NUL in it"))
    }

    /// Its present path, from the root directory of this process.
    pub fn path(&self) -> Option<Vec<u8>> {
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        nix::fcntl::readlink(link.as_str()).ok().map(OsStringExt::into_vec)
    }

    /// Its handle, as the kernel's records contain it. `out` is the room for it.
    pub fn handle<'o>(&self, out: &'o mut HandleBuffer) -> Result<Handle<'o>, Errno> {
        let fs = out.ask_for_both(self.fd.as_fd())?;
        Handle::from_prefix(fs.or(self.own_fs()), out.bytes()).ok_or(Errno::EOVERFLOW)
    }

    /// The number of its file system. Unlike the device, it is the same for all objects of an
    /// overlay.
    pub fn fs(&self) -> FsId {
        fsid_of(self.fd.as_fd()).unwrap_or_default().or(self.own_fs())
    }

    fn own_fs(&self) -> FsId {
        FsId::of_device(self.inode().device)
    }

    /// Whether the file system of a handle has no id, and so needs a group of its own.
    pub fn is_on_nameless(handle: Handle<'_>) -> bool {
        handle.fs.0 >> 63 == 1 && u32::try_from(handle.fs.0 & !(1 << 63)).is_ok()
    }

    /// The names and kinds of a directory's entries, without `.` and `..`.
    pub fn entries(&self) -> Result<Vec<DirEntry>, Errno> {
        let mut entries = Vec::new();
        self.each_entry(|name, kind| entries.push((name.into(), kind)))?;
        Ok(entries)
    }

    /// As [`Object::entries`], but passes each entry on as soon as it is read.
    pub fn each_entry(&self, mut visit: impl FnMut(&[u8], Option<Kind>)) -> Result<(), Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = nix::dir::Dir::openat(&self.fd, ".", flags, Mode::empty())?;
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                visit(name, entry.file_type().map(kind_of_entry));
            }
        }
        Ok(())
    }

    /// Whether a regular file is complete, which means that no process has it open for
    /// writing. `None` if nobody can know.
    ///
    /// The test takes a read lease (fcntl(2), `F_SETLEASE`), which is possible only while
    /// no process has the file open for writing, and gives it back at once. On file
    /// systems without leases, or whose server may block, a file with a second hard link
    /// counts as complete: a file that is still being made has one name.
    pub fn is_complete(&self) -> Option<bool> {
        if self.kind() != Kind::File {
            return None;
        }
        if self.stat.links() > 1 {
            return Some(true);
        }
        self.lease().ok()
    }

    /// Whether a read lease can be taken.
    fn lease(&self) -> Result<bool, Errno> {
        let file = self.reopen()?;
        // SAFETY: F_SETLEASE takes an int and touches no memory of ours.
        let lease =
            |kind: i32| Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) });
        match lease(libc::F_RDLCK) {
            Ok(_) => {
                // Closing the descriptor would end the lease as well.
                let _ = lease(libc::F_UNLCK);
                Ok(true)
            }
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn reopen(&self) -> Result<OwnedFd, Errno> {
        let link = self.link().ok_or(Errno::EISDIR)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        nix::fcntl::open(link.as_c_str(), flags, Mode::empty())
    }
}

fn open_cached(from: BorrowedFd<'_>, path: &Path, resolve: ResolveFlag) -> Result<Object, Errno> {
    let cached = ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED);
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(resolve | cached | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let fd = match openat2(from, path, how) {
        Err(Errno::EINVAL) => return Err(Errno::EAGAIN),
        other => other?,
    };
    Object::of(fd).map_err(|(_, errno)| errno)
}

impl AsFd for Object {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn kind_of_entry(kind: nix::dir::Type) -> Kind {
    match kind {
        nix::dir::Type::File => Kind::File,
        nix::dir::Type::Directory => Kind::Directory,
        nix::dir::Type::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

/// `/proc/self/fd`, opened once, to read the paths of open descriptors quickly.
#[derive(Debug)]
pub struct Paths(OwnedFd);

impl Paths {
    pub fn new() -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open("/proc/self/fd", flags, Mode::empty()).map(Self)
    }

    pub fn of(&self, object: &Object) -> Option<Vec<u8>> {
        let name = object.fd.as_raw_fd().to_string();
        readlinkat(&self.0, name.as_str()).ok().map(OsStringExt::into_vec)
    }
}
