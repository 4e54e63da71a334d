//! A file that may have arrived, or changed, and the events that follow from a look at it.
//!
//! A file that was made by link(2), or that was found in a directory that was not marked yet,
//! has no `FAN_CLOSE_WRITE` in the queue. A file that is still being written will have one.

use super::Slot;
use crate::events::Events;
use crate::kernel::object::Kind;
use crate::kernel::record::{FsId, Handle};
use crate::matcher::Position;
use std::time::{Duration, SystemTime};

/// The age at which an empty file without a writer counts as complete. A program may be
/// about to write a younger file: open(2) makes the name first and gets the access for
/// writing second, and can be interrupted in between.
const SETTLED: Duration = Duration::from_millis(100);

/// How long before its end a writer may have written last.
pub(in crate::watch) const LONGEST_WRITING: Duration = Duration::from_secs(2);

/// A file that has changed so long after the look was asked for has a time of another clock.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// The time before a rule is watched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) struct Gap {
    /// It was watched until then.
    pub(in crate::watch) since: SystemTime,
    /// A file that was written since then may have been open for writing at that time.
    pub(in crate::watch) written: SystemTime,
}

/// The reason why a file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Origin {
    /// A record says that it was made.
    Made {
        /// The process that has made it.
        pid: i32,
    },
    /// It was found when its directory was read.
    Found {
        /// Only changes since then count. Without a time everything counts.
        since: Option<SystemTime>,
        /// Since when records of it have fired rules, before it was found.
        told: Option<SystemTime>,
    },
    /// It was there before a rule was watched.
    Missed {
        /// Only changes in the gap count. Without one everything counts.
        gap: Option<Gap>,
        /// Since when records tell the rule of changes.
        watched: SystemTime,
    },
}

impl Origin {
    /// How much a look may find: an arrival, changes, or everything.
    fn weight(self) -> u8 {
        match self {
            Self::Made { .. } => 0,
            Self::Found { since: Some(_), .. } => 1,
            Self::Missed { gap: Some(_), .. } => 2,
            Self::Found { since: None, .. } | Self::Missed { gap: None, .. } => 3,
        }
    }
}

/// A rule, and the position from which it saw a file when the look was queued. The rule may
/// lead elsewhere by the time when the file fires.
pub(in crate::watch) type View = (Slot, Position);

/// The facts about an object from a look.
#[derive(Clone, Debug)]
pub(in crate::watch) struct Facts {
    /// Its file system and handle.
    pub(in crate::watch) object: (FsId, Box<[u8]>),
    pub(in crate::watch) kind: Kind,
    pub(in crate::watch) size: u64,
    pub(in crate::watch) links: u64,
    pub(in crate::watch) changed: SystemTime,
    pub(in crate::watch) modified: SystemTime,
    pub(in crate::watch) born: Option<SystemTime>,
    /// Whether no process has it open for writing; `None` if that cannot be known.
    pub(in crate::watch) complete: Option<bool>,
}

/// A file that waits for a look, or for the queue after it.
#[derive(Debug)]
pub(in crate::watch) struct Arrival {
    pub(in crate::watch) origin: Origin,
    /// The rules that it would be news for, and the events read of it since each joined:
    /// a record that was read before did not fire it.
    views: Vec<(View, Events)>,
    /// Whether one of facron's own commands made it.
    pub(in crate::watch) own: bool,
    /// Its file system and handle, if they are known.
    pub(super) object: Option<(FsId, Box<[u8]>)>,
    /// The events that the look has found; `None` before the look.
    looked: Option<Events>,
    /// The time of its last change, if it was looked at.
    pub(in crate::watch) changed: Option<SystemTime>,
    /// Whether a process had it open for writing during the look.
    is_written: bool,
}

impl Arrival {
    pub(super) fn new(origin: Origin, own: bool) -> Self {
        Self { origin, views: Vec::new(), own, object: None, looked: None, changed: None, is_written: false }
    }

    /// Adds a reason for a look. Returns whether an earlier look is not enough.
    pub(super) fn merge(&mut self, origin: Origin, views: &[View]) -> bool {
        let is_more = origin.weight() > self.origin.weight();
        if is_more {
            (self.origin, self.looked) = (origin, None);
        }
        let before = self.views.len();
        for view in views {
            if !self.views.iter().any(|((slot, _), _)| *slot == view.0) {
                self.views.push((*view, Events::NONE));
            }
        }
        is_more || self.views.len() > before
    }

    /// Notes a record about it, for the rules that see it at present: others were not fired
    /// by the record. Returns whether no look is needed any more.
    pub(super) fn note(&mut self, events: Events, is_seen_by: &dyn Fn(View) -> bool) -> bool {
        for (_, seen) in self.views.iter_mut().filter(|(view, _)| is_seen_by(*view)) {
            *seen = seen.with(events);
        }
        matches!(self.origin, Origin::Made { .. }) && self.views.iter().all(|(_, seen)| is_told(*seen))
    }

    /// A rule is gone.
    pub(super) fn forget_rule(&mut self, slot: Slot) {
        self.views.retain(|((other, _), _)| *other != slot);
    }

    /// Takes over the facts from a look, `None` if it does not exist. Returns whether the look
    /// is conclusive. Otherwise another look is needed.
    pub(super) fn see(&mut self, facts: Option<&Facts>, now: SystemTime) -> bool {
        let is_new = |facts: &Facts| {
            facts.kind == Kind::File
                && facts.complete == Some(true)
                && (facts.size, facts.links) == (0, 1)
                && is_young(facts.changed, now)
        };
        self.is_written = facts.is_some_and(|facts| facts.complete == Some(false));
        self.changed =
            facts.map(|facts| if self.is_left_open(facts) { facts.modified } else { facts.changed });
        if facts.is_some_and(is_new) || (self.is_written && matches!(self.origin, Origin::Made { .. })) {
            return false;
        }
        self.looked = Some(look(facts, self.origin));
        true
    }

