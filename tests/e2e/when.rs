//! When commands run: quiet, batches, rates, what happens while one runs, and further tries.

use crate::harness::{Place, Records, wait_for, wait_until};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Whether a time is what it should be, but for what a busy machine takes.
#[track_caller]
fn assert_near(time: Duration, expected: Duration, late: Duration) {
    assert!(time >= expected && time <= expected + late, "{time:?} in place of {expected:?}");
}

#[test]
fn ten_thousand_writes_are_one_run_when_they_have_settled() {
    let place = Place::new();
    let records = place.records("records");
    let file = place.write("file");
    place.conf(&format!("{file} MODIFY [name=settled settle=300ms] {}\n", records.command("$$")));
    let _daemon = place.start();
    let mut open = File::options().append(true).open(&file).unwrap();
    let started = Instant::now();
    for number in 0..10_000_u32 {
        open.write_all(b"x").unwrap();
        if number.is_multiple_of(50) {
            std::thread::sleep((ms(10) * (number / 50)).saturating_sub(started.elapsed()));
        }
    }
    let last = SystemTime::now();
    let run = records.wait(1).remove(0);
    assert_near(run.time.duration_since(last).unwrap(), ms(300), ms(20));
    place.settle();
    assert_eq!(records.texts(), [[file]]);
    let record = &place.tail_of("settled")[0];
    assert_eq!(record["merged"].as_u64().unwrap() + 1, place.fired("settled"), "{record}");
    assert_eq!(record["outcome"]["exit"], 0);
    let jobs = place.status()["jobs"].clone();
    assert_eq!((jobs["run"].as_u64(), jobs["merged"].as_u64()), (Some(1), record["merged"].as_u64()));
}

#[test]
fn what_waits_for_quiet_is_pending() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=patient settle=10m] /bin/true\n", place.play("")));
    let _daemon = place.start();
    for fired in 1..=2 {
        place.write("file");
        wait_until("the event to be read", || place.fired("patient") == fired);
    }
    let record = &place.tail_of("patient")[0];
    assert_eq!((&record["outcome"]["state"], &record["merged"]), (&"pending".into(), &1.into()));
    assert_eq!(place.status()["queue"]["pending"], 1);
}

#[test]
fn what_runs_nothing_is_recorded_when_it_has_settled() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=seen settle=300ms] -\n", place.play("")));
    let _daemon = place.start();
    for fired in 1..=2 {
        place.write("file");
        wait_until("the event to be read", || place.fired("seen") == fired);
    }
    let record = wait_for("the record", || {
        place.tail_of("seen").pop().filter(|record| record["outcome"]["state"] == "recorded")
    });
    assert_eq!(record["merged"], 1);
    assert_eq!((place.status()["jobs"]["run"].as_u64(), place.tail_of("seen").len()), (Some(0), 1));
}

#[test]
fn writes_that_never_stop_run_every_max_wait() {
    let place = Place::new();
    let records = place.records("records");
    let file = place.write("file");
    place.conf(&format!("{file} MODIFY [settle=300ms max-wait=2s] {}\n", records.command("$$")));
    let _daemon = place.start();
    let mut open = File::options().append(true).open(&file).unwrap();
    let start = SystemTime::now();
    while start.elapsed().unwrap() < ms(6500) {
        open.write_all(b"x").unwrap();
        std::thread::sleep(ms(5));
    }
    let mut before = start;
    for record in &records.wait(3)[..3] {
        assert_near(record.time.duration_since(before).unwrap(), ms(1980), ms(500));
        before = record.time;
    }
}

/// All arguments of all runs.
fn all_arguments(records: &Records) -> Vec<String> {
    records.texts().into_iter().flatten().collect()
}

#[test]
fn a_batch_is_one_run_with_all_paths() {
    const FILES: usize = 5000;
    let place = Place::new();
    let records = place.records("records");
    place.conf(&format!(
        "{} CREATE [name=all batch=500ms max-wait=1m] {}\n",
        place.play(""),
        records.command("$$")
    ));
    let _daemon = place.start();
    let paths: Vec<String> = (0..FILES).map(|number| place.write(&number.to_string())).collect();
    records.wait(1);
    place.settle();
    assert_eq!(records.texts(), std::slice::from_ref(&paths));
    let record = &place.tail_of("all")[0];
    assert_eq!(record["merged"], FILES - 1);
    assert_eq!(record["path"], paths[FILES - 1], "the last event");
}

