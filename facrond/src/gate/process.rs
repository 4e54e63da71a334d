//! The gate's own process: one thread, which reads, decides or asks, and answers.
//!
//! It never waits for anything but poll(2): not for the daemon, not for a disk. What
//! it opens, it opens by `O_PATH` or in `/proc`, for which no permission is asked;
//! anything else could be held up by the gate itself.

mod decide;

use super::message::{By, Extent, Notice, Order, Totals};
use super::notices::Notices;
use super::questions::Questions;
use super::rule_index::RuleIndex;
use super::verdict_cache::{Stuck, VerdictCache};
use crate::helper::Channel;
use crate::kernel::confine;
use crate::kernel::object::{Object, Paths};
use crate::kernel::permission::{EVENTS_PER_READ, Group, Told};
use crate::process::ancestry::Ancestry;
use facron_proto::RuleId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Open files that are enough for everybody who waits at a time.
const FILES: u64 = 65_536;

/// Descriptors for anything but events.
const RESERVE: usize = 16;

/// The kernel ends the gate when it has not come back to its loop for this long.
const STALL: Duration = Duration::from_secs(5);

/// How often the kernel is told that it has.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Why it ends.
#[derive(Debug)]
enum End {
    /// Nobody is left to ask.
    DaemonGone,
    /// Only a new gate can go on: its group ends with it.
    Broken,
}

impl From<Stuck> for End {
    fn from(_: Stuck) -> Self {
        Self::Broken
    }
}

/// `facrond gate`: for the daemon of this pid.
pub fn run(daemon: i32) -> ExitCode {
    let Ok(channel) = Channel::of_helper() else { return ExitCode::FAILURE };
    let (kernel, files) = match prepare() {
        Ok(prepared) => prepared,
        Err(errno) => {
            // Without it the daemon takes this for a crash, which is as good.
            let _ = channel.send(&Notice::Unfit(errno as i32), None);
            return ExitCode::FAILURE;
        }
    };
    let mut gate = Gate::new(channel, kernel, daemon, files);
    gate.notices.push(Notice::Ready);
    let end = loop {
        if let Err(end) = gate.turn() {
            break end;
        }
        gate.wait();
    };
    match end {
        End::DaemonGone => {
            gate.answer_all();
            ExitCode::SUCCESS
        }
        End::Broken => ExitCode::FAILURE,
    }
}

/// Opens the group, and gives up all that is not needed from then on.
fn prepare() -> Result<((Group, Paths), usize), Errno> {
    confine::ignore_requests_to_end()?;
    let files = confine::raise_file_limit(FILES)?;
    let paths = Paths::new()?;
    let group = Group::open()?;
    confine::keep_capabilities(&[
        confine::CAP_DAC_READ_SEARCH,
        confine::CAP_SYS_PTRACE,
        confine::CAP_SYS_ADMIN,
    ])?;
    confine::forbid_new_processes()?;
    Ok(((group, paths), usize::try_from(files).unwrap_or(usize::MAX)))
}

#[derive(Debug)]
struct Gate {
    channel: Channel,
    group: Group,
    paths: Paths,
    index: RuleIndex,
    questions: Questions,
    cache: VerdictCache,
    ancestry: Ancestry,
    notices: Notices,
    totals: Totals,
    told: Vec<Told>,
    /// The first error of the kernel for each rule since it was placed last.
    refused: BTreeMap<RuleId, i32>,
    /// How many may wait for commands at a time.
    capacity: usize,
    is_daemon_gone: bool,
    last_sign_of_life: Instant,
    ready: Ready,
}

/// What there is to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ready {
    events: bool,
    orders: bool,
}

impl Gate {
    fn new(channel: Channel, (group, paths): (Group, Paths), daemon: i32, files: usize) -> Self {
        confine::end_after(STALL);
        Self {
            channel,
            group,
            paths,
            index: RuleIndex::default(),
            questions: Questions::default(),
            cache: VerdictCache::default(),
            ancestry: Ancestry::new(daemon),
            notices: Notices::default(),
            totals: Totals::default(),
            told: Vec::with_capacity(EVENTS_PER_READ),
            refused: BTreeMap::new(),
            capacity: files.saturating_sub(RESERVE + 2 * EVENTS_PER_READ).max(1),
            is_daemon_gone: false,
            last_sign_of_life: Instant::now(),
            ready: Ready::default(),
        }
    }

    fn turn(&mut self) -> Result<(), End> {
        if self.ready.orders {
            self.take_orders()?;
        }
        if self.ready.events {
            self.read_events()?;
        }
        let now = Instant::now();
        while let Some(question) = self.questions.overdue(now) {
            self.decide(question, None, By::Deadline);
        }
        for lost in self.cache.expire(&self.group, now)? {
            self.notices.push(Notice::Find(lost));
        }
        self.notices.flush(&self.channel, &self.questions, self.totals).map_err(|_| End::DaemonGone)
    }

