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
//! | `tree` | places, their names and the inodes that are there | yes |
//! | `rules` | which rules look at which place | yes |
//! | `matcher` | from a record to firings | yes |
//! | `mirror` | changes of the tree and the rules by records and looks | yes |
//! | `recheck` | places to be looked at again, and when a look may fire | yes |
//! | `told` | the latest firings | yes |
//! | `catch_up` | the walks that look for what was missed | yes |
//! | `marks` | the groups, and all marks in the kernel | no |
//! | `backlog` | the records from before this process | yes |
//! | `reads` | what was read and is not handled | yes |
//! | `old_marks` | the marks from before this process | no |
//! | `scanner` | all looks: opening, reading, asking | no |
//! | `workers` | looking where a server has to answer, in processes of our own | no |
//! | `mount_table` | mounts | no |
//! | `special`, `mounting` | rules about file system errors and mounts | no |

mod backlog;
mod catch_up;
mod marks;
mod matcher;
mod mirror;
mod mount_table;
mod mounting;
mod old_marks;
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
use crate::events::Events;
use crate::kernel::fanotify::Privilege;
use crate::kernel::object::Object;
use crate::kernel::record::{FsId, Handle, OWN_PID, Record, Records};
use crate::kernel::sources::Sources;
use crate::service_manager::DescriptorStore;
use backlog::{Backlog, Part};
use catch_up::{Batch, CatchUp};
use facron_proto::{RuleId, Text};
use marks::{MarkTable, Noise};
use matcher::{Cause, Firing, Matcher};
use mirror::{Fired, Mirror};
use mount_table::{CLOCK_SLACK, MountTable};
use nix::errno::Errno;
use old_marks::OldMarks;
use reads::Reads;
use recheck::{Change, Lanes, Place, Task};
use rules::{Moves, join};
use scanner::{Answer, Scanner, Times};
use special::Special;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};
use tree::{Content, ROOT};
use workers::{Answered, Leftover, Workers};

/// The greatest number of reads in one turn. Then other tasks get their turn, even if the
/// kernel's queue is not empty.
const READS_PER_TURN: usize = 16;

/// The longest time for looks in one turn, and for forgetting places that are gone. If a turn
/// takes longer, the queue is read on in the next one.
const TURN: Duration = Duration::from_millis(2);

/// Whatever waits for longer than that to be looked at is taken to be told.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// So many places that are still to be looked at are left to the next daemon one by one.
const MOST_PENDING: usize = 1024;

