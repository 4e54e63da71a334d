//! `NAME.facron` beside a failed file: what its command has left behind.
//!
//! It is there before the file is, so that no failed file is ever without it. It appears under
//! its name at once and whole.

use super::place::{temporary_reason, with_suffix, without_end};
use super::settle::rename;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mode_t};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

pub(super) const SUFFIX: &str = ".facron";

/// The name of a file, so short that its number and the name of its reason fit behind it.
pub(super) fn with_room(name: &OsStr) -> OsString {
    const NUMBER: &str = ".100000";
    without_end(name, NUMBER.len() + SUFFIX.len())
}

/// A reason that stands beside the place of a file.
#[derive(Debug)]
pub(super) struct Reason<'d> {
    dir: &'d OwnedFd,
    name: OsString,
}

impl<'d> Reason<'d> {
    /// Writes it for a file of this name; `EEXIST` if there is already one, for another file.
    /// `mode` is that of the file.
    pub(super) fn write(
        dir: &'d OwnedFd,
        file: &OsStr,
        text: &str,
        (tag, mode): (&str, mode_t),
    ) -> Result<Self, Errno> {
        let reason = Self { dir, name: with_suffix(file, SUFFIX) };
        if reason.has(text)? {
            return Ok(reason);
        }
        let on_its_way = temporary_reason(tag);
        let put = make(dir, &on_its_way, text, mode & 0o666)
            .and_then(|()| rename(dir, &on_its_way, dir, &reason.name));
        if put.is_err() {
            // The next order with this tag would remove it.
            let _ = unlinkat(dir, &*on_its_way, UnlinkatFlags::NoRemoveDir);
        }
        put.map(|()| reason)
    }

    /// Whether an earlier attempt at the same has written it.
    fn has(&self, text: &str) -> Result<bool, Errno> {
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = match openat(self.dir, &*self.name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(false),
            opened => opened.map_err(|_| Errno::EEXIST)?,
        };
        let mut found = Vec::new();
        let most = u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_add(1);
        let is_read = File::from(file).take(most).read_to_end(&mut found).is_ok();
        if is_read && found == text.as_bytes() { Ok(true) } else { Err(Errno::EEXIST) }
    }

    /// The file did not come.
    pub(super) fn remove(self) {
        // A reason without a file does no harm.
        let _ = unlinkat(self.dir, &*self.name, UnlinkatFlags::NoRemoveDir);
    }
}

/// Makes a file with this text, in place of one that an earlier attempt has left.
fn make(dir: &OwnedFd, name: &OsStr, text: &str, mode: mode_t) -> Result<(), Errno> {
    let mut file = File::from(create(dir, name, mode)?);
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(errno)
}

pub(super) fn create(dir: &OwnedFd, name: &OsStr, mode: mode_t) -> Result<OwnedFd, Errno> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::from_bits_truncate(mode))
}
