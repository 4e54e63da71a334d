//! One event of one rule, on its way from the kernel to a command.

use crate::events::Events;
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
    /// The full path, without a NUL byte.
    pub path: Rc<[u8]>,
    /// The path before, for renames.
    pub old_path: Option<Rc<[u8]>>,
    /// The process that caused it; 0 where unknown.
    pub pid: i32,
    pub exe: Option<Rc<[u8]>>,
    pub uid: Option<u32>,
    /// Found by looking, not told by the kernel.
    pub synthetic: bool,
}

/// Bytes of paths that take no further room.
const ROOM: usize = 256;

/// The kernel takes no longer path, its end included.
const PATH_MAX: usize = nix::libc::PATH_MAX.cast_unsigned() as usize;

/// What is left of a path that is too long.
const SHORTENED: usize = 1000;

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
