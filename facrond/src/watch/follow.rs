//! What a record means: firings first, then what it changes in the tree.

use super::arrival::{Arrival, Origin, Place};
use super::cover::CoverId;
use super::grow::{MAX_TRIES, join};
use super::matching::{Position, mask_of, matched, may_have_arrived};
use super::needs::Moves;
use super::resolve::{News, Occasion};
use super::rules::{Inode, Slot};
use super::tree::{Content, NodeId};
use super::{Hit, Watch, Whose};
use crate::config::rule::RuleSpec;
use crate::event::Event;
use crate::events::Events;
use crate::kernel::object::{Kind, Object};
use crate::kernel::record::{Entry, Handle, Record};
use nix::errno::Errno;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

/// One rule's view of one event.
pub(super) struct Firing {
    pub(super) slot: Slot,
    pub(super) matched: Events,
    /// The directory and name below PATH; nothing where it is PATH itself.
    pub(super) place: Option<Place>,
}

/// What a record says about one name.
struct Side<'a> {
    entry: Entry<'a>,
    events: Events,
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
struct Ownership<'a> {
    whose: &'a mut dyn Whose,
    pid: i32,
    known: Option<bool>,
}

impl Ownership<'_> {
    fn is_own(&mut self) -> bool {
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
        !is_marked || self.open_bound(node).is_ok_and(|object| object.links() > 1)
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
        let matched = matched(spec, position, events);
        if matched.is_empty() || !self.accepts(slot, place, events) {
            return;
        }
        let place = place.map(|(dir, name)| (dir, name.into()));
        match firings.iter_mut().find(|firing| firing.slot == slot) {
            Some(firing) => *firing = Firing { slot, matched: firing.matched.with(matched), place },
            None => firings.push(Firing { slot, matched, place }),
        }
    }

    fn accepts(&self, slot: Slot, place: Option<(NodeId, &[u8])>, events: Events) -> bool {
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
    fn path_of(&self, slot: Slot, place: Option<(NodeId, &[u8])>) -> Box<[u8]> {
        let rule = &self.rules[slot];
        let path = rule.spec.path.as_os_str().as_bytes();
        let Some((dir, name)) = place else { return path.into() };
        match rule.target.and_then(|target| self.tree.path_below(target, dir)) {
            Some(below) => join(&join(path, &below), name).into(),
            None => join(&self.tree.path(dir), name).into(),
        }
    }

    /// Follows what a record says about names: directories that come and go, and
    /// places that rules lead through.
    fn follow(&mut self, record: &Record<'_>, sides: &[Option<Side<'_>>], ownership: &mut Ownership<'_>) {
        let mut touched = Vec::new();
        for Side { entry, events } in sides.iter().flatten() {
            let dirs: Vec<_> = self.tree.by_handle(entry.dir).collect();
            for dir in dirs {
                if let Some(node) = self.tree.child(dir, entry.name)
                    && self.tree[node].anchor.is_some()
                {
                    touched.push(node);
                }
                if events.contains(Events::ONDIR) {
                    self.follow_directory(record, dir, entry.name, *events, ownership);
                }
            }
        }
        for node in touched {
            self.touch(node, News { own: ownership.is_own(), since: None });
        }
    }

    fn follow_directory(
        &mut self,
        record: &Record<'_>,
        dir: NodeId,
        name: &[u8],
        events: Events,
        ownership: &mut Ownership<'_>,
    ) {
        let known = self.tree.child(dir, name);
        if events.intersects(Events::DELETE.with(Events::MOVED_FROM))
            && let Some(node) = known
            && (record.object.is_none() || self.tree[node].handle() == record.object)
        {
            match record.new.and_then(|new| Some((self.tree.by_handle(new.dir).next()?, new.name))) {
                Some((to, new_name)) if events.contains(Events::MOVED_FROM) => {
                    self.transplant(node, to, new_name);
                    self.recover(to, new_name, ownership);
                }
                _ if self.tree[node].anchor.is_none() => self.vacate(node),
                _ => {}
            }
        }
        if events.intersects(Events::CREATE.with(Events::MOVED_TO)) {
            let made = record.object.filter(|_| events.contains(Events::CREATE));
            if !self.take_at_word(dir, name, made) {
                let news = News { own: ownership.is_own(), since: None };
                self.take_in(dir, name, news);
            }
        }
    }

    /// Moves what is at a node to another place, with all that is below. Places that
    /// rules lead through stay; what is in them moves.
    fn transplant(&mut self, node: NodeId, dir: NodeId, name: &[u8]) {
        if self.tree.is_above(node, dir) {
            return;
        }
        if let Some(taken) = self.tree.child(dir, name) {
            self.vacate(taken);
        }
        if self.tree[node].anchor.is_none() && self.tree.child(dir, name).is_none() {
            return self.tree.rename(node, dir, name);
        }
        let new = self.tree.child_or_new(dir, name);
        for child in self.tree.children(node) {
            let name: Box<[u8]> = self.tree[child].name().into();
            self.transplant(child, new, &name);
        }
        let inode: Option<Inode> = self.tree[node].handle().map(|handle| (handle.fs, handle.bytes.into()));
        let (content, marked, cover) =
            (self.tree[node].content, self.tree[node].marked, self.tree[node].cover);
        let is_read = std::mem::take(&mut self.tree[node].is_read);
        self.tree.unbind(node);
        self.tree[node].cover = CoverId::NONE;
        if let Some(handle) = inode.as_ref().and_then(|(fs, bytes)| Handle::from_prefix(*fs, bytes)) {
            self.tree.bind(new, handle, content);
            self.tree[new].marked = marked;
            self.tree[new].cover = cover;
            self.tree[new].is_read = is_read;
        }
    }

    /// A directory has been moved within what is known: whoever sees it now has seen
    /// it before, or is told of what is in it.
    fn recover(&mut self, dir: NodeId, name: &[u8], ownership: &mut Ownership<'_>) {
        let Some(node) = self.tree.child(dir, name) else { return };
        let cover = self.cover_of(dir, name);
        let before = self.tree[node].cover;
        if cover == before {
            return;
        }
        let had = self.covers[before].rules.clone();
        let news: Vec<_> =
            self.covers[cover].rules.iter().copied().filter(|slot| !had.contains(slot)).collect();
        let lost: Vec<_> =
            had.iter().copied().filter(|slot| !self.covers[cover].rules.contains(slot)).collect();
        for slot in lost {
            self.uncover(vec![node], slot);
        }
        if !news.is_empty()
            && let Ok(object) = self.open_bound(node)
        {
            self.tree[node].cover = cover;
            if self.mark(node, &object, self.cover_mask(node)).is_ok() {
                let found = News { own: ownership.is_own(), since: None };
                self.grow(node, object, &news, Some(found));
            }
        }
    }

    /// Something changed at a place that rules lead through: they look again.
    pub(super) fn touch(&mut self, node: NodeId, news: News) {
        let Some(anchor) = &self.tree[node].anchor else { return };
        let users = anchor.users();
        // What was found by name may be something else now; the look will tell.
        let stands = self.open_bound(node).is_ok();
        if !stands {
            self.vacate(node);
        }
        for slot in users {
            self.resolve(slot, Occasion::Change(news));
        }
    }

    /// Looks at files that may be complete. What is read after this is either newer,
    /// or was in the queue when the look took place.
    pub(super) fn look_at_arrivals(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for ((dir, name), arrival) in arrivals.unlooked() {
            arrival.tries += 1;
            arrival.looked = match self.open_bound(*dir).map(|dir| dir.entry(name)) {
                Ok(found) => Some(look(found, arrival.origin)),
                // It is being renamed; the record of that is still to be read.
                Err(_) if arrival.tries < MAX_TRIES => None,
                Err(errno) => Some(look(Err(errno), arrival.origin)),
            };
        }
        self.arrivals = arrivals;
    }

    /// Fires for files that are complete and that no event has told of.
    pub(super) fn fire_arrivals(&mut self, hits: &mut Vec<Hit>) {
        for ((dir, name), arrival) in self.arrivals.take_looked() {
            let news = arrival.news();
            self.rescan.note(dir, &name, news);
            if !news.without(Events::ONDIR).is_empty() {
                self.fire_arrival(dir, &name, &arrival, news, hits);
            }
        }
    }

    fn fire_arrival(&self, dir: NodeId, name: &[u8], arrival: &Arrival, news: Events, hits: &mut Vec<Hit>) {
        let (pid, synthetic) = match arrival.origin {
            Origin::Made { pid } => (pid, false),
            Origin::Found { .. } => (0, true),
        };
        let cause = Cause { time: SystemTime::now(), events: news, pid, own: arrival.own, synthetic };
        for slot in &arrival.slots {
            let is_path =
                self.tree.child(dir, name).is_some_and(|node| self.rules[*slot].target == Some(node));
            let place = (!is_path).then_some((dir, name));
            let position = if is_path { Position::Path } else { Position::Below };
            let matched = arrived(&self.rules[*slot].spec, arrival.origin, position, news);
            if !matched.is_empty() && self.accepts(*slot, place, news) {
                let place = place.map(|(dir, name)| (dir, name.into()));
                hits.push(self.hit(&Firing { slot: *slot, matched, place }, &cause, None));
            }
        }
    }
}

