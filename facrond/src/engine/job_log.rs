//! The records of jobs: their numbers, the counts, the history for `tail`, and the clients
//! that follow it.
//!
//! Records get their numbers here and nowhere else. A record is opened when a job is
//! queued, updated while its command runs, and closed once. It takes its travelling form
//! only for clients that ask; the history keeps the job, most of which it shares with
//! others. It is bounded in records and in bytes, since paths may be long.

use crate::control::{Follower, encode};
use crate::event::Event;
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

/// A job and what became of it so far.
#[derive(Debug)]
struct Past {
    job: Job,
    outcome: Outcome,
}

impl Past {
    /// Its memory in bytes.
    fn size(&self) -> usize {
        let Event { path, old_path, exe, .. } = &self.job.event;
        let texts = [Some(path), old_path.as_ref(), exe.as_ref()].into_iter().flatten();
        size_of::<Self>() + texts.map(|text| text.len()).sum::<usize>() + self.outcome.text_size()
    }
}

/// The bytes of the history, and the more for each record of `--history`.
const BYTES: usize = 8 << 20;
const BYTES_A_RECORD: usize = 512;

/// The one owner of numbers, outcomes and counts.
#[derive(Debug)]
pub struct JobLog {
    next_seq: u64,
    /// How many records the history keeps.
    limit: usize,
    /// The last jobs. Their numbers have no gaps.
    history: VecDeque<Past>,
    /// The memory of the history.
    bytes: usize,
    followers: Vec<(Follower, Wanted)>,
    counts: Jobs,
    log_to: LogTo,
}

impl JobLog {
    pub fn new(limit: usize, log_to: LogTo) -> Self {
        let (history, followers) = (VecDeque::new(), Vec::new());
        Self { next_seq: 1, limit, history, bytes: 0, followers, counts: Jobs::default(), log_to }
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
        let new = Past { job: job.without_batch(), outcome };
        let size = new.size();
        if let Some(past) = self.past_mut(job.seq) {
            let before = std::mem::replace(past, new).size();
            self.bytes = self.bytes + size - before;
        }
    }

    /// The job of this number stands for one more event.
    pub fn merge(&mut self, into: u64) {
        self.counts.merged += 1;
        if let Some(past) = self.past_mut(into) {
            past.job.merged += 1;
        }
    }

    fn past_mut(&mut self, seq: u64) -> Option<&mut Past> {
        let first = self.history.front()?;
        let index = usize::try_from(seq.checked_sub(first.job.seq)?).ok()?;
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
        let past = Past { job: job.without_batch(), outcome };
        self.bytes += past.size();
        self.history.push_back(past);
        while self.history.len() > self.limit || self.bytes > BYTES + self.limit * BYTES_A_RECORD {
            let Some(oldest) = self.history.pop_front() else { break };
            self.bytes -= oldest.size();
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

    /// The last records of a kind, the oldest first, as far as they have not more bytes than
    /// this; and whether there were more.
    pub fn last(&self, limit: u64, bytes: usize, wanted: &Wanted) -> (Vec<Record>, bool) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let past = self.history.iter().rev().filter(|past| wanted.covers(&past.job, &past.outcome));
        let (mut records, mut left) = (Vec::new(), Some(bytes));
        for Past { job, outcome } in past.take(limit).take_while(|past| {
            left = left.and_then(|left| left.checked_sub(past.size()));
            left.is_some()
        }) {
            records.push(wire::record(job, outcome));
        }
        records.reverse();
        (records, left.is_none())
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
        log.last(limit, usize::MAX, wanted).0.iter().map(|record| record.seq).collect()
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
        assert_eq!(log.last(2, usize::MAX, &ALL).0[0].merged, 1);
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
        assert_eq!((none.next_seq(), seqs(&none, 9, &ALL).len()), (2, 0));
    }

    #[test]
    fn the_history_and_a_reply_are_bounded_in_bytes() {
        let mut log = JobLog::new(1000, LogTo::Log);
        let path = "/x".repeat(50_000);
        for _ in 0..200 {
            log.record(&mut job(0, 1, &path), Outcome::Recorded);
        }
        let kept = log.history.len();
        assert!(
            (80..100).contains(&kept) && log.bytes == log.history.iter().map(Past::size).sum::<usize>(),
            "{kept}"
        );
        assert_eq!(seqs(&log, 1000, &ALL).last(), Some(&200));
        let (records, is_truncated) = log.last(1000, 1 << 20, &ALL);
        assert!((9..=10).contains(&records.len()) && is_truncated, "{}", records.len());
        assert!(!log.last(3, 1 << 20, &ALL).1);
        // an update may be the larger one
        let mut waiting = job(0, 1, "/a");
        log.open(&mut waiting);
        log.close(&waiting, Outcome::NotStarted { why: "y".repeat(1000) });
        assert_eq!(log.bytes, log.history.iter().map(Past::size).sum::<usize>());
    }
}
