//! Where permission events are refused, and what is left alone.

use super::{Opened, open, with_rules};
use crate::harness::{Mount, Place, code, err, out};
use std::fs;

#[test]
fn rules_that_could_hold_the_machine_are_refused() {
    with_rules(
        |_| String::new(),
        |place, daemon| {
            let program = fs::canonicalize(crate::harness::FACROND).unwrap();
            let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).unwrap();
            let library =
                maps.lines().find_map(|line| line.find("/usr").or(line.find("/lib")).map(|at| &line[at..]));
            let link = place.play("link");
            std::os::unix::fs::symlink("/usr", &link).unwrap();
            let (conf, state) = (place.path("facron.conf"), place.path("state"));
            for (path, why) in [
                ("/", "all programs need"),
                ("/usr", "all programs need"),
                ("/proc/1", "/proc"),
                ("/dev", "devices"),
                ("/run/systemd", "sockets"),
                ("/var/log/journal", "journal"),
                (conf.as_str(), "own"),
                (state.as_str(), "own"),
                (program.to_str().unwrap(), "own"),
                (library.unwrap_or("/usr/lib"), ""),
                (link.as_str(), "all programs need"),
            ] {
                for options in ["verdict=deny", "verdict=deny recursive"] {
                    let output = place.ctl(&["add", "-o", options, path, "OPEN_PERM", "-"]);
                    assert_eq!(code(&output), 1, "{path}: {output:?}");
                    assert!(err(&output).contains(why), "{path}: {}", err(&output));
                }
            }
            assert_eq!(place.ctl_json(&["list"]).as_array().unwrap().len(), 0);
        },
    );
}

#[test]
fn the_check_knows_them_too() {
    let place = Place::new();
    place.conf("/usr OPEN_PERM [verdict=deny] -\n/var OPEN_PERM [recursive verdict=allow] -\n/srv OPEN_PERM|CREATE x\n");
    let output = place.facrond_check();
    assert_eq!(code(&output), 1);
    let text = out(&output);
    for part in ["all programs need", "leaves `/var/log/journal` out", "make two rules of it"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_facron_needs_is_left_alone_in_a_tree_above_it() {
    let rules = |place: &Place| {
        place.mkdir("sub");
        place.write("sub/file");
        format!("{} OPEN_PERM [recursive verdict=deny name=all] -\n", place.path("").trim_end_matches('/'))
    };
    with_rules(rules, |place, _| {
        assert_eq!(open(&place.play("sub/file")), Opened::Denied);
        assert_eq!(open(&place.path("facron.conf")), Opened::Yes);
        fs::write(place.path("state/other"), "").unwrap();
        place.ctl_ok(&["reload"]);
        assert_eq!(place.rule("all")["state"], "active");
    });
}

/// What is mounted from elsewhere is the same thing under another name.
#[test]
fn what_facron_needs_is_left_alone_under_any_name() {
    with_rules(
        |_| String::new(),
        |place, _| {
            let bind = |from: &str, to: &str| Mount::by(&["mount", "--bind", from, to], to);
            let (run, own) = (place.path("run"), place.path("facron.conf"));
            // The first one makes the directory.
            place.ctl_ok(&["add", &place.play(""), "DELETE", "-"]);
            let _mount = bind(&run, &place.mkdir("jail/run"));
            let _other = bind(&place.mkdir("other"), &place.mkdir("jail/other"));
            place.write("other/file");
            place.ctl_ok(&["add", "-o", "verdict=deny recursive", &place.play("jail"), "OPEN_PERM", "-"]);
            fs::write(place.path("run/file"), "x").unwrap();
            assert_eq!(open(&place.path("run/file")), Opened::Yes);
            assert_eq!(open(&place.play("jail/run/file")), Opened::Yes);
            assert_eq!(open(&place.play("other/file")), Opened::Denied);
            let later = bind(&run, &place.mkdir("jail/later"));
            place.settle();
            assert_eq!(open(&place.path("run/file")), Opened::Yes);
            drop(later);

            fs::write(place.play("name"), "").unwrap();
            let _file = bind(&own, &place.play("name"));
            for path in [place.play("jail/run"), place.play("name")] {
                let output = place.ctl(&["add", "-o", "verdict=deny", &path, "OPEN_PERM", "-"]);
                assert_eq!(code(&output), 1, "{path}: {output:?}");
                assert!(err(&output).contains("facron's own"), "{path}: {}", err(&output));
            }
        },
    );
}
