//! The way of a job from its start to its conclusion.
//!
//! ```text
//! queue -> start -> prepare -> launch -> supervisor -> on_finished -> conclude
//!                   fates                              fates
//! ```

use super::fates::{Conclusion, End, Ready};
use super::job_log::warn_of_retry;
use super::rule_book::Entry;
use super::{Engine, JobLog, fates};
use crate::event::Event;
use crate::job::outcome::Outcome;
use crate::job::supervisor::Finished;
use crate::job::{Job, retry, run};
use crate::wire;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

impl Engine {
    pub(super) fn start_jobs(&mut self) {
        if self.is_stopping {
            return;
        }
        while !self.shortage.holds(Instant::now())
            && let Some(job) = self.queue.start_next(Instant::now())
        {
            self.start(job);
        }
        let stops = self.queue.take_stops();
        let checking = self.checking.extract_if(.., |(job, _)| stops.contains(&job.seq));
        let mut unstarted: Vec<_> = checking.map(|(job, _)| job).collect();
        if !stops.is_empty() {
            unstarted.extend(self.fates.take_unstarted(|job| stops.contains(&job.seq)));
        }
        for mut job in unstarted {
            self.make_room(&mut job);
            self.log.close(&job, Outcome::skipped("stopped to start anew for a later event"));
        }
        self.supervisor.stop(&stops);
    }

    fn start(&mut self, mut job: Job) {
        let options = &job.spec.options;
        if options.once && options.gather().is_some() {
            self.retire(job.rule);
            for other in self.queue.remove_rule(job.rule) {
                self.log.close(&other, Outcome::skipped("its rule was to fire once, and has"));
            }
        }
        if let Some(mut rest) = self.runner.split(&mut job) {
            self.log.open_kept(&mut rest);
            self.queue.put_back(rest);
        }
        job.tries += 1;
        // What hangs on a file system cannot even be killed, so all that it needs has to answer.
        let watch = &mut self.watch;
        let is_asked = run::places(&job).all(|place| watch.why_unresponsive(place).is_none());
        let places = run::places(&job).filter(|_| is_asked);
        let checks: Vec<_> = places.filter_map(|place| watch.check(place)).collect();
        if checks.is_empty() { self.prepare(job) } else { self.checking.push((job, checks)) }
    }

    /// Launches a job, when it is known what its files are.
    fn prepare(&mut self, job: Job) {
        if job.spec.has_fate() { self.fates.note(job) } else { self.launch(job) }
    }

    /// Goes on with the jobs whose files were looked at, or have their places.
    pub(super) fn advance_fates(&mut self) {
        let (store, now) = (&self.store, Instant::now());
        let ready = self.fates.advance(&mut self.runner, |change| store.is_tried(change), now);
        let is_some = !ready.is_empty();
        for ready in ready {
            match ready {
                Ready::Noted(job) if self.is_stopping => self.queue.retry(job, now),
                Ready::Noted(job) if fates::is_pointless(&job) => {
                    self.conclude(job, Outcome::skipped("there is no file under its path any more"));
                }
                Ready::Noted(job) => self.launch(job),
                Ready::Settled(conclusion) => self.on_settled(conclusion),
            }
        }
        if is_some {
            self.start_jobs();
        }
    }

    /// The files of a job have their places. For those that have changed since its command began
    /// it runs once more: of that change there need not be an event.
    fn on_settled(&mut self, Conclusion { job, outcome, changed }: Conclusion) {
        let is_wanted = !job.again && self.rules.get(job.rule).is_some_and(Entry::is_on);
        let (rule, spec) = (job.rule, Rc::clone(&job.spec));
        let events = changed.into_iter().filter(|_| is_wanted).map(|index| job.events()[index].clone());
        let events: Vec<_> = events.collect();
        self.conclude(job, outcome);
        for event in events {
            let event = Event { time: SystemTime::now(), synthetic: true, ..event };
            self.admit(Job { again: true, ..Job::new(rule, Rc::clone(&spec), event) });
        }
    }

    /// Starts the jobs whose file systems have answered, or do not.
    pub(super) fn launch_checked(&mut self) {
        let watch = &self.watch;
        let is_checked =
            |(_, checks): &mut (Job, Vec<u64>)| !checks.iter().any(|check| watch.is_checking(*check));
        let checked: Vec<_> = self.checking.extract_if(.., is_checked).collect();
        for (job, _) in checked {
            self.prepare(job);
        }
    }

    fn launch(&mut self, job: Job) {
        let unresponsive = run::places(&job).find_map(|place| self.watch.why_unresponsive(place));
        let started = match unresponsive {
            Some(why) => Err(Outcome::NotStarted { why }),
            None => self.runner.start(&job),
        };
        match started {
            Ok(running) => {
                self.shortage.end();
                self.log.start(&job, running.pid());
                self.loop_guard.on_start(&job);
                self.supervisor.add(job, running);
            }
            Err(Outcome::Short { why }) => self.on_shortage(job, why),
            Err(outcome) => self.on_finished(Finished { job, outcome }),
        }
    }

    /// A job goes back to the head of its queue.
    fn on_shortage(&mut self, mut job: Job, why: String) {
        job.tries -= 1;
        let then = self.shortage.begin(&why, Instant::now());
        self.log.update(&job, Outcome::Short { why });
        self.queue.retry(job, then);
    }

    /// A command has ended, or could not be started.
    pub(super) fn on_finished(&mut self, Finished { job, outcome }: Finished) {
        let now = Instant::now();
        self.loop_guard.on_end(&job, now);
        if let Some(pause) = self.retry_pause(&job, &outcome) {
            warn_of_retry(&job, &outcome, (!self.is_stopping).then_some(pause));
            let is_short = matches!(outcome, Outcome::Short { .. });
            self.log.pause(&job, if is_short { outcome } else { Outcome::Pending }, pause);
            return self.queue.retry(job, now + pause);
        }
        let outcome = outcome.given_up();
        if fates::has_fate(&job, &outcome) {
            let end = End { time: SystemTime::now(), outcome, rule: job.rule, is_repeated: false };
            // Before it is written: else nobody might be woken.
            self.store.set_awaited(true);
            let change = JobLog::settle(&job, &end, &self.store);
            return self.fates.settle(job, end, change);
        }
        self.conclude(job, outcome);
    }

    /// A job is over.
    fn conclude(&mut self, mut job: Job, outcome: Outcome) {
        if outcome.is_restart() {
            self.make_room(&mut job);
        } else {
            self.queue.finished(&job);
        }
        if self.rules.get(job.rule).is_none() {
            self.runner.forget(job.rule);
        }
        if outcome.is_failure() {
            self.rules.count_failure(job.rule, Some(wire::failure(&job, &outcome)));
        }
        self.log.close(&job, outcome);
    }

    /// The pause before a job is tried again; `None` if it is not.
    fn retry_pause(&self, job: &Job, outcome: &Outcome) -> Option<Duration> {
        if self.is_stopping {
            // The next daemon runs it. The end of this one is no reason to call a file failed.
            return (job.spec.has_fate() && outcome.is_failure()).then_some(Duration::ZERO);
        }
        // A rule that fires once may be gone, and still its command has to succeed.
        let is_wanted = job.spec.options.once || self.rules.get(job.rule).is_some();
        retry::pause(job, outcome).filter(|_| is_wanted)
    }

    /// A later job does what this one was to do, since it was stopped for it.
    fn make_room(&mut self, job: &mut Job) {
        let events = job.batch.clone().unwrap_or_default();
        if let Some(into) = self.queue.stopped(job) {
            self.log.take_over(into, job, &events);
        }
    }
}
