//! The records of jobs: their numbers, the counts, the history for `tail`, and the clients
//! that follow it.
//!
//! Records get their numbers here and nowhere else. A record is opened when a job is
//! queued, updated while its command runs, and closed once. It takes its travelling form
//! only for clients that ask; the history keeps the job, most of which it shares with
//! others.

use crate::control::{Follower, encode};
use crate::job::Job;
use crate::job::outcome::{Ended, Ending, Outcome};
use crate::job::output::LogTo;
use crate::kernel::wait::Exit;
use crate::wire;
use facron_proto::{Jobs, Record, RuleId, Text};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

/// Which records a client asks for.
#[derive(Debug)]
pub struct Wanted {
    pub rule: Option<RuleId>,
    pub failed: bool,
}

impl Wanted {
    fn covers(&self, job: &Job, outcome: &Outcome) -> bool {
        self.rule.is_none_or(|rule| rule == job.rule) && (!self.failed || outcome.is_failure())
    }
}

/// The one owner of numbers, outcomes and counts.
#[derive(Debug)]
pub struct JobLog {
    next_seq: u64,
    /// How many records the history keeps.
    limit: usize,
    /// The last jobs and what became of them so far. Their numbers have no gaps.
    history: VecDeque<(Job, Outcome)>,
    followers: Vec<(Follower, Wanted)>,
    counts: Jobs,
    log_to: LogTo,
}

impl JobLog {
    pub fn new(limit: usize, log_to: LogTo) -> Self {
        let (history, followers) = (VecDeque::new(), Vec::new());
        Self { next_seq: 1, limit, history, followers, counts: Jobs::default(), log_to }
    }

    /// The number that the next record gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Opens the record of a job that waits, and numbers the job.
    pub fn open(&mut self, job: &mut Job) {
        self.push(job, Outcome::Pending);
    }

    /// Updates the record of a job that goes on.
    pub fn update(&mut self, job: &Job, outcome: Outcome) {
        if let Some(past) = self.past_mut(job.seq) {
            *past = (job.without_batch(), outcome);
        }
    }

    /// The job of this number stands for one more event.
    pub fn merge(&mut self, into: u64) {
        self.counts.merged += 1;
        if let Some((job, _)) = self.past_mut(into) {
            job.merged += 1;
        }
    }

    fn past_mut(&mut self, seq: u64) -> Option<&mut (Job, Outcome)> {
        let (first, _) = self.history.front()?;
        let index = usize::try_from(seq.checked_sub(first.seq)?).ok()?;
        self.history.get_mut(index)
    }

    /// Events became part of a job before its record was opened.
    pub fn count_merged(&mut self, events: u64) {
        self.counts.merged += events;
    }

    /// Closes the record of a job.
    pub fn close(&mut self, job: &Job, outcome: Outcome) {
        self.conclude(job, &outcome);
        self.update(job, outcome);
    }

    /// Opens and closes the record of a job that never waited.
    pub fn record(&mut self, job: &mut Job, outcome: Outcome) {
        job.seq = self.next_seq;
        self.conclude(job, &outcome);
        self.push(job, outcome);
    }

    fn push(&mut self, job: &mut Job, outcome: Outcome) {
        job.seq = self.next_seq;
        self.next_seq += 1;
        if self.limit > 0 {
            if self.history.len() == self.limit {
                self.history.pop_front();
            }
            self.history.push_back((job.without_batch(), outcome));
        }
    }

    fn conclude(&mut self, job: &Job, outcome: &Outcome) {
        self.count(job, outcome);
        if self.log_to == LogTo::Stdout && *outcome == Outcome::Recorded {
            // A reader that has gone away is no failure of ours.
            let _ = writeln!(io::stdout(), "{} {}", job.event.events, Text::from(&*job.event.path));
        }
        self.publish(job, outcome);
    }

    fn count(&mut self, job: &Job, outcome: &Outcome) {
        match outcome {
            Outcome::Skipped { .. } => self.counts.skipped += 1,
            Outcome::Dropped { .. } => self.counts.dropped += 1,
            Outcome::NotStarted { .. } => self.count_failed(job, outcome),
            Outcome::Ended(Ended { pid, ending, .. }) => {
                self.counts.run += 1;
                self.counts.timeout += u64::from(*ending == Ending::TimedOut);
                if outcome.is_failure() {
                    self.count_failed(job, outcome);
                } else {
                    tracing::debug!(rule = %job.rule, seq = job.seq, pid, "command ended");
                }
            }
            _ => {}
        }
    }

