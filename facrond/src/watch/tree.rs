//! The directory tree: which node a file handle is, and which node a name in a
//! directory is. Pure memory; it knows neither the kernel nor rules.
//!
//! A node is a place: a name in a parent. It is *bound* while it is known which
//! inode is there. An event is then one look-up by handle, at any depth, and
//! renaming a directory changes one node. Nodes are kept small, for there may be
//! one for each directory of a large tree; what only few have is in `Anchor`.

use super::anchor::Anchor;
use super::cover::CoverId;
use crate::kernel::record::{FsId, Handle};
use hashbrown::HashTable;
use rustc_hash::FxHasher;
use std::hash::Hasher;

/// Index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

/// The node of `/`, which always exists.
pub const ROOT: NodeId = NodeId(0);
/// No node, in links between nodes.
const NIL: NodeId = NodeId(u32::MAX);

/// What is known to be at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing, or it is not known.
    Unbound,
    /// A directory.
    Directory,
    /// Anything else that has an inode of interest.
    File,
}

/// A place in the tree.
#[derive(Debug)]
pub struct Node {
    parent: NodeId,
    first_child: NodeId,
    next: NodeId,
    previous: NodeId,
    name: Box<[u8]>,
    fs: FsId,
    handle: Box<[u8]>,
    /// What is there.
    pub content: Content,
    /// Whether what is in it is known, for a directory in a large tree.
    pub is_read: bool,
    /// Which recursive rules see what happens in this directory.
    pub cover: CoverId,
    /// The mask of its mark in the kernel; 0 without one.
    pub marked: u64,
    /// What rules have to do with it by path.
    pub anchor: Option<Box<Anchor>>,
}

impl Node {
    /// The directory that it is in; the root is in itself.
    pub fn parent(&self) -> NodeId {
        self.parent
    }

    /// Its name there; empty for the root.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The inode that is there.
    pub fn handle(&self) -> Option<Handle<'_>> {
        Handle::from_prefix(self.fs, &self.handle)
    }
}

/// The nodes and the two ways to find one.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    by_handle: HashTable<NodeId>,
    by_name: HashTable<NodeId>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node::new(ROOT, Box::default());
        Self { nodes: vec![root], free: Vec::new(), by_handle: HashTable::new(), by_name: HashTable::new() }
    }
}

impl Tree {
    /// The nodes that this inode is at: mostly none or one, several for hard links
    /// and bind mounts.
    pub fn by_handle(&self, handle: Handle<'_>) -> impl Iterator<Item = NodeId> {
        let same_hash = self.by_handle.iter_hash(hash_handle(handle.fs, handle.bytes));
        same_hash.copied().filter(move |id| self[*id].fs == handle.fs && *self[*id].handle == *handle.bytes)
    }

    /// The node of a name in a directory.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let is_it = |id: &NodeId| self[*id].parent == parent && *self[*id].name == *name;
        self.by_name.find(hash_name(parent, name), is_it).copied()
    }

    /// The node at a path without symbolic links.
    pub fn find(&self, path: &[u8]) -> Option<NodeId> {
        let mut names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
        names.try_fold(ROOT, |parent, name| self.child(parent, name))
    }

    /// The node of a name in a directory, made if there is none.
    pub fn child_or_new(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        if let Some(id) = self.child(parent, name) {
            return id;
        }
        let node = Node::new(parent, name.into());
        let id = if let Some(id) = self.free.pop() {
            self[id] = node;
            id
        } else {
            self.nodes.push(node);
            NodeId(u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 directories fit in memory"))
        };
        self.link(id);
        id
    }

    /// The nodes in a directory.
    pub fn children(&self, parent: NodeId) -> Vec<NodeId> {
        let first = self[parent].first_child;
        std::iter::successors((first != NIL).then_some(first), |id| {
            let next = self[*id].next;
            (next != NIL).then_some(next)
        })
        .collect()
    }

    /// Whether a directory has nodes in it.
    pub fn has_children(&self, parent: NodeId) -> bool {
        self[parent].first_child != NIL
    }

    /// Says which inode is at a place.
    pub fn bind(&mut self, id: NodeId, handle: Handle<'_>, content: Content) {
        self.unbind(id);
        self[id].fs = handle.fs;
        self[id].handle = handle.bytes.into();
        self[id].content = content;
        let nodes = &self.nodes;
        let hash_of = |id: &NodeId| {
            let node = &nodes[id.0 as usize];
            hash_handle(node.fs, &node.handle)
        };
        self.by_handle.insert_unique(hash_of(&id), id, hash_of);
    }

    /// Forgets which inode is at a place.
    pub fn unbind(&mut self, id: NodeId) {
        let handle = std::mem::take(&mut self[id].handle);
        if !handle.is_empty()
            && let Ok(entry) =
                self.by_handle.find_entry(hash_handle(self[id].fs, &handle), |other| *other == id)
        {
            entry.remove();
        }
        self[id].content = Content::Unbound;
        self[id].marked = 0;
    }

    /// Gives a node another name or directory; everything below comes along.
    pub fn rename(&mut self, id: NodeId, parent: NodeId, name: &[u8]) {
        self.unlink(id);
        self[id].parent = parent;
        if *self[id].name != *name {
            self[id].name = name.into();
        }
        self.link(id);
    }

    /// Removes a node that has no children.
    pub fn remove(&mut self, id: NodeId) {
        debug_assert!(id != ROOT && !self.has_children(id));
        self.unbind(id);
        self.unlink(id);
        self[id] = Node::new(NIL, Box::default());
        self.free.push(id);
    }

    /// The full path of a node.
    pub fn path(&self, id: NodeId) -> Vec<u8> {
        if id == ROOT {
            return b"/".to_vec();
        }
        self.path_below(ROOT, id).map_or_else(Vec::new, |rest| [b"/", &rest[..]].concat())
    }

    /// The path of a node relative to one above it, empty for that one itself;
    /// `None` if it is not below.
    pub fn path_below(&self, top: NodeId, id: NodeId) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = id;
        while at != top {
            if at == ROOT || at == NIL {
                return None;
            }
            names.push(&*self[at].name);
            at = self[at].parent;
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    /// Whether one node is another or lies above it.
    pub fn is_above(&self, top: NodeId, id: NodeId) -> bool {
        let mut at = id;
        while at != top {
            if at == ROOT || at == NIL {
                return false;
            }
            at = self[at].parent;
        }
        true
    }

    fn link(&mut self, id: NodeId) {
        let parent = self[id].parent;
        let first = self[parent].first_child;
        if first != NIL {
            self[first].previous = id;
        }
        self[id].next = first;
        self[id].previous = NIL;
        self[parent].first_child = id;
        let nodes = &self.nodes;
        let hash_of = |id: &NodeId| {
            let node = &nodes[id.0 as usize];
            hash_name(node.parent, &node.name)
        };
        self.by_name.insert_unique(hash_of(&id), id, hash_of);
    }

    fn unlink(&mut self, id: NodeId) {
        let Node { parent, next, previous, .. } = self[id];
        if previous == NIL {
            self[parent].first_child = next;
        } else {
            self[previous].next = next;
        }
        if next != NIL {
            self[next].previous = previous;
        }
        let hash = hash_name(parent, &self[id].name);
        if let Ok(entry) = self.by_name.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
    }
}

impl std::ops::Index<NodeId> for Tree {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
}

impl std::ops::IndexMut<NodeId> for Tree {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }
}

