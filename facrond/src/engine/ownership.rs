//! Whose event it was: facron's own commands and all that descends from them.
//!
//! The kernel tells of all forks below us ([`Descendants`]), so also the process of
//! an event that is long gone is known. Where it does not, what can still be seen
//! has to do: facrond is the reaper of its orphaned descendants
//! (`PR_SET_CHILD_SUBREAPER`), so a living process descends from a command exactly
//! when its parents lead to facrond. Children are reaped only after the kernel's
//! queue has been drained: a pid in a record that is one of theirs is theirs.

use crate::job::descendants::{Descendants, Kin};
use crate::job::reaper::Children;
use crate::job::run::Runner;
use crate::kernel::process;
use crate::watch::Whose;
use rustc_hash::FxHashMap;

/// Tells for one draining of the queue; the answers are kept no longer, since
/// pids are used again.
#[derive(Debug)]
pub struct OwnProcesses<'a> {
    daemon: i32,
    children: &'a Children,
    descendants: &'a Descendants,
    known: FxHashMap<i32, bool>,
}

impl<'a> OwnProcesses<'a> {
    /// With the commands that run or wait to be reaped.
    pub fn new(daemon: i32, runner: &'a Runner) -> Self {
        let (children, descendants) = (runner.children(), runner.descendants());
        Self { daemon, children, descendants, known: FxHashMap::default() }
    }

    fn is_seen(&mut self, pid: i32) -> bool {
        // Without any child there is no descendant.
        if !self.children.may_exist() {
            return false;
        }
        let (daemon, children) = (self.daemon, self.children);
        *self.known.entry(pid).or_insert_with(|| {
            process::session(pid).is_some_and(|session| children.contains(session))
                || process::descends_from(pid, |ancestor| ancestor == daemon)
        })
    }
}

impl Whose for OwnProcesses<'_> {
    fn is_own(&mut self, pid: i32) -> bool {
        if pid == self.daemon || self.children.contains(pid) {
            return true;
        }
        if pid <= 0 {
            return false;
        }
        match self.descendants.kin(pid) {
            Kin::Own => true,
            Kin::Foreign => false,
            Kin::Unknown => self.is_seen(pid),
        }
    }

    fn on_read(&mut self) {
        self.descendants.refresh();
    }

    fn on_drained(&mut self) {
        self.descendants.forget_ended();
    }
}
