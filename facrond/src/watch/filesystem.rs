//! Large trees: one mark on the whole file system, and the filter here.
//!
//! There is nothing to set up and no race, whatever the size of the tree. But each
//! event of the file system arrives, from directories that are in no tree too. A
//! directory that is not known is resolved by its handle, once; then it is either
//! part of the tree or known to be foreign. A foreign one that is busy gets an
//! ignore mark, which the kernel may drop when it wants the memory.

use super::Watch;
use super::grow::Level;
use super::rules::Slot;
use super::tree::{Content, NodeId, ROOT};
use crate::events::Events;
use crate::kernel::fanotify::Privilege;
use crate::kernel::object::{Kind, Object, open_by_handle};
use crate::kernel::record::{FsId, Handle};
use facron_proto::Text;
use hashbrown::HashTable;
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::Hasher;

/// A tree with more directories than this is watched by a mark on its file system.
const LARGE: usize = if cfg!(test) { 64 } else { 4096 };

/// Foreign directories that are remembered.
const MAX_FOREIGN: usize = 65_536;

/// Events after which a foreign directory is ignored.
const NOISY: u32 = 16;

/// Directories that are read in one turn of reading a large tree.
const DIRECTORIES_PER_TURN: usize = 64;

/// One file system with a mark.
#[derive(Debug)]
struct FsMark {
    mask: u64,
    /// The rules that rely on it.
    users: Vec<Slot>,
}

/// A directory that is in no tree.
#[derive(Debug)]
struct Foreign {
    fs: FsId,
    handle: Box<[u8]>,
    events: u32,
}

/// The file systems with a mark, and what is known of their other directories.
#[derive(Debug, Default)]
pub struct FileSystems {
    marks: FxHashMap<FsId, FsMark>,
    foreign: HashTable<Foreign>,
    /// Large trees that are being read.
    reading: Vec<(Slot, Vec<Level>)>,
}

impl FileSystems {
    /// Whether any file system has a mark.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The number of marks.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether a rule relies on the mark of this file system.
    pub fn serves(&self, fs: FsId, slot: Slot) -> bool {
        !self.marks.is_empty() && self.marks.get(&fs).is_some_and(|mark| mark.users.contains(&slot))
    }

    /// Counts an event of a foreign directory; `None` if it is not known to be one.
    fn count(&mut self, dir: Handle<'_>) -> Option<u32> {
        let is_it = |foreign: &Foreign| foreign.fs == dir.fs && *foreign.handle == *dir.bytes;
        let foreign = self.foreign.find_mut(hash(dir.fs, dir.bytes), is_it)?;
        foreign.events = foreign.events.saturating_add(1);
        Some(foreign.events)
    }

    fn remember(&mut self, dir: Handle<'_>) {
        if self.foreign.len() >= MAX_FOREIGN {
            self.foreign.clear();
        }
        let foreign = Foreign { fs: dir.fs, handle: dir.bytes.into(), events: 1 };
        self.foreign
            .insert_unique(hash(dir.fs, dir.bytes), foreign, |foreign| hash(foreign.fs, &foreign.handle));
    }

    /// Forgets a directory that is foreign no longer; whether it may be ignored.
    fn recall(&mut self, dir: Handle<'_>) -> bool {
        let is_it = |foreign: &Foreign| foreign.fs == dir.fs && *foreign.handle == *dir.bytes;
        match self.foreign.find_entry(hash(dir.fs, dir.bytes), is_it) {
            Ok(entry) => entry.remove().0.events >= NOISY,
            Err(_) => false,
        }
    }
}

fn hash(fs: FsId, handle: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(fs.0);
    hasher.write(handle);
    hasher.finish()
}

