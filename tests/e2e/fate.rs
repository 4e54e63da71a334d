//! `done=` and `failed=`: what becomes of files when their command has ended.

mod kills;
mod places;
mod rules;

use crate::harness::{Place, wait_until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The names of the files in a directory, sorted; there may be none, and no directory.
fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    let mut names: Vec<_> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The same with their content.
fn files(dir: &str) -> BTreeMap<String, String> {
    let content = |name: &String| fs::read_to_string(format!("{dir}/{name}")).unwrap();
    names(dir).into_iter().map(|name| (name.clone(), content(&name))).collect()
}

fn write(path: &str, text: &str) {
    fs::write(path, text).unwrap();
}

/// What stands beside a failed file.
fn reason(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(format!("{path}.facron")).unwrap()).unwrap()
}

/// The one outcome of a rule.
#[track_caller]
fn outcome(place: &Place, rule: &str) -> Value {
    let records = place.tail_of(rule);
    assert_eq!(records.len(), 1, "{records:?}");
    records[0]["outcome"].clone()
}

/// A rule on `in` whose command fails for names that begin with `bad`, and without a file.
fn drop_folder(place: &Place, options: &str) -> [String; 3] {
    let dirs = [place.mkdir("in"), place.play("done"), place.play("failed")];
    let [within, done, failed] = &dirs;
    let script = "[ -e $1 -o -L $1 ] || exit 4; case $1 in */bad*) echo no good; exit 3;; esac";
    place.conf(&format!(
        "{within} ARRIVED [name=drop done={done} failed={failed} {options}] sh -c '{script}' sh $$\n"
    ));
    dirs
}

#[test]
fn files_go_where_their_commands_say() {
    let place = Place::new();
    let [within, done, failed] = drop_folder(&place, "retry=1");
    let _daemon = place.start();
    write(&format!("{within}/good"), "good");
    write(&format!("{within}/bad"), "bad");
    place.settle();
    assert_eq!(names(&within), [""; 0]);
    assert_eq!(files(&done), BTreeMap::from([("good".to_owned(), "good".to_owned())]));
    assert_eq!(names(&failed), ["bad", "bad.facron"]);
    let reason = reason(&format!("{failed}/bad"));
    assert_eq!(
        json!([
            reason["rule_name"],
            reason["path"],
            reason["tries"],
            reason["outcome"]["exit"],
            reason["outcome"]["output"]
        ]),
        json!(["drop", format!("{within}/bad"), 2, 3, "no good"])
    );
    let status = place.status();
    assert_eq!(
        (&status["jobs"]["run"], &status["jobs"]["failed"], &place.rule("drop")["failed"]),
        (&json!(2), &json!(1), &json!(1))
    );
}

/// It is no failure of the file, and the next daemon's command takes it in.
#[test]
fn a_file_whose_command_the_daemons_end_stops_stays_for_the_next() {
    let place = Place::new();
    let (within, done, failed) = (place.mkdir("in"), place.play("done"), place.play("failed"));
    let (began, go) = (place.play("began"), place.play("go"));
    let script = format!("[ -e {go} ] && exit 0; echo >{began}; exec sleep 3600");
    place.conf(&format!("{within} ARRIVED [name=drop done={done} failed={failed}] sh -c '{script}'\n"));
    let daemon = place.start();
    write(&format!("{within}/file"), "content");
    wait_until("the command", || fs::exists(&began).unwrap());
    daemon.stop();
    assert_eq!((names(&within), names(&failed)), (vec!["file".to_owned()], vec![]));

    write(&go, "");
    let _daemon = place.start();
    wait_until("the file", || files(&done) == BTreeMap::from([("file".to_owned(), "content".to_owned())]));
    place.settle();
    assert_eq!((names(&within), names(&failed)), (vec![], vec![]));
}

