//! The options of rules.

use crate::harness::{Place, wait_until};
use std::fs;

#[test]
fn include_exclude_and_type_choose_the_events() {
    let place = Place::new();
    let dir = place.mkdir("dir");
    let (globs, files, dirs) = (place.records("globs"), place.records("files"), place.records("dirs"));
    place.conf(&format!(
        "{dir} CREATE [include=*.conf include=*.d exclude=secret*] {}\n\
         {dir} CREATE [type=file] {}\n{dir} CREATE [type=dir] {}\n",
        globs.command("$#"),
        files.command("$#"),
        dirs.command("$#"),
    ));
    let _daemon = place.start();
    for name in ["a.conf", "b.txt", "secret.conf", "conf"] {
        place.write(&format!("dir/{name}"));
    }
    place.mkdir("dir/c.d");
    place.settle();
    assert_eq!(globs.firsts(), ["a.conf"], "a directory's events need FAN_ONDIR");
    assert_eq!(files.firsts(), ["a.conf", "b.txt", "conf", "secret.conf"]);
    assert_eq!(dirs.firsts(), ["c.d"]);
}

#[test]
fn once_fires_once_and_is_over() {
    let place = Place::new();
    let (of_file, added) = (place.mkdir("of_file"), place.mkdir("added"));
    let line = format!("{of_file} CLOSE_WRITE [name=of_file once] -\n");
    place.conf(&line);
    let daemon = place.start();
    place.ctl_ok(&["add", "-o", "once name=added", &added, "CLOSE_WRITE", "-"]);
    for number in 0..3 {
        place.write(&format!("of_file/{number}"));
        place.write(&format!("added/{number}"));
    }
    place.settle();
    assert_eq!(place.rule("of_file")["state"], "done");
    assert_eq!(place.fired("of_file"), 1);
    assert_eq!(place.ctl(&["show", "added"]).status.code(), Some(1), "it is removed");

    // its line has not changed, so it stays over
    place.ctl_ok(&["reload"]);
    place.write("of_file/4");
    place.settle();
    assert_eq!((&place.rule("of_file")["state"], place.fired("of_file")), (&"done".into(), 1));
    place.conf(&line.replace("once", "once env=A=b"));
    place.ctl_ok(&["reload"]);
    assert_eq!(place.rule("of_file")["state"], "active");
    place.write("of_file/5");
    wait_until("it to fire again", || place.rule("of_file")["state"] == "done");
    drop(daemon);
}

#[test]
fn cwd_and_env_are_the_commands() {
    let place = Place::new();
    let (dir, elsewhere) = (place.mkdir("dir"), place.mkdir("elsewhere"));
    place.conf(&format!(
        "{dir} CLOSE_WRITE [cwd={elsewhere} env=OUT=result env=LANG=xx] sh -c 'echo \"$LANG $PWD\" > \"$OUT\"'\n"
    ));
    let _daemon = place.start();
    place.write("dir/file");
    place.settle();
    assert_eq!(fs::read_to_string(place.play("elsewhere/result")).unwrap(), format!("xx {elsewhere}\n"));
}

#[test]
fn output_goes_where_the_rule_says() {
    let place = Place::new();
    let (file, dir) = (place.path("output"), place.play(""));
    let say = |what: &str| format!("sh -c 'echo \"{what} $1\"; echo \"{what} error\" >&2' sh $#");
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=to-file output={file}] {}\n{dir} CLOSE_WRITE [output=null] {}\n\
         {dir} CLOSE_WRITE [name=to-log] {}\n",
        say("filed"),
        say("nowhere"),
        say("logged"),
    ));
    let daemon = place.start();
    place.write("one");
    place.settle();
    place.write("two");
    place.settle();
    assert_eq!(fs::read_to_string(&file).unwrap(), "filed one\nfiled error\nfiled two\nfiled error\n");
    let log = daemon.log();
    assert!(!log.contains("filed") && !log.contains("nowhere"), "{log}");
    for line in ["logged one", "logged two", "logged error"] {
        assert!(log.lines().any(|logged| logged.contains(line) && logged.contains("to-log")), "{log}");
    }
    let records = place.tail_of("to-log");
    assert_eq!(records[0]["outcome"]["output"], "logged one\nlogged error");
}

#[test]
fn a_rule_without_command_records() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=only] -\n", place.play("")));
    let _daemon = place.start();
    let path = place.write("file");
    place.settle();
    let records = place.tail_of("only");
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["path"], &records[0]["outcome"]["state"]), (&path.into(), &"recorded".into()));
    assert_eq!(place.status()["jobs"]["run"], 0);
}

#[test]
fn jobs_limits_the_commands_of_a_rule_and_one_path_keeps_its_order() {
    let place = Place::new();
    let dir = place.mkdir("in");
    let (marks, records) = (place.mkdir("marks"), place.records("records"));
    // says how many are running beside it
    let script = "mkdir \"$1/$$\"; ls \"$1\" | wc -l >> \"$2\"; sleep 0.05; rmdir \"$1/$$\"";
    place.conf(&format!(
        "{dir} CLOSE_WRITE [jobs=2 exclude=same] sh -c '{script}' sh {marks} {0}\n\
         {dir} CLOSE_WRITE [include=same] sh -c 'sleep 0.0$2; exec {1}' sh $$ $+\n",
        place.path("beside"),
        records.command("$FACRON_SEQ"),
    ));
    let _daemon = place.start();
    for number in 0..10 {
        place.write(&format!("in/{number}"));
    }
    for _ in 0..5 {
        place.write("in/same");
    }
    place.settle();
    let beside = fs::read_to_string(place.path("beside")).unwrap();
    let most = beside.lines().map(|line| line.trim().parse::<u32>().unwrap()).max();
    assert_eq!((beside.lines().count(), most), (10, Some(2)), "{beside}");
    let order: Vec<u64> = records.texts().iter().map(|args| args[0].parse().unwrap()).collect();
    assert!(!order.is_empty() && order.is_sorted(), "{order:?}");
}