#[test]
fn a_batch_that_is_too_long_is_split_and_nothing_is_lost_or_doubled() {
    const FILES: usize = 10_000;
    let place = Place::new();
    let records = place.records("records");
    let mut dir = place.play("");
    for _ in 0..4 {
        dir = format!("{dir}/{}", "d".repeat(120));
        fs::create_dir(&dir).unwrap();
    }
    place.conf(&format!("{dir} CREATE [name=all batch=500ms max-wait=1m] {}\n", records.command("$$")));
    let _daemon = place.start();
    let paths: Vec<String> = (0..FILES).map(|number| format!("{dir}/{number}")).collect();
    for path in &paths {
        File::create(path).unwrap();
    }
    wait_until("all paths", || all_arguments(&records).len() >= FILES);
    place.settle();
    assert_eq!(all_arguments(&records), paths);
    let runs = place.tail_of("all");
    // 2 MiB, of which a path takes about 530 bytes
    assert_eq!((records.all().len(), runs.len()), (3, 3));
    let events: u64 = runs.iter().map(|record| 1 + record["merged"].as_u64().unwrap()).sum();
    assert_eq!(events, place.fired("all"));
    assert!(runs.iter().all(|record| record["outcome"]["exit"] == 0), "{runs:?}");
}

#[test]
fn a_rate_holds_in_every_window() {
    let place = Place::new();
    let records = place.records("records");
    place.conf(&format!("{} CREATE [rate=3/500ms] {}\n", place.play(""), records.command("$$")));
    let _daemon = place.start();
    (0..10).for_each(|number| drop(place.write(&number.to_string())));
    let runs = records.wait(10);
    let took = runs[9].time.duration_since(runs[0].time).unwrap();
    assert_near(took, ms(1490), ms(300));
    for window in runs.windows(4) {
        // a start takes its time, one more, another less
        assert!(window[3].time.duration_since(window[0].time).unwrap() > ms(450));
    }
}

/// What became of ten events on one path, the command of which takes a second; and its runs.
fn while_busy(busy: &str) -> (Vec<Value>, Vec<String>) {
    let place = Place::new();
    let output = place.path("output");
    let script = "echo start; sleep 1; echo end";
    place.conf(&format!(
        "{} CLOSE_WRITE [name=busy busy={busy} output={output}] sh -c '{script}'\n",
        place.play("")
    ));
    let _daemon = place.start();
    for fired in 1..=10 {
        place.write("file");
        wait_until("the event to be read", || place.fired("busy") == fired);
        if fired == 1 {
            wait_until("the first run", || fs::read_to_string(&output).is_ok_and(|text| !text.is_empty()));
        }
    }
    place.settle();
    let lines = fs::read_to_string(&output).unwrap().lines().map(str::to_owned).collect();
    let records = place.tail_of("busy");
    let ended = |record: &Value| 1 + record["merged"].as_u64().unwrap();
    assert_eq!(records.iter().map(ended).sum::<u64>(), 10, "{records:?}");
    (records, lines)
}

fn count(records: &[Value], state: &str) -> usize {
    records.iter().filter(|record| record["outcome"]["state"] == state).count()
}

#[test]
fn busy_queue_runs_all_in_order() {
    let (records, lines) = while_busy("queue");
    assert_eq!(count(&records, "exited"), 10);
    assert_eq!(lines, ["start", "end"].repeat(10));
}

#[test]
fn busy_skip_runs_one() {
    let (records, lines) = while_busy("skip");
    assert_eq!((count(&records, "exited"), count(&records, "skipped")), (1, 9));
    assert_eq!(lines, ["start", "end"]);
}

#[test]
fn busy_rerun_runs_two() {
    let (records, lines) = while_busy("rerun");
    assert_eq!(count(&records, "exited"), 2);
    assert_eq!(lines, ["start", "end", "start", "end"]);
}

#[test]
fn busy_restart_finishes_the_last() {
    let (records, lines) = while_busy("restart");
    assert_eq!(count(&records, "exited"), 1);
    let (last, stopped) = records.split_last().unwrap();
    assert_eq!(last["outcome"]["exit"], 0);
    for record in stopped {
        let outcome = &record["outcome"];
        assert_eq!((&outcome["signal"], &outcome["restarted"]), (&15.into(), &true.into()), "{record}");
        assert!(outcome["error"].as_str().unwrap().contains("start anew"), "{record}");
    }
    assert_eq!(lines.last().map(String::as_str), Some("end"));
    assert_eq!(lines.iter().filter(|line| *line == "end").count(), 1, "{lines:?}");
}

