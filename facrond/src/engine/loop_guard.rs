//! No rule loops by accident.
//!
//! Everywhere a rule that fires too fast on one path is reported (`firing_rate`). Where the kernel
//! hides which process caused an event (it does from ordinary users), an event may be an
//! *echo* of the rule's own command if that runs on the event's path, or ended a moment ago.
//! Such an event waits, longer each time that the run after it brings another one, so that
//! a rule that fires itself never spins. Nothing is lost: a waiting event runs in the end,
//! and an event at another time runs at once and stands for it. Commands that make a new
//! name each time are seen by the depth of what followed from what.
//!
//! Pure but for the log: the clock is the caller's.

mod firing_rate;

use crate::job::Job;
use crate::kernel::fanotify::Privilege;
use facron_proto::{RuleId, Text};
use firing_rate::FiringRate;
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long after a command's end its events may still be read.
const WINDOW: Duration = Duration::from_millis(20);

/// Before the first echo of a path gets its run; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// So many runs one inside the other's time are more than any busy directory has.
const MAX_DEPTH: u32 = 100;
const DEEP_PAUSE: Duration = Duration::from_secs(1);

/// More paths than this are not remembered for their past alone.
const MAX_LANES: usize = 1 << 16;

type Key = (RuleId, Rc<[u8]>);

#[derive(Debug)]
pub struct LoopGuard {
    /// Whether the kernel hides the processes of events.
    is_blind: bool,
    /// Others choose the file names: keyed, so that they cannot collide at will.
    lanes: HashMap<Key, Lane>,
    /// When the events that wait are due.
    due: BTreeSet<(Instant, Key)>,
    /// Commands that ended, for as long as they may have echoes.
    ended: VecDeque<(Instant, Key)>,
    rates: FxHashMap<RuleId, FiringRate>,
    loops: FxHashMap<RuleId, String>,
}

/// A rule's commands on one path.
#[derive(Debug, Default)]
struct Lane {
    running: u32,
    ended: Option<Instant>,
    /// How many runs led to the last one, each while the one before was active.
    depth: u32,
    /// How many runs in a row were for echoes alone.
    streak: u32,
    held: Option<(Instant, Job)>,
}

impl Lane {
    fn is_active(&self, now: Instant) -> bool {
        self.running > 0 || self.ended.is_some_and(|ended| now.saturating_duration_since(ended) <= WINDOW)
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        !self.is_active(now) && self.held.is_none()
    }
}

impl LoopGuard {
    pub fn new(privilege: Privilege) -> Self {
        Self {
            is_blind: privilege == Privilege::User,
            lanes: HashMap::new(),
            due: BTreeSet::new(),
            ended: VecDeque::new(),
            rates: FxHashMap::default(),
            loops: FxHashMap::default(),
        }
    }

    /// An event; returned if it is to run now, with the events that waited for it.
    pub fn on_event(&mut self, job: Job, now: Instant) -> Option<Job> {
        if self.rates.entry(job.rule).or_default().is_loop(&job.event.path, now) {
            let path = Text::from(&*job.event.path);
            let remark = format!("probably a loop: it fired more than 1000 times in a second on {path}");
            tracing::warn!(rule = %job.rule, "{remark}");
            self.loops.insert(job.rule, remark);
        }
        let may_wait = self.is_blind && !job.spec.options.include_own && !job.spec.options.once;
        if may_wait { self.hold_echo(job, now) } else { Some(job) }
    }

    fn hold_echo(&mut self, job: Job, now: Instant) -> Option<Job> {
        self.purge(now);
        let depth = self.depth(now);
        let key = (job.rule, job.event.path.clone());
        let lane = self.lanes.entry(key.clone()).or_default();
        let pause = if lane.is_active(now) {
            FIRST_PAUSE.saturating_mul(1 << lane.streak.min(16)).min(LONGEST_PAUSE)
        } else if depth > MAX_DEPTH {
            DEEP_PAUSE
        } else {
            lane.depth = depth;
            let Some((due, mut held)) = lane.held.take() else {
                lane.streak = 0;
                return Some(job);
            };
            self.due.remove(&(due, key));
            held.absorb(job);
            return Some(held);
        };
        if let Some((_, held)) = &mut lane.held {
            held.absorb(job);
        } else {
            lane.depth = depth;
            lane.held = Some((now + pause, job));
            self.due.insert((now + pause, key));
        }
        None
    }

    pub fn on_start(&mut self, job: &Job) {
        for event in job.events().iter().filter(|_| self.is_blind) {
            self.lanes.entry((job.rule, event.path.clone())).or_default().running += 1;
        }
    }

    pub fn on_end(&mut self, job: &Job, now: Instant) {
        for event in job.events() {
            let key = (job.rule, event.path.clone());
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.running = lane.running.saturating_sub(1);
            lane.ended = Some(now);
            self.ended.push_back((now, key));
        }
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Suspected echoes that have waited long enough.
    pub fn take_due(&mut self, now: Instant) -> Vec<Job> {
        let mut jobs = Vec::new();
        while self.next_due().is_some_and(|due| due <= now) {
            let Some((_, key)) = self.due.pop_first() else { break };
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            // While the command runs it could not start anyway.
            lane.streak += 1;
            let Some((_, job)) = lane.held.take() else { continue };
            if let Some(remark) = self.echo_remark(job.rule) {
                tracing::warn!(rule = %job.rule_label(), "{remark}");
            }
            jobs.push(job);
        }
        jobs
    }

    /// Suspected echoes that are to wait no longer, of one rule or of all.
    pub fn take_all(&mut self, rule: Option<RuleId>) -> Vec<Job> {
        let is_meant = |(_, key): &(Instant, Key)| rule.is_none_or(|rule| rule == key.0);
        let (taken, left) = std::mem::take(&mut self.due).into_iter().partition(is_meant);
        self.due = left;
        let taken: BTreeSet<(Instant, Key)> = taken;
        taken.iter().filter_map(|(_, key)| self.lanes.get_mut(key)?.held.take()).map(|(_, job)| job).collect()
    }

    /// A warning about a rule that works.
    pub fn remark(&self, rule: RuleId) -> Option<String> {
        self.loops.get(&rule).cloned().or_else(|| self.echo_remark(rule))
    }

    pub fn forget(&mut self, rule: RuleId) {
        self.rates.remove(&rule);
        self.loops.remove(&rule);
    }

    fn echo_remark(&self, rule: RuleId) -> Option<String> {
        let lanes = self.lanes.iter().filter(|((id, _), lane)| *id == rule && lane.streak > 0);
        let ((_, path), lane) = lanes.max_by_key(|(_, lane)| lane.streak)?;
        Some(format!(
            "its command seems to cause its own events at {}, which wait longer each time ({} so far)",
            Text::from(&**path),
            lane.streak
        ))
    }

    fn depth(&self, now: Instant) -> u32 {
        let active = self.lanes.values().filter(|lane| lane.is_active(now));
        active.map(|lane| lane.depth + 1).max().unwrap_or(0)
    }

    fn purge(&mut self, now: Instant) {
        while let Some((ended, _)) = self.ended.front()
            && now.saturating_duration_since(*ended) > WINDOW
        {
            let Some((_, key)) = self.ended.pop_front() else { break };
            if self.lanes.get(&key).is_some_and(|lane| lane.streak == 0 && lane.is_forgettable(now)) {
                self.lanes.remove(&key);
            }
        }
        if self.lanes.len() > MAX_LANES {
            self.lanes.retain(|_, lane| !lane.is_forgettable(now));
        }
    }
}

#[cfg(test)]
mod tests;
