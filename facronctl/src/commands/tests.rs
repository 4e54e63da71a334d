//! Each command against a daemon that says what it was told to say.

#![expect(clippy::needless_pass_by_value, reason = "json!(...) reads best as an argument")]

use super::run;
use crate::cli::Cli;
use crate::style::{Style, When};
use crate::terminal::Terminal;
use clap::Parser;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

/// What the client asked, and what it wrote.
struct Ran {
    method: String,
    params: Value,
    out: String,
    err: String,
    failed: bool,
}

/// Runs `facronctl` with these words against a daemon that answers the one
/// request with this member, then sends these lines and closes.
fn ran_with(words: &[&str], answer: &Value, then: &[Value]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::scope(|scope| {
        let daemon = scope.spawn(|| {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let request: Value = serde_json::from_str(&line).unwrap();
            let mut reply = json!({"jsonrpc": "2.0", "id": request["id"]});
            reply.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
            for line in [&reply].into_iter().chain(then) {
                writeln!(stream.get_mut(), "{line}").unwrap();
            }
            request
        });
        let (out, err, failed) = client(&socket, words);
        let request = daemon.join().unwrap();
        let method = request["method"].as_str().unwrap().to_owned();
        Ran { method, params: request["params"].clone(), out, err, failed }
    })
}

fn ran(words: &[&str], result: Value) -> Ran {
    ran_with(words, &json!({ "result": result }), &[])
}

fn client(socket: &Path, words: &[&str]) -> (String, String, bool) {
    let cli = Cli::parse_from(["facronctl", "-s", socket.to_str().unwrap()].iter().chain(words));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal {
        out: &mut out,
        err: &mut err,
        json: cli.json,
        style: Style::new(When::Never, false),
        width: None,
        time_zone: TimeZone::UTC,
    };
    let outcome = run(&cli, &mut terminal);
    if let Err(error) = &outcome {
        error.report(&mut terminal);
    }
    let failed = !outcome.is_ok_and(|status| status == ExitCode::SUCCESS);
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), failed)
}

fn rule() -> Value {
    json!({"id": 7, "name": "in", "source": "file", "file": "/etc/facron.conf", "line": 3, "state": "waiting",
        "reason": "/srv is not there", "path": "/srv/a\u{1b}b", "events": ["FAN_OPEN", "FAN_CLOSE_WRITE"],
        "options": "once", "command": ["sh", "-c", "echo $1", "sh", "$$"], "added": "2024-05-01T10:00:00Z",
        "fired": 5, "failed": 1, "last": "2024-05-01T11:12:13.5Z", "unknown": true})
}

fn record(state: &str, more: Value) -> Value {
    let mut outcome = json!({"state": state});
    outcome.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"seq": 1, "time": "2024-05-01T11:12:13.123456789Z", "rule": 7, "rule_name": null,
        "events": ["FAN_RENAME"], "path": "/srv/new name", "old_path": {"base64": "L/8="}, "pid": 42,
        "exe": "/usr/bin/mv", "uid": 0, "synthetic": false, "repeated": false, "merged": 0, "outcome": outcome})
}

#[test]
fn add_sends_an_absolute_path_and_one_line_of_options() {
    let mut reply = rule();
    reply["warnings"] = json!([{"severity": "warning", "message": "m", "file": null, "line": 1, "column": 1,
        "help": null, "rendered": "warning: odd\u{1b}\n ^ here\n"}]);
    let words =
        ["add", "-o", "recursive", "-o", "once", "--persist", "x/../y/", "OPEN|CLOSE", "sh", "-c", "true"];
    let ran = ran(&words, reply);
    assert_eq!(ran.method, "add");
    let here = std::env::current_dir().unwrap();
    assert_eq!(
        ran.params,
        json!({"path": here.join("y"), "events": "OPEN|CLOSE", "command": ["sh", "-c", "true"],
            "options": "recursive once", "persist": true})
    );
    assert_eq!(ran.out, "added rule 7\n");
    assert_eq!(ran.err, "warning: odd\\u{1b}\n ^ here\nfacronctl: rule 7 is waiting: /srv is not there\n");
}

#[test]
fn a_refused_rule_is_told_with_its_diagnostics() {
    let error = json!({"code": -32002, "message": "the rule was refused", "data": [{"severity": "error",
        "message": "m", "file": null, "line": 1, "column": 1, "help": null, "rendered": "error: no\n ^\n"}]});
    let ran = ran_with(&["add", "/a", "OPEN", "-"], &json!({ "error": error }), &[]);
    assert!(ran.failed);
    assert_eq!(
        (ran.out.as_str(), ran.err.as_str()),
        ("", "error: no\n ^\nfacronctl: the rule was refused\n")
    );
}

