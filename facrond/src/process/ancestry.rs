//! Whether a process descends from the daemon, by its parents at present.
//!
//! The daemon is the reaper of its orphaned descendants (`PR_SET_CHILD_SUBREAPER`), so the
//! parents of each descendant that lives lead to the daemon, and those of no other process
//! ever do. The answer for a process never changes. It is kept by a number of the process
//! that is never used again.
//!
//! The gate asks this before it holds a process up: a command that decides could else wait
//! for itself.

use crate::kernel::pidfd::{Pidfd, has_identities};
use rustc_hash::FxHashMap;

/// Processes that are remembered; then all are forgotten at once.
const REMEMBERED: usize = 4096;

/// How often parents are followed anew when one has ended on the way.
const TRIES: usize = 3;

/// More parents than any real tree is deep.
const DEPTH: usize = 256;

/// The processes that were asked about, and whether they descend from the daemon.
#[derive(Debug)]
pub(crate) struct Ancestry {
    daemon: i32,
    has_identities: bool,
    known: FxHashMap<u64, bool>,
    /// The process of the last question; the next is often about the same.
    last: Option<(i32, Pidfd, bool)>,
}

/// What can be told of a living process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Whether it descends from the daemon.
    pub(crate) is_own: bool,
    /// Its effective user.
    pub(crate) uid: Option<u32>,
}

impl Ancestry {
    /// From the daemon of this pid, which must be alive.
    pub(crate) fn new(daemon: i32) -> Self {
        Self { daemon, has_identities: has_identities(), known: FxHashMap::default(), last: None }
    }

    /// Looks at a process. One that is gone is not the daemon's own.
    pub(crate) fn look(&mut self, pid: i32) -> Origin {
        if pid == self.daemon {
            return Origin { is_own: true, uid: None };
        }
        // The descriptor tells whether the pid is still that process's.
        if let Some((last, process, is_own)) = &self.last
            && *last == pid
            && let Some(facts) = process.facts()
        {
            return Origin { is_own: *is_own, uid: Some(facts.uid) };
        }
        let Some(process) = Some(pid).filter(|pid| *pid > 0).and_then(|pid| Pidfd::open(pid).ok()) else {
            return Origin::default();
        };
        let identity = process.identity().ok().filter(|_| self.has_identities);
        let known = identity.and_then(|identity| self.known.get(&identity).copied());
        let is_own = known.or_else(|| self.descends(&process, identity));
        let uid = process.facts().map(|facts| facts.uid);
        if let Some(is_own) = is_own {
            self.last = Some((pid, process, is_own));
        }
        Origin { is_own: is_own.unwrap_or_default(), uid }
    }

    /// `None` where it is gone, or its parents change faster than they can be followed.
    fn descends(&mut self, process: &Pidfd, identity: Option<u64>) -> Option<bool> {
        for _ in 0..TRIES {
            // Where a parent has ended, its children have another one now.
            let Some(is_own) = leads_to(process.facts()?.parent, self.daemon) else { continue };
            if let Some(identity) = identity {
                if self.known.len() >= REMEMBERED {
                    self.known.clear();
                }
                self.known.insert(identity, is_own);
            }
            return Some(is_own);
        }
        None
    }
}

/// Whether a process is `ancestor`, or its parents lead there; `None` where one of them
/// has ended meanwhile.
pub(super) fn leads_to(mut pid: i32, ancestor: i32) -> Option<bool> {
    for _ in 0..DEPTH {
        if pid == ancestor {
            return Some(true);
        }
        if pid <= 1 {
            return Some(false);
        }
        pid = Pidfd::open(pid).ok()?.facts()?.parent;
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn own() -> i32 {
        std::process::id().cast_signed()
    }

    #[test]
    fn children_and_their_children_descend() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();
        let mut ancestry = Ancestry::new(own());
        for pid in [own(), child.id().cast_signed(), grandchild, grandchild] {
            assert!(ancestry.look(pid).is_own, "{pid}");
        }
        let mut of_child = Ancestry::new(child.id().cast_signed());
        assert!(of_child.look(grandchild).is_own);
        assert!(!of_child.look(own()).is_own);
        assert_eq!(of_child.look(own()).uid, Some(nix::unistd::geteuid().as_raw()));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(grandchild), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn nobody_is_not_our_own() {
        let mut ancestry = Ancestry::new(own());
        assert_eq!(ancestry.look(0), Origin::default());
        assert_eq!(ancestry.look(i32::MAX), Origin::default());
        assert!(!ancestry.look(1).is_own);
    }
}
