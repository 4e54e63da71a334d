//! From an event to its answer, and to what is remembered and told of it.

use super::{Gate, monotonic, nanoseconds};
use crate::config::permission::{Decision, Verdict};
use crate::config::process_filter::Judgement;
use crate::events::Events;
use crate::gate::message::{Afterwards, Answered, By, Occasion, Part, Question};
use crate::gate::place::{Whereabouts, leads_to};
use crate::gate::questions::{Asked, Hold};
use crate::gate::rule_index::{Known, Match};
use crate::gate::verdict_cache::TICK;
use crate::kernel::object::{Kind, Object};
use crate::kernel::permission::{Answer, Held};
use crate::kernel::process;
use crate::process::ancestry::Relation;
use facron_proto::Text;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

impl Gate {
    /// Somebody waits.
    pub(super) fn on_held(&mut self, held: Held) {
        let since = Instant::now();
        let object = match Object::of(held.fd) {
            Ok(object) => object,
            Err((fd, _)) => return self.answer(fd.as_fd(), Verdict::Allow),
        };
        let place = self.place_of(&object, held.pid);
        let matches = self.index.matches(&object, &place, Events::from_mask(held.mask));
        let is_general = !matches.iter().any(|part| self.asks_who(part));
        let allowed = Some(Decision::Always(Verdict::Allow));
        let is_allowed = is_general && matches.iter().all(|part| self.decision(part) == allowed);
        // What is allowed whoever asks needs no look at who asks first, unless a command runs
        // then: who asks may be gone as soon as it has its answer.
        let is_answered = is_allowed && !matches.iter().any(|part| self.runs_afterwards(part));
        if is_answered {
            self.answer(object.as_fd(), Verdict::Allow);
        }
        if matches.is_empty() {
            return;
        }
        if is_answered && self.notices.merge(held.pid, held.mask, &place.path, &matches) {
            self.totals.allowed += 1;
            return;
        }
        let held_for = is_answered.then(|| since.elapsed());
        let opener = self.ancestry.look(held.pid);
        if opener.relation == Relation::Trusted {
            self.totals.own += 1;
            if !is_answered {
                self.answer(object.as_fd(), Verdict::Allow);
            }
            return;
        }
        let exe = process::exe(held.pid);
        // The name that a process has for its executable can be one of a mount of its own.
        let executable = if is_general { None } else { Object::executable(held.pid).ok() };
        let known = exe.as_deref().filter(|exe| executable.is_some_and(|object| leads_to(exe, &object)));
        let counts = |part: &Match| self.counts(part, opener.uid, known);
        let parts: Vec<_> = matches.into_iter().filter(counts).map(|part| (part, None)).collect();
        if parts.is_empty() {
            return self.answer(object.as_fd(), Verdict::Allow);
        }
        let occasion = Occasion {
            time_ns: nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            path: Text(place.path),
            is_here: place.is_here,
            is_own: opener.relation == Relation::Command,
            mask: held.mask,
            pid: held.pid,
            exe: exe.map(|exe| Text(exe.into_vec())),
            uid: opener.uid,
        };
        self.decide_at_once(Hold { object, occasion, since, held_for, is_general, parts });
    }

    /// Whether a rule is only about some processes.
    fn asks_who(&self, part: &Match) -> bool {
        self.index.get(part.rule).is_some_and(|known| known.rule.process_filter.matters())
    }

    fn runs_afterwards(&self, part: &Match) -> bool {
        self.index.get(part.rule).is_some_and(|known| known.rule.afterwards == Afterwards::Runs)
    }

    /// Whether a rule is about this process. If that is not known, all rules are but those that
    /// allow.
    fn counts(&self, part: &Match, uid: Option<u32>, exe: Option<&[u8]>) -> bool {
        let Some(known) = self.index.get(part.rule) else { return false };
        let filter = &known.rule.process_filter;
        let is_known = (filter.uid.is_none() || uid.is_some()) && (filter.exe.is_none() || exe.is_some());
        match filter.judge(uid, exe) {
            Judgement::DoesNot => false,
            Judgement::Counts if is_known => true,
            Judgement::Counts | Judgement::Unknown => !known.always_allows(),
        }
    }

    /// Where an object is. One that is only marked for itself is where its rule says.
    fn place_of(&self, object: &Object, pid: i32) -> Whereabouts {
        if let Some(path) = self.index.path_of(object) {
            return Whereabouts { path: path.to_vec(), is_here: true, directory: None };
        }
        let path = self.paths.of(object);
        let mut place = path.map_or_else(Whereabouts::default, |path| Whereabouts::of(object, path, pid));
        if !place.is_here
            && let Some(path) = self.index.path_in(&place).filter(|path| leads_to(path, object))
        {
            (place.path, place.is_here) = (path, true);
        }
        place
    }

    fn decision(&self, part: &Match) -> Option<Decision> {
        self.index.get(part.rule).map(|known| known.rule.decision)
    }

    /// Answers at once, or asks.
    fn decide_at_once(&mut self, mut hold: Hold) {
        if hold.held_for.is_none() && self.cache.denies(&hold.object, permission(&hold), hold.since) {
            set_all(&mut hold, By::Cache);
            return self.conclude(&hold, Verdict::Deny);
        }
        let denial = hold
            .parts
            .iter()
            .position(|(part, _)| self.decision(part) == Some(Decision::Always(Verdict::Deny)));
        if let Some(denial) = denial {
            let rule = hold.parts[denial].0.rule;
            set_all(&mut hold, By::Other(rule));
            hold.parts[denial].0.by = By::Rule;
            return self.conclude(&hold, Verdict::Deny);
        }
        let asked = self.asked(&hold);
        if asked.is_empty() {
            return self.conclude(&hold, Verdict::Allow);
        }
        let is_full = |asked: &Asked| self.questions.is_full(asked.rule, self.capacity);
        if self.is_daemon_gone || asked.iter().any(is_full) {
            let is_denied = asked.iter().any(|asked| asked.on_failure == Verdict::Deny);
            set_all(&mut hold, if self.is_daemon_gone { By::Failure } else { By::Full });
            return self.conclude(&hold, if is_denied { Verdict::Deny } else { Verdict::Allow });
        }
        self.ask(hold, &asked);
    }

