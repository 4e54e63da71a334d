//! The directories below a rule's PATH that have to be known: taken in, let go.
//!
//! A directory is marked before it is read. What reading finds may also be told by
//! events, and is then reported once (see `arrival`). Depth is not recursion here:
//! one descriptor a level is held, none a directory.

use super::Watch;
use super::arrival::Origin;
use super::cover::CoverId;
use super::resolve::{News, describe};
use super::rules::{PathState, Slot};
use super::tree::{Content, NodeId};
use crate::config::filter::ObjectKind;
use crate::config::rule::DEEPEST;
use crate::events::Events;
use crate::kernel::envoy::SILENT;
use crate::kernel::object::{Kind, Object, open_by_handle};
use facron_proto::Text;
use nix::errno::Errno;
use std::os::unix::ffi::OsStrExt;

/// Handles of replaced objects whose end is still to be told.
const MAX_FORMER: usize = 4096;

/// What taking a directory in has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adopted {
    /// Nothing is to be done: it is known, or not for any rule.
    Known,
    /// It was known, but not what is in it.
    Unread(NodeId),
    /// It is new to some rule.
    New(NodeId),
}

impl Adopted {
    /// The directory, if it has to be read. What is in one that was known is no news.
    fn to_read(self, news: Option<News>) -> Option<NodeId> {
        match self {
            Self::New(node) => Some(node),
            Self::Unread(node) if news.is_none() => Some(node),
            Self::Known | Self::Unread(_) => None,
        }
    }
}

/// A directory that is being read.
#[derive(Debug)]
pub(super) struct Level {
    node: NodeId,
    object: Object,
    directories: std::vec::IntoIter<Box<[u8]>>,
}

impl Watch {
    /// Takes in what is below a directory, for rules that are new there. With `news`
    /// what is found counts as an event.
    pub(super) fn grow(&mut self, top: NodeId, object: Object, slots: &[Slot], news: Option<News>) {
        let mut levels = vec![self.read_level(top, object, slots, news)];
        let mut count = 0;
        while !levels.is_empty() {
            count += self.descend(&mut levels, slots, news, 1);
            if news.is_none()
                && let [slot] = slots
                && self.go_large(*slot, count, &mut levels)
            {
                return;
            }
        }
        if let Some(news @ News { since: None, .. }) = news {
            // How old things are does not tell that they are new here.
            let name: Box<[u8]> = self.tree[top].name().into();
            self.postpone(self.tree[top].parent(), &name, news);
        }
    }

    /// Takes in at most `limit` directories, depth first; returns how many it took.
    pub(super) fn descend(
        &mut self,
        levels: &mut Vec<Level>,
        slots: &[Slot],
        news: Option<News>,
        limit: usize,
    ) -> usize {
        let mut count = 0;
        while count < limit {
            let Some(level) = levels.last_mut() else { break };
            let (parent, Some(name)) = (level.node, level.directories.next()) else {
                levels.pop();
                continue;
            };
            let object = match self.entry(parent, &level.object, &name) {
                Ok(object) if object.kind() == Kind::Directory => object,
                Ok(_) | Err(Errno::ENOENT) => continue,
                Err(errno) => {
                    self.cannot_watch(parent, &name, errno);
                    continue;
                }
            };
            let adopted = self.adopt(parent, &name, &object);
            if let Some(node) = adopted.to_read(news) {
                if levels.len() == DEEPEST {
                    self.complain(parent, &name, "too deep, what is below is not watched");
                    continue;
                }
                let level = self.read_level(node, object, slots, news);
                levels.push(level);
                count += 1;
            }
        }
        count
    }

    /// Binds, covers and marks a directory.
    pub(super) fn adopt(&mut self, parent: NodeId, name: &[u8], object: &Object) -> Adopted {
        let cover = self.cover_of(parent, name);
        let node = self.tree.child_or_new(parent, name);
        if let Err(errno) = self.occupy(node, object, Content::Directory) {
            self.cannot_watch(parent, name, errno);
            self.trim(node);
            return Adopted::Known;
        }
        if self.tree[node].cover == cover {
            let is_settled = self.tree[node].is_read || cover == CoverId::NONE;
            return if is_settled { Adopted::Known } else { Adopted::Unread(node) };
        }
        self.tree[node].cover = cover;
        self.welcome(node, object);
        match self.mark(node, object, self.cover_mask(node)) {
            Ok(()) => {}
            // Places like /proc in a tree: nothing to be seen there.
            Err(Errno::ENODEV | Errno::EOPNOTSUPP) => {
                tracing::debug!(path = %Text(self.tree.path(node)), "this file system cannot be watched");
                return Adopted::Known;
            }
            // Gone by now; the record of that is still to be read.
            Err(Errno::ENOENT | Errno::ESTALE) => return Adopted::Known,
            // Taken in when there is an answer.
            Err(SILENT) => {
                self.tree[node].cover = CoverId::NONE;
                return Adopted::Known;
            }
            Err(Errno::ENOSPC) => {
                self.run_out_of_marks(node);
                return Adopted::Known;
            }
            Err(errno) => self.cannot_watch(parent, name, errno),
        }
        Adopted::New(node)
    }