#[test]
fn remove_pause_and_resume_take_numbers_and_names() {
    for (word, method, said) in [
        ("rm", "remove", "removed"),
        ("remove", "remove", "removed"),
        ("pause", "pause", "paused"),
        ("resume", "resume", "resumed"),
    ] {
        let ran = ran(&[word, "7", "in"], json!({"rules": [7, 9]}));
        assert_eq!((ran.method.as_str(), ran.params), (method, json!({"rules": [7, "in"]})));
        assert_eq!(ran.out, format!("{said} rule 7\n{said} rule 9\n"));
    }
}

#[test]
fn list_is_a_table() {
    let ran = ran(&["list"], json!([rule()]));
    assert_eq!(
        ran.out,
        "ID  NAME  SOURCE  STATE    PATH           EVENTS                    COMMAND                  FIRED  FAILED  LAST\n\
         7   in    file    waiting  /srv/a\\u{1b}b  FAN_OPEN|FAN_CLOSE_WRITE  sh -c 'echo $1' sh '$$'  5      1       2024-05-01 11:12:13\n"
    );
}

#[test]
fn show_tells_where_a_rule_is_from_and_why_it_waits() {
    let ran = ran(&["show", "in"], rule());
    assert_eq!(ran.params, json!({"rule": "in"}));
    assert!(ran.out.contains("source   file /etc/facron.conf:3\n"), "{}", ran.out);
    assert!(ran.out.contains("state    waiting: /srv is not there\n"), "{}", ran.out);
    assert!(ran.out.contains("last     2024-05-01 11:12:13.500\n"), "{}", ran.out);
}

#[test]
fn json_is_what_the_daemon_said() {
    let ran = ran(&["--json", "show", "7"], rule());
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), rule());
}

#[test]
fn reload_tells_the_difference_or_what_is_wrong() {
    let counts = json!({"added": 1, "removed": 2, "changed": 3, "kept": 4});
    assert_eq!(ran(&["reload"], counts).out, "1 added, 2 removed, 3 changed, 4 kept\n");
}

#[test]
fn tail_is_a_line_a_record() {
    let exited = record("exited", json!({"pid": 50, "exit": 0, "duration_ms": 12.4}));
    let reply = json!({"records": [exited, record("pending", json!({}))]});
    let ran = ran(&["tail", "-n", "3", "--rule", "7", "--failed"], reply);
    assert_eq!(ran.params, json!({"limit": 3, "rule": 7, "failed": true, "follow": false}));
    let start = "2024-05-01 11:12:13.123  7  FAN_RENAME  $'/\\377' -> '/srv/new name'  42 /usr/bin/mv  ";
    assert_eq!(ran.out, format!("{start}exit 0 after 12 ms (pid 50)\n{start}pending\n"));
}

#[test]
fn tail_sends_its_conditions_as_the_daemon_takes_them() {
    let words = ["tail", "--since", "@5.25", "--until", "2026-11-24T10:00:00+01:00"];
    let more = ["--path", "*.c", "--exe", "!vi", "--uid", "7"];
    let mut expected = json!({"limit": u64::MAX, "failed": false, "since": "1970-01-01T00:00:05.25Z",
        "until": "2026-11-24T09:00:00Z", "path": "*.c", "exe": "!vi", "uid": 7, "follow": false});
    assert_eq!(ran(&[&words[..], &more].concat(), json!({"records": []})).params, expected);
    expected["limit"] = 2.into();
    assert_eq!(ran(&[&words[..], &more, &["-n", "2"]].concat(), json!({"records": []})).params, expected);
    let params = ran(&["tail", "--until", "@-9"], json!({"records": []})).params;
    assert_eq!((&params["limit"], &params["until"]), (&10.into(), &"1970-01-01T00:00:00Z".into()));
}

#[test]
fn tail_goes_on_until_the_daemon_ends() {
    let notice = |method: &str, member: &str, value: Value| json!({"jsonrpc": "2.0", "method": method, "params": {"subscription": 1, member: value}});
    let then = [
        notice("record", "record", record("running", json!({"pid": 50}))),
        notice("lagged", "missed", json!(3)),
        notice("unheard-of", "x", json!(3)),
        notice("record", "record", record("recorded", json!({}))),
    ];
    let answer = json!({"result": {"records": [], "subscription": 1}});
    let ran = ran_with(&["tail", "-n", "0", "-f"], &answer, &then);
    assert_eq!(ran.params, json!({"limit": 0, "failed": false, "follow": true}));
    assert!(ran.out.ends_with("recorded\n") && ran.out.lines().count() == 1, "{}", ran.out);
    let (lagged, closed) = ran.err.split_once('\n').unwrap();
    assert_eq!(lagged, "facronctl: 3 records were not read in time and are left out");
    assert!(ran.failed && closed.contains("has closed the connection"), "{closed}");

    let ran = ran_with(&["tail", "-f", "--json"], &answer, &then);
    let states: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(states, [record("running", json!({"pid": 50})), record("recorded", json!({}))]);
}

