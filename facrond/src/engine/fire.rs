//! From a firing to a job, from a job to its outcome.

use super::Engine;
use super::fresh::Started;
use super::report::timestamp;
use super::table::{Entry, Switch};
use crate::config::culprit::Judgement;
use crate::config::rule::Command;
use crate::job::queue::Admission;
use crate::job::running::Stop;
use crate::job::{Job, retry};
use crate::watch::Hit;
use facron_proto::{Failure, Outcome, OutcomeState, RuleId, Text};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// What was run.
    pub job: Job,
    /// What became of it.
    pub outcome: Outcome,
}

impl Engine {
    /// One firing: counted, recorded, and queued if there is something to run.
    pub(super) fn on_hit(&mut self, mut hit: Hit) {
        if self.permissions.state(hit.rule).is_some() {
            return self.on_change(&hit);
        }
        let Some(entry) = self.rules.get_mut(hit.rule).filter(|entry| entry.switch == Switch::On) else {
            return;
        };
        if hit.own && !entry.spec.options.include_own {
            self.counts.ignored_own += 1;
            return;
        }
        self.culprits.name(&mut hit.event);
        match entry.spec.options.culprit.judge(hit.event.uid, hit.event.exe.as_deref()) {
            Judgement::Counts => {}
            Judgement::DoesNot => return,
            Judgement::Unknown => return self.on_unknown_culprit(&hit),
        }
        entry.fired += 1;
        entry.last = Some(hit.event.time);
        self.counts.matched += 1;
        let spec = Rc::clone(&entry.spec);
        // What is gathered fires when it starts.
        let is_last = spec.options.once && spec.options.gather().is_none();
        self.watch_pace(hit.rule, &hit.event);
        let job = Job::new(self.next_seq, hit.rule, spec, hit.event);
        if let Some(job) = self.hold_echo(job) {
            self.admit(job);
        }
        if is_last {
            self.retire(hit.rule);
        }
    }

    /// A rule with `uid=` or `exe=` was not told who did it.
    fn on_unknown_culprit(&mut self, hit: &Hit) {
        self.counts.unknown_culprits += 1;
        let (rule, path, unknown) = (hit.rule, Text::from(&*hit.event.path), self.counts.unknown_culprits);
        if unknown.is_power_of_two() {
            tracing::warn!(
                %rule, %path, unknown,
                "events did not count for `uid=` or `exe=`: it is not known who caused them"
            );
        }
    }

    pub(super) fn admit(&mut self, job: Job) {
        if matches!(job.spec.command, Command::Record) && !job.spec.options.waits() {
            self.next_seq += 1;
            return self.conclude(&job, OutcomeState::Recorded.into(), Known::Not);
        }
        // A job that is merged, skipped or dropped is gone then; what is recorded is at hand.
        let known = job.without_batch();
        match self.queue.push(job, Instant::now()) {
            Admission::Queued => {
                self.next_seq += 1;
                self.history.push(&known, OutcomeState::Pending.into());
            }
            Admission::Merged { into } => {
                self.counts.jobs.merged += 1;
                self.history.merge(into);
            }
            Admission::Skipped => {
                self.counts.jobs.skipped += 1;
                self.refuse(&known, OutcomeState::Skipped, "the command was running (busy=skip)".to_owned());
            }
            Admission::Dropped => self.drop_job(&known),
        }
    }

    fn drop_job(&mut self, job: &Job) {
        let limit = self.queue.limits().pending;
        self.counts.jobs.dropped += 1;
        if self.counts.jobs.dropped.is_power_of_two() {
            tracing::error!(
                dropped = self.counts.jobs.dropped,
                "{limit} events are waiting already (--max-pending); events were dropped"
            );
        }
        let why = format!("{limit} events were waiting already (--max-pending)");
        self.refuse(job, OutcomeState::Dropped, why);
    }

    /// Records an event that does not get a job.
    fn refuse(&mut self, job: &Job, state: OutcomeState, why: String) {
        self.next_seq += 1;
        self.conclude(job, Outcome { error: Some(why), ..state.into() }, Known::Not);
    }

    /// `once`: the rule has fired and is over.
    pub(super) fn retire(&mut self, id: RuleId) {
        self.take_out_of_force(id);
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
        while let Some(job) = self.queue.start_next(Instant::now()) {
            self.start(job);
        }
        let stops = self.queue.take_stops();
        if !stops.is_empty() {
            self.look_after_all();
        }
        for stopper in stops.iter().filter_map(|seq| self.stoppers.get(seq)) {
            stopper.1.stop(Stop::ForLaterEvent);
        }
    }

