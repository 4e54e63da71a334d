//! One fact about each process, as the kernel tells it.
//!
//! A process that has ended stays known until its last events have been read.

use crate::kernel::whose::{Deed, Teller, Told};
use nix::errno::Errno;
use rustc_hash::FxHashMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

#[derive(Debug)]
struct Process<T> {
    fact: Option<T>,
    has_ended: bool,
}

/// All processes.
#[derive(Debug)]
pub(super) struct Ledger<T: Teller> {
    teller: T,
    known: FxHashMap<i32, Process<T::Fact>>,
    ended: Vec<i32>,
    /// How many of `ended` had when the reading of the queue of events began.
    forgettable: usize,
    told: Vec<Told<T::Fact>>,
}

impl<T: Teller> Ledger<T> {
    /// Takes in all processes that there are.
    pub(super) fn follow() -> Result<Self, Errno> {
        let teller = T::follow()?;
        let (known, ended) = (FxHashMap::default(), Vec::new());
        let mut ledger = Self { teller, known, ended, forgettable: 0, told: Vec::new() };
        ledger.count();
        ledger.refresh();
        Ok(ledger)
    }

    fn count(&mut self) {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        self.known = pids.map(|pid| (pid, Process { fact: T::look_up(pid), has_ended: false })).collect();
        (self.ended, self.forgettable) = (Vec::new(), 0);
    }

    /// Takes in what was told since.
    pub(super) fn refresh(&mut self) {
        let mut told = std::mem::take(&mut self.told);
        if let Err(errno) = self.teller.read(&mut told) {
            tracing::error!(error = errno.desc(), "cannot read what the kernel tells of processes");
        }
        for told in told.drain(..) {
            match told {
                Told::Deed(pid, deed) => self.on_deed(pid, deed),
                Told::Lost => self.count(),
            }
        }
        self.told = told;
    }

    fn on_deed(&mut self, pid: i32, deed: Deed<T::Fact>) {
        match deed {
            Deed::Forked { parent } => {
                let fact = self.known.get(&parent).and_then(|process| process.fact.clone());
                let fact = fact.or_else(|| T::look_up(pid));
                self.known.insert(pid, Process { fact, has_ended: false });
            }
            Deed::Became(fact) => {
                self.known.insert(pid, Process { fact: Some(fact), has_ended: false });
            }
            Deed::Ended => {
                if let Some(process) = self.known.get_mut(&pid) {
                    process.has_ended = true;
                    self.ended.push(pid);
                }
            }
        }
    }

    /// What is known of a process.
    pub(super) fn look(&mut self, pid: i32) -> Option<T::Fact> {
        self.refresh();
        let process = self.known.entry(pid).or_insert(Process { fact: None, has_ended: false });
        if process.fact.is_none() && !process.has_ended {
            process.fact = T::look_up(pid);
        }
        process.fact.clone()
    }

    /// The queue of events is going to be read: those of who has ended are in it.
    pub(super) fn begin(&mut self) {
        self.refresh();
        self.forgettable = self.ended.len();
    }

    /// All that was in the queue has been read.
    pub(super) fn forget_ended(&mut self) {
        for pid in self.ended.drain(..self.forgettable) {
            if self.known.get(&pid).is_some_and(|process| process.has_ended) {
                self.known.remove(&pid);
            }
        }
        self.forgettable = 0;
    }
}

impl<T: Teller> AsFd for Ledger<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.teller.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::whose::{Programs, Users};
    use std::process::Command;

    #[test]
    fn what_has_ended_is_known_until_its_events_are_read() {
        let mut users = Ledger::<Users>::follow().unwrap();
        let mut programs = Ledger::<Programs>::follow().unwrap();
        let args = ["--reuid=65534", "sh", "-c", "(:; :) & wait"];
        let mut child = Command::new("setpriv").args(args).spawn().unwrap();
        let pid = child.id().cast_signed();
        child.wait().unwrap();
        users.begin();
        programs.begin();
        assert_eq!(users.look(pid), Some(65534));
        let shell = fs::canonicalize("/bin/sh").unwrap();
        assert_eq!(programs.look(pid).as_deref(), Some(shell.as_os_str().as_encoded_bytes()));
        users.forget_ended();
        programs.forget_ended();
        assert_eq!((users.look(pid), programs.look(pid)), (None, None));
    }

    #[test]
    fn who_was_there_before_is_known() {
        let own = std::process::id().cast_signed();
        assert_eq!(Ledger::<Users>::follow().unwrap().look(own), Users::look_up(own));
        assert_eq!(Ledger::<Programs>::follow().unwrap().look(own), Programs::look_up(own));
    }
}
