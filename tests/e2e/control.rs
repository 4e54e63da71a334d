//! facronctl: rules come, go, and are looked at.

use crate::harness::{FACRONCTL, Place, code, err, out, wait_until};
use serde_json::json;
use std::fs;
use std::process::Command;

#[test]
fn an_event_right_after_add_fires() {
    let place = Place::new();
    let _daemon = place.start();
    let mut rpc = place.rpc();
    for number in 0..50 {
        let dir = place.mkdir(&format!("dir-{number}"));
        let rule = json!({"path": dir, "events": "CLOSE_WRITE", "command": ["-"], "options": format!("name=r{number}")});
        rpc.call("add", &rule).unwrap();
        place.write(&format!("dir-{number}/file"));
    }
    place.settle();
    for number in 0..50 {
        assert_eq!(place.fired(&format!("r{number}")), 1);
    }
    let file = place.play("file");
    place.ctl_ok(&["add", "-o", "name=file", &file, "CLOSE_WRITE", "-"]);
    fs::write(&file, "").unwrap();
    place.settle();
    assert_eq!(place.fired("file"), 1);
}

#[test]
fn add_makes_a_relative_path_absolute_and_shows_what_it_does() {
    let place = Place::new();
    let _daemon = place.start();
    let mut add = place.facronctl();
    add.args([
        "add",
        "-o",
        "name=mine",
        "-o",
        "timeout=3s",
        "later",
        "create|CLOSE_WRITE",
        "echo",
        "--",
        "$$",
    ]);
    let output = add.current_dir(place.play("")).output().unwrap();
    assert_eq!(out(&output), "added rule 1\n");
    assert!(err(&output).contains("waiting"), "{output:?}");
    let rule = place.rule("mine");
    let expected = json!({
        "id": 1, "name": "mine", "source": "runtime", "file": null, "line": null, "state": "waiting",
        "path": place.play("later"), "events": ["FAN_CLOSE_WRITE", "FAN_CREATE"], "options": "name=mine timeout=3s",
        "command": ["echo", "--", "$$"], "fired": 0, "failed": 0, "last": null,
    });
    for (member, value) in expected.as_object().unwrap() {
        if member == "events" {
            let mut events: Vec<_> = rule[member].as_array().unwrap().clone();
            events.sort_by_key(ToString::to_string);
            assert_eq!(json!(events), *value);
        } else {
            assert_eq!(&rule[member], value, "{member}");
        }
    }
    let shown = place.ctl_ok(&["show", "1"]);
    for part in ["mine", "runtime", "waiting", &place.play("later"), "FAN_CREATE", "timeout=3s"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn a_wrong_rule_is_refused_with_diagnostics() {
    let place = Place::new();
    let _daemon = place.start();
    let output = place.ctl(&["add", "/tmp", "FAN_MODIFI", "true"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("did you mean `FAN_MODIFY`?"), "{output:?}");
    place.ctl_ok(&["add", "-o", "name=taken", "/tmp", "OPEN", "-"]);
    let output = place.ctl(&["add", "-o", "name=taken", "/tmp", "OPEN", "-"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("taken"), "{output:?}");
    assert_eq!(place.ctl_json(&["list"]).as_array().unwrap().len(), 1);
}

#[test]
fn rules_survive_as_long_as_they_should() {
    let place = Place::new();
    let dir = place.play("");
    place.conf(&format!("{dir} OPEN_EXEC [name=filed] -\n"));
    let mut daemon = place.start();
    let add = |name: &str| place.ctl_ok(&["add", "-o", &format!("name={name}"), &dir, "CLOSE_WRITE", "-"]);
    add("runtime");
    place.ctl_ok(&["add", "--persist", "-o", "name=persisted", &dir, "CLOSE_WRITE", "-"]);
    add("gone");
    place.ctl_ok(&["rm", "gone"]);
    place.ctl_ok(&["pause", "persisted"]);
    let id = |name: &str| place.rule(name)["id"].clone();
    let ids = (id("runtime"), id("persisted"));
    let highest = add("last");
    place.ctl_ok(&["remove", "last"]);

    // SIGKILL: the socket stays behind
    daemon.kill();
    assert!(fs::exists(place.path("control.sock")).unwrap());
    daemon = place.start();
    assert_eq!(ids, (id("runtime"), id("persisted")));
    let source = |name: &str| place.rule(name)["source"].clone();
    assert_eq!(
        (source("filed"), source("runtime"), source("persisted")),
        ("file".into(), "runtime".into(), "persisted".into())
    );
    assert_eq!(place.rule("persisted")["state"], "paused");
    assert_eq!(place.ctl_json(&["list"]).as_array().unwrap().len(), 3);
    place.ctl_ok(&["resume", "persisted"]);
    place.write("file");
    place.settle();
    assert_eq!((place.fired("runtime"), place.fired("persisted")), (1, 1));
    assert_ne!(add("next"), highest, "numbers are not used twice");

    // a boot empties the runtime directory
    assert_eq!(daemon.stop().code(), Some(0));
    fs::remove_dir_all(place.path("run")).unwrap();
    let _daemon = place.start();
    let names: Vec<_> =
        place.ctl_json(&["list"]).as_array().unwrap().iter().map(|rule| rule["name"].clone()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&"filed".into()) && names.contains(&"persisted".into()), "{names:?}");
}

#[test]
fn a_rule_of_a_file_is_removed_there() {
    let place = Place::new();
    place.conf(&format!("# one\n{} OPEN_EXEC [name=filed] -\n", place.play("")));
    let _daemon = place.start();
    place.ctl_ok(&["add", "-o", "name=added", &place.play(""), "OPEN_EXEC", "-"]);
    let output = place.ctl(&["remove", "added", "filed"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains(&format!("{}, line 2", place.path("facron.conf"))), "{output:?}");
    assert_eq!(place.ctl_json(&["list"]).as_array().unwrap().len(), 2, "all or none");
    let output = place.ctl(&["remove", "no-such-rule"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("no-such-rule"), "{output:?}");
}

#[test]
fn a_paused_rule_does_not_fire_until_it_is_resumed() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=rule] -\n", place.play("")));
    let _daemon = place.start();
    place.ctl_ok(&["pause", "rule"]);
    assert_eq!(place.rule("rule")["state"], "paused");
    place.write("file");
    place.settle();
    assert_eq!(place.fired("rule"), 0);
    place.ctl_ok(&["resume", "rule"]);
    place.write("file");
    place.settle();
    assert_eq!((place.fired("rule"), &place.rule("rule")["state"]), (1, &"active".into()));
    assert_eq!(code(&place.ctl(&["pause", "rule", "no-such-rule"])), 1);
    assert_eq!(place.rule("rule")["state"], "active", "all or none");
}

#[test]
fn explain_tells_what_would_run_and_runs_nothing() {
    let place = Place::new();
    let (dir, records) = (place.play(""), place.records("records"));
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=a include=*.txt] {}\n{dir} CREATE [name=b] -\n{dir} CLOSE_WRITE [name=c] echo $& $+\n",
        records.command("--file=$$ $%")
    ));
    let _daemon = place.start();
    let path = place.play("a file.txt");
    let told = place.ctl_json(&["explain", &path, "FAN_CLOSE_WRITE"]);
    assert_eq!(told.as_array().unwrap().len(), 2, "{told}");
    let argv = told[0]["argv"].as_array().unwrap();
    assert_eq!(argv[3..], [json!(format!("--file={path}")), json!("FAN_CLOSE_WRITE")]);
    assert_eq!(told[1]["argv"], json!(["echo", "8", "1"]));
    // asking has not counted
    assert_eq!(place.ctl_json(&["explain", &path, "CLOSE_WRITE"]), told);
    let text = place.ctl_ok(&["explain", &path, "CREATE"]);
    assert!(text.contains("rule 2 would record it"), "{text}");
    assert!(place.ctl_ok(&["explain", "/elsewhere", "CREATE"]).contains("no rule"));
    assert_eq!(code(&place.ctl(&["explain", &path, "FAN_NONSENSE"])), 1);
    place.settle();
    assert_eq!((place.fired("a"), records.all().len()), (0, 0));
}