    /// Whether only the end of its writer may have been missed.
    fn is_left_open(&self, facts: &Facts) -> bool {
        matches!(self.origin, Origin::Missed { gap: Some(gap), .. } if facts.changed < gap.since)
    }

    /// Its file system and handle, if they are known.
    pub(in crate::watch) fn object(&self) -> Option<Handle<'_>> {
        self.object.as_ref().map(|(fs, bytes)| Handle { fs: *fs, bytes })
    }

    /// The rules that wait for the end of a writer who had it open when it was looked at.
    pub(in crate::watch) fn awaiting_close(&self) -> impl Iterator<Item = View> {
        self.views.iter().filter(|(_, seen)| self.is_written && !is_told(*seen)).map(|(view, _)| *view)
    }

    /// The events for each rule that the look has found and no record has reported.
    pub(in crate::watch) fn news(&self) -> impl Iterator<Item = (View, Events)> {
        let looked = self.looked.unwrap_or_default();
        self.views.iter().map(move |(view, seen)| {
            let told = looked.without(*seen);
            (*view, if is_told(*seen) { told.without(Events::ARRIVED) } else { told })
        })
    }
}

/// Whether a file has changed just before a look, or after it was asked for.
fn is_young(changed: SystemTime, asked: SystemTime) -> bool {
    match asked.duration_since(changed) {
        Ok(age) => age < SETTLED,
        Err(later) => later.duration() < LONGEST_LOOK,
    }
}

/// Whether records have reported the arrival of a file.
fn is_told(seen: Events) -> bool {
    seen.intersects(Events::CLOSE_WRITE.with(Events::MOVED_TO).with(Events::RENAME))
}

/// The events that follow from the state of a file.
fn look(found: Option<&Facts>, origin: Origin) -> Events {
    match (found, origin) {
        (Some(facts), Origin::Made { .. }) if facts.complete == Some(true) => {
            Events::ARRIVED.with(Events::CREATE)
        }
        (Some(facts), Origin::Found { since: None, .. }) => look_at_new(facts),
        (Some(facts), Origin::Found { since: Some(since), .. }) => look_at_changed(facts, since),
        (Some(facts), Origin::Missed { gap, .. }) => look_at_missed(facts, gap),
        // It did exist. There will be a record of its end.
        (None, Origin::Found { since: None, .. }) => Events::CREATE,
        (_, Origin::Made { .. }) | (None, Origin::Found { since: Some(_), .. } | Origin::Missed { .. }) => {
            Events::NONE
        }
    }
}

/// The events of an object in a new directory.
fn look_at_new(facts: &Facts) -> Events {
    let modified = if facts.size > 0 { Events::MODIFY } else { Events::NONE };
    match facts.kind {
        Kind::Directory => Events::CREATE.with(Events::ONDIR),
        Kind::File => Events::CREATE.with(modified).with(closed(facts)),
        Kind::Link | Kind::Other => Events::CREATE,
    }
}

/// The events of an object that may have existed before, by its times.
fn look_at_changed(facts: &Facts, since: SystemTime) -> Events {
    if facts.changed < since {
        return Events::NONE;
    }
    let is_new = facts.born.is_some_and(|born| born >= since);
    let created = if is_new { Events::CREATE } else { Events::NONE };
    match facts.kind {
        Kind::Directory => created.with(Events::ATTRIB).with(Events::ONDIR),
        Kind::File if is_new || facts.modified >= since => created.with(Events::MODIFY).with(closed(facts)),
        // The name or the metadata has changed. The times do not show which.
        Kind::File => Events::ATTRIB.with(Events::MOVED_TO).with(closed(facts).and(Events::ARRIVED)),
        Kind::Link | Kind::Other => created.with(Events::MOVED_TO),
    }
}

/// The events of an object that nobody watched for a long time. Users can set every time but
/// that of the last change (`ctime`), so this one alone decides.
fn look_at_missed(facts: &Facts, gap: Option<Gap>) -> Events {
    let is_since = |time: SystemTime| gap.is_none_or(|gap| time >= gap.since);
    let is_new = gap.is_none() || facts.born.is_some_and(is_since);
    if !is_new && !is_since(facts.changed) {
        // All was told of it, unless it was open for writing then.
        let was_written = facts.kind == Kind::File && gap.is_some_and(|gap| facts.modified >= gap.written);
        return if was_written { closed(facts) } else { Events::NONE };
    }
    let made = if is_new { Events::CREATE } else { Events::ATTRIB };
    let moved = Events::MOVED_TO.with(Events::RENAME);
    match facts.kind {
        // What changes a directory last is mostly an entry that comes or goes.
        Kind::Directory if !is_new && facts.modified >= facts.changed => Events::NONE,
        Kind::Directory => made.with(moved).with(Events::ONDIR),
        Kind::File if is_new && facts.size == 0 => made.with(moved).with(closed(facts)),
        Kind::File => made.with(moved).with(Events::MODIFY).with(closed(facts)),
        Kind::Link if is_new => made.with(moved),
        Kind::Link => made.with(moved).with(Events::ARRIVED),
        Kind::Other => made.with(moved),
    }
}

/// The events that follow if no process has the file open for writing.
fn closed(facts: &Facts) -> Events {
    if facts.complete == Some(false) { Events::NONE } else { Events::CLOSE_WRITE.with(Events::ARRIVED) }
}
