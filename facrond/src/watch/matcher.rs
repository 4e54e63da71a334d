//! From a record to the rules that it fires. Pure: it does not ask the kernel.

use super::recheck::View;
use super::rules::{Moves, RuleIndex, Slot, join};
use super::tree::{Content, NodeId, PathTree};
use crate::config::filter::ObjectKind;
use crate::config::rule::Stdin;
use crate::event::{Event, ObjectId};
use crate::events::Events;
use crate::kernel::record::{Entry, Handle, Record};
use crate::matcher::{Position, mask_of, matched, may_have_arrived};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::SystemTime;

/// A rule that an event has fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Firing {
    pub(super) slot: Slot,
    pub(super) matched: Events,
    /// The directory and name below PATH; `None` for PATH itself.
    pub(super) place: Option<(NodeId, Box<[u8]>)>,
}

/// One name in a record, with the events of this name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side<'a> {
    pub(super) entry: Entry<'a>,
    pub(super) events: Events,
}

/// The names in a record. `FAN_RENAME` has two names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides<'a>([Option<Side<'a>>; 3]);

impl<'a> Sides<'a> {
    /// The names of a record. If the kernel reports a rename by two records, each of them
    /// counts as a rename.
    pub(super) fn of(record: &Record<'a>, moves: Moves) -> Self {
        let events = Events::from_mask(record.mask);
        let flags = events.and(Events::ONDIR);
        let renamed = |to: Events| flags.with(Events::RENAME).with(to);
        let is_move = moves == Moves::FromTo && events.intersects(Events::MOVE);
        let of_entry = if is_move { events.with(Events::RENAME) } else { events };
        Self([
            record.old.map(|entry| Side { entry, events: renamed(Events::MOVED_FROM) }),
            record.new.map(|entry| Side { entry, events: renamed(Events::MOVED_TO) }),
            record.entry.map(|entry| Side { entry, events: of_entry }),
        ])
    }

    /// Each name, with its events.
    pub(super) fn iter(&self) -> impl Iterator<Item = Side<'a>> {
        self.0.into_iter().flatten()
    }

    /// The same events, for an entry that has another name by now.
    pub(super) fn renamed(&self, dir: Handle<'a>, name: &'a [u8]) -> Self {
        let renamed = |side: Side<'a>| Side { entry: Entry { dir, name }, ..side };
        Self(self.0.map(|side| side.map(renamed)))
    }

    /// All events of the record and its names.
    pub(super) fn events(&self, record: &Record<'_>) -> Events {
        self.iter().fold(Events::from_mask(record.mask), |all, side| all.with(side.events))
    }
}

/// The facts that all firings of a record have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause<'a> {
    pub(super) time: SystemTime,
    pub(super) events: Events,
    pub(super) pid: i32,
    pub(super) synthetic: bool,
    pub(super) object: Option<Handle<'a>>,
}

/// The rules and places with which records are matched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matcher<'a> {
    pub(super) tree: &'a PathTree,
    pub(super) rules: &'a RuleIndex,
    /// The former place of an inode, with the events that are still about this place.
    pub(super) former: Option<(NodeId, Events)>,
}

