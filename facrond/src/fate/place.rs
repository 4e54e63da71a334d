//! Directories by descriptor, never through links, and free names in them.

use super::Identity;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Files on their way have names that begin so.
const TEMPORARY: &str = ".facron-";

/// The same of their reasons end so.
const REASON: &str = "-reason";

/// The longest name, in bytes.
const NAME_MAX: usize = 255;

/// Whether a name is one that movers give to files on their way: two numbers and a third one, as
/// [`Order::tag`](super::Order) has them.
pub(crate) fn is_temporary(path: &[u8]) -> bool {
    let Some(tag) = crate::matcher::file_name(path).strip_prefix(TEMPORARY.as_bytes()) else { return false };
    let numbers: Vec<_> =
        tag.strip_suffix(REASON.as_bytes()).unwrap_or(tag).split(|byte| *byte == b'-').collect();
    numbers.len() == 3
        && numbers.iter().all(|number| !number.is_empty() && number.iter().all(u8::is_ascii_hexdigit))
}

pub(super) fn temporary(tag: &str) -> OsString {
    OsString::from(format!("{TEMPORARY}{tag}"))
}

pub(super) fn temporary_reason(tag: &str) -> OsString {
    OsString::from(format!("{TEMPORARY}{tag}{REASON}"))
}

/// Opens a directory, but not for reading. Links are refused.
fn open(dir: impl AsFd, path: &OsStr) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(dir, path, how)
}

/// A directory, and a name in it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) dir: OwnedFd,
    pub(super) name: OsString,
}

impl Entry {
    /// Opens the directory of an absolute path.
    pub(super) fn of(path: &[u8]) -> Result<Self, Errno> {
        let path = Path::new(OsStr::from_bytes(path));
        let (dir, name) = path.parent().zip(path.file_name()).ok_or(Errno::EISDIR)?;
        Ok(Self { dir: open(AT_FDCWD, dir.as_os_str())?, name: name.to_owned() })
    }

    /// What is there now, without following a link.
    pub(super) fn stat(&self) -> Result<FileStat, Errno> {
        stat(&self.dir, &self.name)
    }

    /// Holds what is there, without opening it.
    pub(super) fn hold(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        nix::fcntl::openat(&self.dir, &*self.name, flags, Mode::empty())
    }
}

pub(super) fn stat(dir: &OwnedFd, name: &OsStr) -> Result<FileStat, Errno> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// What is under a name, if there is something.
pub(super) fn look(dir: &OwnedFd, name: &OsStr) -> Result<Option<Identity>, Errno> {
    match stat(dir, name) {
        Ok(stat) => Ok(Some(Identity::of(&stat))),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens a directory, and makes what is missing of it.
pub(super) fn make(path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut dir = open(AT_FDCWD, OsStr::new("/"))?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        dir = match open(&dir, name) {
            Err(Errno::ENOENT) => {
                match mkdirat(&dir, name, Mode::from_bits_truncate(0o777)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
                open(&dir, name)?
            }
            opened => opened?,
        };
    }
    Ok(dir)
}

/// Writes the entries of a directory to its disk, where its user may.
pub(super) fn sync(dir: &OwnedFd) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    if let Ok(dir) = nix::fcntl::openat(dir, ".", flags, Mode::empty()) {
        // Without it a power failure may bring the old name back, with the same content.
        let _ = nix::unistd::fsync(&dir);
    }
}

/// `NAME`, `NAME.1`, `NAME.2` and so on; shortened where that would be too long.
pub(super) fn numbered(name: &OsStr, number: u32) -> OsString {
    let suffix = if number == 0 { String::new() } else { format!(".{number}") };
    with_suffix(name, &suffix)
}

pub(super) fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let mut name = without_end(name, suffix.len());
    name.push(suffix);
    name
}

/// The beginning of a name, so short that this many bytes fit behind it.
pub(super) fn without_end(name: &OsStr, room: usize) -> OsString {
    let name = name.as_bytes();
    OsString::from_vec(name[..name.len().min(NAME_MAX - room)].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_are_numbered_and_stay_short_enough() {
        let name = OsStr::new("report.csv");
        assert_eq!(
            [0, 1, 12].map(|number| numbered(name, number)),
            ["report.csv", "report.csv.1", "report.csv.12"]
        );
        let long = "n".repeat(NAME_MAX);
        assert_eq!(numbered(OsStr::new(&long), 7).len(), NAME_MAX);
        assert!(with_suffix(OsStr::new(&long), ".facron").as_bytes().ends_with(b"n.facron"));
    }

    #[test]
    fn only_names_of_movers_are_temporary() {
        for name in [temporary("18ab-7-0"), temporary_reason("18ab-7-0")] {
            assert!(is_temporary(&[b"/srv/in/", name.as_bytes()].concat()), "{name:?}");
        }
        for name in ["/srv/in/.facron-notes", "/srv/in/.facron-1-2", "/srv/.facron-1-2-3/file", "/srv/file"] {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn directories_are_made_and_links_are_not_followed() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name).into_os_string().into_vec();
        drop((make(&path("a/b/c")).unwrap(), make(&path("a/b/c")).unwrap()));
        assert!(top.path().join("a/b/c").is_dir());
        std::os::unix::fs::symlink("a", top.path().join("link")).unwrap();
        assert_eq!(make(&path("link/b")).unwrap_err(), Errno::ELOOP);
        assert_eq!(make(&path("link")).unwrap_err(), Errno::ELOOP);
        assert_eq!(Entry::of(&path("link/b")).unwrap_err(), Errno::ELOOP);
        fs::write(top.path().join("file"), "").unwrap();
        assert_eq!(make(&path("file")).unwrap_err(), Errno::ENOTDIR);
    }
}
