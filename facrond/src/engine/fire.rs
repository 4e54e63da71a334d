//! From a firing to a job, from a job to its outcome.

use super::Engine;
use super::table::{Entry, Switch};
use crate::config::rule::Command;
use crate::event::Event;
use crate::job::Job;
use crate::job::queue::Admission;
use crate::kernel::process;
use crate::watch::Hit;
use facron_proto::{Outcome, OutcomeState, Record, RuleId, Text};
use rustc_hash::FxHashMap;
use std::rc::Rc;

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// What was run.
    pub job: Job,
    /// What became of it.
    pub outcome: Outcome,
}

/// Who caused events, for one draining of the queue; pids are used again.
#[derive(Debug, Default)]
pub struct Culprits(FxHashMap<i32, Culprit>);

/// A process's executable and user.
type Culprit = (Option<Box<[u8]>>, Option<u32>);

impl Culprits {
    fn name(&mut self, event: &mut Event) {
        if event.pid > 0 {
            let facts =
                self.0.entry(event.pid).or_insert_with(|| (process::exe(event.pid), process::uid(event.pid)));
            (event.exe, event.uid) = facts.clone();
        }
    }
}

impl Engine {
    /// One firing: counted, recorded, and queued if there is something to run.
    pub(super) fn on_hit(&mut self, mut hit: Hit, culprits: &mut Culprits) {
        if hit.own {
            self.counts.ignored_own += 1;
            return;
        }
        let Some(entry) = self.rules.get_mut(hit.rule).filter(|entry| entry.switch == Switch::On) else {
            return;
        };
        culprits.name(&mut hit.event);
        entry.fired += 1;
        entry.last = Some(hit.event.time);
        self.counts.matched += 1;
        let spec = Rc::clone(&entry.spec);
        let is_last = spec.options.once;
        let job = Job { seq: self.next_seq, rule: hit.rule, spec, event: hit.event, merged: 0 };
        self.admit(job);
        if is_last {
            self.retire(hit.rule);
        }
    }

    fn admit(&mut self, job: Job) {
        if matches!(job.spec.command, Command::Record) {
            self.next_seq += 1;
            return self.conclude(&job, OutcomeState::Recorded.into(), Known::Not);
        }
        let record = record_of(&job, OutcomeState::Pending.into());
        let limit = self.queue.limits().pending;
        // A job that is merged or dropped is gone then; its record is at hand.
        match self.queue.push(job) {
            Admission::Queued => {
                self.next_seq += 1;
                self.history.push(record);
            }
            Admission::Merged { into } => {
                self.counts.jobs.merged += 1;
                if let Some(record) = self.history.get_mut(into) {
                    record.merged += 1;
                }
            }
            Admission::Dropped => {
                self.next_seq += 1;
                self.drop_record(record, limit);
            }
        }
    }

    fn drop_record(&mut self, mut record: Record, limit: usize) {
        self.counts.jobs.dropped += 1;
        if self.counts.jobs.dropped.is_power_of_two() {
            tracing::error!(
                dropped = self.counts.jobs.dropped,
                "{limit} events are waiting already (--max-pending); events were dropped"
            );
        }
        record.outcome = Outcome {
            error: Some(format!("{limit} events were waiting already (--max-pending)")),
            ..OutcomeState::Dropped.into()
        };
        self.publish(&record);
        self.history.push(record);
    }

    /// `once`: the rule has fired and is over.
    fn retire(&mut self, id: RuleId) {
        self.watch.detach(id);
        let Some(entry) = self.rules.get_mut(id) else { return };
        entry.switch = Switch::Done;
        if entry.origin.source() != facron_proto::Source::File {
            self.rules.remove(id);
            self.save();
        }
    }

    /// Starts what may start.
    pub(super) fn start_jobs(&mut self) {
        if self.is_stopping {
            return;
        }
        while let Some(job) = self.queue.start_next() {
            match self.runner.start(&job) {
                Ok(running) => {
                    let outcome = Outcome { pid: Some(running.pid()), ..OutcomeState::Running.into() };
                    self.history.settle(job.seq, &outcome);
                    let finished = self.finished.clone();
                    tokio::task::spawn_local(async move {
                        let outcome = running.finish().await;
                        // The engine is gone only when the daemon ends.
                        let _ = finished.send(Finished { job, outcome });
                    });
                }
                Err(outcome) => self.on_finished(&Finished { job, outcome }),
            }
        }
    }

    /// A command has ended, or could not be started.
    pub(super) fn on_finished(&mut self, Finished { job, outcome }: &Finished) {
        self.queue.finished(job.rule, &job.event.path);
        let jobs = &mut self.counts.jobs;
        jobs.run += u64::from(outcome.state != OutcomeState::SpawnFailed);
        jobs.timeout += u64::from(outcome.state == OutcomeState::Timeout);
        if outcome.is_failure() {
            jobs.failed += 1;
            if let Some(entry) = self.rules.get_mut(job.rule) {
                entry.failed += 1;
            }
            report_failure(job, outcome);
        } else {
            tracing::debug!(rule = %job.rule, seq = job.seq, pid = outcome.pid, "command ended");
        }
        self.conclude(job, outcome.clone(), Known::AsPending);
        if self.rules.get(job.rule).is_none() {
            self.runner.forget(job.rule);
        }
    }

    /// Nothing more will become of a job.
    pub(super) fn conclude(&mut self, job: &Job, outcome: Outcome, known: Known) {
        match known {
            Known::AsPending => {
                if let Some(record) = self.history.get_mut(job.seq) {
                    record.outcome = outcome;
                    let record = record.clone();
                    return self.publish(&record);
                }
                if self.has_followers() {
                    self.publish(&record_of(job, outcome));
                }
            }
            Known::Not => {
                let record = record_of(job, outcome);
                self.publish(&record);
                self.history.push(record);
            }
        }
    }
}

/// Whether a job has a record already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was pending.
    AsPending,
    /// It has none.
    Not,
}

fn report_failure(job: &Job, outcome: &Outcome) {
    let rule = rule_label(job);
    let path = Text::from(&*job.event.path);
    match (&outcome.error, outcome.exit, outcome.signal) {
        (Some(error), ..) => tracing::warn!(%rule, %path, "command failed: {error}"),
        (None, Some(code), _) => tracing::warn!(%rule, %path, "command failed: exit status {code}"),
        (None, None, Some(signal)) => {
            tracing::warn!(%rule, %path, "command failed: ended by signal {signal}");
        }
        (None, None, None) => tracing::warn!(%rule, %path, "command failed"),
    }
}

fn rule_label(job: &Job) -> String {
    job.spec.options.name.clone().unwrap_or_else(|| job.rule.to_string())
}

/// A job as clients see it.
pub fn record_of(job: &Job, outcome: Outcome) -> Record {
    let event = &job.event;
    Record {
        seq: job.seq,
        time: humantime::format_rfc3339_nanos(event.time).to_string(),
        rule: job.rule,
        rule_name: job.spec.options.name.clone(),
        events: event.events.names().map(str::to_owned).collect(),
        path: Text::from(&*event.path),
        old_path: event.old_path.as_deref().map(Text::from),
        pid: event.pid,
        exe: event.exe.as_deref().map(Text::from),
        uid: event.uid,
        synthetic: event.synthetic,
        repeated: false,
        merged: job.merged,
        outcome,
    }
}

impl Entry {
    /// Whether its command failed or it cannot be watched is another matter: this
    /// is whether it is switched on.
    pub fn is_on(&self) -> bool {
        self.switch == Switch::On
    }
}
