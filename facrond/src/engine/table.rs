//! The rules as the engine knows them: identity, origin, counters.

use crate::config::rule::RuleSpec;
use facron_proto::{Failure, RuleId, RuleRef, Source};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

/// Where a rule comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a configuration file.
    File {
        /// The file.
        file: Rc<Path>,
        /// The line, from 1.
        line: u32,
    },
    /// `add`.
    Runtime,
    /// `add --persist`.
    Persisted,
}

impl Origin {
    /// The layer.
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
    /// It is.
    On,
    /// `pause`.
    Paused,
    /// `once`, and it has fired.
    Done,
}

/// A rule and what became of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub id: RuleId,
    /// What its line says.
    pub spec: Rc<RuleSpec>,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it is to be watched.
    pub switch: Switch,
    /// When it was added.
    pub added: SystemTime,
    /// Events that it matched.
    pub fired: u64,
    /// Commands of it that failed.
    pub failed: u64,
    /// The last of those.
    pub last_failure: Option<Box<Failure>>,
    /// When it fired last.
    pub last: Option<SystemTime>,
}

impl Entry {
    /// Its `name=`.
    pub fn name(&self) -> Option<&str> {
        self.spec.options.name.as_deref()
    }
}

/// All rules, by number and by name.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<RuleId, Entry>,
    names: HashMap<String, RuleId>,
    /// The number of the next rule.
    pub next_id: u64,
}

impl Table {
    /// Takes a rule in under a number of its own.
    pub fn insert(&mut self, spec: Rc<RuleSpec>, origin: Origin) -> RuleId {
        let id = RuleId(self.next_id.max(1));
        self.insert_as(id, spec, origin);
        id
    }

    /// Takes a rule in under a number that it had before. A name that is taken
    /// stays with who has it.
    pub fn insert_as(&mut self, id: RuleId, spec: Rc<RuleSpec>, origin: Origin) {
        self.next_id = self.next_id.max(id.0 + 1);
        if let Some(name) = &spec.options.name {
            self.names.entry(name.clone()).or_insert(id);
        }
        let entry = Entry {
            id,
            spec,
            origin,
            switch: Switch::On,
            added: SystemTime::now(),
            fired: 0,
            failed: 0,
            last_failure: None,
            last: None,
        };
        self.entries.insert(id, entry);
    }

    /// Lets a rule go.
    pub fn remove(&mut self, id: RuleId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(name) = entry.name()
            && self.names.get(name) == Some(&id)
        {
            self.names.remove(name);
        }
        Some(entry)
    }

    /// The rule of this number.
    pub fn get(&self, id: RuleId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// The rule of this number, to change.
    pub fn get_mut(&mut self, id: RuleId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    /// The rule that is meant.
    pub fn find(&self, rule: &RuleRef) -> Option<&Entry> {
        match rule {
            RuleRef::Id(id) => self.get(*id),
            RuleRef::Name(name) => self.named(name),
        }
    }

    /// The rule that has a name.
    pub fn named(&self, name: &str) -> Option<&Entry> {
        self.names.get(name).and_then(|id| self.get(*id))
    }

    /// All rules, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}
