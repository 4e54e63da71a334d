//! From a rule's PATH to the node that it is, marking on the way.
//!
//! Directories on the way are held by descriptor only while they are looked at;
//! a descriptor kept on a watched mount would make its unmounting fail.

use super::Watch;
use super::arrival::Origin;
use super::rules::{Inode, PathState, Seat, Slot};
use super::tree::{Content, NodeId, ROOT};
use crate::kernel::object::{HandleBuffer, Kind, Object};
use facron_proto::Text;
use nix::errno::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

/// How many symbolic links a path may have, as in `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// Why a path is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The rule is new: what is there already is no event.
    First,
    /// Something on the way changed: what is found is news.
    Change(News),
}

/// What found things mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Whether facron's own commands caused them.
    pub own: bool,
    /// Only what has changed since counts; everything if nothing is known.
    pub since: Option<SystemTime>,
}

/// The walk of one rule along its path.
struct Walk {
    slot: Slot,
    /// Components still to go, the next one last.
    todo: Vec<Box<[u8]>>,
    at: NodeId,
    object: Object,
    links: usize,
    trail: Vec<NodeId>,
}

/// Why a walk ended before its path did.
enum Stop {
    Waiting(String),
    Failed(String),
}

/// Where a walk ended.
enum End {
    Directory(NodeId, Object),
    Entry { parent: NodeId, node: NodeId, exists: bool },
}

impl Watch {
    /// Looks at a rule's path, marks what it needs, and gives up what it needed before.
    pub(super) fn resolve(&mut self, slot: Slot, occasion: Occasion) {
        let before = std::mem::take(&mut self.rules[slot].trail);
        let target = self.rules[slot].target.take();
        let mut walk = match self.start_walk(slot) {
            Ok(walk) => walk,
            Err(errno) => {
                self.rules[slot].trail = before;
                return self.rules[slot].state = PathState::Failed(describe(b"/", errno));
            }
        };
        let end = self.walk(&mut walk);
        let trail = std::mem::take(&mut walk.trail);
        let gone: Vec<_> = before.into_iter().filter(|node| !trail.contains(node)).collect();
        self.rules[slot].trail = trail;
        let seat = self.rules[slot].seat.take();
        match end {
            Ok(End::Directory(node, object)) => {
                self.arrive_at_directory(slot, node, object, seat.as_ref(), occasion);
            }
            Ok(End::Entry { parent, node, exists }) => {
                self.arrive_at_entry(slot, parent, node, exists, seat.as_ref(), occasion);
            }
            Err(stop) => {
                self.leave_file_systems(slot);
                self.rules[slot].state = match stop {
                    Stop::Waiting(why) => PathState::Waiting(why),
                    Stop::Failed(why) => PathState::Failed(why),
                };
            }
        }
        if let Some(target) = target
            && self.rules[slot].target != Some(target)
        {
            self.drop_target(target, slot);
        }
        self.give_up(slot, &gone);
        self.follow_file_system(slot);
    }

    /// Gives up all that a rule has.
    pub(super) fn release(&mut self, slot: Slot) {
        self.leave_file_systems(slot);
        if let Some(target) = self.rules[slot].target.take() {
            self.drop_target(target, slot);
        }
        let trail = std::mem::take(&mut self.rules[slot].trail);
        self.give_up(slot, &trail);
    }

