//! Many who wait, few descriptors, logs that wait, and how long it all takes.

use super::{Opened, open, script, with_rules};
use crate::harness::{Place, Watchdog, gate_of, wait_for, wait_until};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
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
        crate::harness::kill(daemon.id().cast_signed(), nix::sys::signal::Signal::SIGTERM);
        wait_until("the daemon to end", || daemon.try_wait().unwrap().is_some());
    });
    assert!(ended.load(Ordering::SeqCst) && fs::metadata(&log).unwrap().len() > 1000);
}

const OPENS: u32 = 20_000;

/// The time of one opening; the best of several, since the machine has others to serve.
fn time_of_opening(file: &str) -> Duration {
    let time = || {
        let start = Instant::now();
        for _ in 0..OPENS {
            assert_eq!(open(file), Opened::Yes);
        }
        start.elapsed() / OPENS
    };
    (0..5).map(|_| time()).min().unwrap()
}

/// The least that any gate has to do.
fn bare_responder(file: &str, stop: &AtomicBool) {
    let group = Fanotify::init(InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_NONBLOCK, EventFFlags::O_RDONLY)
        .unwrap();
    group.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_PERM, nix::fcntl::AT_FDCWD, Some(file)).unwrap();
    while !stop.load(Ordering::SeqCst) {
        let mut fds =
            [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&group), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, 100u8).unwrap();
        let Ok(events) = group.read_events() else { continue };
        for event in events {
            let response = FanotifyResponse::new(event.fd().unwrap(), Response::FAN_ALLOW);
            group.write_response(response).unwrap();
        }
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
        let stop = AtomicBool::new(false);
        let (gated, least) = thread::scope(|scope| {
            scope.spawn(|| bare_responder(&bare, &stop));
            let least = time_of_opening(&bare);
            let gated = time_of_opening(&file);
            stop.store(true, Ordering::SeqCst);
            (gated, least)
        });
        eprintln!("an opening: {gated:?}, with a bare responder {least:?}");
        assert!(gated < least * 3 / 2, "{gated:?} against {least:?}");
    });
}
