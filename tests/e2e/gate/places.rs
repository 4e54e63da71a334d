//! Where permission events are refused, and what is left alone.

use super::{Opened, open, with_rules};
use crate::harness::{Place, code, err, out};
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
