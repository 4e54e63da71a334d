//! Processes by pid with one fact about each, as process events tell it. Pure: no
//! clock and no I/O.
//!
//! Pids are used again. An event that comes late, of the process that had the pid
//! before, is known by its time and ignored.

use crate::kernel::process_events::ProcessEvent;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Ended processes that are kept at most; then the first of them are forgotten early.
const MAX_ENDED: usize = 1 << 18;

/// One draining of the kernel's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

impl Turn {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// When a process ended, and the turn in which that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) time: u64,
    pub(super) turn: Turn,
}

#[derive(Clone, Debug)]
struct Process<F> {
    fact: Option<F>,
    threads: u32,
    /// When it was made, or last got a fact.
    since: u64,
    ended: Option<Ended>,
}

/// The processes of one source.
#[derive(Debug)]
pub(super) struct Table<F> {
    known: FxHashMap<i32, Process<F>>,
    /// Those that have ended, in the order of their ends.
    ended: VecDeque<(i32, Ended)>,
    has_lost: bool,
}

impl<F> Default for Table<F> {
    fn default() -> Self {
        Self { known: FxHashMap::default(), ended: VecDeque::new(), has_lost: false }
    }
}

impl<F: Clone> Table<F> {
    /// Takes in events. A new process has the fact that `inherit` makes of its pid, the
    /// pid of its parent, and the fact about the parent.
    pub(super) fn apply(
        &mut self,
        events: impl IntoIterator<Item = ProcessEvent<F>>,
        turn: Turn,
        inherit: impl Fn(i32, i32, Option<F>) -> Option<F>,
    ) {
        for event in events {
            match event {
                ProcessEvent::Fork { pid, parent, time } => {
                    let fact = inherit(pid, parent, self.fact(parent).cloned());
                    self.insert(pid, fact, time);
                }
                ProcessEvent::Thread { pid } => {
                    if let Some(process) = self.known.get_mut(&pid) {
                        process.threads += 1;
                    }
                }
                ProcessEvent::Fact { pid, fact, time } => self.insert(pid, Some(fact), time),
                ProcessEvent::Exit { pid, time } => self.on_exit(pid, Ended { time, turn }),
                ProcessEvent::Lost => self.has_lost = true,
            }
        }
    }

    fn insert(&mut self, pid: i32, fact: Option<F>, time: u64) {
        if self.known.get(&pid).is_none_or(|process| process.since <= time) {
            self.known.insert(pid, Process { fact, threads: 1, since: time, ended: None });
        }
    }

    fn on_exit(&mut self, pid: i32, ended: Ended) {
        let Some(process) = self.known.get_mut(&pid).filter(|process| process.since <= ended.time) else {
            return;
        };
        process.threads = process.threads.saturating_sub(1);
        if process.threads == 0 {
            self.set_ended(pid, ended);
        }
    }

    /// A process has ended, however many threads it is known to have.
    pub(super) fn set_ended(&mut self, pid: i32, ended: Ended) {
        if let Some(process) = self.known.get_mut(&pid).filter(|process| process.ended.is_none()) {
            process.ended = Some(ended);
            self.ended.push_back((pid, ended));
        }
        if self.ended.len() > MAX_ENDED {
            self.forget_first(|_| false);
        }
    }

    /// Whether events are missing; then [`Table::recover`] is due.
    pub(super) fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Makes up for lost events: `living` are all processes at present, with what is
    /// known of each. `merge` takes the fact in the table and this one. Returns the
    /// processes that are new in the table.
    pub(super) fn recover(
        &mut self,
        living: impl IntoIterator<Item = (i32, Option<F>)>,
        present: Ended,
        merge: impl Fn(Option<F>, Option<F>) -> Option<F>,
    ) -> Vec<i32> {
        self.has_lost = false;
        let mut missing: FxHashMap<_, _> = living.into_iter().collect();
        let mut gone = Vec::new();
        for (pid, process) in self.known.iter_mut().filter(|(_, process)| process.ended.is_none()) {
            match missing.remove(pid) {
                Some(fact) => process.fact = merge(process.fact.take(), fact),
                None => gone.push(*pid),
            }
        }
        for pid in gone {
            self.set_ended(pid, present);
        }
        let new = missing.keys().copied().collect();
        for (pid, fact) in missing {
            self.insert(pid, fact, present.time);
        }
        new
    }

