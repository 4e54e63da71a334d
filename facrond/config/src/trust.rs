//! Whether others could change a file or directory: who owns it, who may write it, and who may
//! exchange it in one of the directories above.
//!
//! The rules are those for crontabs. Root and the user of this process are trusted, and nobody
//! else. A directory above may be writable by all if it is sticky, like `/tmp`: then only the
//! owner of an entry can exchange the entry.

use super::diagnostic::show_path;
use crate::route::{Route, Start};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Group, Uid, User, geteuid};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The permission to write for everybody, and for the group.
const ALL: u32 = 0o002;
const GROUP: u32 = 0o020;
const STICKY: u32 = 0o1000;

/// Opens a directory or a link itself, whatever its permissions.
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The users who may change what this process relies on.
#[derive(Clone, Debug)]
pub struct Trust(Vec<Uid>);

/// Who may write a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Trusted users only.
    Trusted,
    /// All, if it is sticky.
    AllIfSticky,
}

/// What to do where a directory does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Fail,
    /// Make it, with mode 0755.
    Make,
}

/// A file or directory that others could change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Untrusted {
    path: PathBuf,
    uid: Uid,
    gid: Gid,
    mode: u32,
    is_foreign: bool,
}

/// Why a path is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("others could change it: {0}")]
    Untrusted(#[from] Untrusted),
    #[error("{}", .0.desc())]
    Io(#[from] Errno),
}

impl Untrusted {
    /// What to do about it.
    pub fn help(&self) -> String {
        let path = show_path(&self.path);
        if self.is_foreign { format!("`chown root {path}`") } else { format!("`chmod go-w {path}`") }
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = show_path(&self.path);
        let mode = self.mode & 0o7777;
        let owner = User::from_uid(self.uid).ok().flatten().map_or(self.uid.to_string(), |user| user.name);
        if self.is_foreign {
            return write!(f, "`{path}` belongs to {owner} (mode {mode:04o})");
        }
        if mode & ALL != 0 {
            write!(f, "everybody can write")?;
        } else {
            let group = Group::from_gid(self.gid).ok().flatten();
            let group = group.map_or(self.gid.to_string(), |group| group.name);
            write!(f, "the group {group} can write")?;
        }
        write!(f, " `{path}` (owner {owner}, mode {mode:04o})")
    }
}

impl Trust {
    /// Root, and the effective user of this process.
    pub fn own() -> Self {
        Self(vec![Uid::from_raw(0), geteuid()])
    }

    /// One more user.
    #[must_use]
    pub fn and(mut self, uid: Option<u32>) -> Self {
        self.0.extend(uid.map(Uid::from_raw));
        self
    }

    /// Checks a file, with all that leads to it. `opened` is the status of the file if it is
    /// open already.
    pub fn file(&self, path: &Path, opened: Option<&FileStat>) -> Result<(), Refusal> {
        let mut walk = Walk::begin(self)?;
        walk.go(path, Missing::Fail)?;
        self.allows(&walk.path, opened.unwrap_or(&walk.stat))?;
        self.allows(&walk.above.0, &walk.above.1).map_err(Refusal::from)
    }

    /// Opens a directory (`O_PATH`) after a check of it and of all that leads to it.
    pub fn directory(&self, path: &Path, writers: Writers, missing: Missing) -> Result<OwnedFd, Refusal> {
        let mut walk = Walk::begin(self)?;
        walk.go(path, missing)?;
        if kind(&walk.stat) != SFlag::S_IFDIR {
            return Err(Errno::ENOTDIR.into());
        }
        if writers == Writers::Trusted {
            self.allows(&walk.path, &walk.stat)?;
        }
        Ok(walk.directory)
    }

    /// Whether only trusted users own and write it.
    pub fn allows(&self, path: &Path, stat: &FileStat) -> Result<(), Untrusted> {
        let is_written = stat.st_mode & ALL != 0
            || stat.st_mode & GROUP != 0 && !self.is_group_of_one(Gid::from_raw(stat.st_gid));
        self.refuse_if(is_written, path, stat)
    }

    /// The same for a directory that leads to it.
    fn allows_way(&self, path: &Path, stat: &FileStat) -> Result<(), Untrusted> {
        if stat.st_mode & STICKY == 0 { self.allows(path, stat) } else { self.refuse_if(false, path, stat) }
    }

    fn refuse_if(&self, is_written: bool, path: &Path, stat: &FileStat) -> Result<(), Untrusted> {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        let is_foreign = !self.0.contains(&uid);
        if !is_foreign && !is_written {
            return Ok(());
        }
        Err(Untrusted { path: path.to_owned(), uid, gid, mode: stat.st_mode, is_foreign })
    }

    /// Whether a group is root's, or has a trusted user as its only member: many systems give
    /// each user a group of the same name.
    fn is_group_of_one(&self, gid: Gid) -> bool {
        let is_own = |uid: &Uid| {
            let user = User::from_uid(*uid).ok().flatten().filter(|user| user.gid == gid)?;
            let group = Group::from_gid(gid).ok().flatten().filter(|group| group.name == user.name)?;
            Some(group.mem.iter().all(|member| *member == user.name))
        };
        gid.as_raw() == 0 || self.0.iter().any(|uid| is_own(uid).unwrap_or(false))
    }
}

/// A walk along a path. Each directory is opened in the one before and checked, so that the
/// check is about the directories that were walked.
struct Walk<'t> {
    trust: &'t Trust,
    /// The directory that was reached.
    directory: OwnedFd,
    /// The file or directory that was reached: its path without links, and its status.
    path: PathBuf,
    stat: FileStat,
    /// The directory of it.
    above: (PathBuf, FileStat),
}