impl Watch {
    /// Goes over to a mark on the file system if a tree proves to be large; whether
    /// it did. What is left to be read of the tree is read by and by.
    pub(super) fn go_large(&mut self, slot: Slot, count: usize, levels: &mut Vec<Level>) -> bool {
        if count != LARGE || self.privilege() != Privilege::Full {
            return false;
        }
        let Some(fs) =
            self.rules[slot].target.and_then(|top| self.tree[top].handle()).map(|handle| handle.fs)
        else {
            return false;
        };
        if !self.mark_file_system(fs, slot) {
            return false;
        }
        let path = Text::from(std::os::unix::ffi::OsStrExt::as_bytes(self.rules[slot].spec.path.as_os_str()));
        tracing::info!(%path, "a large tree: its whole file system is marked");
        self.file_systems.reading.push((slot, std::mem::take(levels)));
        true
    }

    /// Whether large trees are still being read.
    pub fn has_work(&self) -> bool {
        !self.file_systems.reading.is_empty()
    }

    /// Reads some more of large trees.
    pub fn work(&mut self) {
        let Some((slot, mut levels)) = self.file_systems.reading.pop() else { return };
        self.descend(&mut levels, &[slot], None, DIRECTORIES_PER_TURN);
        if !levels.is_empty() {
            self.file_systems.reading.push((slot, levels));
        }
    }

    fn mark_file_system(&mut self, fs: FsId, slot: Slot) -> bool {
        let needs = self.rules[slot].needs;
        let mask = needs.below | needs.directory;
        let Some(object) = self.rules[slot].target.and_then(|top| self.open_bound(top).ok()) else {
            return false;
        };
        if let Err(errno) = self.groups.add_fs_mark(fs, &object, mask) {
            tracing::debug!(error = errno.desc(), "this file system cannot be marked as a whole");
            return false;
        }
        let shared = self.file_systems.marks.entry(fs).or_insert(FsMark { mask: 0, users: Vec::new() });
        shared.mask |= mask;
        shared.users.push(slot);
        true
    }

    /// A rule looks no longer at the trees of file systems. Called while its target
    /// can still be opened, if at all.
    pub(super) fn leave_file_systems(&mut self, slot: Slot) {
        self.file_systems.reading.retain(|(other, _)| *other != slot);
        let left: Vec<FsId> = self
            .file_systems
            .marks
            .iter_mut()
            .filter_map(|(fs, mark)| {
                mark.users.retain(|user| *user != slot);
                mark.users.is_empty().then_some(*fs)
            })
            .collect();
        for fs in left {
            let Some(mark) = self.file_systems.marks.remove(&fs) else { continue };
            // With the file system gone, so is the mark.
            if let Some(object) = self.somewhere_on(fs) {
                let _ = self.groups.remove_fs_mark(fs, &object, mark.mask);
            }
        }
        if self.file_systems.is_empty() {
            self.file_systems.foreign = HashTable::new();
        }
    }

    /// Some directory of a file system.
    fn somewhere_on(&self, fs: FsId) -> Option<Object> {
        let is_on = |node: &NodeId| self.tree[*node].handle().is_some_and(|handle| handle.fs == fs);
        let trails = self.rules.iter().flat_map(|(_, rule)| rule.trail.iter().copied().chain(rule.target));
        trails.filter(is_on).find_map(|node| self.open_bound(node).ok())
    }

    /// A record names a directory that is not known: finds out whether it is in a tree.
    pub(super) fn learn(&mut self, dir: Handle<'_>) {
        if !self.file_systems.marks.contains_key(&dir.fs) || self.tree.by_handle(dir).next().is_some() {
            return;
        }
        match self.file_systems.count(dir) {
            None => {}
            Some(NOISY) => return self.ignore(dir),
            Some(_) => return,
        }
        let found = self.somewhere_on(dir.fs).and_then(|mount| open_by_handle(&mount, dir).ok());
        // A directory that is gone tells nothing any more.
        let Some(object) = found else { return };
        if object.kind() != Kind::Directory || !object.path().is_some_and(|path| self.learn_path(&path, dir))
        {
            self.file_systems.remember(dir);
        }
    }

