//! Commands run at least once, whatever happens to the daemon.

use crate::harness::{Daemon, Place, children, comes_true, kill, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

/// Kills a daemon when all that has happened so far is on its disk.
fn kill_when_kept(place: &Place, daemon: Daemon<'_>) {
    place.ctl_ok(&["add", &place.mkdir("flush"), "DELETE", "-"]);
    daemon.kill();
}

fn lines(file: &str) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn outcomes(records: &[Value], member: &str) -> Vec<Value> {
    records.iter().map(|record| record["outcome"][member].clone()).collect()
}

/// Whether the kernel tells how processes have ended that are not our children (Linux 6.15).
fn tells_exits() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

#[test]
fn commands_that_outlive_the_daemon_are_found_again() {
    let place = Place::new();
    let (starts, go) = (place.path("starts"), place.path("go"));
    let script = format!("echo $1 >> {starts}; while ! [ -e {go} ]; do sleep 0.01; done; exit 3");
    place.conf(&format!("{} CLOSE_WRITE [name=long jobs=3] sh -c '{script}' sh $#\n", place.mkdir("in")));
    let daemon = place.start();
    let old = daemon.pid();
    for name in ["a", "b", "c", "d"] {
        place.write(&format!("in/{name}"));
    }
    wait_until("three to run", || lines(&starts).len() == 3);
    let pids = children(old);
    kill_when_kept(&place, daemon);
    let daemon = place.start();
    daemon.wait_for_log("found=3");
    let running = place.tail_of("long");
    assert_eq!(running.iter().filter(|record| record["outcome"]["state"] == "running").count(), 3);
    // Their paths and their places are taken.
    place.write("in/a");
    wait_until("the event", || place.fired("long") == 1);
    assert_eq!(place.status()["queue"]["running"], 3);
    assert_eq!((lines(&starts).len(), children(daemon.pid()).len()), (3, 0));
    fs::write(&go, "").unwrap();
    place.settle();
    let mut started = lines(&starts);
    started.sort();
    assert_eq!(started, ["a", "a", "b", "c", "d"]);
    let records = place.tail_of("long");
    let found: Vec<_> = records
        .iter()
        .filter(|record| pids.iter().any(|pid| record["outcome"]["pid"] == *pid))
        .cloned()
        .collect();
    assert_eq!((records.len(), found.len()), (5, 3));
    assert_eq!(outcomes(&found, "state"), ["exited"; 3]);
    let is_known = |exit: &Value| *exit == 3 || exit.is_null() && !tells_exits();
    assert!(outcomes(&found, "exit").iter().all(is_known), "{found:?}");
    assert!(found.iter().all(|record| record["repeated"] == false), "{found:?}");
    drop(daemon);
    let _daemon = place.start();
    place.settle();
    assert_eq!(lines(&starts).len(), 5, "all are concluded");
}

#[test]
fn a_command_that_was_found_again_is_stopped_like_any_other() {
    let place = Place::new();
    let starts = place.path("starts");
    place.conf(&format!(
        "{} CLOSE_WRITE [name=long timeout=3s] sh -c 'echo >> {starts}; exec sleep 60'\n",
        place.mkdir("in")
    ));
    let daemon = place.start();
    place.write("in/file");
    wait_until("it to run", || lines(&starts).len() == 1);
    let started = Instant::now();
    kill_when_kept(&place, daemon);
    let _daemon = place.start();
    wait_until("the timeout", || place.tail_of("long")[0]["outcome"]["state"] == "timeout");
    assert!(started.elapsed() < Duration::from_secs(20), "counted from its start");
    assert_eq!(lines(&starts).len(), 1);
}

#[test]
fn what_a_dead_daemon_did_not_conclude_runs_again() {
    let place = Place::new();
    let (starts, go, dir) = (place.path("starts"), place.path("go"), place.mkdir("in"));
    let script = format!(
        "echo \"$1 $FACRON_SEQ $FACRON_REPEATED\" >> {starts}; while ! [ -e {go} ]; do sleep 0.01; done"
    );
    place.conf(&format!("{dir} CLOSE_WRITE [name=rule jobs=1] sh -c '{script}' sh $#\n"));
    let daemon = place.start();
    let names = ["a", "b", "c"];
    for name in names {
        place.write(&format!("in/{name}"));
    }
    wait_until("one to run", || lines(&starts).len() == 1 && place.fired("rule") == 3);
    let running = children(daemon.pid())[0];
    kill_when_kept(&place, daemon);
    kill(-running, Signal::SIGKILL);
    fs::write(&go, "").unwrap();
    let _daemon = place.start();
    place.settle();
    assert_eq!(lines(&starts), ["a 1 ", "a 1 1", "b 2 1", "c 3 1"]);
    let records = place.tail_of("rule");
    assert_eq!(outcomes(&records, "exit"), [0, 0, 0]);
    assert!(records.iter().all(|record| record["repeated"] == true), "{records:?}");
    let next = place.write("in/d");
    place.settle();
    let last = place.tail_of("rule").pop().unwrap();
    assert_eq!((last["path"].as_str(), &last["repeated"]), (Some(next.as_str()), &false.into()));
    assert!(last["seq"].as_u64() > Some(3), "{last}");
}

#[test]
fn what_waited_goes_on_to_wait() {
    let place = Place::new();
    let [settled, batch, failing] =
        ["settled", "batch", "failing"].map(|name| place.path(&format!("ran-{name}")));
    place.conf(&format!(
        "{} CLOSE_WRITE [name=settled settle=5s] sh -c 'echo $1 >> {settled}' sh $#\n\
         {} CLOSE_WRITE [name=batch batch=5s] sh -c 'echo \"$@\" >> {batch}' sh $$\n\
         {} CLOSE_WRITE [name=failing retry=2] sh -c 'date +%s%N >> {failing}; exit 1'\n",
        place.mkdir("settled"),
        place.mkdir("batch"),
        place.mkdir("failing"),
    ));
    let mut daemon = place.start();
    place.write("failing/file");
    wait_until("a pause of two seconds", || daemon.log().contains("tried again in 2 s"));
    // One after the other: the kernel makes one event of two that nobody has read.
    for (count, name) in (1..).zip(["a", "b", "a", "c"]) {
        place.write(&format!("settled/{name}"));
        place.write(&format!("batch/{name}"));
        wait_until("the events", || place.fired("batch") == count && place.fired("settled") == count);
    }
    kill_when_kept(&place, daemon);
    daemon = place.start();
    assert_eq!((lines(&settled).len(), lines(&batch).len()), (0, 0), "not before it is quiet");
    place.settle();
    let (mut paths, mut merged) = (lines(&settled), 0);
    paths.sort();
    assert_eq!(paths, ["a", "b", "c"]);
    let of_batch = ["a", "b", "c"].map(|name| place.play(&format!("batch/{name}"))).join(" ");
    assert_eq!(lines(&batch), [of_batch]);
    merged += place.tail_of("settled").iter().filter_map(|record| record["merged"].as_u64()).sum::<u64>();
    let of_batch = place.tail_of("batch");
    assert_eq!((merged, of_batch.len(), &of_batch[0]["merged"]), (1, 1, &3.into()));
    let times: Vec<u64> = lines(&failing).iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(times.len(), 3, "tries are counted on");
    assert!(times[2] - times[1] >= 1_900_000_000, "the pause is kept: {times:?}");
    assert_eq!(place.tail_of("failing")[0]["outcome"]["tries"], 3);
    drop(daemon);
    let _daemon = place.start();
    assert!(!comes_true(Duration::from_millis(200), || !place.tail_of("settled").is_empty()));
}

#[test]
fn the_jobs_of_an_earlier_version_run() {
    let place = Place::new();
    let records = place.records("records");
    place.conf(&format!("{} CLOSE_WRITE [name=rule] {}\n", place.mkdir("in"), records.command("$$")));
    fs::create_dir_all(place.path("state")).unwrap();
    let words: Vec<Value> = {
        let daemon = place.start();
        let rule = place.rule("rule");
        daemon.kill();
        rule["command"].as_array().unwrap().clone()
    };
    let rule = json!({"id": 1, "path": place.play("in"), "events": "FAN_CLOSE_WRITE", "options": "name=rule",
        "command": words});
    let path = place.play("in/file");
    let event = json!({"time": "2024-01-01T00:00:00Z", "events": "FAN_CLOSE_WRITE", "mask": 8, "path": path,
        "old_path": null, "pid": 1, "exe": null, "uid": null, "synthetic": false});
    let file = json!({"version": 2, "rules": [rule], "jobs": [{"rule": 0, "event": event, "merged": 0}]});
    fs::write(place.path("state/jobs.json"), file.to_string()).unwrap();
    for _ in 0..2 {
        let daemon = place.start();
        assert_eq!(records.wait(1)[0].args, [path.as_bytes()]);
        wait_until("the file to be gone", || !fs::exists(place.path("state/jobs.json")).unwrap());
        place.settle();
        drop(daemon);
    }
    assert_eq!(records.all().len(), 1);
}