impl Matcher<'_> {
    /// The rules that a record fires.
    pub(super) fn firings(&self, record: &Record<'_>, sides: &Sides<'_>) -> Vec<Firing> {
        let mut firings = Vec::new();
        for Side { entry: Entry { dir, name }, events } in sides.iter() {
            for node in self.tree.places(dir).filter(|node| !self.tree.is_left(*node)) {
                if name == b"." {
                    self.match_directory(node, events, &mut firings);
                } else {
                    self.match_entry(node, name, events, &mut firings);
                }
            }
        }
        self.match_object(record, &mut firings);
        firings
    }

    /// The rules that want to know whether a record is about a file that was linked in.
    pub(super) fn may_have_arrived(&self, dir: NodeId, name: &[u8], events: Events) -> Vec<View> {
        let below = self.rules.reach(self.tree, dir).map(|slot| (slot, Position::Below));
        let at = self.tree.child(dir, name).map_or(&[][..], |node| self.tree.targets(node));
        let at = at.iter().map(|slot| (*slot, Position::Path));
        let may = |(slot, position): &View| {
            let place = (*position == Position::Below).then_some((dir, name));
            may_have_arrived(&self.rules[*slot].spec, events) && self.accepts(*slot, place, events)
        };
        below.chain(at).filter(may).collect()
    }

    /// An event of a directory itself, for rules on it and rules on a directory above it.
    fn match_directory(&self, node: NodeId, events: Events, firings: &mut Vec<Firing>) {
        let events = events.with(Events::ONDIR);
        self.match_path(node, events, firings);
        let (parent, name) = (self.tree.parent(node), self.tree[node].name());
        if parent != node {
            for slot in self.rules.reach(self.tree, parent) {
                self.consider(slot, Some((parent, name)), events, firings);
            }
        }
    }

    /// An event of an entry of a directory.
    fn match_entry(&self, dir: NodeId, name: &[u8], events: Events, firings: &mut Vec<Firing>) {
        for slot in self.rules.reach(self.tree, dir) {
            self.consider(slot, Some((dir, name)), events, firings);
        }
        if self.tree.any_child(dir).is_some()
            && let Some(node) = self.tree.child(dir, name)
        {
            self.match_path(node, events, firings);
        }
    }

    /// An event of a watched file under another name, or the end of the file.
    fn match_object(&self, record: &Record<'_>, firings: &mut Vec<Firing>) {
        let events = Events::from_mask(record.mask);
        let of_object = events.and(Events::OBJECT.with(Events::SELF));
        if of_object.is_empty() {
            return;
        }
        if let Some(object) = record.object {
            let is_file =
                |node: &NodeId| self.tree[*node].content == Content::File && !self.tree.is_left(*node);
            for node in self.tree.places(object).filter(is_file) {
                if !self.is_told_by_name(node, record.entry) && self.is_other_link(node, record.entry) {
                    self.match_path(node, of_object, firings);
                }
            }
        }
        if let Some((node, awaited)) = self.former.filter(|(_, awaited)| events.intersects(*awaited)) {
            self.match_path(node, events.and(awaited.with(Events::ONDIR)), firings);
        }
    }

    fn is_told_by_name(&self, node: NodeId, entry: Option<Entry<'_>>) -> bool {
        let parent = self.tree.parent(node);
        let is_it = |entry: Entry<'_>| {
            entry.name == self.tree[node].name() && self.tree.places(entry.dir).any(|dir| dir == parent)
        };
        entry.is_some_and(is_it)
    }

    /// Whether an event under another name came through a hard link. In a known directory the
    /// record may also be old, from the time before the file got its present name.
    fn is_other_link(&self, node: NodeId, entry: Option<Entry<'_>>) -> bool {
        let is_known = |dir: Handle<'_>| self.tree.places(dir).next().is_some();
        !entry.is_some_and(|entry| is_known(entry.dir))
            || self.tree.inode_at(node).is_some_and(|inode| inode.has_links)
    }

    fn match_path(&self, node: NodeId, events: Events, firings: &mut Vec<Firing>) {
        for slot in self.tree.targets(node) {
            self.consider(*slot, None, events, firings);
        }
    }

    /// Adds a firing if the rule's events and filter match. A rename within a rule's directory
    /// is one firing, under the new name.
    fn consider(
        &self,
        slot: Slot,
        place: Option<(NodeId, &[u8])>,
        events: Events,
        firings: &mut Vec<Firing>,
    ) {
        let wanted = self.rules[slot].events;
        let position = if place.is_some() { Position::Below } else { Position::Path };
        let matched = matched(wanted, position, events);
        if matched.is_empty() || !self.accepts(slot, place, events) {
            return;
        }
        let place = place.map(|(dir, name)| (dir, name.into()));
        match firings.iter_mut().find(|firing| firing.slot == slot) {
            Some(firing) => *firing = Firing { slot, matched: firing.matched.with(matched), place },
            None => firings.push(Firing { slot, matched, place }),
        }
    }

    /// Whether a rule's filter accepts an event.
    pub(super) fn accepts(&self, slot: Slot, place: Option<(NodeId, &[u8])>, events: Events) -> bool {
        let rule = &self.rules[slot];
        // Its filter is about files, and the watch reports directories.
        if rule.spec.asks_permission() {
            return true;
        }
        let kind = object_kind(events);
        match place {
            None => {
                let name = rule.spec.path.file_name().unwrap_or_default();
                rule.spec.accepts(b"", name.as_bytes(), kind)
            }
            Some((dir, name)) if rule.target == Some(dir) || !rule.spec.depends_on_paths() => {
                rule.spec.accepts(name, name, kind)
            }
            Some((dir, name)) => {
                let above = rule.target.and_then(|target| self.tree.path_below(target, dir));
                rule.spec.accepts(&join(&above.unwrap_or_default(), name), name, kind)
            }
        }
    }

    /// Makes the event of a firing, with its full path.
    pub(super) fn event(&self, firing: &Firing, cause: &Cause<'_>, old: Option<(NodeId, &[u8])>) -> Event {
        let object = cause.object.filter(|_| self.rules[firing.slot].spec.stdin() == Stdin::File);
        let place = firing.place.as_ref().map(|(dir, name)| (*dir, &**name));
        Event {
            time: cause.time,
            events: firing.matched,
            mask: mask_of(firing.matched, cause.events),
            path: self.rules.path_of(self.tree, firing.slot, place),
            old_path: old.map(|old| self.rules.path_of(self.tree, firing.slot, Some(old))),
            pid: cause.pid,
            exe: None,
            uid: None,
            synthetic: cause.synthetic,
            object: object.map(|object| Rc::new(ObjectId { fs: object.fs.0, handle: object.bytes.into() })),
        }
    }
}

/// The kind of an event's object, for `type=`.
fn object_kind(events: Events) -> ObjectKind {
    if events.contains(Events::ONDIR) { ObjectKind::Directory } else { ObjectKind::File }
}
