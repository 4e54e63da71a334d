//! What commands are run with: arguments, tokens, environment.

use crate::harness::{FACRONCTL, Place, code, out};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// `NAME=value` words as a map.
fn variables(words: &[String]) -> BTreeMap<String, String> {
    let split = |word: &String| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    words.iter().filter_map(split).collect()
}

#[test]
fn every_token_is_replaced_within_and_as_a_word() {
    let place = Place::new();
    let records = place.records("records");
    place.conf(&format!(
        "{} CLOSE_WRITE {}\n",
        place.play(""),
        records.command(r"$$ $@ $# $* $% $& <$<> a$$b\$$$ \$$ $1 $HOME ${x} $ 100$"),
    ));
    let _daemon = place.start();
    let path = place.write("file");
    records.wait(1);
    let me = std::process::id().to_string();
    let both = format!("a{path}b$${path}");
    let both = both.replace("b$$", "b$");
    let dir = place.play("");
    let expected = [
        &*path,
        &dir,
        "file",
        &me,
        "FAN_CLOSE_WRITE",
        "8",
        "<>",
        &both,
        "$$",
        "$1",
        "$HOME",
        "${x}",
        "$",
        "100$",
    ];
    assert_eq!(records.texts(), [expected]);
}

#[test]
fn a_rename_has_both_paths_and_a_delete_its_own() {
    let place = Place::new();
    let records = place.records("records");
    place.conf(&format!("{} RENAME|DELETE {}\n", place.play(""), records.command("$% $< $$")));
    let _daemon = place.start();
    let (old, new) = (place.write("old"), place.play("new"));
    fs::rename(&old, &new).unwrap();
    place.settle();
    fs::remove_file(&new).unwrap();
    place.settle();
    assert_eq!(records.texts(), [["FAN_RENAME", &old, &new], ["FAN_DELETE", "", &new]]);
}

#[test]
fn counters_are_global_and_go_from_left_to_right() {
    let place = Place::new();
    let (one, two) = (place.records("one"), place.records("two"));
    let (dir, other) = (place.mkdir("one"), place.mkdir("two"));
    place.conf(&format!(
        "{dir} CLOSE_WRITE {}\n{other} CLOSE_WRITE {}\n",
        one.command("$+ $+ $= $- x$="),
        two.command("$="),
    ));
    let _daemon = place.start();
    place.write("one/a");
    one.wait(1);
    place.write("two/a");
    two.wait(1);
    place.write("one/b");
    one.wait(2);
    assert_eq!(one.texts(), [["1", "2", "2", "1", "x1"], ["2", "3", "3", "2", "x2"]]);
    assert_eq!(two.texts(), [["1"]]);
}

