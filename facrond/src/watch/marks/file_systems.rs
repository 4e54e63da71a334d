//! Large trees: one mark on the whole file system, and a filter in this process.
//!
//! Such a mark needs no setup and has no race, whatever the size of the tree. But the kernel
//! reports every event of the file system, also of directories outside of all trees. An
//! unknown directory is resolved by its handle once. Then it is either part of the tree or
//! known to be foreign. A busy foreign directory gets an ignore mark, which the kernel may
//! remove when memory is short.

use super::MarkTable;
use crate::events::Events;
use crate::kernel::object::Object;
use crate::kernel::record::{FsId, Handle};
use crate::watch::rules::Slot;
use hashbrown::HashTable;
use nix::errno::Errno;
use rustc_hash::FxHashMap;
use std::hash::{BuildHasher, RandomState};

/// The greatest number of foreign directories that are remembered.
const MAX_FOREIGN: usize = 65_536;

/// The number of events after which a foreign directory is ignored.
const NOISY: u32 = 16;

/// The mark of one file system.
#[derive(Debug, Default)]
struct FsMark {
    mask: u64,
    /// The rules that rely on it.
    users: Vec<Slot>,
}

/// A directory outside of all trees.
#[derive(Debug)]
struct Foreign {
    fs: FsId,
    handle: Box<[u8]>,
    events: u32,
}

impl Foreign {
    fn is(&self, dir: Handle<'_>) -> bool {
        self.fs == dir.fs && *self.handle == *dir.bytes
    }
}

/// The file systems with a mark, and their foreign directories.
#[derive(Debug, Default)]
pub(super) struct FileSystems {
    marks: FxHashMap<FsId, FsMark>,
    foreign: HashTable<Foreign>,
    /// Users choose handles by making directories, so the hash has a key.
    hasher: RandomState,
}

/// The knowledge about a directory that is not in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Noise {
    /// It was not looked at, and may be part of a tree.
    Unknown,
    /// It is outside of all trees.
    Foreign,
    /// It is outside of all trees, and busy.
    Busy,
}

impl FileSystems {
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    fn hash(&self, dir: Handle<'_>) -> u64 {
        self.hasher.hash_one((dir.fs.0, dir.bytes))
    }

    fn count(&mut self, dir: Handle<'_>) -> Noise {
        let hash = self.hash(dir);
        let Some(foreign) = self.foreign.find_mut(hash, |foreign| foreign.is(dir)) else {
            return Noise::Unknown;
        };
        foreign.events = foreign.events.saturating_add(1);
        if foreign.events == NOISY { Noise::Busy } else { Noise::Foreign }
    }

    fn remember(&mut self, dir: Handle<'_>) {
        if self.foreign.len() >= MAX_FOREIGN {
            self.foreign.clear();
        }
        let foreign = Foreign { fs: dir.fs, handle: dir.bytes.into(), events: 1 };
        let hash = self.hash(dir);
        let Self { foreign: all, hasher, .. } = self;
        all.insert_unique(hash, foreign, |foreign| hasher.hash_one((foreign.fs.0, &*foreign.handle)));
    }

    /// Forgets a directory that is not foreign any more. Returns whether it may have an ignore
    /// mark.
    fn recall(&mut self, dir: Handle<'_>) -> bool {
        let hash = self.hash(dir);
        match self.foreign.find_entry(hash, |foreign| foreign.is(dir)) {
            Ok(entry) => entry.remove().0.events >= NOISY,
            Err(_) => false,
        }
    }
}

impl MarkTable {
    /// Whether a file system has a mark.
    pub(in crate::watch) fn has_file_system(&self, fs: FsId) -> bool {
        !self.file_systems.marks.is_empty() && self.file_systems.marks.contains_key(&fs)
    }

    /// The mask of a file system's mark, as the kernel lists it; 0 without a mark.
    pub(in crate::watch) fn mask_of_file_system(&self, fs: FsId) -> u64 {
        let mark = self.file_systems.marks.get(&fs);
        mark.map_or(0, |mark| mark.mask) | Events::EVENT_ON_CHILD.mask()
    }

    /// Marks the file system of `object` for a rule.
    pub(in crate::watch) fn mark_file_system(
        &mut self,
        fs: FsId,
        object: &Object,
        mask: u64,
        slot: Slot,
    ) -> Result<(), Errno> {
        let before = self.file_systems.marks.get(&fs).map_or(0, |known| known.mask);
        if self.newcomers.is_some() && mask & !before != 0 {
            self.has_gap |= !self.groups.has_old_fs_mark(fs, object, mask);
        }
        self.groups.add_fs_mark(fs, object, mask)?;
        let known = self.file_systems.marks.entry(fs).or_default();
        known.mask |= mask;
        known.users.push(slot);
        Ok(())
    }

    /// Marks a file system again after it was unmounted.
    pub(in crate::watch) fn mark_file_system_again(&self, fs: FsId, object: &Object) {
        if let Some(mark) = self.file_systems.marks.get(&fs)
            && let Err(errno) = self.groups.add_fs_mark(fs, object, mark.mask)
        {
            tracing::error!(error = errno.desc(), "cannot mark a file system again that was mounted again");
        }
    }

    /// A rule does not rely on marks of file systems any more. `somewhere_on` opens any
    /// directory of a file system.
    pub(in crate::watch) fn leave_file_systems(
        &mut self,
        slot: Slot,
        somewhere_on: impl Fn(FsId) -> Option<Object>,
    ) {
        let groups = &self.groups;
        self.file_systems.marks.retain(|fs, mark| {
            mark.users.retain(|user| *user != slot);
            // If the file system is gone, so is the mark.
            if mark.users.is_empty()
                && let Some(object) = somewhere_on(*fs)
            {
                let _ = groups.remove_fs_mark(*fs, &object, mark.mask);
            }
            !mark.users.is_empty()
        });
        if self.file_systems.marks.is_empty() {
            self.file_systems.foreign = HashTable::new();
        }
    }

    /// Counts a record of a directory that is not in the tree. Returns the knowledge about it.
    pub(in crate::watch) fn count_foreign(&mut self, dir: Handle<'_>) -> Noise {
        self.file_systems.count(dir)
    }

    /// A directory was looked at, and is outside of all trees.
    pub(in crate::watch) fn remember_foreign(&mut self, dir: Handle<'_>) {
        self.file_systems.remember(dir);
    }

    /// Ignores events of files in a foreign directory. Renames are not ignored, because they
    /// may lead into a tree.
    pub(in crate::watch) fn ignore(&self, fs: FsId, object: &Object) {
        let Some(mark) = self.file_systems.marks.get(&fs) else { return };
        if let Err(errno) = self.groups.ignore(fs, object, ignorable(mark.mask)) {
            tracing::debug!(error = errno.desc(), "cannot ignore a busy directory");
        }
    }

    /// A directory has come into a tree, so it must not be ignored any more.
    pub(super) fn unignore_directory(&mut self, handle: Handle<'_>, object: &Object) {
        if self.file_systems.marks.is_empty() || !self.file_systems.recall(handle) {
            return;
        }
        if let Some(mark) = self.file_systems.marks.get(&handle.fs) {
            // The kernel may have removed the ignore mark already.
            let _ = self.groups.unignore(handle.fs, object, ignorable(mark.mask));
        }
    }
}

fn ignorable(mask: u64) -> u64 {
    let noise = Events::OBJECT.with(Events::CREATE).with(Events::DELETE);
    Events::from_mask(mask).and(noise).with(Events::EVENT_ON_CHILD).mask()
}
