//! What a rule needs of the kernel, by place.

use crate::events::Events;
use crate::matcher::is_on_child;

/// What follows directories under their names: whatever may change what a path means.
const FOLLOW: Events = Events::CREATE.with(Events::DELETE).with(Events::RENAME).with(Events::ONDIR);

/// Masks for `fanotify_mark(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) struct Masks {
    /// Of each directory on the way to PATH.
    pub(in crate::watch) way: u64,
    /// Of the directory that PATH is in, where PATH is not a directory.
    pub(in crate::watch) parent: u64,
    /// Of PATH, where it is not a directory.
    pub(in crate::watch) file: u64,
    /// Of PATH, where it is a directory.
    pub(in crate::watch) directory: u64,
    /// Of each directory below PATH, under `recursive`.
    pub(in crate::watch) below: u64,
    /// Whether the directories in PATH must be known by their handles.
    pub(in crate::watch) knows_children: bool,
}

impl Masks {
    /// What a rule for `events` needs. With `FAN_RENAME`, where the kernel has it,
    /// all rules about moves are served, so that a rename comes once.
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
                // A directory reports its own end only with ONDIR.
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

/// How far down a rule on a directory looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Depth {
    /// At the directory's own entries.
    Entries,
    /// At the whole tree.
    Recursive,
}

/// How the kernel tells of moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Moves {
    /// One `FAN_RENAME` with both names, since Linux 5.17.
    Rename,
    /// `FAN_MOVED_FROM` and `FAN_MOVED_TO`, one name each.
    FromTo,
}

/// Whether a rule on a directory is about what happens to the directories in it:
/// such events come with the handle of that directory alone.
fn sees_directories(events: Events) -> bool {
    events.contains(Events::ONDIR.with(Events::EVENT_ON_CHILD)) && events.intersects(Events::OBJECT)
}

/// Events that the kernel has, for those that a rule may ask for.
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
