//! The changes by a record: directories that come, go and move, and places on the path of a
//! rule.

use super::Mirror;
use crate::config::rule::DEEPEST;
use crate::events::Events;
use crate::kernel::record::{Handle, Record};
use crate::watch::matcher::{Side, Sides};
use crate::watch::recheck::{Change, News};
use crate::watch::rules::Slot;
use crate::watch::tree::{Content, Ghost, NodeId};
use std::time::SystemTime;

/// Events of an object that leaves its place.
const LEAVES: Events = Events::DELETE.with(Events::MOVED_FROM);

/// Events of an object that comes to a place.
const COMES: Events = Events::CREATE.with(Events::MOVED_TO);

impl Mirror {
    /// Updates the places of a record's names.
    pub(super) fn follow(&mut self, record: &Record<'_>, sides: &Sides<'_>, own: &mut dyn FnMut() -> bool) {
        for Side { entry, events } in sides.iter() {
            let dirs: Vec<_> = self.tree.places(entry.dir).collect();
            for dir in dirs {
                // One that is gone may be back somewhere, with what came to it before, and
                // without what left it.
                if self.tree.has(dir) && matches!(self.tree.ghost(dir), None | Some(Ghost::Gone)) {
                    self.follow_entry(record, dir, entry.name, events, own);
                }
            }
        }
    }

    fn follow_entry(
        &mut self,
        record: &Record<'_>,
        dir: NodeId,
        name: &[u8],
        events: Events,
        own: &mut dyn FnMut() -> bool,
    ) {
        let is_directory = events.contains(Events::ONDIR);
        let known = self.tree.child(dir, name);
        let is_led_through = known.is_some_and(|node| self.tree[node].references.is_some());
        let is_known = is_directory && self.rules.knows_children(&self.tree, dir);
        if !is_led_through && !is_known {
            return;
        }
        // What was made in it since is told by later records, if it is marked already.
        let told = self.is_late.then(SystemTime::now);
        let news = News { own: own(), told, ..News::default() };
        if events.intersects(LEAVES) {
            self.on_leaving(record, dir, name, events, &news);
        }
        if events.intersects(COMES) && is_directory {
            let made = record.object.filter(|_| events.contains(Events::CREATE));
            if !is_led_through && made.is_some_and(|made| self.take_at_word(dir, name, made)) {
                return;
            }
        }
        // A directory that moved away may be back: of the moves a to b, b to a and a to b, the
        // kernel merges the last one with the first one.
        let may_be_back = events.contains(Events::MOVED_FROM) && is_directory;
        if is_led_through || may_be_back || events.intersects(COMES) {
            self.recheck.change(dir, name, Change { news: Some(news), ..Change::default() });
        }
    }

    fn on_leaving(&mut self, record: &Record<'_>, dir: NodeId, name: &[u8], events: Events, news: &News) {
        let is_it = |node: &NodeId| {
            let handle = self.tree.handle(*node);
            handle.is_some() && (record.object.is_none() || handle == record.object)
        };
        let gone = || {
            let node = self.tree.gone(record.object?)?;
            (self.tree.parent(node) == dir && *self.tree[node].name() == *name).then_some(node)
        };
        let Some(node) = self.tree.child(dir, name).filter(is_it).or_else(gone) else { return };
        let is_move = events.contains(Events::MOVED_FROM);
        if is_move
            && self.tree[node].content == Content::Directory
            && let Some(new) = record.new
            && let Some(to) = self.live_place(new.dir)
            && self.rules.knows_children(&self.tree, to)
            && self.fits(node, to)
        {
            return self.relocate(node, to, new.name, news);
        }
        let is_dead = !is_move && self.tree[node].content == Content::Directory;
        let inode = self.tree[node].inode().filter(|_| is_move);
        let users = self.depart(node, if is_dead { Ghost::Dead } else { Ghost::Left });
        if let Some(inode) = inode {
            self.leave_former(inode);
        }
        self.resolve_all(&users, news);
    }

    fn live_place(&self, dir: Handle<'_>) -> Option<NodeId> {
        self.tree.places(dir).find(|node| self.tree.ghost(*node).is_none())
    }

    /// Whether a directory can be moved into another one with everything below: neither there
    /// nor here is a part of it too deep to be watched. Otherwise it is given up here, and read
    /// there.
    pub(super) fn fits(&self, node: NodeId, dir: NodeId) -> bool {
        let is_within = |top| self.tree.depth(top, DEEPEST) + self.tree.height(node) < DEEPEST;
        is_within(node) && is_within(dir)
    }

    /// A directory was moved from one known place to another, with everything below.
    pub(super) fn relocate(&mut self, node: NodeId, dir: NodeId, name: &[u8], news: &News) {
        if self.tree.is_above(node, dir) {
            return;
        }
        let mut users = self.users(node);
        if let Some(taken) = self.tree.child(dir, name).filter(|taken| *taken != node) {
            users.extend(self.users(taken));
            // The node that is there goes, because the directory takes its place.
            self.remember_former(taken);
            self.tree.make_ghost(taken, Ghost::Left);
            self.burying.push(taken);
        }
        let left = self.tree.parent(node);
        self.tree.rename(node, dir, name);
        users.sort_unstable();
        users.dedup();
        self.resolve_all(&users, news);
        self.tidy(left);
    }

    pub(super) fn resolve_all(&mut self, slots: &[Slot], news: &News) {
        for slot in slots {
            self.resolve(*slot, Some(news));
        }
    }

    /// A directory was made where every rule relies on the mark of the file system. Then it
    /// needs no look: the record says everything, and its entries have records themselves.
    fn take_at_word(&mut self, parent: NodeId, name: &[u8], made: Handle<'_>) -> bool {
        let rules = self.rules.seen_by(&self.tree, parent, name);
        if !self.is_served(&rules, made.fs) {
            return false;
        }
        if let Some(node) = self.tree.child(parent, name).filter(|node| self.tree.handle(*node) != Some(made))
        {
            self.depart(node, Ghost::Left);
        }
        let node = self.tree.child_or_new(parent, name);
        self.tree.bind(node, made, Content::Directory);
        self.rules.assign(&mut self.tree, node, &rules);
        true
    }
}