#[test]
fn status_is_a_page() {
    let status = json!({"version": "1.2.3", "pid": 9, "uptime_ms": 61_000, "rules": {"active": 3, "waiting": 1},
        "marks": {}, "queue": {"pending": 1, "running": 2, "limit": 10}, "health": "ok",
        "events": {"read": 4, "matched": 3, "ignored_own": 1, "overflows": 0}, "own_events": "perf",
        "jobs": {"run": 3, "failed": 1, "merged": 0, "skipped": 0, "dropped": 0, "timeout": 0}});
    assert_eq!(
        ran(&["status"], status).out,
        "health   ok\n\
         facrond  1.2.3, pid 9, up 1m 1s\n\
         rules    3 active, 1 waiting\n\
         marks    none\n\
         queue    1 pending (at most 10), 2 running\n\
         events   4 read, 3 matched, 1 of facron's own ignored, 0 overflows\n\
         own      known completely, by the forks of commands (perf)\n\
         jobs     3 run, 1 failed, 0 timed out, 0 merged, 0 skipped, 0 dropped\n"
    );
}

#[test]
fn explain_shows_command_lines() {
    let reply = json!([{"rule": 7, "argv": ["mv", "--", "/a b"]}, {"rule": 8, "argv": []}]);
    let ran_ = ran(&["explain", "/a b", "open"], reply);
    assert_eq!(ran_.params, json!({"path": "/a b", "events": "open"}));
    assert_eq!(ran_.out, "rule 7 would run mv -- '/a b'\nrule 8 would record it\n");
    assert_eq!(ran(&["explain", "/a", "open"], json!([])).out, "no rule would fire\n");
}

#[test]
fn without_a_daemon_the_socket_and_the_way_out_are_named() {
    let (out, err, failed) = client(Path::new("/nonexistent/s"), &["list"]);
    assert!(failed && out.is_empty());
    assert_eq!(
        err,
        "facronctl: cannot reach the daemon at /nonexistent/s: no such file (is facrond running? facrond starts it)\n"
    );
}

#[test]
fn check_needs_no_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.conf");
    let nowhere = Path::new("/nonexistent/s");
    std::fs::write(&file, "/a OPEN -\n/b FAN_OPNE -\n").unwrap();
    let words = ["check", file.to_str().unwrap()];
    let (out, err, failed) = client(nowhere, &words);
    assert!(failed && err.is_empty() && out.contains("FAN_OPNE"), "{out}{err}");
    let (out, _, failed) = client(nowhere, &["--json", words[0], words[1]]);
    let diagnostics: Value = serde_json::from_str(&out).unwrap();
    assert!(failed && diagnostics[0]["line"] == 2, "{out}");
    std::fs::write(&file, "/a OPEN -\n").unwrap();
    assert!(!client(nowhere, &words).2);
}

#[test]
fn each_shell_gets_a_script_for_each_program() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        for program in ["facronctl", "facrond"] {
            let (out, err, failed) = client(Path::new("/nonexistent"), &["completions", shell, program]);
            assert!(out.contains(program) && err.is_empty() && !failed, "{shell} {program}");
        }
    }
}

#[test]
fn the_manual_is_where_man_looks() {
    let dir = tempfile::tempdir().unwrap();
    let (_, err, failed) = client(Path::new("/nonexistent"), &["man", dir.path().to_str().unwrap()]);
    assert!(!failed, "{err}");
    let page = |name| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(page("man1/facronctl-add.1").contains("\\-\\-persist"));
    assert!(page("man8/facrond.8").contains("\\-\\-conf\\-dir"));
    assert!(page("man5/facron.conf.5").contains("FAN_CLOSE_WRITE"));
    assert!(!dir.path().join("man1/facronctl-man.1").exists());
}

#[test]
fn json_has_nothing_that_a_terminal_obeys() {
    let shown = ran(&["--json", "status"], json!({"health": "\u{9b}31m\u{202e}"}));
    assert_eq!(shown.out, "{\"health\":\"\\u009b31m\\u202e\"}\n");
    let record = ran(&["--json", "tail"], json!({"records": [{"path": "\u{7f}"}]}));
    assert_eq!(record.out, "{\"path\":\"\\u007f\"}\n");
}

#[test]
fn tail_says_that_records_are_left_out() {
    let tail = ran(&["tail"], json!({"records": [], "truncated": true}));
    assert!(tail.err.contains("older records are left out"), "{}", tail.err);
    assert_eq!(ran(&["tail"], json!({"records": []})).err, "");
}
