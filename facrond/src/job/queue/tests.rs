mod when;

use super::*;
use crate::config::rule::RuleSpec;
use crate::events::Events;
use crate::job::testing::job;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

fn queue(pending: usize, running: usize) -> Queue {
    Queue::new(Limits { pending, running })
}

fn limited(seq: u64, rule: u64, path: &str, jobs: u32) -> Job {
    let mut job = job(seq, rule, path);
    let spec: &mut RuleSpec = Rc::get_mut(&mut job.spec).unwrap();
    Rc::make_mut(&mut spec.options).jobs = NonZeroU32::new(jobs);
    job
}

fn started(queue: &mut Queue) -> Vec<u64> {
    std::iter::from_fn(|| queue.start_next(Instant::now())).map(|job| job.seq).collect()
}

#[test]
fn one_path_is_one_at_a_time_and_in_order() {
    let mut queue = queue(10, 10);
    for (seq, path) in [(1, "/a"), (2, "/a"), (3, "/b"), (4, "/a")] {
        assert_eq!(queue.push(job(seq, 1, path), Instant::now()), Admission::Queued);
    }
    assert_eq!(started(&mut queue), [1, 3]);
    queue.finished(&job(0, 1, "/a"));
    assert_eq!(started(&mut queue), [2]);
    queue.finished(&job(0, 1, "/b"));
    assert_eq!(started(&mut queue), [0; 0]);
    queue.finished(&job(0, 1, "/a"));
    assert_eq!(started(&mut queue), [4]);
    assert_eq!((queue.pending(), queue.running()), (0, 1));
}

#[test]
fn two_rules_may_run_for_one_path() {
    let mut queue = queue(10, 10);
    queue.push(job(1, 1, "/a"), Instant::now());
    queue.push(job(2, 2, "/a"), Instant::now());
    assert_eq!(started(&mut queue), [1, 2]);
}

#[test]
fn with_jobs_1_a_rule_runs_in_the_order_of_its_events() {
    let mut queue = queue(10, 10);
    for (seq, path) in [(1, "/a"), (2, "/b"), (3, "/a"), (4, "/b"), (5, "/c")] {
        queue.push(limited(seq, 1, path, 1), Instant::now());
    }
    for (seq, path) in [(1, "/a"), (2, "/b"), (3, "/a"), (4, "/b"), (5, "/c")] {
        assert_eq!(started(&mut queue), [seq]);
        queue.finished(&job(0, 1, path));
    }
}

#[test]
fn many_of_one_rule_do_not_hold_up_another() {
    let mut queue = queue(200_000, 1);
    for seq in 0..100_000 {
        queue.push(job(seq, 1, &format!("/{seq}")), Instant::now());
    }
    queue.push(job(100_000, 2, "/x"), Instant::now());
    let mut first = Vec::new();
    for _ in 0..3 {
        let job = queue.start_next(Instant::now()).unwrap();
        queue.finished(&job);
        first.push(job.rule.0);
    }
    assert_eq!(first, [1, 2, 1]);
}

#[test]
fn at_the_limit_equal_jobs_merge_and_others_are_dropped() {
    let mut queue = queue(4, 1);
    queue.push(job(1, 1, "/running"), Instant::now());
    assert_eq!(started(&mut queue), [1]);
    queue.push(job(2, 1, "/a"), Instant::now());
    queue.push(job(3, 1, "/a"), Instant::now());
    let mut modified = job(4, 1, "/a");
    modified.event.events = Events::MODIFY;
    modified.event.mask = Events::MODIFY.mask();
    assert_eq!(queue.push(modified, Instant::now()), Admission::Merged { into: 3 });
    assert_eq!(queue.push(job(5, 2, "/a"), Instant::now()), Admission::Queued, "another rule");
    assert_eq!(
        queue.push(job(6, 1, "/running"), Instant::now()),
        Admission::Dropped,
        "its job has started already"
    );
    let merged = queue.remove_rule(RuleId(1)).pop().unwrap();
    assert_eq!((merged.seq, merged.merged), (3, 1));
    assert_eq!(merged.event.events, Events::MODIFY.with(Events::CLOSE_WRITE));
    assert_eq!(merged.event.mask, 0xa);
}

