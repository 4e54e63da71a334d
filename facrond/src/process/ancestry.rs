//! Whether a process descends from the daemon, by its parents at present.
//!
//! The daemon is the reaper of its orphaned descendants (`PR_SET_CHILD_SUBREAPER`), so the
//! parents of each descendant that lives lead to the daemon, and those of no other process
//! ever do. The answer for a process never changes. It is kept by a number of the process
//! that is never used again.
//!
//! The gate asks this before it holds a process up: a command that decides could else wait
//! for itself. Such a command, and each helper, has the session of the daemon. All other
//! commands begin one of their own, and no process ever comes back from there.

use crate::kernel::pidfd::{Pidfd, has_identities};
use nix::unistd::{Pid, getsid};
use rustc_hash::FxHashMap;

/// Processes that are remembered; then all are forgotten at once.
const REMEMBERED: usize = 4096;

/// How often parents are followed anew when one has ended on the way.
const TRIES: usize = 3;

/// More parents than any real tree is deep.
const DEPTH: usize = 256;

/// What a process is to the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Relation {
    #[default]
    None,
    /// The daemon itself, its helpers, the commands that decide, and what descends from those.
    Trusted,
    /// Another command, or what descends from one.
    Command,
}

/// The processes that were asked about, and what they are to the daemon.
#[derive(Debug)]
pub(crate) struct Ancestry {
    daemon: i32,
    has_identities: bool,
    known: FxHashMap<u64, Relation>,
    /// The process of the last question; the next is often about the same.
    last: Option<(i32, Pidfd, Relation)>,
}

/// What can be told of a living process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) relation: Relation,
    /// Its effective user.
    pub(crate) uid: Option<u32>,
}

impl Ancestry {
    /// From the daemon of this pid, which must be alive.
    pub(crate) fn new(daemon: i32) -> Self {
        Self { daemon, has_identities: has_identities(), known: FxHashMap::default(), last: None }
    }

    /// Looks at a process. One that is gone is nothing to the daemon.
    pub(crate) fn look(&mut self, pid: i32) -> Origin {
        if pid == self.daemon {
            return Origin { relation: Relation::Trusted, uid: None };
        }
        // The descriptor tells whether the pid is still that process's.
        if let Some((last, process, relation)) = &self.last
            && *last == pid
            && let Some(facts) = process.facts()
        {
            return Origin { relation: *relation, uid: Some(facts.uid) };
        }
        let Some(process) = Some(pid).filter(|pid| *pid > 0).and_then(|pid| Pidfd::open(pid).ok()) else {
            return Origin::default();
        };
        let identity = process.identity().ok().filter(|_| self.has_identities);
        let known = identity.and_then(|identity| self.known.get(&identity).copied());
        let relation = known.or_else(|| self.relation(pid, identity));
        let uid = process.facts().map(|facts| facts.uid);
        if let Some(relation) = relation {
            self.last = Some((pid, process, relation));
        }
        Origin { relation: relation.unwrap_or_default(), uid }
    }

    /// `None` where it is gone, or its parents change faster than they can be followed.
    fn relation(&mut self, pid: i32, identity: Option<u64>) -> Option<Relation> {
        for _ in 0..TRIES {
            // Where a parent has ended, its children have another one now.
            let Some(relation) = relation(pid, self.daemon) else { continue };
            if let Some(identity) = identity {
                if self.known.len() >= REMEMBERED {
                    self.known.clear();
                }
                self.known.insert(identity, relation);
            }
            return Some(relation);
        }
        None
    }
}

/// What a process is to the daemon; `None` where one of its parents has ended meanwhile. The
/// session that counts is that of the daemon's child.
fn relation(mut pid: i32, daemon: i32) -> Option<Relation> {
    for _ in 0..DEPTH {
        let parent = Pidfd::open(pid).ok()?.facts()?.parent;
        if parent == daemon {
            let session = |pid| getsid(Some(Pid::from_raw(pid))).ok();
            let is_of_daemon = session(pid)? == session(daemon)?;
            return Some(if is_of_daemon { Relation::Trusted } else { Relation::Command });
        }
        if parent <= 1 {
            break;
        }
        pid = parent;
    }
    Some(Relation::None)
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
    fn the_session_of_a_child_decides() {
        let relations = |shell: &str| {
            let script = "sleep 60 & echo $!; wait";
            let mut child =
                Command::new(shell).args(["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
            std::io::BufRead::read_line(&mut output, &mut line).unwrap();
            let grandchild: i32 = line.trim().parse().unwrap();
            let mut ancestry = Ancestry::new(own());
            let found = [child.id().cast_signed(), grandchild, grandchild].map(|pid| ancestry.look(pid));
            let mut of_child = Ancestry::new(child.id().cast_signed());
            assert_eq!(of_child.look(own()).relation, Relation::None);
            nix::sys::signal::kill(Pid::from_raw(grandchild), nix::sys::signal::Signal::SIGKILL).unwrap();
            child.wait().unwrap();
            assert_eq!(found[0].uid, Some(nix::unistd::geteuid().as_raw()));
            found.map(|origin| origin.relation)
        };
        assert_eq!(Ancestry::new(own()).look(own()).relation, Relation::Trusted);
        assert_eq!(relations("env"), [Relation::Trusted; 3]);
        assert_eq!(relations("setsid"), [Relation::Command; 3]);
    }

    #[test]
    fn nobody_is_not_our_own() {
        let mut ancestry = Ancestry::new(own());
        assert_eq!(ancestry.look(0), Origin::default());
        assert_eq!(ancestry.look(i32::MAX), Origin::default());
        assert_eq!(ancestry.look(1).relation, Relation::None);
    }
}
