//! `uid=` and `exe=`: rules for the events of some users or programs only.

use crate::harness::{Load, Place, STRANGER, as_stranger, code, err};
use std::fs;
use std::process::{Command, Stdio};
use std::thread;

fn run(mut command: Command, script: &str) {
    assert!(command.args(["-c", script]).stdin(Stdio::null()).status().unwrap().success(), "{script}");
}

#[test]
fn events_of_one_user_however_short_lived_its_processes_are() {
    let place = Place::new();
    let dir = place.mkdir_for_all("dir");
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=root uid=root] -\n\
         {dir} CLOSE_WRITE [name=stranger uid={STRANGER}] -\n\
         {dir} CLOSE_WRITE [name=others uid=!0] -\n\
         {dir} CLOSE_WRITE [name=nobody uid=12345] -\n"
    ));
    let _daemon = place.start();
    let _load = Load::start();
    for number in 0..50 {
        run(Command::new("sh"), &format!("echo > {dir}/root.{number}"));
        run(as_stranger("sh"), &format!("echo > {dir}/stranger.{number}"));
    }
    place.settle();
    let fired = ["root", "stranger", "others", "nobody"].map(|rule| place.fired(rule));
    assert_eq!(fired, [50, 50, 50, 0]);
    let users = place.tail_of("stranger").into_iter().map(|record| record["uid"].clone());
    assert!(users.into_iter().all(|uid| uid == STRANGER));
}

#[test]
fn events_of_one_program_however_short_lived_its_processes_are() {
    let place = Place::new();
    let dir = place.mkdir("dir");
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let shell_name = shell.file_name().unwrap().to_str().unwrap();
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=touch exe=touch] -\n\
         {dir} CLOSE_WRITE [name=path exe={}] -\n\
         {dir} CLOSE_WRITE [name=not exe=!{shell_name}] -\n\
         {dir} CLOSE_WRITE [name=both exe=/usr/bin/* uid=0] -\n\
         {dir} CLOSE_WRITE [name=none exe=/no/such/*] -\n",
        shell.display(),
    ));
    let _daemon = place.start();
    let _load = Load::start();
    thread::scope(|scope| {
        scope.spawn(|| (0..50).for_each(|n| run(Command::new("sh"), &format!("echo > {dir}/sh.{n}"))));
        scope.spawn(|| {
            for number in 0..50 {
                let touched = Command::new("touch").arg(format!("{dir}/touch.{number}")).status();
                assert!(touched.unwrap().success());
            }
        });
    });
    place.settle();
    let fired = ["touch", "path", "not", "both", "none"].map(|rule| place.fired(rule));
    assert_eq!(fired, [50, 50, 50, 100, 0]);
}

#[test]
fn a_rule_that_asks_can_come_and_go() {
    let place = Place::new();
    let dir = place.mkdir("dir");
    place.conf("");
    let _daemon = place.start();
    for round in 1..=3 {
        place.ctl_ok(&["add", "-o", "name=asks uid=0 exe=!touch", &dir, "CREATE", "-"]);
        run(Command::new("sh"), &format!("echo > {dir}/sh.{round}; touch {dir}/touch.{round}"));
        place.settle();
        assert_eq!(place.fired("asks"), 1);
        place.ctl_ok(&["remove", "asks"]);
    }
}

#[test]
fn who_is_not_there_cannot_be_asked_for() {
    let place = Place::new();
    let dir = place.mkdir("dir");
    place.conf("");
    let _daemon = place.start();
    let refused = place.ctl(&["add", "-o", "uid=no-such-user", &dir, "CREATE", "-"]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("there is no user `no-such-user`"), "{}", err(&refused));
}
