//! COMMAND: tokens, scripts of shells, and rules given as words.

use super::{errors, read, rule, warnings};
use crate::rule::{Command, Part, RuleSpec, Token};
use crate::{Words, parse_words};

/// The parts of the last argument, literals as text and tokens as `<$x>`.
#[track_caller]
fn last(spec: &RuleSpec) -> String {
    let Command::Exec { args, .. } = &spec.command else { panic!("no command") };
    let show = |part: &Part| match part {
        Part::Literal(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Part::Token(token) => format!("<{}>", token.as_str()),
    };
    args.last().unwrap().parts.iter().map(show).collect()
}

fn words<'a>(command: &[&'a str]) -> Words<'a> {
    let command = command.iter().map(|word| word.as_bytes()).collect();
    Words { path: b"/a", events: b"OPEN", options: b"", command }
}

#[test]
fn tokens_in_a_file() {
    let cases = [
        ("$$", "<$$>"),
        ("$@$#$*$<", "<$@><$#><$*><$<>"),
        ("$+$-$=$%$&", "<$+><$-><$=><$%><$&>"),
        ("--file=$$.bak", "--file=<$$>.bak"),
        ("\"a $$\"", "a <$$>"),
        ("'a $$'", "a <$$>"),
        ("\\$$", "$$"),
        ("$\\$", "$$"),
        ("\\$\\$", "$$"),
        ("\\$$$", "$<$$>"),
        ("\"\\$@\"", "$@"),
        ("'\\$$'", "\\<$$>"),
        ("\\\\$$", "\\<$$>"),
        ("$1", "$1"),
        ("$HOME", "$HOME"),
        ("${x}", "${x}"),
        ("a$", "a$"),
        ("$$$", "<$$>$"),
        ("''", ""),
    ];
    for (written, parts) in cases {
        assert_eq!(last(&rule(format!("/a OPEN true {written}"))), parts, "{written}");
    }
}

#[test]
fn tokens_in_words() {
    let cases = [
        ("$$", "<$$>"),
        ("a b\"'$$", "a b\"'<$$>"),
        ("\\$$", "$$"),
        ("\\$HOME", "$HOME"),
        ("\\\\$$", "\\<$$>"),
        ("\\\\\\$$", "\\$$"),
        ("a\\b\\\\c", "a\\b\\\\c"),
        ("", ""),
    ];
    for (written, parts) in cases {
        let (spec, _) = parse_words(&words(&["true", written])).unwrap();
        assert_eq!(last(&spec), parts, "{written}");
    }
}

#[test]
fn scripts_of_shells_stay_as_they_are() {
    let scripts = [
        "sh -c",
        "/bin/sh -c",
        "/usr/local/bin/bash -ec",
        "dash -e -c",
        "ash -c --",
        "ksh -xc",
        "zsh -f -c",
        "sh -c -e",
        "bash -o pipefail -c",
        "bash -ceo pipefail",
        "bash +x -c",
        "bash --norc --rcfile /x -c",
        "zsh --emulate sh -c",
        "busybox sh -c",
        "/bin/busybox ash -c",
        "env sh -c",
        "/usr/bin/env -i -u HOME LANG=C bash -c",
        "env busybox sh -c",
    ];
    for shell in scripts {
        let spec = rule(format!("/a OPEN {shell} 'x $$ \\$y'"));
        assert_eq!(last(&spec), "x $$ \\$y", "{shell}");
        let spec = rule(format!("/a OPEN {shell} 'x' sh $$"));
        assert_eq!(last(&spec), "<$$>", "{shell}");
    }
}

#[test]
fn other_operands_are_no_scripts() {
    for command in [
        "sh",
        "sh -e",
        "sh /script -c",
        "sh -- /script -c",
        "bash +c",
        "true -c",
        "busybox cat -c",
        "env true -c",
    ] {
        assert_eq!(last(&rule(format!("/a OPEN {command} $$"))), "<$$>", "{command}");
    }
}

