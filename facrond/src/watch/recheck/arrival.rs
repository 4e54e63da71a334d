//! A file that may be complete, or else news, and what a look at it tells.
//!
//! A file made by link(2), or found in a directory that was made before its mark, sends
//! no `FAN_CLOSE_WRITE`; one that is still being written will.

use super::Slot;
use crate::events::Events;
use crate::kernel::object::Kind;
use crate::kernel::record::{FsId, Handle};
use crate::matcher::Position;
use std::time::{Duration, SystemTime};

/// How old an empty file without a writer has to be until it is complete. A younger one
/// may have been made by who is about to write it: between the making of a name and the
/// access to write, open(2) can be interrupted.
const SETTLED: Duration = Duration::from_millis(100);

/// Why a file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Origin {
    /// The kernel said that it was made.
    Made {
        /// By this process.
        pid: i32,
    },
    /// It was there when its directory was read.
    Found {
        /// Only what has changed since counts; everything if nothing is known.
        since: Option<SystemTime>,
        /// Records of it have been told since then, before it was found.
        told: Option<SystemTime>,
    },
}

impl Origin {
    /// What may be found: a new file's arrival, what has changed, everything.
    fn weight(self) -> u8 {
        match self {
            Self::Made { .. } => 0,
            Self::Found { since: Some(_), .. } => 1,
            Self::Found { since: None, .. } => 2,
        }
    }
}

/// A rule, and from where it saw a file when that came to be looked at. It may be
/// elsewhere by the time that the file is told.
pub(in crate::watch) type View = (Slot, Position);

/// What was seen of an object.
#[derive(Clone, Debug)]
pub(in crate::watch) struct Facts {
    /// Its handle.
    pub(in crate::watch) object: (FsId, Box<[u8]>),
    pub(in crate::watch) kind: Kind,
    pub(in crate::watch) size: u64,
    pub(in crate::watch) links: u64,
    pub(in crate::watch) changed: SystemTime,
    pub(in crate::watch) modified: SystemTime,
    pub(in crate::watch) born: Option<SystemTime>,
    /// Whether no writer has it open; `None` where that cannot be told.
    pub(in crate::watch) complete: Option<bool>,
}

/// One such file.
#[derive(Debug)]
pub(in crate::watch) struct Arrival {
    pub(in crate::watch) origin: Origin,
    /// The rules that it would be news for, and the events read of it since each joined:
    /// a record that was read before did not fire it.
    views: Vec<(View, Events)>,
    /// Whether facron's own commands caused it.
    pub(in crate::watch) own: bool,
    /// Its handle, as far as it is known.
    pub(super) object: Option<(FsId, Box<[u8]>)>,
    /// What the look told; nothing before it.
    looked: Option<Events>,
    /// When it had changed last, as far as it was looked at.
    pub(in crate::watch) changed: Option<SystemTime>,
    /// Whether a writer had it open.
    is_written: bool,
}

impl Arrival {
    pub(super) fn new(origin: Origin, own: bool) -> Self {
        Self { origin, views: Vec::new(), own, object: None, looked: None, changed: None, is_written: false }
    }

    /// It is looked at for another reason, too; whether a look before is of no use.
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

    /// A record told something of it; whether nothing is left to be told.
    pub(super) fn note(&mut self, events: Events) -> bool {
        for (_, seen) in &mut self.views {
            *seen = seen.with(events);
        }
        matches!(self.origin, Origin::Made { .. }) && self.views.iter().all(|(_, seen)| is_told(*seen))
    }

    /// A rule is gone.
    pub(super) fn forget_rule(&mut self, slot: Slot) {
        self.views.retain(|((other, _), _)| *other != slot);
    }

