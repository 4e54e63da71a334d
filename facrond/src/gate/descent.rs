//! Whether a process descends from facrond: those are never held up, or a command
//! that decides could wait for itself.
//!
//! It is a fact that does not change: facrond is the reaper of its orphans, so what
//! descends from it does so for life, and nobody else ever comes to. So it is kept,
//! by a number of the process that is never used again.

use crate::kernel::pidfd::{Process, has_identities};
use rustc_hash::FxHashMap;

/// Processes that are remembered; then all are forgotten at once.
const REMEMBERED: usize = 4096;

/// How often parents are followed anew when one has ended on the way.
const TRIES: usize = 3;

/// More parents than any real tree is deep.
const DEPTH: usize = 256;

/// Who descends from the daemon.
#[derive(Debug)]
pub struct Descent {
    daemon: i32,
    has_identities: bool,
    known: FxHashMap<u64, bool>,
    /// Who waited last: the same often does so again.
    last: Option<(i32, Process, bool)>,
}

/// What can be told of a process that waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opener {
    /// Whether it descends from the daemon.
    pub is_own: bool,
    /// Its effective user.
    pub uid: Option<u32>,
}

impl Descent {
    /// From the daemon of this pid, which must be alive.
    pub fn new(daemon: i32) -> Self {
        Self { daemon, has_identities: has_identities(), known: FxHashMap::default(), last: None }
    }

    /// Who waits.
    pub fn look(&mut self, pid: i32) -> Opener {
        if pid == self.daemon {
            return Opener { is_own: true, uid: None };
        }
        // Its descriptor tells whether the pid is still that process's.
        if let Some((last, process, is_own)) = &self.last
            && *last == pid
            && let Some(facts) = process.facts()
        {
            return Opener { is_own: *is_own, uid: Some(facts.uid) };
        }
        let Some(process) = Some(pid).filter(|pid| *pid > 0).and_then(|pid| Process::open(pid).ok()) else {
            return Opener::default();
        };
        let identity = process.identity().ok().filter(|_| self.has_identities);
        let known = identity.and_then(|identity| self.known.get(&identity).copied());
        let is_own = known.or_else(|| self.descends(&process, identity));
        let uid = process.facts().map(|facts| facts.uid);
        if let Some(is_own) = is_own {
            self.last = Some((pid, process, is_own));
        }
        Opener { is_own: is_own.unwrap_or_default(), uid }
    }

    /// `None` where it is gone, or its parents change faster than they can be followed.
    fn descends(&mut self, process: &Process, identity: Option<u64>) -> Option<bool> {
        for _ in 0..TRIES {
            let facts = process.facts()?;
            // Where a parent has ended, its children have another one now.
            let Some(is_own) = self.follow(facts.parent) else { continue };
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

    /// Whether the parents from `pid` on lead to the daemon; `None` where one ended.
    fn follow(&self, mut pid: i32) -> Option<bool> {
        for _ in 0..DEPTH {
            if pid == self.daemon {
                return Some(true);
            }
            if pid <= 1 {
                return Some(false);
            }
            pid = Process::open(pid).ok()?.facts()?.parent;
        }
        Some(false)
    }
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
        let mut descent = Descent::new(own());
        for pid in [own(), child.id().cast_signed(), grandchild, grandchild] {
            assert!(descent.look(pid).is_own, "{pid}");
        }
        let mut of_child = Descent::new(child.id().cast_signed());
        assert!(of_child.look(grandchild).is_own);
        assert!(!of_child.look(own()).is_own);
        assert_eq!(of_child.look(own()).uid, Some(nix::unistd::geteuid().as_raw()));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(grandchild), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn nobody_is_not_our_own() {
        let mut descent = Descent::new(own());
        assert_eq!(descent.look(0), Opener::default());
        assert_eq!(descent.look(i32::MAX), Opener::default());
        assert!(!descent.look(1).is_own);
    }
}
