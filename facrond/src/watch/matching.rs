//! Which of a rule's events a record holds.
//!
//! A rule sees an event from one of two seats: the event is about its PATH itself,
//! or about something below it. What is not about either never gets here.

use super::needs::is_on_child;
use crate::config::filter::ObjectKind;
use crate::config::rule::RuleSpec;
use crate::events::Events;
use std::os::unix::ffi::OsStrExt;

/// Where an event happened, as seen from a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the rule's PATH.
    Path,
    /// At an entry of a directory that the rule looks into.
    Below,
}

/// What makes a file complete under its name.
pub const ARRIVES: Events = Events::CLOSE_WRITE.with(Events::MOVED_TO);

/// The events of `spec` that are in `events`, a record's mask in which a rename
/// shows as `MOVED_FROM` or `MOVED_TO` beside `RENAME`. With `ONDIR` where the
/// object is a directory and the rule asked for it.
pub fn matched(spec: &RuleSpec, position: Position, events: Events) -> Events {
    let wanted = spec.events;
    let on_directory = events.contains(Events::ONDIR);
    let mut offered = events.without(Events::FLAGS);
    if !on_directory && offered.intersects(ARRIVES) {
        offered = offered.with(Events::ARRIVED);
    }
    let allowed = match (position, on_directory) {
        (Position::Path, true) if wanted.contains(Events::ONDIR) => Events::SELF.with(Events::OBJECT),
        (Position::Path, true) => Events::SELF,
        (Position::Path, false) => offered,
        (Position::Below, true) if !wanted.contains(Events::ONDIR) => return Events::NONE,
        (Position::Below, _) if !is_on_child(wanted) => Events::ENTRY.with(Events::ARRIVED),
        (Position::Below, _) => offered.without(Events::SELF),
    };
    let matched = offered.and(allowed).and(wanted);
    if on_directory && !matched.is_empty() { matched.with(wanted.and(Events::ONDIR)) } else { matched }
}

/// The record's events behind what matched, as a kernel mask: for `ARRIVED` those
/// that made it so.
pub fn mask_of(matched: Events, events: Events) -> u64 {
    let behind = if matched.contains(Events::ARRIVED) {
        events.and(ARRIVES.with(Events::CREATE))
    } else {
        Events::NONE
    };
    matched.with(behind).mask()
}

/// Whether this may be a file that was linked in, which only a look can tell.
pub fn may_have_arrived(spec: &RuleSpec, events: Events) -> bool {
    spec.events.contains(Events::ARRIVED)
        && events.contains(Events::CREATE)
        && !events.intersects(ARRIVES.with(Events::ONDIR))
}

/// The events of `spec` that an imagined event at `path` would match, by the text
/// of the paths alone.
pub fn foresee(spec: &RuleSpec, path: &[u8], events: Events) -> Events {
    let top = spec.path.as_os_str().as_bytes();
    let kind = if events.contains(Events::ONDIR) { ObjectKind::Directory } else { ObjectKind::File };
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    if path == top {
        let is_accepted = spec.options.filter.accepts(b"", name, kind);
        return if is_accepted { matched(spec, Position::Path, events) } else { Events::NONE };
    }
    let below = if top == b"/" {
        path.strip_prefix(b"/")
    } else {
        path.strip_prefix(top).and_then(|rest| rest.strip_prefix(b"/"))
    };
    match below {
        Some(relative)
            if !relative.is_empty()
                && (spec.options.recursive || !relative.contains(&b'/'))
                && spec.options.filter.accepts(relative, name, kind) =>
        {
            matched(spec, Position::Below, events)
        }
        _ => Events::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rule::Command;

    fn spec(events: Events) -> RuleSpec {
        RuleSpec {
            path: "/p".into(),
            events,
            options: std::rc::Rc::default(),
            options_text: Vec::new(),
            command: Command::Record,
        }
    }

    fn check(rule: Events, position: Position, record: Events, expected: Events) {
        assert_eq!(matched(&spec(rule), position, record), expected, "{rule} {position:?} {record}");
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
