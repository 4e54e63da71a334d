//! The commands that run, each seen to its end.
//!
//! Most commands end within milliseconds. They need no care until then, and their output is
//! read at their end. Only a command that runs for longer gets a task, which reads its output
//! and stops it when its time is over. For both, [`Running::finish`] makes the outcome, and
//! the engine gets it from [`Supervisor::next`].

use super::Job;
use super::outcome::Outcome;
use super::running::{Running, Stop, Stopper};
use facron_proto::RuleId;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::coop::unconstrained;

/// How long a command has no task: longer than most run, also when many run at once, and
/// too short for anybody to notice that its output is not read yet.
const UNSUPERVISED: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub struct Finished {
    pub job: Job,
    pub outcome: Outcome,
}

#[derive(Debug)]
struct Started {
    job: Job,
    running: Running,
    since: Instant,
}

/// To be used within a tokio `LocalSet`.
#[derive(Debug)]
pub struct Supervisor {
    /// The commands without a task, the oldest first.
    unsupervised: VecDeque<Started>,
    /// What stops each command, by the number of its job.
    stoppers: FxHashMap<u64, (RuleId, Rc<Stopper>)>,
    finished: mpsc::UnboundedSender<Finished>,
    ended: mpsc::UnboundedReceiver<Finished>,
}

impl Default for Supervisor {
    fn default() -> Self {
        let (finished, ended) = mpsc::unbounded_channel();
        Self { unsupervised: VecDeque::new(), stoppers: FxHashMap::default(), finished, ended }
    }
}

impl Supervisor {
    pub fn add(&mut self, job: Job, running: Running) {
        self.stoppers.insert(job.seq, (job.rule, running.stopper()));
        let is_short = job.spec.options.timeout.is_some_and(|timeout| timeout < UNSUPERVISED);
        let started = Started { job, running, since: Instant::now() };
        if is_short {
            self.supervise(started);
        } else {
            self.unsupervised.push_back(started);
        }
    }

    /// The children of these pids were reaped.
    pub fn on_reaped(&mut self, pids: &[i32]) {
        for pid in pids {
            let index = self.unsupervised.iter().position(|started| started.running.pid() == *pid);
            if let Some(started) = index.and_then(|index| self.unsupervised.remove(index)) {
                self.supervise(started);
            }
        }
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.unsupervised.front().map(|oldest| oldest.since + UNSUPERVISED)
    }

    /// Gives tasks to the commands that go on to run.
    pub fn on_due(&mut self, now: Instant) {
        while self.next_due().is_some_and(|due| due <= now)
            && let Some(started) = self.unsupervised.pop_front()
        {
            self.supervise(started);
        }
    }

    /// Gives tasks to all commands: one of them is to be stopped.
    pub fn supervise_all(&mut self) {
        while let Some(started) = self.unsupervised.pop_front() {
            self.supervise(started);
        }
    }

    /// A command that was reaped needs no task: nothing is left to wait for.
    fn supervise(&self, Started { job, running, .. }: Started) {
        let finished = self.finished.clone();
        let mut end = Box::pin(async move {
            let outcome = running.finish().await;
            // The engine is gone only when the daemon ends.
            let _ = finished.send(Finished { job, outcome });
        });
        let now = pin!(unconstrained(&mut end)).poll(&mut Context::from_waker(Waker::noop()));
        if now.is_pending() {
            tokio::task::spawn_local(end);
        }
    }

    /// Stops the commands of these jobs, to make room for later events.
    pub fn stop(&mut self, seqs: &[u64]) {
        if !seqs.is_empty() {
            self.supervise_all();
        }
        for (_, stopper) in seqs.iter().filter_map(|seq| self.stoppers.get(seq)) {
            stopper.stop(Stop::ForLaterEvent);
        }
    }

    /// Stops what runs of a rule that is removed.
    pub fn stop_rule(&mut self, rule: RuleId) {
        self.supervise_all();
        for (_, (_, stopper)) in self.stoppers.extract_if(|_, (of, _)| *of == rule) {
            stopper.stop(Stop::RuleRemoved);
        }
    }

    /// The number of a rule's running commands, without those that were stopped.
    pub fn running_of(&self, rule: RuleId) -> usize {
        self.stoppers.values().filter(|(of, _)| *of == rule).count()
    }

    /// Waits for a command that has ended. May be dropped at any time.
    pub async fn next(&mut self) -> Finished {
        match self.ended.recv().await {
            Some(finished) => self.forget(finished),
            // One sender is ours.
            None => std::future::pending().await,
        }
    }

    pub fn try_next(&mut self) -> Option<Finished> {
        self.ended.try_recv().ok().map(|finished| self.forget(finished))
    }

    fn forget(&mut self, finished: Finished) -> Finished {
        self.stoppers.remove(&finished.job.seq);
        finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::output::LogTo;
    use crate::job::run::Runner;
    use crate::job::testing;
    use crate::kernel::wait::is_to_be_reaped;
    use tokio::task::LocalSet;

    /// More than tokio lets one task do in a turn.
    const MANY: u64 = 300;

    #[test]
    fn commands_that_have_ended_are_finished_at_once_however_many() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (mut runner, mut supervisor) = (Runner::new(LogTo::Log).unwrap(), Supervisor::default());
            for seq in 1..=MANY {
                let job = testing::job(seq, 1, "/f");
                let running = runner.start(&job).unwrap();
                let deadline = Instant::now() + Duration::from_secs(20);
                while !is_to_be_reaped(running.pid()) {
                    assert!(Instant::now() < deadline);
                    std::thread::yield_now();
                }
                supervisor.add(job, running);
            }
            assert_eq!(supervisor.running_of(RuleId(1)), 300);
            supervisor.on_reaped(&runner.reap());
            for seq in 1..=MANY {
                let Finished { job, outcome } = supervisor.try_next().unwrap();
                assert!(job.seq == seq && !outcome.is_failure(), "{outcome:?}");
            }
            assert_eq!((supervisor.running_of(RuleId(1)), supervisor.next_due()), (0, None));
        });
    }
}
