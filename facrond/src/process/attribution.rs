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
use crate::kernel::process_events::{ProcessEventSource, Programs, Users};
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

/// One of the [`Facts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Exe,
    Uid,
}

/// The processes of the latest events, or all there are.
#[derive(Debug, Default)]
pub(super) struct Attribution {
    recent: Recent,
    users: Asked<Users>,
    programs: Asked<Programs>,
    turn: Turn,
}

impl Attribution {
    /// From now on this is known of all processes.
    pub(super) fn follow(&mut self, fact: Fact, sources: &Sources) {
        match fact {
            Fact::Uid => self.users.ask("uid=", self.turn, sources),
            Fact::Exe => self.programs.ask("exe=", self.turn, sources),
        }
    }

    /// Nobody asks for anything any more.
    pub(super) fn unfollow(&mut self) {
        (self.users, self.programs) = (Asked::No, Asked::No);
    }

    /// Takes in what the kernel has told since.
    pub(super) fn refresh(&mut self) {
        self.users.with(Followed::refresh);
        self.programs.with(Followed::refresh);
    }

    /// The same, and what is taken in later is of turn `next`.
    pub(super) fn begin(&mut self, next: Turn) {
        self.turn = next;
        self.recent.begin(next);
        self.users.with(|users| users.begin(next));
        self.programs.with(|programs| programs.begin(next));
    }

    /// Forgets what had ended when `turn` was over.
    pub(super) fn end(&mut self, turn: Turn) {
        self.users.with(|users| users.end(turn));
        self.programs.with(|programs| programs.end(turn));
    }

    /// What is known of the process that caused an event.
    pub(super) fn facts(&mut self, pid: i32) -> Facts {
        match (self.programs.fact(pid), self.users.fact(pid)) {
            (Some(exe), Some(uid)) => Facts { exe: Some(exe), uid: Some(uid) },
            (exe, uid) => {
                let recent = self.recent.facts(pid);
                Facts { exe: exe.or_else(|| recent.exe.clone()), uid: uid.or(recent.uid) }
            }
        }
    }
}

/// Whether the kernel was asked to tell a fact about all processes.
#[derive(Debug, Default)]
enum Asked<S: ProcessEventSource> {
    #[default]
    No,
    /// It refused.
    InVain,
    Yes(Followed<S>),
}

impl<S: ProcessEventSource> Asked<S> {
    fn ask(&mut self, option: &str, turn: Turn, sources: &Sources) {
        if matches!(self, Self::No) {
            *self = Followed::follow(turn, sources).map_or_else(
                |errno| {
                    tracing::warn!(
                        error = errno.desc(),
                        "the kernel does not tell of all processes: `{option}` misses those that live for moments only"
                    );
                    Self::InVain
                },
                Self::Yes,
            );
        }
    }

    fn with(&mut self, then: impl FnOnce(&mut Followed<S>)) {
        if let Self::Yes(followed) = self {
            then(followed);
        }
    }

    fn fact(&self, pid: i32) -> Option<S::Fact> {
        if let Self::Yes(followed) = self { followed.fact(pid) } else { None }
    }
}
