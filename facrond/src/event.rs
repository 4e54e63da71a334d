//! One event of one rule, on its way from the kernel to a command.

use crate::events::Events;
use crate::kernel::object::PATH_MAX;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::SystemTime;

/// What happened, as seen by the rule that it matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it was read from the kernel.
    pub time: SystemTime,
    /// The rule's events that were in it (with `ONDIR` where the rule asked for
    /// it and the object is a directory).
    pub events: Events,
    /// The same as a kernel mask; for `ARRIVED` the events that made it so.
    pub mask: u64,
    /// The full path, without a NUL byte; see [`join_names`].
    pub path: Rc<[u8]>,
    /// The path before, for renames.
    pub old_path: Option<Rc<[u8]>>,
    /// The process that caused it; 0 where unknown.
    pub pid: i32,
    pub exe: Option<Rc<[u8]>>,
    pub uid: Option<u32>,
    /// Found by looking, not told by the kernel.
    pub synthetic: bool,
    /// The object, for a rule whose command gets the file.
    pub object: Option<Rc<ObjectId>>,
}

/// What identifies an object, whatever its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectId {
    pub fs: u64,
    /// The kernel's `file_handle`.
    pub handle: Box<[u8]>,
}

/// Bytes of paths that take no further room.
const ROOM: usize = 256;

/// What is left of a path that is too long.
const SHORTENED: usize = 1000;

/// The bytes of a path that is too long that are kept at each end.
const KEPT: usize = PATH_MAX / 2;

/// Joins the names below a path. Users choose how long a path is: one that no system call
/// takes is cut in its middle, and stays too long.
pub fn join_names(top: &[u8], names: &[&[u8]]) -> Rc<[u8]> {
    let top = if top == b"/" { b"" } else { top };
    let parts: Vec<_> = std::iter::once(&top).chain(names).copied().collect();
    let len = parts.iter().map(|part| part.len() + 1).sum::<usize>() - 1;
    if len < PATH_MAX {
        return parts.join(&b'/').into();
    }
    let head = enough(parts.iter()).join(&b'/');
    let mut tail = enough(parts.iter().rev());
    tail.reverse();
    let tail = tail.join(&b'/');
    let (head, tail) = (&head[..KEPT.min(head.len())], &tail[tail.len().saturating_sub(KEPT)..]);
    [head, format!("...{len} bytes...").as_bytes(), tail].concat().into()
}

/// As many parts as there are bytes to be kept.
fn enough<'p>(parts: impl Iterator<Item = &'p &'p [u8]>) -> Vec<&'p [u8]> {
    let mut len = 0;
    let mut is_needed = |part: &&&[u8]| {
        len += part.len() + 1;
        len - part.len() <= KEPT
    };
    parts.take_while(|part| is_needed(part)).copied().collect()
}

impl Event {
    /// Whether its path, or the one before, is longer than any that a program can open.
    pub fn has_long_path(&self) -> bool {
        let old_path = self.old_path.as_ref().map_or(0, |path| path.len());
        self.path.len().max(old_path) >= PATH_MAX
    }

    /// Leaves long paths their beginnings only.
    pub fn shorten(&mut self) {
        for path in [Some(&mut self.path), self.old_path.as_mut()].into_iter().flatten() {
            if path.len() > SHORTENED {
                *path = [&path[..SHORTENED], b"..."].concat().into();
            }
        }
    }

    /// The room that it takes while it waits: 1, and more with long paths.
    pub fn room(&self) -> usize {
        let old_path = self.old_path.as_ref().map_or(0, |path| path.len());
        1 + (self.path.len() + old_path) / ROOM
    }

    /// Makes one event of this and a later one of the same path: what happened is
    /// united, who did it and when is of the later one.
    pub fn absorb(&mut self, later: Self) {
        let (events, mask) = (self.events, self.mask);
        *self = later;
        self.events = self.events.with(events);
        self.mask |= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_too_long_is_cut_and_stays_too_long() {
        assert_eq!(&*join_names(b"/", &[b"a", b"b"]), b"/a/b");
        assert_eq!(&*join_names(b"/top", &[b"a"]), b"/top/a");
        let name = [b'n'; 255];
        for levels in [15, 16, 17, 500] {
            let names = [&[&name[..]].repeat(levels)[..], &[b"last"]].concat();
            let path = join_names(b"/top", &names);
            let len = 4 + levels * 256 + 5;
            if len < PATH_MAX {
                assert_eq!(path.len(), len);
            } else {
                assert!(path.starts_with(b"/top/n") && path.ends_with(b"n/last"));
                assert!((PATH_MAX..PATH_MAX + 32).contains(&path.len()), "{levels}: {}", path.len());
            }
        }
        assert_ne!(
            join_names(b"", &[&name[..]; 20]),
            join_names(b"", &[&name[..]; 21]),
            "the length is in it"
        );
    }
}
