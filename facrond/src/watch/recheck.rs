//! Places that have to be looked at again: the one queue of them, and the one place that
//! says when a look may fire.
//!
//! A record, a directory that was read, an overflow or a mount leads to a place; the look
//! at it comes when the kernel's queue is empty. What a look finds may also be in the
//! queue by then, since the mark was there before. So what it finds fires only when the
//! queue has been read to its end once more, and only as far as no record told it.
//!
//! Pure: the clock is the caller's.

mod arrival;

pub(super) use arrival::{Arrival, Facts, Origin, View};

use super::rules::Slot;
use super::scanner::InodeKey;
use super::tree::{NodeId, PathTree};
use crate::events::Events;
use crate::kernel::record::Handle;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// The first pause before a place is looked at again, doubled with each further try.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Room for so many places is kept.
const SMALL: usize = 1024;

/// How often a place is tried whose directory is not where it was.
pub(super) const MAX_TRIES: u32 = 20;

/// A name in a directory; without a name and in itself, the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) dir: NodeId,
    pub(super) name: Rc<[u8]>,
}

/// What found things mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Whether facron's own commands caused them.
    pub(super) own: bool,
    /// Only what has changed since counts; everything if nothing is known.
    pub(super) since: Option<SystemTime>,
    /// Since when records of them have been told.
    pub(super) told: Option<SystemTime>,
    /// The rules that they are news for; all that see them if it is not said.
    pub(super) only: Option<Rc<[Slot]>>,
}

/// How a node is to be brought up to date with what is at its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each adds something of its own to a look")]
pub(super) struct Change {
    /// What is found is news.
    pub(super) news: Option<News>,
    /// Rules that look around for the first time: without news, what is found is none for
    /// them, but for others that had not seen it.
    pub(super) quiet: Rc<[Slot]>,
    /// What is in a directory is read, even if that was known before.
    pub(super) read: bool,
    /// All below is looked at, too: records are missing.
    pub(super) sweep: bool,
    /// Marks may be gone, although the inode is the same.
    pub(super) doubt: bool,
    /// Other rules see what is below than before.
    pub(super) pass_down: bool,
}

impl Change {
    fn merge(&mut self, other: Self) {
        self.news = match (self.news.take(), other.news) {
            (Some(one), Some(other)) => Some(News {
                own: one.own && other.own,
                since: one.since.zip(other.since).map(|(one, other)| one.min(other)),
                told: one.told.zip(other.told).map(|(one, other)| one.max(other)),
                only: one.only.zip(other.only).map(|(one, other)| union(&one, &other)),
            }),
            (one, other) => one.or(other),
        };
        self.quiet = union(&self.quiet, &other.quiet);
        self.read |= other.read;
        self.sweep |= other.sweep;
        self.doubt |= other.doubt;
        self.pass_down |= other.pass_down;
    }
}

/// Each rule of two lists once.
fn union(one: &Rc<[Slot]>, other: &Rc<[Slot]>) -> Rc<[Slot]> {
    if other.iter().all(|slot| one.contains(slot)) {
        return Rc::clone(one);
    }
    one.iter().chain(other.iter().filter(|slot| !one.contains(slot))).copied().collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the queue of looks.
    Due,
    /// On the stack of directories that were found.
    Scan,
    /// In the queue of looks that have time.
    Background,
    /// Being looked at.
    Taken,
    /// To be looked at when records have been read.
    Records,
    /// To be looked at then.
    At(Instant),
    /// To be looked at when its server answers.
    Unresponsive,
    /// Looked at; fires when the queue has been read.
    Looked,
}

/// Why a place is looked at.
#[derive(Debug)]
struct Entry {
    change: Option<Change>,
    arrival: Option<Box<Arrival>>,
    state: State,
    tries: u32,
}

/// A place that is being looked at.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) place: Place,
    pub(super) change: Option<Change>,
    /// Whether a file there may be news.
    pub(super) is_arrival: bool,
    pub(super) tries: u32,
}

type Objects = HashMap<InodeKey, Place>;

/// All places that wait for a look, or for the queue to be read after it.
#[derive(Debug, Default)]
pub(super) struct Recheck {
    entries: HashMap<Place, Entry>,
    due: VecDeque<Place>,
    /// Directories that were found in directories, the next one last.
    scan: Vec<Place>,
    background: Vec<Place>,
    records: Vec<Place>,
    timers: BTreeMap<(Instant, u64), Place>,
    looked: Vec<Place>,
    serial: u64,
    /// Files that may arrive, by their handles.
    objects: Objects,
}

impl Recheck {
    /// A place may be another one than is known.
    pub(super) fn change(&mut self, dir: NodeId, name: &[u8], change: Change) {
        self.change_when(dir, name, change, State::Due);
    }

    /// A directory was found in another one that was read.
    pub(super) fn scan(&mut self, dir: NodeId, name: &[u8], change: Change) {
        self.change_when(dir, name, change, State::Scan);
    }

    /// The same, when there is nothing else to do.
    pub(super) fn scan_later(&mut self, dir: NodeId, name: &[u8], change: Change) {
        self.change_when(dir, name, change, State::Background);
    }