    /// Takes in what was seen of it, nothing if it is not there; whether that can be told.
    /// Else it has to be looked at again.
    pub(super) fn see(&mut self, facts: Option<&Facts>, now: SystemTime) -> bool {
        let is_new = |facts: &Facts| {
            facts.kind == Kind::File
                && facts.complete == Some(true)
                && (facts.size, facts.links) == (0, 1)
                && now.duration_since(facts.changed).is_ok_and(|age| age < SETTLED)
        };
        self.is_written = facts.is_some_and(|facts| facts.complete == Some(false));
        self.changed = facts.map(|facts| facts.changed);
        if facts.is_some_and(is_new) || (self.is_written && matches!(self.origin, Origin::Made { .. })) {
            return false;
        }
        self.looked = Some(look(facts, self.origin));
        true
    }

    /// Its handle, as far as it is known.
    pub(in crate::watch) fn object(&self) -> Option<Handle<'_>> {
        self.object.as_ref().map(|(fs, bytes)| Handle { fs: *fs, bytes })
    }

    /// The rules that wait for the end of a writer who had it open when it was looked at.
    pub(in crate::watch) fn awaiting_close(&self) -> impl Iterator<Item = View> {
        self.views.iter().filter(|(_, seen)| self.is_written && !is_told(*seen)).map(|(view, _)| *view)
    }

    /// What the look told and no record did, by rule.
    pub(in crate::watch) fn news(&self) -> impl Iterator<Item = (View, Events)> {
        let looked = self.looked.unwrap_or_default();
        self.views.iter().map(move |(view, seen)| {
            let told = looked.without(*seen);
            (*view, if is_told(*seen) { told.without(Events::ARRIVED) } else { told })
        })
    }
}

/// Whether records told that a file arrived.
fn is_told(seen: Events) -> bool {
    seen.intersects(Events::CLOSE_WRITE.with(Events::MOVED_TO).with(Events::RENAME))
}

/// What a file's state tells of what must have happened to it.
fn look(found: Option<&Facts>, origin: Origin) -> Events {
    match (found, origin) {
        (Some(facts), Origin::Made { .. }) if facts.complete == Some(true) => {
            Events::ARRIVED.with(Events::CREATE)
        }
        (Some(facts), Origin::Found { since: None, .. }) => look_at_new(facts),
        (Some(facts), Origin::Found { since: Some(since), .. }) => look_at_changed(facts, since),
        // It was there, and its end has a record of its own.
        (None, Origin::Found { since: None, .. }) => Events::CREATE,
        (_, Origin::Made { .. }) | (None, Origin::Found { since: Some(_), .. }) => Events::NONE,
    }
}

/// Of something in a directory that is new itself.
fn look_at_new(facts: &Facts) -> Events {
    let modified = if facts.size > 0 { Events::MODIFY } else { Events::NONE };
    match facts.kind {
        Kind::Directory => Events::CREATE.with(Events::ONDIR),
        Kind::File => Events::CREATE.with(modified).with(closed(facts)),
        Kind::Link | Kind::Other => Events::CREATE,
    }
}

/// Of something that may have been there before, by its times.
fn look_at_changed(facts: &Facts, since: SystemTime) -> Events {
    if facts.changed < since {
        return Events::NONE;
    }
    let is_new = facts.born.is_some_and(|born| born >= since);
    let created = if is_new { Events::CREATE } else { Events::NONE };
    match facts.kind {
        Kind::Directory => created.with(Events::ATTRIB).with(Events::ONDIR),
        Kind::File if is_new || facts.modified >= since => created.with(Events::MODIFY).with(closed(facts)),
        // Its name or its metadata: which, the times do not tell.
        Kind::File => Events::ATTRIB.with(Events::MOVED_TO).with(closed(facts).and(Events::ARRIVED)),
        Kind::Link | Kind::Other => created.with(Events::MOVED_TO),
    }
}

/// What is true of a file that no writer has open.
fn closed(facts: &Facts) -> Events {
    if facts.complete == Some(false) { Events::NONE } else { Events::CLOSE_WRITE.with(Events::ARRIVED) }
}
