//! The parts of the daemon that benchmarks drive, of which nobody else has to know.

use crate::config::{Words, parse_words};
use crate::event::Event;
use crate::events::Events;
use crate::job::Job;
use crate::job::queue::{Limits, Queue};
pub use crate::watch::simulated::Tree;
use facron_proto::RuleId;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

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