    fn change_when(&mut self, dir: NodeId, name: &[u8], change: Change, state: State) {
        let place = Place { dir, name: name.into() };
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.change.get_or_insert_default().merge(change);
            if !matches!(entry.state, State::Due | State::Scan) && entry.state != state {
                entry.state = State::Due;
                self.due.push_back(place);
            }
            return;
        }
        let entry = Entry { change: Some(change), arrival: None, state, tries: 0 };
        self.entries.insert(place.clone(), entry);
        match state {
            State::Background => self.background.push(place),
            State::Scan => self.scan.push(place),
            _ => self.due.push_back(place),
        }
    }

    /// Takes back that a directory is to be read, since it was just now.
    pub(super) fn take_back(&mut self, dir: NodeId, name: &[u8]) -> Option<Change> {
        let entry = self.entries.get_mut(&Place { dir, name: name.into() })?;
        entry.change.take_if(|change| change.read)
    }

    /// A file to look at, for some rules. Its handle is given where it is known.
    pub(super) fn arrival(
        &mut self,
        dir: NodeId,
        name: &[u8],
        origin: Origin,
        own: bool,
        views: &[View],
        object: Option<Handle<'_>>,
    ) {
        let place = Place { dir, name: name.into() };
        let entry = self.entries.entry(place.clone()).or_insert(Entry {
            change: None,
            arrival: None,
            state: State::Taken,
            tries: 0,
        });
        let arrival = entry.arrival.get_or_insert_with(|| Box::new(Arrival::new(origin, own)));
        let is_more = arrival.merge(origin, views);
        if let Some(object) = object {
            know_object(&mut self.objects, arrival, (object.fs, object.bytes.into()), &place);
        }
        if !matches!(entry.state, State::Due | State::Scan | State::Background)
            && (is_more || entry.state != State::Looked)
        {
            entry.state = State::Due;
            self.due.push_back(place);
        }
    }

    /// A record was read that tells of a name.
    pub(super) fn note(&mut self, dir: NodeId, name: &[u8], events: Events) {
        if self.entries.is_empty() {
            return;
        }
        let place = Place { dir, name: name.into() };
        let Some(entry) = self.entries.get_mut(&place) else { return };
        let Some(arrival) = &mut entry.arrival else { return };
        if arrival.note(events) {
            let arrival = entry.arrival.take();
            forget_object(&mut self.objects, arrival.as_deref(), &place);
            if self.entries.get(&place).is_some_and(|entry| entry.change.is_none()) {
                self.entries.remove(&place);
            }
        }
    }

    /// The place of a file that may arrive.
    pub(super) fn place_of(&self, object: Handle<'_>) -> Option<&Place> {
        if self.objects.is_empty() {
            return None;
        }
        self.objects.get(&(object.fs, Box::from(object.bytes)))
    }

    /// The next place to look at; of those that have time, too, if they are wanted.
    pub(super) fn take(&mut self, tree: &PathTree, now: Instant, with_background: bool) -> Option<Task> {
        self.wake(now);
        loop {
            let background = || if with_background { self.background.pop() } else { None };
            let next = self.due.pop_front().or_else(|| self.scan.pop()).or_else(background);
            let Some(place) = next else {
                self.shrink();
                return None;
            };
            let Some(entry) = self.entries.get_mut(&place) else { continue };
            if !matches!(entry.state, State::Due | State::Scan | State::Background) {
                continue;
            }
            if !tree.has(place.dir) {
                self.remove(&place);
                continue;
            }
            entry.state = State::Taken;
            entry.tries += 1;
            let (change, is_arrival, tries) = (entry.change.take(), entry.arrival.is_some(), entry.tries);
            return Some(Task { place, change, is_arrival, tries });
        }
    }

    /// Gives back the memory of a large scan.
    fn shrink(&mut self) {
        if self.entries.capacity() > SMALL && self.entries.len() < SMALL / 2 {
            self.entries.shrink_to(SMALL);
            self.due.shrink_to(SMALL);
            self.scan.shrink_to(SMALL);
            self.background.shrink_to(SMALL);
            self.looked.shrink_to(SMALL);
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= now) {
            let ((at, _), place) = first.remove_entry();
            if let Some(entry) = self.entries.get_mut(&place).filter(|entry| entry.state == State::At(at)) {
                entry.state = State::Due;
                self.due.push_back(place);
            }
        }
    }

    /// A place was looked at, and is up to date; what was seen of a file there fires when
    /// the queue has been read.
    pub(super) fn done(&mut self, place: &Place, facts: Option<&Facts>, now: (Instant, SystemTime)) {
        let Some(entry) = self.entries.get_mut(place) else { return };
        if entry.state != State::Taken {
            // Somebody wants another look.
            return;
        }
        let Some(arrival) = &mut entry.arrival else {
            self.entries.remove(place);
            return;
        };
        if let Some(facts) = facts {
            know_object(&mut self.objects, arrival, facts.object.clone(), place);
        }
        if arrival.see(facts, now.1) {
            entry.state = State::Looked;
            self.looked.push(place.clone());
        } else {
            let at = now.0 + pause(entry.tries);
            self.put_at(place, at);
        }
    }

    /// A place could not be looked at: its directory is not where it was. Records of that
    /// are still to be read, or missing.
    pub(super) fn retry(&mut self, task: Task, now: Instant) {
        let Some(entry) = self.entries.get_mut(&task.place) else { return };
        if let Some(change) = task.change {
            entry.change.get_or_insert_default().merge(change);
        }
        if entry.state != State::Taken {
            return;
        }
        if task.tries <= 2 {
            entry.state = State::Records;
            self.records.push(task.place);
        } else {
            self.put_at(&task.place, now + pause(task.tries));
        }
    }

    /// A place is looked at once more, after those that are due now.
    pub(super) fn again(&mut self, task: Task) {
        let Some(entry) = self.entries.get_mut(&task.place) else { return };
        if let Some(change) = task.change {
            entry.change.get_or_insert_default().merge(change);
        }
        entry.state = State::Due;
        self.due.push_back(task.place);
    }

    /// A place waits until its server answers.
    pub(super) fn suspend(&mut self, task: Task) {
        let Some(entry) = self.entries.get_mut(&task.place) else { return };
        if let Some(change) = task.change {
            entry.change.get_or_insert_default().merge(change);
        }
        entry.state = State::Unresponsive;
    }

    /// A server answers: what waits for one is due.
    pub(super) fn resume(&mut self) {
        for (place, entry) in &mut self.entries {
            if entry.state == State::Unresponsive {
                (entry.state, entry.tries) = (State::Due, 0);
                self.due.push_back(place.clone());
            }
        }
    }

    fn put_at(&mut self, place: &Place, at: Instant) {
        if let Some(entry) = self.entries.get_mut(place) {
            entry.state = State::At(at);
            self.serial += 1;
            self.timers.insert((at, self.serial), place.clone());
        }
    }

    /// The queue has been read to its end: what was looked at before fires, and what
    /// waited for records is due.
    pub(super) fn on_drained(&mut self) -> Vec<(Place, Arrival)> {
        for place in std::mem::take(&mut self.records) {
            if let Some(entry) = self.entries.get_mut(&place).filter(|entry| entry.state == State::Records) {
                entry.state = State::Due;
                self.due.push_back(place);
            }
        }
        let mut fired = Vec::new();
        for place in std::mem::take(&mut self.looked) {
            let is_ready = |entry: &&mut Entry| entry.state == State::Looked;
            let Some(entry) = self.entries.get_mut(&place).filter(is_ready) else { continue };
            let Some(arrival) = entry.arrival.take() else { continue };
            forget_object(&mut self.objects, Some(&arrival), &place);
            self.entries.remove(&place);
            fired.push((place, *arrival));
        }
        fired
    }

    fn remove(&mut self, place: &Place) {
        if let Some(entry) = self.entries.remove(place) {
            forget_object(&mut self.objects, entry.arrival.as_deref(), place);
        }
    }

    /// Whether there is a place to look at now, or one that waits for records.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty() || !self.scan.is_empty() || !self.records.is_empty() || !self.looked.is_empty()
    }

    /// Whether there are places that have time.
    pub(super) fn has_background(&self) -> bool {
        !self.background.is_empty()
    }

    /// What is due has time from now on, as far as it is no news.
    pub(super) fn defer_quiet(&mut self) {
        for place in std::mem::take(&mut self.scan) {
            match self.entries.get_mut(&place) {
                Some(Entry { change: Some(Change { news: None, .. }), arrival: None, state, .. })
                    if *state == State::Scan =>
                {
                    *state = State::Background;
                    self.background.push(place);
                }
                _ => self.scan.push(place),
            }
        }
    }

    /// When there is a place to look at, if nothing else happens.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether nothing is left of anything, for tests.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.objects.is_empty() && self.looked.is_empty()
    }

    /// A rule is gone.
    pub(super) fn forget_rule(&mut self, slot: Slot) {
        for entry in self.entries.values_mut() {
            if let Some(arrival) = &mut entry.arrival {
                arrival.forget_rule(slot);
            }
            let Some(Change { news, quiet, .. }) = &mut entry.change else { continue };
            let only = news.as_mut().and_then(|news| news.only.as_mut());
            for slots in only.into_iter().chain([quiet]) {
                *slots = slots.iter().copied().filter(|other| *other != slot).collect();
            }
        }
    }
}

/// A file that may arrive has this handle.
fn know_object(objects: &mut Objects, arrival: &mut Arrival, object: InodeKey, place: &Place) {
    if arrival.object.as_ref() != Some(&object) {
        forget_object(objects, Some(arrival), place);
        objects.insert(object.clone(), place.clone());
        arrival.object = Some(object);
    }
}

/// A file does not arrive any more. Another place may have the same handle by now.
fn forget_object(objects: &mut Objects, arrival: Option<&Arrival>, place: &Place) {
    if let Some(object) = arrival.and_then(|arrival| arrival.object.as_ref())
        && objects.get(object) == Some(place)
    {
        objects.remove(object);
    }
}

fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE)
}
