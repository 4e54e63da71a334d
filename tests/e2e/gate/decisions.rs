//! `verdict=command`: commands that decide, and those that fail to.

use super::{Opened, open, records, script, with_rules};
use crate::harness::{Daemon, Place, children, wait_until};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn the_exit_status_is_the_verdict() {
    let rules = |place: &Place| {
        let decide = script(place, "decide", "env > \"$2\"\ncase $1 in *good) exit 0;; *) exit 1;; esac");
        let _ = (place.write("good"), place.write("bad"));
        format!("{} OPEN_PERM [name=ask deadline=30s] {decide} $$ {}\n", place.play(""), place.path("env"))
    };
    with_rules(rules, |place, _| {
        let (good, bad) = (place.play("good"), place.play("bad"));
        assert_eq!((open(&good), open(&bad)), (Opened::Yes, Opened::Denied));
        let last = records(place, "ask", 2).pop().unwrap();
        assert_eq!(
            (&last["outcome"]["state"], &last["outcome"]["by"]),
            (&"denied".into(), &"command".into())
        );
        assert_eq!(last["outcome"]["exit"], 1);
        let env = fs::read_to_string(place.path("env")).unwrap();
        let deadline = env.lines().find_map(|line| line.strip_prefix("FACRON_DEADLINE=")).unwrap();
        let time = env.lines().find_map(|line| line.strip_prefix("FACRON_TIME=")).unwrap();
        assert!(deadline > time && deadline.ends_with('Z'), "{deadline} {time}");
        assert!(env.contains(&format!("FACRON_PATH={bad}")));
    });
}

/// The script is itself below the rule's path, reads the file and writes a log there.
#[test]
fn a_command_never_waits_for_itself() {
    const OPENS: usize = 250;
    let rules = |place: &Place| {
        let text = format!(
            "setsid --wait cat \"$1\" >> {0}/log && ls {0} > {0}/listing.$$ && rm {0}/listing.$$",
            place.mkdir("tree")
        );
        let decide = script(place, "tree/decide", &text);
        place.write("tree/file");
        format!(
            "{} OPEN_PERM,ACCESS_PERM,OPEN_EXEC_PERM,ONDIR,EVENT_ON_CHILD [recursive deadline=60s name=ask] {decide} $$\n",
            place.play("tree")
        )
    };
    with_rules(rules, |place, _| {
        let file = place.play("tree/file");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..OPENS {
                        assert_eq!(open(&file), Opened::Yes);
                    }
                });
            }
        });
        wait_until("the last record", || place.fired("ask") >= 4 * 250);
        assert_eq!(place.rule("ask")["failed"], 0);
        assert!(fs::metadata(place.play("tree/log")).is_ok(), "the log was written");
    });
}

/// Whether a command of the daemon's runs, the gate left out.
fn has_commands(daemon: &Daemon<'_>) -> bool {
    // Facron's own processes have its name.
    let is_own =
        |pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"facrond\0"));
    children(daemon.pid()).into_iter().any(|pid| !is_own(pid))
}

fn fails(what: &str, text: Option<&str>, by: &str) {
    for (on_failure, expected) in [("allow", Opened::Yes), ("deny", Opened::Denied)] {
        let rules = |place: &Place| {
            let command = match text {
                Some(text) => script(place, "decide", text),
                None => place.path("nothing"),
            };
            format!(
                "{} OPEN_PERM [deadline=1s on-failure={on_failure} name=ask] {command}\n",
                place.write("file")
            )
        };
        with_rules(rules, |place, daemon| {
            let start = Instant::now();
            assert_eq!(open(&place.play("file")), expected, "{what}");
            assert!(start.elapsed() < Duration::from_secs(3), "{what}: {:?}", start.elapsed());
            let record = records(place, "ask", 1).remove(0);
            assert_eq!(record["outcome"]["by"], by, "{what}: {record}");
            assert_eq!(place.rule("ask")["failed"], 1);
            assert_eq!(place.status()["gate"]["failures"], 1);
            wait_until("its processes to be gone", || !has_commands(daemon));
        });
    }
}

#[test]
fn a_command_that_is_missing() {
    fails("missing", None, "failure");
}

#[test]
fn a_command_that_crashes() {
    fails("crashes", Some("kill -SEGV $$"), "failure");
}

#[test]
fn a_command_that_sleeps_for_ever() {
    fails("sleeps", Some("sleep 1000 & sleep 1000"), "deadline");
}

#[test]
fn a_command_that_is_not_executable() {
    let rules = |place: &Place| {
        fs::write(place.path("decide"), "exit 0").unwrap();
        format!("{} OPEN_PERM [on-failure=deny name=ask] {}\n", place.write("file"), place.path("decide"))
    };
    with_rules(rules, |place, _| {
        assert_eq!(open(&place.play("file")), Opened::Denied);
        let record = records(place, "ask", 1).remove(0);
        assert!(record["outcome"]["error"].as_str().unwrap().contains("cannot run"), "{record}");
    });
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    let rules = |place: &Place| {
        let decide = script(place, "decide", "setsid sleep 1000 & sleep 1000 & exit 1");
        format!("{} OPEN_PERM [name=ask] {decide}\n", place.write("file"))
    };
    with_rules(rules, |place, daemon| {
        assert_eq!(open(&place.play("file")), Opened::Denied);
        wait_until("its processes to be gone", || !has_commands(daemon));
    });
}

/// The gate lets go of the process that waits; nobody needs the verdict any more.
#[test]
fn the_daemon_ends_while_a_command_decides() {
    let rules = |place: &Place| {
        // It ends after the gate.
        let text =
            format!("trap 'sleep 1; exit' TERM\n: > {}\nwhile :; do sleep 0.1; done", place.path("started"));
        let decide = script(place, "decide", &text);
        format!("{} OPEN_PERM [deadline=5m on-failure=allow name=ask] {decide}\n", place.write("file"))
    };
    with_rules(rules, |place, daemon| {
        let file = place.play("file");
        let opener = std::thread::spawn(move || open(&file));
        wait_until("the command to run", || fs::exists(place.path("started")).unwrap());
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(daemon.wait().success());
        assert_eq!(opener.join().unwrap(), Opened::Yes);
    });
}
