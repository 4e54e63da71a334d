//! Files whose completeness has to be looked at.
//!
//! A file made by link(2), or found in a directory that was made before its mark,
//! sends no `FAN_CLOSE_WRITE`; one that is still being written will. So: look
//! whether a writer has it open, then drain the kernel's queue, and only then
//! fire, unless an event about it was in the queue: what happened before the look
//! has then been read.

use super::Slot;
use super::tree::NodeId;
use crate::events::Events;
use rustc_hash::FxHashMap;
use std::time::SystemTime;

/// Why a file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel said that it was made.
    Made {
        /// By this process.
        pid: i32,
    },
    /// It was there when its directory was looked into.
    Found {
        /// Only what has changed since counts; everything if nothing is known.
        since: Option<SystemTime>,
    },
}

impl Origin {
    /// What may be found: a new file's arrival, what has changed, everything.
    fn weight(self) -> u8 {
        match self {
            Self::Made { .. } => 0,
            Self::Found { since: Some(_) } => 1,
            Self::Found { since: None } => 2,
        }
    }
}

/// One such file.
#[derive(Debug)]
pub struct Arrival {
    /// Why it is looked at.
    pub origin: Origin,
    /// The rules that it would be news for.
    pub slots: Vec<Slot>,
    /// Whether facron's own commands caused it.
    pub own: bool,
    /// What the look told; nothing before it.
    pub looked: Option<Events>,
    /// How often it was tried to look.
    pub tries: u32,
    /// Whether the look waits for a server that does not answer.
    pub is_postponed: bool,
    /// Events read since.
    seen: Events,
}

impl Arrival {
    /// What the look told and no event did.
    pub fn news(&self) -> Events {
        let looked = self.looked.unwrap_or_default();
        let told = looked.without(self.seen);
        if self.seen.intersects(Events::CLOSE_WRITE.with(Events::MOVED_TO).with(Events::RENAME)) {
            return told.without(Events::ARRIVED);
        }
        told
    }
}

/// The place of a file: its directory and its name.
pub type Place = (NodeId, Box<[u8]>);

/// All files that wait for a look, or for the queue to be drained after it.
#[derive(Debug, Default)]
pub struct Arrivals(FxHashMap<Place, Arrival>);

impl Arrivals {
    /// Whether nothing is to be looked at now: the common case, which costs nothing.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|arrival| arrival.is_postponed)
    }

    /// A server has answered: postponed looks are due.
    pub fn resume(&mut self) {
        self.0.values_mut().for_each(|arrival| arrival.is_postponed = false);
    }

    /// A file to look at, for some rules.
    pub fn add(&mut self, dir: NodeId, name: &[u8], origin: Origin, own: bool, slots: &[Slot]) {
        let new = || Arrival {
            origin,
            slots: Vec::new(),
            own,
            looked: None,
            tries: 0,
            is_postponed: false,
            seen: Events::NONE,
        };
        let arrival = self.0.entry((dir, name.into())).or_insert_with(new);
        if origin.weight() > arrival.origin.weight() {
            // A look for less is of no use.
            (arrival.origin, arrival.looked) = (origin, None);
        }
        for slot in slots {
            if !arrival.slots.contains(slot) {
                arrival.slots.push(*slot);
            }
        }
    }

    /// An event about a name was read.
    pub fn note(&mut self, dir: NodeId, name: &[u8], events: Events) {
        if self.0.is_empty() {
            return;
        }
        if let Some(arrival) = self.0.get_mut(&(dir, Box::from(name))) {
            arrival.seen = arrival.seen.with(events);
        }
    }

    /// Lets all that have been looked at go: the queue has been drained since.
    pub fn take_looked(&mut self) -> Vec<(Place, Arrival)> {
        self.0.extract_if(|_, arrival| arrival.looked.is_some()).collect()
    }

    /// What has not been looked at yet, and can be.
    pub fn unlooked(&mut self) -> impl Iterator<Item = (&Place, &mut Arrival)> {
        self.0.iter_mut().filter(|(_, arrival)| arrival.looked.is_none() && !arrival.is_postponed)
    }

    /// A directory is gone.
    pub fn forget_directory(&mut self, dir: NodeId) {
        if !self.0.is_empty() {
            self.0.retain(|(parent, _), _| *parent != dir);
        }
    }

    /// A rule is gone.
    pub fn forget_rule(&mut self, slot: Slot) {
        for arrival in self.0.values_mut() {
            arrival.slots.retain(|other| *other != slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postponed_look_waits_and_is_not_forgotten() {
        let mut tree = super::super::tree::Tree::default();
        let dir = tree.child_or_new(super::super::tree::ROOT, b"d");
        let mut arrivals = Arrivals::default();
        arrivals.add(dir, b"f", Origin::Found { since: None }, false, &[Slot(1)]);
        arrivals.unlooked().for_each(|(_, arrival)| arrival.is_postponed = true);
        assert!(
            arrivals.is_empty() && arrivals.unlooked().next().is_none() && arrivals.take_looked().is_empty()
        );
        arrivals.resume();
        assert!(!arrivals.is_empty() && arrivals.unlooked().count() == 1);
    }

    #[test]
    fn what_is_found_after_an_overflow_is_looked_at_for_more_than_its_arrival() {
        let mut tree = super::super::tree::Tree::default();
        let dir = tree.child_or_new(super::super::tree::ROOT, b"d");
        let mut arrivals = Arrivals::default();
        let found = Origin::Found { since: Some(SystemTime::UNIX_EPOCH) };
        arrivals.add(dir, b"f", Origin::Made { pid: 1 }, false, &[Slot(1)]);
        arrivals.unlooked().for_each(|(_, arrival)| arrival.looked = Some(Events::ARRIVED));
        arrivals.add(dir, b"f", found, false, &[Slot(1), Slot(2)]);
        assert!(arrivals.take_looked().is_empty());
        arrivals.add(dir, b"f", Origin::Made { pid: 1 }, false, &[Slot(1)]);
        assert!(arrivals.unlooked().all(|(_, arrival)| arrival.origin == found && arrival.slots.len() == 2));
    }
}
