//! PATH, EVENTS and OPTIONS: one case a fact.

use super::{errors, read, rule, warnings};
use crate::events::Events;
use crate::filter::{Filter, ObjectKind, Patterns};
use crate::process_filter::{Condition, ProcessFilter};
use crate::rule::{Command, Options, Output, Stdin};
use crate::when::{Busy, Rate};
use crate::{Words, parse_words};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn paths() {
    let cases: &[(&[u8], &[u8])] = &[
        (b"/a/b", b"/a/b"),
        (b"/a/b/", b"/a/b"),
        (b"//a///b//", b"/a/b"),
        (b"/./a/./b/.", b"/a/b"),
        (b"/", b"/"),
        (b"//", b"/"),
        (b"/..a/b..", b"/..a/b.."),
        (b"\"/a b\"", b"/a b"),
        (b"'/a \"b'", b"/a \"b"),
        (b"/a\\ b", b"/a b"),
        (b"/a\" \"b' 'c", b"/a b c"),
        (b"\"/a\\\"b\"", b"/a\"b"),
        (b"'/a\\b'", b"/a\\b"),
        (b"/a\\\\b", b"/a\\b"),
        (b"/\xff\x01\r\x1b", b"/\xff\x01\r\x1b"),
        (b"/a#b@c[d]", b"/a#b@c[d]"),
        (b"/$$", b"/$$"),
    ];
    for (written, path) in cases {
        let spec = rule([written, b" OPEN -\n".as_slice()].concat());
        assert_eq!(spec.path.as_os_str().as_bytes(), *path, "{}", written.escape_ascii());
    }
}

#[test]
fn how_a_command_runs() {
    let options = |text: &str| rule(format!("/a OPEN [{text}] true\n")).options;
    let account = options("user=root group=daemon").account.clone().unwrap();
    assert_eq!((account.uid, account.gid, account.user.name.as_str()), (0, 1, "root"));
    assert!(account.groups.contains(&1));
    assert_eq!(options("user=65534").account.as_ref().unwrap().user.name, "nobody");
    assert_eq!(options("umask=077").umask, 0o077);
    assert_eq!(options("nice=-5").nice, Some(-5));
    assert_eq!(options("stdin=json").stdin, Some(Stdin::Json));
    let default = options("once");
    assert_eq!((&default.account, default.umask, default.nice), (&None, 0o022, None));
}

#[test]
fn a_script_is_the_rest_of_the_line_as_it_stands() {
    let script = |text: &str| match rule(text).command {
        Command::Shell(script) => String::from_utf8(script).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        script("/a OPEN [shell]   echo \"$$ $@\" 'x' \\$y | cat # z \n"),
        "echo \"$$ $@\" 'x' \\$y | cat # z"
    );
    assert_eq!(script("/a OPEN [once shell] it's [odd\n"), "it's [odd");
    assert_eq!(script("/a OPEN [shell] a \\\n b\n"), "a \\\n b");
    let of_words = |words: &[&[u8]]| {
        let command = words.to_vec();
        parse_words(&Words { path: b"/a", events: b"OPEN", options: b"shell", command }).unwrap().0.command
    };
    let script = b"echo '$$' \\$x".to_vec();
    assert_eq!(of_words(&[&script]), Command::Shell(script.clone()));
    assert_eq!(Command::Shell(script.clone()).words(), [script]);
    assert_eq!(of_words(&[b"echo", b"$HOME"]), Command::Shell(b"echo $HOME".to_vec()));
}

#[test]
fn lines() {
    let cases = [
        ("/a OPEN -", 1),
        ("/a OPEN -\n/b OPEN -\n", 2),
        ("\n \n\t\n", 0),
        ("# /a OPEN -\n  # x\n\t#\n", 0),
        ("  \t/a\t OPEN \t - \t\n", 1),
        ("/a OPEN -\r\n\r\n/b OPEN -\r\n", 2),
        ("/a \\\n OPEN \\\n -\n/b OPEN -\n", 2),
        ("/a \\\r\n OPEN -\r\n", 1),
        ("# comment \\\n/a OPEN -\n", 1),
        ("/a OPEN - \\\n# is an argument here\n", 0),
        ("/a OP\\\nEN \"-\\\n\"\n", 1),
        ("/a OPEN '-\\\n'\n", 1),
        ("/a OPEN -\\", 1),
        ("/a OPEN true \\\\\n/b OPEN -\n", 2),
        ("\\\n\\\n", 0),
    ];
    for (text, rules) in cases {
        assert_eq!(read(text).rules.len(), rules, "{text:?}");
    }
}

