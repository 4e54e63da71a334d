//! The rules as the engine knows them: identity, origin, counters, and what a reload changes.

mod difference;
mod saved;

pub(super) use saved::SavedRule;

use crate::config::rule::RuleSpec;
use facron_proto::{Failure, RuleId, RuleRef, Source};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a configuration file, from 1.
    File {
        file: Rc<Path>,
        line: u32,
    },
    Runtime,
    Persisted,
}

impl Origin {
    pub fn source(&self) -> Source {
        match self {
            Self::File { .. } => Source::File,
            Self::Runtime => Source::Runtime,
            Self::Persisted => Source::Persisted,
        }
    }
}

/// Whether a rule is to be watched at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    On,
    Paused,
    /// `once`, and it has fired.
    Done,
}

/// A rule and what became of it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: RuleId,
    pub spec: Rc<RuleSpec>,
    pub origin: Origin,
    pub switch: Switch,
    /// Why a saved rule cannot be understood now.
    pub refused: Option<String>,
    pub added: SystemTime,
    pub fired: u64,
    /// Commands of it that failed.
    pub failed: u64,
    /// Events of it that were dropped.
    pub dropped: u64,
    pub last_failure: Option<Box<Failure>>,
    /// The time of its last event.
    pub last: Option<SystemTime>,
}

impl Entry {
    /// Its `name=`, else its number.
    pub fn label(&self) -> String {
        self.spec.options.name.clone().unwrap_or_else(|| self.id.to_string())
    }

    /// Whether it is switched on, and can be. It may have failed all the same.
    pub fn is_on(&self) -> bool {
        self.switch == Switch::On && self.refused.is_none()
    }

    /// Whether the store keeps it.
    pub fn is_kept(&self) -> bool {
        self.origin.source() != Source::File
    }
}

/// All rules, by number and by name.
#[derive(Debug)]
pub struct RuleBook {
    entries: BTreeMap<RuleId, Entry>,
    names: HashMap<String, RuleId>,
    /// Numbers from here on are free.
    next_id: u64,
    matched: u64,
}

impl Default for RuleBook {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), names: HashMap::new(), next_id: 1, matched: 0 }
    }
}

impl RuleBook {
    /// Takes a rule in under a number of its own.
    pub fn insert(&mut self, spec: Rc<RuleSpec>, origin: Origin) -> RuleId {
        self.insert_as(RuleId(self.next_id), spec, origin).id
    }

    /// Takes a rule in under a number that it had before. The first rule of a name keeps it.
    pub fn insert_as(&mut self, id: RuleId, spec: Rc<RuleSpec>, origin: Origin) -> &mut Entry {
        self.remove(id);
        self.next_id = self.next_id.max(id.0 + 1);
        if let Some(name) = &spec.options.name {
            self.names.entry(name.clone()).or_insert(id);
        }
        self.entries.entry(id).or_insert(Entry {
            id,
            spec,
            origin,
            switch: Switch::On,
            refused: None,
            added: SystemTime::now(),
            fired: 0,
            failed: 0,
            dropped: 0,
            last_failure: None,
            last: None,
        })
    }

    pub fn remove(&mut self, id: RuleId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(name) = &entry.spec.options.name
            && self.names.get(name) == Some(&id)
        {
            self.names.remove(name);
        }
        Some(entry)
    }

    pub fn turn(&mut self, id: RuleId, switch: Switch) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.switch = switch;
        }
    }

    /// A rule stands in another place now.
    pub fn relocate(&mut self, id: RuleId, origin: Origin) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.origin = origin;
        }
    }

    /// Removes a rule that has fired its only time; one of a file stays, switched off. Whether
    /// it was removed.
    pub fn retire(&mut self, id: RuleId) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        entry.switch = Switch::Done;
        entry.is_kept() && self.remove(id).is_some()
    }

    /// Counts events that a rule matched, the last of them at `time`.
    pub fn count_firings(&mut self, id: RuleId, count: u64, time: SystemTime) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.fired += count;
            entry.last = Some(time);
            self.matched += count;
        }
    }

    /// Counts a failure; `last` tells of it, if it was a command's.
    pub fn count_failure(&mut self, id: RuleId, last: Option<Failure>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.failed += 1;
            entry.last_failure = last.map(Box::new).or(entry.last_failure.take());
        }
    }

    /// Counts a dropped event; how many there are of its rule.
    pub fn count_drop(&mut self, id: RuleId) -> u64 {
        let Some(entry) = self.entries.get_mut(&id) else { return 1 };
        entry.dropped += 1;
        entry.dropped
    }

    /// Events that all rules have matched since the start.
    pub fn matched(&self) -> u64 {
        self.matched
    }

    pub fn get(&self, id: RuleId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub fn find(&self, rule: &RuleRef) -> Option<&Entry> {
        match rule {
            RuleRef::Id(id) => self.get(*id),
            RuleRef::Name(name) => self.names.get(name).and_then(|id| self.get(*id)),
        }
    }

    /// The rule that a rule of an earlier daemon is now: those of files get new numbers.
    pub fn find_same(&self, id: RuleId, spec: &RuleSpec) -> Option<&Entry> {
        let is_same = |entry: &&Entry| *entry.spec == *spec;
        self.get(id).filter(is_same).or_else(|| self.iter().find(is_same))
    }

    /// Whether files that are moved for a rule come to another one, or back to itself, by moves
    /// alone.
    pub fn leads(&self, from: RuleId, to: RuleId) -> bool {
        let (mut known, mut next) = (vec![from], 0);
        while let Some(rule) = known.get(next).copied() {
            if rule == to {
                return true;
            }
            next += 1;
            let Some(Entry { spec, .. }) = self.get(rule) else { continue };
            let dirs = spec.fate_directories();
            let sees =
                |watching: &RuleSpec| dirs.into_iter().flatten().any(|dir| watching.sees_entries_of(dir));
            let more = self.iter().filter(|entry| entry.spec.has_fate() && sees(&entry.spec));
            let more: Vec<_> = more.map(|entry| entry.id).filter(|id| !known.contains(id)).collect();
            known.extend(more);
        }
        false
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}
