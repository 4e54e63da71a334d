//! The process that looks at the files of a rule and moves them.

use super::{Ready, Task};
use crate::config::rule::RuleSpec;
use crate::fate::{self, Answer, Noted, Settled};
use crate::helper::{Failure, Helper, Restart};
use crate::job::Job;
use crate::job::run::Runner;
use crate::kernel::process_group::ProcessGroup;
use facron_proto::RuleId;
use std::collections::VecDeque;
use std::ffi::CString;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A process that says nothing for so long hangs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long its end is waited for when it was killed.
const END: Duration = Duration::from_secs(1);

/// How long it stays without work.
const IDLE: Duration = Duration::from_secs(5);

/// How many files it is asked about before it has answered the first.
const MOST: usize = 32;

/// How many files are looked through in a turn.
const MOST_IN_TURN: usize = 256;

/// How often it may say in a turn that it goes on.
const MOST_SIGNS: usize = 8;

/// How often it is started anew for one file.
const MOST_DEATHS: u32 = 3;

const HANGS: &str = "its directory, or the one that it is to be moved to, does not answer";
const ENDS: &str = "the process that moves files ends each time before it has moved this one";
const TOO_LONG: &str = "what is to be said of it is too long";

#[derive(Debug)]
pub(super) struct Mover {
    pub(super) rule: RuleId,
    spec: Rc<RuleSpec>,
    /// For who lists processes.
    label: CString,
    helper: Option<Helper>,
    tasks: VecDeque<Task>,
    /// What was asked and not answered: the job, and a file of it.
    asked: VecDeque<(u64, usize)>,
    requests: u64,
    /// Processes that have ended or are to end. Their events may not be read yet.
    former: Vec<ProcessGroup>,
    /// Until when one that did not answer has time to end.
    ends_until: Option<Instant>,
    deaths: u32,
    restart: Restart,
    idle_since: Instant,
    /// Whether the last turn has left something to do.
    has_more: bool,
}

impl Mover {
    pub(super) fn new(job: &Job) -> Self {
        Self {
            rule: job.rule,
            spec: Rc::clone(&job.spec),
            label: CString::new(job.rule_label()).unwrap_or_default(),
            helper: None,
            tasks: VecDeque::new(),
            asked: VecDeque::new(),
            requests: 0,
            former: Vec::new(),
            ends_until: None,
            deaths: 0,
            restart: Restart::default(),
            idle_since: Instant::now(),
            has_more: false,
        }
    }

    /// Whether it is of the rule and of the user of a job: a rule may get another user.
    pub(super) fn serves(&self, job: &Job) -> bool {
        let [ours, theirs] = [&self.spec, &job.spec].map(|spec| &spec.options);
        self.rule == job.rule && (&ours.account, ours.umask) == (&theirs.account, theirs.umask)
    }

    pub(super) fn push(&mut self, task: Task) {
        self.tasks.push_back(task);
        self.has_more = true;
    }

    /// Whether a process is this one, or was a moment ago.
    pub(super) fn has(&self, pid: i32) -> bool {
        let former = || self.former.iter().any(|process| process.pid() == pid);
        self.helper.as_ref().is_some_and(|helper| helper.pid() == pid) || former()
    }

    pub(super) fn ended(&self) -> impl Iterator<Item = i32> {
        self.former.iter().filter(|process| !process.exists()).map(ProcessGroup::pid)
    }

    pub(super) fn forget(&mut self, ended: &[i32]) {
        self.former.retain(|process| !ended.contains(&process.pid()));
    }

    pub(super) fn is_over(&self) -> bool {
        self.tasks.is_empty() && self.helper.is_none() && self.former.is_empty()
    }

