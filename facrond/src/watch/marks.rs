//! The marks in the kernel: the groups, the marks of whole file systems, and all calls that
//! add and remove marks.
//!
//! The tree stores the present mask of an inode's mark, and the rules decide the mask that
//! it should have.

mod file_systems;
mod groups;

pub(super) use file_systems::Noise;
pub(super) use groups::GroupOf;

use crate::events::Events;
use crate::kernel::fanotify::Privilege;
use crate::kernel::object::{Kind, Object};
use crate::kernel::record::{FsId, Handle};
use crate::service_manager::DescriptorStore;
use crate::watch::scanner::InodeKey;
use file_systems::FileSystems;
use groups::Groups;
use nix::errno::Errno;
use std::collections::HashSet;
use std::os::fd::BorrowedFd;

/// Events that are often missing in a mark, to test whether the mark exists.
const TELLING: [Events; 4] = [Events::ACCESS, Events::OPEN_EXEC, Events::ATTRIB, Events::MODIFY];

/// Who changes marks for a look: the table, or a worker in its place.
pub(super) trait Marker {
    /// Adds `mask` to the mark of an inode, whose mask was `before`. Returns the new mask.
    fn add(&mut self, handle: Handle<'_>, object: &Object, before: u64, mask: u64) -> Result<u64, Errno>;

    /// Reduces the mark of an inode from `before` to `mask`. Returns the new mask.
    fn reduce(&mut self, fs: FsId, object: &Object, before: u64, mask: u64) -> u64;

    /// A mark is gone with its inode, or cannot be removed any more.
    fn forget(&mut self, fs: FsId);

    /// Whether an inode has lost its mark, whose mask was `before`, because its file system
    /// was unmounted meanwhile.
    fn is_lost(&self, fs: FsId, object: &Object, before: u64) -> bool;

    /// A directory has come into a tree: it must not be ignored.
    fn unignore(&mut self, handle: Handle<'_>, object: &Object);
}

/// An event that a mark does not have, by which it can be found out whether there is
/// one: that the event is taken out changes nothing.
pub(super) fn absent_from(mask: u64) -> Option<u64> {
    TELLING.into_iter().map(Events::mask).find(|event| mask & event == 0)
}

/// All groups, and their marks.
#[derive(Debug)]
pub(super) struct MarkTable {
    groups: Groups,
    file_systems: FileSystems,
    /// The directories that had no mark in a group that was taken back, as long as its records
    /// are read. Users choose handles by making directories, so the hash has a key.
    newcomers: Option<HashSet<InodeKey>>,
    /// Whether something may have happened in that time without a record: a mark is new, or nobody
    /// knows whether it is.
    has_gap: bool,
}

impl MarkTable {
    /// Takes back the groups that the store has kept, or opens the shared group.
    pub(super) fn open(store: DescriptorStore) -> Result<Self, Errno> {
        let groups = Groups::open(store)?;
        let newcomers = groups.old().next().map(|_| HashSet::new());
        Ok(Self { groups, file_systems: FileSystems::default(), newcomers, has_gap: false })
    }

    /// Whether records of the time before this process may still be in the queue.
    pub(super) fn is_taken_back(&self) -> bool {
        self.newcomers.is_some()
    }

    /// All records of that time were read. Returns whether they tell of everything that has
    /// happened in it.
    pub(super) fn forget_newcomers(&mut self) -> bool {
        self.newcomers.take().is_some_and(|new| new.is_empty()) && !self.has_gap
    }

    /// Whether a directory was not marked by the earlier process. Says so once.
    pub(super) fn take_newcomer(&mut self, dir: Handle<'_>) -> bool {
        self.newcomers.as_mut().is_some_and(|new| new.remove(&(dir.fs, Box::from(dir.bytes))))
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

    /// The marks of a file system are gone, because it was unmounted.
    pub(super) fn lose(&mut self, fs: FsId, inodes: u64) {
        (0..inodes).for_each(|_| self.groups.discount_mark(fs));
    }

    /// Closes groups that have no marks. Must be called when their queues are empty.
    pub(super) fn collect(&mut self) {
        self.groups.collect();
    }

    /// The group for what a worker marks on a file system.
    pub(super) fn group_of(&mut self, of: GroupOf) -> Result<BorrowedFd<'_>, Errno> {
        self.groups.group_of(of)
    }

    /// A worker has changed the mark of an inode that had `before` to what it has now.
    pub(super) fn count_change(&mut self, of: GroupOf, fs: FsId, before: u64, now: u64) {
        if now != 0 {
            self.groups.learn(of, fs);
            self.has_gap |= self.newcomers.is_some();
        }
        match (before, now) {
            (0, 1..) => self.groups.count_mark(fs),
            (1.., 0) => self.groups.discount_mark(fs),
            _ => {}
        }
    }
}

impl Marker for MarkTable {
    fn add(&mut self, handle: Handle<'_>, object: &Object, before: u64, mask: u64) -> Result<u64, Errno> {
        if before | mask != before {
            if let Some(newcomers) = &mut self.newcomers
                && before == 0
            {
                match self.groups.is_new(handle.fs, object, mask) {
                    Some(true) if object.kind() == Kind::Directory => {
                        newcomers.insert((handle.fs, handle.bytes.into()));
                    }
                    is_new => self.has_gap |= is_new != Some(false),
                }
            }
            self.groups.add_mark(handle, object, mask)?;
            if before == 0 {
                self.groups.count_mark(handle.fs);
            }
        }
        Ok(before | mask)
    }

    fn reduce(&mut self, fs: FsId, object: &Object, before: u64, mask: u64) -> u64 {
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

    fn forget(&mut self, fs: FsId) {
        self.groups.discount_mark(fs);
    }

    fn is_lost(&self, fs: FsId, object: &Object, before: u64) -> bool {
        absent_from(before).is_some_and(|absent| self.groups.has_mark(fs, object, absent) == Ok(false))
    }

    fn unignore(&mut self, handle: Handle<'_>, object: &Object) {
        self.unignore_directory(handle, object);
    }
}
