//! Power failures: the writes to the state directory are recorded, and the machine fails after any of
//! them. Then nothing is lost that somebody was promised, and every file at rest has a run.

mod disk;
mod story;
mod trace;

use crate::harness::{Place, report, wait_until};
use disk::Kept;
use facron_tests::{Random, number_from};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use story::Story;
use trace::{Call, Op};

/// The file in the daemon's working directory that commands add a line to: name and `seq`.
const RUNS: &str = "runs";

/// What has run, as these lines say.
fn runs<'l>(lines: impl IntoIterator<Item = &'l str>) -> Vec<(&'l str, u64)> {
    let run = |line: &'l str| line.trim().split_once(' ').map(|(name, seq)| (name, seq.parse().unwrap()));
    lines.into_iter().filter_map(run).collect()
}

/// What has run before a point.
fn runs_before(ops: &[Op], point: usize) -> Vec<(&str, u64)> {
    let lines = ops.iter().filter(|op| op.ended <= point);
    runs(lines.filter_map(|op| if let Call::Append { line } = &op.call { Some(&**line) } else { None }))
}

/// A place for a daemon, with what a power failure has left.
fn place_after(story: &Story, left: BTreeMap<&str, Vec<u8>>) -> Place {
    let place = Place::new();
    place.conf(&story.conf);
    fs::create_dir(place.path("state")).unwrap();
    for (name, content) in left {
        fs::write(place.path(&format!("state/{name}")), content).unwrap();
    }
    place
}

/// Lets the power fail, starts a daemon, and looks what that makes of it.
fn fail(story: &Story, ops: &[Op], point: usize, kept: Kept, random: &mut Random) {
    let what = format!("power failure at {point} of the trace, kept: {kept:?}");
    let place = place_after(story, disk::after(ops, point, kept, random));
    let mut facrond = place.facrond();
    facrond.current_dir(place.path(""));
    let daemon = place.start_as(facrond);
    let catching_up = || place.status()["catch_up"]["rules"].as_u64().unwrap_or_default();
    wait_until("all rules to catch up", || catching_up() == 0);
    place.settle();
    // Before that, the database may have been empty, which the health tells.
    assert!(point < story.ready || place.status()["health"] == "ok", "{what}: {}", place.status());
    assert!(!daemon.log().contains("damaged"), "{what}");
    let lines = fs::read_to_string(place.path(RUNS)).unwrap_or_default();
    check_runs(story, point, &what, &[runs_before(ops, point), runs(lines.lines())].concat());
    for (rule, states) in story.promised_rules(point) {
        let state = place.state_of(rule);
        assert!(states.contains(&&*state), "{what}: {rule} is {state}, and not {states:?}");
    }
    let id = place.add(&["-o", "name=next", &place.play(""), "CREATE", "-"]);
    assert!(id > story.last_id(point), "{what}: rule {id} came back");
    daemon.kill();
}

fn check_runs(story: &Story, point: usize, what: &str, runs: &[(&str, u64)]) {
    let have_run: BTreeSet<_> = runs.iter().map(|(name, _)| *name).collect();
    let missing: Vec<_> = story.promised_runs(point).filter(|name| !have_run.contains(name)).collect();
    assert!(missing.is_empty(), "{what}: no run of {missing:?}");
    let mut names: HashMap<u64, &str> = HashMap::new();
    for (name, seq) in runs {
        assert_eq!(names.insert(*seq, name).unwrap_or(name), *name, "{what}: number {seq} came back");
    }
}

#[test]
fn a_power_failure_loses_nothing_that_was_promised() {
    let (points, seed) = (number_from("FACRON_POWER_FAILURES", 200), Random::seed());
    let place = Place::new();
    let story = Story::record(&place);
    let recorded = fs::read_to_string(&story.trace).unwrap();
    let ops = trace::read(&recorded);
    report(&format!("seed {seed}: {} calls, {} bytes of trace", ops.len(), recorded.len()));
    let next = AtomicU64::new(0);
    let fail_often = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= points {
                return;
            }
            let mut random = Random::of(seed + number);
            let op = &ops[random.index(ops.len())];
            let point = if random.below(2) == 0 { op.begun } else { op.ended };
            fail(&story, &ops, point, Kept::any(&mut random), &mut random);
        }
    };
    thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(fail_often))));
}
