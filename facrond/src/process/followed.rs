//! One fact about all processes, as process events of the whole system tell it, as long as
//! a rule asks for it.

use super::now;
use super::table::{Ended, Table, Turn};
use crate::kernel::process;
use crate::kernel::process_events::{ProcessEvent, ProcessEventSource};
use crate::kernel::sources::Sources;
use nix::errno::Errno;

/// All processes of the system; none without a source.
#[derive(Debug)]
pub(super) struct Followed<S: ProcessEventSource> {
    source: Option<S>,
    /// Whether the kernel was asked for the source; it may have refused.
    was_asked: bool,
    table: Table<S::Fact>,
    events: Vec<ProcessEvent<S::Fact>>,
    turn: Turn,
}

impl<S: ProcessEventSource> Default for Followed<S> {
    fn default() -> Self {
        let (table, events) = (Table::default(), Vec::new());
        Self { source: None, was_asked: false, table, events, turn: Turn::default() }
    }
}

impl<S: ProcessEventSource> Followed<S> {
    /// Takes in all processes that there are, for this option of rules. `sources` becomes
    /// readable when [`Followed::refresh`] is due.
    pub(super) fn follow(&mut self, option: &str, sources: &Sources) {
        if std::mem::replace(&mut self.was_asked, true) {
            return;
        }
        match S::follow().and_then(|source| sources.add(&source).map(|()| source)) {
            Ok(source) => {
                self.source = Some(source);
                self.recover();
                self.refresh();
            }
            Err(errno) => tracing::warn!(
                error = errno.desc(),
                "the kernel does not tell of all processes: `{option}` misses those that live for moments only"
            ),
        }
    }

    /// Takes in what the kernel has told since.
    pub(super) fn refresh(&mut self) {
        let read = self.source.as_mut().map_or(Ok(()), |source| source.read(&mut self.events));
        read.unwrap_or_else(|errno: Errno| {
            tracing::error!(error = errno.desc(), "cannot read what the kernel tells of processes");
        });
        let events = self.events.drain(..);
        self.table.apply(events, self.turn, |pid, _, known| known.or_else(|| S::look_up(pid)));
        if self.table.has_lost() {
            self.recover();
        }
    }

    fn recover(&mut self) {
        let living = process::pids().map(|pid| (pid, S::look_up(pid)));
        let present = Ended { time: now(), turn: self.turn };
        self.table.recover(living, present, |known, seen| seen.or(known));
    }

    /// [`Followed::refresh`], and what is taken in later is of turn `next`.
    pub(super) fn begin(&mut self, next: Turn) {
        self.refresh();
        self.turn = next;
    }

    /// Forgets what had ended when `turn` was over.
    pub(super) fn end(&mut self, turn: Turn) {
        self.table.forget(turn, |_| false);
    }

    /// The fact about the process that caused an event.
    pub(super) fn fact(&self, pid: i32) -> Option<S::Fact> {
        self.source.as_ref()?;
        match self.table.fact(pid) {
            None if self.table.ended(pid).is_none() => S::look_up(pid),
            fact => fact.cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::process_events::{Programs, Users};
    use std::process::Command;

    fn follow<S: ProcessEventSource>() -> Followed<S> {
        let mut followed = Followed::default();
        followed.follow("", &Sources::new().unwrap());
        followed
    }

    #[test]
    #[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
    fn what_has_ended_is_known_until_its_events_are_read() {
        let (mut users, mut programs) = (follow::<Users>(), follow::<Programs>());
        let args = ["--reuid=65534", "sh", "-c", "(:; :) & wait"];
        let mut child = Command::new("setpriv").args(args).spawn().unwrap();
        let pid = child.id().cast_signed();
        child.wait().unwrap();
        let (drained, next) = (Turn::default(), Turn::default().next());
        users.begin(next);
        programs.begin(next);
        assert_eq!(users.fact(pid), Some(65534));
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        assert_eq!(programs.fact(pid).as_deref(), Some(shell.as_os_str().as_encoded_bytes()));
        users.end(drained);
        programs.end(drained);
        assert_eq!((users.fact(pid), programs.fact(pid)), (None, None));
    }

    #[test]
    #[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
    fn who_was_there_before_is_known() {
        let own = std::process::id().cast_signed();
        assert_eq!(follow::<Users>().table.fact(own).copied(), Users::look_up(own));
        assert_eq!(follow::<Programs>().table.fact(own).cloned(), Programs::look_up(own));
    }
}