/// How many of 40 events of a rule, one a path, are queued.
fn queued(queue: &mut Queue, rule: u64) -> usize {
    let jobs = (0..40).map(|number| job(number, rule, &format!("/{number}")));
    jobs.filter(|job| queue.push(job.clone(), Instant::now()) == Admission::Queued).count()
}

#[test]
fn no_rule_takes_more_than_half_of_what_the_others_leave() {
    let mut queue = queue(32, 16);
    assert_eq!([1, 2, 3].map(|rule| queued(&mut queue, rule)), [16, 8, 4]);
    let shares = [started(&mut queue).len(), queue.pending_of(RuleId(1)), queue.running()];
    assert_eq!(shares, [12, 12, 12], "three rules at a time: a quarter of 16 each");
    let mut alone = self::queue(100, 16);
    assert_eq!((queued(&mut alone, 1), started(&mut alone).len()), (40, 8));
    assert_eq!((queued(&mut alone, 2), started(&mut alone).len()), (34, 4));
    let long_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    assert_eq!((alone.stuck_since(long_ago).next(), alone.next_deadline()), (None, None));
    let stuck: Vec<_> = alone.stuck_since(Instant::now()).collect();
    assert_eq!(stuck, [(RuleId(1), 8), (RuleId(2), 4)]);
    alone.finished(&job(1, 2, "/0"));
    assert_eq!(started(&mut alone).len(), 1);
}

#[test]
fn with_one_place_each_rule_has_its_turn() {
    let mut queue = queue(1, 1);
    for rule in [1, 2] {
        assert_eq!((queued(&mut queue, rule), started(&mut queue).len()), (1, 1));
        queue.finished(&job(1, rule, "/0"));
    }
}

#[test]
fn long_paths_take_more_room() {
    let mut queue = queue(100, 1);
    let mut long = job(1, 1, &"/long".repeat(800));
    assert_eq!(queue.push(long.clone(), Instant::now()), Admission::Queued);
    assert_eq!(queue.pending(), 16);
    long.event.old_path = Some(long.event.path.clone());
    assert_eq!(queue.push(long.clone(), Instant::now()), Admission::Queued);
    assert_eq!(queue.pending(), 48);
    assert_eq!(queue.push(job(3, 1, "/short"), Instant::now()), Admission::Queued);
    assert_eq!(queue.push(long.clone(), Instant::now()), Admission::Queued);
    assert_eq!(queue.pending(), 81);
    long.event.old_path = None;
    assert_eq!(queue.push(long, Instant::now()), Admission::Merged { into: 1 });
    assert_eq!((queue.pending(), queue.drain().len(), queue.pending()), (65, 4, 0));
}

#[test]
fn a_removed_rule_counts_until_it_has_finished() {
    let mut queue = queue(10, 1);
    queue.push(job(1, 1, "/a"), Instant::now());
    queue.push(job(2, 1, "/a"), Instant::now());
    queue.push(job(3, 2, "/b"), Instant::now());
    assert_eq!(started(&mut queue), [1]);
    assert_eq!(queue.remove_rule(RuleId(1)).len(), 1);
    assert_eq!((queue.pending(), queue.running()), (1, 1));
    assert_eq!(started(&mut queue), [0; 0]);
    queue.finished(&job(0, 1, "/a"));
    assert_eq!(started(&mut queue), [3]);
    assert!(queue.drain().is_empty());
}

#[test]
fn a_pending_job_is_small() {
    assert!(size_of::<Job>() <= 168, "{}", size_of::<Job>());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push { rule: u64, path: u8 },
    Start,
    Finish { which: usize },
    Remove { rule: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u64, 0..4u8).prop_map(|(rule, path)| Step::Push { rule, path }),
        5 => Just(Step::Start),
        4 => any::<usize>().prop_map(|which| Step::Finish { which }),
        1 => (0..4u64).prop_map(|rule| Step::Remove { rule }),
    ]
}

