//! Whose process it is: which processes descend from the commands, and which program
//! and user caused an event.
//!
//! | module | owns |
//! |---|---|
//! | `table` | processes with a fact about each, as process events tell it; pure |
//! | `lineage` | the table of all that descends from commands; pure |
//! | `descendants` | the same with its source (perf), and how to end a command's descendants |
//! | `attribution` | executable and user of the process that caused an event |
//! | `followed` | one such fact about all processes, with its source (perf, proc connector) |
//! | `recent` | what `/proc` showed of the processes of the latest events |
//! | `ancestry` | who descends from the daemon by the present parents; the gate asks it, too |
//!
//! Each source tells its events in order, but two sources tell of the same fork at
//! different times. So each has a table of its own.
//!
//! A file event can be read after its process has ended, so a process that has ended
//! stays known for a while. All tables have one protocol for that: [`Processes::begin`]
//! before the kernel's queue is read gives a token, and [`Processes::end`] takes the
//! token once the queue was empty. Then what had ended at `begin` is forgotten, since
//! the pid may be used again.

pub(crate) mod ancestry;
pub(crate) mod attribution;
pub(crate) mod descendants;
mod followed;
mod lineage;
mod recent;
mod table;

use crate::kernel::sources::Sources;
use crate::watch::Whose;
use ancestry::{Ancestry, Relation};
use attribution::Attribution;
use descendants::Descendants;
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use rustc_hash::FxHashMap;
use std::rc::Rc;
use std::time::Duration;
use table::Turn;

/// What the daemon knows of processes.
#[derive(Debug)]
pub(crate) struct Processes {
    daemon: i32,
    descendants: Rc<Descendants>,
    pub(crate) attribution: Attribution,
    ancestry: Ancestry,
    /// Answers of `ancestry` in this turn, by pids, which are used again later.
    looked_up: FxHashMap<i32, bool>,
    turn: Turn,
}

/// The kernel's queue is drained up to here: it holds no file event of a process that
/// had ended at the [`Processes::begin`] which gave this.
#[derive(Debug)]
#[must_use = "what has ended is forgotten by `end` only"]
pub(crate) struct Drained(Turn);

impl Processes {
    /// Of the calling thread and its descendants, whose process events are `sources`, too.
    pub(crate) fn new(descendants: Rc<Descendants>, sources: &Sources) -> Result<Self, Errno> {
        descendants.add_to(sources)?;
        let daemon = nix::unistd::getpid().as_raw();
        Ok(Self {
            daemon,
            descendants,
            attribution: Attribution::default(),
            ancestry: Ancestry::new(daemon),
            looked_up: FxHashMap::default(),
            turn: Turn::default(),
        })
    }

    /// To be called before the kernel's queue is read.
    pub(crate) fn begin(&mut self) -> Drained {
        let drained = Drained(self.turn);
        self.turn = self.turn.next();
        self.looked_up.clear();
        self.descendants.begin(self.turn);
        self.attribution.begin(self.turn);
        drained
    }

    /// The queue was empty after that.
    pub(crate) fn end(&mut self, Drained(turn): Drained) {
        self.descendants.end(turn);
        self.attribution.end(turn);
    }

    /// Whether the kernel tells of all forks of commands.
    pub(crate) fn are_tracked(&self) -> bool {
        self.descendants.are_tracked()
    }
}

impl Whose for Processes {
    fn is_own(&mut self, pid: i32) -> bool {
        if pid <= 0 || pid == self.daemon {
            return pid > 0;
        }
        self.descendants.are_own(pid).unwrap_or_else(|| {
            *self.looked_up.entry(pid).or_insert_with(|| self.ancestry.look(pid).relation != Relation::None)
        })
    }

    fn on_read(&mut self) {
        self.descendants.refresh();
        self.attribution.refresh();
    }
}

/// The present in the clock of process events.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
