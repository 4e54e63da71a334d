//! Places that directories were renamed away from, and may be back at.
//!
//! The kernel merges equal records that are not read yet: of `a` to `b`, `b` to `a`
//! and `a` to `b` again, the last is not told. So when the queue is empty, it is
//! looked what stands at the places that were left.

use super::Watch;
use super::resolve::News;
use super::tree::NodeId;
use crate::kernel::envoy::SILENT;
use crate::kernel::object::{HandleBuffer, Kind};
use nix::errno::Errno;

/// A place, and whether facron's own commands made the directory leave it.
#[derive(Debug)]
pub struct Left {
    dir: NodeId,
    name: Box<[u8]>,
    own: bool,
}

impl Watch {
    /// A record said that a directory was renamed to another place.
    pub(super) fn note_left(&mut self, dir: NodeId, name: &[u8], own: bool) {
        let is_it = |left: &Left| left.dir == dir && *left.name == *name;
        if !self.left.last().is_some_and(is_it) {
            self.left.push(Left { dir, name: name.into(), own });
        }
    }

    /// Looks at the places that were left since the queue was last empty.
    pub(super) fn settle_renames(&mut self) {
        for left in std::mem::take(&mut self.left) {
            if self.knows_children(left.dir)
                // Gone again, or never back: as it was told.
                && let Err(errno) = self.look_at_left(&left)
                && errno != Errno::ENOENT
            {
                tracing::debug!(error = errno.desc(), "cannot look where a directory was");
            }
        }
    }

    fn look_at_left(&mut self, Left { dir, name, own }: &Left) -> Result<(), Errno> {
        let object = self.entry(*dir, &self.open_bound(*dir)?, name)?;
        if object.kind() != Kind::Directory {
            return Ok(());
        }
        let mut room = HandleBuffer::default();
        let handle = object.handle(&mut room)?;
        let is_here = |node: &NodeId| self.tree[*node].parent() == *dir && self.tree[*node].name() == &**name;
        let elsewhere: Vec<_> = self.tree.by_handle(handle).filter(|node| !is_here(node)).collect();
        let is_gone = |node: &NodeId| self.open_bound(*node).is_err_and(|errno| errno != SILENT);
        match elsewhere.into_iter().find(is_gone) {
            Some(node) => {
                self.transplant(node, *dir, name);
                self.recover(*dir, name, *own);
            }
            None => self.take_in(*dir, name, News { own: *own, since: None }),
        }
        Ok(())
    }
}