/// The number of places that are gone and are forgotten before the clock is asked again.
const BURIED_AT_ONCE: usize = 64;

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

    /// Reads the kernel's queues, and adds the firings to `hits` in order.
    pub fn drain(&mut self, whose: &mut dyn Whose, hits: &mut Vec<Hit>) -> Result<Queue, Error> {
        self.on_answers();
        whose.on_read();
        let started = Instant::now();
        let mut buffer = std::mem::take(&mut self.reads);
        let mut result = Ok(Queue::More);
        for reads in 0..READS_PER_TURN {
            if reads > 0 && started.elapsed() > TURN {
                break;
            }
            match self.read_all(&mut buffer, whose, hits) {
                Ok(true) => {}
                Ok(false) => {
                    whose.on_drained();
                    if !self.settle(whose, hits) {
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
        self.scanner.rest();
        self.reads = buffer;
        result
    }

    /// Reads once from each group. Returns whether there were records.
    fn read_all(
        &mut self,
        reads: &mut Reads,
        whose: &mut dyn Whose,
        hits: &mut Vec<Hit>,
    ) -> Result<bool, Errno> {
        if self.marks.is_taken_back() {
            // The records of that time are about directories that have to be known by then.
            let is_busy = self.is_taking_in() && self.look_for(TURN, Lanes::New);
            if is_busy || self.read_backlog(reads, whose, hits)? {
                return Ok(true);
            }
        }
        let mut fired = Vec::new();
        let special = self.special.read(reads.spare(), &self.mirror, &mut fired)?;
        self.counters.read += special;
        hits.extend(fired.into_iter().map(|fired| hit(fired, whose, false)));
        let mut some = special > 0;
        for index in 0..self.marks.groups().len() {
            let room = reads.room(self.marks.groups().fs(index));
            match self.marks.groups().read(index, room) {
                Ok(Some((fs, bytes))) => {
                    whose.on_read();
                    let (len, own) = (bytes.len(), self.on_bytes(bytes, fs, whose, hits));
                    reads.keep(len, &own);
                    some = true;
                }
                Ok(None) => {}
                Err(Errno::EINTR) => some = true,
                Err(errno) => return Err(errno),
            }
        }
        Ok(some)
    }

    /// Whether records of the time before this process are still to be matched.
    pub fn has_backlog(&self) -> bool {
        self.marks.is_taken_back()
    }

    /// Reads from each group that was taken back, until their queues are empty, and then
    /// matches what was read. Returns whether there was something to do.
    fn read_backlog(
        &mut self,
        reads: &mut Reads,
        whose: &mut dyn Whose,
        hits: &mut Vec<Hit>,
    ) -> Result<bool, Errno> {
        if self.backlog.is_reading() {
            let mut some = false;
            if !std::mem::replace(&mut self.has_replayed, true) {
                for read in reads.earlier() {
                    self.backlog.add(read, true, &self.mirror);
                }
            }
            for index in 0..self.marks.groups().len() {
                let room = reads.room(self.marks.groups().fs(index));
                match self.marks.groups().read(index, room) {
                    Ok(Some(read)) => {
                        whose.on_read();
                        let len = read.1.len();
                        self.backlog.add(read, false, &self.mirror);
                        reads.keep(len, &[]);
                        some = true;
                    }
                    Ok(None) => {}
                    Err(Errno::EINTR) => some = true,
                    Err(errno) => return Err(errno),
                }
            }
            if !some || self.backlog.is_full() {
                let departures = self.backlog.end_reading();
                self.mirror.recall(&departures);
            }
            return Ok(true);
        }
        if let Some(Part { fs, bytes, is_repeated }) = self.backlog.next() {
            let first = hits.len();
            self.on_bytes(&bytes, fs, whose, hits);
            for hit in &mut hits[first..] {
                hit.repeated = is_repeated;
            }
            self.repeats |= is_repeated;
            return Ok(true);
        }
        let is_more = self.backlog.end_part();
        if !is_more {
            tracing::info!(records = self.counters.read, "told what happened while the daemon did not run");
            if self.marks.forget_newcomers() && self.counters.overflows == 0 {
                self.mirror.catch_up.trust_records();
            }
            self.mirror.set_late(false);
            self.old_marks = Some(OldMarks::of(&self.marks));
        }
        Ok(is_more)
    }

    /// A directory came while nobody watched: it had no mark, so no records tell of what came
    /// into it.
    fn read_newcomer(&mut self, record: &Record<'_>) {
        let events = Events::from_mask(record.mask);
        let comes = record.new.is_some() || events.intersects(Events::CREATE.with(Events::MOVED_TO));
        if comes
            && events.contains(Events::ONDIR)
            && let Some(object) = record.object
            && self.marks.take_newcomer(object)
        {
            self.mirror.read_as_news(object);
        }
    }

    /// Compares some marks of the earlier process with those that are needed. Returns whether
    /// there are more.
    fn compare_old_marks(&mut self) -> bool {
        let Self { old_marks: Some(old), marks, mirror, scanner, mounts, .. } = self else { return false };
        let started = Instant::now();
        while started.elapsed() < TURN {
            if !old.compare_next(marks, mirror, (scanner, mounts)) {
                self.old_marks = None;
                return false;
            }
        }
        true
    }

    /// Returns where the records are that we have caused ourselves.
    fn on_bytes(&mut self, bytes: &[u8], fs: FsId, whose: &mut dyn Whose, hits: &mut Vec<Hit>) -> Vec<usize> {
        let (mut fired, mut ours) = (Vec::new(), Vec::new());
        let mut records = Records::new(bytes, fs);
        loop {
            let (at, first) = (bytes.len() - records.rest(), hits.len());
            let Some(record) = records.next() else { return ours };
            self.counters.read += 1;
            match record {
                Ok(record) if record.mask & Events::Q_OVERFLOW.mask() != 0 => self.on_overflow(hits),
                Ok(mut record) => {
                    let was_own = record.pid == OWN_PID;
                    record.pid = record.pid.max(0);
                    self.workers.note(&record);
                    self.learn_directories(&record);
                    let mut is_own = None;
                    let mut own = || *is_own.get_or_insert_with(|| was_own || whose.is_own(record.pid));
                    self.mirror.on_record(&record, &mut own, &mut fired);
                    hits.extend(fired.drain(..).map(|fired| hit(fired, whose, was_own)));
                    if is_own == Some(true) || hits[first..].iter().any(|hit| hit.own) {
                        ours.push(at);
                    }
                    if self.marks.is_taken_back() {
                        self.read_newcomer(&record);
                    }
                }
                Err(malformed) => tracing::error!("{malformed}"),
            }
        }
    }

    /// The kernel's queue is empty. Fires the finds of earlier looks, and looks at places that
    /// are due. Returns whether the queue must be read again.
    fn settle(&mut self, whose: &mut dyn Whose, hits: &mut Vec<Hit>) -> bool {
        let now = SystemTime::now();
        let mut fired = Vec::new();
        self.mirror.on_drained(&mut fired);
        let found = fired.into_iter().map(|fired| hit(fired, whose, false));
        hits.extend(found.map(|hit| Hit { repeated: self.repeats, ..hit }));
        let has_looked = self.look_for(TURN, Lanes::Due);
        self.forget_some();
        if has_looked || self.mirror.is_due() {
            return true;
        }
        if self.mounts.has_changed() {
            // Marks may have been lost: the turn is not settled.
            self.refresh_mounts();
            return true;
        }
        self.special.follow_paths(&self.mirror, &self.scanner, &self.workers);
        self.workers.note_rest();
        let is_idle = self.mirror.recheck.is_empty();
        self.known_until = if is_idle { now } else { self.known_until.max(now - LONGEST_LOOK) };
        if !self.workers.are_looking() {
            self.marks.collect();
        }
        if !self.workers.are_busy() {
            if self.compare_old_marks() {
                return true;
            }
            self.mirror.on_settled(now);
            self.repeats = false;
            self.give_back_memory();
            self.settled = now;
        }
        false
    }

    /// Whether something that was read has to outlive this process.
    pub fn has_unhandled(&self) -> bool {
        !self.reads.are_handled()
    }

    /// All events so far have led to changes of the store up to this one. What was read before
    /// need not outlive this process when that is written.
    pub fn on_handled(&mut self, change: u64, is_written: &dyn Fn(u64) -> bool) {
        let now = Instant::now();
        let matched_until = match self.mirror.recheck.is_empty() {
            _ if self.marks.is_taken_back() => None,
            true => Some(now),
            false => now.checked_sub(LONGEST_LOOK),
        };
        self.reads.on_matched(matched_until, change);
        self.reads.free(is_written);
    }

    /// All that was read is kept elsewhere.
    pub fn forget_reads(&mut self) {
        self.reads.forget();
    }

    /// Fires what looks have found, and does those that are due, although there may be more
    /// records: nobody will read them before this process ends.
    pub fn settle_unread(&mut self, whose: &mut dyn Whose, hits: &mut Vec<Hit>, time: Duration) {
        let (started, known_until) = (Instant::now(), self.known_until);
        while self.settle(whose, hits) && started.elapsed() < time {}
        self.known_until = known_until;
        self.scanner.rest();
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

    fn look_for(&mut self, time: Duration, lanes: Lanes) -> bool {
        let started = Instant::now();
        let mut has_looked = false;
        while started.elapsed() < time && self.look_at_next(lanes) {
            has_looked = true;
        }
        has_looked
    }

    /// Does all looks on the path of a rule which comes or goes. The places of others wait for
    /// their turn.
    fn look_at_all(&mut self) {
        let others = self.mirror.passing();
        while self.mirror.pass_some(others) || self.look_among(Lanes::Fresh) {}
        self.special.follow_paths(&self.mirror, &self.scanner, &self.workers);
        self.give_back_memory();
    }

    /// Closes what looks have left open. To be called after the last of a series of calls: an
    /// open descriptor on a mount makes its unmount fail.
    pub fn rest(&mut self) {
        self.scanner.rest();
    }

    fn give_back_memory(&mut self) {
        if self.mirror.recheck.take_shrunk() {
            crate::kernel::memory::give_back();
        }
    }

    /// Looks at one place. Returns whether there was one.
    fn look_at_next(&mut self, lanes: Lanes) -> bool {
        self.mirror.pass_some(0) || self.look_among(lanes)
    }

    fn look_among(&mut self, lanes: Lanes) -> bool {
        let Some(task) = self.mirror.take_task(Instant::now(), lanes) else { return false };
        self.look(task);
        true
    }

    fn look(&mut self, task: Task) {
        let probe = self.mirror.probe(&task);
        if !self.workers.is_empty() {
            let path = join(&probe.path, &probe.name);
            if self.workers.is_served(&path) {
                let place = task.place.clone();
                if self.mirror.park(task, &self.workers.wait_at(&path)) {
                    self.workers.park(&path, place);
                    self.ask_workers();
                }
                return;
            }
        }
        let answer = self.scanner.look(&mut self.marks, &probe);
        self.apply(task, answer, SystemTime::now());
    }

    fn apply(&mut self, task: Task, answer: Answer, looked: SystemTime) {
        if let Answer::Found(found) = &answer
            && found.was_lost
        {
            self.lose_marks(found.facts.object.0);
        }
        self.mirror.apply(task, answer, (Instant::now(), looked));
        self.follow_file_systems();
    }

    /// The marks of a file system are gone: it was mounted again.
    fn lose_marks(&mut self, fs: FsId) {
        let lost = self.mirror.lose_marks(fs);
        self.marks.lose(fs, lost);
        if self.marks.has_file_system(fs)
            && let Some(object) = open_on(fs, &self.mirror, &self.scanner, &self.workers)
        {
            self.marks.mark_file_system_again(fs, &object);
        }
    }

    /// Sends to the workers what they are free for.
    fn ask_workers(&mut self) {
        for answered in self.workers.ask(&mut self.mirror, &mut self.marks, &self.scanner) {
            self.apply(answered.task, answered.answer, answered.asked);
        }
    }

    /// A worker has looked. What was found counts if the same would be asked now.
    fn on_answered(&mut self, answered: Answered) {
        let Answered { mut task, probe, group, asked, epoch, answer, was_seen } = answered;
        let is_current = epoch == self.workers.epoch() && self.mirror.is_current(&task, &probe);
        let mut again = None;
        if let Answer::Found(found) = &answer {
            let object = &found.facts.object;
            let is_known = probe.known.as_ref() == Some(object);
            let before = if is_known && !found.was_lost { probe.marked } else { 0 };
            let marked = found.marked.unwrap_or(before);
            if is_current {
                self.marks.count_change(group, object.0, before, marked);
                let is_more = !is_known || found.was_lost || marked & !probe.marked != 0;
                if was_seen && is_more && found.entries.is_some() {
                    again.clone_from(&task.change);
                }
            } else {
                if found.was_lost {
                    // The next look finds the mark that this one has made.
                    self.lose_marks(object.0);
                    if let Some(change) = &mut task.change {
                        change.sweep = true;
                    }
                }
                // The mark was changed all the same.
                let known = is_known.then_some(marked);
                if let Some((had, has)) = self.mirror.note_mark(found.handle(), known, marked) {
                    self.marks.count_change(group, object.0, had, has);
                } else {
                    // If no worker takes it, the mark is gone with its file system.
                    let path = join(&probe.path, &probe.name);
                    let (key, mask) = (object.clone(), marked);
                    self.workers.take_leftover(Leftover::Unknown { key, mask, path });
                }
            }
        }
        let place = task.place.clone();
        if is_current {
            self.apply(task, answer, asked);
        } else {
            self.mirror.recheck.on_stale(task);
        }
        if let Some(change) = again {
            self.mirror.read_again(&place, change, asked);
        }
    }

    /// Applies the decisions for and against marks on file systems.
    fn follow_file_systems(&mut self) {
        for slot in self.mirror.take_unmarked() {
            self.leave_file_systems(slot);
        }
        for slot in self.mirror.take_large() {
            self.go_large(slot);
        }
    }

    fn leave_file_systems(&mut self, slot: Slot) {
        let Self { marks, mirror, scanner, workers, .. } = self;
        marks.leave_file_systems(slot, |fs| open_on(fs, mirror, scanner, workers));
    }

    /// Marks the whole file system of a large tree. The rest of the tree is read in the
    /// background.
    fn go_large(&mut self, slot: Slot) {
        let rule = &self.mirror.rules[slot];
        let target = rule.target.filter(|_| self.privilege() == Privilege::Full);
        let Some((fs, path)) = target
            .and_then(|target| Some((self.mirror.tree.handle(target)?.fs, self.mirror.tree.path(target))))
        else {
            return;
        };
        let mask = rule.masks.below | rule.masks.directory;
        let opened =
            if self.workers.is_served(&path) { Err(Errno::EOPNOTSUPP) } else { self.scanner.open(&path) };
        let marked = opened.and_then(|object| self.marks.mark_file_system(fs, &object, mask, slot));
        match marked {
            Ok(()) => {
                let path = Text::from(rule.spec.path.as_os_str().as_bytes());
                tracing::info!(%path, "a large tree: its whole file system is marked");
                self.mirror.serve_by(slot, fs);
            }
            Err(errno) => {
                tracing::debug!(error = errno.desc(), "this file system cannot be marked as a whole");
            }
        }
    }

    /// Forgets some places that are gone, and removes their marks. Returns whether there were
    /// any.
    fn forget_some(&mut self) -> bool {
        let started = Instant::now();
        let mut has_forgotten = false;
        while started.elapsed() < TURN && self.forget_few() {
            has_forgotten = true;
        }
        self.ask_workers();
        has_forgotten
    }

    fn forget_few(&mut self) -> bool {
        let mut is_more = self.mirror.bury_some(BURIED_AT_ONCE);
        while let Some(orphan) = self.mirror.take_orphan() {
            self.take_away(Leftover::Orphan(orphan));
            is_more = true;
        }
        is_more
    }

    /// Takes a mark away that nothing needs, or has a worker do it.
    fn take_away(&mut self, leftover: Leftover) {
        if let Some(Leftover::Orphan(orphan)) = self.workers.take_leftover(leftover)
            && self.mirror.is_orphan(&orphan)
        {
            self.scanner.reduce(&mut self.marks, &orphan.key, orphan.marked, 0, orphan.beside.as_slice());
            self.mirror.forget_orphan(&orphan);
        }
    }

    /// Examines the directories of a record that are on a marked file system and not known. They
    /// may be in a tree.
    fn learn_directories(&mut self, record: &Record<'_>) {
        for entry in [record.old, record.new, record.entry].into_iter().flatten() {
            if self.marks.has_file_system(entry.dir.fs) && self.mirror.tree.places(entry.dir).next().is_none()
            {
                self.learn(entry.dir);
            }
        }
    }

    fn learn(&mut self, dir: Handle<'_>) {
        let noise = self.marks.count_foreign(dir);
        if noise == Noise::Foreign {
            return;
        }
        let mut beside = self.mirror.paths_on(dir.fs).filter(|path| !self.workers.is_served(path));
        let found = beside.find_map(|beside| Scanner::path_of(dir, &beside));
        drop(beside);
        // There are no more events of a directory that is gone.
        let Some((object, path)) = found else { return };
        if noise == Noise::Busy {
            return self.marks.ignore(dir.fs, &object);
        }
        self.take_in(&path);
        if self.mirror.tree.places(dir).next().is_none() {
            self.marks.remember_foreign(dir);
        }
    }

    /// Adds a directory, and the directories above it, if it is in a tree.
    fn take_in(&mut self, path: &[u8]) {
        let mut at = ROOT;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            let known = |mirror: &Mirror| {
                mirror.tree.child(at, name).filter(|node| mirror.tree[*node].content == Content::Directory)
            };
            if known(&self.mirror).is_none() && self.mirror.rules.knows_children(&self.mirror.tree, at) {
                let place = Place { dir: at, name: name.into() };
                let change = Some(Change::default());
                self.look(Task { look: 0, place, change, is_arrival: false, tries: 1 });
            }
            match known(&self.mirror) {
                Some(node) => at = node,
                None => return,
            }
        }
    }

    /// The kernel has dropped records. Rules with `FAN_Q_OVERFLOW` fire, and everything that
    /// rules see is looked at.
    fn on_overflow(&mut self, hits: &mut Vec<Hit>) {
        self.counters.overflows += 1;
        tracing::error!(
            "the kernel's event queue overflowed: looking for what was missed \
             (/proc/sys/fs/fanotify/max_queued_events)"
        );
        let events = Events::Q_OVERFLOW;
        let cause = Cause { time: SystemTime::now(), events, pid: 0, synthetic: false, object: None };
        let Mirror { tree, rules, .. } = &self.mirror;
        let matcher = Matcher { tree, rules, former: None };
        for (slot, rule) in rules.iter().filter(|(_, rule)| rule.spec.events.contains(events)) {
            let event = matcher.event(&Firing { slot, matched: events, place: None }, &cause, None);
            hits.push(Hit { rule: rule.id, event, own: false, repeated: false });
        }
        self.mirror.sweep(before(self.settled));
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

    /// Takes over what workers have answered, and makes up for the time without an answer.
    fn on_answers(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        let received = self.workers.receive();
        if !received.answered.is_empty() && self.mounts.has_changed() {
            // It may have been another file system that was looked at.
            self.refresh_mounts();
        }
        for answered in received.answered {
            self.on_answered(answered);
        }
        for look in received.lost {
            if let Some((fs, bytes)) = &look.probe.known
                && let Some((had, has)) = self.mirror.note_mark(Handle { fs: *fs, bytes }, Some(0), 0)
            {
                // It may have been changed, or not.
                self.marks.count_change(look.group, *fs, had, has);
            }
            self.mirror.recheck.again(look.task);
        }
        for point in received.alive {
            self.mirror.resume_rules(&point);
        }
        for (point, silence) in received.awake {
            self.mirror.doubt(&point, before(silence.settled.min(silence.began)), true);
        }
        for (points, places) in self.workers.take_fallen(self.settled) {
            for point in points {
                if let Some(why) = self.workers.why(&point) {
                    self.mirror.suspend_rules(&point, &why);
                    for place in &places {
                        self.mirror.suspend_place(place, &why);
                    }
                }
            }
        }
        self.ask_workers();
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

/// Opens some directory on a file system that no server has to answer for.
fn open_on(fs: FsId, mirror: &Mirror, scanner: &Scanner, workers: &Workers) -> Option<Object> {
    let mut paths = mirror.paths_on(fs).filter(|path| !workers.is_served(path));
    paths.find_map(|path| scanner.open(&path).ok())
}

/// A time somewhat earlier, because file times are taken from a clock that may be late.
fn before(time: SystemTime) -> SystemTime {
    time.checked_sub(CLOCK_SLACK).unwrap_or(time)
}

fn hit(fired: Fired, whose: &mut dyn Whose, was_own: bool) -> Hit {
    let Fired { rule, event, own } = fired;
    let own = own.unwrap_or_else(|| was_own || whose.is_own(event.pid));
    Hit { rule, event, own, repeated: false }
}

#[cfg(test)]
mod tests;
