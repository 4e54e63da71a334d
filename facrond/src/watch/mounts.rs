//! Mounts come and go without an event, and take marks along: the table of mounts
//! is compared whenever the kernel says that it has changed (proc(5), poll of
//! `/proc/self/mountinfo`).

use super::Watch;
use super::resolve::News;
use super::tree::{NodeId, ROOT};
use crate::kernel::mounts::{self, unescape};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

/// The kernel's coarse clock, which file times are taken from, may be this late.
pub(super) const CLOCK_SLACK: Duration = Duration::from_millis(20);

/// One mount, as a line of `proc_pid_mountinfo(5)` has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// Its number, that of the mount it is on, and the device.
    identity: [Vec<u8>; 3],
    /// Where it is.
    pub point: Vec<u8>,
    /// The type of its file system.
    pub kind: String,
}

impl Mount {
    /// `36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 ...`
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|b| *b == b' ');
        let mut next = || fields.next().map(<[u8]>::to_vec);
        let identity = [next()?, next()?, next()?];
        let point = unescape(fields.nth(1)?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Self { identity, point, kind: String::from_utf8_lossy(kind).into_owned() })
    }

    /// As [`mounts::is_served`].
    pub fn is_served(&self) -> bool {
        mounts::is_served(&self.kind, &self.identity[2])
    }
}

/// The table of mounts as last seen.
#[derive(Debug)]
pub struct Mounts {
    file: File,
    seen: BTreeSet<Mount>,
}

impl Mounts {
    /// As it is now.
    pub fn read() -> io::Result<Self> {
        let mut mounts = Self { file: File::open("/proc/self/mountinfo")?, seen: BTreeSet::new() };
        mounts.changes()?;
        Ok(mounts)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.seen.iter()
    }

    /// Where something was mounted or unmounted since the last call.
    fn changes(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        let now: BTreeSet<Mount> = text.split(|b| *b == b'\n').filter_map(Mount::parse).collect();
        let mut points: Vec<_> =
            now.symmetric_difference(&self.seen).map(|mount| mount.point.clone()).collect();
        points.sort();
        points.dedup();
        self.seen = now;
        Ok(points)
    }
}

impl Watch {
    /// Becomes readable out of band (`POLLPRI`) when mounts change.
    pub fn mounts_fd(&self) -> BorrowedFd<'_> {
        self.mounts.file.as_fd()
    }

    /// Mounts have changed: what rules see at and below those places is looked at
    /// anew. What has been on a mounted file system is no event.
    pub fn on_mounts(&mut self) -> io::Result<()> {
        let now = SystemTime::now();
        let since = self.settled.checked_sub(CLOCK_SLACK);
        let points = self.mounts.changes()?;
        self.served.update(self.mounts.iter());
        for point in points {
            tracing::debug!(path = %facron_proto::Text(point.clone()), "mounts changed");
            self.on_mount(&point, News { own: false, since: since.or(Some(now)) });
        }
        // What did not answer may be gone.
        self.resume();
        self.tell_silence();
        Ok(())
    }

    pub(super) fn on_mount(&mut self, point: &[u8], news: News) {
        let mut parent = ROOT;
        let mut names = point.split(|b| *b == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                return self.remount(parent, name, news);
            }
            let Some(node) = self.tree.child(parent, name) else { return };
            parent = node;
        }
    }

    /// Looks anew at what is at and below a place.
    pub(super) fn remount(&mut self, parent: NodeId, name: &[u8], news: News) {
        if let Some(node) = self.tree.child(parent, name)
            && self.tree[node].anchor.is_some()
        {
            self.touch(node, news);
        }
        self.take_in(parent, name, news);
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
