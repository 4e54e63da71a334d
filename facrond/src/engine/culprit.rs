//! Who caused events.
//!
//! As long as no rule asks for it, this is looked up in `/proc`, where a process
//! may be gone already; what was seen of it with an event that came before is
//! believed for a while. For rules with `uid=` or `exe=` that is not enough: then
//! the kernel is asked to tell of every process, where it does (see `ledger`).

mod ledger;
mod recent;

use crate::config::culprit::Culprit;
use crate::event::Event;
use crate::kernel::process;
use crate::kernel::sources::Sources;
use crate::kernel::whose::{Programs, Teller, Users};
use crate::watch::Queue;
use ledger::Ledger;
use recent::Recent;
use std::rc::Rc;

/// A process's executable and effective user.
#[derive(Clone, Debug, Default)]
struct Facts {
    exe: Option<Rc<[u8]>>,
    uid: Option<u32>,
}

impl Facts {
    fn look_up(pid: i32) -> Self {
        Self { exe: process::exe(pid).map(Rc::from), uid: process::uid(pid) }
    }
}

/// The processes of the latest events, or all there are.
#[derive(Debug, Default)]
pub struct Culprits {
    recent: Recent,
    users: Followed<Users>,
    programs: Followed<Programs>,
}

impl Culprits {
    /// A rule comes that asks for this: it is known of all processes from now on.
    pub fn follow(&mut self, asked: &Culprit, sources: &Sources) {
        if asked.uid.is_some() {
            self.users.follow("uid=", sources);
        }
        if asked.exe.is_some() {
            self.programs.follow("exe=", sources);
        }
    }

    /// No rule asks for anything any more.
    pub fn unfollow(&mut self) {
        (self.users, self.programs) = (Followed::No, Followed::No);
    }

    /// The queue of events is going to be read.
    pub fn begin(&mut self) {
        self.recent.begin();
        self.users.begin();
        self.programs.begin();
    }

    /// It has been read.
    pub fn end(&mut self, queue: Queue) {
        if queue == Queue::Drained {
            self.users.forget_ended();
            self.programs.forget_ended();
        }
    }

    /// Puts into an event whose it was.
    pub fn name(&mut self, event: &mut Event) {
        if event.pid <= 0 {
            return;
        }
        let (exe, uid) = (self.programs.look(event.pid), self.users.look(event.pid));
        let (exe, uid) = match (exe, uid) {
            (Some(exe), Some(uid)) => (Some(exe), Some(uid)),
            (exe, uid) => {
                let recent = self.recent.look(event.pid);
                (exe.or_else(|| recent.exe.clone()), uid.or(recent.uid))
            }
        };
        (event.exe, event.uid) = (exe, uid);
    }
}

/// Whether the kernel tells of all processes.
#[derive(Debug, Default)]
enum Followed<T: Teller> {
    /// It was not asked.
    #[default]
    No,
    /// It refused.
    Refused,
    /// It does.
    Yes(Ledger<T>),
}

impl<T: Teller> Followed<T> {
    fn follow(&mut self, option: &str, sources: &Sources) {
        if !matches!(self, Self::No) {
            return;
        }
        let ledger = Ledger::follow().and_then(|ledger| sources.add(&ledger).map(|()| ledger));
        *self = ledger.map_or_else(
            |errno| {
                tracing::warn!(
                    error = errno.desc(),
                    "the kernel does not tell of all processes: `{option}` misses those that live for moments only"
                );
                Self::Refused
            },
            Self::Yes,
        );
    }

    fn begin(&mut self) {
        if let Self::Yes(ledger) = self {
            ledger.begin();
        }
    }

    fn forget_ended(&mut self) {
        if let Self::Yes(ledger) = self {
            ledger.forget_ended();
        }
    }

    fn look(&mut self, pid: i32) -> Option<T::Fact> {
        match self {
            Self::Yes(ledger) => ledger.look(pid),
            Self::No | Self::Refused => None,
        }
    }
}
