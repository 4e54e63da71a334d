//! The walker, from its start to its end, and the walks that it or the gate is busy with. This
//! file knows nothing of the states of rules.

use super::super::Failed;
use crate::gate::message::{Extent, Rule};
use crate::gate::walker::{Finding, Task, Work};
use crate::helper::{Failure, Helper, Restart};
use crate::job::run::Runner;
use crate::matcher;
use facron_proto::{RuleId, Text};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A walker that is silent for so long hangs at a file system that does not answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Files named in one packet for the walker.
const FILES_PER_TASK: usize = 16;

/// A walk that the walker or the gate is busy with.
#[derive(Debug)]
pub(super) struct Walk {
    /// None for a rule that is gone, and whose inodes are unmarked.
    pub rule: Option<RuleId>,
    pub extent: Extent,
    /// Paths of the tree at which nothing is any more of what the walk may find.
    gone: Vec<Text>,
}

impl Walk {
    /// Whether what was at this path of the tree has left it.
    pub fn has_left(&self, below: &Text) -> bool {
        self.gone.iter().any(|gone| matcher::below(below.as_bytes(), gone.as_bytes()).is_some())
    }
}

#[derive(Debug, Default)]
pub(super) struct Walks {
    under_way: BTreeMap<u64, Walk>,
    /// The rules whose whole tree is walked.
    whole: BTreeSet<RuleId>,
    walker: Option<Helper>,
    restart: Restart,
    /// Walkers that hang, each with the rule that led them there.
    hanging: Vec<(Helper, Option<RuleId>)>,
    /// Files of facron's own, and how many of them the walker knows.
    own: Vec<PathBuf>,
    known: usize,
}

impl Walks {
    /// Files that are facron's own are always left alone.
    pub fn protect(&mut self, files: &[PathBuf]) {
        let new: Vec<_> = files.iter().filter(|file| !self.own.contains(file)).cloned().collect();
        self.own.extend(new);
    }

    /// Whether there is a walker, after an attempt to start one.
    pub fn has_walker(&mut self, runner: &mut Runner) -> Result<bool, Failed> {
        let now = Instant::now();
        if self.walker.is_none() && self.restart.may_start(now) {
            match Helper::start(runner, &[c"facrond".into(), c"walker".into()], TIMEOUT) {
                Ok(walker) => {
                    self.restart.on_start(now);
                    (self.walker, self.known) = (Some(walker), 0);
                }
                Err(errno) => {
                    self.restart.on_failure(now);
                    return Err(Failed::NotStarted(errno));
                }
            }
        }
        self.send_own_files();
        Ok(self.walker.is_some())
    }

    fn send_own_files(&mut self) {
        let Some(walker) = &mut self.walker else { return };
        for files in self.own[self.known..].chunks(FILES_PER_TASK) {
            let files = files.iter().map(|file| Text::from(file.as_os_str().as_bytes())).collect();
            // If the walker has ended, the next one is told of all files.
            let _ = walker.send(&Task::Protect(files), None);
        }
        self.known = self.own.len();
    }

    /// Whether the walker keeps up with its tasks.
    pub fn has_room(&self) -> bool {
        self.walker.as_ref().is_some_and(Helper::has_room)
    }

    /// Sends a task to the walker; `false` where it cannot be sent.
    pub fn start(&mut self, number: u64, task: Rule, rule: Option<RuleId>, work: Work) -> bool {
        let Some(walker) = &mut self.walker else { return false };
        let extent = if work == Work::Place { Extent::Whole } else { Extent::Part };
        let task = Task::Walk { number, rule: Box::new(task), work };
        let is_sent = walker.request(number, &task, None).is_ok();
        if is_sent {
            self.under_way.insert(number, Walk { rule, extent, gone: Vec::new() });
            self.whole.extend(rule.filter(|_| extent == Extent::Whole));
        }
        is_sent
    }

    /// Asks the walker where a file is.
    pub fn find(&mut self, task: &Task) {
        if let Some(walker) = &mut self.walker
            && walker.send(task, None).is_err()
        {
            tracing::debug!("a file is not looked for: the gate starts anew");
        }
    }

    pub fn get(&self, number: u64) -> Option<&Walk> {
        self.under_way.get(&number)
    }

