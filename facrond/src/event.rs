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

impl Event {
    /// Makes one event of this and a later one of the same path: what happened is
    /// united, who did it and when is of the later one.
    pub fn absorb(&mut self, later: Self) {
        let (events, mask) = (self.events, self.mask);
        *self = later;
        self.events = self.events.with(events);
        self.mask |= mask;
    }
}
