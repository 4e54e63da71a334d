//! `FAN_PRE_ACCESS`: a file's content, apart from its opening.

use super::{Opened, outcome, script};
use crate::harness::{Mount, Place, Watchdog, code, err};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// Reads a file that may always be opened.
#[track_caller]
fn read(path: &str) -> Opened {
    outcome(&File::open(path).unwrap().read(&mut [0; 16]), path)
}

#[track_caller]
fn write(path: &str, text: &str) -> Opened {
    outcome(&OpenOptions::new().write(true).open(path).unwrap().write(text.as_bytes()), path)
}

/// An ext4 file system to play in.
fn disk(place: &Place) -> Mount {
    let image = place.image("ext4.img", 16, &["mkfs.ext4", "-q"]);
    Mount::of_image(&image, "rw", &place.play("disk"))
}

#[test]
fn content_is_held_until_a_verdict() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let mount = disk(&place);
    let [no, asked, other] = ["no", "asked", "other"].map(|name| format!("{}/{name}", mount.at()));
    for file in [&no, &asked, &other] {
        std::fs::write(file, "open").unwrap();
    }
    // It reads what it decides about.
    let decide = script(&place, "decide", "read -r word < \"$1\"; [ \"$word\" = open ]");
    place.conf(&format!(
        "{no} PRE_ACCESS [verdict=deny name=no] -\n{asked} PRE_ACCESS [name=asked] {decide} $$\n"
    ));
    let _daemon = place.start();
    assert_eq!((read(&no), write(&no, "x"), read(&other)), (Opened::Denied, Opened::Denied, Opened::Yes));
    assert_eq!(
        (read(&asked), write(&asked, "shut"), read(&asked)),
        (Opened::Yes, Opened::Yes, Opened::Denied)
    );
    let last = super::records(&place, "asked", 3).pop().unwrap();
    assert_eq!(last["events"], serde_json::json!(["FAN_PRE_ACCESS"]));
    assert_eq!((&last["outcome"]["state"], &last["outcome"]["exit"]), (&"denied".into(), &1.into()));
}

/// Only a group of one class has these events: the gate has it from the start, and goes on.
#[test]
fn a_rule_about_content_joins_others() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let mount = disk(&place);
    let (first, second) = (format!("{}/first", mount.at()), format!("{}/second", mount.at()));
    std::fs::write(&first, "x").unwrap();
    std::fs::write(&second, "x").unwrap();
    place.conf(&format!("{first} OPEN_PERM [verdict=deny name=first] -\n"));
    let _daemon = place.start();
    place.ctl_ok(&["add", "-o", "verdict=deny name=second", &second, "PRE_ACCESS", "-"]);
    assert_eq!(place.status()["gate"]["starts"], 1);
    assert_eq!((super::open(&first), read(&second)), (Opened::Denied, Opened::Denied));
    assert_eq!(
        (&place.rule("first")["state"], &place.rule("second")["state"]),
        (&"active".into(), &"active".into())
    );
}

#[test]
fn a_file_system_without_these_events_is_told_of() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let mount = Mount::of_type("tmpfs", "size=1m", &place.play("memory"));
    let file = format!("{}/file", mount.at());
    std::fs::write(Path::new(&file), "x").unwrap();
    let _daemon = place.start();
    let output = place.ctl(&["add", "-o", "verdict=deny", &file, "PRE_ACCESS", "-"]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(err(&output).contains("FAN_PRE_ACCESS"), "{}", err(&output));
    assert_eq!(read(&file), Opened::Yes);
}
