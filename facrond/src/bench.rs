//! The parts of the daemon that benchmarks drive, of which nobody else has to know.

use crate::config::{Words, parse_words};
use crate::engine::JobLog;
use crate::event::Event;
use crate::events::Events;
use crate::job::Job;
use crate::job::outcome::Outcome;
use crate::job::output::LogTo;
use crate::job::queue::{Limits, Queue};
use crate::store::{Kept, Store};
pub use crate::watch::simulated::Tree;
use facron_proto::RuleId;
use nix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

/// Jobs for as many paths, dealt out to some rules.
#[derive(Debug)]
pub struct Jobs(Vec<Job>);

impl Jobs {
    /// `count` jobs of `rules` rules.
    pub fn new(count: u64, rules: u64) -> Self {
        let words =
            Words { path: b"/srv", events: b"CLOSE_WRITE", options: b"", command: vec![b"/bin/true"] };
        let (spec, _) = parse_words(&words).expect("it is a rule");
        let spec = Rc::new(spec);
        let job = |seq: u64| {
            let event = Event {
                time: SystemTime::UNIX_EPOCH,
                events: Events::CLOSE_WRITE,
                mask: Events::CLOSE_WRITE.mask(),
                path: format!("/srv/{seq}").into_bytes().into(),
                old_path: None,
                pid: 1,
                exe: None,
                uid: None,
                synthetic: false,
                object: None,
            };
            Job { seq, ..Job::new(RuleId(seq % rules), Rc::clone(&spec), event) }
        };
        Self((0..count).map(job).collect())
    }

    /// Queues all, then starts and finishes one after the other; how many there were.
    pub fn run(&mut self) -> u64 {
        let now = Instant::now();
        let mut queue = Queue::new(Limits { pending: 2 * self.0.len(), running: 64 });
        for job in &self.0 {
            queue.push(job.clone(), now);
        }
        let mut finished = 0;
        while let Some(job) = queue.start_next(now) {
            queue.finished(&job);
            finished += 1;
        }
        finished
    }
}

/// A history on the disk.
#[derive(Debug)]
pub struct History {
    log: JobLog,
    store: Store,
}

impl History {
    /// One in this directory, of so many records.
    pub fn open(dir: &Path, records: u64) -> Self {
        let kept = Kept { records, age: Duration::from_secs(86_400) };
        let (store, saved) = Store::open(dir, "boot", kept).expect("it can be opened");
        Self { log: JobLog::new(kept, &saved, store.sender(), LogTo::Log), store }
    }

    /// Records jobs, some in each turn of the loop, until they are on the disk; the time that all
    /// threads took.
    pub fn record(&mut self, jobs: &mut Jobs, in_turn: usize) -> Duration {
        let before = cpu_time();
        for jobs in jobs.0.chunks_mut(in_turn) {
            for job in jobs {
                self.log.record(job, Outcome::Recorded);
            }
            self.log.advance(&self.store);
        }
        while !self.log.is_given(u64::MAX) {
            sleep(Duration::from_millis(5));
            self.log.advance(&self.store);
        }
        cpu_time().saturating_sub(before)
    }
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
