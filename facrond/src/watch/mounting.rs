//! Mounts that come, go and move, with their mount points.
//!
//! The kernel reports the number of a mount. Its mount point can be asked for while it is
//! attached. For a mount that is detached, it must have been remembered.

use crate::events::Events;
use crate::kernel::fanotify::Group;
use crate::kernel::mounts::{self, MountPoint};
use nix::errno::Errno;
use rustc_hash::FxHashMap;

/// The events about mounts.
pub const MOUNTING: Events = Events::MNT_ATTACH.with(Events::MNT_DETACH);

/// A mount has come, gone, or moved if it has both places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The old mount point, if it was attached before.
    pub from: Option<MountPoint>,
    /// The new mount point, if it is attached now.
    pub to: Option<MountPoint>,
}

/// The mounts in the namespace of this process.
#[derive(Debug)]
pub struct Mounting {
    /// The group that reports changes.
    pub group: Group,
    points: FxHashMap<u64, MountPoint>,
}

impl Mounting {
    /// Opens the group, and reads the present mounts.
    pub fn open() -> Result<Self, Errno> {
        let group = Group::for_mounts(MOUNTING.mask())?;
        let mut mounting = Self { group, points: FxHashMap::default() };
        mounting.look_at_all()?;
        Ok(mounting)
    }

    /// Reads all present mounts again.
    pub fn look_at_all(&mut self) -> Result<(), Errno> {
        let points = mounts::all()?.into_iter().filter_map(|id| Some((id, mounts::mount_point(id).ok()?)));
        self.points = points.collect();
        Ok(())
    }

    /// The change that a record reports. `None` if the mount came and went before its mount
    /// point could be asked for.
    pub fn on_record(&mut self, events: Events, mount: u64) -> Option<Change> {
        let from = self.points.get(&mount).cloned();
        if !events.contains(Events::MNT_ATTACH) {
            self.points.remove(&mount);
            return from.map(|from| Change { from: Some(from), to: None });
        }
        let to = mounts::mount_point(mount).ok();
        if let Some(to) = &to {
            self.points.insert(mount, to.clone());
        }
        if !events.contains(Events::MNT_DETACH) {
            return to.map(|to| Change { from: None, to: Some(to) });
        }
        // Mounts below it have moved too, without a record.
        if let Err(errno) = self.look_at_all() {
            tracing::error!(error = errno.desc(), "cannot list the mounts");
        }
        (from.is_some() || to.is_some()).then_some(Change { from, to })
    }
}
