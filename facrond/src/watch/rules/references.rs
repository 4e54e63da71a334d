//! The rules whose PATH leads to a place or through it, and the marks that they need
//! there.

use super::Slot;
use crate::watch::tree::Content;
use nix::errno::Errno;

/// The references of one node. Only nodes on the way to a rule's PATH have some.
#[derive(Debug, Default)]
pub(in crate::watch) struct References {
    rules: Vec<Reference>,
    /// Rules whose PATH is here.
    pub(in crate::watch) targets: Vec<Slot>,
    /// Where the place leads, if it is a symbolic link.
    pub(in crate::watch) link: Box<[u8]>,
    /// Whether the PATH of some rule may end here.
    pub(in crate::watch) is_end: bool,
    /// Why it could not be looked at, or marked, the last time.
    pub(in crate::watch) error: Option<Errno>,
}

/// What one rule needs of one place.
#[derive(Debug)]
struct Reference {
    slot: Slot,
    need: Need,
}

/// The mask of a place's mark, by what is found there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::watch) struct Need {
    /// If it is a directory.
    pub(in crate::watch) directory: u64,
    /// If it is anything else but a symbolic link.
    pub(in crate::watch) file: u64,
}

impl Need {
    /// What two need together.
    pub(in crate::watch) fn with(self, other: Self) -> Self {
        Self { directory: self.directory | other.directory, file: self.file | other.file }
    }

    /// For what was found.
    pub(in crate::watch) fn of(self, content: Content) -> u64 {
        match content {
            Content::Directory => self.directory,
            Content::File => self.file,
            Content::Unknown | Content::Absent | Content::Link => 0,
        }
    }
}

impl References {
    /// A rule leads here, and needs this besides what it needed before.
    pub(in crate::watch) fn add(&mut self, slot: Slot, need: Need) {
        // A rule is mostly the last that was added.
        match self.rules.iter_mut().rev().take(4).find(|reference| reference.slot == slot) {
            Some(reference) => reference.need = reference.need.with(need),
            None => self.rules.push(Reference { slot, need }),
        }
    }

    /// A rule's PATH is here.
    pub(in crate::watch) fn aim(&mut self, slot: Slot) {
        if !self.targets.contains(&slot) {
            self.targets.push(slot);
        }
    }

    /// A rule leads here no longer.
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

    /// What all of them need together.
    pub(in crate::watch) fn need(&self) -> Need {
        self.rules.iter().fold(Need::default(), |need, reference| need.with(reference.need))
    }

    /// Whether no rule leads here.
    pub(in crate::watch) fn is_unused(&self) -> bool {
        self.rules.is_empty()
    }
}
