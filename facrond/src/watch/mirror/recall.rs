//! Directories that have left their places before this process has seen them. The records of
//! what has happened in them are still in the queue, so they come back as ghosts.

use super::Mirror;
use crate::events::Events;
use crate::kernel::record::{Handle, Record};
use crate::watch::matcher::{Side, Sides};
use crate::watch::recheck::{Change, News};
use crate::watch::rules::{Need, RuleIndex, Slot, join};
use crate::watch::scanner::InodeKey;
use crate::watch::tree::{Content, NodeId};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

/// An object that has left a place, as a record says.
#[derive(Debug)]
pub(in crate::watch) struct Departure {
    dir: InodeKey,
    name: Box<[u8]>,
    object: InodeKey,
    is_directory: bool,
}

/// The paths that lead to rules, each with the rules whose PATH it is.
type Ways = HashMap<Vec<u8>, Vec<Slot>>;

impl Mirror {
    /// Adds what leaves its place by a record, as far as later or earlier records may be about
    /// it.
    pub(in crate::watch) fn departures(&self, record: &Record<'_>, departures: &mut Vec<Departure>) {
        let Some(object) = record.object else { return };
        let leaves = Events::DELETE.with(Events::MOVED_FROM);
        for Side { entry, events } in Sides::of(record, self.rules.moves()).iter() {
            let is_directory = events.contains(Events::ONDIR);
            if events.intersects(leaves) && (is_directory || self.awaits_end(entry.dir, entry.name)) {
                departures.push(Departure {
                    dir: key(entry.dir),
                    name: entry.name.into(),
                    object: key(object),
                    is_directory,
                });
            }
        }
    }

    /// Whether a rule is about the end of what is at its PATH, and this is its PATH.
    fn awaits_end(&self, dir: Handle<'_>, name: &[u8]) -> bool {
        let mut targets = self.tree.places(dir).filter_map(|dir| self.tree.child(dir, name));
        targets.any(|node| self.is_end_awaited(node))
    }

    /// Whether records are read from now on that are older than the looks at their places.
    pub(in crate::watch) fn set_late(&mut self, is_late: bool) {
        self.is_late = is_late;
        self.told.expect_many(is_late);
    }

    /// Takes back what has left, the last first: a directory that has left may have been in
    /// another one that did so later.
    pub(in crate::watch) fn recall(&mut self, departures: &[Departure]) {
        if departures.is_empty() {
            return;
        }
        let ways = self.ways();
        for Departure { dir, name, object, is_directory } in departures.iter().rev() {
            let dir = Handle { fs: dir.0, bytes: &dir.1 };
            let object = Handle { fs: object.0, bytes: &object.1 };
            let dirs: Vec<_> = self.tree.places(dir).collect();
            if !is_directory {
                for dir in dirs {
                    self.await_end(dir, name, object);
                }
            } else if self.tree.places(object).next().is_none() {
                for dir in dirs {
                    self.recall_at(dir, name, object, &ways);
                }
            }
        }
    }

    fn ways(&self) -> Ways {
        let mut ways = Ways::new();
        for (slot, rule) in self.rules.iter() {
            let path = match rule.target {
                Some(target) => self.tree.path(target),
                None => rule.spec.path.as_os_str().as_bytes().to_vec(),
            };
            let mut way = Vec::new();
            for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
                way = join(if way.is_empty() { b"/" } else { &way }, name);
                ways.entry(way.clone()).or_default();
            }
            ways.entry(way).or_default().push(slot);
        }
        ways
    }

    fn recall_at(&mut self, dir: NodeId, name: &[u8], object: Handle<'_>, ways: &Ways) {
        let is_known = self.rules.knows_children(&self.tree, dir) && !RuleIndex::is_too_deep(&self.tree, dir);
        let rules = if is_known { self.rules.seen_by(&self.tree, dir, name) } else { Vec::new() };
        let targets = ways.get(&join(&self.tree.path(dir), name));
        if !is_known && targets.is_none() {
            return;
        }
        let node = self.tree.new_ghost(dir, name);
        self.tree.bind(node, object, Content::Directory);
        self.rules.assign(&mut self.tree, node, &rules);
        for slot in targets.into_iter().flatten() {
            let references = self.references(node);
            references.add(*slot, Need::default());
            references.aim(*slot);
            self.rules[*slot].ghosts.push(node);
        }
        self.remember_former(node);
        self.gone.push(node);
    }

    /// A directory came while nobody watched, and its content with it or after it. What later
    /// records tell of it is not told again.
    pub(in crate::watch) fn read_as_news(&mut self, dir: Handle<'_>) {
        let places: Vec<_> = self.tree.places(dir).filter(|node| self.tree.ghost(*node).is_none()).collect();
        for node in places {
            let (parent, name): (_, Box<[u8]>) = (self.tree.parent(node), self.tree[node].name().into());
            let news = Some(News { told: Some(SystemTime::now()), ..News::default() });
            self.recheck.change(parent, &name, Change { news, read: true, sweep: true, ..Change::default() });
        }
    }
}

fn key(handle: Handle<'_>) -> InodeKey {
    (handle.fs, handle.bytes.into())
}
