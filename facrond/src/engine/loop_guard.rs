//! No rule loops by accident.
//!
//! Where the kernel does not tell which process caused an event, an event that a rule's own
//! command may have caused waits (`echoes`). Everywhere a rule that fires too fast on one
//! path is reported (`pace`). Pure but for the log: the clock is the caller's.

mod echoes;
mod pace;

use crate::job::Job;
use crate::kernel::fanotify::Privilege;
use echoes::Echoes;
use facron_proto::{RuleId, Text};
use pace::Pace;
use rustc_hash::FxHashMap;
use std::time::Instant;

#[derive(Debug)]
pub struct LoopGuard {
    /// Only where the kernel hides the processes of events.
    echoes: Option<Echoes>,
    paces: FxHashMap<RuleId, Pace>,
    /// Probable loops.
    loops: FxHashMap<RuleId, String>,
}

impl LoopGuard {
    pub fn new(privilege: Privilege) -> Self {
        let echoes = (privilege == Privilege::User).then(Echoes::default);
        Self { echoes, paces: FxHashMap::default(), loops: FxHashMap::default() }
    }

    /// An event; returned if it is to run now, with the events that waited for it.
    pub fn on_event(&mut self, job: Job, now: Instant) -> Option<Job> {
        if self.paces.entry(job.rule).or_default().is_loop(&job.event.path, now) {
            let path = Text::from(&*job.event.path);
            let remark = format!("probably a loop: it fired more than 1000 times in a second on {path}");
            tracing::warn!(rule = %job.rule, "{remark}");
            self.loops.insert(job.rule, remark);
        }
        let waits = !job.spec.options.include_own && !job.spec.options.once;
        match self.echoes.as_mut().filter(|_| waits) {
            Some(echoes) => echoes.on_event(job, now),
            None => Some(job),
        }
    }

    pub fn on_start(&mut self, job: &Job) {
        if let Some(echoes) = &mut self.echoes {
            echoes.on_start(job);
        }
    }

    pub fn on_end(&mut self, job: &Job, now: Instant) {
        if let Some(echoes) = &mut self.echoes {
            echoes.on_end(job, now);
        }
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.echoes.as_ref().and_then(Echoes::next_due)
    }

    /// Suspected echoes that have waited long enough.
    pub fn take_due(&mut self, now: Instant) -> Vec<Job> {
        let Some(echoes) = &mut self.echoes else { return Vec::new() };
        let due = echoes.take_due(now);
        for job in &due {
            if let Some(remark) = echoes.remark(job.rule) {
                tracing::warn!(rule = %job.rule_label(), "{remark}");
            }
        }
        due
    }

    /// Suspected echoes that are to wait no longer, of one rule or of all.
    pub fn take_all(&mut self, rule: Option<RuleId>) -> Vec<Job> {
        self.echoes.as_mut().map(|echoes| echoes.take_all(rule)).unwrap_or_default()
    }

    /// A warning about a rule that works.
    pub fn remark(&self, rule: RuleId) -> Option<String> {
        let echo = self.echoes.as_ref().and_then(|echoes| echoes.remark(rule));
        self.loops.get(&rule).cloned().or(echo)
    }

    pub fn forget(&mut self, rule: RuleId) {
        self.paces.remove(&rule);
        self.loops.remove(&rule);
    }
}
