//! The knowledge about all places of rules, kept up to date by records and by looks. Pure:
//! it takes a record and returns firings; it returns a probe and takes the answer.
//!
//! | file | from | to |
//! |---|---|---|
//! | `follow` | a record | changes of the tree, places to look at |
//! | `apply` | the answer of a look | changes of the tree, places to look at |
//! | `resolve` | a rule's PATH | the nodes that it leads through |
//! | `passing` | a directory | its entries |
//! | `bury` | places that are gone | marks to remove |
//! | `recall` | records of a time when nobody watched | places that were gone by then |

mod apply;
mod bury;
mod follow;
mod passing;
mod recall;
mod resolve;

use bury::Former;
pub(super) use bury::Orphan;
use passing::Passing;
pub(super) use recall::Departure;

use super::catch_up::{Batch, COMPLETE, CatchUp, Missed};
use super::matcher::{Cause, Firing, Matcher, Sides};
use super::recheck::{Arrival, Change, Lanes, News, Origin, Place, Recheck, Task, View};
use super::rules::{Moves, PathState, RuleIndex, Slot};
use super::scanner::{InodeKey, Times};
use super::told::Told;
use super::tree::{NodeId, PathTree, ROOT};
use crate::config::rule::RuleSpec;
use crate::event::Event;
use crate::events::Events;
use crate::kernel::fanotify::Privilege;
use crate::kernel::record::{FsId, Handle, Record};
use crate::matcher::{Position, matched};
use facron_proto::{RuleId, Text};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

/// One firing: a rule, and the event that has fired it.
#[derive(Debug)]
pub(super) struct Fired {
    pub(super) rule: RuleId,
    pub(super) event: Event,
    /// Whether one of facron's own commands caused it. `None` if that must still be decided
    /// by the pid.
    pub(super) own: Option<bool>,
}

/// The name that a record is about.
enum Name {
    AsRecorded,
    /// The file has never had a name.
    Never,
    /// Another name, which may be in another directory.
    Other(InodeKey, Box<[u8]>),
}

/// The places, the rules, and the places that must be looked at.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) tree: PathTree,
    pub(super) rules: RuleIndex,
    pub(super) recheck: Recheck,
    /// Objects that were at a rule's PATH, by their handles. The kernel will still report their
    /// end. Users choose handles by making files, so the hash has a key.
    former: HashMap<InodeKey, Former>,
    /// Places that a look has found to be gone, since the queue was last empty.
    gone: Vec<NodeId>,
    /// Places that will be forgotten. The next one is the last here.
    burying: Vec<NodeId>,
    orphans: Vec<Orphan>,
    passing: Vec<Passing>,
    /// Rules whose tree has proved to be large.
    large: Vec<Slot>,
    /// Rules that no longer rely on the mark of a file system.
    unmarked: Vec<Slot>,
    told: Told,
    /// Whether the records are of a time before the looks at what they are about.
    is_late: bool,
    pub(super) catch_up: CatchUp,
    complaints: u64,
}

impl Mirror {
    /// A mirror without rules. `moves` is how the kernel reports moves.
    pub(super) fn new(moves: Moves, privilege: Privilege) -> Self {
        Self {
            tree: PathTree::default(),
            rules: RuleIndex::new(moves),
            recheck: Recheck::default(),
            former: HashMap::new(),
            gone: Vec::new(),
            burying: Vec::new(),
            orphans: Vec::new(),
            passing: Vec::new(),
            large: Vec::new(),
            unmarked: Vec::new(),
            told: Told::new(privilege),
            is_late: false,
            catch_up: CatchUp::default(),
            complaints: 0,
        }
    }

    /// Adds a rule, or replaces the one with this number. Also returns the slot of the old
    /// rule, which must be detached when the new one has its marks.
    pub(super) fn attach(
        &mut self,
        id: RuleId,
        spec: Rc<RuleSpec>,
        missed: Option<Missed>,
    ) -> (Slot, Option<Slot>) {
        let (slot, before) = self.rules.insert(id, spec);
        self.rules[slot].missed = missed;
        self.resolve(slot, None);
        (slot, before)
    }

    /// Removes a rule from all places.
    pub(super) fn detach(&mut self, slot: Slot) {
        self.recheck.forget_rule(slot);
        self.catch_up.forget_rule(slot);
        self.pass_nothing_to(slot);
        self.rules.strip(slot);
        self.release(slot);
        self.large.retain(|other| *other != slot);
        self.unmarked.retain(|other| *other != slot);
        self.rules.remove(slot);
    }

