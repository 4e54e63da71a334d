//! `done=` and `failed=`: the files of jobs before and after their commands.
//!
//! ```text
//! start -> note -> launch -> ... -> end -> disk -> settle -> conclusion
//! ```
//!
//! A job whose command has ended counts as running until its files have their places, so that
//! the next event of a path finds the path as it will be. Before a file is touched the end of
//! its command is in the store, if the disk takes it: the next daemon goes on there.
//!
//! Each rule has a process that looks and moves, see [`fate`](crate::fate). One that does not
//! answer is ended, and holds up its own rule only.

mod mover;
mod saved;

pub(super) use saved::SavedFiles;

use crate::config::fate::Done;
use crate::config::rule::RuleSpec;
use crate::events::Events;
use crate::fate::{Answer, Noted, Settled};
use crate::job::Job;
use crate::job::outcome::{Ended, Ending, Left, Outcome};
use crate::job::run::Runner;
use crate::job::running::Stop;
use crate::kernel::wait::Exit;
use facron_proto::RuleId;
use mover::Mover;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Instant, SystemTime};

/// Events after which there is no file under their path.
const DEPARTURES: Events =
    Events::DELETE.with(Events::DELETE_SELF).with(Events::MOVED_FROM).with(Events::MOVE_SELF);

const CHANGED: &str = "its file has changed since the command began, and stays where it is";

/// The end of a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct End {
    pub(super) time: SystemTime,
    pub(super) outcome: Outcome,
    /// The rule's number then: each daemon gives others.
    pub(super) rule: RuleId,
    /// An earlier attempt may have moved the files.
    pub(super) is_repeated: bool,
}

/// A job whose files are looked at or moved.
#[derive(Debug)]
struct Task {
    job: Job,
    /// `None` before the command has started.
    end: Option<End>,
    /// How many files were asked about.
    sent: usize,
    answers: Vec<Option<Answer>>,
}

/// What there is to go on with.
#[derive(Debug)]
pub(super) enum Ready {
    /// Its files are known: its command may start.
    Noted(Job),
    Settled(Conclusion),
}

/// The end of a job whose files have their places, or stay where they are.
#[derive(Debug)]
pub(super) struct Conclusion {
    pub(super) job: Job,
    pub(super) outcome: Outcome,
    /// The paths whose files have changed, by their places among the job's events.
    pub(super) changed: Vec<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Fates {
    movers: Vec<Mover>,
    /// Ends on their way to the disk, by the changes of the store that have them.
    written: VecDeque<(u64, Task)>,
}

/// What is to become of the files of a job with this outcome; `None` if they stay.
fn place(spec: &RuleSpec, outcome: &Outcome) -> Option<Done> {
    let (exit, ending) = match outcome {
        Outcome::Ended(Ended { exit, ending, .. }) => (Some(*exit), *ending),
        _ => (None, Ending::ByItself),
    };
    match (exit, ending) {
        (Some(Exit::Code(0)), Ending::ByItself) => spec.options.done.clone(),
        (_, Ending::Stopped(Stop::ForLaterEvent | Stop::RuleRemoved)) => None,
        _ if outcome.is_failure() => spec.options.failed.clone().map(Done::Move),
        _ => None,
    }
}

/// Whether something is to become of the files of a job.
pub(super) fn has_fate(job: &Job, outcome: &Outcome) -> bool {
    job.files.is_some() && place(&job.spec, outcome).is_some()
}

/// Whether there is no file any more for which the command could run.
pub(super) fn is_pointless(job: &Job) -> bool {
    let is_gone = |files: &[Noted]| files.iter().all(|file| *file == Noted::Gone);
    job.files.as_ref().is_some_and(|files| is_gone(files)) && !job.event.events.intersects(DEPARTURES)
}

impl Task {
    fn new(job: Job, end: Option<End>) -> Self {
        let answers = std::iter::repeat_with(|| None).take(job.events().len()).collect();
        Self { job, end, sent: 0, answers }
    }

    fn is_over(&self) -> bool {
        self.answers.iter().all(Option::is_some)
    }