#[test]
fn a_line_has_the_number_of_its_first_physical_line() {
    let loaded = read("# one\n\n/a \\\n OPEN -\n/b OPEN -\n");
    assert_eq!(loaded.rules.iter().map(|rule| rule.line).collect::<Vec<_>>(), [3, 5]);
}

#[test]
fn the_line_of_facron_1() {
    let spec = rule(
        "/path/to/a/file FAN_MODIFY|FAN_EVENT_ON_CHILD /path/to/script fromFacron $$ $@ $# $* $+ $- $=\n",
    );
    assert_eq!(spec.events, Events::MODIFY.with(Events::EVENT_ON_CHILD));
    assert_eq!(*spec.options, Options::default());
    let words = spec.command.words();
    let words: Vec<_> = words.iter().map(|word| str::from_utf8(word).unwrap()).collect();
    assert_eq!(words.join(" "), "/path/to/script fromFacron $$ $@ $# $* $+ $- $=");
}

#[test]
fn events() {
    let cases = [
        ("FAN_CLOSE_WRITE", Events::CLOSE_WRITE),
        ("close_write", Events::CLOSE_WRITE),
        ("Fan_Open|fan_MODIFY", Events::OPEN.with(Events::MODIFY)),
        ("OPEN,MODIFY,OPEN", Events::OPEN.with(Events::MODIFY)),
        ("MOVE", Events::MOVE),
        ("arrived|Q_OVERFLOW", Events::ARRIVED.with(Events::Q_OVERFLOW)),
        ("ALL_EVENTS|ONDIR", Events::ALL_EVENTS.with(Events::ONDIR)),
        (
            "FS_ERROR|MNT_ATTACH,FAN_MNT_DETACH",
            Events::FS_ERROR.with(Events::MNT_ATTACH).with(Events::MNT_DETACH),
        ),
        ("\"OPEN\"", Events::OPEN),
    ];
    for (written, events) in cases {
        assert_eq!(rule(format!("/a {written} -")).events, events, "{written}");
    }
}