    /// Adds the firings of a record to `fired`, in order, and updates the places by it. `own`
    /// decides whether facron's own commands caused it.
    pub(super) fn on_record(
        &mut self,
        record: &Record<'_>,
        own: &mut dyn FnMut() -> bool,
        fired: &mut Vec<Fired>,
    ) {
        let real = self.real_name(record);
        let mut sides = Sides::of(record, self.rules.moves());
        match &real {
            Name::AsRecorded => {}
            Name::Never => return,
            Name::Other((fs, bytes), name) => sides = sides.renamed(Handle { fs: *fs, bytes }, name),
        }
        let firings = self.matcher(record).firings(record, &sides);
        if !firings.is_empty() {
            let cause = Cause {
                time: SystemTime::now(),
                events: sides.events(record),
                pid: record.pid,
                synthetic: false,
                object: record.object,
            };
            let old = record.old.and_then(|old| Some((self.tree.places(old.dir).next()?, old.name)));
            for firing in &firings {
                let event = self.matcher(record).event(firing, &cause, old);
                self.told.note(firing.slot, &event);
                fired.push(Fired { rule: self.rules[firing.slot].id, event, own: None });
            }
        }
        self.note(record, &sides, own);
        self.end_former(record);
        if sides.events(record).intersects(Events::ENTRY) {
            self.follow(record, &sides, own);
        }
    }

