//! No loops: what facron and its commands cause fires no rule, however far from them it
//! is done.

use crate::harness::{Daemon, FACROND, Load, Place, as_stranger, children, give, wait_until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

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

/// Writes directly, 500 times through a shell, after a double fork in a session of
/// its own, and from a job that outlives its parent.
const EVERYWAY: &str = r#"#!/bin/sh
touch "$1/direct"
i=0
while [ $i -lt 500 ]; do sh -c "touch $1/shell$i; true"; i=$((i+1)); done
setsid sh -c "(sh -c 'touch $1/double; true' &) &"
sh -c "sleep 0.5; touch $1/late; sh -c 'touch $1/later; true'" >/dev/null 2>&1 &
exit 0
"#;

fn run_script(place: &Place, name: &str, text: &str) -> String {
    let path = place.path(name);
    // By another process: no descriptor of ours keeps it busy.
    let script = r#"printf '%s' "$1" > "$2" && chmod 755 "$2""#;
    assert!(Command::new("sh").args(["-c", script, "sh", text, &path]).status().unwrap().success());
    path
}

#[test]
fn nothing_that_descends_from_a_command_fires_and_all_else_does() {
    let _load = [Load::start(), Load::start()];
    let place = Place::new();
    let (dir, trigger) = (place.mkdir("in"), place.mkdir("trigger"));
    let command = run_script(&place, "everyway", EVERYWAY);
    place.conf(&format!(
        "{trigger} CLOSE_WRITE {command} {dir}\n{dir} CLOSE_WRITE [name=in] -\n{dir} CLOSE_WRITE {command} {dir}\n"
    ));
    let daemon = place.start();
    assert_eq!(place.status()["own_events"], "perf");
    for round in 1..=3 {
        place.write(&format!("trigger/{round}"));
        wait_until("the last of it", || fs::exists(place.play("in/later")).unwrap());
        wait_until("all to end", || children(daemon.pid()).is_empty());
        place.settle();
        assert_eq!(place.fired("in"), 0, "{:?}", place.tail_of("in"));
        fs::remove_file(place.play("in/later")).unwrap();
    }
    // twice each, since two rules look at them
    let ignored = place.status()["events"]["ignored_own"].as_u64().unwrap();
    assert!(ignored >= 3 * 504, "{ignored}");
    place.conf(&format!("{dir} CLOSE_WRITE [name=in] -\n"));
    place.ctl_ok(&["reload"]);
    for number in 0..500 {
        fs::write(place.play(&format!("in/foreign{number}")), "").unwrap();
    }
    place.settle();
    assert_eq!(place.fired("in"), 500);
}

#[test]
fn commands_of_another_user_are_known_as_well() {
    let place = Place::new();
    let dir = place.mkdir("in");
    give(&dir);
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=in user=nobody] sh -c 'sh -c \"touch {dir}/own; true\"; true'\n"
    ));
    let daemon = place.start();
    place.write("in/foreign");
    wait_until("its file", || fs::exists(place.play("in/own")).unwrap());
    wait_until("it to end", || children(daemon.pid()).is_empty());
    place.settle();
    assert_eq!(place.fired("in"), 1);
}

#[test]
fn self_fires() {
    let place = Place::new();
    let dir = place.play("");
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=all self jobs=1] sh -c '[ -e {dir}/3 ] || echo > {dir}/$(ls {dir} | wc -l)'\n"
    ));
    let _daemon = place.start();
    place.write("file");
    wait_until("its own events to fire it", || place.fired("all") == 4);
}

#[test]
fn a_probable_loop_is_told() {
    let place = Place::new();
    let file = place.write("file");
    place.conf(&format!("{file} ATTRIB [name=hot] -\n"));
    let daemon = place.start();
    let deadline = Instant::now() + Duration::from_secs(20);
    while place.rule("hot")["reason"].is_null() {
        assert!(Instant::now() < deadline, "{}", place.rule("hot"));
        let round = Instant::now();
        while round.elapsed() < Duration::from_millis(1500) {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            // What the daemon has not read yet is merged by the kernel.
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    assert!(place.rule("hot")["reason"].as_str().unwrap().contains("loop"));
    daemon.wait_for_log("probably a loop");
    assert_eq!(daemon.log().matches("probably a loop").count(), 1);
}

#[test]
fn as_an_ordinary_user_echoes_are_slowed_down_and_nobody_elses_event_is_lost() {
    let place = Place::new();
    let dir = place.mkdir("in");
    for path in [&dir, &place.write("in/file"), &place.path("")] {
        give(path);
    }
    place.conf(&format!("{dir} CLOSE_WRITE [name=echo] sh -c 'echo run >> {dir}/file'\n"));
    let mut command = as_stranger(place.for_all(FACROND));
    command.args(place.options());
    let daemon = place.start_as(command);
    assert_eq!(place.status()["own_events"], "behaviour");
    let file = place.play("in/file");
    let runs = || fs::read_to_string(&file).unwrap_or_default().matches("run\n").count();
    let started = Instant::now();
    let foreign = 10;
    for number in 1..=foreign {
        let before = runs();
        fs::OpenOptions::new().append(true).create(true).open(&file).unwrap();
        wait_until("a run for it", || runs() > before);
        std::thread::sleep((Duration::from_millis(700) * number).saturating_sub(started.elapsed()));
    }
    let echoes = runs() - foreign as usize;
    assert!((1..=6).contains(&echoes), "{echoes} echoes in {:?}", started.elapsed());
    assert!(place.rule("echo")["reason"].as_str().unwrap().contains("its own events"));
    assert!(place.ctl_ok(&["list"]).contains("its own events"));
    daemon.wait_for_log("its own events");
}
