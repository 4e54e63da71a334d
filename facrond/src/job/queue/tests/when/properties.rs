//! The same against a simple model, and what must hold whatever happens.

use super::{Bench, Job, batch, ms, paths, settle};
use crate::config::rule::Options;
use crate::config::when::{Busy, Rate};
use crate::job::queue::{Admission, Limits};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Instant;

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
            prop_assert!(deadline.is_none_or(|deadline| deadline > bench.now), "no wake-up again and again");
            prop_assert!(bench.queue.pending() > 0 || deadline.is_none(), "no wake-up for nothing");
        }
        let waiting = bench.queue.drain();
        let left = waiting.iter().chain(&running).map(|job| 1 + job.merged).sum::<u64>();
        prop_assert_eq!(ended + left, pushed);
        prop_assert_eq!((bench.queue.pending(), bench.queue.next_deadline()), (0, None));
    }
}
