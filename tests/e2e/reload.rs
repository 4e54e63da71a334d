//! Reloading: the difference is applied, or nothing is.

use crate::harness::{Place, code, err, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Two files with an error each, and a good line beside each of them.
fn break_both_files(place: &Place) {
    place.conf(&format!(
        "{0} CLOSE_WRITE [name=old] -\n{0} OPEN [name=good] -\n{0} FAN_MODIFI -\n",
        place.play("")
    ));
    let more =
        format!("# a comment\n{0} CREATE [name=also-good] -\n{0} OPEN [tiemout=1s] -\n", place.play(""));
    fs::write(place.path("conf.d/more.conf"), more).unwrap();
}

fn with_one_rule() -> Place {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=old] -\n", place.play("")));
    place
}

#[track_caller]
fn assert_nothing_changed(place: &Place, before: &Value) {
    assert_eq!(&place.ctl_json(&["list"]), before);
}

#[test]
fn one_bad_line_changes_nothing_and_all_of_them_are_named() {
    let place = with_one_rule();
    let _daemon = place.start();
    let before = place.ctl_json(&["list"]);
    break_both_files(&place);
    let output = place.ctl(&["reload"]);
    assert_eq!(code(&output), 1);
    let told = err(&output);
    for part in [
        &format!("{}:3:", place.path("facron.conf")),
        "did you mean `FAN_MODIFY`?",
        &format!("{}:3:", place.path("conf.d/more.conf")),
        "unknown option `tiemout`",
        "nothing was changed",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_nothing_changed(&place, &before);
    // the client's errors have the same as data
    let error = place.rpc().call("reload", &json!({})).unwrap_err();
    assert_eq!((&error["code"], error["data"].as_array().unwrap().len()), (&(-32004).into(), 2), "{error}");
}

#[test]
fn a_signal_reloads_and_tells_the_log() {
    for signal in [Signal::SIGUSR1, Signal::SIGHUP] {
        let place = with_one_rule();
        let daemon = place.start();
        let before = place.ctl_json(&["list"]);
        break_both_files(&place);
        daemon.signal(signal);
        daemon.wait_for_log("nothing was changed");
        let log = daemon.log();
        for part in ["facron.conf:3:", "FAN_MODIFY", "conf.d/more.conf:3:", "tiemout"] {
            assert!(log.contains(part), "{part} in {log}");
        }
        assert_nothing_changed(&place, &before);
        fs::remove_file(place.path("conf.d/more.conf")).unwrap();
        place.conf(&format!("{} CLOSE_WRITE [name=new] -\n", place.play("")));
        daemon.signal(signal);
        wait_until("the new rule", || place.ctl(&["show", "new"]).status.success());
        assert_eq!(place.ctl_json(&["list"]).as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_start_with_a_bad_line_runs_the_good_ones_and_says_so() {
    let place = Place::new();
    break_both_files(&place);
    let daemon = place.start();
    let log = daemon.log();
    assert!(log.contains("ERROR") && log.contains("facron.conf:3:") && log.contains("left out"), "{log}");
    let names: Vec<_> =
        place.ctl_json(&["list"]).as_array().unwrap().iter().map(|rule| rule["name"].clone()).collect();
    assert_eq!(names, ["old", "good", "also-good"]);
    let health = place.status()["health"].clone();
    assert!(health.as_str().unwrap().contains("configuration"), "{health}");
}

#[test]
fn a_reload_applies_the_difference() {
    let place = Place::new();
    let (dir, sleeping) = (place.play(""), place.mkdir("sleeping"));
    let rules = |kept: &str, changed: &str, last: &str| {
        place.conf(&format!(
            "{kept}{sleeping} CREATE [name=kept] sleep 3600\n{dir} CLOSE_WRITE [name=changed] {changed}\n{last}\n"
        ));
    };
    rules("", "-", &format!("{dir}/old OPEN [name=removed] -"));
    let daemon = place.start();
    place.write("sleeping/file");
    wait_until("the command", || place.fired("kept") == 1);
    place.write("file");
    wait_until("the other rule", || place.fired("changed") == 1);
    let id = |name: &str| place.rule(name)["id"].clone();
    let before = (id("kept"), id("changed"), place.rule("kept")["added"].clone());

    // another line, but the same rule
    rules("# moved down\n\n", "/bin/true", &format!("{dir}/new OPEN [name=added] -"));
    let reply = place.ctl_json(&["reload"]);
    assert_eq!(reply, json!({"added": 1, "removed": 1, "changed": 1, "kept": 1}));
    assert_eq!(before, (id("kept"), id("changed"), place.rule("kept")["added"].clone()));
    assert_eq!((place.fired("kept"), &place.rule("kept")["line"]), (1, &3.into()));
    assert_eq!(crate::harness::children(daemon.pid()).len(), 1, "its command still runs");
    assert_eq!(place.rule("changed")["command"], json!(["/bin/true"]));
    assert_eq!(code(&place.ctl(&["show", "removed"])), 1);
    let again = place.ctl_ok(&["reload"]);
    assert_eq!(again, "0 added, 0 removed, 0 changed, 3 kept\n");
}

/// A rule that is not touched, 1000 others, all of them on paths of their own.
fn thousand_and_one(place: &Place, round: usize) -> String {
    let mut text = format!("{} CLOSE_WRITE [name=kept] -\n", place.play("kept"));
    for number in 0..1000 {
        // one half on things that are there
        let path = place.play(if number % 2 == 0 { "there" } else { "missing" });
        writeln!(text, "{path}/{round}-{number} CLOSE_WRITE|DELETE_SELF -").unwrap();
    }
    text
}

#[test]
fn under_load_the_unchanged_rule_misses_nothing() {
    let place = Place::new();
    place.mkdir("kept");
    place.mkdir("there");
    place.conf(&thousand_and_one(&place, 0));
    let _daemon = place.start();
    let written = AtomicU64::new(0);
    let first = place.rule("kept");
    thread::scope(|scope| {
        let reloading = scope.spawn(|| {
            for round in 1..=5 {
                place.conf(&thousand_and_one(&place, round));
                let before = written.load(Ordering::Relaxed);
                let reply = place.ctl_json(&["reload"]);
                let replaced = reply["added"].as_u64().unwrap() + reply["changed"].as_u64().unwrap();
                assert_eq!((&reply["kept"], replaced), (&1.into(), 1000), "{reply}");
                wait_until("the writer to go on", || written.load(Ordering::Relaxed) > before);
            }
        });
        while !reloading.is_finished() {
            place.write(&format!("kept/{}", written.fetch_add(1, Ordering::Relaxed)));
        }
        reloading.join().unwrap();
    });
    place.settle();
    let last = place.rule("kept");
    assert_eq!(last["fired"], written.load(Ordering::Relaxed));
    assert_eq!((&last["id"], &last["added"]), (&first["id"], &first["added"]));
    let rules = place.ctl_json(&["list"]);
    assert_eq!(rules.as_array().unwrap().len(), 1001);
}
