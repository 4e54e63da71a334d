//! Places that are gone. They are kept as ghosts as long as the queue may have records of
//! them. Then they are forgotten step by step, with everything below.

use super::Mirror;
use crate::events::Events;
use crate::kernel::record::{Handle, Record};
use crate::watch::recheck::{Change, Place, Recheck};
use crate::watch::rules::Slot;
use crate::watch::scanner::InodeKey;
use crate::watch::tree::{Content, Ghost, InodeId, NodeId, ROOT};
use std::rc::Rc;

/// The greatest number of replaced objects whose end is awaited.
const MAX_FORMER: usize = 4096;

/// An object that was at a rule's PATH.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) place: Place,
    /// The events that are still about the rule's PATH.
    pub(super) awaited: Events,
}

/// An inode with a mark that has no place any more.
#[derive(Debug)]
pub(in crate::watch) struct Orphan {
    pub(in crate::watch) inode: InodeId,
    pub(in crate::watch) key: InodeKey,
    pub(in crate::watch) marked: u64,
    /// The path of a directory on its file system, if one is known.
    pub(in crate::watch) beside: Option<Vec<u8>>,
}

impl Mirror {
    /// The object of a place is gone. Returns the rules that led there, which must be resolved
    /// again. If there are any, an empty node takes the place.
    pub(super) fn depart(&mut self, node: NodeId, why: Ghost) -> Vec<Slot> {
        let users = self.users(node);
        let is_known_to_be_gone = self.tree.ghost(node).is_some();
        if self.tree[node].ghost.is_none() {
            self.remember_former(node);
        }
        self.tree.make_ghost(node, why);
        match why {
            Ghost::Gone => self.gone.push(node),
            Ghost::Left | Ghost::Dead => self.burying.push(node),
        }
        if !users.is_empty() && !is_known_to_be_gone {
            let (parent, name): (_, Box<[u8]>) = (self.tree.parent(node), self.tree[node].name().into());
            let fresh = self.tree.child_or_new(parent, &name);
            self.tree[fresh].content = Content::Absent;
        }
        users
    }

    /// The rules that lead to a place, or through it.
    pub(super) fn users(&self, node: NodeId) -> Vec<Slot> {
        self.tree[node].references.as_ref().map_or_else(Vec::new, |references| references.users())
    }

    /// Remembers a replaced object, for rules about the end of their object.
    pub(super) fn remember_former(&mut self, node: NodeId) {
        if let Some(handle) = self.tree.handle(node)
            && self.is_end_awaited(node)
        {
            let key = (handle.fs, handle.bytes.into());
            self.add_former(key, self.tree.parent(node), self.tree[node].name().into());
        }
    }

    /// The same for an object that has left a place before it was seen there.
    pub(super) fn await_end(&mut self, dir: NodeId, name: &[u8], object: Handle<'_>) {
        if self.tree.child(dir, name).is_some_and(|node| self.is_end_awaited(node)) {
            self.add_former((object.fs, object.bytes.into()), dir, name.into());
        }
    }

    fn add_former(&mut self, key: InodeKey, dir: NodeId, name: Rc<[u8]>) {
        if self.former.len() >= MAX_FORMER {
            tracing::warn!("too many replaced files are still in use; some of their ends go untold");
            self.former.clear();
        }
        self.former.insert(key, Former { place: Place { dir, name }, awaited: Events::SELF });
    }

    /// Whether a rule is about the end of the object at this place.
    pub(super) fn is_end_awaited(&self, node: NodeId) -> bool {
        self.tree.targets(node).iter().any(|slot| self.rules[*slot].events.intersects(Events::SELF))
    }

    /// An object was moved away from its place. What happens to it elsewhere is not about a
    /// rule's PATH, but the record of the move may still come.
    pub(super) fn leave_former(&mut self, inode: InodeId) {
        let is_move_told = Events::from_mask(self.tree.inode(inode).marked).contains(Events::MOVE_SELF);
        let key = self.key_of(inode);
        if !is_move_told {
            self.former.remove(&key);
        } else if let Some(former) = self.former.get_mut(&key) {
            former.awaited = Events::MOVE_SELF;
        }
    }

    /// A record has reported the end of a replaced object.
    pub(super) fn end_former(&mut self, record: &Record<'_>) {
        if self.former.is_empty() || !Events::from_mask(record.mask).intersects(Events::SELF) {
            return;
        }
        let object = record.object.or(record.entry.map(|entry| entry.dir));
        let Some(key) = object.map(|object| (object.fs, Box::from(object.bytes))) else { return };
        if self.former.remove(&key).is_some()
            && let Some(inode) = object.and_then(|object| self.tree.find_inode(object))
            && self.tree.places_of(inode).next().is_none()
        {
            self.orphan(inode, None);
        }
    }

