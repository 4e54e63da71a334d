//! The one queue of places that must be looked at again, and the one place that decides when
//! a look may fire.
//!
//! A record, a directory that was read, an overflow or a mount puts a place into the queue.
//! The look comes when the kernel's queue is empty. The mark is older than the look, so the
//! kernel's queue may by then have a record of the same change. So a find fires only after
//! the kernel's queue was read to its end again, and only if no record has reported it.
//!
//! Pure: the caller passes the time.

mod arrival;

pub(super) use arrival::{Arrival, Facts, Gap, LONGEST_WRITING, Origin, View};

use super::rules::Slot;
use super::scanner::InodeKey;
use super::tree::{NodeId, PathTree};
use crate::events::Events;
use crate::kernel::record::Handle;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// The first pause before a place is looked at again. It doubles with each further try.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Tables with more room are released when they are empty.
const SMALL: usize = 1024;

/// How often a place is tried if its directory is not at its path.
pub(super) const MAX_TRIES: u32 = 20;

/// A name in a directory. The root has no name and is in itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) dir: NodeId,
    pub(super) name: Rc<[u8]>,
}

/// The meaning of finds: whether, for whom and since when they are events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Whether facron's own commands caused the change.
    pub(super) own: bool,
    /// Only changes since then count. Without a time everything counts.
    pub(super) since: Option<SystemTime>,
    /// Since when records of the finds have fired rules.
    pub(super) told: Option<SystemTime>,
    /// The rules for which finds are events. Without a list, all rules that see them.
    pub(super) only: Option<Rc<[Slot]>>,
}

/// How a node must be brought up to date with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each adds something of its own to a look")]
pub(super) struct Change {
    /// If present, finds are events.
    pub(super) news: Option<News>,
    /// Rules that look here for the first time. Without news, finds are no events for them, but
    /// are for other rules that have not seen them.
    pub(super) quiet: Rc<[Slot]>,
    /// A directory is read, even if it is known.
    pub(super) read: bool,
    /// The rules for which its entries are then events, if there is news.
    pub(super) readers: Rc<[Slot]>,
    /// Everything below is looked at too, because records are missing.
    pub(super) sweep: bool,
    /// The mark may be gone, although the inode is the same.
    pub(super) doubt: bool,
    /// The rules that see the entries have changed.
    pub(super) pass_down: bool,
    /// The rules that catch up: they want the entries.
    pub(super) missed: Rc<[Slot]>,
}

impl Change {
    /// A rule is gone.
    pub(super) fn forget_rule(&mut self, slot: Slot) {
        remove(&mut self.quiet, slot);
        remove(&mut self.readers, slot);
        remove(&mut self.missed, slot);
        if let Some(news) = &mut self.news {
            news.forget_rule(slot);
        }
    }

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
        self.readers = union(&self.readers, &other.readers);
        self.sweep |= other.sweep;
        self.doubt |= other.doubt;
        self.pass_down |= other.pass_down;
        self.missed = union(&self.missed, &other.missed);
    }

    /// Whether nothing but entries for rules that catch up is wanted.
    pub(super) fn is_for_missed(&self) -> bool {
        !self.missed.is_empty() && *self == Self { missed: Rc::clone(&self.missed), ..Self::default() }
    }
}

impl News {
    /// A rule is gone.
    pub(super) fn forget_rule(&mut self, slot: Slot) {
        if let Some(only) = &mut self.only {
            remove(only, slot);
        }
    }
}

/// Removes a rule from a list.
fn remove(slots: &mut Rc<[Slot]>, slot: Slot) {
    if slots.contains(&slot) {
        *slots = slots.iter().copied().filter(|other| *other != slot).collect();
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
    /// It waits in the queue of looks.
    Due,
    /// It waits on the stack of directories that were found.
    Scan,
    /// It waits in the queue of places on paths.
    Fresh,
    /// It waits in the queue of directories in the trees of new rules.
    New,
    /// It waits in the queue of the background.
    Background,
    /// The look is under way.
    Taken,
    /// It waits until further records were read.
    Records,
    /// It waits until this time.
    At(Instant),
    /// With a file-system worker, until that is free for it.
    Parked,
    /// It was looked at. The find fires when the queue was read to its end.
    Looked,
}

/// A place in the queue: the reasons for a look, and its state.
#[derive(Debug)]
struct Entry {
    change: Option<Change>,
    arrival: Option<Box<Arrival>>,
    state: State,
    tries: u32,
    /// The number of the last look at it.
    look: u64,
}

impl Entry {
    /// A look begins.
    fn take(&mut self, place: Place, look: u64) -> Task {
        (self.state, self.look) = (State::Taken, look);
        self.tries += 1;
        Task {
            look,
            place,
            change: self.change.take(),
            is_arrival: self.arrival.is_some(),
            tries: self.tries,
        }
    }

    /// A look has not led to anything.
    fn give_back(&mut self, change: Option<Change>) {
        if let Some(change) = change {
            self.change.get_or_insert_default().merge(change);
        }
    }
}

/// The places among which the next look is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lanes {
    /// Those on the paths of rules.
    Fresh,
    /// The same, and those in the trees of new rules.
    New,
    /// All that are due.
    Due,
    /// The same, and those of the background.
    Background,
}