    /// Whether the whole tree of a rule is walked.
    pub fn is_whole(&self, rule: RuleId) -> bool {
        self.whole.contains(&rule)
    }

    /// A directory has left the tree of a rule; the most that have, during one walk.
    pub fn leave(&mut self, rule: RuleId, below: &Text) -> usize {
        let of_rule = self.under_way.values_mut().filter(|walk| walk.rule == Some(rule));
        let left = of_rule.map(|walk| {
            walk.gone.push(below.clone());
            walk.gone.len()
        });
        left.max().unwrap_or_default()
    }

    /// Forgets the walks of a rule. What they still find is left aside.
    pub fn cancel(&mut self, rule: RuleId) {
        self.under_way.retain(|_, walk| walk.rule != Some(rule));
        self.whole.remove(&rule);
    }

    /// Forgets a walk that has ended.
    pub fn end(&mut self, number: u64) -> Option<Walk> {
        let walk = self.under_way.remove(&number)?;
        if let (Some(rule), Extent::Whole) = (walk.rule, walk.extent) {
            self.whole.remove(&rule);
        }
        Some(walk)
    }

    /// Forgets all walks; the rules that they were for.
    fn take(&mut self) -> Vec<RuleId> {
        self.whole.clear();
        take(&mut self.under_way).into_values().filter_map(|walk| walk.rule).collect()
    }

    /// The gate has ended. A walker that is at work for it would only keep the next walks
    /// waiting.
    pub fn on_gate_end(&mut self) {
        let is_busy = !self.under_way.is_empty();
        self.take();
        if let Some(walker) = self.walker.take_if(|_| is_busy) {
            walker.kill();
        }
    }

    /// What the walker has found next, if anything; where it has ended, the rules that need
    /// another walk.
    pub fn receive(&mut self) -> Result<Option<(Finding, Option<OwnedFd>)>, Vec<RuleId>> {
        let Some(walker) = &mut self.walker else { return Ok(None) };
        let received = walker.receive();
        if let Ok(Some((Finding::End { number, .. }, _))) = &received {
            walker.settle(*number);
        }
        received.map_err(|_: Failure| {
            self.restart.on_end(Instant::now());
            self.walker = None;
            self.take()
        })
    }

    /// The rules at whose trees walkers hung that have found something, or have ended: whoever
    /// they waited for answers again.
    pub fn take_late(&mut self) -> Vec<RuleId> {
        let is_silent = |helper: &mut Helper| matches!(helper.receive::<Finding>(), Ok(None));
        let late = self.hanging.extract_if(.., |(helper, _)| !is_silent(helper));
        late.filter_map(|(_, rule)| rule).collect()
    }

    /// Whether a walker hangs at the tree of a rule.
    pub fn hangs_at(&self, rule: RuleId) -> bool {
        self.hanging.iter().any(|(_, hanging)| *hanging == Some(rule))
    }

    /// The gate has no room for what the walker finds, which is not its fault.
    pub fn excuse(&mut self) {
        self.walker.iter_mut().for_each(Helper::excuse);
    }

    /// Gives a walker up that has been silent for too long; the rule at whose tree it hangs, and
    /// all rules that need another walk.
    pub fn on_due(&mut self, now: Instant) -> Option<(Option<RuleId>, Vec<RuleId>)> {
        let walker = self.walker.take_if(|walker| walker.is_overdue(now))?;
        let walk = walker.oldest().and_then(|number| self.under_way.get(&number));
        let rule = walk.and_then(|walk| walk.rule);
        walker.kill();
        self.hanging.push((walker, rule));
        Some((rule, self.take()))
    }

    /// When [`Self::on_due`] has something to do, or a walker may be started for what `is_due`.
    pub fn next_due(&self, is_due: bool) -> Option<Instant> {
        match &self.walker {
            Some(walker) => walker.deadline(),
            None => self.restart.due().filter(|_| is_due),
        }
    }

    /// Ready when there may be something to receive.
    pub fn poll_ready(&mut self, context: &mut Context<'_>, may_receive: bool) -> Poll<()> {
        let walker = self.walker.as_mut().filter(|_| may_receive);
        let mut helpers = self.hanging.iter_mut().map(|(helper, _)| helper).chain(walker);
        if helpers.any(|helper| helper.poll_ready(context).is_ready()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
