//! How commands run: as whom, in what surroundings, with which input, and how all of them end.

use crate::harness::{FACRONCTL, Place, children, code, err, give, is_alive, wait_for, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

fn lines(file: &str) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The value of a line like `Name: value` of `/proc/PID/status`.
fn field<'a>(lines: &'a [String], name: &str) -> Vec<&'a str> {
    let line = lines.iter().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().skip(1).collect()
}

#[test]
fn a_command_of_another_user_is_what_a_login_of_it_would_be() {
    let place = Place::new();
    let out = place.mkdir("out");
    give(&out);
    place.conf(&format!(
        "{} CLOSE_WRITE [user=nobody umask=027 nice=3 cwd={out} shell] id > id; cat /proc/self/status > status; \
         ls -l /proc/self/fd > fd; env > env; nice > nice; touch done\n",
        place.mkdir("in"),
    ));
    let _daemon = place.start();
    place.write("in/file");
    wait_until("the command", || fs::exists(place.play("out/done")).unwrap());
    place.settle();
    let login = Command::new("su").args(["-s", "/bin/sh", "nobody", "-c", "id"]).output().unwrap();
    assert_eq!(fs::read(place.play("out/id")).unwrap(), login.stdout);
    let status = lines(&place.play("out/status"));
    assert_eq!(field(&status, "Uid:"), ["65534"; 4]);
    assert_eq!(field(&status, "Gid:"), ["65534"; 4]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(&status, set), ["0000000000000000"], "{set}");
    }
    for set in ["SigBlk:", "SigIgn:"] {
        assert_eq!(field(&status, set), ["0000000000000000"], "{set}");
    }
    assert_eq!((field(&status, "NoNewPrivs:"), field(&status, "Umask:")), (vec!["0"], vec!["0027"]));
    assert_eq!(lines(&place.play("out/nice")), ["3"]);
    let open: Vec<_> = lines(&place.play("out/fd"));
    // the total, 0, 1, 2, and the directory that ls reads
    assert_eq!(open.len(), 5, "{open:?}");
    let env = lines(&place.play("out/env"));
    for variable in ["USER=nobody", "LOGNAME=nobody", "HOME=/nonexistent", "SHELL=/usr/sbin/nologin"] {
        assert!(env.iter().any(|line| line == variable), "{variable}: {env:?}");
    }
}

#[test]
fn who_does_not_exist_is_an_error_of_the_line() {
    let place = Place::new();
    place.conf("/a CLOSE_WRITE [user=nobody-such] true\n/b CLOSE_WRITE [group=nobody-such] true\n");
    let output = place.facrond_check();
    assert_eq!(code(&output), 1);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("there is no such user") && text.contains("there is no such group"), "{text}");
}

#[test]
fn a_script_is_taken_as_it_stands() {
    let place = Place::new();
    let out = place.path("out");
    let script = format!(r#"printf '%s|%s\n' "$FACRON_NAME" '$$ $@' \$x "a  b" >> {out}; # it's all"#);
    place.conf(&format!("{} CLOSE_WRITE [name=file shell] {script}\n", place.play("")));
    let _daemon = place.start();
    place.ctl_ok(&["add", "-o", "shell name=added", &place.play(""), "CLOSE_WRITE", &script]);
    for name in ["file", "added"] {
        assert_eq!(place.rule(name)["command"], serde_json::json!([script]));
    }
    place.write("it's");
    place.settle();
    assert_eq!(lines(&out), ["it's|$$ $@", "$x|a  b", "it's|$$ $@", "$x|a  b"]);
}

#[test]
fn events_come_on_standard_input() {
    let place = Place::new();
    let (one, all) = (place.path("one"), place.path("all"));
    let dir = place.play("");
    place.conf(&format!(
        "{dir} CLOSE_WRITE [stdin=json name=one] sh -c 'cat >> {one}'\n\
         {dir} CLOSE_WRITE [stdin=json batch=300ms] sh -c 'cat >> {all}'\n\
         {dir} CLOSE_WRITE [stdin=json] true\n"
    ));
    let _daemon = place.start();
    let count = 1000;
    for number in 0..count {
        place.write(&format!("{number:0200}"));
    }
    fs::write(std::ffi::OsStr::from_bytes(&[dir.as_bytes(), b"/\xff"].concat()), "").unwrap();
    place.settle();
    wait_until("the batch", || lines(&all).len() == count + 1);
    let events: Vec<Value> = lines(&all).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[7]["path"], place.play(&format!("{:0200}", 7)));
    assert_eq!(events[7]["events"], serde_json::json!(["FAN_CLOSE_WRITE"]));
    assert_eq!(events[7]["pid"], std::process::id());
    assert!(events[count]["path"]["base64"].is_string());
    wait_until("all commands", || lines(&one).len() == count + 1);
}

