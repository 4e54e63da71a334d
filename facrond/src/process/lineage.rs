//! All that descends from the commands, as forks and exits tell it. Pure: no clock and
//! no I/O.
//!
//! The fact about each process is its leader, the first process of its command.

use super::table::{Ended, Table, Turn};
use crate::kernel::process_events::ProcessEvent;

/// The commands of the daemon and their descendants.
#[derive(Debug)]
pub(super) struct Lineage {
    daemon: i32,
    table: Table<i32>,
    /// Processes whose exit will not be told: the kernel stopped telling of them, or did
    /// not tell of their fork.
    strays: Vec<i32>,
    /// The turn in which it was seen that forks are missing: until that is over, file
    /// events of descendants that nobody ever saw may be unread.
    uncertain: Option<Turn>,
}

impl Lineage {
    /// Those of the daemon with this pid, which has no children yet.
    pub(super) fn new(daemon: i32) -> Self {
        Self { daemon, table: Table::default(), strays: Vec::new(), uncertain: None }
    }

    /// Takes in what happened, in order.
    pub(super) fn apply(&mut self, events: impl IntoIterator<Item = ProcessEvent<i32>>, turn: Turn) {
        let daemon = self.daemon;
        self.table.apply(
            events,
            turn,
            |pid, parent, leader| if parent == daemon { Some(pid) } else { leader },
        );
    }

    /// Whether a file event that is read now is of a descendant. `is_over` tells whether
    /// a process that ended at that time can be another by now.
    pub(super) fn contains(&self, pid: i32, is_over: impl FnOnce(u64) -> bool) -> bool {
        self.table.contains(pid) && self.table.ended(pid).is_none_or(|ended| !is_over(ended.time))
    }

    /// Whether all others are foreign; else they have to be looked at.
    pub(super) fn is_complete(&self) -> bool {
        !self.table.has_lost() && self.uncertain.is_none() && self.strays.is_empty()
    }

    /// The living processes of a command.
    pub(super) fn of(&self, leader: i32) -> impl Iterator<Item = i32> {
        self.table.living().filter(move |(_, known)| *known == Some(&leader)).map(|(pid, _)| pid)
    }

    /// Whether events are missing; then [`Lineage::recover`] is due.
    pub(super) fn has_lost(&self) -> bool {
        self.table.has_lost()
    }

    /// Makes up for lost events: `living` are all descendants, each with its leader.
    pub(super) fn recover(&mut self, living: impl IntoIterator<Item = (i32, i32)>, present: Ended) {
        self.uncertain = Some(present.turn);
        let living = living.into_iter().map(|(pid, leader)| (pid, Some(leader)));
        self.strays.extend(self.table.recover(living, present, Option::or));
    }

    /// All file events of what had ended in this turn are read: those processes are
    /// forgotten. `lives` tells whether a process still runs below the daemon, for those
    /// whose exit will not be told; one that does not has ended at present.
    pub(super) fn end(&mut self, turn: Turn, present: Ended, lives: impl Fn(i32) -> bool) {
        self.uncertain = self.uncertain.filter(|since| *since > turn);
        let table = &mut self.table;
        self.strays.retain(|pid| {
            let stays = lives(*pid);
            if !stays {
                table.set_ended(*pid, present);
            }
            stays
        });
        for pid in table.forget(turn, lives) {
            if !self.strays.contains(&pid) {
                self.strays.push(pid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: i32 = 10;

    fn fork(pid: i32, parent: i32) -> ProcessEvent<i32> {
        ProcessEvent::Fork { pid, parent, time: 0 }
    }

    fn exit(pid: i32) -> ProcessEvent<i32> {
        ProcessEvent::Exit { pid, time: 0 }
    }

    fn turn(number: usize) -> Turn {
        (0..number).fold(Turn::default(), |turn, _| turn.next())
    }

    fn present(number: usize) -> Ended {
        Ended { time: 0, turn: turn(number) }
    }

    fn lineage(events: impl IntoIterator<Item = ProcessEvent<i32>>) -> Lineage {
        let mut lineage = Lineage::new(DAEMON);
        lineage.apply(events, turn(1));
        lineage
    }

    fn of(lineage: &Lineage, leader: i32) -> Vec<i32> {
        let mut pids: Vec<i32> = lineage.of(leader).collect();
        pids.sort_unstable();
        pids
    }

    fn contains(lineage: &Lineage, pid: i32) -> bool {
        lineage.contains(pid, |_| false)
    }

    #[test]
    fn descendants_belong_to_their_command_also_when_all_between_are_gone() {
        let lineage =
            lineage([fork(20, DAEMON), fork(21, 20), exit(20), fork(22, 21), exit(21), fork(30, DAEMON)]);
        assert_eq!((of(&lineage, 20), of(&lineage, 30)), (vec![22], vec![30]));
        assert!(contains(&lineage, 20) && contains(&lineage, 22) && !contains(&lineage, DAEMON));
    }

    #[test]
    fn an_ended_process_is_known_until_the_queue_is_drained() {
        let mut lineage = lineage([fork(20, DAEMON), fork(21, 20), exit(21)]);
        assert!(contains(&lineage, 21));
        assert!(!lineage.contains(21, |_| true), "so late, its number is another's");
        lineage.end(turn(1), present(2), |_| false);
        assert!(lineage.contains(20, |_| true) && !contains(&lineage, 21));
        lineage.apply([fork(21, 20)], turn(2));
        lineage.end(turn(2), present(3), |_| false);
        assert!(contains(&lineage, 21), "used again by one of ours");
    }

    #[test]
    fn the_threads_of_the_daemon_are_nobody_s_descendants() {
        let lineage = lineage([ProcessEvent::Thread { pid: DAEMON }, exit(DAEMON)]);
        assert!(!contains(&lineage, DAEMON) && of(&lineage, DAEMON).is_empty());
    }

    #[test]
    fn one_that_lives_on_untold_makes_the_knowledge_incomplete_until_it_ends() {
        let mut lineage = lineage([fork(20, DAEMON), fork(21, 20), exit(21)]);
        lineage.end(turn(1), present(2), |pid| pid == 21);
        assert!(lineage.contains(21, |_| true) && !lineage.is_complete());
        assert_eq!(of(&lineage, 20), [20, 21]);
        lineage.end(turn(2), present(3), |_| false);
        assert!(contains(&lineage, 21) && lineage.is_complete(), "its last events may be unread");
        assert_eq!(of(&lineage, 20), [20]);
        lineage.end(turn(3), present(4), |_| false);
        assert!(!contains(&lineage, 21));
    }

    #[test]
    fn what_was_lost_is_looked_up() {
        let mut lineage = lineage([fork(20, DAEMON), fork(21, 20), ProcessEvent::Lost, fork(24, 22)]);
        assert!(lineage.has_lost() && !lineage.is_complete());
        assert_eq!(of(&lineage, 20), [20, 21], "the command of 24 is not known");
        lineage.recover([(20, 20), (23, 20), (24, 20)], present(2));
        assert_eq!(of(&lineage, 20), [20, 23, 24]);
        assert!(contains(&lineage, 21), "it may have caused what is not read yet");
        lineage.end(turn(1), present(2), |pid| pid == 23);
        assert!(contains(&lineage, 21) && !lineage.is_complete());
        lineage.end(turn(2), present(3), |pid| pid == 23);
        assert!(!contains(&lineage, 21) && !lineage.has_lost() && !lineage.is_complete());
        lineage.apply([exit(23)], turn(3));
        lineage.end(turn(3), present(4), |_| false);
        assert!(lineage.is_complete() && !contains(&lineage, 23));
    }
}
