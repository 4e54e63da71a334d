//! The records of jobs: their numbers, the counts, the history for `tail`, and the clients
//! that follow it.
//!
//! Records get their numbers here and nowhere else. A record is opened when a job is
//! queued, updated while its command runs, and closed once. It takes its travelling form
//! only for clients that ask. The last jobs are kept in memory, most of which they share with
//! others, and all that are closed in the store's history.

mod cursors;
mod disk;
mod outgoing;
mod recent;
mod row;
mod wanted;

pub use disk::{Found, backwards, forwards};
pub use recent::Page;
pub use row::nanoseconds;
pub use wanted::Wanted;

use super::fates::End;
use super::job_store::JobStore;
use crate::control::{Follower, encode};
use crate::event::Event;
use crate::job::Job;
use crate::job::outcome::{Ended, Ending, Outcome};
use crate::job::output::LogTo;
use crate::kernel::wait::Exit;
use crate::store::{Kept, Saved, Sender, Store};
use crate::wire;
use cursors::{Cursors, OpenRecords, Sources};
use facron_proto::{Jobs, RuleId, Text};
use outgoing::Outgoing;
use recent::Recent;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use wanted::Facts;

/// How many records there are in memory at most.
const RECENT: u64 = 1024;

/// The one owner of numbers, outcomes and counts.
#[derive(Debug)]
pub struct JobLog {
    next_seq: u64,
    kept: Kept,
    recent: Recent,
    outgoing: Outgoing,
    /// Jobs that have ended, but not in the store.
    ended: Vec<u64>,
    open: OpenRecords,
    followers: Vec<(Follower, Wanted)>,
    /// Those who get records in the order of their numbers.
    cursors: Cursors,
    counts: Jobs,
    log_to: LogTo,
    store: JobStore,
}

impl JobLog {
    /// The first record gets the number that comes next of what was `saved`.
    pub fn new(kept: Kept, saved: &Saved, sender: Sender, log_to: LogTo) -> Self {
        let recent = usize::try_from(kept.records.min(RECENT)).unwrap_or(usize::MAX);
        Self {
            next_seq: saved.next_seq,
            store: JobStore::new(sender, saved),
            kept,
            recent: Recent::new(recent, saved.next_seq),
            outgoing: Outgoing::default(),
            ended: Vec::new(),
            open: OpenRecords::default(),
            followers: Vec::new(),
            cursors: Cursors::new(),
            counts: Jobs::default(),
            log_to,
        }
    }

    /// The number that the next record gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Opens the record of a job that is to run whatever happens to the daemon.
    pub fn open_kept(&mut self, job: &mut Job) {
        self.open(job);
        self.store.opened(job);
    }

    /// Opens the record of a job that an earlier daemon has left, under the number that it had.
    /// To be called in the order of the numbers, before there are others.
    pub fn reopen(&mut self, job: &Job, outcome: Outcome) {
        self.recent.push(job, outcome);
        self.open.insert(job.rule, job.seq);
    }

    /// Lets go of a job that an earlier daemon has left.
    pub fn forget(&mut self, seq: u64) {
        self.store.ended(seq);
    }

    /// The command of a job was started.
    pub fn start(&mut self, job: &Job, pid: i32) {
        self.update(job, Outcome::Running { pid });
        self.store.started(job, pid);
    }

    /// The command of a job has ended, and its files are to get their places; the change of the
    /// store that says so.
    pub(super) fn settle(job: &Job, end: &End, store: &Store) -> u64 {
        JobStore::settles(job, end, store)
    }

    /// A job is tried again after a pause.
    pub fn pause(&mut self, job: &Job, outcome: Outcome, pause: Duration) {
        self.update(job, outcome);
        self.store.paused(job, pause);
    }

    /// Opens the record of a job that waits, and numbers the job.
    pub fn open(&mut self, job: &mut Job) {
        self.push(job, Outcome::Pending);
        self.open.insert(job.rule, job.seq);
    }

    /// Updates the record of a job that goes on.
    pub fn update(&mut self, job: &Job, outcome: Outcome) {
        self.recent.update(job, outcome);
    }

    /// The job of this number stands for the event of another one.
    pub fn merge(&mut self, into: u64, job: &Job) {
        self.counts.merged += 1;
        self.store.merged(into, 1 + job.merged, job, &job.event);
        if let Some(past) = self.recent.get_mut(into) {
            past.job.merged += 1;
        }
    }

    /// The job of this number has to do what another one was to do, that was stopped for it.
    pub fn take_over(&mut self, into: u64, job: &Job, events: &[Event]) {
        for event in events {
            self.store.merged(into, 0, job, event);
        }
    }

    /// Events became part of a job before its record was opened.
    pub fn count_merged(&mut self, events: u64) {
        self.counts.merged += events;
    }

