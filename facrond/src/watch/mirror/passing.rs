//! What is passed on from a directory to its entries: that it was read, that records are
//! missing, that other rules see them. Users choose the number of entries, so this goes on in
//! steps, before the next look.

use super::Mirror;
use crate::kernel::object::{DirEntry, Kind};
use crate::matcher::Position;
use crate::watch::recheck::{Change, News, Origin};
use crate::watch::rules::Slot;
use crate::watch::tree::{Content, Ghost, NodeId};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::SystemTime;

/// The number of entries of one step.
const STEP: usize = if cfg!(test) { 2 } else { 256 };

/// A directory with entries to which something is still to be passed on.
#[derive(Debug)]
pub(super) struct Passing {
    dir: NodeId,
    what: What,
    /// The known entries, once it is their turn, and the number of those that are done.
    children: Option<Vec<NodeId>>,
    done: usize,
}

#[derive(Debug)]
enum What {
    Read(Box<Reading>),
    /// Records are missing: all known entries are looked at.
    Sweep(Change),
    /// The rules that see the entries have changed.
    Rules,
}

/// A directory that was read.
#[derive(Debug)]
struct Reading {
    entries: Rc<[DirEntry]>,
    done: usize,
    /// The entries that are done, by their names. Users choose names, so the hash has a key.
    names: HashTable<usize>,
    hasher: RandomState,
    change: Change,
    news: Option<News>,
}

impl Reading {
    fn has(&self, name: &[u8]) -> bool {
        self.names.find(self.hasher.hash_one(name), |index| *self.entries[*index].0 == *name).is_some()
    }

    fn note(&mut self, index: usize) {
        let Self { entries, names, hasher, .. } = self;
        let hash = |index: &usize| hasher.hash_one(&*entries[*index].0);
        names.insert_unique(hash(&index), index, hash);
    }
}

impl Mirror {
    /// Continues with the entries of a directory that was read.
    pub(super) fn spread(
        &mut self,
        dir: NodeId,
        entries: &Rc<[DirEntry]>,
        change: &Change,
        news: Option<News>,
    ) {
        let (names, hasher) = (HashTable::new(), RandomState::new());
        let (entries, change) = (Rc::clone(entries), change.clone());
        let reading = Reading { entries, done: 0, names, hasher, change, news };
        self.pass_on(dir, What::Read(Box::new(reading)));
    }

    /// Records are missing. Looks at all known entries of a directory.
    pub(super) fn sweep_children(&mut self, dir: NodeId, change: &Change) {
        self.pass_on(dir, What::Sweep(change.clone()));
    }

    /// The rules that see the entries of a directory have changed. Its children are updated, or
    /// removed.
    pub(super) fn pass_down(&mut self, dir: NodeId) {
        self.pass_on(dir, What::Rules);
    }

    fn pass_on(&mut self, dir: NodeId, what: What) {
        let mut passing = Passing { dir, what, children: None, done: 0 };
        if self.step(&mut passing) {
            if let What::Read(reading) = &mut passing.what
                && let Some(news) = &mut reading.news
            {
                // Records of the other entries may be read before it is their turn.
                news.told = news.told.or_else(|| Some(SystemTime::now()));
            }
            self.passing.push(passing);
        }
    }

    /// The number of directories with entries to which something is still to be passed on.
    pub(in crate::watch) fn passing(&self) -> usize {
        self.passing.len()
    }

    /// Does one step, but not for so many directories. Returns whether there was one to do.
    pub(in crate::watch) fn pass_some(&mut self, others: usize) -> bool {
        if self.passing.len() <= others {
            return false;
        }
        let Some(mut passing) = self.passing.pop() else { return false };
        if self.step(&mut passing) {
            self.passing.push(passing);
        }
        true
    }

    /// A rule is gone.
    pub(super) fn pass_nothing_to(&mut self, slot: Slot) {
        for passing in &mut self.passing {
            match &mut passing.what {
                What::Read(reading) => {
                    reading.change.forget_rule(slot);
                    reading.news.iter_mut().for_each(|news| news.forget_rule(slot));
                }
                What::Sweep(change) => change.forget_rule(slot),
                What::Rules => {}
            }
        }
    }

