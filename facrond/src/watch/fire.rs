//! From a record to the rules that it fires.

use super::arrival::{Origin, Place};
use super::grow::join;
use super::needs::Moves;
use super::rules::Slot;
use super::tree::{Content, NodeId};
use super::{Hit, Watch, Whose};
use crate::event::Event;
use crate::events::Events;
use crate::kernel::record::{Entry, Record};
use crate::matcher::{Position, mask_of, matched, may_have_arrived};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::SystemTime;

/// One rule's view of one event.
pub(super) struct Firing {
    pub(super) slot: Slot,
    pub(super) matched: Events,
    /// The directory and name below PATH; nothing where it is PATH itself.
    pub(super) place: Option<Place>,
}

/// What a record says about one name.
pub(super) struct Side<'a> {
    pub(super) entry: Entry<'a>,
    pub(super) events: Events,
}

/// What every firing of a record has in common.
pub(super) struct Cause {
    pub(super) time: SystemTime,
    pub(super) events: Events,
    pub(super) pid: i32,
    pub(super) own: bool,
    pub(super) synthetic: bool,
}

/// Whether a record is one of facron's own, asked for at most once.
pub(super) struct Ownership<'a> {
    whose: &'a mut dyn Whose,
    pid: i32,
    known: Option<bool>,
}

impl Ownership<'_> {
    pub(super) fn is_own(&mut self) -> bool {
        *self.known.get_or_insert_with(|| self.whose.is_own(self.pid))
    }
}

impl Watch {
    /// One record: fires rules, then follows what it says about directories.
    pub(super) fn on_record(&mut self, record: &Record<'_>, whose: &mut dyn Whose, hits: &mut Vec<Hit>) {
        let events = Events::from_mask(record.mask);
        let flags = events.and(Events::ONDIR);
        let sides = [
            record
                .old
                .map(|entry| Side { entry, events: flags.with(Events::RENAME).with(Events::MOVED_FROM) }),
            record.new.map(|entry| Side { entry, events: flags.with(Events::RENAME).with(Events::MOVED_TO) }),
            record.entry.map(|entry| Side { entry, events: self.with_rename(events) }),
        ];
        if !self.file_systems.is_empty() {
            for side in sides.iter().flatten() {
                self.learn(side.entry.dir);
            }
        }
        let mut ownership = Ownership { whose, pid: record.pid, known: None };
        let mut firings = Vec::new();
        for side in sides.iter().flatten() {
            self.match_side(side, &mut ownership, &mut firings);
        }
        self.match_object(record, events, &mut firings);
        if !firings.is_empty() {
            let cause = Cause {
                time: SystemTime::now(),
                events: sides.iter().flatten().fold(events, |all, side| all.with(side.events)),
                pid: record.pid,
                own: ownership.is_own(),
                synthetic: false,
            };
            let old = record.old.and_then(|old| Some((self.tree.by_handle(old.dir).next()?, old.name)));
            for firing in firings {
                hits.push(self.hit(&firing, &cause, old));
            }
        }
        if events.intersects(Events::ENTRY) {
            self.follow(record, &sides, &mut ownership);
        }
    }

    /// Where the kernel tells a rename in two records, each serves rules about renames.
    fn with_rename(&self, events: Events) -> Events {
        if self.moves == Moves::FromTo && events.intersects(Events::MOVE) {
            return events.with(Events::RENAME);
        }
        events
    }

    fn match_side(&mut self, side: &Side<'_>, ownership: &mut Ownership<'_>, firings: &mut Vec<Firing>) {
        let Side { entry: Entry { dir, name }, events } = *side;
        let mut candidates = Vec::new();
        for node in self.tree.by_handle(dir) {
            if name == b"." {
                self.match_directory(node, events, firings);
            } else {
                self.match_entry(node, name, events, firings, &mut candidates);
                self.arrivals.note(node, name, events);
                self.rescan.note(node, name, events);
            }
        }
        for (node, slot) in candidates {
            let origin = Origin::Made { pid: ownership.pid };
            self.arrivals.add(node, name, origin, ownership.is_own(), &[slot]);
        }
    }

    /// An event of a directory itself: of the rules at it, and of those above it.
    fn match_directory(&self, node: NodeId, events: Events, firings: &mut Vec<Firing>) {
        let events = events.with(Events::ONDIR);
        self.match_path(node, events, firings);
        let (parent, name) = (self.tree[node].parent(), self.tree[node].name());
        if parent != node {
            for slot in self.reach_of(parent) {
                self.consider(slot, Some((parent, name)), events, firings);
            }
        }
    }

    /// An event of an entry of a directory.
    fn match_entry(
        &self,
        dir: NodeId,
        name: &[u8],
        events: Events,
        firings: &mut Vec<Firing>,
        candidates: &mut Vec<(NodeId, Slot)>,
    ) {
        for slot in self.reach_of(dir) {
            self.consider(slot, Some((dir, name)), events, firings);
            if may_have_arrived(&self.rules[slot].spec, events)
                && self.accepts(slot, Some((dir, name)), events)
            {
                candidates.push((dir, slot));
            }
        }
        if !self.tree.has_children(dir) {
            return;
        }
        if let Some(node) = self.tree.child(dir, name) {
            self.match_path(node, events, firings);
            for slot in self.targets(node) {
                if may_have_arrived(&self.rules[*slot].spec, events) && self.accepts(*slot, None, events) {
                    candidates.push((dir, *slot));
                }
            }
        }
    }

