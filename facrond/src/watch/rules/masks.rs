//! The events that a rule needs from the kernel, by the kind of place.

use crate::events::Events;
use crate::matcher::is_on_child;

/// The events that can change the meaning of a path.
const FOLLOW: Events = Events::CREATE.with(Events::DELETE).with(Events::RENAME).with(Events::ONDIR);

/// The masks of a rule for `fanotify_mark(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) struct Masks {
    /// For each directory on the way to PATH.
    pub(in crate::watch) way: u64,
    /// For the parent directory of PATH, if PATH is not a directory.
    pub(in crate::watch) parent: u64,
    /// For PATH, if it is not a directory.
    pub(in crate::watch) file: u64,
    /// For PATH, if it is a directory.
    pub(in crate::watch) directory: u64,
    /// For each directory below PATH, with `recursive`.
    pub(in crate::watch) below: u64,
    /// Whether the directories in PATH must have nodes.
    pub(in crate::watch) knows_children: bool,
}

impl Masks {
    /// The masks of a rule for `events`. If the kernel has `FAN_RENAME`, all rules about moves
    /// use it, so that a rename is reported once.
    pub(in crate::watch) fn of(events: Events, depth: Depth, moves: Moves) -> Self {
        let knows_children = depth == Depth::Recursive || sees_directories(events);
        let wanted = in_kernel_terms(events);
        let entries = wanted.and(Events::OBJECT.with(Events::ENTRY));
        let on_child = if is_on_child(events) { Events::EVENT_ON_CHILD } else { Events::NONE };
        let on_dir = wanted.and(Events::ONDIR);
        let follow = if knows_children { FOLLOW } else { Events::NONE };
        let mask = |events: Events| with_moves(events, moves).mask();
        Self {
            way: mask(FOLLOW),
            parent: mask(entries.with(FOLLOW).with(Events::EVENT_ON_CHILD)),
            file: wanted.and(Events::OBJECT.with(Events::SELF)).mask(),
            directory: mask(
                // The end of a directory is reported only with ONDIR.
                entries.with(on_child).with(on_dir).with(follow).with(match wanted.and(Events::SELF) {
                    Events::NONE => Events::NONE,
                    own => own.with(Events::ONDIR),
                }),
            ),
            below: mask(entries.with(FOLLOW).with(on_child).with(on_dir)),
            knows_children,
        }
    }
}

/// How deep a rule on a directory looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Depth {
    /// Only the entries of the directory.
    Entries,
    /// The whole tree below it.
    Recursive,
}

/// How the kernel reports moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Moves {
    /// One `FAN_RENAME` record with both names, since Linux 5.17.
    Rename,
    /// A `FAN_MOVED_FROM` and a `FAN_MOVED_TO` record, with one name each.
    FromTo,
}

/// Whether a rule on a directory is about events of the directories in it. Records of such
/// events have only the handle of the inner directory.
fn sees_directories(events: Events) -> bool {
    events.contains(Events::ONDIR.with(Events::EVENT_ON_CHILD)) && events.intersects(Events::OBJECT)
}

/// The kernel's events that a rule for `events` needs.
fn in_kernel_terms(events: Events) -> Events {
    let mut out = events.without(Events::ARRIVED).without(Events::Q_OVERFLOW);
    if events.contains(Events::ARRIVED) {
        out = out.with(Events::CREATE).with(Events::CLOSE_WRITE).with(Events::RENAME);
    }
    if events.intersects(Events::MOVE) {
        out = out.without(Events::MOVE).with(Events::RENAME);
    }
    out
}

fn with_moves(events: Events, moves: Moves) -> Events {
    if moves == Moves::Rename || !events.contains(Events::RENAME) {
        return events;
    }
    events.without(Events::RENAME).with(Events::MOVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(events: Events, moves: Moves) -> Masks {
        Masks::of(events, Depth::Entries, moves)
    }

    #[test]
    fn one_kind_of_event_serves_all_rules_about_moves() {
        for events in [Events::MOVED_TO, Events::MOVE, Events::RENAME, Events::ARRIVED] {
            let needs = of(events, Moves::Rename);
            assert_eq!(Events::from_mask(needs.directory).and(Events::MOVE), Events::NONE);
            assert!(Events::from_mask(needs.directory).contains(Events::RENAME));
            assert!(Events::from_mask(of(events, Moves::FromTo).parent).contains(Events::MOVE));
        }
    }

    #[test]
    fn flags_are_those_of_the_rule() {
        let directory = |events| Events::from_mask(of(events, Moves::Rename).directory);
        assert_eq!(directory(Events::OPEN), Events::OPEN.with(Events::EVENT_ON_CHILD));
        assert_eq!(directory(Events::OPEN.with(Events::ONDIR)), Events::OPEN.with(Events::ONDIR));
        assert_eq!(
            directory(Events::DELETE_SELF).without(Events::EVENT_ON_CHILD),
            Events::DELETE_SELF.with(Events::ONDIR)
        );
    }

    #[test]
    fn a_file_is_never_asked_for_what_only_directories_have() {
        let needs = of(Events::from_mask(u64::MAX).without(Events::PERMISSION), Moves::Rename);
        assert!(!Events::from_mask(needs.file).intersects(Events::ENTRY.with(Events::FLAGS)));
    }
}