#[test]
fn options() {
    let default = Options::default;
    let filter = |include: &[&str], exclude: &[&str], kind| {
        let strings = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect();
        Filter::new(Patterns { include: strings(include), exclude: strings(exclude), kind }).unwrap()
    };
    let cases = vec![
        ("", default()),
        ("[]", default()),
        ("[ ]", default()),
        ("[once]", Options { once: true, ..default() }),
        ("[ once\tjobs=3 ]", Options { once: true, jobs: 3.try_into().ok(), ..default() }),
        ("[name=a_.@:-1]", Options { name: Some("a_.@:-1".into()), ..default() }),
        ("[include=*.c include=*.h]", Options { filter: filter(&["*.c", "*.h"], &[], None), ..default() }),
        ("[include=\"a b\"]", Options { filter: filter(&["a b"], &[], None), ..default() }),
        ("[include='a]b']", Options { filter: filter(&["a]b"], &[], None), ..default() }),
        (
            "[include=[a-z]*.c once]",
            Options { once: true, filter: filter(&["[a-z]*.c"], &[], None), ..default() },
        ),
        ("[exclude=a\\]]", Options { filter: filter(&[], &["a]"], None), ..default() }),
        ("[type=file]", Options { filter: filter(&[], &[], Some(ObjectKind::File)), ..default() }),
        (
            "[uid=!0]",
            Options {
                process_filter: ProcessFilter { uid: Some(Condition::IsNot(0)), exe: None },
                ..default()
            },
        ),
        ("[cwd=/var/tmp]", Options { cwd: Some("/var/tmp".into()), ..default() }),
        (
            "[env=A=b=c env=\"B=x y\" env=C=]",
            Options {
                env: vec![("A".into(), "b=c".into()), ("B".into(), "x y".into()), ("C".into(), "".into())],
                ..default()
            },
        ),
        ("[output=null]", Options { output: Output::Null, ..default() }),
        ("[output=log]", default()),
        ("[output=/a/b]", Options { output: Output::File("/a/b".into()), ..default() }),
        ("[timeout=250ms]", Options { timeout: Some(Duration::from_millis(250)), ..default() }),
        ("[timeout=30s]", Options { timeout: Some(Duration::from_secs(30)), ..default() }),
        ("[timeout=5m]", Options { timeout: Some(Duration::from_secs(300)), ..default() }),
        ("[timeout=2h]", Options { timeout: Some(Duration::from_secs(7200)), ..default() }),
        ("[kill-after=0s]", Options { kill_after: Duration::ZERO, ..default() }),
        ("[once\\\n jobs=1]", Options { once: true, jobs: 1.try_into().ok(), ..default() }),
        ("[settle=300ms]", Options { settle: Some(Duration::from_millis(300)), ..default() }),
        (
            "[max-wait=2s batch=2s]",
            Options {
                batch: Some(Duration::from_secs(2)),
                max_wait: Some(Duration::from_secs(2)),
                ..default()
            },
        ),
        (
            "[rate=10/1m]",
            Options { rate: Some(Rate { runs: 10, per: Duration::from_secs(60) }), ..default() },
        ),
        ("[busy=queue]", default()),
        ("[busy=skip]", Options { busy: Busy::Skip, ..default() }),
        ("[busy=restart]", Options { busy: Busy::Restart, ..default() }),
        ("[busy=rerun]", Options { busy: Busy::Rerun, ..default() }),
        ("[retry=3]", Options { retry: 3, ..default() }),
    ];
    for (written, options) in cases {
        assert_eq!(rule(format!("/a OPEN {written} -")).options, options.into(), "{written}");
    }
}

#[test]
fn options_are_kept_as_written() {
    for (written, text) in [
        ("", ""),
        ("[ once  include='a b' ]", "once  include='a b'"),
        ("[once\\\n jobs=1]", "once jobs=1"),
        ("[include=a\\\\b]", "include=a\\\\b"),
    ] {
        let spec = rule(format!("/a OPEN {written} -"));
        assert_eq!(spec.options_text, text.as_bytes(), "{written}");
    }
}

#[test]
fn type_dir_implies_the_flags_that_the_line_does_not_decide() {
    let events = |line: &str| rule(line).events;
    let children = Events::ONDIR.with(Events::EVENT_ON_CHILD);
    assert_eq!(events("/a OPEN [type=dir] -"), Events::OPEN.with(children));
    assert_eq!(events("/a OPEN|ONDIR [type=dir] -"), Events::OPEN.with(Events::ONDIR));
    assert_eq!(events("/a OPEN [type=file] -"), Events::OPEN);
}