#[test]
fn done_files_can_be_removed() {
    let place = Place::new();
    let within = place.mkdir("in");
    let ran = place.records("ran");
    place.conf(&format!("{within} ARRIVED [recursive name=drop done=delete] {}\n", ran.command("$#")));
    let _daemon = place.start();
    fs::create_dir(format!("{within}/dir")).unwrap();
    for name in ["a", "dir/b"] {
        write(&format!("{within}/{name}"), name);
    }
    place.settle();
    assert_eq!(ran.firsts(), ["a", "b"]);
    assert_eq!((names(&within), names(&format!("{within}/dir"))), (vec![], vec![]));
    assert!(Path::new(&format!("{within}/dir")).is_dir());
}

#[test]
fn no_file_is_put_over_another() {
    let place = Place::new();
    let [within, done, failed] = drop_folder(&place, "");
    let _daemon = place.start();
    for dir in [&done, &failed] {
        fs::create_dir(dir).unwrap();
    }
    write(&format!("{failed}/bad.1.facron"), "somebody else's");
    for round in ["0", "1", "2"] {
        for name in ["good", "bad"] {
            write(&format!("{within}/{name}"), round);
        }
        place.settle();
    }
    let expected = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    assert_eq!(files(&done), expected(&[("good", "0"), ("good.1", "1"), ("good.2", "2")]));
    let mut left = files(&failed);
    left.retain(|name, text| !name.ends_with(".facron") || text.starts_with("somebody"));
    let of_others = ("bad.1.facron", "somebody else's");
    assert_eq!(left, expected(&[("bad", "0"), ("bad.2", "1"), ("bad.3", "2"), of_others]));
    for name in ["bad", "bad.2", "bad.3"] {
        assert_eq!(reason(&format!("{failed}/{name}"))["outcome"]["exit"], 3);
    }
}

#[test]
fn a_file_that_changes_while_its_command_runs_waits_for_the_next_run() {
    let place = Place::new();
    let (within, done, go) = (place.mkdir("in"), place.play("done"), place.path("go"));
    let starts = place.path("starts");
    let script = format!("cat $1 >> {starts}; while ! [ -e {go} ]; do sleep 0.01; done");
    place.conf(&format!("{within} ARRIVED [name=drop done={done}] sh -c '{script}' sh $$\n"));
    let _daemon = place.start();
    let path = format!("{within}/file");
    write(&path, "old ");
    wait_until("the command to run", || fs::read_to_string(&starts).is_ok_and(|text| text == "old "));
    write(&path, "new ");
    write(&go, "");
    place.settle();
    assert_eq!(fs::read_to_string(&starts).unwrap(), "old new ");
    assert_eq!((files(&done).remove("file").as_deref(), names(&within).len()), (Some("new "), 0));
    let records = place.tail_of("drop");
    let why = records[0]["outcome"]["error"].as_str().unwrap_or_default();
    assert!(why.contains("has changed since the command began"), "{records:?}");
    let states: Vec<_> = records.iter().map(|record| &record["outcome"]["state"]).collect();
    assert_eq!(states, ["exited", "exited", "skipped"], "{records:?}");
    assert_eq!(place.status()["jobs"]["failed"], 0);
}

/// No event of the rule tells of a changed mode. And who writes to a file may close it later.
#[test]
fn a_change_without_an_event_is_seen_and_who_still_writes_is_not_hurried() {
    let place = Place::new();
    let (within, done, go) = (place.mkdir("in"), place.play("done"), place.path("go"));
    let starts = place.path("starts");
    let script = format!("echo $1 >> {starts}; while ! [ -e {go} ]; do sleep 0.01; done");
    place.conf(&format!("{within} ARRIVED [name=drop done={done}] sh -c '{script}' sh $#\n"));
    let _daemon = place.start();
    for name in ["changed", "growing"] {
        write(&format!("{within}/{name}"), "");
    }
    let started = || fs::read_to_string(&starts).unwrap_or_default();
    wait_until("the commands to run", || started().lines().count() == 2);
    crate::harness::run(&["chmod", "600", &format!("{within}/changed")]);
    let mut growing = fs::OpenOptions::new().append(true).open(format!("{within}/growing")).unwrap();
    std::io::Write::write_all(&mut growing, b"half").unwrap();
    write(&go, "");
    place.settle();
    assert_eq!((names(&done), names(&within)), (vec!["changed".to_owned()], vec!["growing".to_owned()]));
    drop(growing);
    place.settle();
    assert_eq!((names(&done).len(), names(&within).len()), (2, 0));
    let mut runs: Vec<_> = started().lines().map(str::to_owned).collect();
    runs.sort();
    assert_eq!(runs, ["changed", "changed", "growing", "growing"]);
}