    /// An event of a watched file under another of its names, or of its end.
    fn match_object(&mut self, record: &Record<'_>, events: Events, firings: &mut Vec<Firing>) {
        let Some(object) = record.object.or(record.entry.map(|entry| entry.dir)) else { return };
        let of_object = events.and(Events::OBJECT.with(Events::SELF));
        if of_object.is_empty() {
            return;
        }
        if record.object.is_some() {
            for node in self.tree.by_handle(object) {
                let place = &self.tree[node];
                let is_told = record.entry.is_some_and(|entry| {
                    entry.name == place.name()
                        && self.tree.by_handle(entry.dir).any(|dir| dir == place.parent())
                });
                if place.content == Content::File && !is_told && self.is_other_link(node, record.entry) {
                    self.match_path(node, of_object, firings);
                }
            }
        }
        if events.intersects(Events::SELF)
            && let Some(node) = self.former.get(&(object.fs, object.bytes.into())).copied()
        {
            let end = events.and(Events::SELF.with(Events::ONDIR));
            self.match_path(node, end, firings);
            if events.contains(Events::DELETE_SELF) {
                self.former.remove(&(object.fs, object.bytes.into()));
            }
        }
    }

    /// Whether an event under another name came through a hard link. In a directory
    /// that is marked itself it may also be old: of the time before the file was
    /// renamed to its present name.
    fn is_other_link(&self, node: NodeId, entry: Option<Entry<'_>>) -> bool {
        let is_marked = entry.is_some_and(|entry| self.tree.by_handle(entry.dir).next().is_some());
        !is_marked || self.open_bound(node).is_ok_and(|object| object.stat().links() > 1)
    }

    fn match_path(&self, node: NodeId, events: Events, firings: &mut Vec<Firing>) {
        for slot in self.targets(node) {
            self.consider(*slot, None, events, firings);
        }
    }

    fn targets(&self, node: NodeId) -> &[Slot] {
        self.tree[node].anchor.as_ref().map_or(&[], |anchor| &anchor.targets)
    }

    /// As `reach`, without a list; a target that is no directory has no entries.
    fn reach_of(&self, dir: NodeId) -> impl Iterator<Item = Slot> {
        let cover = &*self.covers[self.tree[dir].cover].rules;
        self.targets(dir).iter().chain(cover).copied()
    }

    /// Adds a firing if the rule's events and filter say so. A rename within a
    /// rule's directory is one firing, under the new name.
    fn consider(
        &self,
        slot: Slot,
        place: Option<(NodeId, &[u8])>,
        events: Events,
        firings: &mut Vec<Firing>,
    ) {
        let spec = &self.rules[slot].spec;
        let position = if place.is_some() { Position::Below } else { Position::Path };
        let matched = matched(spec.events, position, events);
        if matched.is_empty() || !self.accepts(slot, place, events) {
            return;
        }
        let place = place.map(|(dir, name)| (dir, name.into()));
        match firings.iter_mut().find(|firing| firing.slot == slot) {
            Some(firing) => *firing = Firing { slot, matched: firing.matched.with(matched), place },
            None => firings.push(Firing { slot, matched, place }),
        }
    }

    pub(super) fn accepts(&self, slot: Slot, place: Option<(NodeId, &[u8])>, events: Events) -> bool {
        let filter = &self.rules[slot].spec.options.filter;
        let kind = Self::object_kind(events);
        match place {
            None => {
                let name = self.rules[slot].spec.path.file_name().unwrap_or_default();
                filter.accepts(b"", name.as_bytes(), kind)
            }
            Some((dir, name)) if self.rules[slot].target == Some(dir) => filter.accepts(name, name, kind),
            Some((dir, name)) => {
                let above = self.rules[slot].target.and_then(|target| self.tree.path_below(target, dir));
                filter.accepts(&join(&above.unwrap_or_default(), name), name, kind)
            }
        }
    }

    pub(super) fn hit(&self, firing: &Firing, cause: &Cause, old: Option<(NodeId, &[u8])>) -> Hit {
        let rule = &self.rules[firing.slot];
        let place = firing.place.as_ref().map(|(dir, name)| (*dir, &**name));
        let event = Event {
            time: cause.time,
            events: firing.matched,
            mask: mask_of(firing.matched, cause.events),
            path: self.path_of(firing.slot, place),
            old_path: old.map(|old| self.path_of(firing.slot, Some(old))),
            pid: cause.pid,
            exe: None,
            uid: None,
            synthetic: cause.synthetic,
        };
        Hit { rule: rule.id, event, own: cause.own }
    }

    /// The path of a place as a rule says it: from its PATH on where it is below.
    fn path_of(&self, slot: Slot, place: Option<(NodeId, &[u8])>) -> Rc<[u8]> {
        let rule = &self.rules[slot];
        let path = rule.spec.path.as_os_str().as_bytes();
        let Some((dir, name)) = place else { return path.into() };
        match rule.target.and_then(|target| self.tree.path_below(target, dir)) {
            Some(below) => join(&join(path, &below), name).into(),
            None => join(&self.tree.path(dir), name).into(),
        }
    }
}
