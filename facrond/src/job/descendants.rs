//! The processes that descend from commands: which they are, and how to end them.
//!
//! The forks that tell whose an event is also tell all that a command has made,
//! wherever it went: no command needs a cgroup of its own for that, which would
//! cost each start a directory, and which is there only where one is delegated.

use super::family::Family;
use crate::kernel::forks::{Forks, Told};
use crate::kernel::process::{self, Process};
use crate::kernel::sources::Sources;
use crate::kernel::wait::is_to_be_reaped;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::RefCell;

/// Whose a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// A descendant of a command.
    Own,
    /// Anybody's.
    Foreign,
    /// The forks do not tell; its parents may.
    Unknown,
}

/// The descendants of the thread that made this. Where the kernel does not tell of
/// forks, what can be seen in `/proc` has to do.
#[derive(Debug)]
pub struct Descendants {
    daemon: i32,
    tracked: Option<RefCell<Tracked>>,
}

#[derive(Debug)]
struct Tracked {
    forks: Forks,
    family: Family,
    changes: Vec<Told>,
}

impl Descendants {
    /// Of the calling thread, which must not have started any yet.
    pub fn follow() -> Self {
        let daemon = nix::unistd::getpid().as_raw();
        let tracked = match Forks::follow() {
            Ok(forks) => Some(Tracked { forks, family: Family::new(daemon), changes: Vec::new() }),
            Err(errno) => {
                tracing::info!(
                    error = errno.desc(),
                    "the kernel does not tell of forks (perf_event_open(2))"
                );
                None
            }
        };
        Self { daemon, tracked: tracked.map(RefCell::new) }
    }

    /// Whether the kernel tells of forks.
    pub fn is_tracked(&self) -> bool {
        self.tracked.is_some()
    }

    /// Adds what becomes readable when [`Descendants::refresh`] is due, however idle
    /// the daemon is.
    pub fn add_to(&self, sources: &Sources) -> Result<(), Errno> {
        self.tracked.as_ref().map_or(Ok(()), |tracked| sources.add(&tracked.borrow().forks))
    }

    /// Takes in all forks and exits until now.
    pub fn refresh(&self) {
        if let Some(tracked) = &self.tracked {
            tracked.borrow_mut().refresh(self.daemon);
        }
    }

    /// All records that were queued before the last [`Descendants::refresh`] have
    /// been read: processes that had ended by then are forgotten.
    pub fn forget_ended(&self) {
        if let Some(tracked) = &self.tracked {
            // Most that have ended are commands: of those we are told for less than a look.
            let is_alive = |pid| {
                !is_to_be_reaped(pid)
                    && process::look(pid).is_some_and(|process| is_below(&process, self.daemon))
            };
            tracked.borrow_mut().family.forget_ended(is_alive);
        }
    }

    /// Whose the process is that caused a record read before the last
    /// [`Descendants::refresh`].
    pub fn kin(&self, pid: i32) -> Kin {
        let Some(tracked) = &self.tracked else { return Kin::Unknown };
        let family = &tracked.borrow().family;
        if family.contains(pid, now) {
            Kin::Own
        } else if family.is_complete() {
            Kin::Foreign
        } else {
            Kin::Unknown
        }
    }

    /// Whether a command, given by its first process, or anything that descends
    /// from it lives.
    pub fn any_of(&self, leader: i32) -> bool {
        !self.living(leader).is_empty()
    }

    /// Signals what descends from a command and left its process group.
    ///
    /// SIGKILL reaches all that descends from it, also what is made meanwhile: whoever is killed makes no more,
    /// so that all are found in the end.
    pub fn signal_outside(&self, leader: i32, signal: Signal) {
        let mut done = FxHashSet::default();
        let is_meant = |pid| {
            let is_outside = |process: &Process| signal == Signal::SIGKILL || process.group != leader;
            let process = process::look(pid).filter(is_outside);
            process.is_some_and(|process| is_below(&process, self.daemon))
        };
        loop {
            let mut living = self.living(leader);
            living.retain(|pid| done.insert(*pid));
            for pid in &living {
                // By descriptor: between the look and the signal the number could
                // become somebody else's.
                if let Err(errno) = process::signal_if(*pid, signal, is_meant) {
                    tracing::warn!(pid, %signal, error = errno.desc(), "cannot signal a command's descendant");
                }
            }
            if living.is_empty() || signal != Signal::SIGKILL {
                return;
            }
        }
    }

