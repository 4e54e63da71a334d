//! File names are bytes: one argument each, never code, never raw on a terminal.

use crate::harness::{Place, awkward_names, out};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

fn path_of(place: &Place, name: &[u8]) -> PathBuf {
    Path::new(&place.play("")).join(OsStr::from_bytes(name))
}

/// Bytes as they travel in JSON.
fn bytes(text: &Value) -> Vec<u8> {
    serde_json::from_value::<facron_proto::Text>(text.clone()).unwrap().0
}

/// No control character but the newline at the end of a line, and nothing that is not seen.
#[track_caller]
fn assert_harmless(text: &str) {
    let hidden = ['\u{ad}', '\u{61c}', '\u{202e}', '\u{2060}', '\u{e0041}', '\u{e000}'];
    let harmful = |c: char| (c.is_control() && c != '\n') || hidden.contains(&c);
    assert!(!text.contains(harmful), "{text:?}");
}

#[test]
fn any_name_is_one_argument_byte_for_byte() {
    let place = Place::new();
    let records = place.records("records");
    place.conf(&format!(
        "{0} CLOSE_WRITE [cwd={0}] {1}\n",
        place.play(""),
        records.command("$$ $# --name=$# $@ end")
    ));
    let _daemon = place.start();
    let names = awkward_names();
    for name in &names {
        fs::write(path_of(&place, name), "").unwrap();
    }
    records.wait(names.len());
    place.settle();
    let expected = |name: &Vec<u8>| {
        let path = path_of(&place, name).as_os_str().as_bytes().to_vec();
        let option = [b"--name=", name.as_slice()].concat();
        vec![path, name.clone(), option, place.play("").into_bytes(), b"end".to_vec()]
    };
    let mut expected: Vec<_> = names.iter().map(expected).collect();
    let mut found: Vec<_> = records.all().into_iter().map(|record| record.args).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert!(!path_of(&place, b"x").exists(), "a name was executed");
}

#[test]
fn a_script_gets_any_name_as_an_argument_and_in_its_environment() {
    let place = Place::new();
    let dir = place.play("");
    let copies = place.mkdir("../copies");
    place.conf(&format!(
        "{dir} CLOSE_WRITE [cwd={dir} env=TO={copies}] sh -c 'cp -- \"$1\" \"$TO/$FACRON_NAME\"' sh $$\n"
    ));
    let _daemon = place.start();
    let names = awkward_names();
    for name in &names {
        fs::write(path_of(&place, name), name).unwrap();
    }
    place.settle();
    for name in &names {
        let copy = Path::new(&copies).join(OsStr::from_bytes(name));
        assert_eq!(fs::read(&copy).unwrap(), *name, "{copy:?}");
    }
    assert!(!path_of(&place, b"x").exists(), "a name was executed");
}

#[test]
fn any_name_is_shown_escaped() {
    let place = Place::new();
    // a command that fails is logged with its path
    place.conf(&format!(
        "{} CLOSE_WRITE [name=fails] sh -c 'printf \"%s\\n\" \"$1\"; false' sh $#\n",
        place.play("")
    ));
    let daemon = place.start_with(&["-v"]);
    let names = awkward_names();
    for name in &names {
        fs::write(path_of(&place, name), "").unwrap();
    }
    place.settle();

    let log = String::from_utf8(daemon.raw_log()).expect("the log is UTF-8");
    assert_harmless(&log);
    let tail = place.ctl_ok(&["tail", "-n", "100", "--rule", "fails"]);
    assert_harmless(&tail);
    assert_eq!(tail.lines().count(), names.len(), "{tail}");
    // as a shell would take them
    for shown in
        [r"new\nline'", r"tab\tand\015return'", r"not UTF-8 \377\376\200'", r"escape \033[31mred\007'"]
    {
        assert!(tail.contains(shown), "{shown} in {tail}");
    }
    for shown in [r"new\nline", r"tab\tand\rreturn", r"not UTF-8 \xff\xfe\x80", r"escape \u{1b}[31mred\u{7}"]
    {
        assert!(log.contains(&format!("path={}/{shown}", place.play(""))), "{shown} in {log}");
    }

    let output = place.ctl(&["--json", "tail", "-n", "100", "--rule", "fails"]);
    let json = out(&output);
    assert_harmless(&json);
    let mut paths: Vec<_> =
        json.lines().map(|line| bytes(&serde_json::from_str::<Value>(line).unwrap()["path"])).collect();
    let mut expected: Vec<_> =
        names.iter().map(|name| path_of(&place, name).as_os_str().as_bytes().to_vec()).collect();
    paths.sort();
    expected.sort();
    assert_eq!(paths, expected);
}

#[test]
fn a_rule_of_any_name_can_be_added_and_survives_a_restart() {
    let place = Place::new();
    let mut daemon = place.start();
    let mut names = awkward_names();
    // lines are what rules are made of
    names.retain(|name| !name.contains(&b'\n'));
    for name in &names {
        let mut add = place.facronctl();
        add.args(["add", "--persist", "--"]).arg(path_of(&place, name)).args(["CLOSE_WRITE", "-"]);
        let output = add.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    for restart in 0..2 {
        for name in &names {
            fs::write(path_of(&place, name), "").unwrap();
        }
        place.settle();
        let list = place.ctl_json(&["list"]);
        let rules = list.as_array().unwrap();
        assert_eq!(rules.len(), names.len());
        for (rule, name) in rules.iter().zip(&names) {
            assert_eq!(bytes(&rule["path"]), path_of(&place, name).as_os_str().as_bytes());
            assert_eq!(rule["fired"], 1, "restarted {restart} times: {rule}");
        }
        assert_harmless(&place.ctl_ok(&["list"]));
        assert_harmless(&place.ctl_ok(&["--json", "list"]));
        assert_harmless(&place.ctl_ok(&["show", "1"]));
        daemon.kill();
        daemon = place.start();
    }
}