    /// Starts at the deepest directory of the path that is known already.
    fn start_walk(&mut self, slot: Slot) -> Result<Walk, Errno> {
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

    fn walk(&mut self, walk: &mut Walk) -> Result<End, Stop> {
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
        let object =
            self.open(walk.at).map_err(|errno| Stop::Failed(describe(&self.tree.path(walk.at), errno)))?;
        Ok(End::Directory(walk.at, object))
    }

    /// The last component is no directory: the directory that it is in gets the
    /// rule's mark, and only then does what is seen there count.
    fn end_at_entry(&mut self, walk: &mut Walk, node: NodeId, name: &[u8]) -> Result<End, Stop> {
        let needs = self.rules[walk.slot].needs;
        let parent = walk.at;
        self.want(parent, &walk.object, walk.slot, needs.parent)
            .map_err(|errno| Stop::Failed(describe(&self.tree.path(parent), errno)))?;
        let Some(object) = self.look(walk, name)? else {
            self.vacate(node);
            return Ok(End::Entry { parent, node, exists: false });
        };
        match object.kind() {
            Kind::Directory => {
                self.step_down(walk, node, object)?;
                let object =
                    self.open(node).map_err(|errno| Stop::Failed(describe(&self.tree.path(node), errno)))?;
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
            Err(errno) => Err(Stop::Failed(describe(&self.tree.path(node), errno))),
        }
    }

    fn arrive_at_directory(
        &mut self,
        slot: Slot,
        node: NodeId,
        object: Object,
        before: Option<&Seat>,
        occasion: Occasion,
    ) {
        let needs = self.rules[slot].needs;
        if let Err(errno) = self.want(node, &object, slot, needs.directory) {
            let why = describe(&self.tree.path(node), errno);
            return self.rules[slot].state = PathState::Failed(why);
        }
        self.anchor(node).aim(slot);
        let seat = self.seat_of(node).map(Seat::Directory);
        let rule = &mut self.rules[slot];
        rule.target = Some(node);
        let is_same = seat.as_ref() == before;
        rule.seat = seat;
        if !is_same {
            // What had failed below is tried again only where all is looked at again.
            rule.state = PathState::Active;
            self.leave_file_systems(slot);
        }
        match occasion {
            Occasion::Change(news) if !is_same => self.grow(node, object, &[slot], Some(news)),
            _ if needs.knows_children && !is_same => self.grow(node, object, &[slot], None),
            _ => {}
        }
    }

    fn arrive_at_entry(
        &mut self,
        slot: Slot,
        parent: NodeId,
        node: NodeId,
        exists: bool,
        before: Option<&Seat>,
        occasion: Occasion,
    ) {
        self.anchor(node).aim(slot);
        let seat = self.seat_of(parent).map(Seat::Entry);
        let missing = || {
            let (dir, name) = (Text(self.tree.path(parent)), Text(self.tree[node].name().into()));
            PathState::Waiting(format!("{dir} has no {name} yet"))
        };
        let state = if exists { PathState::Active } else { missing() };
        let rule = &mut self.rules[slot];
        rule.target = Some(node);
        rule.state = state;
        let is_same = seat.as_ref() == before;
        rule.seat = seat;
        if let Occasion::Change(News { own, since }) = occasion
            && exists
            && !is_same
        {
            let name: Box<[u8]> = self.tree[node].name().into();
            self.arrivals.add(parent, &name, Origin::Found { since }, own, &[slot]);
        }
    }

    fn seat_of(&self, node: NodeId) -> Option<Inode> {
        self.tree[node].handle().map(|handle| (handle.fs, handle.bytes.into()))
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
        match walk.object.entry(name) {
            Ok(object) => Ok(Some(object)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => {
                let path = [&self.tree.path(walk.at)[..], b"/", name].concat();
                Err(Stop::Failed(describe(&path, errno)))
            }
        }
    }

    fn step_down(&mut self, walk: &mut Walk, node: NodeId, object: Object) -> Result<(), Stop> {
        self.occupy(node, &object, Content::Directory)
            .map_err(|errno| Stop::Failed(describe(&self.tree.path(node), errno)))?;
        walk.at = node;
        walk.object = object;
        Ok(())
    }

    fn step_up(&mut self, walk: &mut Walk) -> Result<(), Stop> {
        walk.at = self.tree[walk.at].parent();
        walk.object =
            self.open(walk.at).map_err(|errno| Stop::Failed(describe(&self.tree.path(walk.at), errno)))?;
        Ok(())
    }

    /// Goes on where a symbolic link points.
    fn step_along(&mut self, walk: &mut Walk, node: NodeId, link: &Object) -> Result<(), Stop> {
        self.vacate(node);
        let failed = |errno| Stop::Failed(describe(&self.tree.path(node), errno));
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

/// A sentence about a path that cannot be watched.
pub(super) fn describe(path: &[u8], errno: Errno) -> String {
    let why = match errno {
        Errno::ENOSPC => "the limit of marks is reached (see /proc/sys/fs/fanotify/max_user_marks)",
        Errno::EACCES => "permission denied",
        Errno::ENODEV | Errno::EOPNOTSUPP => {
            "its file system has no file handles, so fanotify cannot watch it"
        }
        Errno::EMFILE => "too many fanotify groups (see /proc/sys/fs/fanotify/max_user_groups)",
        Errno::ELOOP => "too many symbolic links",
        other => other.desc(),
    };
    format!("{}: {why}", Text(path.to_vec()))
}
