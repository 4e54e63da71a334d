//! The directory tree. It finds the place of a file handle, and the place of a name in a
//! directory. Pure memory: it knows neither the kernel nor rules.
//!
//! A node is a place: a name in a parent directory. It is *bound* while its inode is known.
//! Then an event needs one look-up by handle, at any depth, and the rename of a directory
//! changes one node.
//!
//! If a look finds that a place is gone, its node becomes a *ghost*. No name leads to a ghost
//! any more. But its handle does, and the handles of everything below, until all records
//! from before were read. Nodes are small, because a large tree has one for each directory.

mod bytes;
mod inodes;

pub(super) use inodes::{Inode, InodeId};

use super::rules::{References, SetId, Slot};
use crate::kernel::record::{FsId, Handle};
use bytes::Bytes;
use hashbrown::HashTable;
use inodes::Inodes;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;

/// The index of a node. After the node is removed, the index leads to no other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId {
    index: u32,
    generation: NonZeroU32,
}

/// The index that stands for no node, in links between nodes.
const NIL: u32 = u32::MAX;

/// The node of `/`, which always exists.
pub(super) const ROOT: NodeId = NodeId { index: 0, generation: NonZeroU32::MIN };

/// The kind of object at a place, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// It was not looked at yet.
    Unknown,
    /// There is no object.
    Absent,
    Directory,
    /// A symbolic link. The references have its target.
    Link,
    /// Any other object, such as a regular file.
    File,
}

/// The reason why no name leads to a node any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ghost {
    /// A look has found it gone. Records from before may still be in the queue.
    Gone,
    /// A record says that it was moved away, or nothing needs it. Further records of it are
    /// ignored.
    Left,
    /// A record says that it was deleted.
    Dead,
}

/// A place in the tree.
#[derive(Debug)]
pub(super) struct Node {
    generation: NonZeroU32,
    parent: u32,
    first_child: u32,
    next: u32,
    previous: u32,
    inode: Option<InodeId>,
    name: Bytes,
    pub(super) content: Content,
    pub(super) ghost: Option<Ghost>,
    /// No node is deeper below this one than so many levels.
    height: u16,
    /// The recursive rules that see the entries of this directory.
    pub(super) set: SetId,
    /// The rules whose PATH leads to this place or through it.
    pub(super) references: Option<Box<References>>,
}

impl Node {
    fn new(generation: NonZeroU32) -> Self {
        Self {
            generation,
            parent: NIL,
            first_child: NIL,
            next: NIL,
            previous: NIL,
            inode: None,
            name: Bytes::new(b""),
            content: Content::Unknown,
            ghost: None,
            height: 0,
            set: SetId::NONE,
            references: None,
        }
    }

    /// Its name in its parent; empty for the root.
    pub(super) fn name(&self) -> &[u8] {
        self.name.get()
    }

    /// The inode at this place, if it is known.
    pub(super) fn inode(&self) -> Option<InodeId> {
        self.inode
    }
}

/// All nodes, with look-ups by name and by handle.
#[derive(Debug)]
pub(super) struct PathTree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    by_name: HashTable<u32>,
    /// Users choose names, so the hash has a key.
    hasher: RandomState,
    inodes: Inodes,
    /// Of inodes that have more than one place.
    other_places: HashMap<InodeId, Vec<u32>>,
    ghosts: usize,
}

impl Default for PathTree {
    fn default() -> Self {
        let (by_name, hasher, inodes) = (HashTable::new(), RandomState::new(), Inodes::default());
        Self {
            nodes: vec![Node::new(NonZeroU32::MIN)],
            free: Vec::new(),
            by_name,
            hasher,
            inodes,
            other_places: HashMap::new(),
            ghosts: 0,
        }
    }
}

impl PathTree {
    /// Whether the node still exists.
    pub(super) fn has(&self, id: NodeId) -> bool {
        self.nodes[id.index as usize].generation == id.generation
    }