/// The same by looking at everything each time.
#[derive(Default)]
struct Model {
    pending: Vec<Job>,
    running: Vec<Job>,
    /// Starts of other rules since a rule could have started something.
    passed_over: BTreeMap<RuleId, BTreeMap<RuleId, u32>>,
}

const PENDING: usize = 12;
const RUNNING: usize = 5;

impl Model {
    /// The oldest job of each rule that may start, by rule.
    fn startable(&self) -> BTreeMap<RuleId, u64> {
        let mut oldest = BTreeMap::new();
        let left = RUNNING - self.running.len();
        for job in &self.pending {
            let running = self.running.iter().filter(|running| running.rule == job.rule);
            let count = running.clone().count();
            let is_below_limit = count < limit_of(job.rule.0) as usize && count < left;
            let is_free = !running.clone().any(|running| running.event.path == job.event.path);
            if is_below_limit && is_free {
                oldest.entry(job.rule).or_insert(job.seq);
            }
        }
        oldest
    }

    fn check_start(&mut self, job: Option<Job>) {
        let startable = self.startable();
        let Some(job) = job else {
            assert!(startable.is_empty());
            return;
        };
        assert!(self.running.len() < RUNNING);
        assert_eq!(startable.get(&job.rule), Some(&job.seq), "the rule's oldest that may start");
        self.passed_over.remove(&job.rule);
        self.passed_over.retain(|rule, _| startable.contains_key(rule));
        for rule in startable.into_keys().filter(|rule| *rule != job.rule) {
            let count = self.passed_over.entry(rule).or_default().entry(job.rule).or_default();
            *count += 1;
            assert!(*count <= 1, "rule {} went twice while rule {rule} waited", job.rule);
        }
        self.pending.retain(|pending| pending.seq != job.seq);
        self.running.push(job);
    }

    fn check_push(&mut self, job: Job, admission: Admission) {
        let is_equal = |pending: &&mut Job| pending.rule == job.rule && pending.event.path == job.event.path;
        let waiting = self.pending.iter().filter(|pending| pending.rule == job.rule).count();
        if waiting < PENDING - self.pending.len() {
            assert_eq!(admission, Admission::Queued);
            self.pending.push(job);
        } else if let Some(last) = self.pending.iter_mut().rfind(is_equal) {
            assert_eq!(admission, Admission::Merged { into: last.seq });
            last.absorb(job);
        } else {
            assert_eq!(admission, Admission::Dropped);
        }
    }
}

fn limit_of(rule: u64) -> u32 {
    [1, 2, 3, 100][usize::try_from(rule).unwrap()]
}

proptest! {
    #[test]
    fn does_what_the_model_does(steps in prop::collection::vec(step(), 0..200)) {
        let mut queue = queue(PENDING, RUNNING);
        let mut model = Model::default();
        for (seq, step) in (1..).zip(steps) {
            match step {
                Step::Push { rule, path } => {
                    let job = limited(seq, rule, &format!("/{path}"), limit_of(rule));
                    model.check_push(job.clone(), queue.push(job, Instant::now()));
                }
                Step::Start => model.check_start(queue.start_next(Instant::now())),
                Step::Finish { which } if !model.running.is_empty() => {
                    let job = model.running.swap_remove(which % model.running.len());
                    queue.finished(&job);
                }
                Step::Finish { .. } => {}
                Step::Remove { rule } => {
                    model.passed_over.remove(&RuleId(rule));
                    let expected = model.pending.extract_if(.., |job| job.rule.0 == rule);
                    prop_assert_eq!(queue.remove_rule(RuleId(rule)), expected.collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(queue.pending(), model.pending.len());
            prop_assert_eq!(queue.running(), model.running.len());
        }
        prop_assert_eq!(queue.drain(), model.pending);
    }
}