    /// Forgets what had ended in this turn or before. A process of which `lives` is true
    /// lives on, though its end was told; those are returned.
    pub(super) fn forget(&mut self, turn: Turn, lives: impl Fn(i32) -> bool) -> Vec<i32> {
        let mut living = Vec::new();
        while self.ended.front().is_some_and(|(_, ended)| ended.turn <= turn) {
            living.extend(self.forget_first(&lives));
        }
        living
    }

    fn forget_first(&mut self, lives: impl Fn(i32) -> bool) -> Option<i32> {
        let (pid, ended) = self.ended.pop_front()?;
        // Else the pid is another's by now.
        let process = self.known.get_mut(&pid).filter(|process| process.ended == Some(ended))?;
        if lives(pid) {
            (process.ended, process.threads) = (None, 1);
            return Some(pid);
        }
        self.known.remove(&pid);
        None
    }

    /// The fact about a process; `None` if the process or the fact is not known.
    pub(super) fn fact(&self, pid: i32) -> Option<&F> {
        self.known.get(&pid)?.fact.as_ref()
    }

    pub(super) fn contains(&self, pid: i32) -> bool {
        self.known.contains_key(&pid)
    }

    /// When a process ended; `None` if it lives or is not known.
    pub(super) fn ended(&self, pid: i32) -> Option<Ended> {
        self.known.get(&pid)?.ended
    }

