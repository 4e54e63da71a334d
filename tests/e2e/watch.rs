//! `facrond watch`: one command line, no file, no socket.

use crate::harness::{FACROND, Place, Records, STRANGER, as_stranger, code, err, give, kill, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

/// A `facrond watch` that runs until it is dropped.
struct Watching<'a> {
    place: &'a Place,
    child: Child,
}

impl<'a> Watching<'a> {
    fn start(place: &'a Place, mut command: Command) -> Self {
        for output in ["stdout", "stderr"] {
            // of one before
            let _ = fs::remove_file(place.path(output));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(place.log_file("stdout"))
            .stderr(place.log_file("stderr"))
            .spawn()
            .unwrap();
        let watching = Self { place, child };
        wait_until("facrond watch to watch", || watching.said().contains("Ctrl-C"));
        watching
    }

    fn said(&self) -> String {
        fs::read_to_string(self.place.path("stderr")).unwrap()
    }

    fn printed(&self) -> String {
        fs::read_to_string(self.place.path("stdout")).unwrap()
    }

    fn interrupt(mut self) -> ExitStatus {
        kill(self.child.id().cast_signed(), Signal::SIGINT);
        let mut status = None;
        wait_until("facrond watch to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch(path: &str, events: &str, command: &str) -> Command {
    let mut watch = Command::new(FACROND);
    watch.args(["watch", path, events, "--"]).args(command.split(' '));
    watch
}

/// From before the close to the command's first instructions.
fn latency(records: &Records, path: &str) -> Duration {
    let before = records.all().len();
    let closed = SystemTime::now();
    fs::write(path, "x").unwrap();
    let record = records.wait(before + 1).pop().unwrap();
    assert_eq!(record.args, [path.as_bytes()]);
    record.time.duration_since(closed).unwrap()
}

#[test]
fn runs_the_command_at_once_with_the_right_path() {
    let place = Place::new();
    let records = place.records("records");
    let watching = Watching::start(&place, watch(&place.play(""), "FAN_CLOSE_WRITE", &records.command("$$")));
    assert!(watching.said().contains(&format!("watching {} for FAN_CLOSE_WRITE", place.play(""))));
    let mut latencies: Vec<_> =
        (0..20).map(|number| latency(&records, &place.play(&format!("file-{number}")))).collect();
    latencies.sort();
    assert!(latencies[10] < Duration::from_millis(50), "{latencies:?}");
    // other tests have the processors, too
    assert!(latencies[19] < Duration::from_millis(500), "{latencies:?}");
    assert_eq!(watching.interrupt().code(), Some(0));
    assert_eq!(records.all().len(), 20);
}

/// Both of its shells, in a directory of the test's.
#[test]
fn does_what_the_readme_begins_with() {
    const FIRST: &str = "    cargo run --release -p facrond -- ";
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let line = |start: &str| readme.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    let (place, told) =
        (Place::new(), |line: &str, place: &Place| line.replace("/tmp/drop", &place.play("drop")));
    let mut first = Command::new("sh");
    let command = told(line(FIRST).strip_prefix(FIRST).unwrap(), &place);
    first.args(["-c", &format!("exec {FACROND} {command}")]);
    let watching = Watching::start(&place, first);
    let second = told(&line("    mkdir -p /tmp/drop && "), &place);
    assert!(Command::new("sh").args(["-c", &second]).status().unwrap().success());
    let shown = told(line("    new: ").trim(), &place) + "\n";
    wait_until("what the README shows", || watching.printed() == shown);
}

#[test]
fn shows_the_output_of_commands_and_the_events_of_none() {
    let place = Place::new();
    let watching = Watching::start(&place, watch(&place.play(""), "close_write", "echo changed: $#"));
    place.write("a file");
    wait_until("the command's output", || watching.printed() == "changed: a file\n");
    drop(watching);

    let watching = Watching::start(&place, watch(&place.play(""), "close_write", "-"));
    place.write("another");
    let line = format!("FAN_CLOSE_WRITE {}\n", place.play("another"));
    wait_until("the event", || watching.printed().ends_with(&line));
}

#[test]
fn waits_for_a_path_that_is_not_there() {
    let place = Place::new();
    let records = place.records("records");
    let watching = Watching::start(&place, watch(&place.play("later"), "ARRIVED", &records.command("$$")));
    assert!(watching.said().contains("waiting for"), "{}", watching.said());
    let path = place.write("later");
    assert_eq!(records.wait(1)[0].args, [path.as_bytes()]);
}

#[test]
fn a_relative_path_is_below_the_current_directory() {
    let place = Place::new();
    let records = place.records("records");
    let mut command = watch("file", "CLOSE_WRITE", &records.command("$$"));
    command.current_dir(place.play(""));
    let _watching = Watching::start(&place, command);
    let path = place.write("file");
    assert_eq!(records.wait(1)[0].args, [path.as_bytes()]);
}

#[test]
fn a_wrong_command_line_is_told_with_what_would_be_right() {
    let output = Command::new(FACROND).args(["watch", "/tmp", "FAN_MODIFI", "true"]).output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("did you mean `FAN_MODIFY`?"), "{output:?}");
    let output =
        Command::new(FACROND).args(["watch", "-o", "tiemout=1s", "/tmp", "OPEN", "true"]).output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("unknown option `tiemout`"), "{output:?}");
    let output = Command::new(FACROND).args(["watch", "/tmp", "OPEN"]).output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("COMMAND"), "{output:?}");
}

#[test]
fn an_ordinary_user_watches_the_home_directory_and_is_told_what_is_limited() {
    let place = Place::new();
    let home = place.mkdir("home");
    give(&home);
    let records = home.clone() + "/.records";
    let command = format!("{} argv {records} $$ $*", place.for_all(env!("CARGO_BIN_EXE_e2e-recorder")));
    let mut watch = as_stranger(place.for_all(FACROND));
    watch.args(["watch", &home, "CLOSE_WRITE", "-o", "exclude=.records", "--"]).args(command.split(' '));
    watch.env("HOME", &home).current_dir(&home);
    let watching = Watching::start(&place, watch);
    assert!(watching.said().contains("ordinary user"), "{}", watching.said());
    let path = place.write("home/file");
    let read = || String::from_utf8(fs::read(&records).unwrap_or_default()).unwrap();
    wait_until("the record of the command", || read().ends_with('\0'));
    let record = read();
    // the pids of others are hidden
    assert!(record.ends_with(&format!("\0{path}\x000\0")), "{record:?}");
    assert_eq!(
        fs::metadata(&records).map(|file| std::os::unix::fs::MetadataExt::uid(&file)).unwrap(),
        STRANGER
    );
    assert_eq!(watching.interrupt().code(), Some(0));
}

#[test]
fn at_the_end_it_stops_its_commands() {
    let place = Place::new();
    let watching = Watching::start(&place, watch(&place.play(""), "CLOSE_WRITE", "sleep 3600"));
    place.write("file");
    let pid = watching.child.id().cast_signed();
    wait_until("the command", || crate::harness::children(pid).len() == 1);
    let command = crate::harness::children(pid)[0];
    let started = Instant::now();
    // a moment in which nothing must happen to the command
    sleep(Duration::from_millis(50));
    assert!(crate::harness::is_alive(command));
    watching.interrupt();
    assert!(!crate::harness::is_alive(command));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}
