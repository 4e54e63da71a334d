//! Whose event it was: facron's own commands and all that descends from them.
//!
//! facrond is the reaper of its orphaned descendants (`PR_SET_CHILD_SUBREAPER`),
//! so a living process descends from a command exactly when its parents lead to
//! facrond. Children are reaped only after the kernel's queue has been drained: a
//! pid in a record that is one of theirs is theirs.

use crate::job::reaper::Children;
use crate::kernel::process;
use crate::watch::Whose;
use rustc_hash::FxHashMap;

/// Tells for one draining of the queue; the answers are kept no longer, since
/// pids are used again.
#[derive(Debug)]
pub struct OwnProcesses<'a> {
    daemon: i32,
    children: &'a Children,
    known: FxHashMap<i32, bool>,
}

impl<'a> OwnProcesses<'a> {
    /// With the commands that run or wait to be reaped.
    pub fn new(daemon: i32, children: &'a Children) -> Self {
        Self { daemon, children, known: FxHashMap::default() }
    }
}

impl Whose for OwnProcesses<'_> {
    fn is_own(&mut self, pid: i32) -> bool {
        if pid == self.daemon || self.children.contains(pid) {
            return true;
        }
        // Without any child there is no descendant.
        if pid <= 0 || !self.children.may_exist() {
            return false;
        }
        let (daemon, children) = (self.daemon, self.children);
        *self.known.entry(pid).or_insert_with(|| {
            process::session(pid).is_some_and(|session| children.contains(session))
                || process::descends_from(pid, |ancestor| ancestor == daemon)
        })
    }
}
