//! Permission rules: who is held up, who is not, and what is told of it.

mod cache;
mod content;
mod deaths;
mod decisions;
mod load;
mod places;
mod trees;
mod who;

use crate::harness::{Daemon, Place, Watchdog, wait_until};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

/// What a process that opens a file gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    Yes,
    Denied,
}

#[track_caller]
fn open(path: &str) -> Opened {
    outcome(&File::open(path), path)
}

#[track_caller]
fn outcome<T>(result: &io::Result<T>, path: &str) -> Opened {
    match result {
        Ok(_) => Opened::Yes,
        Err(error) if error.raw_os_error() == Some(nix::libc::EPERM) => Opened::Denied,
        Err(error) => panic!("{path}: {error}"),
    }
}

/// An executable script; its path.
fn script(place: &Place, name: &str, text: &str) -> String {
    let path = if name.contains('/') { place.play(name) } else { place.path(name) };
    // By another process: a descriptor for writing in this one could be inherited by
    // a command for a moment, and the script be busy.
    let written = std::process::Command::new("sh")
        .args(["-c", "printf '%s\n' \"$1\" > \"$2\"", "sh", &format!("#!/bin/sh\n{text}"), &path])
        .status();
    assert!(written.unwrap().success());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits until a file's last change is so old that a verdict about it may be remembered:
/// the kernel's clock has gone on since.
#[track_caller]
fn let_age(file: &str) {
    wait_until("the file to be older than a tick of the kernel's clock", || {
        let status = fs::symlink_metadata(file).unwrap();
        let nanoseconds = u64::try_from(status.ctime_nsec()).unwrap();
        let changed = UNIX_EPOCH
            + Duration::new(status.ctime().try_into().unwrap(), 0)
            + Duration::from_nanos(nanoseconds);
        changed.elapsed().is_ok_and(|age| age > Duration::from_millis(50))
    });
}

/// Waits for so many records of a rule, and returns all.
#[track_caller]
fn records(place: &Place, rule: &str, count: usize) -> Vec<Value> {
    let is_final =
        |record: &Value| !["pending", "running"].contains(&record["outcome"]["state"].as_str().unwrap());
    wait_until(&format!("{count} records of {rule}"), || {
        place.tail_of(rule).iter().filter(|record| is_final(record)).count() >= count
    });
    place.tail_of(rule)
}

/// A place with these rules and a daemon, in which nothing can be stuck for ever.
fn with_rules(rules: impl Fn(&Place) -> String, test: impl FnOnce(&Place, &mut Daemon<'_>)) {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    place.conf(&rules(&place));
    let mut daemon = place.start();
    test(&place, &mut daemon);
}

#[test]
fn what_is_denied_is_denied_and_nothing_else() {
    let rules = |place: &Place| format!("{} OPEN_PERM [verdict=deny name=no] -\n", place.write("secret"));
    with_rules(rules, |place, _| {
        let (secret, other) = (place.play("secret"), place.write("other"));
        assert_eq!(place.rule("no")["state"], "active");
        assert_eq!((open(&secret), open(&other)), (Opened::Denied, Opened::Yes));
        let record = &records(place, "no", 1)[0];
        assert_eq!(record["path"], secret.as_str());
        assert_eq!(record["pid"], std::process::id());
        assert_eq!(record["exe"], std::env::current_exe().unwrap().to_str().unwrap());
        assert_eq!(record["uid"], 0);
        assert_eq!(record["events"], serde_json::json!(["FAN_OPEN_PERM"]));
        assert_eq!(
            (&record["outcome"]["state"], &record["outcome"]["by"]),
            (&"denied".into(), &"rule".into())
        );
        assert!(record["outcome"]["duration_ms"].as_f64().unwrap() < 1000.0, "{record}");
        assert!(place.ctl_ok(&["tail"]).contains("denied"));
        let gate = &place.status()["gate"];
        assert_eq!((&gate["denied"], &gate["open"], &gate["starts"]), (&1.into(), &0.into(), &1.into()));
    });
}

#[test]
fn whoever_says_no_decides() {
    let rules = |place: &Place| {
        let file = place.write("file");
        format!(
            "{0} OPEN_PERM [verdict=allow name=yes] -\n{file} OPEN_PERM [name=ask] /bin/true\n\
             {0} OPEN_PERM [verdict=deny include=no* name=no] -\n",
            place.play("")
        )
    };
    with_rules(rules, |place, _| {
        assert_eq!(open(&place.play("file")), Opened::Yes);
        assert_eq!(open(&place.write("other")), Opened::Yes);
        fs::rename(place.play("other"), place.play("now")).unwrap();
        assert_eq!(open(&place.play("now")), Opened::Denied);
        assert_eq!(records(place, "ask", 1)[0]["outcome"]["by"], "command");
        wait_until("the denial to be told to all rules", || {
            place.tail_of("yes").last().is_some_and(|record| record["outcome"]["error"] == "rule 3 decided")
        });
    });
}

#[test]
fn each_event_is_its_own() {
    let rules = |place: &Place| {
        let program = script(place, "tool", "exit 0");
        format!(
            "{program} OPEN_EXEC_PERM [verdict=deny] -\n{} ACCESS_PERM [verdict=deny] -\n\
             {} OPEN_PERM,ONDIR [verdict=deny] -\n",
            place.write("data"),
            place.mkdir("closed"),
        )
    };
    with_rules(rules, |place, _| {
        let tool = place.path("tool");
        assert_eq!(open(&tool), Opened::Yes);
        let run = std::process::Command::new(&tool).status();
        assert_eq!(run.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let data = place.play("data");
        assert_eq!(open(&data), Opened::Yes);
        assert_eq!(outcome(&fs::read(&data), &data), Opened::Denied);
        let closed = place.play("closed");
        assert_eq!(outcome(&fs::read_dir(&closed), &closed), Opened::Denied);
        fs::write(place.play("closed/file"), "").unwrap();
        assert_eq!(open(&place.play("closed/file")), Opened::Yes);
    });
}

#[test]
fn a_command_may_be_told_afterwards() {
    let rules = |place: &Place| {
        let told = place.records("told").command("$$ $%");
        format!("{} OPEN_PERM [verdict=deny name=told] {told}\n", place.write("file"))
    };
    with_rules(rules, |place, _| {
        let file = place.play("file");
        assert_eq!(open(&file), Opened::Denied);
        place.records("told").wait(1);
        assert_eq!(place.records("told").texts(), [[file, "FAN_OPEN_PERM".to_owned()]]);
        let states: Vec<_> =
            records(place, "told", 2).iter().map(|record| record["outcome"]["state"].clone()).collect();
        assert_eq!(states, ["denied", "exited"]);
    });
}

/// Such a command is asked about like anybody, but does not run for what it does itself.
#[test]
fn a_command_that_is_told_afterwards_does_not_run_for_itself() {
    let rules = |place: &Place| {
        let file = place.write("file");
        let read = script(place, "read", &format!("cat {file} > {}", place.path("content")));
        format!("{file} OPEN_PERM [verdict=allow name=told] {read}\n")
    };
    with_rules(rules, |place, _| {
        assert_eq!(open(&place.play("file")), Opened::Yes);
        // Of the opening, the command, and the opening by the command.
        assert_eq!(records(place, "told", 3).len(), 3);
        place.settle();
        assert_eq!(place.tail_of("told").len(), 3);
        assert_eq!(fs::read(place.path("content")).unwrap(), b"x");
    });
}

#[test]
fn rules_come_and_go_at_runtime() {
    with_rules(
        |_| String::new(),
        |place, _| {
            let file = place.write("file");
            assert_eq!(open(&file), Opened::Yes);
            place.ctl_ok(&["add", "-o", "verdict=deny name=a", &file, "OPEN_PERM", "-"]);
            assert_eq!(open(&file), Opened::Denied);
            place.ctl_ok(&["pause", "a"]);
            assert_eq!(open(&file), Opened::Yes);
            place.ctl_ok(&["resume", "a"]);
            assert_eq!(open(&file), Opened::Denied);
            place.ctl_ok(&["remove", "a"]);
            assert_eq!(open(&file), Opened::Yes);
            place.conf(&format!("{file} OPEN_PERM [verdict=allow] -\n"));
            place.ctl_ok(&["reload"]);
            assert_eq!(open(&file), Opened::Yes);
            place.conf(&format!("{file} OPEN_PERM [verdict=deny] -\n"));
            place.ctl_ok(&["reload"]);
            assert_eq!(open(&file), Opened::Denied);
            place.conf(&format!("{file} OPEN_PERM [verdict=deny once name=last] -\n"));
            place.ctl_ok(&["reload"]);
            assert_eq!(open(&file), Opened::Denied);
            wait_until("the rule to be done", || place.rule("last")["state"] == "done");
            assert_eq!(open(&file), Opened::Yes);
        },
    );
}
