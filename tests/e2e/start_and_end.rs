//! How a daemon starts and ends.

use crate::harness::{
    FACRONCTL, FACROND, PATIENCE, Place, as_stranger, code, err, is_alive, kill, out, wait_until,
};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

#[test]
fn sigterm_and_sigint_end_it_and_leave_nothing_behind() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Place::new();
        let mut daemon = place.start();
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(!fs::exists(place.path("control.sock")).unwrap());
        let output = place.ctl(&["list"]);
        assert_eq!(code(&output), 69);
        assert!(err(&output).contains("is facrond running?"), "{output:?}");
    }
}

#[test]
fn a_second_one_is_refused_and_told_who_is_first() {
    let place = Place::new();
    let daemon = place.start();
    let output = place.facrond().output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains(&format!("pid {}", daemon.pid())), "{output:?}");
    assert_eq!(place.status()["pid"], daemon.pid(), "the first is not disturbed");
    // two places do not disturb each other
    let other = Place::new();
    let _other = other.start();
}

#[test]
fn what_cannot_be_written_ends_nothing() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=rule] echo text\n", place.play("")));
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let mut daemon = place.facrond().stdout(full()).stderr(full()).spawn().unwrap();
    wait_until("the daemon to serve", || place.ctl(&["list"]).status.success());
    place.write("file");
    place.settle_fired("rule", 1);
    kill(daemon.id().cast_signed(), Signal::SIGTERM);
    assert!(daemon.wait().unwrap().success());

    let mut watch = Command::new(FACROND);
    watch
        .args(["watch", &place.play(""), "CLOSE_WRITE", "-"])
        .stdout(full())
        .stderr(std::process::Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut told = std::io::BufReader::new(watch.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut told, &mut String::new()).unwrap();
    for number in 0..200 {
        place.write(&format!("other-{number}"));
    }
    kill(watch.id().cast_signed(), Signal::SIGINT);
    assert!(watch.wait().unwrap().success());
}

#[test]
fn nobody_else_can_hold_the_lock() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let lock = place.path("control.sock.lock");
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    let _daemon = place.start();
    assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let place = Place::new();
    place.start().kill();
    assert_eq!(code(&place.ctl(&["list"])), 69, "nobody listens");
    place.start().kill();
    fs::remove_file(place.path("control.sock")).unwrap();
    // one that another program has left
    drop(UnixListener::bind(place.path("control.sock")).unwrap());
    place.start().kill();
    fs::remove_file(place.path("control.sock")).unwrap();
    fs::write(place.path("control.sock"), "precious").unwrap();
    let output = place.facrond().output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("not a socket"), "{output:?}");
    assert_eq!(fs::read_to_string(place.path("control.sock")).unwrap(), "precious");
}

/// A daemon in the background, which is nobody's child.
struct Background(i32);

impl Drop for Background {
    fn drop(&mut self) {
        if is_alive(self.0) {
            kill(self.0, Signal::SIGKILL);
        }
    }
}

#[test]
fn in_the_background_it_is_ready_when_the_foreground_returns() {
    for option in ["-d", "--daemon", "--background"] {
        let place = Place::new();
        let records = place.records("records");
        place.conf(&format!("{} CLOSE_WRITE {}\n", place.play(""), records.command("$$")));
        let mut facrond = place.facrond();
        facrond.arg(option).stdout(place.log_file("log")).stderr(place.log_file("log"));
        assert!(facrond.status().unwrap().success());
        let pid = i32::try_from(place.status()["pid"].as_i64().unwrap()).unwrap();
        let background = Background(pid);
        let path = place.write("file");
        assert_eq!(records.wait(1)[0].args, [path.as_bytes()]);
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
        let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).unwrap();
        assert_eq!(session.as_raw(), pid, "a session of its own");
        kill(pid, Signal::SIGTERM);
        wait_until("it to end", || !is_alive(pid));
        drop(background);
    }
}

