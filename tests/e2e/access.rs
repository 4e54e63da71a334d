//! Who may use the socket, and how much of it.

use crate::harness::{
    FACRONCTL, FACROND, MEMBER_GROUP, Place, as_member, as_stranger, code, err, give, out, with_facron_group,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};

/// A place with a daemon's configuration for two users without rights.
fn place() -> Place {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=rule] -\n", place.play("")));
    place
}

fn ctl(place: &Place, user: fn(String) -> Command, args: &[&str]) -> Output {
    let mut ctl = user(place.for_all(FACRONCTL));
    ctl.args(["--socket", &place.path("control.sock")]).args(args).output().unwrap()
}

const READING: [&[&str]; 5] =
    [&["list"], &["show", "rule"], &["tail"], &["status"], &["explain", "/tmp", "FAN_OPEN"]];
const CHANGING: [&[&str]; 5] = [
    &["add", "/tmp", "OPEN", "true"],
    &["remove", "rule"],
    &["pause", "rule"],
    &["resume", "rule"],
    &["reload"],
];

#[test]
fn a_stranger_is_refused() {
    let place = place();
    let _daemon = place.start_as(with_facron_group(&place, &place.facrond()));
    for args in READING.into_iter().chain(CHANGING) {
        let output = ctl(&place, as_stranger, args);
        assert_eq!(code(&output), 77, "{args:?}: {output:?}");
        assert_eq!(out(&output), "");
        let told = err(&output);
        assert!(told.contains("permission denied") && told.contains("group facron"), "{told}");
    }
}

#[test]
fn a_member_of_the_group_may_read_and_not_change() {
    let place = place();
    let _daemon = place.start_as(with_facron_group(&place, &place.facrond()));
    let socket = fs::metadata(place.path("control.sock")).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.uid(), socket.gid()), (0o660, 0, MEMBER_GROUP));
    for args in READING {
        let output = ctl(&place, as_member, args);
        assert_eq!(code(&output), 0, "{args:?}: {output:?}");
    }
    for args in CHANGING {
        let output = ctl(&place, as_member, args);
        assert_eq!(code(&output), 77, "{args:?}: {output:?}");
        assert!(err(&output).contains("may only read"), "{output:?}");
    }
    let rules = place.ctl_json(&["list"]);
    assert_eq!((rules.as_array().unwrap().len(), &rules[0]["state"]), (1, &"active".into()));
}

#[test]
fn without_the_group_only_root_may() {
    let place = place();
    let _daemon = place.start();
    let socket = fs::metadata(place.path("control.sock")).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.uid()), (0o660, 0));
    assert_eq!(code(&ctl(&place, as_member, &["list"])), 77);
    assert_eq!(place.ctl_json(&["list"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_users_own_daemon_is_the_users_and_roots() {
    let place = place();
    give(&place.path(""));
    give(&place.play(""));
    let mut command = as_stranger(place.for_all(FACROND));
    command.args(place.options());
    let daemon = place.start_as(command);
    assert!(daemon.log().contains("ordinary user"), "{}", daemon.log());
    let status = place.status();
    assert!(status["health"].as_str().unwrap().contains("ordinary user"), "{status}");
    assert_eq!(
        code(&ctl(&place, as_stranger, &["add", "-o", "name=mine", &place.play("mine"), "ARRIVED", "-"])),
        0
    );
    place.write("file");
    place.write("mine");
    place.settle();
    assert_eq!((place.fired("rule"), place.fired("mine")), (2, 1));
}
