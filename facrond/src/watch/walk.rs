//! The walk along a rule's PATH, from the root or from where it is known already.
//!
//! Directories on the way are held by descriptor only while they are looked at;
//! a descriptor kept on a watched mount would make its unmounting fail.

use super::Watch;
use super::grow::join;
use super::resolve::describe;
use super::rules::{PathState, Slot};
use super::tree::{Content, NodeId, ROOT};
use crate::kernel::envoy::SILENT;
use crate::kernel::object::{HandleBuffer, Kind, Object};
use facron_proto::Text;
use nix::errno::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How many symbolic links a path may have, as in `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// The walk of one rule along its path.
pub(super) struct Walk {
    slot: Slot,
    /// Components still to go, the next one last.
    todo: Vec<Box<[u8]>>,
    at: NodeId,
    object: Object,
    links: usize,
    pub(super) trail: Vec<NodeId>,
}

/// Why a walk ended before its path did.
pub(super) enum Stop {
    Waiting(String),
    Silent(String),
    Failed(String),
}

impl From<Stop> for PathState {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Waiting(why) | Stop::Silent(why) => Self::Waiting(why),
            Stop::Failed(why) => Self::Failed(why),
        }
    }
}

/// Where a walk ended.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum End {
    Directory(NodeId, Object),
    Entry { parent: NodeId, node: NodeId, exists: bool },
}

impl Watch {
    /// Starts at the deepest directory of the path that is known already.
    pub(super) fn start_walk(&mut self, slot: Slot) -> Result<Walk, Errno> {
        let path = self.rules[slot].spec.path.clone();
        let mut todo: Vec<Box<[u8]>> = components(path.as_os_str().as_bytes()).collect();
        todo.reverse();
        let mut trail = vec![ROOT];
        let mut at = ROOT;
        while let Some(name) = todo.last() {
            match self.tree.child(at, name) {
                Some(node) if self.tree[node].content == Content::Directory => at = node,
                _ => break,
            }
            todo.pop();
            trail.push(at);
        }
        if let Ok(object) = self.open(at) {
            return Ok(Walk { slot, todo, at, object, links: 0, trail });
        }
        todo = components(path.as_os_str().as_bytes()).collect();
        todo.reverse();
        let object = Object::open(Path::new("/"))?;
        Ok(Walk { slot, todo, at: ROOT, object, links: 0, trail: vec![ROOT] })
    }

    pub(super) fn walk(&mut self, walk: &mut Walk) -> Result<End, Stop> {
        self.bind_root(walk);
        for node in walk.trail.clone() {
            self.anchor(node).add(walk.slot, 0);
        }
        while let Some(name) = walk.todo.pop() {
            self.mark_way(walk);
            if *name == *b".." {
                self.step_up(walk)?;
                continue;
            }
            let node = self.tree.child_or_new(walk.at, &name);
            self.anchor(node).add(walk.slot, 0);
            walk.trail.push(node);
            let found = self.look(walk, &name)?;
            match found {
                Some(object) if object.kind() == Kind::Directory => self.step_down(walk, node, object)?,
                Some(object) if object.kind() == Kind::Link => self.step_along(walk, node, &object)?,
                Some(_) if !walk.todo.is_empty() => {
                    self.vacate(node);
                    let path = Text(self.tree.path(node));
                    return Err(Stop::Waiting(format!("{path} is not a directory")));
                }
                None if !walk.todo.is_empty() => {
                    self.vacate(node);
                    let (dir, name) = (Text(self.tree.path(walk.at)), Text(name.into()));
                    return Err(Stop::Waiting(format!("{dir} has no {name} yet")));
                }
                _ => return self.end_at_entry(walk, node, &name),
            }
        }
        let object = self.open(walk.at).map_err(|errno| self.stop_at(walk.at, errno))?;
        Ok(End::Directory(walk.at, object))
    }

    /// The last component is no directory: the directory that it is in gets the
    /// rule's mark, and only then does what is seen there count.
    fn end_at_entry(&mut self, walk: &mut Walk, node: NodeId, name: &[u8]) -> Result<End, Stop> {
        let needs = self.rules[walk.slot].needs;
        let parent = walk.at;
        self.want(parent, &walk.object, walk.slot, needs.parent)
            .map_err(|errno| self.stop_at(parent, errno))?;
        let Some(object) = self.look(walk, name)? else {
            self.vacate(node);
            return Ok(End::Entry { parent, node, exists: false });
        };
        match object.kind() {
            Kind::Directory => {
                self.step_down(walk, node, object)?;
                let object = self.open(node).map_err(|errno| self.stop_at(node, errno))?;
                return Ok(End::Directory(node, object));
            }
            Kind::Link => {
                self.step_along(walk, node, &object)?;
                return self.walk(walk);
            }
            Kind::File | Kind::Other => {}
        }
        let marked = self
            .occupy(node, &object, Content::File)
            .and_then(|()| self.want(node, &object, walk.slot, needs.file));
        match marked {
            Ok(()) => Ok(End::Entry { parent, node, exists: true }),
            // A FUSE server does not answer for a file that is gone by now, even if it
            // is still held. The record of that is still to be read.
            Err(Errno::ENOENT | Errno::ESTALE) => {
                self.vacate(node);
                Ok(End::Entry { parent, node, exists: false })
            }
            Err(errno) => Err(self.stop_at(node, errno)),
        }
    }

    fn bind_root(&mut self, walk: &Walk) {
        if walk.at == ROOT
            && self.tree[ROOT].content == Content::Unbound
            && let Ok(handle) = walk.object.handle(&mut HandleBuffer::default())
        {
            self.tree.bind(ROOT, handle, Content::Directory);
        }
    }

    /// Marks the directory that the walk is in. Where that is not possible (no
    /// permission, a file system without handles) the way below it still works, but
    /// a rename of what is in it goes unseen.
    fn mark_way(&mut self, walk: &Walk) {
        let mask = self.rules[walk.slot].needs.way;
        if let Err(errno) = self.want(walk.at, &walk.object, walk.slot, mask) {
            let path = Text(self.tree.path(walk.at));
            tracing::debug!(%path, error = errno.desc(), "cannot follow renames in this directory");
        }
    }

    fn look(&self, walk: &Walk, name: &[u8]) -> Result<Option<Object>, Stop> {
        match self.entry(walk.at, &walk.object, name) {
            Ok(object) => Ok(Some(object)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(self.stop(&join(&self.tree.path(walk.at), name), errno)),
        }
    }

    pub(super) fn stop_at(&self, node: NodeId, errno: Errno) -> Stop {
        self.stop(&self.tree.path(node), errno)
    }

    fn stop(&self, path: &[u8], errno: Errno) -> Stop {
        match self.served.silence(path) {
            Some(why) if errno == SILENT => Stop::Silent(why),
            _ => Stop::Failed(describe(path, errno)),
        }
    }

    fn step_down(&mut self, walk: &mut Walk, node: NodeId, object: Object) -> Result<(), Stop> {
        self.occupy(node, &object, Content::Directory).map_err(|errno| self.stop_at(node, errno))?;
        walk.at = node;
        walk.object = object;
        Ok(())
    }

    fn step_up(&mut self, walk: &mut Walk) -> Result<(), Stop> {
        walk.at = self.tree[walk.at].parent();
        walk.object = self.open(walk.at).map_err(|errno| self.stop_at(walk.at, errno))?;
        Ok(())
    }

    /// Goes on where a symbolic link points.
    fn step_along(&mut self, walk: &mut Walk, node: NodeId, link: &Object) -> Result<(), Stop> {
        self.vacate(node);
        let failed = |errno| self.stop_at(node, errno);
        walk.links += 1;
        if walk.links > MAX_LINKS {
            return Err(failed(Errno::ELOOP));
        }
        let target = link.target().map_err(failed)?;
        if target.first() == Some(&b'/') {
            walk.object = Object::open(Path::new("/")).map_err(failed)?;
            walk.at = ROOT;
        }
        let mut names: Vec<Box<[u8]>> = components(&target).collect();
        names.reverse();
        walk.todo.extend(names);
        Ok(())
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Box<[u8]>> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".").map(Box::from)
}
