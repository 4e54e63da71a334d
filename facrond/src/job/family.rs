//! Who descends from the commands, told by their forks and exits alone.
//!
//! A process that has ended is kept until all that it caused has been read from
//! the fanotify queue: the order is *read records, read forks, judge records*, so a
//! record's process is known before it is judged. Then it is forgotten, since its
//! number may be somebody else's next. Pure: no clock and no I/O.

use crate::kernel::forks::{Change, Told};
use rustc_hash::FxHashMap;

/// A process that ended longer ago than this caused no record that is read now,
/// in nanoseconds: its number is somebody else's by now. Only where nothing woke
/// the daemon when it ended, because its own parent, still running, reaped it.
const MAX_DELAY: u64 = 10_000_000_000;

/// The commands and all that descends from them.
#[derive(Debug)]
pub(super) struct Family {
    daemon: i32,
    members: FxHashMap<i32, Member>,
    /// Members that ended since the queue was drained last.
    ended: Vec<i32>,
    /// Members that live on untold, because the kernel stopped telling of them.
    strays: Vec<i32>,
    /// Whether forks are missing.
    has_lost: bool,
    /// Whether they were, and what those caused that were never seen may be unread.
    is_uncertain: bool,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// The command's first process that it descends from, or is.
    leader: i32,
    threads: u32,
    ended: Option<u64>,
}

impl Family {
    /// That of the daemon with this pid, without children.
    pub(super) fn new(daemon: i32) -> Self {
        Self {
            daemon,
            members: FxHashMap::default(),
            ended: Vec::new(),
            strays: Vec::new(),
            has_lost: false,
            is_uncertain: false,
        }
    }

    /// Takes in what happened, in order.
    pub(super) fn apply(&mut self, changes: &[Told]) {
        for (time, change) in changes {
            match *change {
                Change::Fork { pid, .. } | Change::Exit { pid } if pid == self.daemon => {}
                Change::Fork { pid, parent } if pid == parent => {
                    if let Some(member) = self.members.get_mut(&pid) {
                        member.threads += 1;
                    }
                }
                Change::Fork { pid, parent } => {
                    let leader = if parent == self.daemon { pid } else { self.leader_of(parent) };
                    self.members.insert(pid, Member { leader, threads: 1, ended: None });
                }
                Change::Exit { pid } => self.on_exit(pid, *time),
                Change::Lost => self.has_lost = true,
            }
        }
    }

    fn on_exit(&mut self, pid: i32, time: u64) {
        let Some(member) = self.members.get_mut(&pid) else { return };
        member.threads = member.threads.saturating_sub(1);
        if member.threads == 0 {
            member.ended = Some(time);
            self.ended.push(pid);
        }
    }

    /// The leader of a member; 0 if that is not known.
    fn leader_of(&self, pid: i32) -> i32 {
        self.members.get(&pid).map_or(0, |member| member.leader)
    }

    /// Whether a record that is read now (in nanoseconds of the changes' clock) is
    /// a member's.
    pub(super) fn contains(&self, pid: i32, now: impl FnOnce() -> u64) -> bool {
        let member = self.members.get(&pid);
        member.is_some_and(|member| member.ended.is_none_or(|ended| now().saturating_sub(ended) < MAX_DELAY))
    }

    /// Whether whoever is no member is foreign; else it has to be looked at.
    pub(super) fn is_complete(&self) -> bool {
        !self.has_lost && !self.is_uncertain && self.strays.is_empty()
    }

    /// The members that live and belong to a command, by its first process.
    pub(super) fn of(&self, leader: i32) -> impl Iterator<Item = i32> {
        let living =
            self.members.iter().filter(move |(_, member)| member.leader == leader && member.ended.is_none());
        living.map(|(pid, _)| *pid)
    }

    /// Whether changes are missing; then [`Family::recover`] is due.
    pub(super) fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Makes up for what was lost: `living` are all descendants, each with its leader.
    pub(super) fn recover(&mut self, living: impl IntoIterator<Item = (i32, i32)>, now: u64) {
        self.has_lost = false;
        self.is_uncertain = true;
        let mut missing: FxHashMap<i32, i32> = living.into_iter().collect();
        for (pid, member) in &mut self.members {
            if missing.remove(pid).is_none() && member.ended.is_none() {
                member.ended = Some(now);
                self.ended.push(*pid);
            }
        }
        for (pid, leader) in missing {
            // The number of its threads is not known, and so not when it ends.
            self.members.insert(pid, Member { leader, threads: 1, ended: None });
            self.strays.push(pid);
        }
    }

