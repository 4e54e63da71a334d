//! Directories of the daemon's own: for the socket, the saved rules and the saved jobs.
//!
//! The daemon of root must not read or write where others can put files or links of theirs. So
//! a directory is opened once it and all above it are found to be in trusted hands, everything
//! in it is reached by this descriptor, and no link in it is followed. A directory like `/tmp`
//! is good enough: what the daemon makes there, others cannot take away, and what others have
//! made there is refused.

mod lock;

pub use lock::{Lock, LockError, RemovedAtEnd};

use crate::config::trust::{Missing, Refusal, Trust, Untrusted, Writers};
use facron_proto::Text;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Gid, UnlinkatFlags, fchownat, geteuid, unlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What went wrong with a file or directory of ours.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    #[error("{} is not used, because others could change it: {why}; {}", show(.path), .why.help())]
    Untrusted { path: PathBuf, why: Untrusted },
    #[error("cannot {what} {}: {}", show(.path), describe(.error))]
    Io {
        /// What was to be done.
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

impl OwnError {
    pub fn io(what: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        Self::Io { what, path: path.to_owned(), error: error.into() }
    }

    fn of(what: &'static str, path: &Path, refusal: Refusal) -> Self {
        match refusal {
            Refusal::Untrusted(why) => Self::Untrusted { path: path.to_owned(), why },
            Refusal::Io(errno) => Self::io(what, path, errno),
        }
    }

    /// Whether something does not exist.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Without the number of the error.
fn describe(error: &io::Error) -> String {
    let errno = error.raw_os_error().map(Errno::from_raw);
    errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_owned())
}

fn show(path: &Path) -> Text {
    Text::from(path.as_os_str().as_bytes())
}

#[derive(Debug)]
pub struct OwnDir {
    path: PathBuf,
    fd: OwnedFd,
}

impl OwnDir {
    /// Opens a directory, and makes what is missing of it, open to all for reading.
    pub fn make(path: &Path) -> Result<Self, OwnError> {
        Self::open(path, Missing::Make, "make the directory")
    }

    /// Opens a directory if it exists.
    pub fn find(path: &Path) -> Result<Option<Self>, OwnError> {
        match Self::open(path, Missing::Fail, "open") {
            Err(error) if error.is_missing() => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn open(path: &Path, missing: Missing, what: &'static str) -> Result<Self, OwnError> {
        let fd = Trust::own().directory(path, Writers::AllIfSticky, missing);
        let fd = fd.map_err(|refusal| OwnError::of(what, path, refusal))?;
        Ok(Self { path: path.to_owned(), fd })
    }

    /// The path without links, as the kernel knows it.
    pub fn real_path(&self) -> Result<PathBuf, OwnError> {
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        std::fs::read_link(link).map_err(|error| OwnError::io("find", &self.path, error))
    }

    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    fn during<E: Into<io::Error>>(&self, what: &'static str, name: &OsStr) -> impl FnOnce(E) -> OwnError {
        let path = self.path_of(name);
        move |error| OwnError::io(what, &path, error)
    }

    /// Opens a regular file that only trusted users can change. With `O_CREAT` it is for the
    /// user of the daemon only, also if it exists.
    pub fn open_file(&self, name: &OsStr, flags: OFlag) -> Result<File, OwnError> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o600);
        let file = openat(&self.fd, name, flags, mode).map_err(self.during("open", name))?;
        let look = || fstat(&file).map_err(self.during("look at", name));
        let mut stat = look()?;
        // A second name could be of a file of others, or theirs of a file of ours.
        if !is(SFlag::S_IFREG, &stat) || stat.st_nlink > 1 {
            let why = io::Error::other("it is not a regular file with only this name");
            return Err(self.during("open", name)(why));
        }
        if flags.contains(OFlag::O_CREAT) && stat.st_uid == geteuid().as_raw() {
            fchmod(&file, mode).map_err(self.during("set the mode of", name))?;
            stat = look()?;
        }
        let path = self.path_of(name);
        Trust::own().allows(&path, &stat).map_err(|why| OwnError::Untrusted { path, why })?;
        Ok(file.into())
    }

    /// The content of a file; `None` if there is no such file.
    pub fn read(&self, name: &OsStr) -> Result<Option<Vec<u8>>, OwnError> {
        let mut file = match self.open_file(name, OFlag::O_RDONLY) {
            Err(error) if error.is_missing() => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(self.during("read", name))?;
        Ok(Some(bytes))
    }

    /// Puts a new file in the place of the old one, so that a crash leaves one of them.
    pub fn replace(&self, name: &OsStr, bytes: &[u8]) -> Result<(), OwnError> {
        let mut new = name.to_owned();
        new.push(".new");
        self.remove(&new)?;
        let mut file = self.open_file(&new, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(self.during("write", &new))?;
        self.rename(&new, name)?;
        self.sync()
    }

    /// Makes sure that what was made, renamed and removed in it outlives a power failure.
    pub fn sync(&self) -> Result<(), OwnError> {
        let directory = openat(&self.fd, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        directory
            .map_err(io::Error::from)
            .and_then(|fd| File::from(fd).sync_all())
            .map_err(self.during("write", OsStr::new("")))
    }

    pub fn rename(&self, from: &OsStr, to: &OsStr) -> Result<(), OwnError> {
        renameat(&self.fd, from, &self.fd, to).map_err(self.during("write", to))
    }

    /// Removes an entry, if it exists.
    pub fn remove(&self, name: &OsStr) -> Result<(), OwnError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.during("remove", name)(errno)),
        }
    }

    /// The status of an entry, of a link itself; `None` if there is no such entry.
    pub fn stat(&self, name: &OsStr) -> Result<Option<FileStat>, OwnError> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(None),
            stat => stat.map(Some).map_err(self.during("look at", name)),
        }
    }

    /// Gives an entry to a group.
    pub fn give_to_group(&self, name: &OsStr, group: Gid) -> Result<(), OwnError> {
        fchownat(&self.fd, name, None, Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(self.during("change the group of", name))
    }
}

/// Whether it is of this kind.
pub fn is(kind: SFlag, stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}
