//! Who waits, and for which rules' commands: pure, over an injected clock.
//!
//! A process that waits is a *hold*; it has a question for each rule whose command
//! is to decide. The first denial answers it, else the last allowance does.

use super::message::{By, Occasion};
use super::rule_index::Match;
use crate::config::permission::Verdict;
use crate::kernel::object::Object;
use facron_proto::RuleId;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Hold {
    pub object: Object,
    pub occasion: Occasion,
    pub since: Instant,
    /// How long, where it was answered already: what the rules say was clear.
    pub held_for: Option<Duration>,
    /// Whether it is the same for all processes.
    pub is_general: bool,
    /// The rules, and whether each has a question.
    pub parts: Vec<(Match, Option<u64>)>,
}

#[derive(Debug)]
struct Question {
    hold: u64,
    rule: RuleId,
    deadline: Instant,
    on_failure: Verdict,
}

/// A rule's command that is to decide.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub rule: RuleId,
    pub deadline: Instant,
    pub on_failure: Verdict,
}

#[derive(Debug, Default)]
pub struct Questions {
    next: u64,
    holds: FxHashMap<u64, Hold>,
    asked: FxHashMap<u64, Question>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// How many questions each rule has.
    counts: FxHashMap<RuleId, usize>,
}

impl Questions {
    pub fn holds(&self) -> usize {
        self.holds.len()
    }

    /// Whether a question is still open.
    pub fn is_open(&self, question: u64) -> bool {
        self.asked.contains_key(&question)
    }

    /// The object that an open question is about.
    pub fn object(&self, question: u64) -> Option<&Object> {
        Some(&self.holds.get(&self.asked.get(&question)?.hold)?.object)
    }

    /// Whether a rule has as many questions as half of the places that the others leave.
    pub fn is_full(&self, rule: RuleId, places: usize) -> bool {
        self.counts.get(&rule).copied().unwrap_or_default() >= places.saturating_sub(self.holds())
    }

