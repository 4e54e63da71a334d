//! Quiet, rates, pauses and `busy=`, on a clock of the tests' own.

use super::{Admission, Job, Limits, Queue, RuleId, job};
use crate::config::rule::Options;
use crate::config::when::{Busy, Rate};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
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
        Rc::get_mut(&mut job.spec).unwrap().options = self.options.clone();
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
    let rest = crate::job::split::split(&mut job, 1, 0).unwrap();
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
        let mut bench = Bench::with_limits(options, Limits { pending: 2, running: 1 });
        bench.push("/a");
        bench.push("/b");
        assert_eq!(bench.push("/c"), Admission::Dropped);
        assert_eq!(bench.push("/a"), Admission::Merged { into: 1 });
        bench.pass(ms(100));
        assert_eq!(bench.started()[0].merged, merged);
    }
}

/// One event after another: how long after the one before, and of which path.
fn events() -> impl Strategy<Value = Vec<(u64, u8)>> {
    prop::collection::vec((prop_oneof![3 => 0..20u64, 1 => 0..200u64], 0..3u8), 1..100)
}

/// What ran: when, which paths, for how many events.
type Run = (u64, Vec<String>, u64);

/// The same a millisecond at a time. Each group is its paths, first and last event and count.
fn expected(events: &[(u64, u8)], quiet: u64, at_most: u64, per_rule: bool) -> Vec<Run> {
    let mut times = Vec::new();
    let mut at = 0;
    for (after, path) in events {
        at += after;
        times.push((at, format!("/{path}")));
    }
    let mut groups: Vec<(Vec<String>, u64, u64, u64)> = Vec::new();
    let mut runs = Vec::new();
    for now in 0..=at + at_most {
        let due = |group: &mut (_, u64, u64, _)| now >= (group.2 + quiet).min(group.1 + at_most);
        runs.extend(groups.extract_if(.., due).map(|(paths, _, _, count)| (now, paths, count)));
        for (_, path) in times.iter().filter(|(time, _)| *time == now) {
            match groups.iter_mut().find(|group| per_rule || group.0.contains(path)) {
                Some((paths, _, last, count)) => {
                    if !paths.contains(path) {
                        paths.push(path.clone());
                    }
                    (*last, *count) = (now, *count + 1);
                }
                None => groups.push((vec![path.clone()], now, now, 1)),
            }
        }
    }
    runs
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Push(u8),
    Finish(usize),
    Retry(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..60u64).prop_map(Step::Pass),
        5 => (0..3u8).prop_map(Step::Push),
        3 => any::<usize>().prop_map(Step::Finish),
        1 => (any::<usize>(), 0..100u64).prop_map(|(which, pause)| Step::Retry(which, pause)),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let busy = prop_oneof![Just(Busy::Queue), Just(Busy::Skip), Just(Busy::Restart), Just(Busy::Rerun)];
    let quiet = || prop::option::of((1..50u64).prop_map(ms));
    let rate = prop::option::of((1..4u32, 1..100u64).prop_map(|(runs, per)| Rate { runs, per: ms(per) }));
    (quiet(), quiet(), rate, busy).prop_map(|(settle, batch, rate, busy)| Options {
        settle,
        batch,
        rate,
        busy,
        ..Options::default()
    })
}

/// Starts what may start and holds it against what must always be so.
fn check_starts(bench: &mut Bench, running: &mut Vec<Job>, starts: &mut Vec<Instant>) {
    for mut job in bench.started() {
        for path in paths(&job) {
            assert!(!running.iter().any(|other| paths(other).contains(&path)), "{path} runs twice at a time");
        }
        starts.push(bench.now);
        if let Some(Rate { runs, per }) = bench.options.rate
            && let Some(before) = starts.len().checked_sub(runs as usize + 1)
        {
            assert!(bench.now - starts[before] >= per, "more starts than the rate allows");
        }
        job.tries += 1;
        running.push(job);
    }
}

proptest! {
    #[test]
    fn waits_for_quiet_as_the_model_does(
        events in events(), quiet in 1..100u64, patience in 1..5u64, per_rule: bool
    ) {
        let at_most = quiet * patience;
        let options = if per_rule { batch(quiet) } else { settle(quiet) };
        let mut bench = Bench::new(Options { max_wait: Some(ms(at_most)), ..options });
        let mut runs: Vec<Run> = Vec::new();
        let mut run = |bench: &mut Bench| {
            for job in bench.started() {
                runs.push((bench.elapsed(), paths(&job).into_iter().map(String::from).collect(), 1 + job.merged));
                bench.queue.finished(&job);
            }
        };
        for (after, path) in &events {
            bench.pass_with(ms(*after), &mut run);
            bench.push(&format!("/{path}"));
        }
        bench.pass_with(ms(at_most), &mut run);
        let mut expected = expected(&events, quiet, at_most, per_rule);
        // Of those that are due at the same time, any may be first.
        expected.sort();
        runs.sort();
        prop_assert_eq!(runs, expected);
        prop_assert_eq!((bench.queue.pending(), bench.queue.next_deadline()), (0, None));
    }

    #[test]
    fn nothing_is_lost_whatever_happens(
        options in options(), steps in prop::collection::vec(step(), 0..200), pending in 1..10usize
    ) {
        let mut bench = Bench::with_limits(options, Limits { pending, running: 4 });
        let (mut pushed, mut ended) = (0, 0);
        let mut running: Vec<Job> = Vec::new();
        let mut starts = Vec::new();
        let mut last_of_path = BTreeMap::new();
        for step in steps {
            match step {
                Step::Pass(time) => bench.pass(ms(time)),
                Step::Push(path) => {
                    pushed += 1;
                    let admission = bench.push(&format!("/{path}"));
                    ended += u64::from(matches!(admission, Admission::Skipped | Admission::Dropped));
                }
                Step::Finish(which) if !running.is_empty() => {
                    let mut job = running.swap_remove(which % running.len());
                    ended += 1 + job.merged;
                    if job.batch.is_none() {
                        let last = last_of_path.insert(job.event.path.clone(), job.seq);
                        prop_assert!(last < Some(job.seq), "events of a path in order");
                    }
                    if job.spec.options.busy == Busy::Restart {
                        bench.queue.stopped(&mut job);
                    } else {
                        bench.queue.finished(&job);
                    }
                }
                Step::Retry(which, pause) if !running.is_empty() => {
                    let job = running.swap_remove(which % running.len());
                    bench.queue.retry(job, bench.now + ms(pause));
                }
                Step::Finish(_) | Step::Retry(..) => {}
            }
            check_starts(&mut bench, &mut running, &mut starts);
            let deadline = bench.queue.next_deadline();
            prop_assert!(deadline.is_none_or(|deadline| deadline > bench.now || running.len() == 4));
            prop_assert!(bench.queue.pending() > 0 || deadline.is_none(), "no wake-up for nothing");
        }
        let waiting = bench.queue.drain();
        let left = waiting.iter().chain(&running).map(|job| 1 + job.merged).sum::<u64>();
        prop_assert_eq!(ended + left, pushed);
        prop_assert_eq!((bench.queue.pending(), bench.queue.next_deadline()), (0, None));
    }
}