    fn matcher(&self, record: &Record<'_>) -> Matcher<'_> {
        let object = record.object.or(record.entry.map(|entry| entry.dir));
        let former = object.filter(|_| !self.former.is_empty());
        let former = former.and_then(|object| self.former.get(&(object.fs, object.bytes.into())));
        let former = former.filter(|former| self.tree.has(former.place.dir));
        let former = former
            .and_then(|Former { place, awaited }| Some((self.tree.child(place.dir, &place.name)?, *awaited)));
        Matcher { tree: &self.tree, rules: &self.rules, former }
    }

    /// The real name of a record's file. A file that was made without a name (`O_TMPFILE`,
    /// open(2)) has the name `#` and its inode number in all records until it is closed,
    /// even if it was linked. A record about a file that never had a name is dropped.
    fn real_name(&self, record: &Record<'_>) -> Name {
        let Some(entry) = record.entry else { return Name::AsRecorded };
        let Some(object) = record.object.filter(|object| is_nameless(entry.name, *object)) else {
            return Name::AsRecorded;
        };
        let by_node = || {
            let node = self.tree.places(object).find(|node| self.tree.ghost(*node).is_none())?;
            Some((self.tree.parent(node), self.tree[node].name()))
        };
        let by_look = self.recheck.place_of(object).map(|place| (place.dir, &*place.name));
        let place = by_look.or_else(by_node).filter(|(dir, _)| self.tree.has(*dir));
        let named = place.and_then(|(dir, name)| Some((self.tree.handle(dir)?, name)));
        named.map_or(Name::Never, |(dir, name)| Name::Other((dir.fs, dir.bytes.into()), name.into()))
    }

    /// Notes the record at places that wait for a look, so that the look does not fire for the
    /// same event again. Queues looks at files that may have been linked in.
    fn note(&mut self, record: &Record<'_>, sides: &Sides<'_>, own: &mut dyn FnMut() -> bool) {
        for side in sides.iter() {
            if side.entry.name == b"." {
                continue;
            }
            let places: Vec<_> = self.tree.places(side.entry.dir).collect();
            for node in places {
                let Self { tree, rules, recheck, .. } = &mut *self;
                let is_target = |slot, child| tree.targets(child).contains(&slot);
                let is_seen_by = |(slot, position): View| match position {
                    Position::Path => {
                        tree.child(node, side.entry.name).is_some_and(|child| is_target(slot, child))
                    }
                    Position::Below => rules.reach(tree, node).any(|other| other == slot),
                };
                recheck.note(node, side.entry.name, side.events, &is_seen_by);
                let views = self.matcher(record).may_have_arrived(node, side.entry.name, side.events);
                if !views.is_empty() {
                    let origin = Origin::Made { pid: record.pid };
                    self.recheck.arrival(node, side.entry.name, origin, own(), &views, record.object);
                }
                if side.events.contains(Events::CREATE) {
                    self.note_link(record.object);
                }
            }
        }
    }

    /// A new name may be a second link of a known file.
    fn note_link(&mut self, object: Option<Handle<'_>>) {
        if let Some(inode) = object.and_then(|object| self.tree.find_inode(object))
            && self.tree.places_of(inode).next().is_some()
        {
            self.tree.inode_mut(inode).has_links = true;
        }
    }

    /// The queue was read to its end. Fires the finds of looks that no record has reported.
    pub(super) fn on_drained(&mut self, fired: &mut Vec<Fired>) {
        for (place, arrival) in self.recheck.on_drained() {
            if self.tree.has(place.dir) {
                self.fire_arrival(&place, &arrival, fired);
            }
        }
        self.bury_gone();
    }

    fn fire_arrival(&mut self, place: &Place, arrival: &Arrival, fired: &mut Vec<Fired>) {
        let Place { dir, name } = place;
        let (pid, synthetic) = match arrival.origin {
            Origin::Made { pid } => (pid, false),
            Origin::Found { .. } | Origin::Missed { .. } => (0, true),
        };
        for ((slot, position), news) in arrival.news() {
            let at = (position == Position::Below).then_some((*dir, &**name));
            let news = self.untold(slot, at, arrival, news);
            let told = found(self.rules[slot].events, arrival.origin, position, news);
            let matcher = Matcher { tree: &self.tree, rules: &self.rules, former: None };
            if told.is_empty() || !matcher.accepts(slot, at, news) {
                continue;
            }
            let cause =
                Cause { time: SystemTime::now(), events: news, pid, synthetic, object: arrival.object() };
            let firing = Firing { slot, matched: told, place: at.map(|(dir, name)| (dir, name.into())) };
            let event = matcher.event(&firing, &cause, None);
            self.told.note(slot, &event);
            fired.push(Fired { rule: self.rules[slot].id, event, own: Some(arrival.own) });
        }
        // Its close may be reported as the close of a file without a name.
        let awaits = |(slot, _): &View| self.rules[*slot].spec.events.contains(Events::ARRIVED);
        let views: Vec<_> = arrival.awaiting_close().filter(awaits).collect();
        if !views.is_empty() {
            let origin = Origin::Made { pid };
            self.recheck.arrival(*dir, name, origin, arrival.own, &views, arrival.object());
        }
    }

    /// The events of a file without those that were told before the look has found it.
    fn untold(&self, slot: Slot, place: Option<(NodeId, &[u8])>, arrival: &Arrival, news: Events) -> Events {
        let path = || self.rules.path_of(&self.tree, slot, place);
        let then = match arrival.origin {
            Origin::Found { since: Some(_), .. } => arrival.changed,
            Origin::Found { told, .. } => told,
            Origin::Made { .. } => None,
            Origin::Missed { .. } => {
                return self.catch_up.untold(slot, &path(), arrival.changed, &self.told, news);
            }
        };
        then.map_or(news, |then| news.without(self.told.since(slot, &path(), then)))
    }

    /// A rule will be told of a path anyway.
    pub(super) fn note_told(&mut self, slot: Slot, path: &Rc<[u8]>, time: SystemTime) {
        match &mut self.rules[slot].missed {
            Some(missed) => missed.note_told(path, time, COMPLETE),
            None => self.catch_up.note_told(slot, path, time),
        }
    }

    /// Whether a rule that catches up can go on.
    pub(super) fn can_catch_up(&self, room: &dyn Fn(RuleId) -> usize) -> bool {
        !self.is_due() && self.catch_up.has_work(&self.tree, &self.rules, &self.recheck, room)
    }

    /// The next entries for a rule that catches up.
    pub(super) fn next_missed(&mut self, room: &dyn Fn(RuleId) -> usize) -> Option<Batch> {
        self.catch_up.step(&self.tree, &self.rules, &mut self.recheck, room)
    }

    /// Takes those that may have changed.
    pub(super) fn take_changed(&mut self, batch: &Batch, times: Option<&[Times]>) {
        self.catch_up.take(batch, times, &self.tree, &self.rules, &mut self.recheck);
    }

    /// Records may be missing. Everything that rules see is looked at, and changes after
    /// `since` are found.
    pub(super) fn sweep(&mut self, since: SystemTime) {
        let news = News { since: Some(since), ..News::default() };
        self.recheck.change(ROOT, b"", Change { news: Some(news), sweep: true, ..Change::default() });
    }

    /// The next place to look at.
    pub(super) fn take_task(&mut self, now: Instant, lanes: Lanes) -> Option<Task> {
        self.recheck.take(&self.tree, now, lanes)
    }

    /// The server of a mount point does not answer. The rules that lead to it wait, and keep
    /// their marks.
    pub(super) fn suspend_rules(&mut self, point: &[u8], why: &str) {
        let Some(node) = self.tree.find(point) else { return };
        for slot in self.users(node) {
            self.suspend_rule(slot, why);
        }
    }

    /// The same for one rule.
    pub(super) fn suspend_rule(&mut self, slot: Slot, why: &str) {
        let state = &mut self.rules[slot].state;
        if matches!(state, PathState::Active | PathState::Unresponsive(_)) {
            *state = PathState::Unresponsive(why.to_owned());
        }
    }

    /// A mount point answers: what the rules that lead to it have is in force.
    pub(super) fn resume_rules(&mut self, point: &[u8]) {
        let Some(node) = self.tree.find(point) else { return };
        for slot in self.users(node) {
            let state = &mut self.rules[slot].state;
            if matches!(state, PathState::Unresponsive(_)) {
                *state = PathState::Active;
            }
        }
    }

    /// Another file system may be mounted at a place. It is looked at, with all below.
    pub(super) fn doubt(&mut self, path: &[u8], since: SystemTime, sweep: bool) {
        let mut parent = ROOT;
        let mut names = path.split(|b| *b == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                let is_known = self.tree.child(parent, name).is_some();
                if is_known || self.rules.knows_children(&self.tree, parent) {
                    let news = Some(News { since: Some(since), ..News::default() });
                    self.recheck.change(
                        parent,
                        name,
                        Change { news, sweep, doubt: true, ..Change::default() },
                    );
                }
                return;
            }
            let Some(node) = self.tree.child(parent, name) else { return };
            parent = node;
        }
    }

