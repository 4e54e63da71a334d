//! Whoever dies or hangs, nobody who waits does so for long.

use super::{Opened, open, script};
use crate::harness::{Daemon, Place, Watchdog, gate_of, kill, wait_for, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Openers that go on all the time.
const OPENERS: usize = 3;
const DEADLINE: Duration = Duration::from_millis(400);

/// Much longer than the deadline on a busy machine, much shorter than for ever.
const LONG: Duration = Duration::from_secs(10);

/// Whom to kill.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Gate,
    Daemon,
    Both,
}

/// Opens a file again and again; the longest that it took.
struct Openers {
    stop: AtomicBool,
    opened: AtomicU64,
    longest_us: AtomicU64,
}

impl Openers {
    fn new() -> Self {
        Self { stop: AtomicBool::new(false), opened: AtomicU64::new(0), longest_us: AtomicU64::new(0) }
    }

    fn run(&self, file: &str) {
        while !self.stop.load(Ordering::SeqCst) {
            let start = Instant::now();
            assert_eq!(open(file), Opened::Yes);
            let took = u64::try_from(start.elapsed().as_micros()).unwrap();
            self.longest_us.fetch_max(took, Ordering::SeqCst);
            self.opened.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// They end when this is dropped.
    fn end_in_any_case(&self) -> impl Drop {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        End(&self.stop)
    }

    /// Waits until all have gone on: each of them at least once.
    #[track_caller]
    fn wait_until_released(&self) {
        let target = self.opened.load(Ordering::SeqCst) + 2 * OPENERS as u64;
        wait_until("those who wait to be released", || self.opened.load(Ordering::SeqCst) >= target);
    }

    #[track_caller]
    fn finish(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let longest = Duration::from_micros(self.longest_us.load(Ordering::SeqCst));
        assert!(longest < LONG, "somebody waited {longest:?}");
    }
}

/// Kills in each state: now and then nobody asks, a question is read, a command runs.
fn survives(victim: Victim, rounds: u64) {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let decide = script(&place, "decide", "sleep 0.01; exit 0");
    let file = place.write("file");
    place.conf(&format!("{file} OPEN_PERM [deadline={}ms name=ask] {decide}\n", DEADLINE.as_millis()));
    let mut daemon = Some(place.start());
    let openers = Openers::new();
    thread::scope(|scope| {
        for _ in 0..OPENERS {
            scope.spawn(|| openers.run(&file));
        }
        let _end = openers.end_in_any_case();
        for round in 0..rounds {
            thread::sleep(Duration::from_millis(round % 7 * 3));
            let pid = daemon.as_ref().map(Daemon::pid).unwrap();
            let gate = wait_for("a gate", || gate_of(pid));
            if victim != Victim::Daemon {
                // It may just have ended with the daemon.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(gate), Signal::SIGKILL);
            }
            if victim != Victim::Gate {
                daemon.take().unwrap().kill();
            }
            openers.wait_until_released();
            daemon = daemon.or_else(|| Some(place.start()));
            wait_until("another gate", || {
                gate_of(pid_of(daemon.as_ref())).is_some_and(|new| new != gate)
                    && place.rule("ask")["state"] == "active"
            });
        }
        let fired = place.fired("ask");
        wait_until("work to be taken up", || place.fired("ask") > fired);
        openers.finish();
    });
}

fn pid_of(daemon: Option<&Daemon<'_>>) -> i32 {
    daemon.map(Daemon::pid).unwrap()
}

#[test]
fn the_gate_dies() {
    survives(Victim::Gate, 200);
}

#[test]
fn the_daemon_dies() {
    survives(Victim::Daemon, 40);
}

#[test]
fn both_die() {
    survives(Victim::Both, 40);
}

#[test]
fn the_daemon_hangs() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let decide = script(&place, "decide", "sleep 0.01; exit 0");
    let file = place.write("file");
    place.conf(&format!("{file} OPEN_PERM [deadline={}ms name=ask] {decide}\n", DEADLINE.as_millis()));
    let daemon = place.start();
    let openers = Openers::new();
    thread::scope(|scope| {
        for _ in 0..OPENERS {
            scope.spawn(|| openers.run(&file));
        }
        let _end = openers.end_in_any_case();
        for round in 0..10 {
            thread::sleep(Duration::from_millis(round * 3));
            daemon.signal(Signal::SIGSTOP);
            openers.wait_until_released();
            daemon.signal(Signal::SIGCONT);
            let fired = place.fired("ask");
            wait_until("work to be taken up", || place.fired("ask") > fired + 10);
        }
        openers.finish();
    });
    assert_eq!(place.status()["gate"]["starts"], 1);
}

/// What a rule itself decides needs no daemon.
#[test]
fn a_daemon_that_hangs_changes_nothing_for_fixed_verdicts() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let (no, yes) = (place.write("no"), place.write("yes"));
    place.conf(&format!("{no} OPEN_PERM [verdict=deny] -\n{yes} OPEN_PERM [verdict=allow name=yes] -\n"));
    let daemon = place.start();
    daemon.signal(Signal::SIGSTOP);
    for _ in 0..5000 {
        assert_eq!((open(&no), open(&yes)), (Opened::Denied, Opened::Yes));
    }
    daemon.signal(Signal::SIGCONT);
    // What there was no room for is counted, and not lost silently.
    wait_until("the end of it to be told", || {
        let before = place.status()["gate"].clone();
        open(&yes);
        let count = |name: &str| before[name].as_u64().unwrap();
        count("allowed") + count("denied") >= 10_000 && count("untold") > 0
    });
}

/// systemd sends SIGTERM to all processes of a service; the gate lives as long as its daemon.
#[test]
fn the_gate_ends_with_the_daemon() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let file = place.write("file");
    place.conf(&format!("{file} OPEN_PERM [verdict=deny] -\n"));
    let daemon = place.start();
    let gate = wait_for("a gate", || gate_of(daemon.pid()));
    kill(gate, Signal::SIGTERM);
    assert_eq!(open(&file), Opened::Denied);
    assert!(daemon.stop().success());
    wait_until("the gate to end", || fs::metadata(format!("/proc/{gate}")).is_err());
    assert_eq!(open(&file), Opened::Yes);
}