    fn close(&mut self, number: u64) -> Option<Question> {
        let question = self.asked.remove(&number)?;
        self.deadlines.remove(&(question.deadline, number));
        let count = self.counts.get_mut(&question.rule)?;
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&question.rule);
        }
        Some(question)
    }

    /// Lets a process wait for these rules' commands, one at least; the number of each question.
    pub fn open(&mut self, mut hold: Hold, asked: &[Asked]) -> Vec<u64> {
        self.next += 1;
        let id = self.next;
        let mut numbers = Vec::with_capacity(asked.len());
        for Asked { rule, deadline, on_failure } in asked.iter().copied() {
            self.next += 1;
            numbers.push(self.next);
            self.asked.insert(self.next, Question { hold: id, rule, deadline, on_failure });
            self.deadlines.insert((deadline, self.next));
            *self.counts.entry(rule).or_default() += 1;
            for (part, question) in hold.parts.iter_mut().filter(|(part, _)| part.rule == rule) {
                part.by = By::Command;
                *question = Some(self.next);
            }
        }
        self.holds.insert(id, hold);
        numbers
    }

    /// A question's answer, `None` for a command that failed; who need not wait any
    /// more then, and what it is told. One that is not open any more is no error.
    pub fn decide(&mut self, number: u64, verdict: Option<Verdict>, why: By) -> Option<(Hold, Verdict)> {
        let question = self.close(number)?;
        let by = if verdict.is_some() { By::Command } else { why };
        let verdict = verdict.unwrap_or(question.on_failure);
        let hold = self.holds.get_mut(&question.hold)?;
        for (part, _) in hold.parts.iter_mut().filter(|(part, _)| part.rule == question.rule) {
            part.by = by;
        }
        let is_last =
            !hold.parts.iter().any(|(_, other)| other.is_some_and(|other| self.asked.contains_key(&other)));
        if verdict == Verdict::Allow && !is_last {
            return None;
        }
        let mut hold = self.holds.remove(&question.hold)?;
        for (part, other) in &mut hold.parts {
            if other.and_then(|other| self.close(other)).is_some() {
                part.by = By::Other(question.rule);
            }
        }
        Some((hold, verdict))
    }

    /// A question whose time is over.
    pub fn overdue(&self, now: Instant) -> Option<u64> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, number)| *number)
    }

    pub fn any(&self) -> Option<u64> {
        self.deadlines.first().map(|(_, number)| *number)
    }

    /// How long until the next deadline.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| deadline.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Events;
    use facron_proto::Text;
    use std::path::Path;

    fn hold(rules: &[u64]) -> Hold {
        let occasion = Occasion {
            time_ns: 0,
            path: Text::from("/x"),
            mask: 0,
            pid: 1,
            exe: None,
            uid: None,
            is_here: true,
            is_own: false,
        };
        let part =
            |rule: &u64| (Match { rule: RuleId(*rule), events: Events::OPEN_PERM, by: By::Rule }, None);
        let object = Object::open(Path::new("/")).unwrap();
        Hold {
            object,
            occasion,
            since: Instant::now(),
            held_for: None,
            is_general: true,
            parts: rules.iter().map(part).collect(),
        }
    }

    fn asked(rule: u64, deadline: Instant) -> Asked {
        Asked { rule: RuleId(rule), deadline, on_failure: Verdict::Deny }
    }

    #[test]
    fn all_must_allow() {
        let now = Instant::now();
        let mut questions = Questions::default();
        let numbers = questions.open(hold(&[1, 2]), &[asked(1, now), asked(2, now)]);
        assert!(questions.decide(numbers[1], Some(Verdict::Allow), By::Failure).is_none());
        assert!(questions.decide(numbers[1], Some(Verdict::Deny), By::Failure).is_none(), "answered already");
        let (_, verdict) = questions.decide(numbers[0], Some(Verdict::Allow), By::Failure).unwrap();
        assert_eq!((verdict, questions.holds()), (Verdict::Allow, 0));
    }

    #[test]
    fn one_denial_is_enough() {
        let now = Instant::now();
        let mut questions = Questions::default();
        let numbers = questions.open(hold(&[1, 2]), &[asked(1, now), asked(2, now)]);
        let (hold, verdict) = questions.decide(numbers[1], Some(Verdict::Deny), By::Failure).unwrap();
        let by: Vec<_> = hold.parts.iter().map(|(part, _)| part.by).collect();
        assert_eq!((verdict, by), (Verdict::Deny, vec![By::Other(RuleId(2)), By::Command]));
        assert!(questions.any().is_none() && !questions.is_open(numbers[0]));
    }

    #[test]
    fn no_rule_takes_more_than_half_of_what_the_others_leave() {
        let now = Instant::now();
        let mut questions = Questions::default();
        let mut fill = |rule| {
            let mut count = 0;
            while !questions.is_full(RuleId(rule), 16) {
                questions.open(hold(&[rule]), &[asked(rule, now)]);
                count += 1;
            }
            count
        };
        assert_eq!([1, 2, 3, 1].map(&mut fill), [8, 4, 2, 0]);
        let first = questions.any().unwrap();
        questions.decide(first, None, By::Deadline);
        assert!(!questions.is_full(RuleId(4), 16) && !questions.is_full(RuleId(1), 64));
    }

    #[test]
    fn deadlines_in_their_order() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut questions = Questions::default();
        let second = questions.open(hold(&[1]), &[asked(1, later)]);
        let first = questions.open(hold(&[2]), &[asked(2, now)]);
        assert_eq!(questions.overdue(now), Some(first[0]));
        let (hold, verdict) = questions.decide(first[0], None, By::Deadline).unwrap();
        assert_eq!((hold.parts[0].0.by, verdict), (By::Deadline, Verdict::Deny));
        assert_eq!((questions.overdue(now), questions.time_left(now)), (None, Some(Duration::from_secs(1))));
        assert_eq!(questions.overdue(later), Some(second[0]));
    }
}
