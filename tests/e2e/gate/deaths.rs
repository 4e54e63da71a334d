//! Whoever dies or hangs, nobody who waits does so for long.

use super::{Opened, open, script};
use crate::harness::{Daemon, Place, Watchdog, gate_of, kill, report, wait_for, wait_until};
use facron_tests::number_from;
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often each is tried, without `FACRON_TEST_ROUNDS`.
const ROUNDS: u64 = 60;
/// Openers that go on all the time.
const OPENERS: usize = 3;
const DEADLINE: Duration = Duration::from_millis(150);

/// What is left to a busy machine: at most one in twenty may take longer.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Much longer than the deadline on a busy machine, much shorter than for ever.
const LONG: Duration = Duration::from_secs(10);

/// What befalls the daemon.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    GateDies,
    DaemonDies,
    BothDie,
    DaemonHangs,
}

/// What is going on at that moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// Nobody waits.
    Idle,
    /// The gate has read a question; the daemon has not.
    QuestionRead,
    /// The command that decides runs.
    CommandRunning,
}

/// Processes, or here threads, that open a file again and again.
struct Openers {
    stop: Arc<AtomicBool>,
    each: Vec<(Arc<AtomicU64>, JoinHandle<Duration>)>,
}

impl Openers {
    fn start(file: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start_one = |_| {
            let (file, stop, opened) = (file.to_owned(), Arc::clone(&stop), Arc::new(AtomicU64::new(0)));
            let count = Arc::clone(&opened);
            (opened, thread::spawn(move || Self::run(&file, &stop, &count)))
        };
        let each = (0..OPENERS).map(start_one).collect();
        Self { stop, each }
    }

    /// The longest that an open took.
    fn run(file: &str, stop: &AtomicBool, opened: &AtomicU64) -> Duration {
        let mut longest = Duration::ZERO;
        while !stop.load(Ordering::SeqCst) {
            let start = Instant::now();
            assert_eq!(open(file), Opened::Yes);
            longest = longest.max(start.elapsed());
            opened.fetch_add(1, Ordering::SeqCst);
        }
        longest
    }

    /// Waits until each of them has ended what it was at, and something more.
    #[track_caller]
    fn wait_until_released(&self) {
        let target: Vec<_> = self.each.iter().map(|(opened, _)| opened.load(Ordering::SeqCst) + 2).collect();
        wait_until("those who wait to be released", || {
            self.each
                .iter()
                .zip(&target)
                .all(|((opened, _), target)| opened.load(Ordering::SeqCst) >= *target)
        });
    }

    #[track_caller]
    fn finish(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for (_, thread) in std::mem::take(&mut self.each) {
            let longest = thread.join().unwrap();
            assert!(longest < LONG, "somebody waited {longest:?}");
        }
    }
}

impl Drop for Openers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Somebody who opens a file once; when that was done.
struct Opener(JoinHandle<(Opened, Instant)>);

impl Opener {
    fn start(file: &str) -> Self {
        let file = file.to_owned();
        Self(thread::spawn(move || (open(&file), Instant::now())))
    }

    /// How long after a moment it was let go.
    #[track_caller]
    fn released_after(self, moment: Instant) -> Duration {
        wait_until("the opener to be released", || self.0.is_finished());
        let (opened, at) = self.0.join().unwrap();
        assert_eq!(opened, Opened::Yes);
        at.saturating_duration_since(moment)
    }
}

/// A file whose decision takes too long, and one whose decision does not.
struct Scene {
    place: Place,
    slow: String,
    quick: String,
    started: String,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let started = place.path("started");
        let decide = script(&place, "decide", &format!(": > {started}\nexec sleep 5"));
        let (slow, quick) = (place.write("slow"), place.write("quick"));
        let deadline = DEADLINE.as_millis();
        place.conf(&format!(
            "{slow} OPEN_PERM [deadline={deadline}ms name=slow] {decide}\n\
             {quick} OPEN_PERM [deadline={deadline}ms name=quick] /bin/true\n"
        ));
        Self { place, slow, quick, started }
    }

    /// Lets the moment come; who waits then.
    fn bring_about(&self, moment: Moment, daemon: &Daemon<'_>, gate: i32) -> Option<Opener> {
        match moment {
            Moment::Idle => {
                wait_until("nobody to wait", || self.place.status()["gate"]["open"] == 0);
                None
            }
            Moment::QuestionRead => {
                daemon.signal(Signal::SIGSTOP);
                let opener = Opener::start(&self.slow);
                wait_until("the gate to have the question", || has_open(gate, &self.slow));
                Some(opener)
            }
            Moment::CommandRunning => {
                fs::remove_file(&self.started).unwrap_or_default();
                let mut opener = Opener::start(&self.slow);
                wait_until("the command to run", || {
                    let has_started = Path::new(&self.started).exists();
                    // On a busy machine the deadline may come first.
                    if !has_started && opener.0.is_finished() {
                        opener = Opener::start(&self.slow);
                    }
                    has_started
                });
                Some(opener)
            }
        }
    }

    /// Has it all work again.
    fn recover<'a>(&'a self, daemon: Option<Daemon<'a>>, openers: &Openers) -> Daemon<'a> {
        let daemon = daemon.unwrap_or_else(|| self.place.start());
        daemon.signal(Signal::SIGCONT);
        let fired = self.place.fired("quick");
        wait_until("work to be taken up", || {
            self.place.rule("slow")["state"] == "active" && self.place.fired("quick") > fired + 1
        });
        openers.wait_until_released();
        daemon
    }
}