#[test]
fn what_fails_is_tried_again_with_growing_pauses() {
    let place = Place::new();
    let (output, ready) = (place.path("output"), place.path("ready"));
    let script = format!("test -e {ready}; found=$?; date +%s%N; exit $found");
    place.conf(&format!(
        "{} CLOSE_WRITE [name=stubborn retry=3 output={output}] sh -c '{script}'\n\
         {} CLOSE_WRITE [name=hopeless retry=1] {}\n",
        place.mkdir("in"),
        place.mkdir("out"),
        place.path("no-such-program"),
    ));
    let _daemon = place.start();
    place.write("in/file");
    place.write("out/file");
    let tries = || fs::read_to_string(&output).map_or(0, |text| text.lines().count());
    wait_until("the second try", || tries() == 2);
    let pending = &place.tail_of("stubborn")[0]["outcome"];
    assert!(["pending", "running"].contains(&pending["state"].as_str().unwrap()), "{pending}");
    fs::write(&ready, "").unwrap();
    place.settle();
    let times: Vec<u64> =
        fs::read_to_string(&output).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    for (pair, expected) in times.windows(2).zip([1000, 2000]) {
        assert_near(Duration::from_nanos(pair[1] - pair[0]), ms(expected), ms(300));
    }
    let record = &place.tail_of("stubborn")[0];
    assert_eq!((&record["outcome"]["exit"], &record["outcome"]["tries"]), (&0.into(), &3.into()));
    let hopeless = &place.tail_of("hopeless")[0]["outcome"];
    assert_eq!((&hopeless["state"], &hopeless["tries"]), (&"spawn_failed".into(), &2.into()));
    let counts = ["stubborn", "hopeless"].map(|name| place.rule(name)["failed"].clone());
    assert_eq!(counts, [0, 1], "only what became of it in the end counts");
    assert!(place.ctl_ok(&["tail", "--rule", "stubborn"]).contains("3 tries"));
}

#[test]
fn one_rule_does_not_wait_behind_a_hundred_thousand_events_of_another() {
    const EVENTS: usize = 100_000;
    let place = Place::new();
    let records = place.records("records");
    place.conf(&format!(
        "{} CREATE [name=many] sleep 0.1\n{} CLOSE_WRITE [name=one] {}\n",
        place.mkdir("many"),
        place.mkdir("one"),
        records.command("$$"),
    ));
    let _daemon = place.start_with(&["--max-pending", "300000"]);
    for number in 0..EVENTS {
        File::create(place.play(&format!("many/{number}"))).unwrap();
    }
    wait_until("all events to be read", || place.fired("many") == EVENTS as u64);
    assert!(place.status()["queue"]["pending"].as_u64().unwrap() > 90_000);
    for number in 1..=5 {
        place.write("one/file");
        let written = SystemTime::now();
        let run = &records.wait(number)[number - 1];
        let waited = run.time.duration_since(written).unwrap_or_default();
        assert!(waited < ms(200), "{waited:?}: more than a job of the other rule and 100 ms");
    }
}

#[test]
fn once_with_settle_fires_once_when_it_has_settled() {
    let place = Place::new();
    let records = place.records("records");
    let _daemon = place.start();
    place.ctl_ok(
        &[
            &["add", "-o", "once settle=300ms name=single", &place.play(""), "CLOSE_WRITE"][..],
            &records.command("$$").split(' ').collect::<Vec<_>>(),
        ]
        .concat(),
    );
    for _ in 0..3 {
        place.write("file");
        std::thread::sleep(ms(50));
    }
    records.wait(1);
    wait_until("the rule to be removed", || place.ctl(&["show", "single"]).status.code() == Some(1));
    place.write("file");
    place.settle();
    assert_eq!(records.all().len(), 1);
    let tail = place.call("tail", &json!({ "limit": 10 }));
    let ran = |record: &&Value| record["outcome"]["state"] == "exited";
    let merged: Vec<_> =
        tail["records"].as_array().unwrap().iter().filter(ran).map(|record| &record["merged"]).collect();
    assert_eq!(merged, [2]);
}