/// A look that is under way.
#[derive(Debug)]
pub(super) struct Task {
    /// The number of this look.
    pub(super) look: u64,
    pub(super) place: Place,
    pub(super) change: Option<Change>,
    /// Whether a file there may have arrived.
    pub(super) is_arrival: bool,
    pub(super) tries: u32,
}

type Objects = HashMap<InodeKey, Place>;

/// All places that wait for a look, or for the queue to be read after the look.
#[derive(Debug, Default)]
pub(super) struct Recheck {
    entries: HashMap<Place, Entry>,
    due: VecDeque<Place>,
    /// Directories that were found in directories. The next one is the last here.
    scan: Vec<Place>,
    /// Places that do not wait for those that users have changed.
    fresh: VecDeque<Place>,
    /// Directories in the trees of new rules, which take turns with those that are due.
    new: VecDeque<Place>,
    background: Vec<Place>,
    records: Vec<Place>,
    timers: BTreeMap<(Instant, u64), Place>,
    looked: Vec<Place>,
    serial: u64,
    has_shrunk: bool,
    /// Files that may arrive, by their handles.
    objects: Objects,
}

impl Recheck {
    /// A place may have changed: queues a look.
    pub(super) fn change(&mut self, dir: NodeId, name: &[u8], change: Change) {
        self.change_when(dir, name, change, State::Due);
    }

    /// Queues a look at a place on the path of a rule.
    pub(super) fn change_first(&mut self, dir: NodeId, name: &[u8], change: Change) {
        self.change_when(dir, name, change, State::Fresh);
    }

    /// Queues a look at a directory that was found in another one.
    pub(super) fn scan(&mut self, dir: NodeId, name: &[u8], change: Change) {
        self.change_when(dir, name, change, State::Scan);
    }

    /// The same in the background.
    pub(super) fn scan_later(&mut self, dir: NodeId, name: &[u8], change: Change) {
        self.change_when(dir, name, change, State::Background);
    }

    /// Whether a place is still to be brought up to date.
    pub(super) fn is_changing(&self, dir: NodeId, name: &[u8]) -> bool {
        let place = Place { dir, name: name.into() };
        self.entries.get(&place).is_some_and(|entry| entry.change.is_some())
    }

    /// Whether something is still to be done about a place.
    pub(super) fn has(&self, dir: NodeId, name: &[u8]) -> bool {
        self.entries.contains_key(&Place { dir, name: name.into() })
    }