#[test]
fn mistakes() {
    let cases: &[(&str, &[&str])] = &[
        ("a OPEN -", &["1:1: PATH must be absolute, and `a` is not"]),
        ("'' OPEN -", &["1:1: PATH must be absolute, and `` is not"]),
        ("/a/../b OPEN -", &["1:4: PATH has a `..` in it"]),
        ("/a", &["1:3: EVENTS and COMMAND are missing"]),
        ("/a OPEN", &["1:8: COMMAND is missing"]),
        ("/a OPEN [once]", &["1:15: COMMAND is missing"]),
        ("/a OPEM -", &["1:4: unknown event `OPEM`; did you mean `FAN_OPEN`?"]),
        ("/a FAN_MODIFI -", &["1:4: unknown event `FAN_MODIFI`; did you mean `FAN_MODIFY`?"]),
        ("/a OPEN|IN_CLOSE_WRITE -", &["did you mean `FAN_CLOSE_WRITE`?"]),
        ("/a ARIVED -", &["did you mean `ARRIVED`?"]),
        ("/a xyzzyx -", &["write names of fanotify(7)"]),
        ("/a OPEN||MODIFY -", &["1:9: the name of an event is missing"]),
        ("/a OPEN| -", &["1:9: the name of an event is missing"]),
        ("/a OPEN | MODIFY -", &["1:9: `|` is not a program"]),
        ("/a ONDIR|EVENT_ON_CHILD -", &["1:4: EVENTS has flags only"]),
        ("/a OPEN [once -", &["1:9: the `]` that ends OPTIONS is missing"]),
        ("/a OPEN [once]-", &["1:15: a blank is missing"]),
        ("/a OPEN [once] [jobs=1] -", &["1:16: OPTIONS are one group before COMMAND"]),
        ("/a OPEN [zzzzzz] -", &["1:10: unknown option `zzzzzz`; the options are name, "]),
        ("/a OPEN [timout=3s] -", &["1:10: unknown option `timout`; did you mean `timeout=30s`?"]),
        ("/a OPEN [ONCE] -", &["did you mean `once`?"]),
        ("/a OPEN [once once] -", &["1:15: the option `once` is given twice"]),
        ("/a OPEN [jobs=1 jobs=2] -", &["1:17: the option `jobs` is given twice"]),
        ("/a OPEN [once=1] -", &["1:15: the option `once` takes no value; write `once` alone"]),
        (
            "/a OPEN [uid=no-such-user] -",
            &["1:14: bad value `no-such-user` of the option `uid`; there is no user"],
        ),
        ("/a OPEN [uid=root uid=!root] -", &["1:19: the option `uid` is given twice"]),
        ("/a OPEN [exe=bin/vim] -", &["bad value `bin/vim` of the option `exe`; write the path of programs"]),
        ("/a OPEN [timeout] -", &["1:10: the option `timeout` needs a value; write it like `timeout=30s`"]),
        ("/a OPEN [timeout=] -", &["1:18: bad value `` of the option `timeout`"]),
        ("/a OPEN [timeout=3] -", &["1:18: bad value `3` of the option `timeout`; write a whole number"]),
        ("/a OPEN [timeout=1.5s] -", &["bad value `1.5s`"]),
        ("/a OPEN [timeout=-1s] -", &["bad value `-1s`"]),
        ("/a OPEN [timeout=s] -", &["bad value `s`"]),
        ("/a OPEN [timeout=0s] -", &["bad value `0s`"]),
        ("/a OPEN [timeout=99999999999999999999s] -", &["not be more than a hundred years"]),
        ("/a OPEN [timeout=9999999999h] -", &["not be more than a hundred years"]),
        ("/a OPEN [settle=0ms] -", &["1:17: bad value `0ms` of the option `settle`"]),
        ("/a OPEN [max-wait=1s] -", &["1:10: `max-wait` bounds a waiting that this rule does not have"]),
        ("/a OPEN [max-wait=1s batch=2s] -", &["1:10: `max-wait` is shorter than the quiet"]),
        ("/a OPEN [rate=10] -", &["1:15: bad value `10` of the option `rate`; write a number of runs"]),
        ("/a OPEN [rate=0/1s] -", &["bad value `0/1s`"]),
        ("/a OPEN [rate=1/0s] -", &["the time must be more than nothing"]),
        ("/a OPEN [rate=100001/1h] -", &["must not be more than 100000"]),
        ("/a OPEN [busy=wait] -", &["write `queue`, `skip`, `restart` or `rerun`"]),
        ("/a OPEN [retry=-1] -", &["bad value `-1` of the option `retry`"]),
        ("/a OPEN [jobs=0] -", &["bad value `0` of the option `jobs`"]),
        ("/a OPEN [jobs=+1] -", &["bad value `+1`"]),
        ("/a OPEN [name=12] -", &["a name of digits only"]),
        ("/a OPEN [name=] -", &["bad value `` of the option `name`"]),
        ("/a OPEN [name=a/b] -", &["bad value `a/b` of the option `name`"]),
        ("/a OPEN [type=link] -", &["write `type=file` or `type=dir`"]),
        ("/a OPEN [include={a] -", &["bad value `{a` of the option `include`"]),
        ("/a OPEN [exclude=/] -", &["bad value `/` of the option `exclude`"]),
        ("/a OPEN [cwd=tmp] -", &["1:14: bad value `tmp` of the option `cwd`; it must be an absolute path"]),
        ("/a OPEN [output=file] -", &["write `log`, `null` or the absolute path"]),
        ("/a OPEN [env=A] -", &["write a name and a value"]),
        ("/a OPEN [env==b] -", &["write a name and a value"]),
        ("/a OPEN - x y", &["1:11: the COMMAND `-` runs nothing and takes no arguments"]),
        ("/a OPEN bin/x", &["1:9: the program `bin/x` is a relative path"]),
        ("/a OPEN ./x", &["the program `./x` is a relative path"]),
        ("/a OPEN ''", &["the program has no name"]),
        ("/a OPEN $$", &["1:9: the program cannot come from an event"]),
        ("/a OPEN /bin/true 'x", &["1:19: the quote ' is not closed"]),
        ("/a OPEN \"x", &["1:9: the quote \" is not closed"]),
        ("/a \0OPEN -", &["1:4: the line has a NUL byte in it"]),
        ("@inclood x", &["1:1: unknown directive `@inclood`"]),
        ("@include", &["1:1: `@include` needs a file"]),
        ("@include a b", &["1:12: `@include` takes one file"]),
        ("/a OPEN [name=x] -\n/b OPEN [name=x] -", &["2:15: the name `x` is taken; the rule at "]),
        // Every one of them, in order, and under the right physical line.
        (
            "a OPEM [x] b/c\n/ok OPEN -\n/b \\\n  OPEM \\\n  [jobs=x] -",
            &[
                "1:1: PATH",
                "1:3: unknown event",
                "1:9: unknown option",
                "1:12: the program",
                "4:3: unknown",
                "5:9: bad",
            ],
        ),
    ];
    for (text, expected) in cases {
        let loaded = read(text);
        let found = errors(&loaded.diagnostics);
        let agree = found.len() == expected.len() && found.iter().zip(*expected).all(|(f, e)| f.contains(e));
        assert!(agree, "{text:?}: {found:#?}");
    }
}

