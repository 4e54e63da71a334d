//! What happened while no daemon ran.

use crate::harness::{Place, cpu_time, report, wait_until};
use facron_tests::number_from;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Waits until all rules have caught up.
fn catch_up(place: &Place) {
    wait_until("all rules to catch up", || {
        place.status()["catch_up"]["rules"].as_u64().is_none_or(|rules| rules == 0)
    });
    place.settle();
}

/// The number of the last record.
fn last_seq(place: &Place) -> u64 {
    place.call("tail", &json!({ "limit": 1 }))["records"][0]["seq"].as_u64().unwrap_or_default()
}

/// The records of a rule after that one.
fn records(place: &Place, rule: &str, after: u64) -> Vec<Value> {
    let mut records = place.tail_of(rule);
    records.retain(|record| record["seq"].as_u64().unwrap() > after);
    records
}

/// How often each path was told to a rule, as these records say.
fn told(place: &Place, rule: &str, after: u64) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for record in records(place, rule, after) {
        *told.entry(record["path"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    told
}

/// Lets so much time pass that no file time is in doubt.
fn pass_time(place: &Place) {
    let start = SystemTime::now();
    let file = place.path("clock");
    wait_until("a file time that is later", || {
        fs::write(&file, "").unwrap();
        fs::metadata(&file).unwrap().modified().unwrap() > start + Duration::from_millis(30)
    });
}

#[test]
fn what_was_made_changed_replaced_or_moved_in_meanwhile_is_told_once() {
    let place = Place::new();
    let dir = place.mkdir("in");
    place.mkdir("in/a/b");
    place.mkdir("out");
    place.conf(&format!("{dir} ARRIVED [recursive name=in] true\n{dir}/one CLOSE_WRITE [name=one] -\n"));
    for name in ["in/same", "in/a/same", "in/a/changed", "in/a/b/replaced", "in/mode", "out/moved", "out/old"]
    {
        place.write(name);
    }
    let daemon = place.start();
    let live = place.write("in/live");
    place.settle();
    let before = 0;
    assert_eq!(
        told(&place, "in", before),
        [(live.clone(), 1)].into(),
        "a rule that is new is told nothing of before"
    );
    let before = last_seq(&place);
    assert!(daemon.stop().success());
    pass_time(&place);
    let mut expected = BTreeMap::new();
    let mut expect = |path: String| expected.insert(path, 1);
    for name in ["in/made", "in/a/changed", "in/one", "in/live"] {
        expect(place.write(name));
    }
    place.write("out/new");
    for (from, to) in [("out/new", "in/a/b/replaced"), ("out/moved", "in/a/moved")] {
        fs::rename(place.play(from), place.play(to)).unwrap();
        expect(place.play(to));
    }
    place.mkdir("in/new/deep");
    expect(place.write("in/new/deep/file"));
    fs::rename(place.play("out"), place.play("in/brought")).unwrap();
    expect(place.play("in/brought/old"));
    symlink("nowhere", place.play("in/link")).unwrap();
    fs::remove_file(place.play("in/mode")).unwrap();
    // As after a reboot.
    for entry in ["boot", "rules.json"] {
        let _ = fs::remove_file(place.path(&format!("run/{entry}")));
    }
    let daemon = place.start();
    catch_up(&place);
    assert_eq!(told(&place, "in", before), expected);
    assert_eq!(told(&place, "one", before), [(place.play("in/one"), 1)].into());
    let tail = records(&place, "in", before);
    assert!(tail.iter().all(|record| record["synthetic"] == true && record["repeated"] == false), "{tail:?}");
    pass_time(&place);
    let before = last_seq(&place);
    assert!(daemon.stop().success());
    let _daemon = place.start();
    catch_up(&place);
    assert_eq!(told(&place, "in", before), BTreeMap::new(), "nothing was changed meanwhile");
}

#[test]
fn what_is_there_at_first_is_told_to_who_wants_it_and_nothing_to_who_does_not() {
    let place = Place::new();
    let dir = place.mkdir("in");
    place.write("in/1");
    place.write("in/2");
    place.conf(&format!(
        "{dir} ARRIVED [name=all catch-up=all] -\n{dir} ARRIVED [name=no catch-up=no] -\n{dir} ARRIVED [name=missed] -\n"
    ));
    let daemon = place.start();
    catch_up(&place);
    let before = 0;
    let both: BTreeMap<_, _> = ["in/1", "in/2"].map(|name| (place.play(name), 1)).into();
    assert_eq!(told(&place, "all", before), both);
    place.ctl_ok(&["add", "-o", "name=later catch-up=all", &dir, "ARRIVED", "-"]);
    catch_up(&place);
    assert_eq!(told(&place, "later", before), both);
    place.ctl_ok(&["pause", "all"]);
    let third = place.write("in/3");
    place.ctl_ok(&["resume", "all"]);
    catch_up(&place);
    assert_eq!((told(&place, "all", before), told(&place, "missed", before)), (both, [(third, 1)].into()));
    pass_time(&place);
    let before = last_seq(&place);
    assert!(daemon.stop().success());
    pass_time(&place);
    let fourth: BTreeMap<_, _> = [(place.write("in/4"), 1)].into();
    let _daemon = place.start();
    catch_up(&place);
    for name in ["all", "missed", "later"] {
        assert_eq!(told(&place, name, before), fourth, "{name}");
    }
    assert_eq!(told(&place, "no", before), BTreeMap::new());
}

#[test]
fn a_rule_that_leaves_while_no_daemon_runs_is_a_new_one_when_it_comes_back() {
    let place = Place::new();
    let dir = place.mkdir("in");
    let rule = |name: &str| format!("{dir} ARRIVED [name={name}] -\n");
    let run_with = |rules: &str| {
        place.conf(rules);
        let daemon = place.start();
        catch_up(&place);
        let told = ["kept", "back"].map(|name| place.rpc().call("show", &json!({ "rule": name })));
        let fired = told.map(|rule| rule.map(|rule| rule["fired"].as_u64().unwrap()).ok());
        assert!(daemon.stop().success());
        pass_time(&place);
        place.write("in/file");
        fired
    };
    let both = rule("kept") + &rule("back");
    assert_eq!(run_with(&both), [Some(0), Some(0)]);
    assert_eq!(run_with(&(both.clone() + "a mistake\n")), [Some(1), Some(1)]);
    let mistake = rule("kept") + &rule("back").replace("ARRIVED", "ARIVED");
    assert_eq!(run_with(&mistake), [Some(1), None]);
    assert_eq!(run_with(&both), [Some(1), Some(1)], "a mistake does not make it a new one");
    assert_eq!(run_with(&rule("kept")), [Some(1), None]);
    assert_eq!(run_with(&both), [Some(1), Some(0)]);
}

#[test]
fn a_rule_catches_up_only_as_fast_as_its_commands_run() {
    let place = Place::new();
    let dir = place.mkdir("in");
    (0..200).for_each(|n| drop(place.write(&format!("in/{n}"))));
    place.conf(&format!("{dir} ARRIVED [name=in catch-up=all jobs=1] true\n"));
    let _daemon = place.start_with(&["--max-pending", "64"]);
    catch_up(&place);
    assert_eq!(told(&place, "in", 0).len(), 200);
    assert_eq!(place.status()["jobs"]["dropped"], 0);
}

#[test]
fn many_files_that_have_not_changed_are_passed_quickly() {
    let files: u32 = std::env::var("FACRON_FILES").map_or(100_000, |files| files.parse().unwrap());
    let place = Place::new();
    let dir = place.mkdir("in");
    for number in 0..files {
        if number < files.div_ceil(1000) {
            place.mkdir(&format!("in/{number}"));
        }
        File::create(format!("{dir}/{}/{number}", number / 1000)).unwrap();
    }
    place.conf(&format!("{dir} ARRIVED [recursive name=in] -\n"));
    assert!(place.start().stop().success());
    pass_time(&place);
    let changed = place.write("in/0/0");
    let started = Instant::now();
    let daemon = place.start();
    catch_up(&place);
    let (took, memory) = (started.elapsed(), daemon.peak_memory() >> 20);
    report(&format!(
        "{files} files: {took:.2?}, {memory} MB, {:.2?} of processor time",
        cpu_time(daemon.pid())
    ));
    assert_eq!(told(&place, "in", 0), [(changed, 1)].into());
    let status = &place.status()["catch_up"];
    assert!(status["compared"].as_u64().unwrap() >= u64::from(files), "{status}");
    assert!(took < Duration::from_secs(60) && memory < 64, "{took:?}, {memory} MB");
}

/// Makes files in three ways, so many as are wanted, and more when more are.
fn make_files(dir: &str, aside: &str, [count, wanted]: [&AtomicU64; 2], is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        if count.load(Ordering::Relaxed) >= wanted.load(Ordering::Relaxed) {
            thread::yield_now();
            continue;
        }
        let number = count.fetch_add(1, Ordering::Relaxed);
        let (file, other) = (format!("{dir}/{number}"), format!("{aside}/{number}"));
        match number % 3 {
            0 => fs::write(&file, "x").unwrap(),
            1 => fs::write(&other, "x").and_then(|()| fs::rename(&other, &file)).unwrap(),
            _ => fs::write(&other, "x").and_then(|()| fs::hard_link(&other, &file)).unwrap(),
        }
    }
}

/// Without a service manager, too; what may have run before is marked.
#[test]
fn after_each_kill_every_file_has_a_run() {
    let rounds = number_from("FACRON_KILLS", 10);
    let place = Place::new();
    let (dir, aside, log) = (place.mkdir("in"), place.mkdir("aside"), place.write("runs"));
    fs::write(&log, "").unwrap();
    let run = format!("sh -c 'echo \"$FACRON_NAME $FACRON_REPEATED\" >> {log}'");
    place.conf(&format!("{dir} ARRIVED [name=in] {run}\n"));
    let (count, wanted, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let daemon = thread::scope(|scope| {
        let mut daemon = place.start();
        scope.spawn(|| make_files(&dir, &aside, [&count, &wanted], &is_over));
        scope.spawn(|| make_files(&dir, &aside, [&count, &wanted], &is_over));
        for round in 0..rounds {
            let enough = count.load(Ordering::Relaxed) + 100 + 17 * (round % 10);
            // They go on meanwhile.
            wanted.store(enough + 100, Ordering::Relaxed);
            wait_until("more files", || count.load(Ordering::Relaxed) >= enough);
            daemon.kill();
            daemon = place.start();
        }
        is_over.store(true, Ordering::Relaxed);
        daemon
    });
    catch_up(&place);
    let made = count.load(Ordering::Relaxed);
    // How often each has run, and how often without a mark.
    let mut runs: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let (number, repeated) = line.split_once(' ').unwrap();
        let times = runs.entry(number.parse().unwrap()).or_default();
        *times = (times.0 + 1, times.1 + usize::from(repeated.is_empty()));
    }
    let missing: Vec<_> = (0..made).filter(|number| !runs.contains_key(number)).collect();
    let unmarked: Vec<_> = runs.iter().filter(|(_, (_, unmarked))| *unmarked > 1).collect();
    assert!(missing.is_empty() && unmarked.is_empty(), "of {made} files: {missing:?}, {unmarked:?}");
    let twice = runs.values().filter(|(times, _)| *times > 1).count();
    report(&format!("{rounds} kills, {made} files, {twice} of them ran more than once"));
    assert!(daemon.log().contains("the last daemon did not end in order"), "the gap is named");
}
