//! Mounts that come, go and move, with the places that they are at.
//!
//! The kernel tells a mount's number. Where it is can be asked while it is
//! attached; of one that is detached it has to be remembered.

use crate::events::Events;
use crate::kernel::fanotify::Group;
use crate::kernel::mounts::{self, MountPoint};
use nix::errno::Errno;
use rustc_hash::FxHashMap;

/// What rules can ask about mounts.
pub const MOUNTING: Events = Events::MNT_ATTACH.with(Events::MNT_DETACH);

/// A mount came, went, or (with both) moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it was.
    pub from: Option<MountPoint>,
    /// Where it is.
    pub to: Option<MountPoint>,
}

/// The mounts of this process's namespace.
#[derive(Debug)]
pub struct Mounting {
    /// Tells of changes.
    pub group: Group,
    points: FxHashMap<u64, MountPoint>,
}

impl Mounting {
    /// Tells of all changes from now on.
    pub fn open() -> Result<Self, Errno> {
        let group = Group::for_mounts(MOUNTING.mask())?;
        let mut mounting = Self { group, points: FxHashMap::default() };
        mounting.look_at_all()?;
        Ok(mounting)
    }

    /// Forgets what it knows and looks anew.
    pub fn look_at_all(&mut self) -> Result<(), Errno> {
        let points = mounts::all()?.into_iter().filter_map(|id| Some((id, mounts::mount_point(id).ok()?)));
        self.points = points.collect();
        Ok(())
    }

    /// What a record means; `None` if its mount came and went before it could be looked at.
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
        // What is mounted on it moved along, untold.
        if let Err(errno) = self.look_at_all() {
            tracing::error!(error = errno.desc(), "cannot list the mounts");
        }
        (from.is_some() || to.is_some()).then_some(Change { from, to })
    }
}