impl Node {
    fn new(parent: NodeId, name: Box<[u8]>) -> Self {
        Self {
            parent,
            first_child: NIL,
            next: NIL,
            previous: NIL,
            name,
            fs: FsId::default(),
            handle: Box::default(),
            content: Content::Unbound,
            is_read: false,
            cover: CoverId::NONE,
            marked: 0,
            anchor: None,
        }
    }
}

fn hash_handle(fs: FsId, handle: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(fs.0);
    hasher.write(handle);
    hasher.finish()
}

fn hash_name(parent: NodeId, name: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u32(parent.0);
    hasher.write(name);
    hasher.finish()
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

    #[test]
    fn a_renamed_directory_takes_what_is_below_along() {
        let mut tree = Tree::default();
        let a = tree.child_or_new(ROOT, b"a");
        let b = tree.child_or_new(a, b"b");
        let c = tree.child_or_new(b, b"c");
        tree.bind(c, Handle::from_prefix(FS, &handle(1)).unwrap(), Content::Directory);
        tree.rename(b, ROOT, b"B");
        assert_eq!(tree.path(c), b"/B/c");
        assert_eq!((tree.find(b"/B/c"), tree.find(b"/a/b/c"), tree.find(b"/")), (Some(c), None, Some(ROOT)));
        assert!(tree.by_handle(Handle::from_prefix(FS, &handle(1)).unwrap()).eq([c]));
        assert_eq!((tree.child(a, b"b"), tree.child(ROOT, b"B")), (None, Some(b)));
        assert!(!tree.has_children(a));
        assert_eq!(tree.path_below(b, c).unwrap(), b"c");
        assert_eq!(tree.path_below(a, c), None);
    }

    #[test]
    fn an_inode_may_be_at_two_places() {
        let mut tree = Tree::default();
        let (a, b) = (tree.child_or_new(ROOT, b"a"), tree.child_or_new(ROOT, b"b"));
        let inode = handle(1);
        let inode = Handle::from_prefix(FS, &inode).unwrap();
        tree.bind(a, inode, Content::File);
        tree.bind(b, inode, Content::File);
        assert_eq!(tree.by_handle(inode).count(), 2);
        tree.unbind(a);
        assert!(tree.by_handle(inode).eq([b]));
    }

    #[test]
    fn removed_nodes_are_used_again() {
        let mut tree = Tree::default();
        for round in 0..10u8 {
            let ids: Vec<_> = (0..100u8).map(|n| tree.child_or_new(ROOT, &[n, round])).collect();
            assert_eq!(tree.children(ROOT).len(), 100);
            for id in ids {
                tree.remove(id);
            }
        }
        assert_eq!(tree.nodes.len(), 101);
        assert_eq!((tree.by_name.len(), tree.by_handle.len()), (0, 0));
    }

    #[test]
    fn a_node_stays_small() {
        assert!(size_of::<Node>() <= 88, "{}", size_of::<Node>());
    }
}
