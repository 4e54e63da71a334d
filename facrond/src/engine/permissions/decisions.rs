//! Commands that decide: the gate's questions, their turn, and the verdicts.

use crate::config::permission::Verdict;
use crate::config::rule::{RuleSpec, Stdin};
use crate::engine::job_log::JobLog;
use crate::event::Event;
use crate::events::Events;
use crate::gate::message::{Occasion, Question};
use crate::gate::process::monotonic;
use crate::job::Job;
use crate::job::outcome::{self, Ended as Exited, Ending, Outcome};
use crate::job::queue::Limits;
use crate::job::run::Runner;
use crate::kernel::wait::Exit;
use facron_proto::RuleId;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::sync::mpsc;

/// How long a question is kept after its deadline, if the gate never tells of its answer.
const KEPT: Duration = Duration::from_secs(60);

/// Commands that are started in one turn.
const STARTS_PER_TURN: usize = 4;

/// Why a command cannot be asked about a file.
const LOST: &str = "the daemon has too many open files to pass this one to the command";

/// Before the next try of a command whose start lacked something.
const RETRY: Duration = Duration::from_millis(20);

/// The generation of the gate that has asked, and the question's number.
pub(super) type QuestionId = (u64, u64);

/// An answer to a question. Without a verdict the command has failed to give one.
pub(super) type Answer = (QuestionId, Option<Verdict>);

/// A question that was asked.
#[derive(Debug)]
pub(in crate::engine) struct Asked {
    pub job: Job,
    /// Of `CLOCK_MONOTONIC`.
    deadline: Duration,
    /// The file that is opened, until the command has it.
    file: Option<OwnedFd>,
    /// What became of the command so far.
    pub outcome: Outcome,
}

/// A command that decides has ended.
#[derive(Debug)]
struct Ended {
    question: QuestionId,
    rule: RuleId,
    outcome: Outcome,
}

/// The questions of a rule that wait for their turn, and how many of its commands run.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<QuestionId>,
    running: u32,
}

#[derive(Debug)]
pub(super) struct Decisions {
    asked: FxHashMap<QuestionId, Asked>,
    lanes: BTreeMap<RuleId, Lane>,
    /// The rule of the question whose command was started last.
    last: RuleId,
    /// Whether more commands may start than have in this turn.
    has_more: bool,
    /// When commands are tried again whose start lacked something.
    retry_at: Option<Instant>,
    finished: mpsc::UnboundedSender<Ended>,
    ended: mpsc::UnboundedReceiver<Ended>,
    /// Answers that the gate was not given yet.
    answers: Vec<Answer>,
}

impl Decisions {
    pub fn new() -> Self {
        let (finished, ended) = mpsc::unbounded_channel();
        Self {
            asked: FxHashMap::default(),
            lanes: BTreeMap::new(),
            last: RuleId(0),
            has_more: false,
            retry_at: None,
            finished,
            ended,
            answers: Vec::new(),
        }
    }

    /// How many questions have no answer yet.
    pub fn open(&self) -> usize {
        self.asked.len()
    }

    /// How long the oldest of them has waited.
    pub fn longest_wait(&self) -> Duration {
        let oldest = self.asked.values().map(|asked| asked.job.event.time).min();
        oldest.and_then(|time| time.elapsed().ok()).unwrap_or_default()
    }

    /// How many commands that decide run.
    pub fn running(&self) -> u32 {
        self.lanes.values().map(|lane| lane.running).sum()
    }

