//! The rules as the watch sees them: a dense table, so that sets of rules are
//! small numbers.

use super::needs::{Depth, Moves, Needs};
use super::tree::NodeId;
use crate::config::rule::RuleSpec;
use crate::kernel::record::FsId;
use facron_proto::RuleId;
use std::rc::Rc;

/// Index of a rule in the table; used again after the rule is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Where a rule's PATH leads at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathState {
    /// Its marks are in the kernel.
    Active,
    /// Its marks are in the kernel, but a file system on the way does not answer.
    Silent(String),
    /// Something on the way does not exist, or does not answer; the reason names it.
    Waiting(String),
    /// It exists and cannot be watched.
    Failed(String),
}

/// An inode, kept: file system and handle.
pub type Inode = (FsId, Box<[u8]>);

/// What stands at the end of a rule's path: when it changes, it is another object
/// under the same path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seat {
    /// A directory, by its inode.
    Directory(Inode),
    /// An entry, which may exist or not, of the directory with this inode.
    Entry(Inode),
}

/// A rule that is watched.
#[derive(Debug)]
pub struct Watched {
    /// Its number.
    pub id: RuleId,
    /// Its line.
    pub spec: Rc<RuleSpec>,
    /// What it needs of the kernel.
    pub needs: Needs,
    /// The nodes that it leads through, from the root; the last may be its target.
    pub trail: Vec<NodeId>,
    /// The node that its PATH is.
    pub target: Option<NodeId>,
    /// What is there.
    pub seat: Option<Seat>,
    /// Whether it can fire.
    pub state: PathState,
}

impl Watched {
    fn new(id: RuleId, spec: Rc<RuleSpec>, moves: Moves) -> Self {
        let depth = if spec.options.recursive { Depth::Recursive } else { Depth::Entries };
        let needs = Needs::of(spec.events, depth, moves);
        let state = PathState::Waiting("not looked at yet".to_owned());
        Self { id, spec, needs, trail: Vec::new(), target: None, seat: None, state }
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Option<Watched>>,
    free: Vec<Slot>,
}

impl Rules {
    /// Takes a rule in.
    pub fn insert(&mut self, id: RuleId, spec: Rc<RuleSpec>, moves: Moves) -> Slot {
        let rule = Some(Watched::new(id, spec, moves));
        if let Some(slot) = self.free.pop() {
            self.rules[slot.0 as usize] = rule;
            return slot;
        }
        self.rules.push(rule);
        Slot(u32::try_from(self.rules.len() - 1).expect("fewer than 2^32 rules fit in memory"))
    }

    /// Lets a rule go.
    pub fn remove(&mut self, slot: Slot) {
        self.rules[slot.0 as usize] = None;
        self.free.push(slot);
    }

    /// All rules.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Watched)> {
        self.rules.iter().zip(0..).filter_map(|(rule, index)| Some((Slot(index), rule.as_ref()?)))
    }
}

impl std::ops::Index<Slot> for Rules {
    type Output = Watched;

    fn index(&self, slot: Slot) -> &Watched {
        self.rules[slot.0 as usize].as_ref().expect("slots are given up before their rules go")
    }
}

impl std::ops::IndexMut<Slot> for Rules {
    fn index_mut(&mut self, slot: Slot) -> &mut Watched {
        self.rules[slot.0 as usize].as_mut().expect("slots are given up before their rules go")
    }
}