    /// The places of an inode, with ghosts: usually none or one, several for hard links and
    /// bind mounts.
    pub(super) fn places(&self, handle: Handle<'_>) -> impl Iterator<Item = NodeId> {
        self.inodes.find(handle).into_iter().flat_map(|inode| self.places_of(inode))
    }

    /// The same for an inode that is given by its index.
    pub(super) fn places_of(&self, inode: InodeId) -> impl Iterator<Item = NodeId> {
        let others = self.other_places.get(&inode).into_iter().flatten().copied();
        std::iter::once(self.inodes.get(inode).place).chain(others).filter_map(|index| self.id(index))
    }

    /// The node at an index, unless the index stands for no node.
    fn id(&self, index: u32) -> Option<NodeId> {
        let node = self.nodes.get(index as usize)?;
        Some(NodeId { index, generation: node.generation })
    }

    /// The parent of a node. The root is its own parent.
    pub(super) fn parent(&self, id: NodeId) -> NodeId {
        self.id(self[id].parent).unwrap_or(ROOT)
    }

    /// The facts about an inode.
    pub(super) fn inode(&self, id: InodeId) -> &Inode {
        self.inodes.get(id)
    }

    /// The facts about an inode, to be changed.
    pub(super) fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(id)
    }

    /// The inode with this handle.
    pub(super) fn find_inode(&self, handle: Handle<'_>) -> Option<InodeId> {
        self.inodes.find(handle)
    }

    /// The inode at a place.
    pub(super) fn inode_at(&self, id: NodeId) -> Option<&Inode> {
        self[id].inode.map(|inode| self.inodes.get(inode))
    }

    /// The handle of the inode at a place.
    pub(super) fn handle(&self, id: NodeId) -> Option<Handle<'_>> {
        self.inode_at(id).map(Inode::handle)
    }

    /// The node of a name in a directory.
    pub(super) fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let is_it = |index: &u32| {
            let node = &self.nodes[*index as usize];
            node.parent == parent.index && node.name() == name && node.ghost.is_none()
        };
        self.by_name.find(self.hash(parent.index, name), is_it).and_then(|index| self.id(*index))
    }

    /// A ghost with this inode that a look has found gone.
    pub(super) fn gone(&self, handle: Handle<'_>) -> Option<NodeId> {
        self.places(handle).find(|id| self[*id].ghost == Some(Ghost::Gone))
    }

    /// The node at a path without symbolic links.
    pub(super) fn find(&self, path: &[u8]) -> Option<NodeId> {
        let mut names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
        names.try_fold(ROOT, |parent, name| self.child(parent, name))
    }

    /// The node of a name in a directory. Makes it if there is none.
    pub(super) fn child_or_new(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        self.child(parent, name).unwrap_or_else(|| self.new_node(parent, name))
    }

    /// A node for an object that was at a place, and is gone.
    pub(super) fn new_ghost(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        let id = self.new_node(parent, name);
        self.make_ghost(id, Ghost::Gone);
        id
    }

    fn new_node(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        let index = self.free.pop().unwrap_or_else(|| {
            push_slowly(&mut self.nodes, Node::new(NonZeroU32::MIN));
            u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 directories fit in memory")
        });
        let node = &mut self.nodes[index as usize];
        let id = NodeId { index, generation: node.generation };
        (node.parent, node.name) = (parent.index, Bytes::new(name));
        self.link(id);
        id
    }

    /// The nodes in a directory, without ghosts.
    pub(super) fn children(&self, parent: NodeId) -> Vec<NodeId> {
        let all = std::iter::successors(self.id(self[parent].first_child), |id| self.id(self[*id].next));
        all.filter(|id| self[*id].ghost.is_none()).collect()
    }

    /// Any node in a directory, also a ghost.
    pub(super) fn any_child(&self, parent: NodeId) -> Option<NodeId> {
        self.id(self[parent].first_child)
    }

    /// Binds a place to the inode that is there.
    pub(super) fn bind(&mut self, id: NodeId, handle: Handle<'_>, content: Content) -> InodeId {
        let inode = self.inodes.find_or_insert(handle);
        if self[id].inode != Some(inode) {
            self.unbind(id);
            self[id].inode = Some(inode);
            let place = &mut self.inodes.get_mut(inode).place;
            if *place == NIL {
                *place = id.index;
            } else {
                self.other_places.entry(inode).or_default().push(id.index);
            }
        }
        self[id].content = content;
        inode
    }

    /// Forgets the inode of a place. An inode without places and without a mark is removed.
    pub(super) fn unbind(&mut self, id: NodeId) {
        self[id].content = Content::Unknown;
        let Some(inode) = self[id].inode.take() else { return };
        let mut others = self.other_places.remove(&inode).unwrap_or_default();
        let place = &mut self.inodes.get_mut(inode).place;
        if *place == id.index {
            *place = others.pop().unwrap_or(NIL);
        } else {
            others.retain(|other| *other != id.index);
        }
        if !others.is_empty() {
            self.other_places.insert(inode, others);
        }
        self.forget_inode(inode);
    }

    /// Removes an inode, if it has neither a place nor a mark.
    pub(super) fn forget_inode(&mut self, inode: InodeId) {
        let known = self.inodes.get(inode);
        if known.place == NIL && known.marked == 0 {
            self.inodes.remove(inode);
        }
    }

    /// The marks of a file system are gone. Returns their number.
    pub(super) fn lose_marks(&mut self, fs: FsId) -> u64 {
        self.inodes.lose_marks(fs)
    }

    /// Gives a node another name or parent, with everything below. A ghost becomes an ordinary
    /// node again.
    pub(super) fn rename(&mut self, id: NodeId, parent: NodeId, name: &[u8]) {
        self.unlink(id);
        self.ghosts -= usize::from(self[id].ghost.is_some());
        let node = &mut self[id];
        (node.parent, node.ghost) = (parent.index, None);
        if node.name() != name {
            node.name = Bytes::new(name);
        }
        self.link(id);
    }

    /// Makes a node a ghost, with everything below.
    pub(super) fn make_ghost(&mut self, id: NodeId, why: Ghost) {
        self.ghosts += usize::from(self[id].ghost.is_none());
        self[id].ghost = Some(why);
    }

    /// Why a node, or a node above it, is a ghost. `None` if it is not.
    pub(super) fn ghost(&self, id: NodeId) -> Option<Ghost> {
        if self.ghosts == 0 { None } else { self.up(id).find_map(|id| self[id].ghost) }
    }

    /// Whether further records of a node are ignored.
    pub(super) fn is_left(&self, id: NodeId) -> bool {
        let is_left = |ghost| matches!(ghost, Some(Ghost::Left | Ghost::Dead));
        self.ghosts > 0 && self.up(id).any(|id| is_left(self[id].ghost))
    }

    /// Removes a node without children.
    pub(super) fn remove(&mut self, id: NodeId) {
        debug_assert!(id != ROOT && self[id].first_child == NIL);
        self.unbind(id);
        self.unlink(id);
        self.ghosts -= usize::from(self[id].ghost.is_some());
        self[id] = Node::new(id.generation.checked_add(1).unwrap_or(NonZeroU32::MIN));
        self.free.push(id.index);
    }

    /// A node and all nodes above it, the root last.
    fn up(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(Some(id), |id| self.id(self[*id].parent))
    }

    /// The uppermost directory of a file system above a place. Between them nothing is gone.
    pub(super) fn top_of(&self, id: NodeId, fs: FsId) -> Option<NodeId> {
        self.up(id).fold(None, |top, id| match self[id].ghost {
            Some(_) => None,
            None if self.handle(id).is_some_and(|handle| handle.fs == fs) => Some(id),
            None => top,
        })
    }

    /// The rules whose PATH is this node.
    pub(super) fn targets(&self, id: NodeId) -> &[Slot] {
        self[id].references.as_ref().map_or(&[], |references| &references.targets)
    }

    /// The full path of a node.
    pub(super) fn path(&self, id: NodeId) -> Vec<u8> {
        if id == ROOT {
            return b"/".to_vec();
        }
        self.path_below(ROOT, id).map_or_else(Vec::new, |rest| [b"/", &rest[..]].concat())
    }

    /// The path of a node relative to a node above it. It is empty for that node itself, and
    /// `None` for a node elsewhere.
    pub(super) fn path_below(&self, top: NodeId, id: NodeId) -> Option<Vec<u8>> {
        self.names_below(top, id).map(|names| names.join(&b'/'))
    }

    /// The names of which this path is made.
    pub(super) fn names_below(&self, top: NodeId, id: NodeId) -> Option<Vec<&[u8]>> {
        if !self.is_above(top, id) {
            return None;
        }
        let mut names: Vec<_> = self.up(id).take_while(|id| *id != top).map(|id| self[id].name()).collect();
        names.reverse();
        Some(names)
    }

    /// Whether `top` is the node `id`, or above it.
    pub(super) fn is_above(&self, top: NodeId, id: NodeId) -> bool {
        self.up(id).any(|id| id == top)
    }

    /// The depth of a node below the root, counted up to `most`.
    pub(super) fn depth(&self, id: NodeId, most: usize) -> usize {
        self.up(id).take(most).count()
    }

    /// The greatest number of levels below a node. There may be fewer by now.
    pub(super) fn height(&self, id: NodeId) -> usize {
        usize::from(self[id].height)
    }

    /// The numbers of nodes and inodes, for tests.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.nodes.len() - self.free.len(), self.inodes.len())
    }

    fn link(&mut self, id: NodeId) {
        let parent = self.parent(id);
        let first = std::mem::replace(&mut self[parent].first_child, id.index);
        if let Some(first) = self.id(first) {
            self[first].previous = id.index;
        }
        (self[id].next, self[id].previous) = (first, NIL);
        let hash = self.hash(parent.index, self[id].name());
        let Self { nodes, by_name, hasher, .. } = self;
        by_name.insert_unique(hash, id.index, |index| {
            let node = &nodes[*index as usize];
            hash_name(hasher, node.parent, node.name())
        });
        self.raise(id);
    }

    /// The nodes above a node are at least so high that they reach down to it.
    fn raise(&mut self, id: NodeId) {
        let mut at = id;
        while at != ROOT {
            let height = self[at].height.saturating_add(1);
            at = self.parent(at);
            if self[at].height >= height {
                return;
            }
            self[at].height = height;
        }
    }

    fn unlink(&mut self, id: NodeId) {
        let Node { parent, next, previous, .. } = self[id];
        match self.id(previous) {
            None => {
                let parent = &mut self.nodes[parent as usize];
                parent.first_child = next;
                if next == NIL {
                    parent.height = 0;
                }
            }
            Some(previous) => self[previous].next = next,
        }
        if let Some(next) = self.id(next) {
            self[next].previous = previous;
        }
        let hash = self.hash(parent, self[id].name());
        if let Ok(entry) = self.by_name.find_entry(hash, |other| *other == id.index) {
            entry.remove();
        }
    }

    fn hash(&self, parent: u32, name: &[u8]) -> u64 {
        hash_name(&self.hasher, parent, name)
    }
}