    /// The queue was empty after the last changes had been taken in: what ended
    /// before is forgotten. `is_alive` tells whether a process still runs below the
    /// daemon, for those of which the kernel stopped telling.
    pub(super) fn forget_ended(&mut self, is_alive: impl Fn(i32) -> bool) {
        self.is_uncertain = false;
        for pid in std::mem::take(&mut self.ended) {
            let Some(member) = self.members.get_mut(&pid).filter(|member| member.ended.is_some()) else {
                continue;
            };
            if is_alive(pid) {
                member.ended = None;
                self.strays.push(pid);
            } else {
                self.members.remove(&pid);
            }
        }
        let members = &mut self.members;
        self.strays.retain(|pid| {
            let stays = is_alive(*pid);
            if !stays {
                members.remove(pid);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: i32 = 10;

    fn fork(pid: i32, parent: i32) -> Told {
        (0, Change::Fork { pid, parent })
    }

    fn exit(pid: i32) -> Told {
        (0, Change::Exit { pid })
    }

    fn family(changes: &[Told]) -> Family {
        let mut family = Family::new(DAEMON);
        family.apply(changes);
        family
    }

    fn of(family: &Family, leader: i32) -> Vec<i32> {
        let mut pids: Vec<i32> = family.of(leader).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn descendants_belong_to_their_command_also_when_all_between_are_gone() {
        let family =
            family(&[fork(20, DAEMON), fork(21, 20), exit(20), fork(22, 21), exit(21), fork(30, DAEMON)]);
        assert_eq!(of(&family, 20), [22]);
        assert_eq!(of(&family, 30), [30]);
        assert!(family.contains(20, || 1) && family.contains(22, || 1) && !family.contains(DAEMON, || 1));
    }

    #[test]
    fn an_ended_process_is_known_until_the_queue_is_drained() {
        let mut family = family(&[fork(20, DAEMON), fork(21, 20), exit(21)]);
        assert!(family.contains(21, || 1));
        assert!(!family.contains(21, || MAX_DELAY), "so late, its number is another's");
        family.forget_ended(|_| false);
        assert!(family.contains(20, || MAX_DELAY) && !family.contains(21, || 1));
        family.apply(&[fork(21, 20)]);
        family.forget_ended(|_| false);
        assert!(family.contains(21, || 1), "used again by one of ours");
    }

    #[test]
    fn a_process_ends_with_its_last_thread() {
        let mut family = family(&[fork(20, DAEMON), fork(20, 20), exit(20)]);
        assert_eq!(of(&family, 20), [20]);
        family.apply(&[exit(20)]);
        assert!(of(&family, 20).is_empty());
        family.apply(&[fork(DAEMON, DAEMON), exit(DAEMON)]);
        assert!(!family.contains(DAEMON, || 1), "our own threads are nobody's descendants");
    }

    #[test]
    fn one_that_lives_on_untold_makes_the_knowledge_incomplete_until_it_ends() {
        let mut family = family(&[fork(20, DAEMON), fork(21, 20), exit(21)]);
        family.forget_ended(|pid| pid == 21);
        assert!(family.contains(21, || MAX_DELAY) && !family.is_complete());
        assert_eq!(of(&family, 20), [20, 21]);
        family.forget_ended(|_| false);
        assert!(!family.contains(21, || 1) && family.is_complete());
    }

    #[test]
    fn what_was_lost_is_looked_up() {
        let mut family = family(&[fork(20, DAEMON), fork(21, 20), (0, Change::Lost)]);
        assert!(family.has_lost() && !family.is_complete());
        family.recover([(20, 20), (23, 20)], 1);
        assert_eq!(of(&family, 20), [20, 23]);
        assert!(family.contains(21, || 1), "it may have caused what is not read yet");
        family.forget_ended(|pid| pid == 23);
        assert!(!family.contains(21, || 1) && !family.has_lost() && !family.is_complete());
        family.apply(&[exit(23)]);
        family.forget_ended(|_| false);
        assert!(family.is_complete() && !family.contains(23, || 1));
    }
}
