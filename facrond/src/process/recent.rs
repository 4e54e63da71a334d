//! Processes that were seen in `/proc` not long ago.
//!
//! A process that is gone when its event is read was often seen alive a moment
//! ago, with an event that came before. What was seen then is kept for a while.

use super::attribution::Facts;
use super::table::Turn;
use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

/// How long what is known of a process that is gone is believed: far less than it
/// takes until a pid is given out again.
const BELIEVED: Duration = Duration::from_secs(10);

/// Processes that are kept at most.
const KEPT: usize = 4096;

#[derive(Debug)]
struct Seen {
    facts: Facts,
    /// When it was last there.
    at: Instant,
    /// When it was last looked up.
    turn: Turn,
}

/// The processes of the latest events.
#[derive(Debug, Default)]
pub(super) struct Recent {
    seen: FxHashMap<i32, Seen>,
    turn: Turn,
}

impl Recent {
    /// Processes are looked up anew.
    pub(super) fn begin(&mut self, turn: Turn) {
        self.turn = turn;
        if self.seen.len() > KEPT {
            self.seen.retain(|_, seen| seen.at.elapsed() < BELIEVED);
            if self.seen.len() > KEPT {
                self.seen.clear();
            }
        }
    }

    /// What is known of a process.
    pub(super) fn facts(&mut self, pid: i32) -> &Facts {
        let (turn, now) = (self.turn, Instant::now());
        let seen = self.seen.entry(pid).or_insert_with(|| Seen {
            facts: Facts::default(),
            at: now,
            turn: Turn::default(),
        });
        if seen.turn != turn {
            seen.turn = turn;
            seen.refresh(Facts::look_up(pid), now);
        }
        &seen.facts
    }
}

impl Seen {
    /// A process that ends loses its executable first.
    fn refresh(&mut self, facts: Facts, now: Instant) {
        let is_believed = now.duration_since(self.at) < BELIEVED;
        match facts {
            Facts { exe: Some(_), .. } => (self.facts, self.at) = (facts, now),
            Facts { exe: None, uid } if is_believed => self.facts.uid = uid.or(self.facts.uid),
            gone => (self.facts, self.at) = (gone, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(exe: &str, uid: Option<u32>) -> Facts {
        Facts { exe: (!exe.is_empty()).then(|| exe.as_bytes().into()), uid }
    }

    fn shown(seen: &Seen) -> (Option<&str>, Option<u32>) {
        (seen.facts.exe.as_deref().map(|exe| str::from_utf8(exe).unwrap()), seen.facts.uid)
    }

    #[test]
    fn what_is_gone_is_believed_for_a_while() {
        let start = Instant::now();
        let mut seen = Seen { facts: Facts::default(), at: start, turn: Turn::default() };
        seen.refresh(facts("/bin/a", Some(1)), start);
        seen.refresh(facts("", None), start + BELIEVED / 2);
        assert_eq!(shown(&seen), (Some("/bin/a"), Some(1)));
        seen.refresh(facts("/bin/b", Some(2)), start + BELIEVED / 2);
        assert_eq!(shown(&seen), (Some("/bin/b"), Some(2)), "the same process, another program");
        seen.refresh(facts("", Some(3)), start + BELIEVED);
        assert_eq!(shown(&seen), (Some("/bin/b"), Some(3)), "a zombie still has its user");
        seen.refresh(facts("", None), start + BELIEVED * 2);
        assert_eq!(shown(&seen), (None, None), "another process may have the pid by now");
    }

    #[test]
    fn no_more_are_kept_than_are_of_use() {
        let mut recent = Recent::default();
        let mut turn = Turn::default();
        for pid in 1..=2 * KEPT {
            turn = turn.next();
            recent.begin(turn);
            recent.facts(i32::MAX - i32::try_from(pid).unwrap());
        }
        assert!(recent.seen.len() <= KEPT + 1);
    }
}