#[test]
fn in_the_background_relative_paths_mean_what_they_did() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=rule] -\n", place.play("")));
    let mut facrond = Command::new(FACROND);
    let paths = "-d -c facron.conf -C conf.d -s control.sock --state-dir state --runtime-dir run";
    facrond.args(paths.split(' ')).current_dir(place.path(""));
    facrond.stdout(place.log_file("log")).stderr(place.log_file("log"));
    assert!(facrond.status().unwrap().success());
    let background = Background(i32::try_from(place.status()["pid"].as_i64().unwrap()).unwrap());
    assert!(place.ctl_ok(&["reload"]).contains("1 kept"));
    kill(background.0, Signal::SIGTERM);
    wait_until("it to end", || !is_alive(background.0));
}

#[test]
fn in_the_background_a_failed_start_is_told() {
    let place = Place::new();
    let _first = place.start();
    let output = place.facrond().arg("-d").output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("in use"), "{output:?}");
}

#[test]
fn exit_statuses_are_those_of_sysexits() {
    let usage = Command::new(FACROND).arg("--no-such-option").output().unwrap();
    assert_eq!(code(&usage), 2);
    assert_eq!(code(&Command::new(FACRONCTL).output().unwrap()), 2);
    assert_eq!(code(&Command::new(FACRONCTL).args(["show"]).output().unwrap()), 2);

    let place = Place::new();
    place.conf("/tmp FAN_NONSENSE -\nnonsense\n");
    let unusable = place.facrond().output().unwrap();
    assert_eq!(code(&unusable), 78);
    assert!(err(&unusable).contains("FAN_NONSENSE") && err(&unusable).contains(":2:1"), "{unusable:?}");
    assert!(!fs::exists(place.path("control.sock")).unwrap());

    // the place belongs to root
    place.conf("");
    let mut facrond = as_stranger(place.for_all(FACROND));
    let refused = facrond.args(place.options()).output().unwrap();
    assert_eq!(code(&refused), 77, "{refused:?}");
    assert!(err(&refused).contains(&place.path("control.sock")), "{refused:?}");
}

#[test]
fn the_socket_can_be_named_by_the_environment() {
    let place = Place::new();
    let _daemon = place.start();
    let list = |mut ctl: Command, socket: &str| {
        let output = ctl.args(["--json", "list"]).env("FACRON_SOCKET", socket).output().unwrap();
        (code(&output), out(&output))
    };
    let listed = (0, "[]\n".to_owned());
    assert_eq!(list(Command::new(FACRONCTL), &place.path("control.sock")), listed);
    // an option goes before it, and an empty variable is none
    assert_eq!(list(place.facronctl(), "/nowhere"), listed);
    assert_eq!(list(place.facronctl(), ""), listed);
}

#[test]
fn the_log_can_be_json() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE sh -c 'echo said'\n", place.play("")));
    let daemon = place.start_with(&["--log-format", "json"]);
    place.write("file");
    daemon.wait_for_log("said");
    for line in daemon.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string(), "{line}");
    }
}

/// Who is told that the daemon is ready may send it a signal.
#[test]
fn signals_count_from_the_moment_that_it_is_ready() {
    let place = Place::new();
    let manager = UnixDatagram::bind(place.path("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let ready = || {
        let mut command = place.facrond();
        let mut daemon =
            command.env("NOTIFY_SOCKET", place.path("notify")).stderr(place.log_file("log")).spawn().unwrap();
        let next = |what: &str| {
            let receive = || {
                let mut message = [0; 256];
                let length = manager.recv(&mut message).unwrap();
                String::from_utf8_lossy(&message[..length]).into_owned()
            };
            let message = std::iter::repeat_with(receive).find(|message| !message.starts_with("FDSTORE=1"));
            assert!(message.unwrap().contains(what), "{what}");
        };
        next("READY=1");
        for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
            kill(daemon.id().cast_signed(), signal);
            next("RELOADING=1");
            next("READY=1");
        }
        kill(daemon.id().cast_signed(), Signal::SIGTERM);
        next("STOPPING=1");
        assert!(daemon.wait().unwrap().success());
    };
    (0..5).for_each(|_| ready());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut watch = Command::new(FACROND);
        let watch = watch.args(["watch", &place.play(""), "CREATE", "-"]).stdin(Stdio::null());
        let mut daemon = watch.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(daemon.stderr.take().unwrap()).lines().map(Result::unwrap);
        said.find(|line| line.contains("watching")).unwrap();
        kill(daemon.id().cast_signed(), signal);
        assert!(daemon.wait().unwrap().success());
    }
}
