//! No rule loops by accident: what holds echoes back, and tells of loops.

use super::Engine;
use super::fire::rule_label;
use crate::event::Event;
use crate::job::Job;
use facron_proto::{RuleId, Text};
use std::time::Instant;

impl Engine {
    /// Where nobody tells whose an event is, what may be an echo waits.
    pub(super) fn hold_echo(&mut self, job: Job) -> Option<Job> {
        let waits = !job.spec.options.include_own && !job.spec.options.once;
        match self.echoes.as_mut().filter(|_| waits) {
            Some(echoes) => echoes.on_event(job, Instant::now()),
            None => Some(job),
        }
    }

    /// Runs what may have been echoes and has waited long enough.
    pub(super) fn on_echoes_due(&mut self) {
        let due = self.echoes.as_mut().map(|echoes| echoes.take_due(Instant::now())).unwrap_or_default();
        for job in due {
            let remark = self.echoes.as_ref().and_then(|echoes| echoes.remark(job.rule));
            if let Some(remark) = remark {
                tracing::warn!(rule = %rule_label(&job), "{remark}");
            }
            self.admit_late(job);
        }
        self.start_jobs();
    }

    /// Lets what may have been echoes wait no longer.
    pub(super) fn release_echoes(&mut self, rule: Option<RuleId>) {
        let held = self.echoes.as_mut().map(|echoes| echoes.take_all(rule)).unwrap_or_default();
        for job in held {
            self.admit_late(job);
        }
    }

    fn admit_late(&mut self, job: Job) {
        self.counts.jobs.merged += job.merged;
        self.admit(Job { seq: self.next_seq, ..job });
    }

    /// Notes a firing, and tells of a loop.
    pub(super) fn watch_pace(&mut self, rule: RuleId, event: &Event) {
        if self.paces.entry(rule).or_default().is_loop(&event.path, Instant::now()) {
            let path = Text::from(&*event.path);
            let remark = format!("probably a loop: it fired more than 1000 times in a second on {path}");
            tracing::warn!(%rule, "{remark}");
            self.loops.insert(rule, remark);
        }
    }

    /// What is to be known of a rule that works.
    pub(super) fn remark(&self, id: RuleId) -> Option<String> {
        let echo = self.echoes.as_ref().and_then(|echoes| echoes.remark(id));
        self.loops.get(&id).cloned().or(echo)
    }

    /// Forgets a rule.
    pub(super) fn unguard(&mut self, id: RuleId) {
        self.paces.remove(&id);
        self.loops.remove(&id);
    }
}
