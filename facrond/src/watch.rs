//! From rules to marks, and from the kernel's records to the rules they match.
//!
//! A rule follows its *path*: each directory on the way is marked too, so that
//! whatever changes the meaning of the path is told, and the path is looked at
//! anew. A directory is always marked first and looked into second; what happened
//! before the mark is seen by the look, what happens after it by an event.
//! | module | what |
//! |---|---|
//! | `resolve`, `walk` | from a rule's path to the node that it is, marking on the way |
//! | `grow`, `unsettled`, `filesystem` | the directories below it: a mark each, or one for the file system |
//! | `fire` | from a record to the rules that it fires |
//! | `follow` | what a record changes: directories that come, go and move |
//! | `arrival`, `look` | files whose completeness has to be looked at |
//! | `mounts`, `rescan` | what comes without a record: mounts, and lost records |
//! | `served` | file systems whose servers may not answer |
//! | `tree`, `anchor`, `cover`, `rules` | the memory of it all |
//! | `marks`, `groups`, `needs` | what the kernel is asked for |
//! | `special`, `mounting` | rules about file system errors and mounts |

mod anchor;
mod arrival;
mod cover;
mod filesystem;
mod fire;
mod follow;
mod groups;
mod grow;
mod left;
mod look;
mod marks;
mod mounting;
mod mounts;
mod needs;
mod rescan;
mod resolve;
mod rules;
mod served;
mod special;
mod tree;
mod unsettled;
mod walk;

pub use rules::{PathState, Slot};

use crate::config::rule::RuleSpec;
use crate::event::Event;
use crate::events::Events;
use crate::kernel::fanotify::{Privilege, READ_SIZE};
use crate::kernel::record::{FsId, Records};
use arrival::Arrivals;
use cover::Covers;
use facron_proto::RuleId;
use filesystem::FileSystems;
use groups::Groups;
use mounts::Mounts;
use needs::Moves;
use nix::errno::Errno;
use rescan::Rescan;
use rules::{Inode, Rules};
use rustc_hash::FxHashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::SystemTime;
use tree::{NodeId, Tree};

/// Reads of one turn; then others get theirs, however busy the kernel's queue is.
const READS_PER_TURN: usize = 4;

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

    /// Records were read and are judged next.
    fn on_read(&mut self) {}

    /// The queue was empty: all that had happened before the last
    /// [`Whose::on_read`] is judged.
    fn on_drained(&mut self) {}
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
    /// No table of mounts.
    #[error("cannot read /proc/self/mountinfo: {0}")]
    Mounts(#[source] io::Error),
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
    groups: Groups,
    moves: Moves,
    tree: Tree,
    covers: Covers,
    rules: Rules,
    slots: FxHashMap<RuleId, Slot>,
    arrivals: Arrivals,
    /// Handles of what stood at a rule's path until it was replaced: their end is
    /// still to be told.
    former: FxHashMap<Inode, NodeId>,
    unsettled: unsettled::Unsettled,
    left: Vec<left::Left>,
    special: special::Special,
    /// How many rules ask who did it.
    culprit_rules: usize,
    mounts: Mounts,
    served: served::Served,
    file_systems: FileSystems,
    rescan: Rescan,
    /// When the queue was last empty, with nothing missing.
    settled: SystemTime,
    buffer: Vec<u8>,
    counters: Counters,
}

impl Watch {
    /// A watch without rules.
    pub fn new() -> Result<Self, Error> {
        let groups = Groups::open().map_err(Error::Open)?;
        let moves = if groups.has_rename() { Moves::Rename } else { Moves::FromTo };
        let special = special::Special::new().map_err(Error::Open)?;
        let mounts = Mounts::read().map_err(Error::Mounts)?;
        let mut served = served::Served::new(Rc::clone(special.sources()));
        served.update(mounts.iter());
        Ok(Self {
            rescan: Rescan::new(groups.privilege()),
            mounts,
            served,
            settled: SystemTime::now(),
            file_systems: FileSystems::default(),
            groups,
            moves,
            tree: Tree::default(),
            covers: Covers::default(),
            rules: Rules::default(),
            slots: FxHashMap::default(),
            arrivals: Arrivals::default(),
            former: FxHashMap::default(),
            unsettled: unsettled::Unsettled::default(),
            left: Vec::new(),
            special,
            culprit_rules: 0,
            buffer: vec![0; READ_SIZE],
            counters: Counters::default(),
        })
    }