    /// Takes out the jobs whose commands have not started.
    pub(super) fn take_unstarted(&mut self, mut is_wanted: impl FnMut(&Job) -> bool) -> Vec<Job> {
        let is_it = |task: &Task| task.end.is_none() && is_wanted(&task.job);
        let (taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tasks).into_iter().partition(is_it);
        self.tasks = left.into();
        taken.into_iter().map(|task| task.job).collect()
    }

    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let polled = self.helper.as_mut().map(|helper| helper.poll_ready(context));
        if self.has_more { Poll::Ready(()) } else { polled.unwrap_or(Poll::Pending) }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let Some(helper) = &self.helper else {
            let due = self.restart.due().max(self.ends_until);
            return due.filter(|_| !self.tasks.is_empty());
        };
        let idle = self.tasks.is_empty().then(|| self.idle_since + IDLE);
        [helper.deadline(), idle].into_iter().flatten().min()
    }

    /// Takes answers in and asks more; tells which jobs can go on.
    pub(super) fn advance(&mut self, runner: &mut Runner, now: Instant, ready: &mut Vec<Ready>) {
        self.has_more = false;
        self.receive(now);
        if self.helper.as_ref().is_some_and(|helper| helper.is_overdue(now)) {
            self.ends_until = Some(now + END);
            self.end(now, HANGS);
        }
        self.ask(runner, now);
        while self.tasks.front().is_some_and(Task::is_over)
            && let Some(task) = self.tasks.pop_front()
        {
            self.idle_since = now;
            ready.push(task.into_ready());
        }
        if self.tasks.is_empty() && now >= self.idle_since + IDLE {
            self.let_go();
        }
    }

    /// The process ends when it sees that the line is closed.
    fn let_go(&mut self) {
        self.former.extend(self.helper.take().map(Helper::into_process));
        self.asked.clear();
    }

    fn receive(&mut self, now: Instant) {
        let mut signs = 0;
        while let Some(helper) = &mut self.helper {
            match helper.receive::<Answer>() {
                Ok(None) => return,
                Ok(Some((Answer::Working, _))) if signs < MOST_SIGNS => signs += 1,
                Ok(Some((answer, _))) => match self.take(answer) {
                    Some(()) => {}
                    // It says what it was not asked.
                    None => self.die(now),
                },
                Err(_) => self.die(now),
            }
        }
    }

    /// Takes an answer to the first request.
    fn take(&mut self, answer: Answer) -> Option<()> {
        let (number, index) = self.asked.pop_front()?;
        let helper = self.helper.as_mut()?;
        let request = helper.oldest()?;
        helper.settle(request);
        self.deaths = 0;
        // Of a job that was taken out nobody wants to know.
        let Some(task) = self.tasks.iter_mut().find(|task| task.job.seq == number) else { return Some(()) };
        let is_right = match answer {
            Answer::Working => false,
            Answer::Noted(_) => task.end.is_none(),
            Answer::Settled(_) => task.end.is_some(),
        };
        if is_right {
            task.answers[index] = Some(answer);
        } else {
            // Asked again.
            task.sent = task.sent.min(index);
        }
        is_right.then_some(())
    }

    fn die(&mut self, now: Instant) {
        self.deaths += 1;
        let why = if self.deaths > MOST_DEATHS { ENDS } else { "" };
        self.end(now, why);
    }

    /// Ends the process. What it was asked is asked again, but the first file, where there is a
    /// reason, stays where it is.
    fn end(&mut self, now: Instant, why: &str) {
        if let Some(helper) = self.helper.take() {
            helper.kill();
            self.former.push(helper.into_process());
        }
        self.restart.on_end(now);
        for (number, index) in std::mem::take(&mut self.asked).into_iter().rev() {
            if let Some(task) = self.tasks.iter_mut().find(|task| task.job.seq == number) {
                task.sent = task.sent.min(index);
                // It may have got some way with it.
                task.end.iter_mut().for_each(|end| end.is_repeated = true);
            }
        }
        if !why.is_empty() {
            self.deaths = 0;
            self.refuse_next(why);
        }
    }

    /// The next file stays where it is.
    fn refuse_next(&mut self, why: &str) -> bool {
        let Some(task) = self.tasks.iter_mut().find(|task| task.sent < task.answers.len()) else {
            return false;
        };
        task.answers[task.sent] = Some(task.refusal(why));
        task.sent += 1;
        true
    }

    fn ask(&mut self, runner: &mut Runner, now: Instant) {
        let mut left = MOST_IN_TURN;
        while self.asked.len() < MOST
            && let Some(task) = self.tasks.iter_mut().find(|task| task.sent < task.answers.len())
        {
            if left == 0 {
                self.has_more = true;
                return;
            }
            left -= 1;
            let (number, index) = (task.job.seq, task.sent);
            if task.answers[index].is_some() {
                task.sent += 1;
                continue;
            }
            let request = match task.request(index) {
                Ok(request) => request,
                Err(known) => {
                    task.answers[index] = Some(Answer::Settled(known));
                    task.sent += 1;
                    continue;
                }
            };
            match self.send(&request, runner, now) {
                Ok(()) => {
                    self.asked.push_back((number, index));
                    self.count_sent(number);
                }
                Err(Some(why)) => drop(self.refuse_next(why)),
                Err(None) => return,
            }
        }
    }

    fn count_sent(&mut self, number: u64) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.job.seq == number) {
            task.sent += 1;
        }
    }

    /// The error says why that file cannot be asked about, if it is not only to be asked later.
    fn send(
        &mut self,
        request: &fate::Task,
        runner: &mut Runner,
        now: Instant,
    ) -> Result<(), Option<&'static str>> {
        self.start(runner, now)?;
        let Some(helper) = &mut self.helper else { return Err(None) };
        self.requests += 1;
        match helper.request(self.requests, request, None) {
            Ok(()) => Ok(()),
            Err(Failure::TooLong) => Err(Some(TOO_LONG)),
            Err(_) => {
                self.die(now);
                self.has_more = true;
                Err(None)
            }
        }
    }

    /// Starts the process, unless it runs.
    fn start(&mut self, runner: &mut Runner, now: Instant) -> Result<(), Option<&'static str>> {
        if self.helper.is_some() {
            return Ok(());
        }
        if let Some(until) = self.ends_until {
            if self.former.iter().all(|process| !process.exists()) {
                self.ends_until = None;
            } else {
                // Another one would hang as well, and none of them can be ended.
                return Err((now >= until).then_some(HANGS));
            }
        }
        if !self.restart.may_start(now) {
            return Err(None);
        }
        let arguments = [c"facrond".into(), c"mover".into(), self.label.clone()];
        match Helper::start_for(runner, Some(&self.spec), &arguments, TIMEOUT) {
            Ok(helper) => {
                self.restart.on_start(now);
                self.helper = Some(helper);
                Ok(())
            }
            Err(errno) => {
                tracing::error!(rule = %self.rule, "cannot start a process that moves files: {}", errno.desc());
                self.restart.on_failure(now);
                Err(None)
            }
        }
    }
}

impl Task {
    /// What is to be asked about a file, or what is known already.
    fn request(&self, index: usize) -> Result<fate::Task, Settled> {
        super::saved::request(&self.job, self.end.as_ref(), index)
    }

    fn refusal(&self, why: &str) -> Answer {
        match self.end {
            None => Answer::Noted(Noted::Unknown(why.to_owned())),
            Some(_) => Answer::Settled(Settled::Stays(why.to_owned())),
        }
    }
}