    /// Whether paths of rules, or trees of new ones, are still to be looked at.
    pub(in crate::watch) fn is_taking_in(&self) -> bool {
        let is_of_new =
            |passing: &Passing| matches!(&passing.what, What::Read(read) if !read.change.quiet.is_empty());
        self.recheck.has_new() || self.passing.iter().any(is_of_new)
    }

    /// Returns whether more is to be done.
    fn step(&mut self, passing: &mut Passing) -> bool {
        let dir = passing.dir;
        if !self.tree.has(dir) || self.tree.is_left(dir) {
            return false;
        }
        let mut left = STEP;
        if let What::Read(reading) = &mut passing.what {
            let end = reading.entries.len().min(reading.done + left);
            left -= end - reading.done;
            for index in reading.done..end {
                reading.note(index);
                self.spread_entry(dir, &reading.entries[index], &reading.change, reading.news.as_ref());
            }
            reading.done = end;
            if end < reading.entries.len() {
                return true;
            }
        }
        let children = passing.children.get_or_insert_with(|| self.tree.children(dir));
        let end = children.len().min(passing.done + left);
        for child in &children[passing.done..end] {
            if self.tree.has(*child) && self.tree[*child].ghost.is_none() && self.tree.parent(*child) == dir {
                self.pass_to(dir, *child, &passing.what);
            }
        }
        passing.done = end;
        end < children.len()
    }

    fn pass_to(&mut self, dir: NodeId, child: NodeId, what: &What) {
        let name: Box<[u8]> = self.tree[child].name().into();
        match what {
            What::Read(reading) if !reading.change.sweep && reading.has(&name) => {}
            What::Read(reading) => self.look_below(dir, child, &name, &reading.change),
            What::Sweep(change) => self.look_below(dir, child, &name, change),
            What::Rules => self.pass_rules(dir, child, &name),
        }
    }

    fn spread_entry(&mut self, dir: NodeId, entry: &DirEntry, change: &Change, news: Option<&News>) {
        let (name, kind) = entry;
        if let Some(News { own, since, told, only: Some(only) }) = news
            && !only.is_empty()
        {
            let origin = Origin::Found { since: *since, told: *told };
            let views: Vec<_> = only.iter().map(|slot| (*slot, Position::Below)).collect();
            self.recheck.arrival(dir, name, origin, *own, &views, None);
        }
        let is_directory = kind.is_none_or(|kind| kind == Kind::Directory);
        let is_swept = change.sweep && self.tree.child(dir, name).is_some();
        if !is_directory || is_swept || !self.rules.knows_children(&self.tree, dir) {
            return;
        }
        let below = Change {
            news: news.cloned(),
            quiet: Rc::clone(&change.quiet),
            sweep: change.sweep,
            doubt: change.doubt,
            ..Change::default()
        };
        let is_served = |slot: Slot| self.rules[slot].file_system.is_some();
        if news.is_none() && self.rules.reach(&self.tree, dir).all(is_served) {
            self.recheck.scan_later(dir, name, below);
        } else {
            self.recheck.scan(dir, name, below);
        }
    }

    fn look_below(&mut self, dir: NodeId, child: NodeId, name: &[u8], change: &Change) {
        let targets = self.tree.targets(child);
        if let Some(News { own, since: since @ Some(_), .. }) = &change.news
            && change.sweep
            && self.tree[child].content != Content::Directory
            && !targets.is_empty()
        {
            let origin = Origin::Found { since: *since, told: None };
            let views: Vec<_> = targets.iter().map(|slot| (*slot, Position::Path)).collect();
            self.recheck.arrival(dir, name, origin, *own, &views, None);
        }
        let news = change.news.as_ref().map(|news| News { only: None, ..news.clone() });
        self.recheck.change(dir, name, Change { news, read: false, ..change.clone() });
    }

    fn pass_rules(&mut self, dir: NodeId, child: NodeId, name: &[u8]) {
        if !self.rules.needs_node(&self.tree, child) {
            self.depart(child, Ghost::Left);
            return;
        }
        if self.tree[child].content != Content::Directory {
            return;
        }
        let had = self.rules.share_set(self.tree[child].set);
        let seen = self.rules.seen_by(&self.tree, dir, name);
        // Only a path leads through it: what is below may be of a rule that is gone.
        let is_way = seen.is_empty() && self.tree.any_child(child).is_some();
        if *had != *seen || is_way || self.excess(child) != 0 {
            self.recheck.change(dir, name, Change { pass_down: true, ..Change::default() });
        }
    }
}