    fn read_level(&mut self, node: NodeId, object: Object, slots: &[Slot], news: Option<News>) -> Level {
        let entries = object.entries().unwrap_or_else(|errno| {
            self.cannot_watch(node, b"", errno);
            Vec::new()
        });
        self.tree[node].is_read = true;
        let reach = self.reach(node);
        if let Some(News { own, since }) = news {
            let slots: Vec<_> = slots.iter().copied().filter(|slot| reach.contains(slot)).collect();
            for (name, _) in &entries {
                self.arrivals.add(node, name, Origin::Found { since }, own, &slots);
            }
        }
        let directories: Vec<_> = if self.knows_children(node) {
            let may_be_directory = |kind: &Option<Kind>| matches!(kind, None | Some(Kind::Directory));
            entries.into_iter().filter(|(_, kind)| may_be_directory(kind)).map(|(name, _)| name).collect()
        } else {
            Vec::new()
        };
        Level { node, object, directories: directories.into_iter() }
    }

    /// The rules that see what happens to the entries of a directory.
    pub(super) fn reach(&self, dir: NodeId) -> Vec<Slot> {
        let place = &self.tree[dir];
        let targets = place.anchor.as_ref().map_or(&[][..], |anchor| &anchor.targets);
        targets.iter().chain(&*self.covers[place.cover].rules).copied().collect()
    }

    /// Whether the directories in a directory have to be known.
    pub(super) fn knows_children(&self, dir: NodeId) -> bool {
        self.tree[dir].content == Content::Directory
            && (self.tree[dir].cover != CoverId::NONE
                || self.reach(dir).iter().any(|slot| self.rules[*slot].needs.knows_children))
    }

    /// Whether a node is there because something above it has to know it.
    pub(super) fn is_known_child(&self, node: NodeId) -> bool {
        self.tree[node].content == Content::Directory && self.knows_children(self.tree[node].parent())
    }

    /// The recursive rules that see what is in a directory.
    pub(super) fn cover_of(&mut self, parent: NodeId, name: &[u8]) -> CoverId {
        let is_covering = |slot: &Slot| {
            let options = &self.rules[*slot].spec.options;
            options.recursive && !self.is_excluded(*slot, parent, name)
        };
        let slots: Vec<_> = self.reach(parent).into_iter().filter(is_covering).collect();
        let rules = &self.rules;
        self.covers.intern(slots, |slot| rules[slot].needs.below)
    }

    fn is_excluded(&self, slot: Slot, parent: NodeId, name: &[u8]) -> bool {
        let rule = &self.rules[slot];
        let target = rule.target.unwrap_or(parent);
        let above = self.tree.path_below(target, parent).unwrap_or_default();
        rule.spec.options.filter.excludes_tree(&join(&above, name))
    }

    /// A rule looks no longer below a directory.
    pub(super) fn ungrow(&mut self, top: NodeId, slot: Slot) {
        if self.rules[slot].needs.knows_children {
            let nodes = self.tree.children(top);
            self.uncover(nodes, slot);
        }
    }

    /// A rule sees directories, and what is below them, no longer.
    pub(super) fn uncover(&mut self, mut nodes: Vec<NodeId>, slot: Slot) {
        let mut next = 0;
        while let Some(node) = nodes.get(next).copied() {
            next += 1;
            let cover = self.tree[node].cover;
            if self.covers[cover].rules.contains(&slot) {
                let rest = self.covers[cover].rules.iter().copied().filter(|other| *other != slot).collect();
                let rules = &self.rules;
                self.tree[node].cover = self.covers.intern(rest, |slot| rules[slot].needs.below);
                nodes.extend(self.tree.children(node));
            }
        }
        for node in nodes.into_iter().rev() {
            self.trim(node);
        }
    }

