//! The inodes at the places of the tree, by their file handles. The kernel's records name
//! inodes, and marks are on inodes.

use super::bytes::Bytes;
use super::{NIL, push_slowly};
use crate::kernel::record::{FsId, Handle};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;

/// The index of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::watch) struct InodeId(NonZeroU32);

impl InodeId {
    fn new(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("fewer than 2^32 inodes fit in memory"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The facts about one inode.
#[derive(Debug)]
pub(in crate::watch) struct Inode {
    fs: FsId,
    handle: Bytes,
    /// The number of the time since which it was watched without a gap. No other inode, and no
    /// other time of this inode, has the same number.
    since: u64,
    /// The mask of its mark in the kernel; 0 without a mark.
    pub(in crate::watch) marked: u64,
    /// Whether it has, or had, more than one name.
    pub(in crate::watch) has_links: bool,
    /// The index of its place, or of one of them.
    pub(super) place: u32,
}

impl Inode {
    /// Its handle, as records contain it.
    pub(in crate::watch) fn handle(&self) -> Handle<'_> {
        Handle { fs: self.fs, bytes: self.handle.get() }
    }

    /// The number of the time since which it was watched without a gap.
    pub(in crate::watch) fn since(&self) -> u64 {
        self.since
    }
}

/// All inodes of the tree.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    all: Vec<Option<Inode>>,
    free: Vec<InodeId>,
    by_handle: HashTable<InodeId>,
    /// Users choose inodes by making files, so the hash has a key.
    hasher: RandomState,
    last_since: u64,
}

impl Inodes {
    pub(super) fn find(&self, handle: Handle<'_>) -> Option<InodeId> {
        let is_it = |id: &InodeId| self.get(*id).handle() == handle;
        self.by_handle.find(hash(&self.hasher, handle), is_it).copied()
    }

    pub(super) fn find_or_insert(&mut self, handle: Handle<'_>) -> InodeId {
        if let Some(id) = self.find(handle) {
            return id;
        }
        let since = self.next_since();
        let inode = Inode {
            fs: handle.fs,
            handle: Bytes::new(handle.bytes),
            since,
            marked: 0,
            has_links: false,
            place: NIL,
        };
        let id = self.free.pop().unwrap_or_else(|| {
            push_slowly(&mut self.all, None);
            InodeId::new(self.all.len() - 1)
        });
        self.all[id.index()] = Some(inode);
        let Self { all, by_handle, hasher, .. } = self;
        by_handle.insert_unique(hash(hasher, handle), id, |id| hash(hasher, inode_at(all, *id).handle()));
        id
    }

    pub(super) fn get(&self, id: InodeId) -> &Inode {
        inode_at(&self.all, id)
    }

    pub(super) fn get_mut(&mut self, id: InodeId) -> &mut Inode {
        self.all[id.index()].as_mut().expect("inodes go after the last use of their index")
    }

    pub(super) fn remove(&mut self, id: InodeId) {
        let hash = hash(&self.hasher, self.get(id).handle());
        if let Ok(entry) = self.by_handle.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        self.all[id.index()] = None;
        self.free.push(id);
    }

    /// The marks of a file system are gone since an unknown time. Returns their number.
    pub(super) fn lose_marks(&mut self, fs: FsId) -> u64 {
        let mut lost = 0;
        let mut since = self.last_since;
        for inode in self.all.iter_mut().flatten().filter(|inode| inode.fs == fs) {
            since += 1;
            inode.since = since;
            lost += u64::from(std::mem::take(&mut inode.marked) != 0);
        }
        self.last_since = since;
        lost
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_handle.len()
    }

    fn next_since(&mut self) -> u64 {
        self.last_since += 1;
        self.last_since
    }
}

fn inode_at(inodes: &[Option<Inode>], id: InodeId) -> &Inode {
    inodes[id.index()].as_ref().expect("inodes go after the last use of their index")
}

fn hash(hasher: &RandomState, handle: Handle<'_>) -> u64 {
    hasher.hash_one((handle.fs.0, handle.bytes))
}
