//! The jobs of an earlier daemon that it has not concluded: those that waited, those whose commands
//! still run, and those whose files have no place yet.

use super::fates::End;
use super::job_store::EarlierJob;
use super::{Engine, job_store};
use crate::config::when::Gather;
use crate::event::Event;
use crate::job::Job;
use crate::job::earlier::Earlier;
use crate::job::outcome::Outcome;
use crate::job::queue::Admission;
use facron_proto::Text;
use std::time::{Instant, SystemTime};

impl Engine {
    /// Goes on with what an earlier daemon has not concluded.
    pub(super) fn take_saved_jobs(&mut self) {
        let jobs = std::mem::take(&mut self.earlier_jobs);
        let waited = jobs.len();
        let found = jobs.into_iter().map(|job| usize::from(self.take_saved_job(job))).sum::<usize>();
        if waited > 0 {
            tracing::info!(
                waited,
                found,
                "jobs of an earlier daemon go on; the commands of those found run still"
            );
        }
        let in_file = match job_store::in_file(self.setup.files.as_ref()) {
            Ok(Some(jobs)) => jobs,
            Ok(None) => return,
            Err(error) => return self.note_problem(error.to_string()),
        };
        for job in in_file {
            self.take_saved_job(job);
        }
        // Written after the jobs, so they are on the disk as well.
        let numbers = vec![self.rules.numbers()];
        self.once_kept(numbers, |engine, kept| match (kept, &engine.setup.files) {
            (Ok(()), Some(files)) => job_store::remove_file(files),
            (Err(why), _) => tracing::error!("{why}; the jobs of an earlier version stay where they are"),
            (Ok(()), None) => {}
        });
    }

    /// Whether its command was found again.
    fn take_saved_job(&mut self, earlier: EarlierJob) -> bool {
        let EarlierJob { seq, rule, spec, mut events, merged, tries, due, process, files } = earlier;
        let Some(event) = events.first().cloned() else {
            self.log.forget(seq);
            return false;
        };
        let spec = match spec {
            Ok(spec) => spec,
            Err(why) => {
                let path = Text::from(&*event.path);
                tracing::error!(%rule, %path, "an event that was kept waits for the next start: {why}");
                return false;
            }
        };
        let (id, is_there) = match self.rules.find_same(rule, &spec) {
            Some(entry) => (entry.id, true),
            // One that fires once is gone when it has fired; its command is still due.
            None => (rule, spec.options.once),
        };
        let is_batch = matches!(spec.options.gather(), Some(Gather::ByRule(_)));
        let mut job = Job { seq, merged, tries, repeated: true, ..Job::new(id, spec, event) };
        if is_there {
            // What still runs knows nothing of what has changed since.
            let known = |event: &Event| if process.is_some() { event.time } else { SystemTime::now() };
            for event in &events {
                self.watch.note_told(id, &event.path, known(event));
                // The earlier daemon may not have written that it has told this.
                self.catch_up.note(id, event);
            }
        }
        if files.is_some() || process.is_some() {
            let batch = is_batch.then(|| events.clone().into());
            let mut found = Job { tries: tries + 1, repeated: false, batch, ..job.clone() };
            if let Some(files) = files {
                files.give(&mut found);
                if let Some(end) = files.into_end() {
                    self.settle_earlier(Job { tries, ..found }, end);
                    return false;
                }
            }
            if let Some(process) = &process
                && self.find_again(found, process)
            {
                return true;
            }
        }
        if !is_there {
            self.log.forget(seq);
            let outcome = Outcome::skipped("its rule was removed while the daemon did not run");
            self.log.record(&mut job, outcome);
        } else if let Some(due) = due {
            job.batch = is_batch.then(|| events.into());
            let pause = due.duration_since(SystemTime::now()).unwrap_or_default();
            self.log.reopen(&job, Outcome::Pending);
            self.queue.push_paused(job, Instant::now() + pause);
        } else if seq == 0 {
            self.admit(job);
        } else {
            self.readmit(job, events.drain(1..).collect());
        }
        false
    }

    /// Waits for the end of a command that an earlier daemon has started.
    fn find_again(&mut self, job: Job, process: &Earlier) -> bool {
        let Some(running) = self.runner.find_again(&job, process) else { return false };
        self.queue.adopt(&job);
        self.log.reopen(&job, Outcome::Running { pid: running.pid() });
        self.loop_guard.on_start(&job);
        self.supervisor.add(job, running);
        true
    }

    /// Gives the files of a job their places whose command has ended under an earlier daemon.
    fn settle_earlier(&mut self, job: Job, end: End) {
        self.queue.adopt(&job);
        self.log.reopen(&job, Outcome::Pending);
        // It is in the store already.
        self.fates.settle(job, end, 0);
    }

    /// Queues a job that has its number already, with further events of a batch.
    fn readmit(&mut self, job: Job, more: Vec<Event>) {
        let (seq, now) = (job.seq, Instant::now());
        let (mut known, mut is_first) = (job.clone(), true);
        let count = more.len() as u64;
        let first = Job { merged: job.merged.saturating_sub(count), ..job };
        let others = more.into_iter().map(|event| Job { event, merged: 0, ..known.clone() });
        let jobs: Vec<_> = std::iter::once(first).chain(others).collect();
        for job in jobs {
            let event = job.without_batch();
            match self.queue.push(job, now) {
                Admission::Queued if is_first => self.log.reopen(&known, Outcome::Pending),
                Admission::Queued => {}
                Admission::Merged { into } => {
                    if is_first {
                        self.log.forget(seq);
                    }
                    self.log.merge(into, &event);
                }
                Admission::Skipped | Admission::Dropped if !is_first => {}
                Admission::Skipped => {
                    self.log.forget(seq);
                    let outcome = Outcome::skipped("the command was running (busy=skip)");
                    self.log.record(&mut known, outcome);
                }
                Admission::Dropped => {
                    self.log.forget(seq);
                    self.drop_job(&mut known);
                }
            }
            is_first = false;
        }
    }
}