    /// The queue was read to its end. It has no more records of places that were gone before.
    pub(super) fn bury_gone(&mut self) {
        for node in std::mem::take(&mut self.gone) {
            if self.tree.has(node) && self.tree.ghost(node) == Some(Ghost::Gone) {
                self.tree.make_ghost(node, Ghost::Left);
                self.burying.push(node);
            }
        }
    }

    /// Forgets some places that are gone. Returns whether there are more.
    pub(in crate::watch) fn bury_some(&mut self, mut count: usize) -> bool {
        while let Some(node) = self.burying.last().copied() {
            if !self.tree.has(node) || self.tree.ghost(node).is_none() {
                self.burying.pop();
            } else if let Some(child) = self.tree.any_child(node) {
                self.burying.push(child);
            } else if count == 0 {
                return true;
            } else {
                self.burying.pop();
                self.entomb(node);
                count -= 1;
            }
        }
        false
    }

    fn entomb(&mut self, node: NodeId) {
        for slot in self.users(node) {
            self.rules[slot].ghosts.retain(|ghost| *ghost != node);
        }
        // What was in a directory that was deleted may have been moved away before.
        let is_dead = self.tree[node].ghost == Some(Ghost::Dead);
        let parent = self.tree.parent(node);
        let inode = self.tree[node].inode();
        let is_last = inode.is_some_and(|inode| self.tree.places_of(inode).nth(1).is_none());
        if let Some(inode) = inode.filter(|_| is_last) {
            let key = self.key_of(inode);
            if !self.former.contains_key(&key) {
                let beside = self.tree.top_of(parent, key.0).filter(|_| !is_dead);
                self.orphan(inode, beside);
            }
        }
        self.rules.assign(&mut self.tree, node, &[]);
        self.tree.remove(node);
        self.tidy(parent);
    }

    fn key_of(&self, inode: InodeId) -> InodeKey {
        let handle = self.tree.inode(inode).handle();
        (handle.fs, handle.bytes.into())
    }

    fn orphan(&mut self, inode: InodeId, beside: Option<NodeId>) {
        let marked = self.tree.inode(inode).marked;
        if marked != 0 {
            let beside = beside.map(|node| self.tree.path(node));
            self.orphans.push(Orphan { inode, key: self.key_of(inode), marked, beside });
        }
    }

    /// The next inode whose mark must be removed. Skips inodes that have a place again.
    pub(in crate::watch) fn take_orphan(&mut self) -> Option<Orphan> {
        loop {
            let orphan = self.orphans.pop()?;
            if self.is_orphan(&orphan) {
                return Some(orphan);
            }
        }
    }

    /// Whether an inode still has no place.
    pub(in crate::watch) fn is_orphan(&self, orphan: &Orphan) -> bool {
        let handle = Handle { fs: orphan.key.0, bytes: &orphan.key.1 };
        self.tree.find_inode(handle) == Some(orphan.inode)
            && self.tree.places_of(orphan.inode).next().is_none()
    }

    /// The mark of an orphan was removed.
    pub(in crate::watch) fn forget_orphan(&mut self, orphan: &Orphan) {
        self.tree.inode_mut(orphan.inode).marked = 0;
        self.tree.forget_inode(orphan.inode);
    }

    /// Removes a node that nothing needs. Queues a look if its mark has events that nothing
    /// needs.
    pub(super) fn tidy(&mut self, node: NodeId) {
        self.tidy_by(node, Recheck::change);
    }

    /// The same. `queue` queues the look.
    pub(super) fn tidy_by(&mut self, node: NodeId, queue: fn(&mut Recheck, NodeId, &[u8], Change)) {
        let mut at = node;
        while self.tree.has(at) && self.tree.ghost(at).is_none() {
            if self.tree[at].references.as_ref().is_some_and(|references| references.is_unused()) {
                self.tree[at].references = None;
            }
            if self.excess(at) != 0 {
                let (parent, name): (_, Box<[u8]>) = (self.tree.parent(at), self.tree[at].name().into());
                return queue(&mut self.recheck, parent, &name, Change::default());
            }
            let is_idle = self.tree.any_child(at).is_none() && !self.rules.needs_node(&self.tree, at);
            if !is_idle || at == ROOT {
                return;
            }
            let parent = self.tree.parent(at);
            self.rules.assign(&mut self.tree, at, &[]);
            self.tree.remove(at);
            at = parent;
        }
    }

    /// The events of a place's mark that no place of its inode needs.
    pub(super) fn excess(&self, node: NodeId) -> u64 {
        self.tree.inode_at(node).map_or(0, |inode| inode.marked & !self.rules.wanted(&self.tree, node))
    }
}
