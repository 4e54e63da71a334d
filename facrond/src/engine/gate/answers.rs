//! From a question to a command and its verdict, and from an answer to its record.

use super::super::Engine;
use crate::config::permission::{Decision, Verdict};
use crate::config::rule::Command;
use crate::event::Event;
use crate::events::Events;
use crate::gate::message::{Answered, By, Occasion, Order, Part, Question, Totals};
use crate::gate::process::monotonic;
use crate::job::Job;
use crate::job::outcome::{Answer, Ended, Ending, Outcome};
use crate::kernel::wait::Exit;
use facron_proto::RuleId;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is kept of a question after its deadline, should its answer never be told of.
const KEPT: Duration = Duration::from_secs(60);

/// A command that decides has ended.
#[derive(Debug)]
pub struct Decided {
    question: QuestionId,
    rule: RuleId,
    outcome: Outcome,
}

/// Which gate has asked, and the question's number.
pub(super) type QuestionId = (u64, u64);

/// A question that was asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) job: Job,
    /// Of `CLOCK_MONOTONIC`.
    deadline: Duration,
    /// What became of its command, as far as that is known.
    outcome: Outcome,
}

impl Engine {
    /// The gate asks for a command's verdict: its turn comes.
    pub(super) fn on_question(&mut self, question: Question) {
        let id = (self.permissions.generation, question.number);
        let Some(entry) = self.rules.get(question.rule) else { return self.decide(id, None) };
        let happened = event(question.occasion, question.events);
        let mut job = Job::new(question.rule, Rc::clone(&entry.spec), happened);
        self.log.open(&mut job);
        let deadline = Duration::from_nanos(question.deadline_ns);
        self.permissions.asked.insert(id, Asked { job, deadline, outcome: Outcome::Pending });
        if self.permissions.waiting.len() >= self.queue.limits().pending {
            return self.decide(id, None);
        }
        self.permissions.waiting.push_back(id);
        self.forget_old_questions();
    }

    /// Starts the commands that decide, as far as `--max-jobs` and `jobs=` allow. They
    /// have a limit of their own: others must not keep a process waiting.
    pub(super) fn start_decisions(&mut self) {
        let limit = u32::try_from(self.queue.limits().running).unwrap_or(u32::MAX);
        let mut at = 0;
        while self.permissions.running() < limit && at < self.permissions.waiting.len() {
            let id = self.permissions.waiting[at];
            let is_full = self.permissions.asked.get(&id).is_some_and(|asked| {
                let running = self.permissions.running.get(&asked.job.rule).copied().unwrap_or_default();
                asked.job.spec.options.jobs.is_some_and(|jobs| running >= jobs.get())
            });
            if is_full {
                at += 1;
                continue;
            }
            self.permissions.waiting.remove(at);
            self.start_decision(id);
        }
    }

    fn start_decision(&mut self, id: QuestionId) {
        // It was answered meanwhile, or will be.
        let Some(asked) = self.permissions.asked.get_mut(&id) else { return };
        let left = asked.deadline.saturating_sub(monotonic());
        if left.is_zero() {
            return;
        }
        match self.runner.start_decision(&asked.job, left, SystemTime::now() + left) {
            Ok(running) => {
                asked.outcome = Outcome::Running { pid: running.pid() };
                self.log.update(&asked.job, asked.outcome.clone());
                *self.permissions.running.entry(asked.job.rule).or_default() += 1;
                let (rule, finished) = (asked.job.rule, self.permissions.finished.clone());
                tokio::task::spawn_local(async move {
                    let outcome = running.finish().await;
                    // The engine is gone only when the daemon ends.
                    let _ = finished.send(Decided { question: id, rule, outcome });
                });
            }
            Err(outcome) => {
                asked.outcome = outcome;
                self.decide(id, None);
            }
        }
    }

    /// A command has ended: its exit status is the verdict.
    pub(super) fn on_decided(&mut self, decided: Decided) {
        if let Some(running) = self.permissions.running.get_mut(&decided.rule) {
            *running -= 1;
            if *running == 0 {
                self.permissions.running.remove(&decided.rule);
            }
        }
        let verdict = match &decided.outcome {
            Outcome::Ended(Ended { ending: Ending::TimedOut, .. }) => None,
            Outcome::Ended(Ended { exit: Exit::Code(0), .. }) => Some(Verdict::Allow),
            Outcome::Ended(Ended { exit: Exit::Code(_), .. }) => Some(Verdict::Deny),
            _ => None,
        };
        let Some(asked) = self.permissions.asked.get_mut(&decided.question) else { return };
        asked.outcome = decided.outcome;
        // Once the deadline has passed, the gate knows.
        if asked.deadline > monotonic() {
            self.decide(decided.question, verdict);
        }
    }

    fn decide(&mut self, (generation, question): QuestionId, verdict: Option<Verdict>) {
        if generation == self.permissions.generation {
            self.tell_gate(&Order::Decided { question, verdict }, None);
        }
    }

