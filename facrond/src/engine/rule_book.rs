//! The rules as the engine knows them: identity, origin, counters, and what a reload changes.
//!
//! It also saves the rules that outlive the daemon, and the numbers that it gave out.

mod difference;

use super::store::Store;
use crate::config::rule::RuleSpec;
use crate::own_dir::OwnError;
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

    /// Whether it is switched on. It may have failed all the same.
    pub fn is_on(&self) -> bool {
        self.switch == Switch::On
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
    store: Option<Store>,
}

impl RuleBook {
    /// Without a store no rule outlives the daemon.
    pub fn new(store: Option<Store>) -> Self {
        Self { entries: BTreeMap::new(), names: HashMap::new(), next_id: 1, matched: 0, store }
    }

    /// Takes in the saved rules. What cannot be read is left out and returned.
    pub fn load(&mut self) -> Vec<String> {
        let Some(store) = self.store.clone() else { return Vec::new() };
        let mut problems = Vec::new();
        for origin in [Origin::Persisted, Origin::Runtime] {
            let saved = match store.load(origin.source()) {
                Ok(saved) => saved,
                Err(error) => {
                    problems.push(error.to_string());
                    continue;
                }
            };
            self.next_id = self.next_id.max(saved.next_id);
            for rule in saved.rules {
                match rule.spec() {
                    Ok(spec) => {
                        let switch = if rule.paused { Switch::Paused } else { Switch::On };
                        self.insert_as(rule.id, Rc::new(spec), origin.clone()).switch = switch;
                    }
                    Err(why) => problems
                        .push(format!("the saved rule {} on {} is left out: {why}", rule.id, rule.path)),
                }
            }
        }
        problems
    }

    /// Saves the rules that were added at runtime.
    pub fn save(&self) {
        for source in [Source::Runtime, Source::Persisted] {
            self.save_layer(source).unwrap_or_else(|error| tracing::error!("{error}"));
        }
    }

    pub fn save_layer(&self, source: Source) -> Result<(), OwnError> {
        let Some(store) = &self.store else { return Ok(()) };
        let entries = self.iter().filter(|entry| entry.origin.source() == source);
        store.save(source, self.next_id, entries)
    }

    /// Numbers that were given out are not given out again, whatever happens.
    pub fn save_ids(&self) {
        self.save_layer(Source::Persisted).unwrap_or_else(|error| {
            tracing::warn!("{error}; rules may get numbers that others had before the next start");
        });
    }

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

    /// Removes a rule that has fired its only time; one of a file stays, switched off.
    pub fn retire(&mut self, id: RuleId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.switch = Switch::Done;
        if entry.origin.source() != Source::File {
            self.remove(id);
            self.save();
        }
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

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}
