//! Commands that go on for too long.

use crate::harness::{Place, is_alive, wait_for, wait_until};
use std::fs;
use std::time::{Duration, Instant};

/// The pids that a command wrote into a file, when all are there.
fn pids(file: &str, count: usize) -> Vec<i32> {
    wait_for("the command to start", || {
        let text = fs::read_to_string(file).ok()?;
        let pids: Vec<i32> = text.lines().map(|line| line.parse().unwrap()).collect();
        (text.ends_with('\n') && pids.len() == count).then_some(pids)
    })
}

fn wait_until_gone(pids: &[i32]) {
    wait_until("the command and its children to be gone", || !pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn a_command_that_sleeps_for_an_hour_ends_at_its_timeout() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=sleeps timeout=1s] sleep 3600\n", place.play("")));
    let daemon = place.start();
    let started = Instant::now();
    place.write("file");
    place.settle();
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
    let outcome = &place.tail_of("sleeps")[0]["outcome"];
    assert_eq!((&outcome["state"], &outcome["signal"]), (&"timeout".into(), &15.into()));
    assert!(!is_alive(i32::try_from(outcome["pid"].as_i64().unwrap()).unwrap()));
    let tail = place.ctl_ok(&["tail", "--failed"]);
    assert!(tail.contains("timeout") || tail.contains("timed out"), "{tail}");
    assert_eq!(
        (place.rule("sleeps")["failed"].clone(), place.status()["jobs"]["timeout"].clone()),
        (1.into(), 1.into())
    );
    daemon.wait_without_zombies();
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_with_its_children() {
    let place = Place::new();
    let file = place.path("pids");
    let script = format!(
        "trap \"\" TERM; sleep 3600 & sh -c \"trap \\\"\\\" TERM; while :; do sleep 3600; done\" & \
         printf \"%s\\n\" $$ $! > {file}; while :; do sleep 3600; done"
    );
    place.conf(&format!(
        "{} CLOSE_WRITE [name=deaf timeout=1s kill-after=500ms] sh -c '{script}'\n",
        place.play("")
    ));
    let daemon = place.start();
    let started = Instant::now();
    place.write("file");
    let mut pids = pids(&file, 2);
    pids.extend(pids.clone().iter().flat_map(|pid| crate::harness::children(*pid)));
    assert!(pids.len() >= 4, "{pids:?}");
    wait_until_gone(&pids);
    assert!(started.elapsed() >= Duration::from_millis(1500), "it had its grace: {:?}", started.elapsed());
    place.settle();
    let outcome = &place.tail_of("deaf")[0]["outcome"];
    assert_eq!((&outcome["state"], &outcome["signal"]), (&"timeout".into(), &9.into()));
    assert!(crate::harness::children(daemon.pid()).is_empty());
}

#[test]
fn children_that_outlive_a_polite_leader_are_killed_too() {
    let place = Place::new();
    let file = place.path("pids");
    // the child has the inherited, ignored signal; the leader does as it is told
    let script = format!("(trap \"\" TERM; exec sleep 3600) & printf \"%s\\n\" $! > {file}; sleep 3600");
    place
        .conf(&format!("{} CLOSE_WRITE [timeout=500ms kill-after=500ms] sh -c '{script}'\n", place.play("")));
    let daemon = place.start();
    place.write("file");
    wait_until_gone(&pids(&file, 1));
    place.settle();
    daemon.wait_without_zombies();
}

#[test]
fn the_daemons_end_stops_what_runs_and_starts_nothing_more() {
    let place = Place::new();
    let (file, records) = (place.path("pids"), place.records("records"));
    place.conf(&format!(
        "{} CLOSE_WRITE [jobs=1] sh -c 'trap \"{}; exit\" TERM; echo $$ >> {file}; while :; do sleep 0.01; done'\n",
        place.play(""),
        records.command("stopped"),
    ));
    let daemon = place.start();
    place.write("one");
    place.write("two");
    let first = pids(&file, 1);
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(!is_alive(first[0]));
    assert_eq!(records.texts(), [["stopped"]], "it was asked politely");
    assert_eq!(pids(&file, 1), first, "the second was not started");
}