    /// Waits for something to do; the kernel knows meanwhile that all is well.
    fn wait(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.last_sign_of_life) >= SIGN_OF_LIFE {
            confine::end_after(STALL);
            self.last_sign_of_life = now;
        }
        let times = [self.questions.time_left(now), self.cache.time_left(now), self.notices.time_left(now)];
        let time = times.into_iter().flatten().min();
        self.ready = self.poll(Some(time.unwrap_or(SIGN_OF_LIFE).min(SIGN_OF_LIFE)));
        if self.ready == Ready::default()
            && time.is_none_or(|time| time > SIGN_OF_LIFE)
            && self.questions.holds() == 0
        {
            // Nobody waits: there is no stalling, and no need to wake up.
            confine::end_after(Duration::ZERO);
            self.ready = self.poll(time);
            confine::end_after(STALL);
            self.last_sign_of_life = Instant::now();
        }
    }

    fn poll(&self, time: Option<Duration>) -> Ready {
        let line = if self.notices.is_blocked() {
            PollFlags::POLLIN | PollFlags::POLLOUT
        } else {
            PollFlags::POLLIN
        };
        let mut fds =
            [PollFd::new(self.group.as_fd(), PollFlags::POLLIN), PollFd::new(self.channel.as_fd(), line)];
        // Rounded up, or the last millisecond would be spent in circles.
        let timeout =
            time.map(|time| PollTimeout::try_from(time.as_millis() + 1).unwrap_or(PollTimeout::MAX));
        if poll(&mut fds, timeout.unwrap_or(PollTimeout::NONE)).is_err() {
            return Ready::default();
        }
        let [events, orders] = fds.map(|fd| fd.any().unwrap_or(true));
        Ready { events, orders }
    }

    fn take_orders(&mut self) -> Result<(), End> {
        loop {
            match self.channel.receive() {
                Ok(Some((order, fd))) => self.obey(order, fd)?,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EBADMSG) => return Err(End::Broken),
                Ok(None) | Err(_) => return Err(End::DaemonGone),
            }
        }
    }

    fn obey(&mut self, order: Order, fd: Option<OwnedFd>) -> Result<(), End> {
        let object = fd.and_then(|fd| Object::of(fd).ok());
        match order {
            Order::Rule(rule) => {
                self.forget_verdicts();
                self.index.insert(*rule);
            }
            Order::Mark { rule, below } => self.mark(rule, object.as_ref(), below.as_bytes()),
            Order::Placed { rule, extent, number } => {
                if extent == Extent::Whole {
                    self.index.settle(rule);
                }
                self.notices.push(Notice::Placed { number, refused: self.refused.remove(&rule) });
            }
            Order::Forget(rule) => {
                self.forget_verdicts();
                self.refused.remove(&rule);
                self.index.remove(rule);
            }
            Order::Unmark { mask } => {
                if let Some(object) = object {
                    // A mark that stays costs time, and nothing else.
                    let _ = self.group.remove_mark(&object, mask & !self.index.needed(object.inode()));
                }
            }
            Order::Gone { rule, below } => self.index.forget_below(rule, below.as_bytes()),
            Order::Decided { question, verdict } => self.decide(question, verdict, By::Failure),
            Order::Found(number) => self.cache.found(&self.group, number, object.as_ref())?,
            Order::Count(number) => {
                self.notices.push(Notice::Counted { number, totals: self.totals });
            }
        }
        Ok(())
    }

    fn forget_verdicts(&mut self) {
        for lost in self.cache.clear(&self.group, Instant::now()) {
            self.notices.push(Notice::Find(lost));
        }
    }

    fn mark(&mut self, rule: RuleId, object: Option<&Object>, below: &[u8]) {
        let result = object.ok_or(Errno::EMFILE).and_then(|object| {
            let mask = self.index.add_place(object, rule, below).ok_or(Errno::ENOENT)?;
            self.group.add_mark(object, mask)
        });
        if let Err(errno) = result {
            if let Some(object) = object {
                self.index.remove_place(object.inode(), rule);
            }
            self.refused.entry(rule).or_insert(errno as i32);
        }
    }

    /// One read: others have their turn between two of them.
    fn read_events(&mut self) -> Result<bool, End> {
        let mut told = std::mem::take(&mut self.told);
        let read = self.group.read(&mut told);
        let is_something = !told.is_empty();
        for told in told.drain(..) {
            match told {
                Told::Held(held) => self.on_held(held),
                Told::Lost => self.totals.lost += 1,
                Told::Overflow => {}
            }
        }
        self.told = told;
        match read {
            Err(Errno::EBADF | Errno::EFAULT | Errno::EINVAL) => Err(End::Broken),
            // What could not be opened was denied by the kernel, and is gone.
            read => {
                self.totals.lost += u64::from(read.is_err());
                Ok(is_something)
            }
        }
    }

    /// The daemon is gone: nobody is kept waiting, and the kernel lets go of the rest.
    fn answer_all(&mut self) {
        self.is_daemon_gone = true;
        while let Some(question) = self.questions.any() {
            self.decide(question, None, By::Failure);
        }
        while let Ok(true) = self.read_events() {}
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The time of `CLOCK_MONOTONIC`, which all processes share.
pub fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}
