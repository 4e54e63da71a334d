//! The marks in the kernel: the groups that have them, marks of whole file systems, and
//! all calls that add and remove them.
//!
//! Which mask an inode's mark has is kept beside its handle, in the tree; which it should
//! have is a matter of the rules.

mod file_systems;
mod groups;

pub(super) use file_systems::Noise;

use crate::events::Events;
use crate::kernel::fanotify::Privilege;
use crate::kernel::object::Object;
use crate::kernel::record::{FsId, Handle};
use file_systems::FileSystems;
use groups::Groups;
use nix::errno::Errno;
use std::os::fd::BorrowedFd;

/// Events of which some mark has one and another has not.
const TELLING: [Events; 4] = [Events::ACCESS, Events::OPEN_EXEC, Events::ATTRIB, Events::MODIFY];

/// All groups and their marks.
#[derive(Debug)]
pub(super) struct MarkTable {
    groups: Groups,
    file_systems: FileSystems,
}

impl MarkTable {
    /// The shared group alone.
    pub(super) fn open() -> Result<Self, Errno> {
        Ok(Self { groups: Groups::open()?, file_systems: FileSystems::default() })
    }

    /// Becomes readable when one of the groups does.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.groups.as_fd()
    }

    /// What the kernel lets this process see.
    pub(super) fn privilege(&self) -> Privilege {
        self.groups.privilege()
    }

    /// Whether the kernel knows `FAN_RENAME`.
    pub(super) fn has_rename(&self) -> bool {
        self.groups.has_rename()
    }

    /// The groups, to be read.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The number of marks on inodes, and of those on file systems.
    pub(super) fn count(&self) -> (u64, usize) {
        (self.groups.marks(), self.file_systems.len())
    }

    /// Adds to the mark of an inode that had `before`; what it has then.
    pub(super) fn add(
        &mut self,
        handle: Handle<'_>,
        object: &Object,
        before: u64,
        mask: u64,
    ) -> Result<u64, Errno> {
        if before | mask != before {
            self.groups.add_mark(handle, object, mask)?;
            if before == 0 {
                self.groups.count_mark(handle.fs);
            }
        }
        Ok(before | mask)
    }

    /// Takes the mark of an inode that had `before` down to `mask`; what it has then.
    pub(super) fn reduce(&mut self, fs: FsId, object: &Object, before: u64, mask: u64) -> u64 {
        let excess = before & !mask;
        if excess != 0 {
            if let Err(errno) = self.groups.remove_mark(fs, object, excess) {
                tracing::debug!(error = errno.desc(), "cannot take a mark back");
            }
            if before == excess {
                self.groups.discount_mark(fs);
            }
        }
        before & mask
    }

    /// A mark has gone with its inode, or cannot be taken away any more.
    pub(super) fn forget(&mut self, fs: FsId) {
        self.groups.discount_mark(fs);
    }

    /// The marks of a file system went with it.
    pub(super) fn lose(&mut self, fs: FsId, inodes: u64) {
        (0..inodes).for_each(|_| self.groups.discount_mark(fs));
    }

    /// Whether an inode has no mark, although it had this one: its file system was
    /// unmounted since.
    pub(super) fn is_lost(&self, fs: FsId, object: &Object, before: u64) -> bool {
        // That an event is taken out which the mark does not have changes nothing.
        let absent = TELLING.iter().find(|event| before & event.mask() == 0);
        absent.is_some_and(|absent| self.groups.has_mark(fs, object, absent.mask()) == Ok(false))
    }

    /// Gives up groups that have no mark left. To be called when their queues are empty.
    pub(super) fn collect(&mut self) {
        self.groups.collect();
    }
}
