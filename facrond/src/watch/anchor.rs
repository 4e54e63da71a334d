//! What rules have to do with a place by path: those that lead through it and
//! those whose PATH it is.

use super::Slot;

/// The rules at one node. Only nodes on the way to a rule's PATH have one.
#[derive(Debug, Default)]
pub struct Anchor {
    uses: Vec<Use>,
    /// Rules whose PATH is here.
    pub targets: Vec<Slot>,
}

/// One rule's need of one node.
#[derive(Debug)]
struct Use {
    slot: Slot,
    mask: u64,
}

impl Anchor {
    /// A rule leads through here and needs `mask` of it, besides what it needed before.
    pub fn add(&mut self, slot: Slot, mask: u64) {
        // A rule is mostly the last that was added.
        match self.uses.iter_mut().rev().take(4).find(|used| used.slot == slot) {
            Some(used) => used.mask |= mask,
            None => self.uses.push(Use { slot, mask }),
        }
    }

    /// A rule's PATH is here.
    pub fn aim(&mut self, slot: Slot) {
        if !self.targets.contains(&slot) {
            self.targets.push(slot);
        }
    }

    /// A rule leads through here no longer.
    pub fn remove(&mut self, slot: Slot) {
        self.uses.retain(|used| used.slot != slot);
        self.targets.retain(|target| *target != slot);
    }

    /// The rules that lead through here.
    pub fn users(&self) -> Vec<Slot> {
        let mut slots: Vec<_> = self.uses.iter().map(|used| used.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// What all of them need together.
    pub fn mask(&self) -> u64 {
        self.uses.iter().fold(0, |mask, used| mask | used.mask)
    }

    /// Whether no rule leads through here.
    pub fn is_unused(&self) -> bool {
        self.uses.is_empty()
    }
}
