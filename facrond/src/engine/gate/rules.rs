//! Permission rules, put before the gate and taken away from it.

use super::{Guarded, Permissions};
use crate::config::rule::{Options, RuleSpec};
use crate::engine::Engine;
use crate::events::Events;
use crate::gate::client::Failed;
use crate::gate::marks::{self, NotPlaced};
use crate::kernel::permission::Class;
use crate::watch::PathState;
use facron_proto::RuleId;
use std::rc::Rc;

/// What the watch looks for on behalf of a permission rule: whatever changes what its
/// path leads to, and its directories.
fn follower(spec: &RuleSpec) -> RuleSpec {
    let entries = Events::CREATE.with(Events::DELETE).with(Events::MOVE);
    let mut follower = spec.clone();
    follower.events = entries.with(Events::SELF).with(Events::ONDIR).with(Events::EVENT_ON_CHILD);
    follower.options = Rc::new(Options { recursive: spec.options.recursive, ..Options::default() });
    follower
}

impl Engine {
    /// Watches a rule, or puts it before the gate; whether that worked.
    pub(in crate::engine) fn put_in_force(&mut self, id: RuleId, spec: Rc<RuleSpec>) -> PathState {
        if !spec.asks_permission() {
            self.leave_gate(id);
            return self.watch.attach(id, spec).clone();
        }
        let state = self.watch.attach(id, Rc::new(follower(&spec))).clone();
        // At the same path new marks take the place of the old ones.
        if self.permissions.rules.get(&id).is_some_and(|guarded| guarded.spec.path != spec.path) {
            self.leave_gate(id);
        }
        if spec.events.contains(Events::PRE_ACCESS) {
            self.permissions.class.0 = Class::PreContent;
        }
        self.permissions.rules.insert(id, Guarded { spec, state: state.clone() });
        if state == PathState::Active {
            self.place(id);
        }
        self.permissions.state(id).cloned().unwrap_or(state)
    }

    /// Takes a rule out of force.
    pub(in crate::engine) fn take_out_of_force(&mut self, id: RuleId) {
        self.watch.detach(id);
        self.leave_gate(id);
    }

    /// Where a rule's PATH leads, and whether that is watched.
    pub fn path_state(&self, id: RuleId) -> Option<&PathState> {
        self.permissions.state(id).or_else(|| self.watch.state(id))
    }

    fn leave_gate(&mut self, id: RuleId) {
        let Some(guarded) = self.permissions.rules.remove(&id) else { return };
        let Permissions { client: Some(client), own, .. } = &mut self.permissions else { return };
        if let Err(NotPlaced::Gate(failed)) = marks::remove(client, id, &guarded.spec, own)
            && failed != Failed::TooLong
        {
            self.on_gate_end(failed);
        }
    }

    /// Has a rule's inodes marked, now that there is something at its path.
    pub(super) fn place(&mut self, id: RuleId) {
        if let Err(why) = self.start_gate() {
            return self.permissions.set_state(id, why);
        }
        let Permissions { client: Some(client), rules, own, .. } = &mut self.permissions else { return };
        let Some(guarded) = rules.get(&id) else { return };
        let placed = marks::place(client, id, &guarded.spec, own);
        self.on_placed(id, placed);
    }

    pub(super) fn on_placed(&mut self, id: RuleId, placed: Result<(), NotPlaced>) {
        let state = match placed {
            Ok(()) => PathState::Active,
            Err(NotPlaced::Gate(failed @ Failed::TooLong)) => PathState::Failed(failed.to_string()),
            Err(NotPlaced::Gate(failed)) => return self.on_gate_end(failed),
            Err(missing @ NotPlaced::Missing(_)) => PathState::Waiting(missing.to_string()),
            Err(refused) => PathState::Failed(refused.to_string()),
        };
        self.permissions.set_state(id, state);
    }

    /// Puts all rules before the gate that there is.
    pub(super) fn place_all(&mut self) {
        let ids: Vec<_> = self.permissions.rules.keys().copied().collect();
        for id in ids {
            if self.watch.state(id) == Some(&PathState::Active) {
                self.place(id);
            }
        }
    }
}
