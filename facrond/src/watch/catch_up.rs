//! Changes that nobody saw: the daemon was down, or a rule is new and wants to be told what is
//! there already.
//!
//! When the marks of a rule are made, its tree is walked once more, one directory at a time and
//! some entries at a time, while nothing else is to be looked at and the rule has room for more
//! events. An entry that has changed since the rule was last watched is looked at like any find
//! ([`Origin::Missed`]).
//!
//! Records tell every change since the marks. The file that a record has told of is not told
//! again, neither is one that an earlier daemon has told of after its last change.
//!
//! Pure: the caller asks the kernel.

use super::recheck::{Change, Gap, LONGEST_WRITING, Origin, Recheck};
use super::rules::{RuleIndex, Slot, join};
use super::scanner::Times;
use super::told::Told;
use super::tree::{Content, NodeId, PathTree};
use crate::events::Events;
use crate::kernel::object::DirEntry;
use crate::matcher::Position;
use facron_proto::RuleId;
use rustc_hash::FxHashMap;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::time::SystemTime;

/// The number of entries of one step.
const STEP: usize = if cfg!(test) { 3 } else { 256 };

/// Events that come when everything else has happened to a file.
pub(super) const COMPLETE: Events =
    Events::CLOSE_WRITE.with(Events::MOVED_TO).with(Events::RENAME).with(Events::ARRIVED);

/// What a rule is to be told of the time before it is watched.
#[derive(Clone, Debug, Default)]
pub struct Missed {
    /// Only changes since then count. Without a time, everything that is there counts.
    pub since: Option<SystemTime>,
    /// Since when it was watched before.
    pub begun: Option<SystemTime>,
    /// What an earlier daemon has told the rule of: the path, when, and the events.
    pub told: HashMap<Rc<[u8]>, (SystemTime, Events)>,
    /// The directories that were in its tree, if that is known.
    pub directories: Option<Rc<Directories>>,
    /// If the earlier daemon ended in order and had told all but this: the places that it had
    /// still to look at, with all that is below them.
    pub pending: Option<Rc<HashSet<Rc<[u8]>>>>,
}

/// The directories in the tree of a rule at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// The time.
    pub time: SystemTime,
    /// Numbers for their inodes, in order. They stay the same as long as their file systems live.
    pub numbers: Vec<u64>,
}

impl Missed {
    fn gap(&self) -> Option<Gap> {
        let since = self.since?;
        let written = since.checked_sub(LONGEST_WRITING).unwrap_or(SystemTime::UNIX_EPOCH);
        Some(Gap { since, written: self.begun.map_or(written, |begun| written.max(begun)).min(since) })
    }

    /// Whether a path was still to be looked at.
    fn is_pending(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let mut above = ends.chain([path.len()]).map(|end| &path[..end]);
        self.pending.as_ref().is_none_or(|pending| above.any(|path| pending.contains(path)))
    }

    /// An earlier daemon has told the rule of a path.
    pub fn note_told(&mut self, path: &Rc<[u8]>, time: SystemTime, events: Events) {
        let told = self.told.entry(Rc::clone(path)).or_insert((time, Events::NONE));
        *told = (told.0.max(time), told.1.with(events));
    }
}

/// How far the walks have come, all together, since the start of the watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rules that are not through yet.
    pub rules: usize,
    /// Entries of directories that were compared.
    pub compared: u64,
    /// Those that have changed.
    pub changed: u64,
}

/// The walk through the tree of a rule.
#[derive(Debug)]
struct Walk {
    missed: Missed,
    /// Since when records tell of changes.
    watched: SystemTime,
    /// Whether records tell of everything else since the earlier daemon, too.
    is_covered: bool,
    /// Directories that are still to be read, and which changes of their entries count. The next one
    /// is the last.
    dirs: Vec<(NodeId, Option<Gap>)>,
    /// The directory that is being read.
    asked: Option<(NodeId, Option<Gap>)>,
    read: Option<Listing>,
}

/// Entries of a directory, and how many of them are done.
#[derive(Debug)]
struct Listing {
    dir: NodeId,
    position: Position,
    gap: Option<Gap>,
    entries: Rc<[DirEntry]>,
    done: usize,
}

/// Some entries of a directory: the caller finds out which of them may have changed.
#[derive(Debug)]
pub(super) struct Batch {
    slot: Slot,
    pub(super) dir: NodeId,
    position: Position,
    gap: Option<Gap>,
    watched: SystemTime,
    entries: Rc<[DirEntry]>,
    range: Range<usize>,
}

impl Batch {
    /// Since when an entry must have changed to be looked at.
    pub(super) fn changed_since(&self) -> Option<SystemTime> {
        self.gap.map(|gap| gap.written)
    }

    pub(super) fn entries(&self) -> &[DirEntry] {
        &self.entries[self.range.clone()]
    }
}

