//! Permission rules: what cannot be one.

use crate::permission::{Decision, Verdict};
use crate::rule::RuleSpec;
use crate::{Words, parse_words};
use std::time::Duration;

fn parse(path: &str, events: &str, options: &str, command: &str) -> Result<RuleSpec, String> {
    let words = Words {
        path: path.as_bytes(),
        events: events.as_bytes(),
        options: options.as_bytes(),
        command: vec![command.as_bytes()],
    };
    parse_words(&words).map(|(spec, _)| spec).map_err(|found| found[0].to_string())
}

#[test]
fn options_and_what_holds_without_them() {
    let options = |text: &str| parse("/a", "OPEN_PERM", text, "x").unwrap().options.permission.clone();
    let default = options("");
    assert_eq!((default.decision(), default.on_failure()), (Decision::Command, Verdict::Allow));
    assert_eq!((default.deadline(), default.cache), (Duration::from_secs(5), None));
    let given = options("verdict=deny deadline=2s on-failure=deny cache=1m");
    assert_eq!((given.decision(), given.on_failure()), (Decision::Always(Verdict::Deny), Verdict::Deny));
    assert_eq!((given.deadline(), given.cache), (Duration::from_secs(2), Some(Duration::from_secs(60))));
}

#[test]
fn mistakes() {
    for (path, events, options, command, expected) in [
        ("/a", "OPEN_PERM", "", "-", "the COMMAND `-` cannot decide"),
        (
            "/a",
            "ALL_OUTGOING_EVENTS",
            "",
            "x",
            "permission events and others cannot stand in one rule; make two",
        ),
        ("/a", "PRE_ACCESS|ONDIR", "", "x", "`FAN_PRE_ACCESS` is an event of files"),
        ("/usr/lib", "OPEN_PERM", "", "x", "permission events cannot be asked for here: all programs need"),
        (
            "/",
            "OPEN_PERM",
            "recursive",
            "x",
            "permission events cannot be asked for here: all programs need `/`",
        ),
        ("/a", "OPEN", "cache=1m", "x", "this option is for permission events, and the rule has none"),
        ("/a", "OPEN_PERM", "settle=1s", "x", "this option does not go with a command that decides"),
        ("/a", "OPEN_PERM", "verdict=deny catch-up=all", "-", "there are none that were missed"),
        ("/a", "OPEN_PERM", "verdict=no", "x", "of the option `verdict`; write `command`, `allow`"),
        ("/a", "OPEN_PERM", "on-failure=command", "x", "of the option `on-failure`; write `allow` or `deny`"),
        ("/a", "OPEN_PERM", "deadline=0s", "x", "of the option `deadline`; it must be more than nothing"),
    ] {
        let found = parse(path, events, options, command).unwrap_err();
        assert!(found.contains(expected), "{found}");
    }
    assert!(parse("/a", "OPEN_PERM", "verdict=allow settle=1s", "x").is_ok());
}