    /// The marks of a file system are gone. Returns their number.
    pub(super) fn lose_marks(&mut self, fs: FsId) -> u64 {
        self.tree.lose_marks(fs)
    }

    /// The queue is empty, and no look is due.
    pub(super) fn on_settled(&mut self, now: SystemTime) {
        self.catch_up.on_settled(&self.rules);
        self.told.keep(!self.catch_up.is_empty());
        self.told.forget(now);
    }

    /// The rules whose tree has proved to be large since the last call.
    pub(super) fn take_large(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.large)
    }

    /// The rules that no longer rely on the mark of a file system, since the last call.
    pub(super) fn take_unmarked(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.unmarked)
    }

    /// A rule relies on the mark of a file system. The rest of its tree can be read in the
    /// background.
    pub(super) fn serve_by(&mut self, slot: Slot, fs: FsId) {
        self.rules[slot].file_system = Some(fs);
        self.recheck.defer_quiet();
    }

    /// When the next look is due, if nothing else happens before.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.recheck.next_due()
    }

    /// Whether there is work to do after the queue was read.
    pub(super) fn is_due(&self) -> bool {
        let is_more = !self.passing.is_empty() || !self.burying.is_empty() || !self.orphans.is_empty();
        is_more || self.recheck.is_due() || !self.gone.is_empty()
    }

    /// Paths on a file system that are at or above a rule's PATH, the deepest first.
    pub(super) fn paths_on(&self, fs: FsId) -> impl Iterator<Item = Vec<u8>> {
        let is_on = move |node: &NodeId| {
            self.tree.has(*node) && self.tree.handle(*node).is_some_and(|handle| handle.fs == fs)
        };
        let trails = self.rules.iter().flat_map(|(_, rule)| rule.trail.iter().rev().copied());
        trails.filter(is_on).map(|node| self.tree.path(node))
    }

    /// Logs that a directory cannot be watched. If there are many, logs some of them.
    fn complain(&mut self, parent: NodeId, name: &[u8], why: &str) {
        self.complaints += 1;
        if self.complaints <= 16 || self.complaints.is_power_of_two() {
            let path = self.tree.path(parent);
            let path = Text(super::rules::join(&path[..path.len().min(4096)], name));
            tracing::warn!(%path, problems = self.complaints, "cannot watch this directory: {why}");
        }
    }
}

/// The events of a rule that a look has found. The look itself decides about `ARRIVED`.
fn found(wanted: Events, origin: Origin, position: Position, news: Events) -> Events {
    let arrived = news.and(wanted).and(Events::ARRIVED);
    if matches!(origin, Origin::Made { .. }) {
        return arrived;
    }
    let by_events = matched(wanted, position, news.without(Events::ARRIVED)).without(Events::ARRIVED);
    by_events.with(arrived)
}

/// Whether a name is that of a file without a name: `#` and its inode number. The number
/// must be in the handle of the object.
fn is_nameless(name: &[u8], object: Handle<'_>) -> bool {
    let Some(digits) = name.strip_prefix(b"#").filter(|digits| (1..=20).contains(&digits.len())) else {
        return false;
    };
    let number = str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
    let Some(number) = number else { return false };
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    let half = (number as u32).to_ne_bytes();
    object.bytes.windows(half.len()).skip(8).any(|bytes| bytes == half)
}