/// The walks of all rules that have something to catch up with.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    walks: FxHashMap<Slot, Walk>,
    /// Those that begin when records are read of what happened before.
    beginning: Vec<Slot>,
    /// The others take turns.
    turns: VecDeque<Slot>,
    /// Those at their end, as soon as everything is told that they have found.
    ending: Vec<Slot>,
    /// Those that were, since the caller asked last.
    over: Vec<RuleId>,
    compared: u64,
    changed: u64,
}

impl CatchUp {
    /// A rule has its PATH: a directory, or an entry of one.
    pub(super) fn begin(&mut self, slot: Slot, missed: Missed, at: (NodeId, Option<&[u8]>)) {
        let (dir, name) = at;
        let gap = missed.gap();
        let read = name.map(|name| Listing {
            dir,
            position: Position::Path,
            gap,
            entries: [(name.into(), None)].into(),
            done: 0,
        });
        let dirs = if read.is_none() { vec![(dir, gap)] } else { Vec::new() };
        let walk = Walk { missed, watched: SystemTime::now(), is_covered: false, dirs, asked: None, read };
        self.beginning.push(slot);
        self.walks.insert(slot, walk);
    }

    /// Records tell of everything since the earlier daemon. What this one had told before is only to
    /// be told again by them: that the inode of a file has changed says nothing about its name.
    pub(super) fn trust_records(&mut self) {
        for walk in self.walks.values_mut() {
            walk.is_covered = walk.missed.pending.is_some();
        }
    }

    /// Whether a walk begins or ends as soon as the kernel's queue is empty and nothing is due.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.beginning.is_empty() || !self.ending.is_empty()
    }

    /// A rule was told of a path by an earlier daemon, or will be told.
    pub(super) fn note_told(&mut self, slot: Slot, path: &Rc<[u8]>, time: SystemTime) {
        if let Some(walk) = self.walks.get_mut(&slot) {
            walk.missed.note_told(path, time, COMPLETE);
        }
    }

    /// Whether no rule has anything to catch up with.
    pub(super) fn is_empty(&self) -> bool {
        self.walks.is_empty()
    }

    /// How far the walks have come.
    pub(super) fn progress(&self) -> Progress {
        Progress { rules: self.walks.len(), compared: self.compared, changed: self.changed }
    }

    /// A rule is gone.
    pub(super) fn forget_rule(&mut self, slot: Slot) {
        if self.walks.remove(&slot).is_some() {
            self.beginning.retain(|other| *other != slot);
            self.turns.retain(|other| *other != slot);
            self.ending.retain(|other| *other != slot);
        }
    }

    /// Whether some walk can go on.
    pub(super) fn has_work(
        &self,
        tree: &PathTree,
        rules: &RuleIndex,
        recheck: &Recheck,
        room: &dyn Fn(RuleId) -> usize,
    ) -> bool {
        let can_go_on = |slot: &Slot| room(rules[*slot].id) > 0 && !self.is_waiting(*slot, tree, recheck);
        self.turns.iter().any(can_go_on)
    }

    /// Whether the directory that a walk needs next is still to be read.
    fn is_waiting(&self, slot: Slot, tree: &PathTree, recheck: &Recheck) -> bool {
        let walk = &self.walks[&slot];
        let is_asked_for = |dir: NodeId| tree.has(dir) && recheck.has(tree.parent(dir), tree[dir].name());
        walk.read.is_none() && walk.asked.is_some_and(|(dir, _)| is_asked_for(dir))
    }

    /// Goes on with the walk whose turn it is. It has a directory read, or returns entries that
    /// are to be compared.
    pub(super) fn step(
        &mut self,
        tree: &PathTree,
        rules: &RuleIndex,
        recheck: &mut Recheck,
        room: &dyn Fn(RuleId) -> usize,
    ) -> Option<Batch> {
        let can_go_on = |slot: &Slot| room(rules[*slot].id) > 0 && !self.is_waiting(*slot, tree, recheck);
        let at = self.turns.iter().position(can_go_on)?;
        self.turns.rotate_left(at);
        let slot = self.turns.pop_front()?;
        let walk = self.walks.get_mut(&slot)?;
        walk.asked = None;
        if let Some(batch) = walk.take_batch(slot, room(rules[slot].id)) {
            self.compared += batch.range.len() as u64;
            self.turns.push_back(slot);
            return Some(batch);
        }
        while let Some((dir, gap)) = walk.dirs.pop() {
            if tree.has(dir) && tree.ghost(dir).is_none() && rules.reach(tree, dir).any(|other| other == slot)
            {
                let change = Change { missed: [slot].into(), ..Change::default() };
                recheck.change(tree.parent(dir), tree[dir].name(), change);
                walk.asked = Some((dir, gap));
                self.turns.push_back(slot);
                return None;
            }
        }
        self.ending.push(slot);
        None
    }

    /// A directory was read for a rule.
    pub(super) fn on_read(&mut self, slot: Slot, dir: NodeId, entries: &Rc<[DirEntry]>) {
        if let Some(walk) = self.walks.get_mut(&slot)
            && let Some((_, gap)) = walk.asked.filter(|(asked, _)| *asked == dir)
        {
            let (position, entries) = (Position::Below, Rc::clone(entries));
            walk.read = Some(Listing { dir, position, gap, entries, done: 0 });
        }
    }

    /// Queues looks at those entries of a batch that may have changed, all if that is not known, and
    /// goes on below its directories. One that was moved into the tree brings everything along
    /// unchanged.
    pub(super) fn take(
        &mut self,
        batch: &Batch,
        times: Option<&[Times]>,
        tree: &PathTree,
        rules: &RuleIndex,
        recheck: &mut Recheck,
    ) {
        let Batch { slot, dir, position, gap, watched, .. } = *batch;
        let Some(walk) = self.walks.get_mut(&slot).filter(|_| tree.has(dir)) else { return };
        let is_seeing = |node: &NodeId| {
            tree[*node].content == Content::Directory && rules.set(tree[*node].set).contains(&slot)
        };
        for (index, (name, _)) in batch.entries().iter().enumerate() {
            // Without times it may be a server's, of whose marks nothing is known.
            let is_open = times.is_none() || walk.is_open(tree, dir, name);
            let times = times.map(|times| times[index]);
            if position == Position::Below
                && let Some(node) = tree.child(dir, name).filter(is_seeing)
            {
                let is_new = times.is_some_and(|times| walk.was_moved_in(tree, node, times));
                walk.dirs.push((node, if is_new { None } else { gap }));
            }
            if times != Some(Times::Same) && is_open {
                self.changed += 1;
                let origin = Origin::Missed { gap, watched };
                recheck.arrival(dir, name, origin, false, &[(slot, position)], None);
            }
        }
    }

    /// The directories in the tree of a rule; see [`Directories::numbers`].
    pub(super) fn directories(slot: Slot, tree: &PathTree, rules: &RuleIndex) -> Vec<u64> {
        let mut todo: Vec<_> = rules[slot].target.into_iter().collect();
        let mut numbers = Vec::new();
        while let Some(node) = todo.pop() {
            numbers.extend(number_of(tree, node));
            let is_seeing = |node: &NodeId| rules.set(tree[*node].set).contains(&slot);
            todo.extend(tree.children(node).into_iter().filter(is_seeing));
        }
        numbers.sort_unstable();
        numbers
    }

    /// The events of a file without those that its rule was told of: by records, or by an earlier
    /// daemon after its last change.
    pub(super) fn untold(
        &self,
        slot: Slot,
        path: &Rc<[u8]>,
        changed: Option<SystemTime>,
        told: &Told,
        news: Events,
    ) -> Events {
        let Some(walk) = self.walks.get(&slot) else { return Events::NONE };
        let is_later = |(at, _): &&(SystemTime, Events)| changed.is_some_and(|changed| *at >= changed);
        let earlier = walk.missed.told.get(path).filter(is_later).map_or(Events::NONE, |(_, events)| *events);
        let told = told.since(slot, path, walk.watched).with(earlier);
        // The command has seen the file as it is now.
        if told.intersects(COMPLETE) { Events::NONE } else { news.without(told) }
    }

    /// All records were read, and everything is told that looks have found.
    pub(super) fn on_settled(&mut self, rules: &RuleIndex) {
        self.turns.extend(self.beginning.drain(..));
        for slot in self.ending.drain(..) {
            self.walks.remove(&slot);
            self.over.push(rules[slot].id);
        }
    }

    /// The rules that have caught up since the last call.
    pub(super) fn take_over(&mut self) -> Vec<RuleId> {
        std::mem::take(&mut self.over)
    }
}

