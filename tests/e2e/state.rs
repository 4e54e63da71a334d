//! The state directory: who has it, what is in it, and a disk that takes nothing.

use crate::harness::{FACROND, Mount, Place, code, err, wait_until};
use serde_json::json;
use std::fs;
use std::process::Command;

#[test]
fn a_second_daemon_on_one_state_directory_is_refused() {
    let place = Place::new();
    let daemon = place.start();
    let options = place.options().map(|option| option.replace("control.sock", "other.sock"));
    let output = Command::new(FACROND).args(options).output().unwrap();
    let expected = format!("{} is in use by the facrond with pid {};", place.path("state"), daemon.pid());
    assert!(code(&output) == 1 && err(&output).contains(&expected), "{output:?}");
    assert!(!fs::exists(place.path("other.sock")).unwrap());
    assert_eq!(place.status()["pid"], daemon.pid(), "the first is not disturbed");
    daemon.kill();
    let _after = place.start();
}

#[test]
fn the_files_of_earlier_versions_are_taken_over() {
    let place = Place::new();
    let rule = |id: u64, name: &str, paused: bool| {
        json!({"id": id, "path": place.play(""), "events": "FAN_CLOSE_WRITE", "options": format!("name={name}"),
            "command": ["-"], "paused": paused})
    };
    let layers = [("state", rule(7, "persisted", true)), ("run", rule(8, "runtime", false))];
    for (dir, rule) in &layers {
        fs::create_dir_all(place.path(dir)).unwrap();
        let file = json!({"version": 1, "next_id": 12, "rules": [rule]});
        fs::write(place.path(&format!("{dir}/rules.json")), file.to_string()).unwrap();
    }
    let mut daemon = place.start();
    let is_gone = |dir: &str| !fs::exists(place.path(&format!("{dir}/rules.json"))).unwrap();
    wait_until("the files to be gone", || is_gone("state") && is_gone("run"));
    for _ in 0..2 {
        let (persisted, runtime) = (place.rule("persisted"), place.rule("runtime"));
        assert_eq!((&persisted["id"], &persisted["source"]), (&7.into(), &"persisted".into()));
        assert_eq!((&persisted["state"], &runtime["state"]), (&"paused".into(), &"active".into()));
        assert_eq!((&runtime["id"], &runtime["source"]), (&8.into(), &"runtime".into()));
        daemon.kill();
        daemon = place.start();
    }
    let added = place.ctl_ok(&["add", &place.play(""), "CREATE", "-"]);
    assert_eq!(added, "added rule 12\n");
}

#[test]
fn a_rule_that_is_not_understood_stays_and_says_why() {
    let place = Place::new();
    fs::create_dir_all(place.path("state")).unwrap();
    let rule = json!({"id": 7, "path": place.play(""), "events": "FAN_CREATE|FAN_DELETE",
        "options": "user=nobody-has-this name", "command": ["touch", "$$"]});
    let file = json!({"version": 1, "next_id": 8, "rules": [rule]});
    fs::write(place.path("state/rules.json"), file.to_string()).unwrap();
    for _ in 0..2 {
        let daemon = place.start();
        daemon.wait_for_log("the saved rule 7");
        let rule = &place.ctl_json(&["list"])[0];
        assert_eq!((&rule["id"], &rule["state"]), (&7.into(), &"failed".into()));
        assert!(rule["reason"].as_str().unwrap().contains("nobody-has-this"), "{rule}");
        assert_eq!((&rule["path"], &rule["events"][1]), (&place.play("").into(), &"FAN_DELETE".into()));
        assert_eq!(place.ctl_json(&["list"]).as_array().unwrap().len(), 1);
        daemon.kill();
    }
    let daemon = place.start();
    place.ctl_ok(&["pause", "7"]);
    place.ctl_ok(&["resume", "7"]);
    place.ctl_ok(&["remove", "7"]);
    daemon.kill();
    let _daemon = place.start();
    assert_eq!(place.ctl_json(&["list"]), json!([]));
}

#[test]
fn rules_do_not_see_the_database_change() {
    let place = Place::new();
    let state = place.path("state");
    fs::create_dir(&state).unwrap();
    place.conf(&format!("{state} CREATE|MODIFY|CLOSE_WRITE|DELETE [self recursive name=state] -\n"));
    let _daemon = place.start();
    place.ctl_ok(&["add", "--persist", &place.play(""), "CREATE", "-"]);
    fs::write(format!("{state}/other"), "x").unwrap();
    place.settle_fired("state", 1);
    assert!(place.status()["events"]["ignored_own"].as_u64() > Some(0), "{}", place.status());
    let mut paths = place.paths_of("state");
    paths.dedup();
    assert_eq!(paths, [format!("{state}/other")]);
}