    fn change_when(&mut self, dir: NodeId, name: &[u8], change: Change, state: State) {
        let place = Place { dir, name: name.into() };
        let is_new = !change.quiet.is_empty() && !matches!(state, State::Background | State::Fresh);
        let (asked, state) = (state, if is_new { State::New } else { state });
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.change.get_or_insert_default().merge(change);
            // What is due does not wait for a scan: others may be looked at for its sake.
            let is_early = match entry.state {
                State::Fresh | State::Parked => true,
                State::New => state != State::Fresh,
                State::Due => !matches!(state, State::Fresh | State::New),
                State::Scan => matches!(state, State::Scan | State::Background),
                other => other == state,
            };
            if !is_early {
                let state = if matches!(state, State::Fresh | State::New) { state } else { State::Due };
                entry.state = state;
                self.push(place, state, asked);
            }
            return;
        }
        let entry = Entry { change: Some(change), arrival: None, state, tries: 0, look: 0 };
        self.entries.insert(place.clone(), entry);
        self.push(place, state, asked);
    }

    fn push(&mut self, place: Place, state: State, asked: State) {
        match (state, asked) {
            (State::Background, _) => self.background.push(place),
            (State::Scan, _) => self.scan.push(place),
            (State::Fresh, _) => self.fresh.push_back(place),
            (State::New, State::Scan) => self.new.push_front(place),
            (State::New, _) => self.new.push_back(place),
            _ => self.due.push_back(place),
        }
    }

    /// Cancels the reading of a directory, because it was read just now.
    pub(super) fn take_back(&mut self, dir: NodeId, name: &[u8]) -> Option<Change> {
        let entry = self.entries.get_mut(&Place { dir, name: name.into() })?;
        entry.change.take_if(|change| change.read)
    }

    /// Queues a look at a file that may have arrived, for some rules.
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
            look: 0,
        });
        let arrival = entry.arrival.get_or_insert_with(|| Box::new(Arrival::new(origin, own)));
        let is_more = arrival.merge(origin, views);
        if let Some(object) = object {
            know_object(&mut self.objects, arrival, (object.fs, object.bytes.into()), &place);
        }
        let is_waiting = matches!(
            entry.state,
            State::Due | State::Scan | State::Fresh | State::New | State::Background | State::Parked
        );
        if !is_waiting && (is_more || entry.state != State::Looked) {
            entry.state = State::Due;
            self.due.push_back(place);
        }
    }

    /// A record of a name was read. A look at this name must not fire for its events again.
    pub(super) fn note(
        &mut self,
        dir: NodeId,
        name: &[u8],
        events: Events,
        is_seen_by: &dyn Fn(View) -> bool,
    ) {
        if self.entries.is_empty() {
            return;
        }
        let place = Place { dir, name: name.into() };
        let Some(entry) = self.entries.get_mut(&place) else { return };
        let Some(arrival) = &mut entry.arrival else { return };
        if arrival.note(events, is_seen_by) {
            let arrival = entry.arrival.take();
            forget_object(&mut self.objects, arrival.as_deref(), &place);
            // A look that is under way may have its change.
            let is_over = |entry: &Entry| entry.change.is_none() && entry.state != State::Taken;
            if self.entries.get(&place).is_some_and(is_over) {
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

    /// The next place to look at.
    pub(super) fn take(&mut self, tree: &PathTree, now: Instant, lanes: Lanes) -> Option<Task> {
        self.wake(now);
        loop {
            let Some(place) = self.next(lanes) else {
                self.shrink();
                return None;
            };
            let Some(entry) = self.entries.get_mut(&place) else { continue };
            if !matches!(
                entry.state,
                State::Due | State::Scan | State::Fresh | State::New | State::Background
            ) {
                continue;
            }
            if !tree.has(place.dir) {
                self.remove(&place);
                continue;
            }
            self.serial += 1;
            return Some(entry.take(place, self.serial));
        }
    }

    fn next(&mut self, lanes: Lanes) -> Option<Place> {
        let fresh = self.fresh.pop_front();
        if fresh.is_some() || lanes == Lanes::Fresh {
            return fresh;
        }
        let is_turn_of_new = lanes == Lanes::New || self.serial.is_multiple_of(2);
        let new = if is_turn_of_new { self.new.pop_front() } else { None };
        if new.is_some() || lanes == Lanes::New {
            return new;
        }
        let due = self.due.pop_front().or_else(|| self.scan.pop()).or_else(|| self.new.pop_front());
        if lanes == Lanes::Background { due.or_else(|| self.background.pop()) } else { due }
    }

    /// Whether the memory of a large scan was released since the last call.
    pub(super) fn take_shrunk(&mut self) -> bool {
        std::mem::take(&mut self.has_shrunk)
    }

    /// A place waits until a file-system worker is free for it; whether it does so only now.
    pub(super) fn park(&mut self, task: Task) -> bool {
        let Some(entry) = self.entries.get_mut(&task.place) else { return false };
        entry.give_back(task.change);
        entry.tries = entry.tries.saturating_sub(1);
        std::mem::replace(&mut entry.state, State::Parked) != State::Parked
    }

    /// The worker is free for a place.
    pub(super) fn take_parked(&mut self, tree: &PathTree, place: Place) -> Option<Task> {
        let entry = self.entries.get_mut(&place).filter(|entry| entry.state == State::Parked)?;
        if !tree.has(place.dir) {
            self.remove(&place);
            return None;
        }
        self.serial += 1;
        Some(entry.take(place, self.serial))
    }

    /// The worker of a place is gone.
    pub(super) fn unpark(&mut self, place: Place) {
        if let Some(entry) = self.entries.get_mut(&place).filter(|entry| entry.state == State::Parked) {
            entry.state = State::Due;
            self.due.push_back(place);
        }
    }

    /// The answer of a look does not count. That is no try.
    pub(super) fn on_stale(&mut self, task: Task) {
        if let Some(entry) = self.entries.get_mut(&task.place) {
            entry.tries = entry.tries.saturating_sub(1);
        }
        self.again(task);
    }

    /// Whether nobody has wanted another look at a place since this one began.
    pub(super) fn is_current(&self, task: &Task) -> bool {
        let is_it = |entry: &Entry| entry.state == State::Taken && entry.look == task.look;
        self.entries.get(&task.place).is_some_and(is_it)
    }

    /// Releases the memory of a large scan.
    fn shrink(&mut self) {
        if self.entries.capacity() > SMALL && self.entries.len() < SMALL / 2 {
            self.entries.shrink_to(SMALL);
            self.due.shrink_to(SMALL);
            self.scan.shrink_to(SMALL);
            self.fresh.shrink_to(SMALL);
            self.new.shrink_to(SMALL);
            self.background.shrink_to(SMALL);
            self.looked.shrink_to(SMALL);
            self.has_shrunk = true;
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

    /// A place was looked at, and is up to date. The facts about a file there fire when the
    /// queue was read to its end.
    pub(super) fn done(&mut self, place: &Place, facts: Option<&Facts>, now: (Instant, SystemTime)) {
        let Some(entry) = self.entries.get_mut(place) else { return };
        if entry.state != State::Taken {
            // Another look was asked for meanwhile.
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

    /// A place could not be looked at, because its directory is not at its path. Records of
    /// that are still in the queue, or missing.
    pub(super) fn retry(&mut self, task: Task, now: Instant) {
        let Some(entry) = self.entries.get_mut(&task.place) else { return };
        entry.give_back(task.change);
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

    /// Looks at a place once more, after all looks that are due now.
    pub(super) fn again(&mut self, task: Task) {
        let Some(entry) = self.entries.get_mut(&task.place) else { return };
        entry.give_back(task.change);
        entry.state = State::Due;
        self.due.push_back(task.place);
    }

    /// The same after those on the paths of rules: a rule may wait for it that is added.
    pub(super) fn again_first(&mut self, task: Task) {
        let Some(entry) = self.entries.get_mut(&task.place) else { return };
        entry.give_back(task.change);
        entry.state = State::Fresh;
        self.fresh.push_back(task.place);
    }

    fn put_at(&mut self, place: &Place, at: Instant) {
        if let Some(entry) = self.entries.get_mut(place) {
            entry.state = State::At(at);
            self.serial += 1;
            self.timers.insert((at, self.serial), place.clone());
        }
    }

    /// The kernel's queue was read to its end. Returns the files whose look may fire now.
    /// Places that waited for records are due.
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

    /// Whether a place is due, or waits for the kernel's queue to be read.
    pub(super) fn is_due(&self) -> bool {
        let is_waiting = !self.records.is_empty() || !self.looked.is_empty();
        is_waiting || self.has_new() || !self.due.is_empty() || !self.scan.is_empty()
    }

    /// Whether paths of rules, or trees of new ones, are still to be looked at.
    pub(super) fn has_new(&self) -> bool {
        !self.fresh.is_empty() || !self.new.is_empty()
    }

    /// Whether there are looks in the background.
    pub(super) fn has_background(&self) -> bool {
        !self.background.is_empty()
    }

    /// Moves scans whose finds are no events to the background.
    pub(super) fn defer_quiet(&mut self) {
        let Self { entries, scan, new, background, .. } = self;
        let mut is_deferred = |place: &Place| match entries.get_mut(place) {
            Some(Entry { change: Some(change), arrival: None, state, .. })
                if change.news.is_none() && (*state == State::Scan || !change.quiet.is_empty()) =>
            {
                *state = State::Background;
                true
            }
            _ => false,
        };
        background.extend(scan.extract_if(.., |place| is_deferred(place)));
        new.retain(|place| {
            let is_deferred = is_deferred(place);
            background.extend(is_deferred.then(|| place.clone()));
            !is_deferred
        });
    }

    /// When the next place is due, if nothing else happens before.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// The places that are to be looked at, now or later.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.entries.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is to be looked at, now or later.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.objects.is_empty() && self.looked.is_empty()
    }

    /// Removes a rule from all looks.
    pub(super) fn forget_rule(&mut self, slot: Slot) {
        for entry in self.entries.values_mut() {
            if let Some(arrival) = &mut entry.arrival {
                arrival.forget_rule(slot);
            }
            if let Some(change) = &mut entry.change {
                change.forget_rule(slot);
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
