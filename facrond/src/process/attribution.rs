//! Executable and effective user of the process that caused an event.
//!
//! As long as no rule asks for them, they are looked up in `/proc`, where a process
//! may be gone already; what was seen of it with an event that came before is believed
//! for a while. For rules with `uid=` or `exe=` that is not enough. Then the kernel is
//! asked to tell of every process.

use super::followed::Followed;
use super::recent::Recent;
use super::table::Turn;
use crate::kernel::process;
use crate::kernel::process_events::{Programs, Users};
use crate::kernel::sources::Sources;
use std::rc::Rc;

/// What is known of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) exe: Option<Rc<[u8]>>,
    pub(crate) uid: Option<u32>,
}

impl Facts {
    pub(super) fn look_up(pid: i32) -> Self {
        Self { exe: process::exe(pid).map(Rc::from), uid: process::uid(pid) }
    }
}

/// The processes of the latest events, or all there are.
#[derive(Debug, Default)]
pub(crate) struct Attribution {
    recent: Recent,
    users: Followed<Users>,
    programs: Followed<Programs>,
}

impl Attribution {
    /// From now on the users of all processes are known, also of those that live for moments
    /// only, where the kernel tells of them.
    pub(crate) fn follow_users(&mut self, sources: &Sources) {
        self.users.follow("uid=", sources);
    }

    /// The same for executables.
    pub(crate) fn follow_programs(&mut self, sources: &Sources) {
        self.programs.follow("exe=", sources);
    }

    /// No rule asks for users or executables any more.
    pub(crate) fn unfollow(&mut self) {
        (self.users, self.programs) = (Followed::default(), Followed::default());
    }

    /// Takes in what the kernel has told since.
    pub(super) fn refresh(&mut self) {
        self.users.refresh();
        self.programs.refresh();
    }

    /// The same, and what is taken in later is of turn `next`.
    pub(super) fn begin(&mut self, next: Turn) {
        self.recent.begin(next);
        self.users.begin(next);
        self.programs.begin(next);
    }

    /// Forgets what had ended when `turn` was over.
    pub(super) fn end(&mut self, turn: Turn) {
        self.users.end(turn);
        self.programs.end(turn);
    }

    /// What is known of a process that caused an event which was read before the last
    /// refresh.
    pub(crate) fn facts(&mut self, pid: i32) -> Facts {
        match (self.programs.fact(pid), self.users.fact(pid)) {
            _ if pid <= 0 => Facts::default(),
            (Some(exe), Some(uid)) => Facts { exe: Some(exe), uid: Some(uid) },
            (exe, uid) => {
                let recent = self.recent.facts(pid);
                Facts { exe: exe.or_else(|| recent.exe.clone()), uid: uid.or(recent.uid) }
            }
        }
    }
}
