//! The marks in the kernel: the groups, the marks of whole file systems, and all calls that
//! add and remove marks.
//!
//! The tree stores the present mask of an inode's mark, and the rules decide the mask that
//! it should have.

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

/// Events that are often missing in a mark, to test whether the mark exists.
const TELLING: [Events; 4] = [Events::ACCESS, Events::OPEN_EXEC, Events::ATTRIB, Events::MODIFY];

/// All groups, and their marks.
#[derive(Debug)]
pub(super) struct MarkTable {
    groups: Groups,
    file_systems: FileSystems,
}

impl MarkTable {
    /// Opens the shared group.
    pub(super) fn open() -> Result<Self, Errno> {
        Ok(Self { groups: Groups::open()?, file_systems: FileSystems::default() })
    }

    /// Becomes readable when one of the groups does.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.groups.as_fd()
    }

    /// The kind of groups that the kernel gives to this process.
    pub(super) fn privilege(&self) -> Privilege {
        self.groups.privilege()
    }

    /// Whether the kernel knows `FAN_RENAME`.
    pub(super) fn has_rename(&self) -> bool {
        self.groups.has_rename()
    }

    /// The groups, for reading.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The numbers of marks on inodes and on file systems.
    pub(super) fn count(&self) -> (u64, usize) {
        (self.groups.marks(), self.file_systems.len())
    }

    /// Adds `mask` to the mark of an inode, whose mask was `before`. Returns the new mask.
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

    /// Reduces the mark of an inode from `before` to `mask`. Returns the new mask.
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

    /// A mark is gone with its inode, or cannot be removed any more.
    pub(super) fn forget(&mut self, fs: FsId) {
        self.groups.discount_mark(fs);
    }

    /// The marks of a file system are gone, because it was unmounted.
    pub(super) fn lose(&mut self, fs: FsId, inodes: u64) {
        (0..inodes).for_each(|_| self.groups.discount_mark(fs));
    }

    /// Whether an inode has lost its mark, whose mask was `before`, because its file system
    /// was unmounted meanwhile.
    pub(super) fn is_lost(&self, fs: FsId, object: &Object, before: u64) -> bool {
        // To remove an event that the mark does not have changes nothing.
        let absent = TELLING.iter().find(|event| before & event.mask() == 0);
        absent.is_some_and(|absent| self.groups.has_mark(fs, object, absent.mask()) == Ok(false))
    }

    /// Closes groups that have no marks. Must be called when their queues are empty.
    pub(super) fn collect(&mut self) {
        self.groups.collect();
    }
}
