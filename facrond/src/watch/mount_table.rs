//! The table of mounts. Mounts come and go without an event, and marks go with them. So the
//! table is read again whenever the kernel reports a change (proc(5), poll of
//! `/proc/self/mountinfo`).

use crate::config::mountinfo::{Mount, Mounts};
use crate::kernel::record::FsId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// How late file times may be. The kernel takes them from its coarse clock.
pub(super) const CLOCK_SLACK: Duration = Duration::from_millis(20);

const TABLE: &str = "/proc/self/mountinfo";

/// What a file system without an id has for one.
pub(super) fn device(mount: &Mount) -> FsId {
    let number = |text: &str| text.parse().unwrap_or_default();
    let (major, minor) = mount.device.split_once(':').unwrap_or_default();
    FsId::of_device(nix::libc::makedev(number(major), number(minor)))
}

/// The table of mounts, as it was last read.
#[derive(Debug)]
pub(super) struct MountTable {
    file: File,
    /// Opened a second time, because a poll of one open file reports each change once.
    sentinel: File,
    mounts: Mounts,
    points: BTreeSet<Vec<u8>>,
}

impl MountTable {
    /// Reads the present table.
    pub(super) fn read() -> io::Result<Self> {
        let [file, sentinel] = [File::open(TABLE)?, File::open(TABLE)?];
        let mut mounts = Self { file, sentinel, mounts: Mounts::parse(&[]), points: BTreeSet::new() };
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
        self.mounts.table.iter()
    }

    /// Reads the table again.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        let before = std::mem::replace(&mut self.mounts, Mounts::parse(&text));
        let point = |mount: &Mount| mount.point.as_os_str().as_bytes().to_vec();
        self.points = before.table.iter().chain(&self.mounts.table).map(point).collect();
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
