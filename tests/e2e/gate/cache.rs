//! `cache=`: verdicts that are remembered.

use super::{Opened, let_age, open, records, script, with_rules};
use crate::harness::{Place, gate_of, wait_until};
use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

/// Whether the kernel answers for the gate, for some file.
fn is_remembered(gate: i32) -> bool {
    let infos = fs::read_dir(format!("/proc/{gate}/fdinfo")).unwrap().flatten();
    let mut texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
    texts.any(|text| {
        text.contains("ignored_mask:")
            && !text
                .lines()
                .all(|line| !line.starts_with("fanotify ino:") || line.contains("ignored_mask:0 "))
    })
}

#[test]
fn one_command_is_enough() {
    const OPENS: u32 = 100_000;
    let rules = |place: &Place| {
        place.write("free");
        format!("{} OPEN_PERM [cache=1m name=ask deadline=30s] /bin/true\n", place.write("file"))
    };
    with_rules(rules, |place, daemon| {
        let (file, free) = (place.play("file"), place.play("free"));
        let gate = gate_of(daemon.pid()).unwrap();
        let_age(&file);
        open(&file);
        wait_until("the verdict to be remembered", || is_remembered(gate));
        wait_until("it to be told of", || place.fired("ask") == 1);
        let time = |path: &str| {
            let start = Instant::now();
            for _ in 0..OPENS {
                assert_eq!(open(path), Opened::Yes);
            }
            start.elapsed() / OPENS
        };
        // The better of several: the machine has others to serve.
        let best = |path: &str| (0..3).map(|_| time(path)).min().unwrap();
        let (cached, unwatched) = (best(&file), best(&free));
        assert_eq!(place.fired("ask"), 1);
        assert!(cached < unwatched + Duration::from_micros(2), "{cached:?} against {unwatched:?}");
        // A modification makes the kernel ask again: for this opening, and for the next.
        File::options().append(true).open(&file).unwrap().write_all(b"x").unwrap();
        open(&file);
        wait_until("it to be asked again", || place.fired("ask") > 1);
    });
}

#[test]
fn it_ends_in_time_even_for_a_file_that_moved() {
    let rules = |place: &Place| {
        let _ = (place.write("stays"), place.write("moves"), place.write("goes"));
        format!("{} OPEN_PERM [cache=1s name=ask deadline=30s] /bin/true\n", place.play(""))
    };
    with_rules(rules, |place, _| {
        for name in ["stays", "moves", "goes"] {
            let_age(&place.play(name));
            open(&place.play(name));
            open(&place.play(name));
        }
        fs::rename(place.play("moves"), place.play("moved")).unwrap();
        fs::remove_file(place.play("goes")).unwrap();
        let asked = |name: &str| {
            let path = place.play(name);
            place.tail_of("ask").iter().filter(|record| record["path"] == path.as_str()).count()
        };
        for name in ["stays", "moved"] {
            let before = asked(name);
            wait_until("it to be asked again", || {
                open(&place.play(name));
                asked(name) > before
            });
        }
        assert_eq!(place.status()["gate"]["starts"], 1);
    });
}

#[test]
fn a_denial_is_remembered_too() {
    let rules = |place: &Place| {
        let decide = script(place, "decide", "exit 1");
        format!("{} OPEN_PERM [cache=1m name=ask deadline=30s] {decide}\n", place.write("file"))
    };
    with_rules(rules, |place, _| {
        let file = place.play("file");
        let_age(&file);
        for _ in 0..50 {
            assert_eq!(open(&file), Opened::Denied);
        }
        let by: Vec<_> =
            records(place, "ask", 50).iter().map(|record| record["outcome"]["by"].clone()).collect();
        assert_eq!(by[0], "command");
        assert!(by[1..].iter().all(|by| by == "cache"), "{by:?}");
    });
}

#[test]
fn what_one_rule_remembers_hides_nothing_from_another() {
    let rules = |place: &Place| {
        let file = place.write("file");
        format!(
            "{file} OPEN_PERM [cache=1m name=cached] /bin/true\n{} OPEN_PERM [name=each] /bin/true\n",
            place.play("")
        )
    };
    with_rules(rules, |place, _| {
        let file = place.play("file");
        let_age(&file);
        for _ in 0..5 {
            assert_eq!(open(&file), Opened::Yes);
        }
        assert_eq!(records(place, "each", 5).len(), 5);
    });
    let rules =
        |place: &Place| format!("{} OPEN_PERM [cache=1m name=cached] /bin/true\n", place.write("file"));
    with_rules(rules, |place, _| {
        let file = place.play("file");
        let_age(&file);
        assert_eq!((open(&file), open(&file)), (Opened::Yes, Opened::Yes));
        place.ctl_ok(&["add", "-o", "verdict=deny", &file, "OPEN_PERM", "-"]);
        assert_eq!(open(&file), Opened::Denied);
    });
}

#[test]
fn a_file_that_is_being_written_is_asked_about_each_time() {
    let rules = |place: &Place| format!("{} OPEN_PERM [cache=1m name=ask] /bin/true\n", place.write("file"));
    with_rules(rules, |place, _| {
        let file = place.play("file");
        let_age(&file);
        let writer = File::options().append(true).open(&file).unwrap();
        for _ in 0..4 {
            open(&file);
        }
        assert_eq!(records(place, "ask", 5).len(), 5);
        drop(writer);
    });
}