    /// Takes a directory in, and those above it, if it is in a tree.
    fn learn_path(&mut self, path: &[u8], dir: Handle<'_>) -> bool {
        let mut at = ROOT;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            let known =
                self.tree.child(at, name).filter(|node| self.tree[*node].content == Content::Directory);
            at = match known {
                Some(node) => node,
                None if self.knows_children(at) => {
                    let above = self.open_bound(at).ok();
                    let Some(object) = above.and_then(|above| self.entry(at, &above, name).ok()) else {
                        return false;
                    };
                    if object.kind() != Kind::Directory {
                        return false;
                    }
                    self.adopt(at, name, &object);
                    match self.tree.child(at, name) {
                        Some(node) => node,
                        None => return false,
                    }
                }
                None => return false,
            };
        }
        self.tree[at].handle() == Some(dir)
    }

    /// Ignores what happens to files in a foreign directory. Renames are not ignored:
    /// they may lead into a tree.
    fn ignore(&mut self, dir: Handle<'_>) {
        let Some(mask) = self.file_systems.marks.get(&dir.fs).map(|mark| ignorable(mark.mask)) else {
            return;
        };
        let found = self.somewhere_on(dir.fs).and_then(|mount| open_by_handle(&mount, dir).ok());
        if let Some(object) = found
            && let Err(errno) = self.groups.ignore(dir.fs, &object, mask)
        {
            tracing::debug!(error = errno.desc(), "cannot ignore a busy directory");
        }
    }

    /// A directory has come into a tree: it must not be ignored.
    pub(super) fn welcome(&mut self, node: NodeId, object: &Object) {
        if self.file_systems.is_empty() {
            return;
        }
        let Some(handle) = self.tree[node].handle() else { return };
        if self.file_systems.recall(handle)
            && let Some(mask) = self.file_systems.marks.get(&handle.fs).map(|mark| ignorable(mark.mask))
        {
            // The kernel may have dropped it already.
            let _ = self.groups.heed(handle.fs, object, mask);
        }
    }

    /// A directory was made where every rule relies on the file system's mark: its
    /// record has all there is to know, and what is in it has records of its own.
    pub(super) fn take_at_word(&mut self, parent: NodeId, name: &[u8], made: Option<Handle<'_>>) -> bool {
        let Some(made) = made.filter(|made| self.file_systems.marks.contains_key(&made.fs)) else {
            return false;
        };
        let cover = self.cover_of(parent, name);
        let rules = &self.covers[cover].rules;
        if rules.is_empty() || !rules.iter().all(|slot| self.file_systems.serves(made.fs, *slot)) {
            return false;
        }
        let node = self.tree.child_or_new(parent, name);
        if self.tree[node].handle() != Some(made) {
            self.clear(node);
            self.tree.bind(node, made, Content::Directory);
        }
        self.tree[node].cover = cover;
        self.tree[node].is_read = true;
        true
    }

    /// What a directory's own mark must have for the rules that see it.
    pub(super) fn cover_mask(&self, node: NodeId) -> u64 {
        let place = &self.tree[node];
        let cover = &self.covers[place.cover];
        let Some(fs) =
            place.handle().map(|handle| handle.fs).filter(|fs| self.file_systems.marks.contains_key(fs))
        else {
            return cover.mask;
        };
        let by_inode = cover.rules.iter().filter(|slot| !self.file_systems.serves(fs, **slot));
        by_inode.fold(0, |mask, slot| mask | self.rules[*slot].needs.below)
    }

    /// How a rule watches its tree, for people; `None` if it has none.
    pub fn strategy(&self, id: facron_proto::RuleId) -> Option<&'static str> {
        let slot = *self.slots.get(&id)?;
        let rule = &self.rules[slot];
        if !rule.spec.options.recursive {
            return None;
        }
        let fs = rule.target.and_then(|top| self.tree[top].handle()).map(|handle| handle.fs);
        let is_large = fs.is_some_and(|fs| self.file_systems.serves(fs, slot));
        Some(if is_large { "one mark on the file system" } else { "one mark a directory" })
    }

    /// The number of file system marks.
    pub fn fs_marks(&self) -> usize {
        self.file_systems.len()
    }
}

fn ignorable(mask: u64) -> u64 {
    let noise = Events::OBJECT.with(Events::CREATE).with(Events::DELETE);
    Events::from_mask(mask).and(noise).with(Events::EVENT_ON_CHILD).mask()
}