    fn into_ready(self) -> Ready {
        let Self { mut job, end, answers, .. } = self;
        let Some(end) = end else {
            let noted = answers.into_iter().map(|answer| match answer {
                Some(Answer::Noted(noted)) => noted,
                _ => Noted::Unknown("its state is not known".to_owned()),
            });
            job.files = Some(Rc::new(noted.collect()));
            return Ready::Noted(job);
        };
        let (mut changed, mut growing, mut why) = (Vec::new(), false, Vec::new());
        for (index, answer) in answers.into_iter().enumerate() {
            match answer {
                Some(Answer::Settled(Settled::Changed)) => changed.push(index),
                Some(Answer::Settled(Settled::Growing)) => growing = true,
                Some(Answer::Settled(Settled::Stays(text))) => why.push(text),
                _ => {}
            }
        }
        let is_failure = !why.is_empty();
        if !is_failure && (growing || !changed.is_empty()) {
            why.push(CHANGED.to_owned());
        }
        let more = why.len().saturating_sub(1);
        let outcome = match why.into_iter().next() {
            None => end.outcome,
            Some(first) => {
                let first = if more > 0 { format!("{first}; and {more} more") } else { first };
                Outcome::Left(Box::new(Left { command: end.outcome, why: first, is_failure }))
            }
        };
        Ready::Settled(Conclusion { job, outcome, changed })
    }
}

impl Fates {
    /// Looks at the files of a job whose command is to start.
    pub(super) fn note(&mut self, job: Job) {
        self.give(Task::new(job, None));
    }

    /// Gives the files of a job their places, when a change of the store was tried.
    pub(super) fn settle(&mut self, job: Job, end: End, change: u64) {
        self.written.push_back((change, Task::new(job, Some(end))));
    }

    fn give(&mut self, task: Task) {
        if let Some(mover) = self.movers.iter_mut().find(|mover| mover.serves(&task.job)) {
            return mover.push(task);
        }
        let mut mover = Mover::new(&task.job);
        mover.push(task);
        self.movers.push(mover);
    }

    /// Whether something waits for the store.
    pub(super) fn awaits_store(&self) -> bool {
        !self.written.is_empty()
    }

    /// Does what can be done now; what there is to go on with.
    pub(super) fn advance(
        &mut self,
        runner: &mut Runner,
        is_tried: impl Fn(u64) -> bool,
        now: Instant,
    ) -> Vec<Ready> {
        while self.written.front().is_some_and(|(change, _)| is_tried(*change))
            && let Some((_, task)) = self.written.pop_front()
        {
            self.give(task);
        }
        let mut ready = Vec::new();
        for mover in &mut self.movers {
            mover.advance(runner, now, &mut ready);
        }
        self.movers.retain(|mover| !mover.is_over());
        ready
    }

    /// Takes out jobs whose commands have not started yet.
    pub(super) fn take_unstarted(&mut self, is_wanted: impl Fn(&Job) -> bool) -> Vec<Job> {
        self.movers.iter_mut().flat_map(|mover| mover.take_unstarted(&is_wanted)).collect()
    }

    /// The rule for which a process moves files, or did a moment ago.
    pub(super) fn rule_of(&self, pid: i32) -> Option<RuleId> {
        self.movers.iter().find(|mover| mover.has(pid)).map(|mover| mover.rule)
    }

    /// To be called before the kernel's queue is read: the processes that have ended by now.
    pub(super) fn ended(&self) -> Vec<i32> {
        self.movers.iter().flat_map(Mover::ended).collect()
    }

    /// All events of these were read.
    pub(super) fn forget(&mut self, ended: &[i32]) {
        if !ended.is_empty() {
            self.movers.iter_mut().for_each(|mover| mover.forget(ended));
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.movers.iter().filter_map(Mover::next_due).min()
    }

    /// Waits until a mover has said something. Cancel safe.
    pub(super) async fn wake(&mut self) {
        poll_fn(|context| {
            let is_ready = |mover: &mut Mover| mover.poll_ready(context).is_ready();
            // Each of them has to know whom to wake.
            let count = self.movers.iter_mut().map(is_ready).filter(|is_ready| *is_ready).count();
            if count > 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
