//! Mounts come and go without an event, and take marks along: the table of mounts
//! is compared whenever the kernel says that it has changed (proc(5), poll of
//! `/proc/self/mountinfo`).

use super::Watch;
use super::resolve::News;
use super::tree::{NodeId, ROOT};
use crate::kernel::mounts::unescape;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

/// The kernel's coarse clock, which file times are taken from, may be this late.
pub(super) const CLOCK_SLACK: Duration = Duration::from_millis(20);

/// One mount: its line's first three fields, and where it is.
type Mount = (Vec<u8>, Vec<u8>);

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

    /// Where something was mounted or unmounted since the last call.
    fn changes(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        let now: BTreeSet<Mount> = text.split(|b| *b == b'\n').filter_map(parse).collect();
        let mut points: Vec<_> =
            now.symmetric_difference(&self.seen).map(|(_, point)| point.clone()).collect();
        points.sort();
        points.dedup();
        self.seen = now;
        Ok(points)
    }
}

/// `36 35 98:0 /root /mount/point ...`
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let identity = [fields.next()?, fields.next()?, fields.next()?].join(&b' ');
    let point = unescape(fields.nth(1)?);
    Some((identity, point))
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
        for point in self.mounts.changes()? {
            tracing::debug!(path = %facron_proto::Text(point.clone()), "mounts changed");
            self.on_mount(&point, News { own: false, since: since.or(Some(now)) });
        }
        Ok(())
    }

    fn on_mount(&mut self, point: &[u8], news: News) {
        let mut parent = ROOT;
        let mut names = point.split(|b| *b == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            let node = self.tree.child(parent, name);
            if names.peek().is_none() {
                return self.remount(parent, name, node, news);
            }
            let Some(node) = node else { return };
            parent = node;
        }
    }

    fn remount(&mut self, parent: NodeId, name: &[u8], node: Option<NodeId>, news: News) {
        if let Some(node) = node
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
        assert_eq!(parse(line), Some((b"36 35 98:0".to_vec(), br"/mnt/a b\c".to_vec())));
        assert_eq!(parse(b""), None);
    }
}
