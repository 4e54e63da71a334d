//! Nodes bound to inodes, and the marks on them: never more than rules need.

use super::Watch;
use super::anchor::Anchor;
use super::cover::CoverId;
use super::grow::join;
use super::rules::Slot;
use super::tree::{Content, NodeId, ROOT};
use crate::kernel::envoy::SILENT;
use crate::kernel::object::{HandleBuffer, Object};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

impl Watch {
    /// Binds a node to what was found there, if that is something else than before.
    pub(super) fn occupy(&mut self, node: NodeId, object: &Object, content: Content) -> Result<(), Errno> {
        let mut room = HandleBuffer::default();
        let handle = object.handle(&mut room)?;
        if self.tree[node].handle() == Some(handle) {
            return Ok(());
        }
        self.clear(node);
        self.tree.bind(node, handle, content);
        Ok(())
    }

    /// Marks a node's inode, held by `object`, with what a rule needs of it.
    pub(super) fn want(&mut self, node: NodeId, object: &Object, slot: Slot, mask: u64) -> Result<(), Errno> {
        self.anchor(node).add(slot, mask);
        self.mark(node, object, mask)
    }

    /// Adds to a bound node's mark what it does not have yet.
    pub(super) fn mark(&mut self, node: NodeId, object: &Object, mask: u64) -> Result<(), Errno> {
        let place = &self.tree[node];
        let (marked, handle) = (place.marked, place.handle().ok_or(Errno::ESTALE)?);
        if marked | mask != marked {
            self.groups.add_mark(handle, object, mask)?;
            if marked == 0 {
                self.groups.count_mark(handle.fs);
            }
            self.tree[node].marked = marked | mask;
        }
        Ok(())
    }

    pub(super) fn anchor(&mut self, node: NodeId) -> &mut Anchor {
        self.tree[node].anchor.get_or_insert_default()
    }

    pub(super) fn drop_target(&mut self, node: NodeId, slot: Slot) {
        if let Some(anchor) = &mut self.tree[node].anchor {
            anchor.targets.retain(|target| *target != slot);
        }
        self.ungrow(node, slot);
    }

    /// Takes a rule out of nodes, and the nodes' marks down to what others need.
    pub(super) fn give_up(&mut self, slot: Slot, nodes: &[NodeId]) {
        for node in nodes.iter().rev() {
            let Some(anchor) = &mut self.tree[*node].anchor else { continue };
            anchor.remove(slot);
            if anchor.is_unused() {
                self.tree[*node].anchor = None;
            }
            self.trim(*node);
        }
    }

    /// Takes a node's mark down to what is needed, and the node itself if nothing is.
    pub(super) fn trim(&mut self, node: NodeId) {
        let excess = self.excess(node);
        if excess != 0 {
            match self.open_bound(node) {
                Ok(object) => self.unmark(node, &object, excess),
                // It cannot be taken back now; who is left hears no more than before.
                Err(SILENT) => {}
                Err(_) => self.retire(node),
            }
        }
        let is_idle = self.tree[node].anchor.is_none()
            && self.tree[node].cover == CoverId::NONE
            && !self.tree.has_children(node);
        if is_idle && node != ROOT && !self.is_known_child(node) {
            self.remove_node(node);
        }
    }

    fn unmark(&mut self, node: NodeId, object: &Object, mask: u64) {
        let Some(fs) = self.tree[node].handle().map(|handle| handle.fs) else { return };
        if let Err(errno) = self.groups.remove_mark(fs, object, mask) {
            tracing::debug!(error = errno.desc(), "cannot take a mark back");
        }
        self.tree[node].marked &= !mask;
        if self.tree[node].marked == 0 {
            self.groups.discount_mark(fs);
        }
    }

    /// The bits of a node's mark that nothing needs.
    fn excess(&self, node: NodeId) -> u64 {
        let place = &self.tree[node];
        let by_path = place.anchor.as_ref().map_or(0, |anchor| anchor.mask());
        place.marked & !(by_path | self.cover_mask(node))
    }

    /// Opens a node by its path.
    pub(super) fn open(&self, node: NodeId) -> Result<Object, Errno> {
        let path = self.tree.path(node);
        let envoy = self.served.envoy_at(&path)?;
        let path = Path::new(OsStr::from_bytes(&path));
        envoy.map_or_else(|| Object::open(path), |envoy| envoy.open(path))
    }

    /// Opens an entry of a node's directory, which `object` holds. It may be where
    /// something is mounted that somebody else has to look at.
    pub(super) fn entry(&self, node: NodeId, object: &Object, name: &[u8]) -> Result<Object, Errno> {
        if self.served.is_empty() {
            return object.entry(name);
        }
        let path = join(&self.tree.path(node), name);
        match self.served.envoy_at(&path)? {
            Some(envoy) if !object.is_seen_by(&envoy) => envoy.open(Path::new(OsStr::from_bytes(&path))),
            _ => object.entry(name),
        }
    }

    /// Opens a node by its path if its inode is still there.
    pub(super) fn open_bound(&self, node: NodeId) -> Result<Object, Errno> {
        let object = self.open(node)?;
        let mut room = HandleBuffer::default();
        let is_it = self.tree[node].handle() == Some(object.handle(&mut room)?);
        if is_it { Ok(object) } else { Err(Errno::ESTALE) }
    }
}
