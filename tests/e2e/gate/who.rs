//! `uid=` and `exe=`: only some are held up.

use super::{Opened, let_age, open, with_rules};
use crate::harness::{Place, STRANGER, as_stranger};
use std::process::Command;

/// Whether `cat`, run like this, may.
fn cat(mut command: Command, file: &str) -> bool {
    command.arg(file).output().unwrap().status.success()
}

#[test]
fn by_user() {
    let rules =
        |place: &Place| format!("{} OPEN_PERM [uid={STRANGER} verdict=deny] -\n", place.write("file"));
    with_rules(rules, |place, _| {
        let file = place.play("file");
        assert_eq!(open(&file), Opened::Yes);
        assert!(!cat(as_stranger("cat"), &file));
        assert!(cat(Command::new("cat"), &file));
    });
}

#[test]
fn by_program_and_never_remembered_for_others() {
    let rules =
        |place: &Place| format!("{} OPEN_PERM [exe=!cat verdict=deny cache=1m] -\n", place.write("file"));
    with_rules(rules, |place, _| {
        let file = place.play("file");
        let_age(&file);
        for _ in 0..3 {
            assert!(cat(Command::new("cat"), &file));
            assert_eq!(open(&file), Opened::Denied);
        }
    });
}