#[test]
fn a_line_with_an_error_is_no_rule_and_all_others_are() {
    let loaded = read("/a OPEN -\n/b OPEM -\n/c OPEN 'x\n/d OPEN [once -\n/e OPEN -\n");
    let paths: Vec<_> = loaded.rules.iter().map(|rule| rule.spec.path.clone()).collect();
    assert_eq!(paths, [PathBuf::from("/a"), PathBuf::from("/e")]);
}

#[test]
fn doubts() {
    let cases: &[(&str, &[&str])] = &[
        ("/a/*.c OPEN -", &["1:4: PATH is literal"]),
        ("'/a/*.c' OPEN -", &[]),
        ("/a/\\*.c OPEN -", &[]),
        ("/a OPEN /nonexistent/x", &["1:9: the program `/nonexistent/x` does not exist"]),
        ("/a OPEN /etc/passwd", &["1:9: the program `/etc/passwd` is not executable"]),
        ("/a OPEN /etc", &["1:9: the program `/etc` is a directory"]),
        ("/a OPEN no-such-program", &["1:9: no program `no-such-program` is in PATH"]),
        ("/a OPEN sh", &[]),
        ("/a OPEN [env=PATH=/nonexistent] sh", &["no program `sh` is in PATH; PATH is `/nonexistent`"]),
        ("/a OPEN [batch=1s] sh x --file=$$", &["1:25: of a batch, this is only the path of the last event"]),
        ("/a OPEN [batch=1s] sh x $$ --last=$$", &[]),
        ("/a OPEN [settle=1s] sh x --file=$$", &[]),
    ];
    for (text, expected) in cases {
        let loaded = read(text);
        let found = warnings(&loaded.diagnostics);
        let agree = found.len() == expected.len() && found.iter().zip(*expected).all(|(f, e)| f.contains(e));
        assert!(agree && loaded.rules.len() == 1, "{text:?}: {found:#?}");
    }
}