    /// What was at a place is there no longer: forgets it and all below.
    pub(super) fn vacate(&mut self, node: NodeId) {
        self.clear(node);
        let is_idle = self.tree[node].anchor.is_none() && !self.tree.has_children(node);
        if is_idle && node != super::tree::ROOT {
            self.remove_node(node);
        }
    }

    /// As `vacate`, but keeps the node itself.
    pub(super) fn clear(&mut self, node: NodeId) {
        self.tree[node].cover = CoverId::NONE;
        self.tree[node].is_read = false;
        for child in self.tree.children(node) {
            self.vacate(child);
        }
        self.remember_former(node);
        self.retire(node);
    }

    /// Rules about the end of what they watch hear of it after its place was taken.
    fn remember_former(&mut self, node: NodeId) {
        let place = &self.tree[node];
        let (Some(anchor), Some(handle)) = (&place.anchor, place.handle()) else { return };
        let wants_end = |slot: &Slot| self.rules[*slot].spec.events.intersects(Events::SELF);
        if anchor.targets.iter().any(wants_end) {
            if self.former.len() >= MAX_FORMER {
                tracing::warn!("too many replaced files are still in use; some of their ends go untold");
                self.former.clear();
            }
            self.former.insert((handle.fs, handle.bytes.into()), node);
        }
    }

    /// Unbinds a node and takes its mark from the inode, if that lives on somewhere.
    pub(super) fn retire(&mut self, node: NodeId) {
        let marked = self.tree[node].marked;
        let Some(handle) = self.tree[node].handle() else { return };
        if marked != 0 {
            let (fs, is_former) = (handle.fs, self.former.contains_key(&(handle.fs, handle.bytes.into())));
            if !is_former && let Some(object) = self.open_elsewhere(node) {
                // It may be gone by now, which is as good.
                let _ = self.groups.remove_mark(fs, &object, marked);
            }
            self.groups.discount_mark(fs);
        }
        self.tree.unbind(node);
    }

    /// Opens a node's inode wherever it is now; `None` where that cannot be done.
    fn open_elsewhere(&self, node: NodeId) -> Option<Object> {
        let handle = self.tree[node].handle()?;
        let mut at = self.tree[node].parent();
        loop {
            let on_same = self.tree[at].handle().is_some_and(|above| above.fs == handle.fs);
            if on_same && let Ok(mount) = self.open_bound(at) {
                return open_by_handle(&mount, handle).ok();
            }
            if at == super::tree::ROOT {
                return None;
            }
            at = self.tree[at].parent();
        }
    }

    pub(super) fn remove_node(&mut self, node: NodeId) {
        if self.tree[node].marked != 0 {
            self.retire(node);
        }
        self.arrivals.forget_directory(node);
        self.former.retain(|_, other| *other != node);
        self.tree.remove(node);
    }

    /// What an object is, in terms of `type=`.
    pub(super) fn object_kind(events: Events) -> ObjectKind {
        if events.contains(Events::ONDIR) { ObjectKind::Directory } else { ObjectKind::File }
    }

    /// No directory gets a mark any more: the rules that see this one have failed,
    /// even if what they have goes on.
    fn run_out_of_marks(&mut self, node: NodeId) {
        let why = describe(&self.tree.path(node), Errno::ENOSPC);
        for slot in &*self.covers[self.tree[node].cover].rules {
            let rule = &mut self.rules[*slot];
            if rule.state == PathState::Active {
                let path = Text::from(rule.spec.path.as_os_str().as_bytes());
                tracing::error!(%path, "cannot watch the whole tree: {why}");
                rule.state = PathState::Failed(why.clone());
            }
        }
    }

    /// What does not answer is looked at when it does.
    fn cannot_watch(&self, parent: NodeId, name: &[u8], errno: Errno) {
        if errno != SILENT {
            self.complain(parent, name, errno.desc());
        }
    }

    pub(super) fn complain(&self, parent: NodeId, name: &[u8], why: &str) {
        let path = Text(join(&self.tree.path(parent), name));
        tracing::warn!(%path, "cannot watch this directory: {why}");
    }
}

/// A name in a directory; either may be empty.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match (dir, name) {
        (b"", name) => name.to_vec(),
        (dir, b"") => dir.to_vec(),
        (b"/", name) => [b"/", name].concat(),
        (dir, name) => [dir, b"/", name].concat(),
    }
}
