//! After an overflow: what the lost records would have told is found by looking.
//!
//! What has changed since the queue was last empty is news, unless a record of it
//! was read after all; those are remembered for a while, where overflows can be.
//! Ends of files leave nothing to find: rules for `FAN_Q_OVERFLOW` are told of the
//! overflow itself.

use super::arrival::Origin;
use super::fire::{Cause, Firing};
use super::mounts::CLOCK_SLACK;
use super::resolve::{News, Occasion};
use super::tree::{Content, NodeId, ROOT};
use super::{Hit, Watch};
use crate::events::Events;
use crate::kernel::envoy::SILENT;
use crate::kernel::fanotify::Privilege;
use crate::kernel::object::Kind;
use rustc_hash::FxHashMap;
use std::time::{Duration, SystemTime};

/// How long what was read is remembered after the queue was empty.
const MEMORY: Duration = Duration::from_secs(1);

/// Directories looked into before the queue is read again, lest it overflows anew.
const DIRECTORIES_PER_TURN: usize = 16;

/// What was told lately, and what is still to be looked at.
#[derive(Debug)]
pub struct Rescan {
    /// Only a limited queue can overflow.
    is_possible: bool,
    told: FxHashMap<(NodeId, Box<[u8]>), Told>,
    forgotten: SystemTime,
    todo: Vec<NodeId>,
    since: SystemTime,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    at: SystemTime,
    events: Events,
}

impl Rescan {
    /// For groups of this privilege.
    pub fn new(privilege: Privilege) -> Self {
        let now = SystemTime::now();
        Self {
            is_possible: privilege == Privilege::User,
            told: FxHashMap::default(),
            forgotten: now,
            todo: Vec::new(),
            since: now,
        }
    }

    /// A record about a name was read.
    pub fn note(&mut self, dir: NodeId, name: &[u8], events: Events) {
        if self.is_possible {
            let at = SystemTime::now();
            let told = self.told.entry((dir, name.into())).or_insert(Told { at, events });
            *told = Told { at, events: told.events.with(events) };
        }
    }

    /// The queue is empty and nothing is missing.
    pub fn settle(&mut self, now: SystemTime) {
        let is_old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > MEMORY);
        if is_old(self.forgotten) {
            self.told.retain(|_, told| !is_old(told.at));
            self.forgotten = now;
        }
    }

    /// From when on changes count, while directories are still to be looked into.
    pub fn under_way_since(&self) -> Option<SystemTime> {
        self.is_under_way().then_some(self.since)
    }

    /// Whether directories are still to be looked into.
    pub fn is_under_way(&self) -> bool {
        !self.todo.is_empty()
    }
}

impl Watch {
    /// The kernel dropped records: rules for overflows fire, every path is looked
    /// at again, and then every directory that rules look into.
    pub(super) fn on_overflow(&mut self, hits: &mut Vec<Hit>) {
        self.counters.overflows += 1;
        tracing::error!(
            "the kernel's event queue overflowed: looking for what was missed \
             (/proc/sys/fs/fanotify/max_queued_events)"
        );
        let events = Events::Q_OVERFLOW;
        let cause = Cause { time: SystemTime::now(), events, pid: 0, own: false, synthetic: false };
        let slots: Vec<_> = self.rules.iter().map(|(slot, _)| slot).collect();
        for slot in &slots {
            if self.rules[*slot].spec.events.contains(events) {
                hits.push(self.hit(&Firing { slot: *slot, matched: events, place: None }, &cause, None));
            }
        }
        self.begin_rescan(self.settled);
        let news = News { own: false, since: Some(self.rescan.since) };
        for slot in slots {
            self.resolve(slot, Occasion::Change(news));
        }
        self.rescan.todo = self.directories(ROOT);
    }

    /// Has all known directories at and below one looked into, for what has changed
    /// since all that had happened was known.
    pub(super) fn rescan_below(&mut self, top: NodeId, settled: SystemTime) {
        self.begin_rescan(settled);
        let directories = self.directories(top);
        self.rescan.todo.extend(directories);
    }

    fn begin_rescan(&mut self, settled: SystemTime) {
        let since = settled.checked_sub(CLOCK_SLACK).unwrap_or(settled);
        self.rescan.since = self.rescan.under_way_since().map_or(since, |earlier| earlier.min(since));
    }

    /// Looks into some directories; whether there are more.
    pub(super) fn rescan_some(&mut self) -> bool {
        for _ in 0..DIRECTORIES_PER_TURN {
            let Some(dir) = self.rescan.todo.last().copied() else { return false };
            self.rescan_directory(dir);
            self.rescan.todo.pop();
        }
        self.rescan.is_under_way()
    }

    /// All directories at and below one of which rules see the entries, or one entry.
    fn directories(&self, top: NodeId) -> Vec<NodeId> {
        let mut nodes = vec![top];
        let mut next = 0;
        while let Some(node) = nodes.get(next).copied() {
            next += 1;
            nodes.extend(self.tree.children(node));
        }
        nodes.retain(|node| self.tree[*node].content == Content::Directory);
        nodes
    }

    fn rescan_directory(&mut self, dir: NodeId) {
        let Ok(object) = self.open_bound(dir) else { return };
        let Ok(entries) = object.entries() else { return };
        let reach = self.reach(dir);
        let since = Some(self.rescan.since);
        for (name, kind) in entries {
            let mut slots = reach.clone();
            let child = self.tree.child(dir, &name);
            slots.extend(
                child.and_then(|node| self.tree[node].anchor.as_ref()).iter().flat_map(|a| &a.targets),
            );
            if slots.is_empty() {
                continue;
            }
            if let Ok(entry) = self.entry(dir, &object, &name)
                && entry.stat().changed() >= self.rescan.since
            {
                self.arrivals.add(dir, &name, Origin::Found { since }, false, &slots);
                let told = self.rescan.told.get(&(dir, name.clone()));
                if let Some(told) = told.filter(|told| told.at >= entry.stat().changed()) {
                    self.arrivals.note(dir, &name, told.events);
                }
            }
            if kind.is_none_or(|kind| kind == Kind::Directory) {
                self.take_in(dir, &name, News { own: false, since });
            }
        }
        for child in self.tree.children(dir) {
            let is_gone = || self.open_bound(child).is_err_and(|errno| errno != SILENT);
            if self.tree[child].anchor.is_none() && is_gone() {
                self.vacate(child);
            }
        }
    }
}