/// `ARRIVED` was decided by the look, not by the events.
fn arrived(spec: &RuleSpec, origin: Origin, position: Position, news: Events) -> Events {
    let arrived = news.and(spec.events).and(Events::ARRIVED);
    if matches!(origin, Origin::Made { .. }) {
        return arrived;
    }
    let by_events = matched(spec, position, news.without(Events::ARRIVED)).without(Events::ARRIVED);
    by_events.with(arrived)
}

/// What a file's state tells of what must have happened to it.
fn look(found: Result<Object, Errno>, origin: Origin) -> Events {
    match (found, origin) {
        (Ok(object), Origin::Made { .. }) if object.is_complete() == Some(true) => {
            Events::ARRIVED.with(Events::CREATE)
        }
        (Ok(object), Origin::Found { since: None }) => look_at_new(&object),
        (Ok(object), Origin::Found { since: Some(since) }) => look_at_changed(&object, since),
        // It was there, and its end has a record of its own.
        (Err(_), Origin::Found { since: None }) => Events::CREATE,
        (_, Origin::Made { .. }) | (Err(_), Origin::Found { since: Some(_) }) => Events::NONE,
    }
}

/// Of something in a directory that is new itself.
fn look_at_new(object: &Object) -> Events {
    let modified = if object.size() > 0 { Events::MODIFY } else { Events::NONE };
    match object.kind() {
        Kind::Directory => Events::CREATE.with(Events::ONDIR),
        Kind::File => Events::CREATE.with(modified).with(closed(object)),
        Kind::Link | Kind::Other => Events::CREATE,
    }
}

/// Of something that may have been there before, by its times.
fn look_at_changed(object: &Object, since: SystemTime) -> Events {
    if object.changed() < since {
        return Events::NONE;
    }
    let is_new = object.born().is_some_and(|born| born >= since);
    let created = if is_new { Events::CREATE } else { Events::NONE };
    match object.kind() {
        Kind::Directory => created.with(Events::ATTRIB).with(Events::ONDIR),
        Kind::File if is_new || object.modified() >= since => {
            created.with(Events::MODIFY).with(closed(object))
        }
        // Its name or its metadata: which, the times do not tell.
        Kind::File => Events::ATTRIB.with(Events::MOVED_TO).with(closed(object).and(Events::ARRIVED)),
        Kind::Link | Kind::Other => created.with(Events::MOVED_TO),
    }
}

/// What is true of a file that no writer has open.
fn closed(object: &Object) -> Events {
    if object.is_complete() == Some(false) { Events::NONE } else { Events::CLOSE_WRITE.with(Events::ARRIVED) }
}