/// A state directory of one megabyte, and a rule of a file that records.
fn on_a_small_disk() -> (Place, Mount) {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=filed] -\n", place.play("")));
    let disk = Mount::of_type("tmpfs", "size=1m,mode=755", &place.path("state"));
    (place, disk)
}

fn fires(place: &Place, file: &str) {
    let before = place.fired("filed");
    place.write(file);
    wait_until("the rule of a file to fire", || place.fired("filed") > before);
}

#[test]
fn a_full_disk_refuses_promises_and_nothing_else() {
    let (place, _disk) = on_a_small_disk();
    let daemon = place.start();
    let add = |name: &str| {
        let name = format!("name={name}");
        place.ctl(&["add", "--persist", "-o", &name, &place.play(""), "CREATE", "-"])
    };
    assert_eq!(code(&add("before")), 0);
    let rest = place.path("state/rest");
    let filled = fs::write(&rest, vec![0; 2 << 20]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let refused = (0..100).map(|number| add(&format!("full-{number}"))).find(|output| code(output) != 0);
    let why = err(&refused.expect("a disk that is full"));
    assert!(why.contains("facron.db") && why.contains("the rule was not added"), "{why}");
    fires(&place, "full");
    daemon.wait_for_log("what changes waits in memory");
    wait_until("the health to tell", || place.status()["health"].as_str().unwrap().contains("facron.db"));
    fs::remove_file(&rest).unwrap();
    assert_eq!(code(&add("after")), 0);
    daemon.kill();
    let _daemon = place.start();
    assert_eq!(
        (&place.rule("before")["state"], &place.rule("after")["state"]),
        (&"active".into(), &"active".into())
    );
}

#[test]
fn a_read_only_disk_is_read() {
    let (place, _disk) = on_a_small_disk();
    let daemon = place.start();
    place.ctl_ok(&["add", "--persist", "-o", "name=kept", &place.play(""), "CLOSE_WRITE", "-"]);
    daemon.kill();
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", how, &place.path("state")]).status().unwrap().success());
    };
    remount("remount,ro");
    let daemon = place.start();
    daemon.wait_for_log("what changes waits in memory");
    fires(&place, "file");
    wait_until("the kept rule to fire", || place.fired("kept") == 1);
    let refused = place.ctl(&["add", "--persist", &place.play(""), "CREATE", "-"]);
    assert!(code(&refused) == 1 && err(&refused).contains("Read-only"), "{refused:?}");
    assert!(place.status()["health"].as_str().unwrap().contains("facron.db"), "{}", place.status());
    remount("remount,rw");
    daemon.wait_for_log("the state is written again");
    place.ctl_ok(&["add", "--persist", "-o", "name=later", &place.play(""), "CLOSE_WRITE", "-"]);
    assert_eq!(place.status()["health"], "ok");
    daemon.kill();
    let _daemon = place.start();
    assert_eq!(["kept", "later"].map(|rule| place.rule(rule)["state"].clone()), ["active", "active"]);
}

#[test]
fn a_disk_that_is_full_at_the_start_is_used_as_soon_as_there_is_room() {
    let (place, _disk) = on_a_small_disk();
    let dir = place.mkdir("waits");
    place.conf(&format!(
        "{} CLOSE_WRITE [name=filed] -\n{dir} DELETE [name=waits settle=1h] true\n",
        place.play("")
    ));
    let deleted = place.write("waits/file");
    let rest = place.path("state/rest");
    fs::write(&rest, vec![0; 2 << 20]).unwrap_err();
    let daemon = place.start();
    daemon.wait_for_log("what changes waits in memory");
    fires(&place, "full");
    fs::remove_file(deleted).unwrap();
    wait_until("the deletion to be told", || place.fired("waits") == 1);
    let add = || place.ctl(&["add", "--persist", "-o", "name=added", &place.play(""), "CLOSE_WRITE", "-"]);
    let refused = add();
    assert!(code(&refused) == 1 && err(&refused).contains("facron.db"), "{refused:?}");
    fs::remove_file(&rest).unwrap();
    daemon.wait_for_log("the state is written again");
    assert_eq!((code(&add()), &place.status()["health"]), (0, &"ok".into()));
    daemon.kill();
    let daemon = place.start();
    daemon.wait_for_log("waited=1");
    assert_eq!(place.rule("added")["state"], "active");
}