    /// The rules of these whose commands are to decide.
    fn asked(&self, hold: &Hold) -> Vec<Asked> {
        let rules = hold.parts.iter().filter_map(|(part, _)| self.index.get(part.rule));
        let by_command = rules.filter(|known| known.rule.decision == Decision::Command);
        by_command
            .map(|known| Asked {
                rule: known.rule.id,
                deadline: hold.since + Duration::from_millis(known.rule.deadline_ms),
                on_failure: known.rule.on_failure,
            })
            .collect()
    }

    fn ask(&mut self, hold: Hold, asked: &[Asked]) {
        let (occasion, since) = (hold.occasion.clone(), hold.since);
        let has_file = hold.object.kind() == Kind::File;
        let events: Vec<_> = hold.parts.iter().map(|(part, _)| (part.rule, part.events)).collect();
        let numbers = self.questions.open(hold, asked);
        for (number, asked) in numbers.into_iter().zip(asked) {
            let events =
                events.iter().find(|(rule, _)| *rule == asked.rule).map_or(0, |(_, events)| events.mask());
            let left = asked.deadline.saturating_duration_since(since.max(Instant::now()));
            let question = Question {
                number,
                rule: asked.rule,
                events,
                deadline_ns: nanoseconds(monotonic() + left),
                has_file,
                occasion: occasion.clone(),
            };
            self.notices.ask(question, &self.questions);
        }
    }

    /// A question has its answer.
    pub(super) fn decide(&mut self, question: u64, verdict: Option<Verdict>, why: By) {
        if let Some((hold, verdict)) = self.questions.decide(question, verdict, why) {
            self.conclude(&hold, verdict);
        }
    }

    /// Answers first; what is remembered and told of it comes after.
    fn conclude(&mut self, hold: &Hold, verdict: Verdict) {
        let waited = hold.held_for.unwrap_or_else(|| {
            self.answer(hold.object.as_fd(), verdict);
            hold.since.elapsed()
        });
        self.remember(hold, verdict);
        let is_failure = |by: By| matches!(by, By::Deadline | By::Failure | By::Full);
        match verdict {
            Verdict::Allow => self.totals.allowed += 1,
            Verdict::Deny => self.totals.denied += 1,
        }
        self.totals.failures += u64::from(hold.parts.iter().any(|(part, _)| is_failure(part.by)));
        let part = |(part, question): &(Match, Option<u64>)| Part {
            rule: part.rule,
            events: part.events.mask(),
            question: *question,
            by: part.by,
        };
        let answered = Answered {
            occasion: hold.occasion.clone(),
            verdict,
            held_us: u64::try_from(waited.as_micros()).unwrap_or(u64::MAX),
            parts: hold.parts.iter().map(part).collect(),
            merged: 0,
        };
        if !self.notices.tell(answered) {
            self.totals.untold += 1;
        }
    }

    fn answer(&self, fd: BorrowedFd<'_>, verdict: Verdict) {
        let answer = match verdict {
            Verdict::Allow => Answer::Allow,
            Verdict::Deny => Answer::Deny,
        };
        // It fails for a group that is closed, or one of the kernel's own bugs; then
        // whoever waits is let go by the end of the gate.
        if self.group.answer(fd, answer).is_err() {
            std::process::exit(1);
        }
    }

    /// A verdict of rules that all say `cache=`, or a denial of one that does.
    fn remember(&mut self, hold: &Hold, verdict: Verdict) {
        let is_of_file = |part: &Match, known: &Known| part.by != By::Command || known.rule.gives_file;
        let cache =
            |part: &Match| self.index.get(part.rule).filter(|known| is_of_file(part, known))?.rule.cache_ms;
        let decided = |by: By| matches!(by, By::Rule | By::Command);
        let mut deciding =
            hold.parts.iter().filter(|(part, _)| verdict == Verdict::Allow || decided(part.by));
        let time = deciding.try_fold(u64::MAX, |least, (part, _)| {
            cache(part).filter(|_| decided(part.by)).map(|time| least.min(time))
        });
        let path = hold.occasion.path.as_bytes();
        // A change within the tick in which it was asked about would look like none.
        let asked = UNIX_EPOCH + Duration::from_nanos(hold.occasion.time_ns);
        let is_old = asked.duration_since(hold.object.stat().changed()).is_ok_and(|age| age > TICK);
        let is_lasting = hold.is_general
            && is_old
            && hold.object.kind() == Kind::File
            && hold.occasion.is_here
            && leads_to(path, &hold.object);
        let Some(time) = time.filter(|time| *time < u64::MAX && is_lasting) else {
            return;
        };
        let until = Instant::now() + Duration::from_millis(time);
        self.cache.remember(&self.group, &hold.object, path, permission(hold), verdict, until);
    }
}

/// The permission that is asked for.
fn permission(hold: &Hold) -> u64 {
    Events::from_mask(hold.occasion.mask).and(Events::PERMISSION).mask()
}

fn set_all(hold: &mut Hold, by: By) {
    for (part, _) in &mut hold.parts {
        part.by = by;
    }
}