    fn start(&mut self, mut job: Job) {
        let options = &job.spec.options;
        if options.once && options.gather().is_some() {
            self.retire(job.rule);
            for other in self.queue.remove_rule(job.rule) {
                self.skip(&other, "its rule was to fire once, and has");
            }
        }
        if let Some(rest) = self.runner.split(&mut job) {
            let rest = Job { seq: self.next_seq, ..rest };
            self.next_seq += 1;
            self.history.push(&rest, OutcomeState::Pending.into());
            self.queue.put_back(rest);
        }
        job.tries += 1;
        let silence = self.silence_around(&job.spec);
        let running = match silence.map_or_else(|| self.runner.start(&job), Err) {
            Ok(running) => running,
            Err(outcome) => return self.on_finished(Finished { job, outcome }),
        };
        let outcome = Outcome { pid: Some(running.pid()), ..unsettled(&job, OutcomeState::Running) };
        self.history.replace(&job, outcome);
        if let Some(echoes) = &mut self.echoes {
            echoes.on_start(&job);
        }
        self.stoppers.insert(job.seq, (job.rule, running.stopper()));
        if let Some(hurried) = self.fresh.push(job, running) {
            self.look_after(hurried);
        }
    }

    /// Sees all commands to their end, however fresh: one of them is to be stopped.
    pub(super) fn look_after_all(&mut self) {
        for started in self.fresh.take_all() {
            self.look_after(started);
        }
    }

    /// Sees a command to its end that is fresh no longer.
    pub(super) fn look_after(&self, Started { job, running, .. }: Started) {
        let finished = self.finished.clone();
        tokio::task::spawn_local(async move {
            let outcome = running.finish().await;
            // The engine is gone only when the daemon ends.
            let _ = finished.send(Finished { job, outcome });
        });
    }

    /// A command has ended, or could not be started.
    pub(super) fn on_finished(&mut self, Finished { mut job, outcome }: Finished) {
        self.stoppers.remove(&job.seq);
        if let Some(echoes) = &mut self.echoes {
            echoes.on_end(&job, Instant::now());
        }
        if let Some(pause) = self.retry_pause(&job, &outcome) {
            report_failure(&job, &outcome, &format!("; it is tried again in {} s", pause.as_secs()));
            self.history.replace(&job, unsettled(&job, OutcomeState::Pending));
            return self.queue.retry(job, Instant::now() + pause);
        }
        let outcome = Outcome { tries: tries(&job), ..outcome };
        if outcome.restarted {
            self.queue.stopped(&mut job);
        } else {
            self.queue.finished(&job);
        }
        self.count(&job, &outcome);
        let is_gone = self.rules.get(job.rule).is_none();
        if is_gone {
            self.runner.forget(job.rule);
        }
        self.conclude(&job, outcome, Known::AsPending);
    }

    /// Before a job is tried again; `None` if it is not.
    fn retry_pause(&self, job: &Job, outcome: &Outcome) -> Option<Duration> {
        // A rule that fires once may be gone, and still its command has to succeed.
        let is_wanted = job.spec.options.once || self.rules.get(job.rule).is_some();
        retry::pause(job, outcome).filter(|_| is_wanted && !self.is_stopping)
    }

    fn count(&mut self, job: &Job, outcome: &Outcome) {
        let jobs = &mut self.counts.jobs;
        jobs.run += u64::from(!matches!(outcome.state, OutcomeState::SpawnFailed | OutcomeState::Recorded));
        jobs.timeout += u64::from(outcome.state == OutcomeState::Timeout);
        if outcome.is_failure() {
            jobs.failed += 1;
            if let Some(entry) = self.rules.get_mut(job.rule) {
                entry.failed += 1;
                entry.last_failure = Some(Box::new(Failure {
                    seq: job.seq,
                    time: timestamp(SystemTime::now()),
                    path: Text::from(&*job.event.path),
                    outcome: outcome.clone(),
                }));
            }
            report_failure(job, outcome, "");
        } else {
            tracing::debug!(rule = %job.rule, seq = job.seq, pid = outcome.pid, "command ended");
        }
    }

    /// Nothing more will become of a job.
    pub(super) fn conclude(&mut self, job: &Job, outcome: Outcome, known: Known) {
        self.publish(job, &outcome);
        match known {
            Known::AsPending => self.history.replace(job, outcome),
            Known::Not => self.history.push(job, outcome),
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

/// What is known of a job that goes on.
fn unsettled(job: &Job, state: OutcomeState) -> Outcome {
    Outcome { tries: tries(job), ..state.into() }
}

/// How often its command was started, where that is worth telling.
fn tries(job: &Job) -> Option<u32> {
    Some(job.tries).filter(|tries| *tries > 1)
}

fn report_failure(job: &Job, outcome: &Outcome, then: &str) {
    let rule = rule_label(job);
    let path = Text::from(&*job.event.path);
    let how = match (&outcome.error, outcome.exit, outcome.signal) {
        (Some(error), ..) => format!(": {error}"),
        (None, Some(code), _) => format!(": exit status {code}"),
        (None, None, Some(signal)) => format!(": ended by signal {signal}"),
        (None, None, None) => String::new(),
    };
    tracing::warn!(%rule, %path, "command failed{how}{then}");
}

pub(super) fn rule_label(job: &Job) -> String {
    job.spec.options.name.clone().unwrap_or_else(|| job.rule.to_string())
}

impl Entry {
    /// Whether its command failed or it cannot be watched is another matter: this
    /// is whether it is switched on.
    pub fn is_on(&self) -> bool {
        self.switch == Switch::On
    }
}