/// A number for the inode of a directory, without that of its file system, which may be another one
/// after a reboot. FNV-1a, so that it is the same in later versions.
fn number_of(tree: &PathTree, node: NodeId) -> Option<u64> {
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    tree.handle(node).map(|handle| handle.bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

impl Walk {
    /// Whether a change of an entry may be untold.
    fn is_open(&self, tree: &PathTree, dir: NodeId, name: &[u8]) -> bool {
        !self.is_covered || self.missed.is_pending(&join(&tree.path(dir), name))
    }

    /// Whether a directory was not in the tree before, and was not made since.
    fn was_moved_in(&self, tree: &PathTree, node: NodeId, times: Times) -> bool {
        let (Some(known), Times::Changed { born }) = (&self.missed.directories, times) else { return false };
        born.is_none_or(|born| born < known.time)
            && number_of(tree, node).is_some_and(|number| known.numbers.binary_search(&number).is_err())
    }

    fn take_batch(&mut self, slot: Slot, most: usize) -> Option<Batch> {
        let read = self.read.as_mut()?;
        let end = read.entries.len().min(read.done + STEP.min(most));
        let (dir, position, gap) = (read.dir, read.position, read.gap);
        let (entries, range) = (Rc::clone(&read.entries), read.done..end);
        read.done = end;
        if end == read.entries.len() {
            self.read = None;
        }
        Some(Batch { slot, dir, position, gap, watched: self.watched, entries, range })
    }
}
