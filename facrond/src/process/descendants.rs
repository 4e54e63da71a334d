//! The processes that descend from commands: which they are, and how to end them.
//!
//! The same process events tell what a command has started, wherever that went. So no
//! command needs a cgroup of its own, which would cost each start a directory, and
//! which is there only where one is delegated.

use super::ancestry;
use super::lineage::Lineage;
use super::now;
use super::table::{Ended, Turn};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, Process};
use crate::kernel::process_events::{Forks, ProcessEvent};
use crate::kernel::sources::Sources;
use crate::kernel::wait::is_to_be_reaped;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::RefCell;

/// The pid of a process that ended longer ago than this, in nanoseconds, is another's by
/// now. That matters where nothing woke the daemon when the process ended, because its
/// own parent, still running, reaped it.
const MAX_DELAY: u64 = 10_000_000_000;

/// The descendants of the thread that made this. Where the kernel does not tell of
/// forks, what can be seen in `/proc` has to do.
#[derive(Debug)]
pub(crate) struct Descendants {
    daemon: i32,
    tracked: RefCell<Tracked>,
}

#[derive(Debug)]
struct Tracked {
    forks: Option<Forks>,
    lineage: Lineage,
    events: Vec<ProcessEvent<i32>>,
    turn: Turn,
}

impl Descendants {
    /// Of the calling thread, which must not have started any process yet.
    pub(crate) fn follow() -> Self {
        let forks = Forks::follow().inspect_err(|errno| {
            tracing::info!(error = errno.desc(), "the kernel does not tell of forks (perf_event_open(2))");
        });
        Self::told_by(forks.ok())
    }

    fn told_by(forks: Option<Forks>) -> Self {
        let daemon = nix::unistd::getpid().as_raw();
        let (lineage, events) = (Lineage::new(daemon), Vec::new());
        Self { daemon, tracked: RefCell::new(Tracked { forks, lineage, events, turn: Turn::default() }) }
    }

    /// Whether the kernel tells of forks.
    pub(super) fn are_tracked(&self) -> bool {
        self.tracked.borrow().forks.is_some()
    }

    /// Adds what becomes readable when [`Descendants::refresh`] is due, however idle
    /// the daemon is.
    pub(super) fn add_to(&self, sources: &Sources) -> Result<(), Errno> {
        self.tracked.borrow().forks.as_ref().map_or(Ok(()), |forks| sources.add(forks))
    }

    /// Takes in all forks and exits until now.
    pub(super) fn refresh(&self) {
        self.tracked.borrow_mut().refresh(self.daemon);
    }

    /// The same, and what is taken in later is of turn `next`.
    pub(super) fn begin(&self, next: Turn) {
        self.refresh();
        self.tracked.borrow_mut().turn = next;
    }

    /// Forgets what had ended when `turn` was over.
    pub(super) fn end(&self, turn: Turn) {
        // Most that have ended are commands; one system call tells that of them.
        let lives = |pid| {
            !is_to_be_reaped(pid)
                && process::look(pid).is_some_and(|process| self.is_living_descendant(&process))
        };
        let tracked = &mut *self.tracked.borrow_mut();
        tracked.lineage.end(turn, Ended { time: now(), turn: tracked.turn }, lives);
    }

    /// Whether a process is one of these that caused a record read before the last
    /// [`Descendants::refresh`]; `None` where forks do not tell, and its parents may.
    pub(super) fn are_own(&self, pid: i32) -> Option<bool> {
        let tracked = self.tracked.borrow();
        let lineage = tracked.forks.as_ref().map(|_| &tracked.lineage)?;
        // The number of a child that we have not reaped is nobody else's.
        let is_over = |ended| now().saturating_sub(ended) >= MAX_DELAY && !is_to_be_reaped(pid);
        match lineage.contains(pid, is_over) {
            false if !lineage.is_complete() => None,
            is_own => Some(is_own),
        }
    }

    /// Whether a command, given by its first process, or anything that descends
    /// from it lives.
    pub(crate) fn any_of(&self, leader: i32) -> bool {
        !self.living(leader).is_empty()
    }

    /// Signals what descends from a command and left its process group.
    ///
    /// SIGKILL reaches all that descends from it, also what is made meanwhile: whoever is killed makes no more,
    /// so that all are found in the end.
    pub(crate) fn signal_outside(&self, leader: i32, signal: Signal) {
        let mut done = FxHashSet::default();
        loop {
            let mut living = self.living(leader);
            living.retain(|pid| done.insert(*pid));
            for pid in &living {
                self.signal_one(*pid, leader, signal).unwrap_or_else(|errno| {
                    tracing::warn!(pid, %signal, error = errno.desc(), "cannot signal a command's descendant");
                });
            }
            if living.is_empty() || signal != Signal::SIGKILL {
                return;
            }
        }
    }

    /// By descriptor: between the look and the signal the pid could become another's.
    fn signal_one(&self, pid: i32, leader: i32, signal: Signal) -> Result<(), Errno> {
        let descriptor = match Pidfd::open(pid) {
            Err(Errno::ESRCH) => return Ok(()),
            result => result?,
        };
        let is_meant = |process: &Process| {
            (signal == Signal::SIGKILL || process.group != leader) && self.is_living_descendant(process)
        };
        if process::look(pid).is_some_and(|process| is_meant(&process)) {
            descriptor.signal(signal)
        } else {
            Ok(())
        }
    }

    fn is_living_descendant(&self, process: &Process) -> bool {
        !process.is_zombie && ancestry::leads_to(process.parent, self.daemon) == Some(true)
    }

    fn living(&self, leader: i32) -> Vec<i32> {
        let tracked = &mut *self.tracked.borrow_mut();
        if tracked.forks.is_some() {
            tracked.refresh(self.daemon);
            return tracked.lineage.of(leader).collect();
        }
        seen(self.daemon).into_iter().filter(|(_, of)| *of == leader).map(|(pid, _)| pid).collect()
    }
}

impl Tracked {
    fn refresh(&mut self, daemon: i32) {
        let Some(forks) = &mut self.forks else { return };
        forks.read(&mut self.events);
        self.lineage.apply(self.events.drain(..), self.turn);
        if self.lineage.has_lost() {
            tracing::debug!("forks were lost: looking for all descendants");
            self.lineage.recover(seen(daemon), Ended { time: now(), turn: self.turn });
        }
    }
}

/// All that can be seen to live below the daemon, each with its command's first
/// process: the leader of the session in which its highest ancestor is, or, in the session of
/// the daemon, that of its process group.
fn seen(daemon: i32) -> Vec<(i32, i32)> {
    let all: FxHashMap<i32, Process> =
        process::pids().filter_map(|pid| Some((pid, process::look(pid)?))).collect();
    let session = all.get(&daemon).map(|daemon| daemon.session);
    let leader_of = |process: &Process| {
        let mut top = *process;
        // A snapshot that is not of one moment could have a circle in it.
        for _ in 0..all.len() {
            if top.parent == daemon {
                return Some(if session == Some(top.session) { top.group } else { top.session });
            }
            top = *all.get(&top.parent)?;
        }
        None
    };
    let living = all.values().filter(|process| !process.is_zombie);
    living.filter_map(|process| Some((process.pid, leader_of(process)?))).collect()
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
            let name = format!("process::descendants::tests::{name}");
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
            assert!(descendants.are_tracked());
            ends_all(&descendants);
        });
    }

    #[test]
    fn without_forks_those_are_found_that_can_be_seen() {
        as_subreaper("without_forks_those_are_found_that_can_be_seen", || {
            ends_all(&Descendants::told_by(None));
        });
    }
}
