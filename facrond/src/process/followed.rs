//! One fact about all processes, as process events of the whole system tell it.

use super::now;
use super::table::{Ended, Table, Turn};
use crate::kernel::process;
use crate::kernel::process_events::{ProcessEvent, ProcessEventSource};
use crate::kernel::sources::Sources;
use nix::errno::Errno;

/// All processes of the system, and what is known of them.
#[derive(Debug)]
pub(super) struct Followed<S: ProcessEventSource> {
    source: S,
    table: Table<S::Fact>,
    events: Vec<ProcessEvent<S::Fact>>,
    turn: Turn,
}

impl<S: ProcessEventSource> Followed<S> {
    /// Takes in all processes that there are; `sources` becomes readable when
    /// [`Followed::refresh`] is due.
    pub(super) fn follow(turn: Turn, sources: &Sources) -> Result<Self, Errno> {
        let source = S::follow()?;
        sources.add(&source)?;
        let mut followed = Self { source, table: Table::default(), events: Vec::new(), turn };
        followed.recover();
        followed.refresh();
        Ok(followed)
    }

    /// Takes in what the kernel has told since.
    pub(super) fn refresh(&mut self) {
        if let Err(errno) = self.source.read(&mut self.events) {
            tracing::error!(error = errno.desc(), "cannot read what the kernel tells of processes");
        }
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
        Followed::follow(Turn::default(), &Sources::new().unwrap()).unwrap()
    }

    #[test]
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
    fn who_was_there_before_is_known() {
        let own = std::process::id().cast_signed();
        assert_eq!(follow::<Users>().table.fact(own).copied(), Users::look_up(own));
        assert_eq!(follow::<Programs>().table.fact(own).cloned(), Programs::look_up(own));
    }
}
