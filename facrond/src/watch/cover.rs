//! Which recursive rules see a directory: sets of rules, each kept once, so that
//! a directory has a number in place of a list.

use super::Slot;
use rustc_hash::FxHashMap;
use std::rc::Rc;

/// The number of a set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoverId(u32);

impl CoverId {
    /// The empty set.
    pub const NONE: Self = Self(0);
}

/// A set of rules, and what they need of a directory that they see.
#[derive(Clone, Debug)]
pub struct Cover {
    /// The rules, in ascending order.
    pub rules: Rc<[Slot]>,
    /// The kernel mask for each directory.
    pub mask: u64,
}

/// All sets in use.
#[derive(Debug)]
pub struct Covers {
    sets: Vec<Cover>,
    free: Vec<CoverId>,
    ids: FxHashMap<Rc<[Slot]>, CoverId>,
}

impl Default for Covers {
    fn default() -> Self {
        let none = Cover { rules: Rc::new([]), mask: 0 };
        let ids = std::iter::once((Rc::clone(&none.rules), CoverId::NONE)).collect();
        Self { sets: vec![none], free: Vec::new(), ids }
    }
}

impl Covers {
    /// The number of a set; `mask_of` gives what one rule needs.
    pub fn intern(&mut self, mut rules: Vec<Slot>, mask_of: impl Fn(Slot) -> u64) -> CoverId {
        rules.sort_unstable();
        rules.dedup();
        if let Some(id) = self.ids.get(&*rules) {
            return *id;
        }
        let mask = rules.iter().fold(0, |mask, slot| mask | mask_of(*slot));
        let cover = Cover { rules: rules.into(), mask };
        let rules = Rc::clone(&cover.rules);
        let id = if let Some(id) = self.free.pop() {
            self.sets[id.0 as usize] = cover;
            id
        } else {
            self.sets.push(cover);
            CoverId(u32::try_from(self.sets.len() - 1).expect("fewer sets than directories"))
        };
        self.ids.insert(rules, id);
        id
    }

    /// Forgets the sets that have this rule; no directory may be in one any more.
    pub fn forget(&mut self, slot: Slot) {
        for (index, cover) in self.sets.iter_mut().enumerate() {
            if cover.rules.contains(&slot) {
                self.ids.remove(&cover.rules);
                *cover = Cover { rules: Rc::new([]), mask: 0 };
                self.free.push(CoverId(u32::try_from(index).expect("made from a u32")));
            }
        }
    }
}

impl std::ops::Index<CoverId> for Covers {
    type Output = Cover;

    fn index(&self, id: CoverId) -> &Cover {
        &self.sets[id.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_one_number_and_forgotten_ones_are_used_again() {
        let mut covers = Covers::default();
        let mask_of = |slot: Slot| 1 << slot.0;
        let both = covers.intern(vec![Slot(2), Slot(1)], mask_of);
        assert_eq!(covers.intern(vec![Slot(1), Slot(2), Slot(2)], mask_of), both);
        assert_eq!(covers[both].mask, 6);
        assert_eq!(covers.intern(vec![], mask_of), CoverId::NONE);
        covers.forget(Slot(1));
        assert_eq!(covers.intern(vec![Slot(5)], mask_of), both);
        assert_eq!(covers[both].mask, 32);
    }
}