    /// The processes that live, and the facts about them.
    pub(super) fn living(&self) -> impl Iterator<Item = (i32, Option<&F>)> {
        let living = self.known.iter().filter(|(_, process)| process.ended.is_none());
        living.map(|(pid, process)| (*pid, process.fact.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Event = ProcessEvent<&'static str>;

    fn fork(pid: i32, parent: i32, time: u64) -> Event {
        Event::Fork { pid, parent, time }
    }

    fn fact(pid: i32, fact: &'static str, time: u64) -> Event {
        Event::Fact { pid, fact, time }
    }

    fn exit(pid: i32, time: u64) -> Event {
        Event::Exit { pid, time }
    }

    fn apply(table: &mut Table<&'static str>, turn: u64, events: impl IntoIterator<Item = Event>) {
        table.apply(events, Turn(turn), |_, _, known| known);
    }

    fn table(events: impl IntoIterator<Item = Event>) -> Table<&'static str> {
        let mut table = Table::default();
        apply(&mut table, 1, events);
        table
    }

    fn forget(table: &mut Table<&'static str>, turn: u64) {
        assert!(table.forget(Turn(turn), |_| false).is_empty());
    }

    #[test]
    fn a_new_process_has_the_facts_of_its_parent_until_it_gets_its_own() {
        let mut table = table([fork(5, 1, 1), fact(5, "sh", 2), fork(6, 5, 3)]);
        assert_eq!(table.fact(6), Some(&"sh"));
        apply(&mut table, 2, [exit(5, 4), fact(6, "vi", 5)]);
        assert_eq!((table.fact(5), table.fact(6)), (Some(&"sh"), Some(&"vi")));
        assert_eq!(table.living().collect::<Vec<_>>(), [(6, Some(&"vi"))]);
    }

    #[test]
    fn all_of_a_short_life_at_once() {
        let mut table = table([fork(5, 1, 1), fact(5, "true", 2), exit(5, 3)]);
        assert_eq!((table.fact(5), table.living().count()), (Some(&"true"), 0));
        forget(&mut table, 1);
        assert!(!table.contains(5));
    }

    #[test]
    fn a_process_ends_with_its_last_thread() {
        let mut table = table([fork(5, 1, 1), Event::Thread { pid: 5 }, exit(5, 2)]);
        assert_eq!(table.ended(5), None);
        apply(&mut table, 2, [exit(5, 3)]);
        assert_eq!(table.ended(5), Some(Ended { time: 3, turn: Turn(2) }));
    }

    #[test]
    fn what_ended_later_than_the_queue_was_read_stays() {
        let mut table = table([fact(5, "a", 1), fact(6, "b", 1), exit(5, 2)]);
        apply(&mut table, 2, [exit(6, 3)]);
        forget(&mut table, 1);
        assert_eq!((table.fact(5), table.fact(6)), (None, Some(&"b")));
        forget(&mut table, 2);
        assert_eq!(table.fact(6), None);
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let mut table = table([fact(5, "old", 1), exit(5, 2), fork(5, 1, 3), fact(5, "new", 4)]);
        apply(&mut table, 2, [exit(5, 5)]);
        forget(&mut table, 1);
        assert_eq!(table.fact(5), Some(&"new"), "its own end is not due");
        apply(&mut table, 3, [fork(5, 1, 6)]);
        forget(&mut table, 2);
        assert!(table.contains(5));
    }

    #[test]
    fn what_comes_late_is_about_the_process_before() {
        let mut table = table([fact(5, "new", 10), exit(5, 9), fact(5, "old", 8), fork(5, 1, 7), exit(7, 1)]);
        assert_eq!((table.fact(5), table.ended(5)), (Some(&"new"), None));
        apply(&mut table, 1, [exit(5, 11)]);
        assert!(table.ended(5).is_some());
    }

    #[test]
    fn a_new_program_of_a_process_whose_first_thread_ended() {
        // exec(2) by another thread ends the first, and takes its pid.
        let mut table = table([fact(5, "a", 1), exit(5, 2), fact(5, "b", 2)]);
        forget(&mut table, 1);
        assert_eq!((table.fact(5), table.ended(5)), (Some(&"b"), None));
    }

    #[test]
    fn lost_events_are_made_up_for() {
        let mut table = table([fact(5, "a", 1), fact(6, "b", 1), fork(7, 2, 1), fact(8, "d", 1), exit(8, 2)]);
        apply(&mut table, 1, [Event::Lost]);
        assert!(table.has_lost());
        let seen = [(5, Some("A")), (7, Some("c")), (9, None)];
        let new = table.recover(seen, Ended { time: 20, turn: Turn(2) }, Option::or);
        assert_eq!((new, table.has_lost()), (vec![9], false));
        let facts = [5, 6, 7, 8, 9].map(|pid| table.fact(pid).copied());
        assert_eq!(facts, [Some("a"), Some("b"), Some("c"), Some("d"), None]);
        assert_eq!(table.ended(6), Some(Ended { time: 20, turn: Turn(2) }), "its events may not be read yet");
        apply(&mut table, 2, [exit(9, 19)]);
        assert_eq!(table.ended(9), None, "of the process before: it was seen later than that");
        forget(&mut table, 2);
        assert!(!table.contains(6) && !table.contains(8) && table.contains(9));
    }

    #[test]
    fn who_lives_on_untold_is_kept() {
        let mut table = table([fact(5, "a", 1), exit(5, 2)]);
        assert_eq!(table.forget(Turn(1), |pid| pid == 5), [5]);
        assert_eq!((table.fact(5), table.ended(5)), (Some(&"a"), None));
    }

    #[test]
    fn the_number_of_ended_processes_is_bounded() {
        let mut table = Table::default();
        for pid in 1..=i32::try_from(MAX_ENDED).unwrap() + 2 {
            apply(&mut table, 1, [fact(pid, "a", 1), exit(pid, 2)]);
        }
        assert!(!table.contains(1) && !table.contains(2) && table.contains(3));
    }
}
