//! From rules to marks, and from the kernel's records to the rules that they match.
//!
//! A rule follows its *path*. Each directory on the path has a mark too. So the kernel
//! reports every change of the path's meaning, and the path is looked at again. A directory
//! is always marked first and read second: the look sees changes before the mark, and
//! records report changes after it.
//!
//! ```text
//! read -> match -> plan -> apply -> recheck
//! marks   matcher  mirror  scanner  recheck
//! ```
//!
//! | module | owns | pure |
//! |---|---|---|
//! | `reading` | the way from the queues to firings, and what is done when they are empty | no |
//! | `looking` | the way of a look, and of the marks that come and go with it | no |
//! | `tree` | places, their names and the inodes that are there | yes |
//! | `rules` | which rules look at which place | yes |
//! | `matcher` | from a record to firings | yes |
//! | `mirror` | changes of the tree and the rules by records and looks | yes |
//! | `recheck` | places to be looked at again, and when a look may fire | yes |
//! | `told` | the latest firings | yes |
//! | `catch_up` | the walks that look for what was missed | yes |
//! | `marks` | the groups, and all marks in the kernel | no |
//! | `backlog` | the records from before this process | yes |
//! | `reads` | what was read and is not handled | no |
//! | `old_marks` | the marks from before this process | no |
//! | `scanner` | all looks: opening, reading, asking | no |
//! | `workers` | looking where a server has to answer, in processes of our own | no |
//! | `mount_table` | mounts | no |
//! | `special`, `mounting` | rules about file system errors and mounts | no |

mod backlog;
mod catch_up;
mod looking;
mod marks;
mod matcher;
mod mirror;
mod mount_table;
mod mounting;
mod old_marks;
mod reading;
mod reads;
mod recheck;
mod rules;
mod scanner;
pub(crate) mod simulated;
mod special;
mod told;
mod tree;
pub(crate) mod workers;

pub use catch_up::{Directories, Missed, Progress};
pub use rules::{PathState, Slot};
pub use workers::Pending;

use crate::config::rule::RuleSpec;
use crate::event::Event;
use crate::kernel::fanotify::Privilege;
use crate::kernel::sources::Sources;
use crate::service_manager::DescriptorStore;
use backlog::Backlog;
use catch_up::{Batch, CatchUp};
use facron_proto::RuleId;
use marks::MarkTable;
use mirror::Mirror;
use mount_table::{CLOCK_SLACK, MountTable};
use nix::errno::Errno;
use old_marks::OldMarks;
use reads::Reads;
use recheck::{Lanes, Place};
use rules::{Moves, join};
use scanner::{Scanner, Times};
use special::Special;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};
use workers::Workers;

/// The longest time for looks in one turn, and for forgetting places that are gone. If a turn
/// takes longer, the queue is read on in the next one.
const TURN: Duration = Duration::from_millis(2);

/// Whatever waits for longer than that to be looked at is taken to be told.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// So many places that are still to be looked at are left to the next daemon one by one.
const MOST_PENDING: usize = 1024;

/// One firing: a rule, and the event that has fired it.
#[derive(Debug)]
pub struct Hit {
    /// The number of the rule.
    pub rule: RuleId,
    /// The event, as this rule sees it.
    pub event: Event,
    /// Whether one of facron's own commands caused it.
    pub own: bool,
    /// Whether an earlier daemon may have told it.
    pub repeated: bool,
}

/// Decides whether a process is one of facron's own.
pub trait Whose {
    /// Whether `pid` is facrond, one of its commands, or a descendant of a command.
    fn is_own(&mut self, pid: i32) -> bool;

    /// Records were read, and are matched next.
    fn on_read(&mut self) {}

    /// The queue was empty: all records of events before the last [`Whose::on_read`] were
    /// matched.
    fn on_drained(&mut self) {}
}

/// The state of the kernel's queue after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// The kernel's queue is empty.
    Drained,
    /// It may have more records. Another turn is needed soon.
    More,
}