impl<'t> Walk<'t> {
    fn begin(trust: &'t Trust) -> Result<Self, Refusal> {
        let (directory, stat) = look(AT_FDCWD, OsStr::new("/"))?;
        let root = PathBuf::from("/");
        trust.allows_way(&root, &stat)?;
        Ok(Self { trust, directory, path: root.clone(), stat, above: (root, stat) })
    }

    fn go(&mut self, path: &Path, missing: Missing) -> Result<(), Refusal> {
        let path = std::path::absolute(path).map_err(|_| Errno::ENOENT)?;
        let mut route = Route::new(path.as_os_str().as_bytes());
        while let Some(name) = route.next() {
            if kind(&self.stat) != SFlag::S_IFDIR {
                return Err(Errno::ENOTDIR.into());
            }
            let name = OsString::from_vec(name.into());
            let (entry, stat) = match look(&self.directory, &name) {
                Err(Errno::ENOENT) if missing == Missing::Make => self.make(&name)?,
                found => found?,
            };
            let path = if name == ".." {
                self.path.parent().unwrap_or(Path::new("/")).to_owned()
            } else {
                self.path.join(&name)
            };
            if kind(&stat) == SFlag::S_IFLNK {
                self.follow(&entry, &path, &stat, &mut route)?;
                continue;
            }
            self.above = (std::mem::replace(&mut self.path, path), self.stat);
            self.stat = stat;
            if kind(&stat) == SFlag::S_IFDIR {
                self.trust.allows_way(&self.path, &stat)?;
                self.directory = entry;
            }
        }
        Ok(())
    }

    /// Goes on with the target of a link.
    fn follow(
        &mut self,
        link: &OwnedFd,
        path: &Path,
        stat: &FileStat,
        route: &mut Route,
    ) -> Result<(), Refusal> {
        if self.stat.st_mode & STICKY != 0 {
            // Its owner could make another one in its place.
            self.trust.refuse_if(false, path, stat)?;
        }
        let target = readlinkat(link, "")?;
        if route.follow(target.as_bytes()).ok_or(Errno::ELOOP)? == Start::Root {
            *self = Self::begin(self.trust)?;
        }
        Ok(())
    }

    fn make(&self, name: &OsStr) -> Result<(OwnedFd, FileStat), Errno> {
        let mode = Mode::from_bits_truncate(0o755);
        match mkdirat(&self.directory, name, mode) {
            Ok(()) => {
                // Whatever the umask is.
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                fchmod(openat(&self.directory, name, flags, Mode::empty())?, mode)?;
            }
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        look(&self.directory, name)
    }
}

fn look(directory: impl std::os::fd::AsFd, name: &OsStr) -> Result<(OwnedFd, FileStat), Errno> {
    let entry = openat(directory, name, LOOK, Mode::empty())?;
    let stat = fstat(&entry)?;
    Ok((entry, stat))
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}
