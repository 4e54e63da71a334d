//! A file as a copy on another file system: whole, and with all that it has.

use super::reason::create;
use crate::kernel::object::copy_attributes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, copy_file_range, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fchmod, fstat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, symlinkat, unlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

/// How much is copied at once.
const PART: usize = 4 << 20;
const BUFFER: usize = 256 << 10;

/// Copies what a descriptor holds to a new name, and writes it to the disk.
///
/// # Errors
/// `EINVAL` if it is neither a file nor a link.
pub(super) fn copy(
    held: &OwnedFd,
    dir: &OwnedFd,
    name: &OsStr,
    go_on: &mut dyn FnMut(),
) -> Result<(), Errno> {
    let stat = fstat(held)?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => copy_file(held, &stat, dir, name, go_on),
        libc::S_IFLNK => copy_link(held, &stat, dir, name),
        _ => Err(Errno::EINVAL),
    }
}

fn copy_file(
    held: &OwnedFd,
    stat: &FileStat,
    dir: &OwnedFd,
    name: &OsStr,
    go_on: &mut dyn FnMut(),
) -> Result<(), Errno> {
    let from = reopen(held)?;
    let to = create(dir, name, 0o600)?;
    copy_content(&from, &to, go_on)?;
    let is_its_owner = fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    // Nobody gets rights by it that the owner has not given.
    let kept = if is_its_owner.is_ok() { 0o7777 } else { 0o777 };
    fchmod(&to, Mode::from_bits_truncate(stat.st_mode & kept))?;
    copy_attributes(&from, &to)?;
    let [accessed, modified] = times(stat);
    futimens(&to, &accessed, &modified)?;
    fsync(&to)
}

fn copy_link(held: &OwnedFd, stat: &FileStat, dir: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    symlinkat(&*readlinkat(held, "")?, dir, name)?;
    let [accessed, modified] = times(stat);
    utimensat(dir, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
}

fn times(stat: &FileStat) -> [TimeSpec; 2] {
    [TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)]
}

fn reopen(held: &OwnedFd) -> Result<OwnedFd, Errno> {
    let link = format!("/proc/self/fd/{}", held.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    nix::fcntl::open(link.as_str(), flags, Mode::empty())
}

fn copy_content(from: &OwnedFd, to: &OwnedFd, go_on: &mut dyn FnMut()) -> Result<(), Errno> {
    let mut copied = 0;
    loop {
        go_on();
        match copy_file_range(from, None, to, None, PART) {
            Ok(0) if copied > 0 => return Ok(()),
            // Files of the kernel, and some of FUSE, end at once; reading tells.
            Ok(0) | Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) if copied == 0 => {
                break;
            }
            Err(Errno::EINTR) => {}
            result => copied += result?,
        }
    }
    let [mut from, mut to] = [from, to].map(|fd| fd.try_clone().map(File::from).map_err(|_| Errno::EMFILE));
    let (from, to) = (from.as_mut().map_err(|errno| *errno)?, to.as_mut().map_err(|errno| *errno)?);
    let mut buffer = vec![0; BUFFER];
    loop {
        go_on();
        let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
        match from.read(&mut buffer).map_err(errno) {
            Ok(0) => return Ok(()),
            Err(Errno::EINTR) => {}
            length => to.write_all(&buffer[..length?]).map_err(errno)?,
        }
    }
}
