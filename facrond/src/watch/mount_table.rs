//! Mounts come and go without an event, and take marks along: the table of mounts
//! is compared whenever the kernel says that it has changed (proc(5), poll of
//! `/proc/self/mountinfo`).

use crate::kernel::mounts::{self, unescape};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The kernel's coarse clock, which file times are taken from, may be this late.
pub(super) const CLOCK_SLACK: Duration = Duration::from_millis(20);

const TABLE: &str = "/proc/self/mountinfo";

/// One mount, as a line of `proc_pid_mountinfo(5)` has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mount {
    /// Its number, that of the mount it is on, and the device.
    identity: [Vec<u8>; 3],
    /// Where it is.
    pub point: Vec<u8>,
    /// The type of its file system.
    pub kind: String,
}

impl Mount {
    /// `36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 ...`
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|b| *b == b' ');
        let mut next = || fields.next().map(<[u8]>::to_vec);
        let identity = [next()?, next()?, next()?];
        let point = unescape(fields.nth(1)?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Self { identity, point, kind: String::from_utf8_lossy(kind).into_owned() })
    }

    /// As [`mounts::is_served`].
    pub(super) fn is_served(&self) -> bool {
        mounts::is_served(&self.kind, &self.identity[2])
    }
}

/// The table of mounts as last seen.
#[derive(Debug)]
pub(super) struct MountTable {
    file: File,
    /// Opened for itself: who polls it is told of each change once.
    sentinel: File,
    seen: BTreeSet<Mount>,
    points: BTreeSet<Vec<u8>>,
}

impl MountTable {
    /// As it is now.
    pub(super) fn read() -> io::Result<Self> {
        let [file, sentinel] = [File::open(TABLE)?, File::open(TABLE)?];
        let mut mounts = Self { file, sentinel, seen: BTreeSet::new(), points: BTreeSet::new() };
        mounts.refresh()?;
        Ok(mounts)
    }

    /// Whether it has changed since the last call.
    pub(super) fn has_changed(&self) -> bool {
        let mut polled = [PollFd::new(self.sentinel.as_fd(), PollFlags::POLLPRI)];
        poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Mount> + Clone {
        self.seen.iter()
    }

    /// Reads it again.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        let now: BTreeSet<Mount> = text.split(|b| *b == b'\n').filter_map(Mount::parse).collect();
        let before = std::mem::replace(&mut self.seen, now);
        self.points = before.into_iter().chain(self.seen.iter().cloned()).map(|mount| mount.point).collect();
        Ok(())
    }

    /// Where something is mounted, or was before [`MountTable::refresh`]; the upper ones
    /// first.
    pub(super) fn take_points(&mut self) -> BTreeSet<Vec<u8>> {
        std::mem::take(&mut self.points)
    }
}

impl AsFd for MountTable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let line = br"36 35 98:0 / /mnt/a\040b\134c rw,noatime shared:1 - ext4 /dev/x rw";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((&*mount.point, &*mount.kind), (&br"/mnt/a b\c"[..], "ext4"));
        assert_eq!(Mount::parse(b""), None);
    }
}
