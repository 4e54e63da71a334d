//! The rules as the watch sees them, and which rules look at which place.
//!
//! In this room a rule is a small number, the index in a dense table. Each directory below a
//! recursive rule has a set of rules. Each node on the path of a rule has references.

mod masks;
mod references;
mod sets;

pub(super) use masks::{Depth, Masks, Moves};
pub(super) use references::{Need, References};
pub(super) use sets::SetId;

use super::catch_up::Missed;
use super::tree::{Content, NodeId, PathTree, ROOT};
use crate::config::rule::{DEEPEST, RuleSpec};
use crate::event::join_names;
use crate::events::Events;
use crate::kernel::record::FsId;
use facron_proto::RuleId;
use rustc_hash::FxHashMap;
use sets::Sets;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::SystemTime;

/// The watch does not ask permission. Of a permission rule it reports what changes where its
/// path leads, and which directories are in its tree.
const OF_PLACES: Events = Events::CREATE
    .with(Events::DELETE)
    .with(Events::MOVE)
    .with(Events::SELF)
    .with(Events::ONDIR)
    .with(Events::EVENT_ON_CHILD);

/// The index of a rule in the table. It is used again after the rule is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub(super) u32);

/// The present state of a rule's PATH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathState {
    /// Its marks are in the kernel.
    Active,
    /// Its marks are in the kernel, but a file system on the path does not answer.
    Unresponsive(String),
    /// A part of the path does not exist, or its file system does not answer.
    Waiting(String),
    /// A part of the path exists and cannot be watched.
    Failed(String),
}

/// The end of a rule's path, with the number of the time since which it was watched without
/// a gap. While it stays the same, records report every change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// PATH is a directory, watched since then.
    Directory(u64),
    /// PATH is an entry, existing or not, of a directory that was watched since then.
    Entry(u64),
}

/// A rule that is in force.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) id: RuleId,
    pub(super) spec: Rc<RuleSpec>,
    /// The events that fire it.
    pub(super) events: Events,
    pub(super) masks: Masks,
    /// The nodes on its path, from the root. The last one may be its target.
    pub(super) trail: Vec<NodeId>,
    /// Ghosts that were on its path, whose records it still gets.
    pub(super) ghosts: Vec<NodeId>,
    /// The node of its PATH.
    pub(super) target: Option<NodeId>,
    pub(super) seat: Option<Seat>,
    /// Since when records of the name at the target fire the rule.
    pub(super) aimed: SystemTime,
    pub(super) state: PathState,
    /// Whether its path was never resolved. Then existing files are no events.
    pub(super) is_new: bool,
    /// What it is to be told as soon as its PATH is there.
    pub(super) missed: Option<Missed>,
    /// The number of directories that were found below PATH when the rule was new.
    pub(super) found: usize,
    /// The file system whose mark it uses in place of marks on directories.
    pub(super) file_system: Option<FsId>,
}

/// All rules, and the sets of recursive rules.
#[derive(Debug)]
pub(super) struct RuleIndex {
    rules: Vec<Option<Watched>>,
    free: Vec<Slot>,
    slots: FxHashMap<RuleId, Slot>,
    sets: Sets,
    moves: Moves,
}

impl RuleIndex {
    /// An index without rules. `moves` is how the kernel reports moves.
    pub(super) fn new(moves: Moves) -> Self {
        let (rules, free) = (Vec::new(), Vec::new());
        Self { rules, free, slots: FxHashMap::default(), sets: Sets::default(), moves }
    }

    /// How the kernel reports moves.
    pub(super) fn moves(&self) -> Moves {
        self.moves
    }

