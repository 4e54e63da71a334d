//! The rules whose PATH leads to a place or through it, and the masks that they need there.

use super::Slot;
use crate::watch::tree::Content;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The references of one node. Only nodes on a rule's path have them.
#[derive(Debug, Default)]
pub(in crate::watch) struct References {
    rules: Vec<Reference>,
    /// The rules whose PATH is this place.
    pub(in crate::watch) targets: Vec<Slot>,
    /// The target, if the place is a symbolic link.
    pub(in crate::watch) link: Box<[u8]>,
    /// Whether the path of some rule may end here.
    pub(in crate::watch) is_end: bool,
    /// The error of the last look or mark, if it has failed.
    pub(in crate::watch) error: Option<Errno>,
}

/// The masks that one rule needs at one place.
#[derive(Debug)]
struct Reference {
    slot: Slot,
    need: Need,
}

/// The masks that a place needs, by the kind of object there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::watch) struct Need {
    /// For a directory.
    pub(in crate::watch) directory: u64,
    /// For every other object but a symbolic link.
    pub(in crate::watch) file: u64,
}

impl Need {
    /// The masks for both needs together.
    pub(in crate::watch) fn with(self, other: Self) -> Self {
        Self { directory: self.directory | other.directory, file: self.file | other.file }
    }

    /// The mask for this kind of object.
    pub(in crate::watch) fn of(self, content: Content) -> u64 {
        match content {
            Content::Directory => self.directory,
            Content::File => self.file,
            Content::Unknown | Content::Absent | Content::Link => 0,
        }
    }
}

impl References {
    /// Adds a rule that leads here, or adds to its needs.
    pub(in crate::watch) fn add(&mut self, slot: Slot, need: Need) {
        // A rule is usually among the last that were added.
        match self.rules.iter_mut().rev().take(4).find(|reference| reference.slot == slot) {
            Some(reference) => reference.need = reference.need.with(need),
            None => self.rules.push(Reference { slot, need }),
        }
    }

    /// Makes this place the PATH of a rule.
    pub(in crate::watch) fn aim(&mut self, slot: Slot) {
        if !self.targets.contains(&slot) {
            self.targets.push(slot);
        }
    }

    /// Removes a rule that does not lead here any more.
    pub(in crate::watch) fn remove(&mut self, slot: Slot) {
        self.rules.retain(|reference| reference.slot != slot);
        self.targets.retain(|target| *target != slot);
    }

    /// The rules that lead here.
    pub(in crate::watch) fn users(&self) -> Vec<Slot> {
        let mut slots: Vec<_> = self.rules.iter().map(|reference| reference.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// The masks that all rules need together.
    pub(in crate::watch) fn need(&self) -> Need {
        self.rules.iter().fold(Need::default(), |need, reference| need.with(reference.need))
    }

    /// Whether no rule leads here.
    pub(in crate::watch) fn is_unused(&self) -> bool {
        self.rules.is_empty()
    }
}
