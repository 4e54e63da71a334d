//! What changes in the trees of permission rules, brought to the gate.

use super::Permissions;
use crate::config::rule::RuleSpec;
use crate::engine::Engine;
use crate::events::Events;
use crate::gate::marks;
use crate::gate::message::Order;
use crate::watch::{Hit, PathState};
use facron_proto::{RuleId, Text};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

impl Engine {
    /// Something has changed in the tree of a permission rule.
    pub(in crate::engine) fn on_change(&mut self, hit: &Hit) {
        let path = PathBuf::from(OsString::from_vec(hit.event.path.to_vec()));
        self.permissions.changes.push((hit.rule, path, hit.event.events));
    }

    /// Brings the gate's marks up to date with the trees, once the watch is.
    pub(in crate::engine) fn follow_changes(&mut self) {
        for (id, path, events) in std::mem::take(&mut self.permissions.changes) {
            let Some(guarded) = self.permissions.rules.get(&id) else { continue };
            let spec = Rc::clone(&guarded.spec);
            if path == spec.path {
                self.place_again(id);
            } else if spec.options.recursive && events.contains(Events::ONDIR) {
                self.place_below(id, &spec, &path, events);
            }
        }
        // What changes the meaning of a path without an event at it.
        let watched = self.permissions.rules.keys().map(|id| (*id, self.watch.state(*id)));
        let changed = watched.filter(|(id, state)| self.permissions.differs(*id, *state));
        let changed: Vec<_> = changed.map(|(id, _)| id).collect();
        for id in changed {
            self.place_again(id);
        }
    }

    fn place_again(&mut self, id: RuleId) {
        match self.watch.state(id) {
            Some(PathState::Active) => {
                self.place(id);
                if let Some(PathState::Failed(why)) = self.permissions.state(id) {
                    tracing::warn!(rule = %id, "{why}");
                }
            }
            Some(state) => {
                let state = state.clone();
                self.permissions.set_state(id, state);
                self.tell_gate(&Order::Gone { rule: id, below: Text::default() }, None);
            }
            None => {}
        }
    }

    fn place_below(&mut self, id: RuleId, spec: &RuleSpec, path: &Path, events: Events) {
        let Ok(below) = path.strip_prefix(&spec.path) else { return };
        if events.intersects(Events::CREATE.with(Events::MOVED_TO)) {
            let Permissions { client: Some(client), own, .. } = &mut self.permissions else { return };
            let placed = marks::place_below(client, id, spec, below, own);
            if placed.is_err() {
                self.on_placed(id, placed);
            }
        } else {
            let below = Text::from(below.as_os_str().as_bytes());
            self.tell_gate(&Order::Gone { rule: id, below }, None);
        }
    }
}
