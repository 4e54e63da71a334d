//! The sets of recursive rules that see directories. Each set is stored once, so that a
//! directory has a number in place of a list.

use super::Slot;
use std::collections::HashMap;
use std::rc::Rc;

/// The number of a set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::watch) struct SetId(u32);

impl SetId {
    /// The number of the empty set.
    pub(in crate::watch) const NONE: Self = Self(0);
}

/// A set, and the number of directories that use it.
#[derive(Clone, Debug)]
struct RuleSet {
    rules: Rc<[Slot]>,
    uses: u32,
}

/// All sets in use. The rules of a set are in ascending order.
#[derive(Debug)]
pub(super) struct Sets {
    all: Vec<RuleSet>,
    free: Vec<SetId>,
    ids: HashMap<Rc<[Slot]>, SetId>,
}

impl Default for Sets {
    fn default() -> Self {
        let none: Rc<[Slot]> = Rc::new([]);
        let ids = std::iter::once((Rc::clone(&none), SetId::NONE)).collect();
        Self { all: vec![RuleSet { rules: none, uses: 1 }], free: Vec::new(), ids }
    }
}

impl Sets {
    /// Gives a directory the set of these rules. Returns whether the rules have changed.
    pub(super) fn assign(&mut self, id: &mut SetId, rules: &[Slot]) -> bool {
        if *self.get(*id) == *rules {
            return false;
        }
        let before = std::mem::replace(id, self.id_of(rules));
        self.all[id.0 as usize].uses += 1;
        self.release(before);
        true
    }

    fn id_of(&mut self, rules: &[Slot]) -> SetId {
        if let Some(id) = self.ids.get(rules) {
            return *id;
        }
        let set = RuleSet { rules: rules.into(), uses: 0 };
        let rules = Rc::clone(&set.rules);
        let id = self.free.pop().unwrap_or_else(|| {
            self.all.push(set.clone());
            SetId(u32::try_from(self.all.len() - 1).expect("fewer sets than directories"))
        });
        self.all[id.0 as usize] = set;
        self.ids.insert(rules, id);
        id
    }

    fn release(&mut self, id: SetId) {
        let set = &mut self.all[id.0 as usize];
        set.uses = set.uses.saturating_sub(1);
        if set.uses == 0 && id != SetId::NONE {
            if self.ids.get(&set.rules) == Some(&id) {
                self.ids.remove(&set.rules);
            }
            set.rules = Rc::new([]);
            self.free.push(id);
        }
    }

    /// The rules of a set.
    pub(super) fn get(&self, id: SetId) -> &[Slot] {
        &self.all[id.0 as usize].rules
    }

    /// The same as a shared list.
    pub(super) fn share(&self, id: SetId) -> Rc<[Slot]> {
        Rc::clone(&self.all[id.0 as usize].rules)
    }

    /// Removes a rule from all sets.
    pub(super) fn strip(&mut self, slot: Slot) {
        for index in 0..self.all.len() {
            let set = &self.all[index].rules;
            if !set.contains(&slot) {
                continue;
            }
            let id = SetId(u32::try_from(index).expect("made from a u32"));
            let rest: Rc<[Slot]> = set.iter().copied().filter(|other| *other != slot).collect();
            if self.ids.get(set) == Some(&id) {
                self.ids.remove(&Rc::clone(set));
            }
            // An equal set may exist already. Then two numbers mean the same set.
            self.ids.entry(Rc::clone(&rest)).or_insert(id);
            self.all[index].rules = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_one_number_and_forgotten_ones_are_used_again() {
        let mut sets = Sets::default();
        let (mut one, mut other) = (SetId::NONE, SetId::NONE);
        assert!(sets.assign(&mut one, &[Slot(1), Slot(2)]) && sets.assign(&mut other, &[Slot(1), Slot(2)]));
        assert_eq!(one, other);
        assert!(!sets.assign(&mut one, &[Slot(1), Slot(2)]));
        assert!(sets.assign(&mut one, &[]) && sets.assign(&mut other, &[]));
        assert_eq!((one, other), (SetId::NONE, SetId::NONE));
        assert!(sets.assign(&mut one, &[Slot(7)]));
        assert_eq!((sets.all.len(), sets.get(one)), (2, &[Slot(7)][..]));
    }

    #[test]
    fn a_rule_that_goes_is_out_of_all_sets_at_once() {
        let mut sets = Sets::default();
        let mut ids = [SetId::NONE; 3];
        sets.assign(&mut ids[0], &[Slot(1), Slot(2)]);
        sets.assign(&mut ids[1], &[Slot(2)]);
        sets.assign(&mut ids[2], &[Slot(1)]);
        sets.strip(Slot(1));
        assert_eq!(ids.map(|id| sets.get(id).to_vec()), [vec![Slot(2)], vec![Slot(2)], vec![]]);
        assert!(!sets.assign(&mut ids[0], &[Slot(2)]), "the same rules, whatever the number");
        assert!(sets.assign(&mut ids[1], &[Slot(3)]) && sets.assign(&mut ids[0], &[Slot(3)]));
        assert_eq!(ids[0], ids[1]);
    }
}