    fn living(&self, leader: i32) -> Vec<i32> {
        match &self.tracked {
            Some(tracked) => {
                let tracked = &mut *tracked.borrow_mut();
                tracked.refresh(self.daemon);
                tracked.family.of(leader).collect()
            }
            None => {
                seen(self.daemon).into_iter().filter(|(_, of)| *of == leader).map(|(pid, _)| pid).collect()
            }
        }
    }
}

impl Tracked {
    fn refresh(&mut self, daemon: i32) {
        self.changes.clear();
        self.forks.read(&mut self.changes);
        self.family.apply(&self.changes);
        if self.family.has_lost() {
            tracing::debug!("forks were lost: looking for all descendants");
            self.family.recover(seen(daemon), now());
        }
    }
}

/// All that can be seen to live below the daemon, each with its command's first
/// process: the leader of the session in which its highest ancestor is.
fn seen(daemon: i32) -> Vec<(i32, i32)> {
    let all: FxHashMap<i32, Process> = process::all().map(|process| (process.pid, process)).collect();
    let leader_of = |process: &Process| {
        let mut top = *process;
        // A snapshot that is not of one moment could have a circle in it.
        for _ in 0..all.len() {
            if top.parent == daemon {
                return Some(top.session);
            }
            top = *all.get(&top.parent)?;
        }
        None
    };
    let living = all.values().filter(|process| !process.is_zombie);
    living.filter_map(|process| Some((process.pid, leader_of(process)?))).collect()
}

/// Whether a process lives and descends from the daemon.
fn is_below(process: &Process, daemon: i32) -> bool {
    !process.is_zombie && process::descends_from(process.parent, |ancestor| ancestor == daemon)
}

/// In the clock of the changes.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn tree() -> std::process::Child {
        let script = "setsid sleep 60 & sh -c 'sleep 60 & sleep 60; true' & wait";
        Command::new("setsid").args(["sh", "-c", script]).stdout(Stdio::null()).spawn().unwrap()
    }

    fn ends_all(descendants: &Descendants) {
        let mut child = tree();
        let leader = child.id().cast_signed();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let wait_for = |count| {
            while descendants.living(leader).len() != count {
                assert!(std::time::Instant::now() < deadline, "{:?}", descendants.living(leader));
                std::thread::yield_now();
            }
        };
        wait_for(5);
        descendants.signal_outside(leader, Signal::SIGKILL);
        child.wait().unwrap();
        wait_for(0);
        assert!(!descendants.any_of(leader));
    }

    /// Orphans come to us as they do to the daemon. That is so for the whole process,
    /// so this needs one of its own.
    fn as_subreaper(name: &str, test: impl FnOnce()) {
        const ALONE: &str = "FACRON_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let name = format!("job::descendants::tests::{name}");
            let mut alone = Command::new(std::env::current_exe().unwrap());
            assert!(alone.args(["--exact", &name]).env(ALONE, "1").status().unwrap().success());
            return;
        }
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        test();
    }

    #[test]
    fn all_are_found_by_their_forks() {
        as_subreaper("all_are_found_by_their_forks", || {
            let descendants = Descendants::follow();
            assert!(descendants.is_tracked());
            ends_all(&descendants);
        });
    }

    #[test]
    fn without_forks_those_are_found_that_can_be_seen() {
        as_subreaper("without_forks_those_are_found_that_can_be_seen", || {
            ends_all(&Descendants { daemon: nix::unistd::getpid().as_raw(), tracked: None });
        });
    }
}