#[test]
fn scripts_are_the_same_in_words() {
    let (spec, warnings) = parse_words(&words(&["sh", "-c", "x $$ \\$y", "sh", "$$"])).unwrap();
    let Command::Exec { args, .. } = &spec.command else { panic!("no command") };
    assert_eq!(args[1].parts, [Part::Literal(b"x $$ \\$y".to_vec())]);
    assert_eq!(args[3].parts, [Part::Token(Token::Path)]);
    assert_eq!(warnings.len(), 1);
}

#[test]
fn a_token_in_a_script_is_doubted() {
    let doubted = [
        ("sh -c 'x $$'", "1:18: `$$`"),
        ("sh -c 'x $@'", "`$@`"),
        ("sh -c 'x $$' sh $$", "`$$`"),
        ("sh -c 'x $%' sh $$", "`$%`"),
    ];
    for (command, message) in doubted {
        let warnings = warnings(&read(format!("/a OPEN {command}")).diagnostics);
        assert!(matches!(warnings.as_slice(), [one] if one.contains(message)), "{command}: {warnings:?}");
    }
    for command in ["sh -c 'x \"$@\"' sh $$", "sh -c 'x $# $*' sh $$", "sh -c \"x \\$\\$\"", "sh -c 'x $1'"] {
        assert_eq!(warnings(&read(format!("/a OPEN {command}")).diagnostics), [""; 0], "{command}");
    }
}

#[test]
fn nothing_to_run() {
    for line in ["/a OPEN -", "/a OPEN '-'", "/a OPEN [once] -"] {
        assert_eq!(rule(line).command, Command::Record, "{line}");
    }
    assert_eq!(parse_words(&words(&["-"])).unwrap().0.command, Command::Record);
}

#[test]
fn words_are_what_they_are() {
    let given = Words {
        path: b"/a b'c\xff/",
        events: b"open|modify",
        options: b" include='a b' env=X=[a ",
        command: vec![b"[once]", b"a\nb", b"x\\y", b""],
    };
    let (spec, _) = parse_words(&given).unwrap();
    let line = b"\"/a b'c\xff\" OPEN|MODIFY [include='a b' env=X=\\[a] -";
    let same = rule(line.as_slice());
    assert_eq!((&spec.path, spec.events, &spec.options), (&same.path, same.events, &same.options));
    assert_eq!(spec.options_text, b"include='a b' env=X=[a");
    assert_eq!(spec.command.words(), given.command);
}

#[test]
fn mistakes_in_words() {
    let cases: &[(Words<'_>, &str)] = &[
        (Words { path: b"a", ..words(&["-"]) }, "1:1: PATH must be absolute"),
        (Words { path: b"/a\nb", ..words(&["-"]) }, "1:4: PATH has a newline in it"),
        (Words { path: b"/a\0b", ..words(&["-"]) }, "1:4: the line has a NUL byte"),
        (Words { path: b"", ..words(&["-"]) }, "1:1: PATH must be absolute"),
        (Words { events: b"", ..words(&["-"]) }, "1:4: the name of an event is missing"),
        (Words { events: b"OPEN|MODIFI", ..words(&["-"]) }, "1:9: unknown event"),
        (Words { options: b"once x", ..words(&["-"]) }, "1:15: unknown option `x`"),
        (Words { options: b"include='x", ..words(&["-"]) }, "1:18: the quote ' is not closed"),
        (words(&[]), "1:8: COMMAND is missing"),
        (words(&["a/b"]), "1:9: the program `a/b` is a relative path"),
        (words(&["a$$"]), "1:10: the program cannot come from an event"),
        (words(&["-", "x"]), "1:11: the COMMAND `-`"),
    ];
    for (words, message) in cases {
        let errors = errors(&parse_words(words).unwrap_err());
        assert!(matches!(errors.as_slice(), [one] if one.contains(message)), "{message}: {errors:?}");
    }
}
