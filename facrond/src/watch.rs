//! From rules to marks, and from the kernel's records to the rules they match.
//!
//! A rule follows its *path*: each directory on the way is marked too, so that
//! whatever changes the meaning of the path is told, and the path is looked at
//! anew. A directory is always marked first and looked into second; what happened
//! before the mark is seen by the look, what happens after it by an event.
//! `resolve` does this for a path, `grow` for the directories below it, `follow`
//! for what the records say, `matching` decides what a rule makes of a record.

mod anchor;
mod arrival;
mod cover;
mod follow;
mod grow;
mod matching;
mod mounting;
mod needs;
mod resolve;
mod rules;
mod special;
mod tree;

pub use matching::foresee;
pub use rules::{PathState, Slot};

use crate::config::rule::RuleSpec;
use crate::event::Event;
use crate::events::Events;
use crate::kernel::fanotify::{Group, Privilege, READ_SIZE};
use crate::kernel::record::Records;
use arrival::Arrivals;
use cover::Covers;
use facron_proto::RuleId;
use needs::Moves;
use nix::errno::Errno;
use rules::Rules;
use rustc_hash::FxHashMap;
use std::rc::Rc;
use tree::{NodeId, Tree};

/// Reads of one turn; then others get theirs, however busy the kernel's queue is.
const READS_PER_TURN: usize = 32;

/// One firing: a rule and the event that it matched.
#[derive(Debug)]
pub struct Hit {
    /// The rule.
    pub rule: RuleId,
    /// What happened.
    pub event: Event,
    /// Whether one of facron's own commands caused it.
    pub own: bool,
}

/// Who tells whether a process is one of facron's own.
pub trait Whose {
    /// Whether `pid` is facrond, a command of it, or a descendant of one.
    fn is_own(&mut self, pid: i32) -> bool;
}

/// Whether there is more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// The kernel's queue is empty.
    Drained,
    /// It may not be; come again soon.
    More,
}

/// What cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No group to be had.
    #[error("cannot open a fanotify group: {}", open_help(*.0))]
    Open(#[source] Errno),
    /// The group is broken.
    #[error("cannot read from the fanotify group: {}", .0.desc())]
    Read(#[source] Errno),
}

fn open_help(errno: Errno) -> String {
    let why = match errno {
        Errno::ENOSYS => "this kernel has no fanotify",
        Errno::EINVAL => "this kernel is older than Linux 5.9, or 5.13 for ordinary users",
        Errno::EPERM => "this user may not; run it as root",
        Errno::EMFILE => "this user has too many groups (see /proc/sys/fs/fanotify/max_user_groups)",
        other => other.desc(),
    };
    why.to_owned()
}

/// Counters of the watch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Records read from the kernel.
    pub read: u64,
    /// Overflows of its queue.
    pub overflows: u64,
}

/// The rules, their marks and the tree below them.
#[derive(Debug)]
pub struct Watch {
    group: Group,
    moves: Moves,
    tree: Tree,
    covers: Covers,
    rules: Rules,
    slots: FxHashMap<RuleId, Slot>,
    arrivals: Arrivals,
    /// Handles of what stood at a rule's path until it was replaced: their end is
    /// still to be told.
    former: FxHashMap<Box<[u8]>, NodeId>,
    unsettled: Vec<grow::Unsettled>,
    special: special::Special,
    /// How many rules ask who did it.
    culprit_rules: usize,
    buffer: Vec<u8>,
    counters: Counters,
    marks: u64,
}

impl Watch {
    /// A watch without rules.
    pub fn new() -> Result<Self, Error> {
        let group = Group::open().map_err(Error::Open)?;
        let moves = if group.has_rename() { Moves::Rename } else { Moves::FromTo };
        Ok(Self {
            group,
            moves,
            tree: Tree::default(),
            covers: Covers::default(),
            rules: Rules::default(),
            slots: FxHashMap::default(),
            arrivals: Arrivals::default(),
            former: FxHashMap::default(),
            unsettled: Vec::new(),
            special: special::Special::new().map_err(Error::Open)?,
            culprit_rules: 0,
            buffer: vec![0; READ_SIZE],
            counters: Counters::default(),
            marks: 0,
        })
    }

    /// The group, to wait for its becoming readable.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// What the kernel lets this process see.
    pub fn privilege(&self) -> Privilege {
        self.group.privilege()
    }

    /// Counters since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The number of inode marks.
    pub fn marks(&self) -> u64 {
        self.marks
    }

    /// Whether there is a rule that asks who did it.
    pub fn asks_for_culprits(&self) -> bool {
        self.culprit_rules > 0
    }

    /// Takes a rule in; when this returns its marks are in the kernel.
    pub fn attach(&mut self, id: RuleId, spec: Rc<RuleSpec>) -> &PathState {
        self.culprit_rules += usize::from(spec.options.culprit.matters());
        let slot = self.rules.insert(id, spec, self.moves);
        self.slots.insert(id, slot);
        self.attach_special(slot);
        self.resolve(slot, resolve::Occasion::First);
        self.state_of(slot)
    }

    /// Lets a rule go, with the marks that only it needed.
    pub fn detach(&mut self, id: RuleId) {
        if let Some(slot) = self.slots.remove(&id) {
            self.culprit_rules -= usize::from(self.rules[slot].spec.options.culprit.matters());
            self.release(slot);
            self.detach_special(slot);
            self.arrivals.forget_rule(slot);
            self.covers.forget(slot);
            self.rules.remove(slot);
        }
    }

    /// Whether a rule can fire; `None` if it is not attached.
    pub fn state(&self, id: RuleId) -> Option<&PathState> {
        self.slots.get(&id).map(|slot| self.state_of(*slot))
    }

    fn state_of(&self, slot: Slot) -> &PathState {
        self.special.refusal(slot).unwrap_or(&self.rules[slot].state)
    }

    /// Reads the kernel's queue and adds the firings to `hits`, in order.
    pub fn drain(&mut self, whose: &mut dyn Whose, hits: &mut Vec<Hit>) -> Result<Queue, Error> {
        self.drain_special(whose, hits).map_err(Error::Read)?;
        for _ in 0..READS_PER_TURN {
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = self.group.read(&mut buffer);
            let more = match read {
                Ok(Some(bytes)) => {
                    self.on_bytes(bytes, whose, hits);
                    true
                }
                Ok(None) => self.on_drained(hits),
                Err(Errno::EINTR) => true,
                Err(errno) => return Err(Error::Read(errno)),
            };
            self.buffer = buffer;
            if !more {
                return Ok(Queue::Drained);
            }
        }
        Ok(Queue::More)
    }

    fn on_bytes(&mut self, bytes: &[u8], whose: &mut dyn Whose, hits: &mut Vec<Hit>) {
        for record in Records::new(bytes) {
            self.counters.read += 1;
            match record {
                Ok(record) if record.mask & Events::Q_OVERFLOW.mask() != 0 => self.on_overflow(hits),
                Ok(record) => self.on_record(&record, whose, hits),
                Err(malformed) => tracing::error!("{malformed}"),
            }
        }
    }

    /// Returns whether the queue has to be drained once more.
    fn on_drained(&mut self, hits: &mut Vec<Hit>) -> bool {
        self.settle_directories();
        self.fire_arrivals(hits);
        self.look_at_arrivals();
        !self.arrivals.is_empty() || !self.unsettled.is_empty()
    }
}

#[cfg(test)]
mod tests;