fn hash_name(hasher: &RandomState, parent: u32, name: &[u8]) -> u64 {
    hasher.hash_one((parent, name))
}

/// Adds to a list that may be long, without doubling its memory.
fn push_slowly<T>(list: &mut Vec<T>, value: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 16 + 16);
    }
    list.push(value);
}

impl std::ops::Index<NodeId> for PathTree {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        let node = &self.nodes[id.index as usize];
        debug_assert_eq!(node.generation, id.generation, "a node is used after it was removed");
        node
    }
}

impl std::ops::IndexMut<NodeId> for PathTree {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        let node = &mut self.nodes[id.index as usize];
        debug_assert_eq!(node.generation, id.generation, "a node is used after it was removed");
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FS: FsId = FsId(7);

    fn handle(n: u8) -> [u8; 9] {
        let mut bytes = [0; 9];
        bytes[0] = 1;
        bytes[8] = n;
        bytes
    }

    fn inode(bytes: &[u8]) -> Handle<'_> {
        Handle::from_prefix(FS, bytes).unwrap()
    }

    #[test]
    fn a_renamed_directory_takes_what_is_below_along() {
        let mut tree = PathTree::default();
        let a = tree.child_or_new(ROOT, b"a");
        let b = tree.child_or_new(a, b"b");
        let c = tree.child_or_new(b, b"c");
        tree.bind(c, inode(&handle(1)), Content::Directory);
        tree.rename(b, ROOT, b"B");
        assert_eq!(tree.path(c), b"/B/c");
        assert_eq!((tree.find(b"/B/c"), tree.find(b"/a/b/c"), tree.find(b"/")), (Some(c), None, Some(ROOT)));
        assert!(tree.places(inode(&handle(1))).eq([c]));
        assert_eq!((tree.child(a, b"b"), tree.child(ROOT, b"B")), (None, Some(b)));
        assert_eq!(tree.any_child(a), None);
        assert_eq!(tree.path_below(b, c).unwrap(), b"c");
        assert_eq!(tree.path_below(a, c), None);
    }

    #[test]
    fn an_inode_may_be_at_two_places() {
        let mut tree = PathTree::default();
        let (a, b) = (tree.child_or_new(ROOT, b"a"), tree.child_or_new(ROOT, b"b"));
        tree.bind(a, inode(&handle(1)), Content::File);
        let id = tree.bind(b, inode(&handle(1)), Content::File);
        assert_eq!(tree.places(inode(&handle(1))).count(), 2);
        tree.unbind(a);
        assert!(tree.places(inode(&handle(1))).eq([b]));
        tree.inode_mut(id).marked = 8;
        tree.unbind(b);
        assert_eq!(tree.find_inode(inode(&handle(1))), Some(id), "its mark is still to be taken away");
        tree.inode_mut(id).marked = 0;
        tree.forget_inode(id);
        assert_eq!(tree.find_inode(inode(&handle(1))), None);
    }

    #[test]
    fn removed_nodes_are_used_again_and_found_no_more() {
        let mut tree = PathTree::default();
        let mut last = ROOT;
        for round in 0..10u8 {
            let ids: Vec<_> = (0..100u8).map(|n| tree.child_or_new(ROOT, &[n, round])).collect();
            assert_eq!(tree.children(ROOT).len(), 100);
            assert!(round == 0 || !tree.has(last));
            last = ids[0];
            for id in ids {
                tree.remove(id);
            }
        }
        assert_eq!((tree.nodes.len(), tree.len()), (101, (1, 0)));
        assert_eq!(tree.by_name.len(), 0);
    }

    #[test]
    fn ghosts_have_a_path_and_no_name() {
        let mut tree = PathTree::default();
        let a = tree.child_or_new(ROOT, b"a");
        let b = tree.child_or_new(a, b"b");
        tree.bind(a, inode(&handle(1)), Content::Directory);
        tree.make_ghost(a, Ghost::Gone);
        assert_eq!((tree.child(ROOT, b"a"), tree.ghost(b)), (None, Some(Ghost::Gone)));
        assert_eq!((tree.path(b), tree.child(a, b"b")), (b"/a/b".to_vec(), Some(b)));
        let again = tree.child_or_new(ROOT, b"a");
        assert!(again != a && tree.children(ROOT) == [again]);
        assert_eq!((tree.gone(inode(&handle(1))), tree.is_left(b)), (Some(a), false));
        tree.rename(a, ROOT, b"c");
        assert_eq!((tree.find(b"/c/b"), tree.ghost(b)), (Some(b), None));
    }

    #[test]
    fn a_node_stays_small() {
        assert!(size_of::<Node>() <= 64, "{}", size_of::<Node>());
    }
}