    /// Becomes readable when there is something to drain.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.groups.as_fd()
    }

    /// What the kernel lets this process see.
    pub fn privilege(&self) -> Privilege {
        self.groups.privilege()
    }

    /// Counters since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The number of inode marks.
    pub fn marks(&self) -> u64 {
        self.groups.marks()
    }

    /// Whether there is a rule that asks who did it.
    pub fn asks_for_culprits(&self) -> bool {
        self.culprit_rules > 0
    }

    /// Takes a rule in, or another one in its place; when this returns its marks are
    /// in the kernel.
    pub fn attach(&mut self, id: RuleId, spec: Rc<RuleSpec>) -> &PathState {
        self.culprit_rules += usize::from(spec.options.process_filter.matters());
        let slot = self.rules.insert(id, spec, self.moves);
        let before = self.slots.insert(id, slot);
        self.attach_special(slot);
        self.resolve(slot, resolve::Occasion::First);
        // Only now, so that what both need stays marked throughout.
        if let Some(before) = before {
            self.give_back(before);
        }
        self.tell_silence();
        self.state_of(slot)
    }

    /// Lets a rule go, with the marks that only it needed.
    pub fn detach(&mut self, id: RuleId) {
        if let Some(slot) = self.slots.remove(&id) {
            self.give_back(slot);
            self.tell_silence();
        }
    }

    fn give_back(&mut self, slot: Slot) {
        self.culprit_rules -= usize::from(self.rules[slot].spec.options.process_filter.matters());
        self.release(slot);
        self.detach_special(slot);
        self.arrivals.forget_rule(slot);
        self.covers.forget(slot);
        self.rules.remove(slot);
    }

    /// Whether a rule can fire; `None` if it is not attached.
    pub fn state(&self, id: RuleId) -> Option<&PathState> {
        self.slots.get(&id).map(|slot| self.state_of(*slot))
    }

    fn state_of(&self, slot: Slot) -> &PathState {
        self.special.refusal(slot).unwrap_or(&self.rules[slot].state)
    }

    /// Reads the kernel's queues and adds the firings to `hits`, in order.
    pub fn drain(&mut self, whose: &mut dyn Whose, hits: &mut Vec<Hit>) -> Result<Queue, Error> {
        self.on_answers();
        whose.on_read();
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut result = Ok(Queue::More);
        for _ in 0..READS_PER_TURN {
            match self.read_all(&mut buffer, whose, hits) {
                Ok(true) => {}
                Ok(false) => {
                    whose.on_drained();
                    if !self.on_drained(hits) {
                        result = Ok(Queue::Drained);
                        break;
                    }
                }
                Err(errno) => {
                    result = Err(Error::Read(errno));
                    break;
                }
            }
        }
        self.buffer = buffer;
        result
    }

    /// Reads once from each group; whether there was something.
    fn read_all(
        &mut self,
        buffer: &mut [u8],
        whose: &mut dyn Whose,
        hits: &mut Vec<Hit>,
    ) -> Result<bool, Errno> {
        let mut some = self.read_special(buffer, whose, hits)?;
        for index in 0..self.groups.len() {
            match self.groups.read(index, buffer) {
                Ok(Some((fs, bytes))) => {
                    whose.on_read();
                    self.on_bytes(bytes, fs, whose, hits);
                    some = true;
                }
                Ok(None) => {}
                Err(Errno::EINTR) => some = true,
                Err(errno) => return Err(errno),
            }
        }
        Ok(some)
    }

    fn on_bytes(&mut self, bytes: &[u8], fs: FsId, whose: &mut dyn Whose, hits: &mut Vec<Hit>) {
        for record in Records::new(bytes, fs) {
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
        self.settle_renames();
        self.settle_directories();
        self.fire_arrivals(hits);
        let more_directories = self.rescan.is_under_way() && self.rescan_some();
        self.look_at_arrivals();
        if more_directories || !self.arrivals.is_empty() || self.unsettled.is_under_way() {
            return true;
        }
        self.tell_silence();
        self.groups.collect();
        self.settled = SystemTime::now();
        self.rescan.settle(self.settled);
        false
    }
}

#[cfg(test)]
mod tests;
