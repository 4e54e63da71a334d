//! Rules that ask who did it: `uid=` and `exe=`.
//!
//! A process may be gone before its last event is read. Most open a file before
//! they do what a rule is about; so such rules have opens told as well, and the
//! process is looked at then.

use super::Watch;
use crate::config::rule::RuleSpec;
use crate::events::Events;
use crate::kernel::record::{Entry, Record};

/// What comes after an open, mostly of the same process.
const AFTER_OPEN: Events =
    Events::CLOSE.with(Events::MODIFY).with(Events::ACCESS).with(Events::ATTRIB).with(Events::ARRIVED);

/// The events that are asked for a rule: its own, and the opens before them.
pub fn asked(spec: &RuleSpec) -> Events {
    if spec.options.culprit.matters() && spec.events.intersects(AFTER_OPEN) {
        return spec.events.with(Events::OPEN);
    }
    spec.events
}

impl Watch {
    /// Whether a record may be followed by one of a rule that asks who did it.
    pub(super) fn announces_culprit(&self, record: &Record<'_>) -> bool {
        self.culprit_rules > 0
            && record.mask & Events::OPEN.mask() != 0
            && record.entry.is_some_and(|entry| self.has_culprit_rule(entry))
    }

    fn has_culprit_rule(&self, Entry { dir, name }: Entry<'_>) -> bool {
        let asks = |slot: super::Slot| self.rules[slot].spec.options.culprit.matters();
        self.tree.by_handle(dir).any(|dir| {
            let file = self.tree.child(dir, name).and_then(|node| self.tree[node].anchor.as_ref());
            self.reach(dir).into_iter().any(asks)
                || file.is_some_and(|anchor| anchor.targets.iter().copied().any(asks))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::culprit::{Condition, Culprit};
    use crate::config::rule::{Command, Options};

    #[test]
    fn opens_are_asked_for_by_rules_that_need_them() {
        let spec = |events, uid| RuleSpec {
            path: "/p".into(),
            events,
            options: Options { culprit: Culprit { uid, exe: None }, ..Options::default() },
            options_text: Vec::new(),
            command: Command::Record,
        };
        let root = Some(Condition::Is(0));
        assert_eq!(asked(&spec(Events::CLOSE_WRITE, root.clone())), Events::CLOSE_WRITE.with(Events::OPEN));
        assert_eq!(asked(&spec(Events::CLOSE_WRITE, None)), Events::CLOSE_WRITE);
        assert_eq!(asked(&spec(Events::DELETE, root)), Events::DELETE);
    }
}
