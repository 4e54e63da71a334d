//! Diagnostics as they are drawn.

use crate::{Words, load_files, parse_words};
use std::fs;

/// The drawings of a file named `F`, one after the other.
fn drawn(text: impl AsRef<[u8]>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("F");
    fs::write(&file, text).unwrap();
    let loaded = load_files(&[file]);
    let drawn: Vec<_> = loaded.diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect();
    drawn.join("\n\n").replace(&format!("{}/", dir.path().display()), "")
}

#[track_caller]
fn assert_drawn(text: impl AsRef<[u8]>, expected: &str) {
    let drawn = drawn(text);
    assert!(drawn.trim() == expected.trim(), "\n{drawn}\n");
}

#[test]
fn an_unknown_event() {
    assert_drawn(
        "# rules\n/etc/hosts FAN_MODIFI|FAN_ATTRIB /bin/true\n",
        r"
error: unknown event `FAN_MODIFI`
 --> F:2:12
  |
2 | /etc/hosts FAN_MODIFI|FAN_ATTRIB /bin/true
  |            ^^^^^^^^^^
  |
  = help: did you mean `FAN_MODIFY`?
",
    );
}

#[test]
fn all_of_a_line_in_order() {
    assert_drawn(
        "/srv OPEN|OPEM \\\n    [timeout=5 timout=5s] \\\n    bin/x\n",
        r"
error: unknown event `OPEM`
 --> F:1:11
  |
1 | /srv OPEN|OPEM \
  |           ^^^^
  |
  = help: did you mean `FAN_OPEN`?

error: bad value `5` of the option `timeout`
 --> F:2:14
  |
2 |     [timeout=5 timout=5s] \
  |              ^
  |
  = help: write a whole number and a unit: `250ms`, `30s`, `5m` or `2h`

error: unknown option `timout`
 --> F:2:16
  |
2 |     [timeout=5 timout=5s] \
  |                ^^^^^^
  |
  = help: did you mean `timeout=30s`?

error: the program `bin/x` is a relative path
 --> F:3:5
  |
3 |     bin/x
  |     ^^^^^
  |
  = help: write its absolute path, or its name alone to look it up in PATH
",
    );
}

#[test]
fn a_script_with_a_token() {
    assert_drawn(
        "/in ARRIVED sh -c 'mv $$ /done'\n",
        r#"
warning: `$$` is not replaced in a shell's script, so that no file name can become code
 --> F:1:23
  |
1 | /in ARRIVED sh -c 'mv $$ /done'
  |                       ^^
  |
  = help: pass it behind the script: `sh -c 'mv -- "$1" /done' sh $$`
"#,
    );
}

#[test]
fn nothing_reaches_the_terminal_raw_and_the_mark_keeps_its_place() {
    assert_drawn(
        b"/\xff\x1b[2J\xc3\xa9\tOP\xfeN -\n",
        r"
error: unknown event `OP\xfeN`
 --> F:1:10
  |
1 | /\xff\u{1b}[2Jé    OP\xfeN -
  |                    ^^^^^^^
  |
  = help: did you mean `FAN_OPEN`?
",
    );
}

#[test]
fn a_long_line_is_cut_around_the_mark() {
    let text = format!("/a OPEN true {} 'x {}\n", "y".repeat(5000), "z".repeat(5000));
    let drawn = drawn(text);
    assert!(drawn.contains("F:1:5015"), "{drawn}");
    assert!(drawn.lines().all(|line| line.len() < 500), "{drawn}");
}

#[test]
fn a_rule_given_as_words() {
    let words = Words { path: b"/a b", events: b"OPEM", options: b"once", command: vec![b"x", b"it's\n"] };
    let diagnostics = parse_words(&words).unwrap_err();
    let expected = r"
error: unknown event `OPEM`
 --> <command line>:1:8
  |
1 | '/a b' OPEM [once] x 'it'\''s\n'
  |        ^^^^
  |
  = help: did you mean `FAN_OPEN`?
";
    assert_eq!(diagnostics[0].render(false), expected.trim());
    let proto = diagnostics[0].to_proto();
    assert_eq!((proto.file, proto.line, proto.column), (None, 1, 8));
    assert_eq!(proto.rendered, expected.trim());
}

#[test]
fn colours_only_where_asked_for() {
    let words = Words { path: b"/a", events: b"x", options: b"", command: vec![b"-"] };
    let diagnostics = parse_words(&words).unwrap_err();
    assert!(diagnostics[0].render(true).contains("\x1b["));
    assert!(!diagnostics[0].render(false).contains('\x1b'));
}
