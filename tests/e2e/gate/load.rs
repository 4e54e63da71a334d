//! Many who wait, few descriptors, logs that wait, and how long it all takes.

use super::{Opened, open, script, with_rules};
use crate::harness::{Place, Watchdog, gate_of, kill, responder, wait_for, wait_until};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn ten_thousand_openings_for_two_commands_at_a_time() {
    const OPENERS: usize = 8;
    const EACH: usize = 1250;
    let rules = |place: &Place| {
        format!(
            "{} OPEN_PERM [jobs=2 deadline=20s on-failure=deny name=ask] /bin/true\n",
            place.write("file")
        )
    };
    with_rules(rules, |place, daemon| {
        let file = place.play("file");
        let gate = wait_for("a gate", || gate_of(daemon.pid()));
        thread::scope(|scope| {
            for _ in 0..OPENERS {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        // A denial would be one by the deadline.
                        assert_eq!(open(&file), Opened::Yes);
                    }
                });
            }
        });
        wait_until("the last record", || place.fired("ask") == (OPENERS * EACH) as u64);
        let status = place.status();
        assert_eq!((&status["gate"]["failures"], &status["gate"]["untold"]), (&0.into(), &0.into()));
        assert!(memory(gate) < 64 << 20, "{}", memory(gate));
    });
}

fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// The gate may not raise its limit; more wait than it has descriptors for.
#[test]
fn few_descriptors_deny_nobody() {
    const OPENERS: usize = 150;
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let file = place.write("file");
    let decide = script(&place, "decide", "sleep 0.3; exit 0");
    place.conf(&format!("{file} OPEN_PERM [deadline=20s name=ask] {decide}\n"));
    let mut limited = Command::new("setpriv");
    limited.args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]);
    limited.args(["prlimit", "--nofile=64:64", crate::harness::FACROND]).args(place.options());
    let daemon = place.start_as(limited);
    let gate = wait_for("a gate", || gate_of(daemon.pid()));
    let limits = fs::read_to_string(format!("/proc/{gate}/limits")).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max open files            64 ")), "{limits}");
    thread::scope(|scope| {
        for _ in 0..OPENERS {
            scope.spawn(|| assert_eq!(open(&file), Opened::Yes));
        }
    });
    wait_until("all to be told", || place.fired("ask") == OPENERS as u64);
    let gate = place.status()["gate"].clone();
    assert_eq!((&gate["lost"], &gate["denied"]), (&0.into(), &0.into()));
    assert!(gate["failures"].as_u64().unwrap() > 0, "{gate}");
}

/// Who is asked about while the gate does not read must not be let through unasked.
#[test]
fn a_full_queue_changes_no_answer() {
    const OPENERS: usize = 1000;
    let rules = |place: &Place| {
        let (yes, no) = (place.write("yes"), place.write("no"));
        format!("{yes} OPEN_PERM [verdict=allow name=yes] -\n{no} OPEN_PERM [verdict=deny name=no] -\n")
    };
    with_rules(rules, |place, daemon| {
        let (yes, no) = (place.play("yes"), place.play("no"));
        let gate = wait_for("a gate", || gate_of(daemon.pid()));
        // In this order: the daemon would end a gate that is stopped.
        daemon.signal(Signal::SIGSTOP);
        kill(gate, Signal::SIGSTOP);
        thread::scope(|scope| {
            for _ in 0..OPENERS / 2 {
                scope.spawn(|| assert_eq!(open(&yes), Opened::Yes));
                scope.spawn(|| assert_eq!(open(&no), Opened::Denied));
            }
            kill(gate, Signal::SIGCONT);
        });
        daemon.signal(Signal::SIGCONT);
        wait_until("all to be told", || {
            let gate = place.status()["gate"].clone();
            let count = |name: &str| gate[name].as_u64().unwrap();
            assert_eq!((count("lost"), count("starts")), (0, 1), "{gate}");
            (count("allowed"), count("denied")) == (OPENERS as u64 / 2, OPENERS as u64 / 2)
        });
    });
}

/// As journald or syslogd would: the log of the daemon is written by another process,
/// into a file that it opens for each line, and that the rule is about.
#[test]
fn a_log_that_waits_for_an_answer() {
    const OPENS: usize = 100;
    let _watchdog = Watchdog::new();
    let place = Place::new();
    place.mkdir("tree");
    let (file, log) = (place.write("tree/file"), place.write("tree/log"));
    let rule = format!("{} OPEN_PERM [recursive deadline=200ms name=ask]", place.play("tree"));
    place.conf(&format!("{rule} sh -c 'echo of the command >&2'\n"));
    let mut daemon = place.facrond().arg("-vv").stderr(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(daemon.stderr.take().unwrap());
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for line in output.lines() {
                writeln!(File::options().append(true).open(&log).unwrap(), "{}", line.unwrap()).unwrap();
            }
            ended.store(true, Ordering::SeqCst);
        });
        wait_until("the daemon to serve", || fs::metadata(place.path("control.sock")).is_ok());
        wait_until("the rule to be in force", || place.rule("ask")["state"] == "active");
        for _ in 0..OPENS {
            assert_eq!(open(&file), Opened::Yes);
        }
        assert!(place.fired("ask") > 0);
        kill(daemon.id().cast_signed(), Signal::SIGTERM);
        wait_until("the daemon to end", || daemon.try_wait().unwrap().is_some());
    });
    assert!(ended.load(Ordering::SeqCst) && fs::metadata(&log).unwrap().len() > 1000);
}

/// The time of one opening, over a moment.
fn time_of_opening(file: &str) -> Duration {
    const OPENS: u32 = 1000;
    let start = Instant::now();
    for _ in 0..OPENS {
        assert_eq!(open(file), Opened::Yes);
    }
    start.elapsed() / OPENS
}

/// A program that only allows; killed in the end.
struct BareResponder(Child);

impl BareResponder {
    fn new(file: &str) -> Self {
        let mut child = responder(file).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for BareResponder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn an_allowance_costs_little_more_than_the_kernel_does() {
    let rules = |place: &Place| {
        place.write("bare");
        format!("{} OPEN_PERM [verdict=allow] -\n", place.write("file"))
    };
    with_rules(rules, |place, _| {
        let (file, bare) = (place.play("file"), place.play("bare"));
        let _responder = BareResponder::new(&bare);
        // Turn by turn, and the best of each: the machine has others to serve.
        let times: Vec<_> = (0..60).map(|_| (time_of_opening(&file), time_of_opening(&bare))).collect();
        let gated = times.iter().map(|(gated, _)| *gated).min().unwrap();
        let least = times.iter().map(|(_, least)| *least).min().unwrap();
        eprintln!("an opening: {gated:?}, with a bare responder {least:?}");
        // Code that is not optimized takes its time; the kernel's part stays the same.
        let limit = if cfg!(debug_assertions) { least * 10 } else { least * 3 / 2 };
        assert!(gated < limit, "{gated:?} against {least:?}");
    });
}