    /// Closes the record of a job.
    pub fn close(&mut self, job: &Job, outcome: Outcome) {
        self.conclude(job, &outcome);
        self.open.remove(job.rule, job.seq);
        self.ended.push(job.seq);
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
        self.recent.push(job, outcome);
    }

    fn conclude(&mut self, job: &Job, outcome: &Outcome) {
        self.count(job, outcome);
        if self.log_to == LogTo::Stdout && *outcome == Outcome::Recorded {
            // A reader that has gone away is no failure of ours.
            let _ = writeln!(io::stdout(), "{} {}", job.event.events, Text::from(&*job.event.path));
        }
        if self.kept.records > 0 {
            self.outgoing.push(job, outcome);
        }
        self.publish(job, outcome);
    }

    fn count(&mut self, job: &Job, outcome: &Outcome) {
        match outcome {
            Outcome::Skipped { .. } => self.counts.skipped += 1,
            Outcome::Dropped { .. } => self.counts.dropped += 1,
            Outcome::NotStarted { .. } => self.count_failed(job, outcome),
            Outcome::Left(left) => {
                self.count(job, &left.command);
                if left.is_failure {
                    self.counts.failed += u64::from(!left.command.is_failure());
                    let (rule, path) = (job.rule_label(), Text::from(&*job.event.path));
                    tracing::warn!(%rule, %path, "the file of the command stays where it is: {}", left.why);
                }
            }
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
        let Some(line) = encode(&wire::record(job, outcome)) else { return };
        let facts = Facts::of(job, outcome);
        for (follower, wanted) in &self.followers {
            if wanted.covers(&facts) {
                follower.send(&line);
            }
        }
    }

    /// A client wants all further records of a kind.
    pub fn follow(&mut self, follower: Follower, wanted: Wanted) {
        self.followers.push((follower, wanted));
    }

    /// A client wants all records of a kind from this number on, in the order of the numbers.
    pub fn follow_in_order(&mut self, follower: Follower, wanted: Wanted, next: u64) {
        self.cursors.add(follower, wanted, next);
    }

    /// Gives the store the records that were closed. Their jobs end there after that: else a
    /// crash in between would leave neither.
    pub fn give(&mut self, store: &Store) {
        self.outgoing.give(store);
        for seq in self.ended.drain(..) {
            self.store.ended(seq);
        }
    }

    /// The same, and sends what has come to those who get it in order.
    pub fn advance(&mut self, store: &Store) {
        self.give(store);
        let Self { recent, open, outgoing, cursors, .. } = self;
        let end = outgoing.first().unwrap_or(self.next_seq);
        cursors.advance(Sources { recent, store, open, end });
    }

    /// Whether somebody gets records in order, when they are on the disk.
    pub fn has_cursors(&self) -> bool {
        !self.cursors.is_empty()
    }

    /// Waits until there is more to send. Cancel safe.
    pub async fn wake(&mut self) {
        self.cursors.wake().await;
    }

    /// When there is more to send.
    pub fn next_due(&self) -> Option<Instant> {
        self.cursors.next_due()
    }

    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// The number from which on all records are in memory.
    pub fn recent(&self) -> u64 {
        self.recent.oldest()
    }

    /// How many records are in memory.
    pub fn recent_count(&self) -> u64 {
        self.recent.backwards().count() as u64
    }

    /// Fills a page with the last records of a kind in memory, the latest first.
    pub fn last(&self, wanted: &Wanted, page: &mut Page) {
        let wanted = self.recent.backwards().filter(|past| past.is_wanted(wanted));
        let _ = wanted.take_while(|past| page.take_past(past)).count();
    }

    /// The number up to which the outcomes of all records are final, or of those of a rule.
    pub fn end(&self, rule: Option<RuleId>) -> u64 {
        self.open.first(rule).unwrap_or(self.next_seq)
    }

    /// Whether all records below a number are on the disk, or cannot be there.
    pub fn is_given(&self, end: u64) -> bool {
        self.outgoing.first().is_none_or(|first| first >= end)
    }

    /// Fills a page with records of a kind in memory, from a number to another.
    pub fn first(&self, next: u64, end: u64, wanted: &Wanted, page: &mut Page) {
        let in_range = self.recent.from(next).take_while(|past| past.job.seq < end);
        let _ =
            in_range.filter(|past| past.is_wanted(wanted)).take_while(|past| page.take_past(past)).count();
    }

    /// The number to go on with after `seq`: the next one, or the oldest one of the history if
    /// that does not reach back, or does not know this number.
    pub fn after(&self, seq: u64, store: &Store) -> Result<u64, u64> {
        let recent = self.recent.oldest();
        let oldest = store.oldest().map_or(recent, |oldest| oldest.min(recent));
        if seq >= self.next_seq || seq + 1 < oldest { Err(oldest) } else { Ok(seq + 1) }
    }

    pub fn counts(&self) -> &Jobs {
        &self.counts
    }
}

/// Logs that a command failed and is started again after a pause.
pub fn warn_of_retry(job: &Job, outcome: &Outcome, pause: Option<Duration>) {
    let then =
        pause.map_or_else(|| "after the next start".to_owned(), |pause| format!("in {} s", pause.as_secs()));
    warn_of_failure(job, outcome, &format!("; it is tried again {then}"));
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

    fn new(records: u64) -> JobLog {
        let kept = Kept { records, age: Duration::MAX };
        JobLog::new(kept, &Saved::default(), Sender::default(), LogTo::Log)
    }

    fn seqs(log: &JobLog, limit: u64, wanted: &Wanted) -> Vec<u64> {
        let mut page = Page::new(limit, usize::MAX);
        log.last(wanted, &mut page);
        page.records.iter().rev().map(|record| record.seq).collect()
    }

    #[test]
    fn records_are_numbered_without_gaps_and_the_oldest_go() {
        let mut log = new(3);
        let (mut first, mut second) = (job(0, 1, "/a"), job(0, 2, "/b"));
        log.open(&mut first);
        log.record(&mut job(0, 1, "/c"), Outcome::Dropped { why: String::new() });
        log.open(&mut second);
        log.merge(second.seq, &job(0, 2, "/b"));
        assert_eq!((first.seq, second.seq, log.next_seq()), (1, 3, 4));
        log.record(&mut job(0, 1, "/d"), Outcome::Recorded);
        let all = Wanted::default();
        assert_eq!(seqs(&log, 9, &all), [2, 3, 4]);
        assert_eq!(seqs(&log, 2, &all), [3, 4]);
        assert_eq!(seqs(&log, 9, &Wanted { rule: Some(RuleId(2)), ..Wanted::default() }), [3]);
        assert_eq!(seqs(&log, 9, &Wanted { failed: true, ..Wanted::default() }), [2]);
        assert_eq!(log.recent.get_mut(3).unwrap().job.merged, 1);
    }

    #[test]
    fn what_is_closed_counts_once_and_what_is_forgotten_does_no_harm() {
        let mut log = new(1);
        let (mut first, mut second) = (job(0, 1, "/a"), job(0, 1, "/b"));
        log.open(&mut first);
        log.open(&mut second);
        log.update(&first, Outcome::Running { pid: 9 });
        log.close(&first, Outcome::NotStarted { why: "why".to_owned() });
        log.close(&second, Outcome::skipped("why"));
        let expected = Jobs { failed: 1, skipped: 1, ..Jobs::default() };
        assert_eq!((log.counts(), seqs(&log, 9, &Wanted::default())), (&expected, vec![2]));
        let mut none = new(0);
        none.record(&mut job(0, 1, "/a"), Outcome::Recorded);
        assert_eq!((none.next_seq(), seqs(&none, 9, &Wanted::default()).len()), (2, 0));
    }

    #[test]
    fn what_is_not_final_holds_back_what_is_after_it() {
        let mut log = new(4);
        let (mut first, mut second) = (job(0, 1, "/a"), job(0, 2, "/b"));
        log.open(&mut first);
        log.open(&mut second);
        log.record(&mut job(0, 1, "/c"), Outcome::Recorded);
        let first_of = |log: &JobLog, next, rule: Option<u64>, limit| {
            let mut page = Page::new(limit, usize::MAX);
            let wanted = Wanted { rule: rule.map(RuleId), ..Wanted::default() };
            log.first(next, log.end(wanted.rule), &wanted, &mut page);
            page.records.iter().map(|record| record.seq).collect::<Vec<_>>()
        };
        assert_eq!(first_of(&log, 1, None, 9), [0; 0]);
        log.close(&first, Outcome::skipped("why"));
        assert_eq!(first_of(&log, 1, None, 9), [1]);
        assert_eq!(first_of(&log, 1, Some(1), 9), [1, 3]);
        assert_eq!(first_of(&log, 1, Some(1), 1), [1]);
        assert_eq!(first_of(&log, 1, Some(2), 9), [0; 0]);
        log.close(&second, Outcome::skipped("why"));
        assert_eq!(first_of(&log, 2, None, 9), [2, 3]);
        assert_eq!([0, 3, 4, 99].map(|seq| log.after(seq, &Store::absent())), [Ok(1), Ok(4), Err(1), Err(1)]);
        for _ in 0..3 {
            log.record(&mut job(0, 1, "/c"), Outcome::Recorded);
        }
        assert_eq!([0, 1, 2, 6].map(|seq| log.after(seq, &Store::absent())), [Err(3), Err(3), Ok(3), Ok(7)]);
    }
}