#[test]
fn the_environment_is_clean_and_tells_of_the_event() {
    let place = Place::new();
    let records = place.records("records");
    place.conf(&format!(
        "{} CLOSE_WRITE [name=told env=MORE=x=y] {}\n",
        place.play(""),
        records.state_command()
    ));
    let mut facrond = place.facrond();
    facrond.env("SECRET", "1").env("FACRON_RULE_NAME", "wrong").env("LANG", "C").current_dir(place.play(""));
    let _daemon = place.start_as(facrond);
    let path = place.write("file");
    records.wait(1);
    place.settle();
    let mut state = variables(&records.texts()[0]);
    let mut take = |name: &str| state.remove(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(take("cwd"), place.play(""));
    assert_eq!(take("descriptors"), "0 1 2");
    assert_eq!(take("stdin"), "/dev/null");
    assert_eq!((&*take("leads_group"), &*take("leads_session")), ("true", "true"));
    assert_eq!(take("FACRON_PATH"), path);
    assert_eq!(take("FACRON_DIR"), place.play(""));
    assert_eq!(take("FACRON_NAME"), "file");
    assert_eq!(take("FACRON_OLD_PATH"), "");
    assert_eq!(take("FACRON_EVENTS"), "FAN_CLOSE_WRITE");
    assert_eq!(take("FACRON_MASK"), "8");
    assert_eq!(take("FACRON_PID"), std::process::id().to_string());
    assert_eq!(take("FACRON_RULE_NAME"), "told");
    let record = &place.tail_of("told")[0];
    assert_eq!(take("FACRON_RULE"), record["rule"].to_string());
    assert_eq!(take("FACRON_SEQ"), record["seq"].to_string());
    assert_eq!(take("FACRON_TIME"), record["time"].as_str().unwrap());
    assert_eq!(take("MORE"), "x=y");
    assert_eq!(take("LANG"), "C");
    let rest: Vec<_> = state.into_keys().collect();
    assert_eq!(rest, ["HOME", "LOGNAME", "PATH", "SHELL", "USER"]);
}

#[test]
fn signals_are_neither_blocked_nor_ignored() {
    let place = Place::new();
    let (output, dir) = (place.path("output"), place.play(""));
    place.conf(&format!("{dir} CLOSE_WRITE [output={output}] grep -E ^Sig(Blk|Ign): /proc/self/status\n"));
    let mut ignoring = Command::new("sh");
    ignoring.args(["-c", "trap '' HUP QUIT PIPE USR2; exec \"$@\"", "sh"]);
    let facrond = place.facrond();
    ignoring.arg(facrond.get_program()).args(facrond.get_args());
    let _daemon = place.start_as(ignoring);
    place.write("file");
    place.settle();
    assert_eq!(fs::read_to_string(output).unwrap(), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn a_shells_script_is_passed_as_it_stands_and_check_shows_the_right_way() {
    let place = Place::new();
    let (output, dir) = (place.path("output"), place.play(""));
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=script output={output}] sh -c 'echo $$; echo \"$1\"' sh $#\n"
    ));
    let check = Command::new(FACRONCTL).arg("check").arg(place.path("facron.conf")).output().unwrap();
    assert_eq!(code(&check), 0, "{check:?}");
    let told = out(&check);
    assert!(told.contains("warning") && told.contains(r#"sh -c 'mv -- "$1" /done' sh $$"#), "{told}");
    let daemon = place.start();
    daemon.wait_for_log("is not replaced in a shell's script");
    place.write("file");
    place.settle();
    let lines = fs::read_to_string(&output).unwrap();
    let (pid, name) = lines.trim_end().split_once('\n').unwrap();
    // the shell's own pid
    assert_eq!(pid.parse::<u64>().unwrap(), place.tail_of("script")[0]["outcome"]["pid"].as_u64().unwrap());
    assert_eq!(name, "file");
}

#[test]
fn lines_of_facron_1_1_work_as_they_stand() {
    let place = Place::new();
    let (file, records) = (place.write("file"), place.records("records"));
    place.conf(&format!(
        "# facron 1.1\n\n{file} FAN_MODIFY|FAN_EVENT_ON_CHILD {}\n\
         {} FAN_CLOSE_WRITE|FAN_ONDIR|FAN_EVENT_ON_CHILD {}\n",
        records.command("fromFacron $$"),
        place.mkdir("dir"),
        records.command("seven $$ $@ $# $* $+ $- $="),
    ));
    let daemon = place.start();
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
    fs::write(&file, "more").unwrap();
    records.wait(1);
    place.settle();
    let other = place.write("dir/other");
    place.settle();
    let me = std::process::id().to_string();
    let dir = place.play("dir");
    let texts = records.texts();
    let (last, first) = texts.split_last().unwrap();
    assert!(first.iter().all(|args| *args == ["fromFacron", &file]), "{texts:?}");
    assert_eq!(*last, ["seven", &other, &dir, "other", &me, "1", "0", "0"]);
}

#[test]
fn what_cannot_be_run_is_told() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=broken] {}\n", place.play(""), place.path("no-such-program")));
    let daemon = place.start();
    place.write("file");
    place.settle();
    let failed = place.ctl_ok(&["tail", "--failed"]);
    assert!(failed.contains("no-such-program"), "{failed}");
    daemon.wait_for_log("no-such-program");
    assert_eq!(place.rule("broken")["failed"], 1);
}