    /// Adds a rule. Also returns the slot of an older rule with this number.
    pub(super) fn insert(&mut self, id: RuleId, spec: Rc<RuleSpec>) -> (Slot, Option<Slot>) {
        let depth = if spec.options.recursive { Depth::Recursive } else { Depth::Entries };
        let events = if spec.asks_permission() { OF_PLACES } else { spec.events };
        let masks = Masks::of(events, depth, self.moves);
        let rule = Watched {
            id,
            spec,
            events,
            masks,
            trail: Vec::new(),
            ghosts: Vec::new(),
            target: None,
            seat: None,
            aimed: SystemTime::UNIX_EPOCH,
            state: PathState::Waiting("not looked at yet".to_owned()),
            is_new: true,
            missed: None,
            found: 0,
            file_system: None,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.rules.push(None);
            Slot(u32::try_from(self.rules.len() - 1).expect("fewer than 2^32 rules fit in memory"))
        });
        self.rules[slot.0 as usize] = Some(rule);
        (slot, self.slots.insert(id, slot))
    }

    /// Removes a rule that has no places any more.
    pub(super) fn remove(&mut self, slot: Slot) {
        self.sets.strip(slot);
        if let Some(rule) = self.rules[slot.0 as usize].take()
            && self.slots.get(&rule.id) == Some(&slot)
        {
            self.slots.remove(&rule.id);
        }
        self.free.push(slot);
    }

    /// Removes a rule from all sets.
    pub(super) fn strip(&mut self, slot: Slot) {
        self.sets.strip(slot);
    }

    /// The slot of the rule with this number.
    pub(super) fn slot(&self, id: RuleId) -> Option<Slot> {
        self.slots.get(&id).copied()
    }

    /// All rules, with their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Watched)> {
        self.rules.iter().zip(0..).filter_map(|(rule, index)| Some((Slot(index), rule.as_ref()?)))
    }

    /// The rules of a set.
    pub(super) fn set(&self, id: SetId) -> &[Slot] {
        self.sets.get(id)
    }

    /// The same as a shared list.
    pub(super) fn share_set(&self, id: SetId) -> Rc<[Slot]> {
        self.sets.share(id)
    }

    /// The rules that see what happens to the entries of a directory.
    pub(super) fn reach<'t>(
        &'t self,
        tree: &'t PathTree,
        dir: NodeId,
    ) -> impl Iterator<Item = Slot> + use<'t> {
        tree.targets(dir).iter().chain(self.set(tree[dir].set)).copied()
    }

    /// Whether the directories in a directory must have nodes.
    pub(super) fn knows_children(&self, tree: &PathTree, dir: NodeId) -> bool {
        let node = &tree[dir];
        node.content == Content::Directory
            && (!self.set(node.set).is_empty()
                || tree.targets(dir).iter().any(|slot| self[*slot].masks.knows_children))
    }

    /// Whether a place must have a node.
    pub(super) fn needs_node(&self, tree: &PathTree, id: NodeId) -> bool {
        let node = &tree[id];
        node.references.is_some()
            || (node.content == Content::Directory && self.knows_children(tree, tree.parent(id)))
    }

    /// The recursive rules that see the entries of a directory with this name.
    pub(super) fn seen_by(&self, tree: &PathTree, parent: NodeId, name: &[u8]) -> Vec<Slot> {
        let is_seeing = |slot: &Slot| {
            let options = &self[*slot].spec.options;
            options.recursive && !self.is_excluded(tree, *slot, parent, name)
        };
        let mut rules: Vec<_> = self.reach(tree, parent).filter(is_seeing).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    fn is_excluded(&self, tree: &PathTree, slot: Slot, parent: NodeId, name: &[u8]) -> bool {
        let spec = &self[slot].spec;
        spec.depends_on_paths() && {
            let target = self[slot].target.unwrap_or(parent);
            let above = tree.path_below(target, parent).unwrap_or_default();
            spec.excludes_tree(&join(&above, name))
        }
    }

    /// Gives a directory the set of the rules that see its entries. Returns whether the set has
    /// changed.
    pub(super) fn assign(&mut self, tree: &mut PathTree, node: NodeId, rules: &[Slot]) -> bool {
        self.sets.assign(&mut tree[node].set, rules)
    }

    /// Whether the entries of a directory are too deep to be watched.
    pub(super) fn is_too_deep(tree: &PathTree, dir: NodeId) -> bool {
        tree.depth(dir, DEEPEST + 1) > DEEPEST
    }

    /// The mask that the mark of a place needs, if it is a directory and if it is a file.
    pub(super) fn need(&self, tree: &PathTree, node: NodeId, fs: Option<FsId>) -> Need {
        let by_path = tree[node].references.as_ref().map_or(Need::default(), |references| references.need());
        Need { directory: by_path.directory | self.need_of_set(self.set(tree[node].set), fs), ..by_path }
    }

    /// The mask that a set of rules needs on a directory of a file system.
    pub(super) fn need_of_set(&self, rules: &[Slot], fs: Option<FsId>) -> u64 {
        let by_inode = rules.iter().filter(|slot| fs.is_none() || self[**slot].file_system != fs);
        by_inode.fold(0, |mask, slot| mask | self[*slot].masks.below)
    }

    /// The mask that all places of an inode need together.
    pub(super) fn wanted(&self, tree: &PathTree, node: NodeId) -> u64 {
        let Some(inode) = tree[node].inode() else { return 0 };
        let fs = Some(tree.inode(inode).handle().fs);
        tree.places_of(inode).fold(0, |mask, id| mask | self.need(tree, id, fs).of(tree[id].content))
    }

    /// The path of a place, beginning with the rule's PATH as it is written; see
    /// [`join_names`].
    pub(super) fn path_of(&self, tree: &PathTree, slot: Slot, place: Option<(NodeId, &[u8])>) -> Rc<[u8]> {
        let rule = &self[slot];
        let path = rule.spec.path.as_os_str().as_bytes();
        let Some((dir, name)) = place else { return path.into() };
        // Some ghosts were on the way to PATH only.
        let was_target = |ghost: &&NodeId| tree.has(**ghost) && tree.targets(**ghost).contains(&slot);
        let mut tops = rule.target.iter().chain(rule.ghosts.iter().filter(was_target));
        let below = tops.find_map(|top| tree.names_below(*top, dir));
        let (top, mut names) = match below {
            Some(names) => (path, names),
            None => (&b"/"[..], tree.names_below(ROOT, dir).unwrap_or_default()),
        };
        names.push(name);
        join_names(top, &names)
    }
}

impl std::ops::Index<Slot> for RuleIndex {
    type Output = Watched;

    fn index(&self, slot: Slot) -> &Watched {
        self.rules[slot.0 as usize].as_ref().expect("slots are given up before their rules go")
    }
}

impl std::ops::IndexMut<Slot> for RuleIndex {
    fn index_mut(&mut self, slot: Slot) -> &mut Watched {
        self.rules[slot.0 as usize].as_mut().expect("slots are given up before their rules go")
    }
}

/// The path of a name in a directory. Both may be empty.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match (dir, name) {
        (b"", name) => name.to_vec(),
        (dir, b"") => dir.to_vec(),
        (b"/", name) => [b"/", name].concat(),
        (dir, name) => [dir, b"/", name].concat(),
    }
}
