//! Objects of the file system held by descriptor, and their handles.
//!
//! A path is looked up once; from then on everything (marking, asking for the
//! handle, reading a directory) happens through the descriptor, so that what is
//! marked is what was looked at, whatever is renamed meanwhile.

mod detached;
mod handle;
mod stat;

pub use detached::DetachedMount;
use handle::fsid_of;
pub use handle::{HandleBuffer, open_by_handle};
pub use stat::{Kind, Stat};

use super::envoy::{Envoy, SILENT};
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
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    pub device: u64,
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
    stat: Stat,
    /// Who looks, where this process must not.
    envoy: Option<Rc<Envoy>>,
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
        if let Some(envoy) = &self.envoy {
            return envoy.entry(self, name);
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Self::held(openat(&self.fd, OsStr::from_bytes(name), flags, Mode::empty())?)
    }

    fn held(fd: OwnedFd) -> Result<Self, Errno> {
        Ok(Self { stat: Stat::of(fd.as_fd())?, fd, envoy: None })
    }

    /// What a descriptor that is open already refers to; gives it back where that
    /// cannot be told. No file system's server is asked: it could be who waits.
    pub fn of(fd: OwnedFd) -> Result<Self, (OwnedFd, Errno)> {
        match Stat::cached(fd.as_fd()) {
            Ok(stat) => Ok(Self { fd, stat, envoy: None }),
            Err(errno) => Err((fd, errno)),
        }
    }

    /// What an envoy has opened, and looks at from now on.
    pub(super) fn seen_by(fd: OwnedFd, stat: Stat, envoy: Rc<Envoy>) -> Self {
        Self { fd, stat, envoy: Some(envoy) }
    }

    /// Whether this envoy looks at it.
    pub fn is_seen_by(&self, envoy: &Rc<Envoy>) -> bool {
        self.envoy.as_ref().is_some_and(|own| Rc::ptr_eq(own, envoy))
    }

    /// Who has to look at it in place of this process.
    pub(super) fn envoy(&self) -> Option<&Envoy> {
        self.envoy.as_deref()
    }

    /// What was seen when it was opened.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Whether size and times are what they were when this was opened.
    pub fn is_unchanged(&self) -> bool {
        Stat::cached(self.fd.as_fd()).is_ok_and(|now| {
            now.size() == self.stat.size()
                && now.changed() == self.stat.changed()
                && now.modified() == self.stat.modified()
        })
    }

    /// The bytes of a `file_handle` by which [`open_by_handle`] finds it again; an
    /// error where the file system has none.
    pub fn lasting_handle(&self) -> Result<Box<[u8]>, Errno> {
        let mut room = HandleBuffer::default();
        room.ask(self.fd.as_fd(), 0)?;
        Handle::from_prefix(self.own_fs(), room.bytes())
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
        let (device, number) = self.stat.numbers();
        Inode { device, number }
    }

    /// Whether it is the kernel's own, such as `/proc`, in which nothing may be held up.
    pub fn is_of_kernel(&self) -> bool {
        nix::sys::statfs::fstatfs(&self.fd).is_ok_and(|fs| KERNEL_FS.contains(&fs.filesystem_type()))
    }

    pub fn kind(&self) -> Kind {
        self.stat.kind()
    }

    /// Where a symbolic link points.
    pub fn target(&self) -> Result<Vec<u8>, Errno> {
        match &self.envoy {
            Some(envoy) => envoy.target(self),
            None => readlinkat(&self.fd, "").map(OsStringExt::into_vec),
        }
    }

    /// A path that leads to what this descriptor holds; none for a directory,
    /// where `.` does.
    pub(super) fn link(&self) -> Option<CString> {
        if self.kind() == Kind::Directory {
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
        let fs = match &self.envoy {
            Some(envoy) => envoy.handle(self, out)?,
            None => out.ask_for_both(self.fd.as_fd())?,
        };
        Handle::from_prefix(fs.or(self.own_fs()), out.bytes()).ok_or(Errno::EOVERFLOW)
    }

    /// Its file system: the same for all objects in it, which the device of an overlay's is not.
    pub fn fs(&self) -> FsId {
        fsid_of(self.fd.as_fd()).unwrap_or_default().or(self.own_fs())
    }

    /// Tells its file system from others where it has no id: by its device.
    fn own_fs(&self) -> FsId {
        FsId(self.inode().device | 1 << 63)
    }

    /// Whether its file system has no id, so that it needs a group of its own.
    pub fn is_on_nameless(handle: Handle<'_>) -> bool {
        handle.fs.0 >> 63 == 1 && u32::try_from(handle.fs.0 & !(1 << 63)).is_ok()
    }

    /// The names and kinds of a directory's entries, without `.` and `..`.
    pub fn entries(&self) -> Result<Vec<DirEntry>, Errno> {
        let mut entries = Vec::new();
        match &self.envoy {
            Some(envoy) => envoy.entries(self, |name, kind| entries.push((name.into(), kind)))?,
            None => self.each_entry(|name, kind| entries.push((name.into(), kind)))?,
        }
        Ok(entries)
    }

    /// As [`Object::entries`], each as soon as it is known.
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

    /// Whether a regular file is complete under its name: nobody has it open for
    /// writing. `None` where that cannot be told.
    ///
    /// A read lease (fcntl(2), `F_SETLEASE`) can be had only while nobody has the
    /// file open for writing. It is given back at once. File systems that may block
    /// or know no leases are asked for a second hard link instead: a file that is
    /// still being made has one name.
    pub fn is_complete(&self) -> Option<bool> {
        if self.kind() != Kind::File {
            return None;
        }
        if self.stat.links() > 1 {
            return Some(true);
        }
        match self.envoy.as_ref().map_or_else(|| self.lease(), |envoy| envoy.lease(self)) {
            Ok(is_to_be_had) => Some(is_to_be_had),
            // Nothing can be told of it now.
            Err(SILENT) => Some(false),
            Err(_) => None,
        }
    }

    /// Whether a read lease can be had.
    pub(super) fn lease(&self) -> Result<bool, Errno> {
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

/// Tells the paths of open descriptors, of which one walk through `/proc` is the dearest part.
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