/// The errors that end the daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No fanotify group can be opened.
    #[error("cannot open a fanotify group: {}", open_help(*.0))]
    Open(#[source] Errno),
    /// The table of mounts cannot be read.
    #[error("cannot read /proc/self/mountinfo: {0}")]
    Mounts(#[source] io::Error),
    /// The fanotify group cannot be read any more.
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

/// Counters of the watch since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Records read from the kernel.
    pub read: u64,
    /// Overflows of the kernel's queue.
    pub overflows: u64,
}

/// The rules that are in force, their marks, and the tree of their places.
#[derive(Debug)]
pub struct Watch {
    mirror: Mirror,
    marks: MarkTable,
    scanner: Scanner,
    workers: Workers,
    special: Special,
    mounts: MountTable,
    backlog: Backlog,
    old_marks: Option<OldMarks>,
    /// The number of rules with a process filter.
    filtering_rules: usize,
    /// When the queue was last empty and nothing had to be looked at.
    settled: SystemTime,
    /// Until when everything is told.
    known_until: SystemTime,
    reads: Reads,
    /// Whether what fires now may have been told by an earlier process.
    repeats: bool,
    has_replayed: bool,
    counters: Counters,
}

impl Watch {
    /// Opens a watch without rules, with what the store has kept of an earlier one.
    pub fn new(mut store: DescriptorStore) -> Result<Self, Error> {
        let reads = Reads::new(&mut store);
        let marks = MarkTable::open(store).map_err(Error::Open)?;
        let moves = if marks.has_rename() { Moves::Rename } else { Moves::FromTo };
        let special = Special::new().map_err(Error::Open)?;
        let mounts = MountTable::read().map_err(Error::Mounts)?;
        let workers = Workers::new(Rc::clone(special.sources()));
        let mut mirror = Mirror::new(moves, marks.privilege());
        mirror.set_late(marks.is_taken_back());
        let mut watch = Self {
            mirror,
            marks,
            scanner: Scanner::default(),
            workers,
            special,
            mounts,
            backlog: Backlog::default(),
            old_marks: None,
            filtering_rules: 0,
            settled: SystemTime::now(),
            known_until: SystemTime::now(),
            reads,
            repeats: false,
            has_replayed: false,
            counters: Counters::default(),
        };
        if watch.has_unhandled() && !watch.has_backlog() {
            tracing::warn!(
                "what the last daemon had read is of groups that are not here any more: it is lost"
            );
            watch.forget_reads();
        }
        watch.take_mounts();
        Ok(watch)
    }

    /// Becomes readable when there are records to drain.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.marks.as_fd()
    }

    /// Other descriptors that wake the watch.
    pub fn sources(&self) -> &Sources {
        self.special.sources()
    }

    /// Becomes readable out of band (`POLLPRI`) when mounts change.
    pub fn mounts_fd(&self) -> BorrowedFd<'_> {
        self.mounts.as_fd()
    }

    /// The kind of groups that the kernel gives to this process.
    pub fn privilege(&self) -> Privilege {
        self.marks.privilege()
    }

    /// The counters since the start of the watch.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The number of inode marks.
    pub fn marks(&self) -> u64 {
        self.marks.count().0
    }

    /// The number of file system marks.
    pub fn fs_marks(&self) -> usize {
        self.marks.count().1
    }

    /// Whether there is a rule with a process filter.
    pub fn has_process_filters(&self) -> bool {
        self.filtering_rules > 0
    }

    /// Adds a rule, or replaces the one with this number. When this returns, the marks on its
    /// path are in the kernel, but where a server has to answer first ([`Watch::pending`]).
    /// Those in its tree follow in this turn or the next ones ([`Watch::is_taking_in`]).
    ///
    /// What the rule has missed is told later, see [`Watch::work`].
    pub fn attach(&mut self, id: RuleId, spec: Rc<RuleSpec>, missed: Option<Missed>) -> &PathState {
        self.filtering_rules += usize::from(filters_processes(&spec));
        let missed = missed.map(|missed| Missed { since: missed.since.map(before), ..missed });
        let (slot, before) = self.mirror.attach(id, spec, missed);
        self.special.attach(slot, &self.mirror, self.marks.privilege());
        self.look_at_all();
        if let Some(before) = before {
            // The old rule goes last, so that marks for both stay in place all the time.
            while self.look_at_next(Lanes::New) {}
            self.give_back(before);
        } else {
            self.look_for(TURN, Lanes::New);
        }
        self.give_back_memory();
        if let Some(target) = self.mirror.rules[slot].target.filter(|_| !self.workers.is_empty()) {
            // The path may be known already, although its server does not answer now.
            let path = self.mirror.tree.path(target);
            let check = self.workers.check(&path);
            self.ask_workers();
            let is_asked = check.is_some_and(|check| self.workers.is_checking(check));
            if is_asked || self.workers.why(&path).is_some() {
                self.mirror.suspend_rule(slot, &self.workers.wait_at(&path));
            }
        }
        self.state_of(slot)
    }

    /// Whether the trees of rules that were added are still being read.
    pub fn is_taking_in(&self) -> bool {
        self.mirror.is_taking_in()
    }

    /// Removes a rule, with the marks on its path that only this rule needed. Those of its tree
    /// go in this turn or the next ones.
    pub fn detach(&mut self, id: RuleId) {
        if let Some(slot) = self.mirror.rules.slot(id) {
            self.give_back(slot);
        }
    }

    fn give_back(&mut self, slot: Slot) {
        self.filtering_rules -= usize::from(filters_processes(&self.mirror.rules[slot].spec));
        self.special.detach(slot);
        self.leave_file_systems(slot);
        let has_others = self.mirror.is_due();
        self.mirror.detach(slot);
        self.look_at_all();
        let started = Instant::now();
        while !has_others && started.elapsed() < TURN && (self.look_at_next(Lanes::Due) || self.forget_some())
        {
        }
    }

    /// Whether a rule can fire; `None` if it is not attached.
    pub fn state(&self, id: RuleId) -> Option<&PathState> {
        self.mirror.rules.slot(id).map(|slot| self.state_of(slot))
    }

    fn state_of(&self, slot: Slot) -> &PathState {
        self.special.refusal(slot).unwrap_or(&self.mirror.rules[slot].state)
    }

    /// How a recursive rule watches its tree, for people; `None` for other rules.
    pub fn strategy(&self, id: RuleId) -> Option<&'static str> {
        let rule = &self.mirror.rules[self.mirror.rules.slot(id)?];
        let strategy = match rule.file_system {
            Some(_) => "one mark on the file system",
            None => "one mark a directory",
        };
        rule.spec.options.recursive.then_some(strategy)
    }

    /// Whether there are looks in the background, or rules that catch up and have room for more
    /// events.
    pub fn has_work(&self, room: &dyn Fn(RuleId) -> usize) -> bool {
        self.mirror.recheck.has_background() || self.mirror.can_catch_up(room)
    }

    /// Does some looks of the background, or lets rules catch up.
    pub fn work(&mut self, room: &dyn Fn(RuleId) -> usize) {
        if self.mirror.recheck.has_background() {
            self.look_for(TURN, Lanes::Background);
        } else {
            let started = Instant::now();
            while started.elapsed() < TURN && self.catch_up_some(room) {}
        }
        self.scanner.rest();
    }

    /// Takes one step. Returns whether another one can be taken at once.
    fn catch_up_some(&mut self, room: &dyn Fn(RuleId) -> usize) -> bool {
        if let Some(batch) = self.mirror.next_missed(room) {
            let changed = self.may_have_changed(&batch);
            self.mirror.take_changed(&batch, changed.as_deref());
        } else {
            // A directory is read at once where nobody has to be waited for.
            self.look_among(Lanes::Due);
        }
        self.mirror.can_catch_up(room)
    }

    /// Which entries may have changed, if that can be known without asking a server.
    fn may_have_changed(&mut self, batch: &Batch) -> Option<Vec<Times>> {
        let Mirror { tree, .. } = &self.mirror;
        let handle = if tree.has(batch.dir) { tree.handle(batch.dir) } else { None }?;
        let path = tree.path(batch.dir);
        if self.workers.is_served(&path) {
            return None;
        }
        let inode = (handle.fs, handle.bytes.into());
        self.scanner.may_have_changed(&path, &inode, batch.entries(), batch.changed_since()?)
    }

    /// The directories in the tree of a recursive rule; of others none.
    pub fn directories_of(&self, id: RuleId) -> Directories {
        let Mirror { tree, rules, .. } = &self.mirror;
        let slot = rules.slot(id).filter(|slot| rules[*slot].spec.options.recursive);
        let numbers = slot.map_or_else(Vec::new, |slot| CatchUp::directories(slot, tree, rules));
        Directories { time: self.known_until, numbers }
    }

    /// The places that are still to be looked at, if these are not many and no server has to answer.
    pub fn pending_places(&self) -> Option<Vec<Vec<u8>>> {
        let Mirror { tree, recheck, .. } = &self.mirror;
        let is_known = !self.workers.are_busy() && recheck.len() <= MOST_PENDING;
        let path = |place: &Place| tree.has(place.dir).then(|| join(&tree.path(place.dir), &place.name));
        is_known.then(|| recheck.places().filter_map(path).collect())
    }

    /// A rule that catches up need not be told of a path whose last change is not after that time.
    pub fn note_told(&mut self, id: RuleId, path: &Rc<[u8]>, time: SystemTime) {
        if let Some(slot) = self.mirror.rules.slot(id) {
            self.mirror.note_told(slot, path, time);
        }
    }

    /// Until when everything is told that has happened, but for servers that have not answered.
    pub fn known_until(&self) -> SystemTime {
        self.known_until
    }

    /// How far rules have caught up.
    pub fn progress(&self) -> Progress {
        self.mirror.catch_up.progress()
    }

    /// The rules that have caught up since the last call.
    pub fn take_caught_up(&mut self) -> Vec<RuleId> {
        self.mirror.catch_up.take_over()
    }

    /// When [`Watch::drain`] has work, if nothing else happens before.
    pub fn next_due(&self) -> Option<Instant> {
        if self.has_due() {
            return Some(Instant::now());
        }
        self.next_timer()
    }

    fn has_due(&self) -> bool {
        self.mirror.is_due() || (self.mirror.catch_up.is_unsettled() && !self.workers.are_busy())
    }

    /// Whether that time has come.
    pub fn is_due(&self, now: Instant) -> bool {
        self.has_due() || self.next_timer().is_some_and(|due| due <= now)
    }

    fn next_timer(&self) -> Option<Instant> {
        [self.mirror.next_due(), self.workers.next_due()].into_iter().flatten().min()
    }

    /// Mounts have changed. Everything that rules see at and below mount points is looked at
    /// again. Files that were on a file system before it was mounted are no events.
    ///
    /// A file system that is unmounted and mounted again at once can leave an equal table.
    /// So all mount points are looked at.
    pub fn on_mounts(&mut self) -> io::Result<()> {
        let since = before(self.settled);
        self.mounts.refresh()?;
        let changed = self.take_mounts();
        for point in self.mounts.take_points() {
            self.mirror.doubt(&point, since, changed.contains(&point));
        }
        self.look_for(TURN, Lanes::Due);
        self.scanner.rest();
        Ok(())
    }

    fn refresh_mounts(&mut self) {
        if let Err(error) = self.on_mounts() {
            tracing::error!(%error, "cannot read the table of mounts");
        }
    }

    /// Mounts have changed: other paths need a server. Returns where that is so.
    fn take_mounts(&mut self) -> Vec<Vec<u8>> {
        self.scanner.rest();
        self.scanner.set_mount_points(self.mounts.iter().map(|mount| mount.point.as_os_str().as_bytes()));
        let given_back = self.workers.update(self.mounts.iter());
        for fs in given_back.gone {
            // The marks went along. Another file system may have its number soon.
            self.lose_marks(fs);
        }
        for place in given_back.places {
            self.mirror.recheck.unpark(place);
        }
        for task in given_back.tasks {
            self.mirror.recheck.again(task);
        }
        for leftover in given_back.leftovers {
            self.take_away(leftover);
        }
        given_back.points
    }

    /// Where something is to be looked at before the marks of all rules are in the kernel.
    pub fn pending(&self) -> Pending {
        self.workers.pending()
    }

    /// Whether that has been done, or has to wait for a server that does not answer.
    pub fn is_over(&self, pending: &Pending) -> bool {
        self.workers.is_over(pending)
    }

    /// Asks the server of a path for a sign of life, if it has one; see
    /// [`Watch::is_checking`].
    pub fn check(&mut self, path: &Path) -> Option<u64> {
        let ticket = self.workers.check(path.as_os_str().as_bytes());
        self.ask_workers();
        ticket
    }

    /// Whether there is neither an answer to [`Watch::check`] nor a reason to give up.
    pub fn is_checking(&self, ticket: u64) -> bool {
        self.workers.is_checking(ticket)
    }

    /// Why a path cannot be looked at now, if its server does not answer.
    pub fn why_unresponsive(&self, path: &Path) -> Option<String> {
        self.workers.why(path.as_os_str().as_bytes())
    }

    /// The mounts that do not answer, as text for people.
    pub fn unresponsive_mounts(&self) -> Vec<String> {
        self.workers.names()
    }
}

/// Whether a rule's events depend on the processes that cause them. The gate looks at processes
/// by itself.
fn filters_processes(spec: &RuleSpec) -> bool {
    spec.options.process_filter.matters() && !spec.asks_permission()
}

/// A time somewhat earlier, because file times are taken from a clock that may be late.
fn before(time: SystemTime) -> SystemTime {
    time.checked_sub(CLOCK_SLACK).unwrap_or(time)
}

#[cfg(test)]
mod tests;