/// A command that changes its own file would do so each time.
#[test]
fn a_command_that_changes_its_file_runs_once_more_and_no_oftener() {
    let place = Place::new();
    let (within, done) = (place.mkdir("in"), place.play("done"));
    place.conf(&format!("{within} ARRIVED [name=drop done={done}] sh -c 'echo >> \"$1\"' sh $$\n"));
    let _daemon = place.start();
    write(&format!("{within}/file"), "");
    place.settle();
    assert_eq!(
        (fs::read_to_string(format!("{within}/file")).unwrap(), names(&done).len()),
        ("\n\n".to_owned(), 0)
    );
    assert_eq!(place.tail_of("drop").len(), 2);
}

/// A command may move its file itself, and of two events the first run may have moved it.
#[test]
fn what_is_gone_is_gone() {
    let place = Place::new();
    let [within, done, failed] = drop_folder(&place, "jobs=1");
    let taken = place.mkdir("taken");
    let own = place.mkdir("own");
    let _daemon = place.start();
    let options = format!("name=own done={done} failed={failed}");
    place.ctl_ok(&["add", "-o", &options, &own, "ARRIVED", "mv", "$$", &taken]);
    write(&format!("{own}/file"), "file");
    place.settle();
    assert_eq!(
        (names(&taken), outcome(&place, "own")["state"].as_str()),
        (vec!["file".to_owned()], Some("exited"))
    );
    let path = format!("{within}/good");
    // One after the other: the kernel makes one event of two that nobody has read.
    for count in 1..=20 {
        write(&path, "good");
        wait_until("the event", || place.fired("drop") >= count);
    }
    place.settle();
    assert_eq!(names(&within).len(), 0);
    let records = place.tail_of("drop");
    let count = |state: &str| records.iter().filter(|record| record["outcome"]["state"] == state).count();
    assert!(count("exited") + count("skipped") == records.len() && records.len() >= 20, "{records:?}");
    assert_eq!((names(&failed).len(), place.rule("drop")["failed"].as_u64()), (0, Some(0)));
}

#[test]
fn each_path_of_a_batch_has_its_own_fate() {
    let place = Place::new();
    let [within, done, failed] = drop_folder(&place, "batch=300ms");
    let _daemon = place.start();
    fs::create_dir(&done).unwrap();
    write(&format!("{done}/good-1"), "there before");
    for name in ["good-0", "good-1", "good-2"] {
        write(&format!("{within}/{name}"), name);
    }
    place.settle();
    assert_eq!(names(&done), ["good-0", "good-1", "good-1.1", "good-2"]);
    for name in ["bad-0", "bad-1"] {
        write(&format!("{within}/{name}"), name);
    }
    place.settle();
    assert_eq!(names(&failed), ["bad-0", "bad-0.facron", "bad-1", "bad-1.facron"]);
    assert_eq!(reason(&format!("{failed}/bad-1"))["path"], format!("{within}/bad-1"));
    assert_eq!(names(&within).len(), 0);
}

/// What a job has to know of its files is bounded, whatever a user brings.
#[test]
fn a_batch_of_many_files_is_several_runs() {
    let place = Place::new();
    let (within, done) = (place.mkdir("in"), place.play("done"));
    place.conf(&format!("{within} ARRIVED [name=drop batch=1s done={done}] true\n"));
    let _daemon = place.start();
    for index in 0..1100 {
        write(&format!("{within}/{index}"), "");
    }
    place.settle();
    assert_eq!((names(&within).len(), names(&done).len()), (0, 1100));
    let sizes: Vec<_> =
        place.tail_of("drop").iter().map(|record| record["merged"].as_u64().unwrap() + 1).collect();
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
}
