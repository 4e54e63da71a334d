//! `facronctl tail`: what happened, and what became of it.

use crate::harness::{Place, kill, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::process::Child;

/// A `facronctl tail -f` with its output in a file.
struct Following<'a> {
    place: &'a Place,
    child: Child,
}

impl<'a> Following<'a> {
    fn start(place: &'a Place, args: &[&str]) -> Self {
        let mut tail = place.facronctl();
        let child = tail.args(args).stdout(place.log_file("followed")).spawn().unwrap();
        Self { place, child }
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.place.path("followed")).unwrap();
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect()
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        kill(self.child.id().cast_signed(), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

#[test]
fn follow_goes_on_with_an_object_a_line() {
    let place = Place::new();
    let dir = place.play("");
    place.conf(&format!("{dir} CLOSE_WRITE [name=good] true\n{dir} CLOSE_WRITE [name=bad] sh -c 'exit 3'\n"));
    let _daemon = place.start();
    let before = place.write("before");
    place.settle();
    let following = Following::start(&place, &["--json", "tail", "-f", "-n", "1", "--rule", "bad"]);
    wait_until("the record of the past", || following.lines().len() == 1);
    let after = place.write("after");
    let record = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    let is_over = |record: &Value| record["outcome"]["state"] == "exited" && record["path"] == after;
    wait_until("the new record", || following.lines().iter().map(record).any(|record| is_over(&record)));
    let records: Vec<_> = following.lines().iter().map(record).collect();
    assert_eq!(records[0]["path"], before);
    for record in &records {
        assert_eq!(
            (&record["rule_name"], &record["pid"]),
            (&"bad".into(), &std::process::id().into()),
            "{record}"
        );
    }
    let outcome = &records.last().unwrap()["outcome"];
    assert_eq!(outcome["exit"], 3);
    assert!(outcome["duration_ms"].as_f64().unwrap() > 0.0, "{outcome}");
}

#[test]
fn text_has_a_line_for_each_record_that_is_settled() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=rule] sh -c 'exit 3'\n", place.play("")));
    let _daemon = place.start();
    let following = Following::start(&place, &["tail", "-f", "-n", "0"]);
    // it follows once a record comes through
    let mut count = 0;
    wait_until("the first record", || {
        count += 1;
        place.write(&format!("file-{count}"));
        place.settle();
        !following.lines().is_empty()
    });
    let path = place.write("the one");
    wait_until("its line", || following.lines().iter().any(|line| line.contains(&path)));
    let lines = following.lines();
    let of_it: Vec<_> = lines.iter().filter(|line| line.contains(&path)).collect();
    assert_eq!(of_it.len(), 1, "{lines:?}");
    for part in ["rule", "FAN_CLOSE_WRITE", "exit 3", &std::process::id().to_string()] {
        assert!(of_it[0].contains(part), "{part} in {of_it:?}");
    }
}

#[test]
fn a_number_a_rule_and_failures_choose_records() {
    let place = Place::new();
    let dir = place.play("");
    place.conf(&format!("{dir} CLOSE_WRITE [name=good] true\n{dir} CLOSE_WRITE [name=bad] false\n"));
    let _daemon = place.start_with(&["--history", "20"]);
    for number in 0..15 {
        place.write(&format!("file-{number}"));
    }
    place.settle();
    let count = |args: &[&str]| place.ctl_ok(&[&["tail"], args].concat()).lines().count();
    assert_eq!(count(&[]), 10);
    assert_eq!(count(&["-n", "3"]), 3);
    assert_eq!(count(&["-n", "1000"]), 20, "--history");
    let bad = count(&["-n", "1000", "--rule", "bad"]);
    assert!((8..=10).contains(&bad), "{bad}");
    assert_eq!(count(&["-n", "1000", "--failed"]), bad);
    assert_eq!(place.ctl(&["tail", "--rule", "no-such-rule"]).status.code(), Some(1));
}