    fn count_failed(&mut self, job: &Job, outcome: &Outcome) {
        self.counts.failed += 1;
        warn_of_failure(job, outcome, "");
    }

    fn publish(&mut self, job: &Job, outcome: &Outcome) {
        self.followers.retain(|(follower, _)| !follower.is_closed());
        if self.followers.is_empty() {
            return;
        }
        let line = encode(&wire::record(job, outcome));
        let Ok(line) = line.inspect_err(|error| tracing::error!(%error, "cannot encode a record")) else {
            return;
        };
        for (follower, wanted) in &self.followers {
            if wanted.covers(job, outcome) {
                follower.send(&line);
            }
        }
    }

    /// A client wants all further records of a kind.
    pub fn follow(&mut self, follower: Follower, wanted: Wanted) {
        self.followers.push((follower, wanted));
    }

    /// The last records of a kind, the oldest first.
    pub fn last(&self, limit: u64, wanted: &Wanted) -> Vec<Record> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let past = self.history.iter().rev().filter(|(job, outcome)| wanted.covers(job, outcome));
        let mut records: Vec<_> = past.take(limit).map(|(job, outcome)| wire::record(job, outcome)).collect();
        records.reverse();
        records
    }

    pub fn counts(&self) -> &Jobs {
        &self.counts
    }
}

/// Logs that a command failed and is started again after a pause.
pub fn warn_of_retry(job: &Job, outcome: &Outcome, pause: Duration) {
    warn_of_failure(job, outcome, &format!("; it is tried again in {} s", pause.as_secs()));
}

fn warn_of_failure(job: &Job, outcome: &Outcome, then: &str) {
    let (rule, path) = (job.rule_label(), Text::from(&*job.event.path));
    let how = match (outcome.why(), outcome) {
        (Some(why), _) => format!(": {why}"),
        (None, Outcome::Ended(Ended { exit: Exit::Code(code), .. })) => format!(": exit status {code}"),
        (None, Outcome::Ended(Ended { exit: Exit::Signal(n), .. })) => format!(": ended by signal {n}"),
        (None, _) => String::new(),
    };
    tracing::warn!(%rule, %path, "command failed{how}{then}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::testing::job;

    const ALL: Wanted = Wanted { rule: None, failed: false };

    fn seqs(log: &JobLog, limit: u64, wanted: &Wanted) -> Vec<u64> {
        log.last(limit, wanted).iter().map(|record| record.seq).collect()
    }

    #[test]
    fn records_are_numbered_without_gaps_and_the_oldest_go() {
        let mut log = JobLog::new(3, LogTo::Log);
        let (mut first, mut second) = (job(0, 1, "/a"), job(0, 2, "/b"));
        log.open(&mut first);
        log.record(&mut job(0, 1, "/c"), Outcome::Dropped { why: String::new() });
        log.open(&mut second);
        log.merge(second.seq);
        assert_eq!((first.seq, second.seq, log.next_seq()), (1, 3, 4));
        log.record(&mut job(0, 1, "/d"), Outcome::Recorded);
        assert_eq!(seqs(&log, 9, &ALL), [2, 3, 4]);
        assert_eq!(seqs(&log, 2, &ALL), [3, 4]);
        assert_eq!(seqs(&log, 9, &Wanted { rule: Some(RuleId(2)), failed: false }), [3]);
        assert_eq!(seqs(&log, 9, &Wanted { rule: None, failed: true }), [2]);
        assert_eq!(log.last(2, &ALL)[0].merged, 1);
    }

    #[test]
    fn what_is_closed_counts_once_and_what_is_forgotten_does_no_harm() {
        let mut log = JobLog::new(1, LogTo::Log);
        let (mut first, mut second) = (job(0, 1, "/a"), job(0, 1, "/b"));
        log.open(&mut first);
        log.open(&mut second);
        log.update(&first, Outcome::Running { pid: 9 });
        log.close(&first, Outcome::NotStarted { why: "why".to_owned() });
        log.close(&second, Outcome::skipped("why"));
        let expected = Jobs { failed: 1, skipped: 1, ..Jobs::default() };
        assert_eq!((log.counts(), seqs(&log, 9, &ALL)), (&expected, vec![2]));
        let mut none = JobLog::new(0, LogTo::Log);
        none.record(&mut job(0, 1, "/a"), Outcome::Recorded);
        assert_eq!((none.next_seq(), none.last(9, &ALL).len()), (2, 0));
    }
}
