//! Quiet, rates, pauses and `busy=`, on a clock of the tests' own.

mod properties;

use super::{Admission, Job, Limits, Queue, RuleId, job};
use crate::config::rule::Options;
use crate::config::when::{Busy, Rate};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A queue, and the time.
struct Bench {
    queue: Queue,
    options: Options,
    start: Instant,
    now: Instant,
    seq: u64,
}

impl Bench {
    fn new(options: Options) -> Self {
        Self::with_limits(options, Limits { pending: 10_000, running: 100 })
    }

    fn with_limits(options: Options, limits: Limits) -> Self {
        let now = Instant::now();
        Self { queue: Queue::new(limits), options, start: now, now, seq: 0 }
    }

    fn push(&mut self, path: &str) -> Admission {
        self.seq += 1;
        let mut job = job(self.seq, 1, path);
        Rc::get_mut(&mut job.spec).unwrap().options = self.options.clone().into();
        self.queue.push(job, self.now)
    }

    fn started(&mut self) -> Vec<Job> {
        std::iter::from_fn(|| self.queue.start_next(self.now)).collect()
    }

    /// The numbers of the jobs that start now.
    fn numbers(&mut self) -> Vec<u64> {
        self.started().iter().map(|job| job.seq).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn elapsed(&self) -> u64 {
        u64::try_from((self.now - self.start).as_millis()).unwrap()
    }

    /// Lets time pass as the engine does, from deadline to deadline.
    fn pass_with(&mut self, time: Duration, mut at_deadline: impl FnMut(&mut Self)) {
        let end = self.now + time;
        while let Some(deadline) = self.queue.next_deadline().filter(|deadline| *deadline <= end) {
            assert!(deadline > self.now, "a deadline that has passed must have been served");
            self.now = deadline;
            at_deadline(self);
        }
        self.now = end;
    }
}

fn paths(job: &Job) -> Vec<&str> {
    job.events().iter().map(|event| str::from_utf8(&event.path).unwrap()).collect()
}

fn settle(quiet: u64) -> Options {
    Options { settle: Some(ms(quiet)), ..Options::default() }
}

fn batch(quiet: u64) -> Options {
    Options { batch: Some(ms(quiet)), ..Options::default() }
}

#[test]
fn a_path_runs_once_when_it_has_settled() {
    let mut bench = Bench::new(settle(300));
    for n in 0..10 {
        let expected = if n == 0 { Admission::Queued } else { Admission::Merged { into: 1 } };
        assert_eq!(bench.push("/a"), expected);
        bench.pass(ms(100));
    }
    assert_eq!(bench.numbers(), [0; 0]);
    assert_eq!(bench.queue.next_deadline(), Some(bench.start + ms(1200)));
    bench.pass(ms(200));
    let jobs = bench.started();
    assert_eq!((jobs.len(), jobs[0].seq, jobs[0].merged), (1, 1, 9));
    assert_eq!(bench.queue.next_deadline(), None);
}

#[test]
fn nothing_waits_for_quiet_for_ever() {
    let options = Options { max_wait: Some(ms(2000)), ..settle(300) };
    for (options, at_most) in [(options, 2000), (settle(300), 3000)] {
        let mut bench = Bench::new(options);
        let mut runs = Vec::new();
        for _ in 0..1000 {
            bench.push("/a");
            bench.pass_with(ms(10), |bench| {
                for job in bench.started() {
                    runs.push(bench.elapsed());
                    bench.queue.finished(&job);
                }
            });
        }
        let expected: Vec<_> = (1..=10_000 / at_most).map(|n| n * at_most).collect();
        assert_eq!(runs, expected);
    }
}

#[test]
fn a_batch_has_each_path_once_in_the_order_of_their_first_events() {
    let mut bench = Bench::new(batch(500));
    for path in ["/b", "/a", "/b", "/c", "/a"] {
        bench.push(path);
        bench.pass(ms(400));
    }
    assert_eq!((bench.numbers(), bench.queue.pending()), (vec![], 3));
    bench.pass(ms(100));
    let jobs = bench.started();
    assert_eq!((jobs.len(), jobs[0].merged, bench.queue.pending()), (1, 4, 0));
    assert_eq!(paths(&jobs[0]), ["/b", "/a", "/c"]);
    assert_eq!(&*jobs[0].event.path, b"/a", "the last event");
}

#[test]
fn with_settle_and_batch_the_longer_one_counts() {
    for (settle, batch) in [(100, 500), (500, 100)] {
        let options = Options { settle: Some(ms(settle)), batch: Some(ms(batch)), ..Options::default() };
        let mut bench = Bench::new(options);
        bench.push("/a");
        bench.push("/b");
        bench.pass(ms(499));
        assert_eq!(bench.numbers(), [0; 0]);
        bench.pass(ms(1));
        assert_eq!(paths(&bench.started()[0]), ["/a", "/b"]);
    }
}

#[test]
fn a_batch_grows_on_while_another_runs() {
    let mut bench = Bench::new(batch(100));
    bench.push("/a");
    bench.pass(ms(100));
    let first = bench.started().pop().unwrap();
    bench.push("/a");
    bench.pass(ms(100));
    assert_eq!((bench.numbers(), bench.queue.next_deadline()), (vec![], None));
    bench.push("/b");
    bench.pass(ms(50));
    bench.queue.finished(&first);
    assert_eq!(bench.numbers(), [0; 0], "it has not been quiet");
    bench.pass(ms(50));
    assert_eq!(paths(&bench.started()[0]), ["/a", "/b"]);
}

#[test]
fn the_rest_of_a_batch_is_next() {
    let mut bench = Bench::new(batch(100));
    bench.push("/a");
    bench.push("/b");
    bench.pass(ms(100));
    let mut job = bench.started().pop().unwrap();
    let rest = crate::job::split::split(&mut job, 1, 0, usize::MAX).unwrap();
    bench.push("/c");
    bench.queue.put_back(Job { seq: 9, ..rest });
    assert_eq!((bench.numbers(), bench.queue.pending()), (vec![], 2));
    bench.pass(ms(100));
    bench.queue.finished(&job);
    let rest = bench.started().pop().unwrap();
    assert_eq!((rest.seq, paths(&rest)), (9, vec!["/b"]));
    bench.queue.finished(&rest);
    assert_eq!(paths(&bench.started()[0]), ["/c"]);
}

#[test]
fn what_is_a_batch_already_waits_for_its_turn_only() {
    let mut bench = Bench::new(batch(100));
    bench.push("/a");
    bench.push("/b");
    bench.pass(ms(100));
    let job = bench.started().pop().unwrap();
    bench.queue.finished(&job);
    assert_eq!(bench.queue.push(job.clone(), bench.now), Admission::Queued);
    assert_eq!(bench.queue.pending(), 2);
    assert_eq!(bench.started(), [job]);
}

#[test]
fn a_rate_lets_the_first_through_and_the_rest_wait() {
    let rate = Some(Rate { runs: 2, per: ms(1000) });
    let mut bench = Bench::new(Options { rate, ..Options::default() });
    for path in ["/a", "/b", "/c", "/d", "/e"] {
        bench.push(path);
    }
    assert_eq!(bench.numbers(), [1, 2]);
    bench.pass(ms(999));
    assert_eq!(bench.numbers(), [0; 0]);
    assert_eq!(bench.queue.next_deadline(), Some(bench.start + ms(1000)));
    bench.pass(ms(1));
    assert_eq!(bench.numbers(), [3, 4]);
    bench.pass(ms(5000));
    assert_eq!(bench.numbers(), [5]);
    assert_eq!(bench.queue.next_deadline(), None);
}

/// Ten events while a command runs, and then how the queue goes on: runs and merged events.
fn busy(busy: Busy) -> (Vec<(u64, u64)>, u64) {
    let mut bench = Bench::new(Options { busy, ..Options::default() });
    bench.push("/a");
    let mut running: VecDeque<Job> = bench.started().into();
    let admissions: Vec<_> = (0..9).map(|_| bench.push("/a")).collect();
    let skipped = admissions.iter().filter(|admission| **admission == Admission::Skipped).count();
    let mut runs = Vec::new();
    while let Some(mut job) = running.pop_front() {
        runs.push((job.seq, job.merged));
        match bench.queue.take_stops().as_slice() {
            [] => bench.queue.finished(&job),
            [seq] => {
                assert_eq!(*seq, job.seq);
                bench.queue.stopped(&mut job);
            }
            stops => panic!("{stops:?}"),
        }
        running.extend(bench.started());
    }
    (runs, skipped as u64)
}

#[test]
fn while_a_command_runs() {
    assert_eq!(busy(Busy::Queue), ((1..=10).map(|seq| (seq, 0)).collect(), 0));
    assert_eq!(busy(Busy::Skip), (vec![(1, 0)], 9));
    assert_eq!(busy(Busy::Rerun), (vec![(1, 0), (2, 8)], 0));
    assert_eq!(busy(Busy::Restart), (vec![(1, 0), (2, 8)], 0));
}

#[test]
fn a_stopped_batch_hands_its_paths_on() {
    let mut bench = Bench::new(Options { busy: Busy::Restart, ..batch(100) });
    bench.push("/a");
    bench.push("/b");
    bench.pass(ms(100));
    let mut first = bench.started().pop().unwrap();
    bench.push("/c");
    bench.push("/a");
    assert_eq!(bench.queue.take_stops(), [0; 0], "not before it is due");
    bench.pass(ms(100));
    assert_eq!(bench.numbers(), [0; 0]);
    assert_eq!(bench.queue.take_stops(), [1]);
    assert_eq!(bench.queue.next_deadline(), None);
    bench.queue.stopped(&mut first);
    let second = bench.started().pop().unwrap();
    assert_eq!((second.seq, paths(&second)), (3, vec!["/a", "/b", "/c"]));
    assert_eq!(&*second.event.path, b"/a", "the last event");
}

#[test]
fn what_is_tried_again_keeps_its_place_and_holds_up_nobody_else() {
    let mut bench = Bench::new(Options { jobs: 1.try_into().ok(), ..Options::default() });
    bench.push("/a");
    let first = bench.started().pop().unwrap();
    bench.push("/a");
    bench.push("/b");
    bench.queue.retry(first, bench.now + ms(1000));
    assert_eq!((bench.queue.pending(), bench.queue.running()), (3, 0));
    let other = bench.started().pop().unwrap();
    assert_eq!(other.seq, 3);
    bench.pass(ms(1000));
    assert_eq!(bench.numbers(), [0; 0], "one at a time");
    bench.queue.finished(&other);
    let first = bench.started().pop().unwrap();
    assert_eq!(first.seq, 1);
    bench.queue.finished(&first);
    assert_eq!(bench.numbers(), [2]);
}

#[test]
fn a_new_event_ends_the_pause_of_a_rule_that_starts_anew() {
    let mut bench = Bench::new(Options { busy: Busy::Restart, ..Options::default() });
    bench.push("/a");
    let mut first = bench.started().pop().unwrap();
    first.tries = 3;
    bench.queue.retry(first, bench.now + ms(60_000));
    assert_eq!(bench.numbers(), [0; 0]);
    assert_eq!(bench.push("/a"), Admission::Merged { into: 1 });
    let again = bench.started().pop().unwrap();
    assert_eq!((again.seq, again.merged, again.tries), (1, 1, 0));
    assert_eq!(bench.queue.next_deadline(), None);
}

#[test]
fn what_waits_for_its_turn_settles_again_with_its_path() {
    let mut bench = Bench::new(Options { busy: Busy::Rerun, ..settle(100) });
    bench.push("/a");
    bench.pass(ms(100));
    let first = bench.started().pop().unwrap();
    bench.push("/a");
    bench.pass(ms(100));
    assert_eq!(bench.numbers(), [0; 0]);
    assert_eq!(bench.push("/a"), Admission::Merged { into: 2 });
    bench.queue.finished(&first);
    assert_eq!(bench.numbers(), [0; 0]);
    bench.pass(ms(100));
    assert_eq!(bench.numbers(), [2]);
    assert_eq!((bench.queue.pending(), bench.queue.next_deadline()), (0, None));
}

#[test]
fn a_changed_or_removed_rule_waits_no_longer() {
    for options in [settle(100), batch(100)] {
        let mut bench = Bench::new(options);
        bench.push("/a");
        bench.push("/a");
        bench.queue.flush(RuleId(1));
        assert_eq!(bench.numbers(), [1]);
        bench.push("/b");
        assert_eq!(bench.queue.remove_rule(RuleId(1)).len(), 1);
        assert_eq!((bench.queue.pending(), bench.queue.next_deadline()), (0, None));
    }
}

#[test]
fn at_the_limit_known_paths_go_on_to_merge() {
    for (options, merged) in [(settle(100), 1), (batch(100), 2)] {
        let mut bench = Bench::with_limits(options, Limits { pending: 4, running: 1 });
        bench.push("/a");
        bench.push("/b");
        assert_eq!(bench.push("/c"), Admission::Dropped);
        assert_eq!(bench.push("/a"), Admission::Merged { into: 1 });
        bench.pass(ms(100));
        assert_eq!(bench.started()[0].merged, merged);
    }
}