    /// Ready when a command has ended: there may be an answer to give, and room for others.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut ready = if self.has_more { Poll::Ready(()) } else { Poll::Pending };
        while let Poll::Ready(Some(ended)) = self.ended.poll_recv(context) {
            self.on_ended(ended);
            ready = Poll::Ready(());
        }
        ready
    }

    /// When a command is to be tried again.
    pub fn next_due(&self) -> Option<Instant> {
        self.retry_at
    }

    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// The gate asks: the rule's command has to wait for its turn.
    pub fn ask(
        &mut self,
        gate: u64,
        question: Question,
        file: Option<OwnedFd>,
        spec: &Rc<RuleSpec>,
        log: &mut JobLog,
        limits: Limits,
    ) {
        let id = (gate, question.number);
        let mut job = Job::new(question.rule, Rc::clone(spec), event(question.occasion, question.events));
        log.open(&mut job);
        let deadline = Duration::from_nanos(question.deadline_ns);
        let is_lost = question.has_file && file.is_none() && spec.stdin() == Stdin::File;
        let outcome = if is_lost { Outcome::NotStarted { why: LOST.to_owned() } } else { Outcome::Pending };
        self.asked.insert(id, Asked { job, deadline, file, outcome });
        if is_lost || self.is_full(question.rule, limits.pending) {
            return self.answers.push((id, None));
        }
        self.lanes.entry(question.rule).or_default().waiting.push_back(id);
        if self.asked.len().is_multiple_of(1024) {
            let now = monotonic();
            let old = self.asked.extract_if(|_, asked| asked.deadline + KEPT < now);
            old.for_each(|(_, asked)| give_up(log, &asked, "the gate had no room to tell of its answer"));
        }
    }

    /// A question without a rule, which was removed meanwhile.
    pub fn refuse(&mut self, gate: u64, question: &Question) {
        self.answers.push(((gate, question.number), None));
    }

    /// Whether as much waits for a rule's commands as half of the room that others leave.
    fn is_full(&mut self, rule: RuleId, room: usize) -> bool {
        let waiting: usize = self.lanes.values().map(|lane| lane.waiting.len()).sum();
        let Some(lane) = self.lanes.get_mut(&rule) else { return false };
        // The first ones are the first that no command needs to answer any more.
        while lane.waiting.front().is_some_and(|id| !self.asked.contains_key(id)) {
            lane.waiting.pop_front();
        }
        lane.waiting.len() >= room.saturating_sub(waiting)
    }

    /// Starts the commands whose turn it is, as far as `--max-jobs` and `jobs=` allow. They
    /// have a limit of their own: other commands must not keep a process waiting. Nor must
    /// those of another rule: each rule may run its share, although the limit is reached.
    pub fn start(&mut self, runner: &mut Runner, log: &mut JobLog, limits: Limits) {
        let limit = u32::try_from(limits.running).unwrap_or(u32::MAX);
        self.retry_at.take_if(|at| *at <= Instant::now());
        for _ in 0..STARTS_PER_TURN {
            let Some(rule) = self.next_rule(limit).filter(|_| self.retry_at.is_none()) else { break };
            self.last = rule;
            if let Some(id) = self.lanes.get_mut(&rule).and_then(|lane| lane.waiting.pop_front()) {
                self.start_one(id, runner, log);
            }
        }
        self.has_more = self.retry_at.is_none() && self.next_rule(limit).is_some();
        self.lanes.retain(|_, lane| lane.running > 0 || !lane.waiting.is_empty());
    }

    /// The next rule in turn of which a command may start.
    fn next_rule(&self, limit: u32) -> Option<RuleId> {
        let share = (limit / u32::try_from(self.lanes.len()).unwrap_or(u32::MAX).max(1)).max(1);
        let most = if self.running() < limit { u32::MAX } else { share };
        let may_start = |(_, lane): &(&RuleId, &Lane)| {
            let jobs = lane.waiting.front().map(|id| {
                let asked = self.asked.get(id)?;
                asked.job.spec.options.jobs.map(NonZeroU32::get)
            });
            jobs.is_some_and(|jobs| lane.running < jobs.unwrap_or(u32::MAX).min(most))
        };
        let (before, after) = (
            self.lanes.range(..=self.last),
            self.lanes.range(self.last..).skip_while(|(id, _)| **id == self.last),
        );
        after.chain(before).find(may_start).map(|(id, _)| *id)
    }

    fn start_one(&mut self, id: QuestionId, runner: &mut Runner, log: &mut JobLog) {
        // The gate has answered it meanwhile, or is about to.
        let Some(asked) = self.asked.get_mut(&id) else { return };
        let file = asked.file.take();
        let left = asked.deadline.saturating_sub(monotonic());
        if left.is_zero() {
            return;
        }
        match runner.start_decision(&asked.job, file.as_ref(), left) {
            Ok(running) => {
                asked.outcome = Outcome::Running { pid: running.pid() };
                log.update(&asked.job, asked.outcome.clone());
                self.lanes.entry(asked.job.rule).or_default().running += 1;
                let (rule, finished) = (asked.job.rule, self.finished.clone());
                tokio::task::spawn_local(async move {
                    let outcome = running.finish().await;
                    // The receiver is gone only when the daemon ends.
                    let _ = finished.send(Ended { question: id, rule, outcome });
                });
            }
            Err(Outcome::Short { .. }) => {
                asked.file = file;
                self.lanes.entry(asked.job.rule).or_default().waiting.push_front(id);
                self.retry_at = Some(Instant::now() + RETRY);
            }
            Err(outcome) => {
                asked.outcome = outcome;
                self.answers.push((id, None));
            }
        }
    }

    /// The exit status of a command is its verdict.
    fn on_ended(&mut self, Ended { question, rule, outcome }: Ended) {
        if let Some(lane) = self.lanes.get_mut(&rule) {
            lane.running -= 1;
        }
        let verdict = match &outcome {
            Outcome::Ended(Exited { ending: Ending::TimedOut, .. }) => None,
            Outcome::Ended(Exited { exit: Exit::Code(0), .. }) => Some(Verdict::Allow),
            Outcome::Ended(Exited { exit: Exit::Code(_), .. }) => Some(Verdict::Deny),
            _ => None,
        };
        let Some(asked) = self.asked.get_mut(&question) else { return };
        asked.outcome = outcome;
        // After the deadline the gate has decided by itself.
        if asked.deadline > monotonic() {
            self.answers.push((question, verdict));
        }
    }

    /// The gate has told how a question was answered.
    pub fn take(&mut self, id: QuestionId) -> Option<Asked> {
        self.asked.remove(&id)
    }

    /// The gate has ended, and will never tell how its questions were answered.
    pub fn on_gate_end(&mut self, log: &mut JobLog) {
        self.lanes.values_mut().for_each(|lane| lane.waiting.clear());
        self.answers.clear();
        for (_, asked) in self.asked.drain() {
            give_up(log, &asked, "the gate ended, so the kernel let it go");
        }
    }
}

fn give_up(log: &mut JobLog, asked: &Asked, why: &str) {
    let answer = outcome::Answer {
        verdict: Verdict::Allow,
        by: facron_proto::By::Failure,
        why: Some(why.to_owned()),
        held: None,
        command: Outcome::Pending,
    };
    log.close(&asked.job, Outcome::Answered(Box::new(answer)));
}

/// What happened, as an event of a rule.
pub(super) fn event(occasion: Occasion, events: u64) -> Event {
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
        object: None,
    }
}
