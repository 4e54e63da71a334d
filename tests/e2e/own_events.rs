//! Events that facron's own commands cause do not fire rules.

use crate::harness::{Daemon, Place, children, wait_until};
use std::fs;

/// The orphan is no command of a rule any more, so the daemon may not wait for it.
fn settle_with_orphans(place: &Place, daemon: &Daemon<'_>) {
    place.settle();
    wait_until("orphans to end", || children(daemon.pid()).is_empty());
    place.settle();
}

#[test]
fn a_rule_whose_command_writes_where_it_watches_does_not_loop() {
    let place = Place::new();
    let dir = place.play("");
    let scripts = [
        // itself, a child, an orphan, and one in a session of its own; those that are
        // not children of facrond live until their event has been read
        "echo x > $1/own",
        "sh -c \"echo x > $1/child; sleep 1\"; true",
        "sh -c \"sleep 0.1; echo x > $1/orphan; sleep 1\" &",
        "setsid --fork --wait sh -c \"echo x > $1/session; sleep 1\"",
    ];
    place.conf(&scripts.map(|script| format!("{dir} CLOSE_WRITE sh -c '{script}' sh $@\n")).concat());
    let daemon = place.start();
    place.write("trigger");
    for made in ["own", "child", "orphan", "session"] {
        wait_until("a command's file", || fs::exists(place.play(made)).unwrap());
    }
    settle_with_orphans(&place, &daemon);
    let status = place.status();
    assert_eq!(status["jobs"]["run"], 4, "{status}");
    assert!(status["events"]["ignored_own"].as_u64().unwrap() >= 16, "{status}");
    // and what others do still fires
    place.write("trigger");
    settle_with_orphans(&place, &daemon);
    assert_eq!(place.status()["jobs"]["run"], 8);
}

#[test]
fn the_daemon_does_not_fire_by_its_own_log_and_state() {
    let place = Place::new();
    let all = place.path("");
    place.conf(&format!(
        "{all} MODIFY|CLOSE_WRITE|CREATE|MOVED_TO [name=all include=log include=*.json*] -\n"
    ));
    let _daemon = place.start_with(&["-v"]);
    place.settle();
    assert_eq!(place.fired("all"), 0);
}