/// Strikes; the daemon, if it is still there.
fn strike(blow: Blow, daemon: Daemon<'_>, gate: i32) -> Option<Daemon<'_>> {
    if matches!(blow, Blow::GateDies | Blow::BothDie) {
        kill(gate, Signal::SIGKILL);
    }
    match blow {
        Blow::GateDies => Some(daemon),
        Blow::DaemonHangs => {
            daemon.signal(Signal::SIGSTOP);
            Some(daemon)
        }
        Blow::DaemonDies | Blow::BothDie => {
            daemon.kill();
            None
        }
    }
}

/// Whether a process has a file open.
fn has_open(pid: i32, file: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == Path::new(file)))
}

fn survives(blow: Blow, moment: Moment) {
    let watchdog = Watchdog::new();
    let scene = Scene::new();
    let mut daemon = scene.place.start();
    let mut releases = Vec::new();
    for _ in 0..number_from("FACRON_TEST_ROUNDS", ROUNDS) {
        watchdog.feed();
        let gate = wait_for("a gate", || gate_of(daemon.pid()));
        let openers = (moment != Moment::Idle).then(|| Openers::start(&scene.quick));
        let opener = scene.bring_about(moment, &daemon, gate);
        let struck = Instant::now();
        let left = strike(blow, daemon, gate);
        let opener = opener.unwrap_or_else(|| Opener::start(&scene.slow));
        releases.push(opener.released_after(struck));
        let openers = openers.unwrap_or_else(|| Openers::start(&scene.quick));
        openers.wait_until_released();
        daemon = scene.recover(left, &openers);
        openers.finish();
    }
    releases.sort();
    let (most, longest) = (releases[releases.len() * 95 / 100], releases[releases.len() - 1]);
    report(&format!("{blow:?}, {moment:?}: 95 % released within {most:?}, all within {longest:?}"));
    // While nobody waited, the next who comes may be asked for by a new gate.
    let is_asked = blow == Blow::DaemonHangs || moment == Moment::Idle;
    let due = if is_asked { DEADLINE + AT_ONCE } else { AT_ONCE };
    assert!(most < due, "released after {most:?}");
    assert!(longest < LONG, "released after {longest:?}");
}

#[test]
fn the_gate_dies_while_idle() {
    survives(Blow::GateDies, Moment::Idle);
}

#[test]
fn the_gate_dies_with_a_question_read() {
    survives(Blow::GateDies, Moment::QuestionRead);
}

#[test]
fn the_gate_dies_while_a_command_decides() {
    survives(Blow::GateDies, Moment::CommandRunning);
}

#[test]
fn the_daemon_dies_while_idle() {
    survives(Blow::DaemonDies, Moment::Idle);
}

#[test]
fn the_daemon_dies_with_a_question_read() {
    survives(Blow::DaemonDies, Moment::QuestionRead);
}

#[test]
fn the_daemon_dies_while_a_command_decides() {
    survives(Blow::DaemonDies, Moment::CommandRunning);
}

#[test]
fn both_die_while_idle() {
    survives(Blow::BothDie, Moment::Idle);
}

#[test]
fn both_die_with_a_question_read() {
    survives(Blow::BothDie, Moment::QuestionRead);
}

#[test]
fn both_die_while_a_command_decides() {
    survives(Blow::BothDie, Moment::CommandRunning);
}

#[test]
fn the_daemon_hangs_while_idle() {
    survives(Blow::DaemonHangs, Moment::Idle);
}

#[test]
fn the_daemon_hangs_with_a_question_read() {
    survives(Blow::DaemonHangs, Moment::QuestionRead);
}

#[test]
fn the_daemon_hangs_while_a_command_decides() {
    survives(Blow::DaemonHangs, Moment::CommandRunning);
}

/// Wherever in its start it is killed, another one comes.
#[test]
fn the_gate_dies_while_it_starts() {
    let watchdog = Watchdog::new();
    let scene = Scene::new();
    let daemon = scene.place.start();
    let mut last = 0;
    for _ in 0..30 {
        watchdog.feed();
        last = wait_for("another gate", || gate_of(daemon.pid()).filter(|gate| *gate != last));
        kill(last, Signal::SIGKILL);
    }
    let openers = Openers::start(&scene.quick);
    scene.recover(Some(daemon), &openers);
    openers.finish();
}

/// Its own monitor cannot help it then.
#[test]
fn the_gate_hangs() {
    let _watchdog = Watchdog::new();
    let scene = Scene::new();
    let daemon = scene.place.start();
    let openers = Openers::start(&scene.quick);
    for _ in 0..20 {
        let gate = wait_for("a gate", || gate_of(daemon.pid()));
        kill(gate, Signal::SIGSTOP);
        wait_until("another gate", || gate_of(daemon.pid()).is_some_and(|new| new != gate));
        openers.wait_until_released();
    }
    openers.finish();
    daemon.wait_for_log("somebody has stopped the gate");
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
    let gate = place.status()["gate"].clone();
    assert_eq!((&gate["allowed"], &gate["denied"]), (&5000.into(), &5000.into()), "{gate}");
    assert!(gate["untold"].as_u64().unwrap() > 0, "{gate}");
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
