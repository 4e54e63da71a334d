//! A file as a copy on another file system: whole, and with all that it has.

use super::reason::create;
use crate::kernel::object::copy_attributes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, copy_file_range, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fchmod, fstat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, Whence, fchown, fdatasync, fsync, ftruncate, lseek, symlinkat, unlinkat,
};
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};

/// How much is copied at once.
const PART: usize = 4 << 20;
const BUFFER: usize = 256 << 10;

/// How much is written before it has to be on the disk.
const SYNCED: i64 = 16 << 20;

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
    copy_content(&from, &to, stat.st_size, go_on)?;
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

fn copy_content(from: &OwnedFd, to: &OwnedFd, size: i64, go_on: &mut dyn FnMut()) -> Result<(), Errno> {
    let (mut at, mut unsynced) = (0, 0);
    while let Some((mut begin, end)) = next_data(from, at, size)? {
        while begin < end {
            let copied = copy_part(from, to, begin, end)?;
            if copied == 0 {
                break;
            }
            (begin, unsynced) = (begin + copied, unsynced + copied);
            if unsynced >= SYNCED {
                // The disk gets it in parts, so that it is known that it goes on.
                fdatasync(to)?;
                unsynced = 0;
            }
            go_on();
        }
        at = begin;
        if begin < end {
            break;
        }
    }
    // What is behind the last data is a hole.
    ftruncate(to, size.max(at))
}

/// The next part of a file that is no hole, from its begin to its end.
fn next_data(file: &OwnedFd, at: i64, size: i64) -> Result<Option<(i64, i64)>, Errno> {
    if at >= size && at > 0 {
        return Ok(None);
    }
    match lseek(file, at, Whence::SeekData) {
        Ok(begin) => Ok(Some((begin, lseek(file, begin, Whence::SeekHole)?))),
        Err(Errno::ENXIO) if size > 0 => Ok(None),
        // Not all file systems know their holes, and files of the kernel not their size.
        Err(Errno::ENXIO | Errno::EINVAL | Errno::EOPNOTSUPP) => {
            Ok(Some((at, if size > 0 { size } else { i64::MAX })))
        }
        Err(errno) => Err(errno),
    }
}

/// Copies some bytes; returns how many. There are none at the end of the file.
fn copy_part(from: &OwnedFd, to: &OwnedFd, begin: i64, end: i64) -> Result<i64, Errno> {
    let length = usize::try_from(end - begin).unwrap_or(usize::MAX);
    let (mut here, mut there) = (begin, begin);
    match copy_file_range(from, Some(&mut here), to, Some(&mut there), length.min(PART)) {
        // Files of the kernel, and some of FUSE, end at once; reading tells.
        Ok(0) | Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {}
        Err(Errno::EINTR) => return copy_part(from, to, begin, end),
        copied => return copied.map(|copied| i64::try_from(copied).unwrap_or_default()),
    }
    let mut buffer = vec![0; length.min(BUFFER)];
    let read = pread(from, &mut buffer, begin)?;
    let mut written = 0;
    while written < read {
        let at = begin + i64::try_from(written).unwrap_or_default();
        written += pwrite(to, &buffer[written..read], at)?;
    }
    Ok(i64::try_from(read).unwrap_or_default())
}
