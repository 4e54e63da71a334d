//! The table of mounts. Mounts come and go without an event, and marks go with them. So the
//! table is read again whenever the kernel reports a change (proc(5), poll of
//! `/proc/self/mountinfo`).

use crate::kernel::mounts::{self, unescape};
use crate::kernel::record::FsId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How late file times may be. The kernel takes them from its coarse clock.
pub(super) const CLOCK_SLACK: Duration = Duration::from_millis(20);

const TABLE: &str = "/proc/self/mountinfo";

/// One mount, from a line of `proc_pid_mountinfo(5)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mount {
    /// Its number, the number of its parent mount, and its device.
    identity: [Vec<u8>; 3],
    /// The path of the mount point.
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

    /// What a file system without an id has for one.
    pub(super) fn device(&self) -> FsId {
        let numbers = str::from_utf8(&self.identity[2]).ok().and_then(|device| device.split_once(':'));
        let number = |text: &str| text.parse().unwrap_or_default();
        let (major, minor) = numbers.map_or((0, 0), |(major, minor)| (number(major), number(minor)));
        FsId::of_device(nix::libc::makedev(major, minor))
    }

    /// Whether it depends on a server, see [`mounts::is_served`].
    pub(super) fn is_served(&self) -> bool {
        mounts::is_served(&self.kind, &self.identity[2])
    }
}

/// The table of mounts, as it was last read.
#[derive(Debug)]
pub(super) struct MountTable {
    file: File,
    /// Opened a second time, because a poll of one open file reports each change once.
    sentinel: File,
    seen: BTreeSet<Mount>,
    points: BTreeSet<Vec<u8>>,
}

impl MountTable {
    /// Reads the present table.
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

    /// All mounts of the table.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Mount> + Clone {
        self.seen.iter()
    }

    /// Reads the table again.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        let now: BTreeSet<Mount> = text.split(|b| *b == b'\n').filter_map(Mount::parse).collect();
        let before = std::mem::replace(&mut self.seen, now);
        self.points = before.into_iter().chain(self.seen.iter().cloned()).map(|mount| mount.point).collect();
        Ok(())
    }

    /// The mount points of now and of the time before [`MountTable::refresh`], the upper ones
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
