//! The matcher decides which events of a rule a record contains. The watch, the gate and
//! `explain` all use [`matched`]. It does no I/O.
//!
//! An event is either about a rule's PATH itself, or about an entry below PATH. Events of
//! other places never come here.

use crate::config::filter::ObjectKind;
use crate::config::rule::RuleSpec;
use crate::events::Events;
use std::os::unix::ffi::OsStrExt;

/// The place of an event, relative to a rule's PATH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// PATH itself.
    Path,
    /// An entry of PATH, or of a directory below it.
    Below,
}

impl Position {
    /// The position of an object. `below` is its path below PATH.
    pub fn of(below: &[u8]) -> Self {
        if below.is_empty() { Self::Path } else { Self::Below }
    }
}

/// Whether a rule on a directory is also about its entries. A rule with neither flag is,
/// because otherwise it could never fire.
pub fn is_on_child(events: Events) -> bool {
    events.contains(Events::EVENT_ON_CHILD) || !events.contains(Events::ONDIR)
}

/// The events that make a file complete under its name.
pub const ARRIVES: Events = Events::CLOSE_WRITE.with(Events::MOVED_TO);

/// The events that are in both `wanted`, a rule's EVENTS, and `events`, a record's mask.
/// In `events` a rename has `MOVED_FROM` or `MOVED_TO` beside `RENAME`. The result has
/// `ONDIR` if the object is a directory and the rule asks for it.
pub fn matched(wanted: Events, position: Position, events: Events) -> Events {
    let on_directory = events.contains(Events::ONDIR);
    let mut offered = events.without(Events::FLAGS);
    if !on_directory && offered.intersects(ARRIVES) {
        offered = offered.with(Events::ARRIVED);
    }
    let allowed = match (position, on_directory) {
        (Position::Path, true) if wanted.contains(Events::ONDIR) => {
            Events::SELF.with(Events::OBJECT).with(Events::PERMISSION)
        }
        (Position::Path, true) => Events::SELF,
        (Position::Path, false) => offered,
        (Position::Below, true) if !wanted.contains(Events::ONDIR) => return Events::NONE,
        (Position::Below, _) if !is_on_child(wanted) => Events::ENTRY.with(Events::ARRIVED),
        (Position::Below, _) => offered.without(Events::SELF),
    };
    let matched = offered.and(allowed).and(wanted);
    if on_directory && !matched.is_empty() { matched.with(wanted.and(Events::ONDIR)) } else { matched }
}

/// The matched events as a kernel mask. `ARRIVED` is replaced by the record's events that
/// caused it.
pub fn mask_of(matched: Events, events: Events) -> u64 {
    let behind = if matched.contains(Events::ARRIVED) {
        events.and(ARRIVES.with(Events::CREATE))
    } else {
        Events::NONE
    };
    matched.with(behind).mask()
}

/// Whether these may be the events of a file that was linked in. Only a look can decide.
pub fn may_have_arrived(spec: &RuleSpec, events: Events) -> bool {
    spec.events.contains(Events::ARRIVED)
        && events.contains(Events::CREATE)
        && !events.intersects(ARRIVES.with(Events::ONDIR))
}

/// The events of `spec` that an imagined event at `path` would match. Only the text of the
/// paths is compared.
pub fn foresee(spec: &RuleSpec, path: &[u8], events: Events) -> Events {
    let Some(below) = below(path, spec.path.as_os_str().as_bytes()) else { return Events::NONE };
    let kind = if events.contains(Events::ONDIR) { ObjectKind::Directory } else { ObjectKind::File };
    let is_seen = spec.options.recursive || !below.contains(&b'/');
    if is_seen && spec.accepts(below, file_name(path), kind) {
        matched(spec.events, Position::of(below), events)
    } else {
        Events::NONE
    }
}

/// The part of `path` below `top`. It is empty for `top` itself, and `None` for a path
/// elsewhere. `top` must have no slash at its end.
pub fn below<'a>(path: &'a [u8], top: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(if top == b"/" { &[][..] } else { top })?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// The last component of a path.
pub fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    fn check(rule: Events, position: Position, record: Events, expected: Events) {
        assert_eq!(matched(rule, position, record), expected, "{rule} {position:?} {record}");
    }

    #[test]
    fn flags_decide_about_directories_and_children() {
        use Position::{Below, Path};
        let (open, dir, child) = (Events::OPEN, Events::ONDIR, Events::EVENT_ON_CHILD);
        check(open, Below, open, open);
        check(open, Below, open.with(dir), Events::NONE);
        check(open.with(dir), Below, open, Events::NONE);
        check(open.with(dir), Path, open.with(dir), open.with(dir));
        check(open, Path, open.with(dir), Events::NONE);
        check(open.with(dir).with(child), Below, open.with(dir), open.with(dir));
        check(Events::CREATE.with(dir), Below, Events::CREATE, Events::CREATE);
        check(Events::CREATE, Below, Events::CREATE.with(dir), Events::NONE);
    }

    #[test]
    fn the_end_of_path_itself_needs_no_flag() {
        check(
            Events::DELETE_SELF,
            Position::Path,
            Events::DELETE_SELF.with(Events::ONDIR),
            Events::DELETE_SELF,
        );
        check(Events::DELETE_SELF, Position::Below, Events::DELETE_SELF, Events::NONE);
    }

    #[test]
    fn permission_is_asked_for_a_directory_only_with_its_flag() {
        use Position::{Below, Path};
        let (open, dir) = (Events::OPEN_PERM, Events::ONDIR);
        check(open, Below, open, open);
        check(open, Path, open, open);
        check(open, Path, open.with(dir), Events::NONE);
        check(open.with(dir), Path, open.with(dir), open.with(dir));
        check(open.with(dir), Below, open, Events::NONE);
        check(open, Below, Events::ACCESS_PERM, Events::NONE);
    }

    #[test]
    fn a_path_is_below_another_by_whole_components() {
        assert_eq!(below(b"/a/b/c", b"/a"), Some(&b"b/c"[..]));
        assert_eq!((below(b"/a", b"/a"), below(b"/a", b"/")), (Some(&b""[..]), Some(&b"a"[..])));
        assert_eq!((below(b"/ab", b"/a"), below(b"/", b"/a")), (None, None));
    }

    #[test]
    fn arrived_is_closed_or_moved_in() {
        let moved = Events::MOVED_TO.with(Events::RENAME);
        check(Events::ARRIVED, Position::Below, moved, Events::ARRIVED);
        check(Events::ARRIVED, Position::Path, Events::MODIFY.with(Events::CLOSE_WRITE), Events::ARRIVED);
        check(Events::ARRIVED, Position::Below, moved.with(Events::ONDIR), Events::NONE);
        check(Events::ARRIVED, Position::Below, Events::CREATE, Events::NONE);
        assert_eq!(
            mask_of(Events::ARRIVED, Events::MODIFY.with(Events::CLOSE_WRITE)),
            Events::CLOSE_WRITE.mask()
        );
    }
}