#[test]
fn status_tells_how_the_daemon_is() {
    let place = Place::new();
    place.conf(&format!(
        "{} CLOSE_WRITE [name=fails] false\n{} OPEN -\n",
        place.play(""),
        place.play("missing")
    ));
    let daemon = place.start();
    place.write("file");
    place.settle();
    let status = place.ctl_json(&["status"]);
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["rules"], json!({"active": 1, "waiting": 1}));
    assert_eq!((&status["jobs"]["run"], &status["jobs"]["failed"]), (&1.into(), &1.into()));
    assert_eq!(status["health"], "ok");
    assert!(status["marks"]["inode"].as_u64().unwrap() >= 1, "{status}");
    assert!(status["events"]["read"].as_u64() >= status["events"]["matched"].as_u64(), "{status}");
    let text = place.ctl_ok(&["status"]);
    assert!(text.contains("ok") && text.contains(&daemon.pid().to_string()), "{text}");
}

#[test]
fn check_needs_no_daemon_and_finds_every_problem() {
    let place = Place::new();
    place.conf("/tmp FAN_OPEN -\n/tmp FAN_MODIFI -\nrelative OPEN -\n/tmp OPEN [once once] -\n");
    let file = place.path("facron.conf");
    let check = |file: &str| Command::new(FACRONCTL).args(["check", file]).output().unwrap();
    let output = check(&file);
    assert_eq!(code(&output), 1);
    let told = out(&output);
    for part in
        ["FAN_MODIFY", &format!("{file}:2:6"), &format!("{file}:3:1"), &format!("{file}:4:"), "3 errors"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(out(&place.facrond_check()), told, "the daemon's own says the same");
    place.conf("/tmp FAN_OPEN -\n");
    assert_eq!(code(&check(&file)), 0);
}

#[test]
fn the_list_fits_its_width_and_has_colours_for_terminals_only() {
    let place = Place::new();
    let long = place.mkdir(&"long-name/".repeat(10));
    place.conf(&format!("{long} CLOSE_WRITE [name=named] echo {}\n", "word ".repeat(50)));
    let _daemon = place.start();
    let list = |color: &str, no_color: bool| {
        let mut list = place.facronctl();
        list.args(["--color", color, "list"]).env("COLUMNS", "80").env_remove("NO_COLOR");
        if no_color {
            list.env("NO_COLOR", "1");
        }
        out(&list.output().unwrap())
    };
    assert!(!list("auto", false).contains('\x1b'));
    assert!(list("always", false).contains('\x1b'));
    assert!(!list("never", false).contains('\x1b'));
    // a terminal of 80 columns
    let script = format!("stty rows 24 cols 80 && {FACRONCTL} -s {} list", place.path("control.sock"));
    for (no_color, has_color) in [("", true), ("1", false)] {
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &script, "/dev/null"]).env("NO_COLOR", no_color).env("TERM", "xterm");
        let shown = out(&terminal.stdin(std::process::Stdio::null()).output().unwrap());
        assert_eq!(shown.contains('\x1b'), has_color, "{shown}");
        assert!(shown.contains("named"), "{shown}");
        if !has_color {
            assert!(shown.lines().all(|line| line.trim_end().chars().count() <= 80), "{shown}");
        }
    }
    wait_until("the rule to be active", || place.rule("named")["state"] == "active");
}