    /// Processes were answered: what each of the rules had to do with it is recorded.
    pub(super) fn on_answered(&mut self, all: &[Answered], totals: Totals) {
        self.permissions.totals.1 = totals;
        for answered in all {
            let held = Duration::from_micros(answered.held_us);
            self.permissions.longest = self.permissions.longest.max(held);
            for part in &answered.parts {
                self.record_part(part, answered, held);
            }
        }
    }

    fn record_part(&mut self, part: &Part, answered: &Answered, held: Duration) {
        let id = part.question.map(|number| (self.permissions.generation, number));
        let asked = id.and_then(|id| self.permissions.asked.remove(&id));
        let Some(entry) = self.rules.get(part.rule) else { return };
        let spec = Rc::clone(&entry.spec);
        let is_failure = matches!(part.by, By::Deadline | By::Failure | By::Full);
        let event = event(answered.occasion.clone(), part.events);
        self.rules.count_firings(part.rule, 1 + answered.merged, event.time);
        if is_failure {
            self.rules.count_failure(part.rule, None);
        }
        let is_last = spec.options.once;
        let ran = asked.as_ref().map_or(Outcome::Pending, |asked| asked.outcome.clone());
        let outcome = outcome(part.by, answered.verdict, held, ran);
        if is_failure {
            let why = outcome.why().unwrap_or("no verdict");
            tracing::warn!(rule = %part.rule, path = %answered.occasion.path, "decided by on-failure: {why}");
        }
        if let Some(Asked { job, .. }) = asked {
            self.log.close(&job, outcome);
            self.run_afterwards(job, part.question);
        } else {
            let mut job = Job { merged: answered.merged, ..Job::new(part.rule, spec, event) };
            self.log.record(&mut job, outcome);
            self.run_afterwards(job, part.question);
        }
        if is_last {
            self.retire(part.rule);
        }
    }

    /// `verdict=allow` and `verdict=deny`: the command, if there is one, is told afterwards.
    fn run_afterwards(&mut self, job: Job, question: Option<u64>) {
        let is_told = question.is_none()
            && job.spec.command != Command::Record
            && job.spec.options.permission.verdict.is_some_and(Decision::is_fixed);
        if is_told {
            self.admit(Job { merged: 0, ..job });
        }
    }

    /// Nobody will ever tell how these were answered: the gate has ended.
    pub(super) fn forget_questions(&mut self) {
        self.permissions.waiting.clear();
        let asked: Vec<_> = self.permissions.asked.drain().map(|(_, asked)| asked).collect();
        for asked in asked {
            self.give_up(&asked, "the gate ended, so the kernel let it go");
        }
    }

    fn forget_old_questions(&mut self) {
        if !self.permissions.asked.len().is_multiple_of(1024) {
            return;
        }
        let now = monotonic();
        let old = self.permissions.asked.extract_if(|_, asked| asked.deadline + KEPT < now);
        let old: Vec<_> = old.map(|(_, asked)| asked).collect();
        for asked in old {
            self.give_up(&asked, "the gate had no room to tell of its answer");
        }
    }

    fn give_up(&mut self, asked: &Asked, why: &str) {
        let answer = Answer {
            verdict: Verdict::Allow,
            by: facron_proto::By::Failure,
            why: Some(why.to_owned()),
            held: None,
            command: Outcome::Pending,
        };
        self.log.close(&asked.job, Outcome::Answered(Box::new(answer)));
    }
}

/// What an answer is to clients; `ran` is what became of the command.
fn outcome(by: By, verdict: Verdict, held: Duration, ran: Outcome) -> Outcome {
    let (by, why) = match by {
        By::Rule => (facron_proto::By::Rule, None),
        By::Command => (facron_proto::By::Command, None),
        By::Cache => (facron_proto::By::Cache, None),
        By::Deadline => {
            (facron_proto::By::Deadline, Some("the deadline passed without a verdict".to_owned()))
        }
        By::Failure => (facron_proto::By::Failure, Some(failure(&ran))),
        By::Full => (facron_proto::By::Failure, Some("too many processes were waiting already".to_owned())),
        By::Other(rule) => (facron_proto::By::Rule, Some(format!("rule {rule} decided"))),
    };
    Outcome::Answered(Box::new(Answer { verdict, by, why, held: Some(held), command: ran }))
}

/// Why a command gave no verdict.
fn failure(ran: &Outcome) -> String {
    match (ran.why(), ran) {
        (Some(why), _) => why.to_owned(),
        (None, Outcome::Ended(Ended { exit: Exit::Signal(signal), .. })) => {
            format!("the command was ended by signal {signal}")
        }
        (None, _) => "the command gave no verdict".to_owned(),
    }
}

fn event(occasion: Occasion, events: u64) -> Event {
    Event {
        time: UNIX_EPOCH + Duration::from_nanos(occasion.time_ns),
        events: Events::from_mask(events),
        mask: occasion.mask,
        path: occasion.path.0.into(),
        old_path: None,
        pid: occasion.pid,
        exe: occasion.exe.map(|exe| exe.0.into()),
        uid: occasion.uid,
        synthetic: false,
    }
}