#[test]
fn all_that_descends_from_a_command_ends_with_it() {
    let place = Place::new();
    let pids = place.path("pids");
    // Deaf ones far away, and a crowd: two to the power of six shells, each with a sleep.
    let script = format!(
        "trap '' TERM; setsid sh -c '(sh -c \"echo \\$\\$ >> {pids}; exec sleep 3600\" &) &'; \
         crowd() {{ echo x >> {pids}.crowd; [ $1 -gt 0 ] && {{ crowd $(($1-1)) & setsid sleep 3600 & crowd $(($1-1)) & }}; \
         sleep 3600; }}; crowd 6"
    );
    place.conf(&format!(
        "{} CLOSE_WRITE [name=bomb timeout=2s kill-after=300ms shell] {script}\n",
        place.play("")
    ));
    let daemon = place.start();
    place.write("file");
    wait_until("the crowd", || lines(&format!("{pids}.crowd")).len() == 127);
    let far: i32 = wait_for("the far one", || lines(&pids).first()?.parse().ok());
    wait_until("the timeout", || place.tail_of("bomb")[0]["outcome"]["state"] == "timeout");
    assert!(!is_alive(far));
    wait_until("all to be gone", || children(daemon.pid()).is_empty());
}

#[test]
fn what_waits_at_the_end_of_a_daemon_runs_after_the_next_start() {
    let place = Place::new();
    let records = place.records("records");
    let (go, dir) = (place.path("go"), place.mkdir("in"));
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=file jobs=1] sh -c 'while ! [ -e {go} ]; do sleep 0.01; done; {}' sh $$\n",
        records.command("\"$1\""),
    ));
    let daemon = place.start();
    let paths: Vec<_> = (0..5).map(|number| place.write(&format!("in/{number}"))).collect();
    wait_until("all to be read", || place.fired("file") == 5);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait_for_log("kept for the next start");
    drop(daemon);
    fs::write(&go, "").unwrap();
    let daemon = place.start();
    wait_until("all to run", || records.firsts().len() >= 4);
    place.settle();
    assert_eq!(records.firsts(), paths[1..]);
    let tail = place.tail_of("file");
    assert_eq!(tail.len(), 4);
    assert!(
        tail.iter().all(|record| record["repeated"] == true && record["outcome"]["exit"] == 0),
        "{tail:?}"
    );
    drop(daemon);
    let _daemon = place.start();
    place.settle();
    assert_eq!(records.firsts().len(), 4, "once is enough");
}

#[test]
fn a_reload_lets_the_commands_of_a_removed_rule_finish_and_remove_does_not() {
    let place = Place::new();
    let (go, done, dir) = (place.path("go"), place.path("done"), place.mkdir("in"));
    let wait = format!("while ! [ -e {go} ]; do sleep 0.01; done; touch {done}");
    place.conf(&format!("{dir} CLOSE_WRITE [shell] {wait}\n"));
    let daemon = place.start();
    place.write("in/file");
    wait_until("the command", || children(daemon.pid()).len() == 1);
    place.conf("");
    place.ctl_ok(&["reload"]);
    daemon.wait_for_log("its commands that run go on");
    fs::write(&go, "").unwrap();
    wait_until("its end", || fs::exists(&done).unwrap());
    wait_until("its end", || children(daemon.pid()).is_empty());

    place.ctl_ok(&[
        "add",
        "-o",
        "name=added",
        &dir,
        "CLOSE_WRITE",
        "sh",
        "-c",
        "setsid sleep 3600 & sleep 3600",
    ]);
    place.write("in/file");
    wait_until("the command", || children(daemon.pid()).len() == 1);
    let output = Command::new(FACRONCTL)
        .args(["--socket", &place.path("control.sock"), "remove", "added"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    wait_until("it to be stopped", || children(daemon.pid()).is_empty());
}

#[test]
fn the_last_failure_of_a_rule_is_shown() {
    let place = Place::new();
    place.conf(&format!(
        "{} CLOSE_WRITE [name=bad shell] echo why; echo because >&2; exit 3\n",
        place.play("")
    ));
    let _daemon = place.start();
    let path = place.write("file");
    place.settle();
    let failure = &place.rule("bad")["last_failure"];
    assert_eq!((&failure["path"], &failure["outcome"]["exit"]), (&path.as_str().into(), &3.into()));
    assert!(place.ctl_ok(&["list"]).contains("1 (exit 3)"));
    let shown = place.ctl_ok(&["show", "bad"]);
    for text in ["exit 3 after", "why", "because", &path] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
}
