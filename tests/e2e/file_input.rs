//! `stdin=file`: a command gets the file of its event, and no other.

use crate::harness::{Place, as_stranger, give, wait_until};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

/// A command that appends its input to a file.
fn reader(place: &Place, last: &str) -> String {
    let path = place.path("read");
    let text = format!("#!/bin/sh\n[ \"$FACRON_FD\" = 0 ] && cat >> {}\n{last}\n", place.path("content"));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

fn content(place: &Place) -> String {
    fs::read_to_string(place.path("content")).unwrap_or_default()
}

#[test]
fn a_command_reads_the_file_of_its_event() {
    let place = Place::new();
    let (dir, read) = (place.mkdir("in"), reader(&place, ""));
    place.conf(&format!("{dir} ARRIVED [recursive jobs=1 stdin=file name=in] {read}\n"));
    let _daemon = place.start();
    let came = |text: &str| wait_until(text, || content(&place).ends_with(text));
    fs::write(format!("{dir}/written"), "written ").unwrap();
    came("written ");
    fs::write(place.play("moved"), "moved ").unwrap();
    fs::rename(place.play("moved"), format!("{dir}/moved")).unwrap();
    came("moved ");
    fs::write(place.play("linked"), "linked ").unwrap();
    fs::hard_link(place.play("linked"), format!("{dir}/linked")).unwrap();
    came("linked ");
    fs::create_dir_all(place.play("tree/below")).unwrap();
    fs::write(place.play("tree/below/file"), "below ").unwrap();
    fs::rename(place.play("tree"), format!("{dir}/tree")).unwrap();
    came("below ");
    assert_eq!(content(&place), "written moved linked below ");
    wait_until("all to succeed", || place.tail_of("in").iter().all(|record| record["outcome"]["exit"] == 0));
}

/// What its owner does with a name while the command waits for its turn.
#[test]
fn a_file_that_is_not_the_same_any_more_is_not_read() {
    let place = Place::new();
    let (dir, go) = (place.mkdir_for_all("in"), place.path("go"));
    let read = reader(&place, &format!("while ! [ -e {go} ]; do sleep 0.01; done"));
    fs::create_dir(place.path("secret")).unwrap();
    fs::write(place.path("secret/file"), "secret ").unwrap();
    fs::set_permissions(place.path("secret/file"), Permissions::from_mode(0o600)).unwrap();
    place.conf(&format!("{dir} CLOSE_WRITE [recursive jobs=1 stdin=file name=in] {read}\n"));
    let daemon = place.start();
    let names = ["first", "link", "other", "gone", "fifo", "sub/file", "last"];
    fs::create_dir(format!("{dir}/sub")).unwrap();
    give(&format!("{dir}/sub"));
    place.settle();
    for name in names {
        let file = format!("{dir}/{name}");
        fs::write(&file, format!("{name} ")).unwrap();
        give(&file);
    }
    wait_until("all to be told", || place.fired("in") == names.len() as u64);
    let script = "cd \"$1\" && ln -sf \"$2/file\" link && echo other > x && mv x other && rm gone \
                  && mkfifo x && mv x fifo && mv sub x && ln -s \"$2\" sub";
    let done = as_stranger("sh").args(["-c", script, "sh", &dir, &place.path("secret")]).status().unwrap();
    assert!(done.success());
    File::create(go).unwrap();
    let states = || -> Vec<String> {
        let records = place.tail_of("in");
        let state = |name: &&str| {
            let path = format!("{dir}/{name}");
            let record = records.iter().find(|record| record["path"] == path.as_str()).unwrap();
            record["outcome"]["state"].as_str().unwrap().to_owned()
        };
        names.iter().map(state).collect()
    };
    let [skipped, exited] = ["skipped", "exited"];
    let expected = [exited, skipped, skipped, skipped, skipped, skipped, exited];
    wait_until("all to have ended", || states() == expected);
    assert!(content(&place).starts_with("first ") && content(&place).contains("last "));
    assert!(!content(&place).contains("secret"), "{}", content(&place));
    let why =
        place.tail_of("in").iter().map(|record| record["outcome"]["error"].to_string()).collect::<String>();
    assert!(why.contains("was replaced") && why.contains("not a regular file"), "{why}");
    drop(daemon);
}

/// What waits when the daemon ends is still about the same file.
#[test]
fn it_is_known_after_a_restart() {
    let place = Place::new();
    let (dir, go) = (place.mkdir("in"), place.path("go"));
    let read = reader(&place, &format!("while ! [ -e {go} ]; do sleep 0.01; done"));
    place.conf(&format!("{dir} CLOSE_WRITE [jobs=1 stdin=file timeout=100ms name=in] {read}\n"));
    let daemon = place.start();
    for name in ["one ", "two ", "three "] {
        fs::write(format!("{dir}/{}", name.trim()), name).unwrap();
    }
    wait_until("all to be told", || place.fired("in") == 3);
    daemon.stop();
    fs::remove_file(format!("{dir}/three")).unwrap();
    fs::write(format!("{dir}/three"), "another ").unwrap();
    File::create(go).unwrap();
    let _daemon = place.start();
    wait_until("the second", || content(&place).contains("two "));
    assert!(!content(&place).contains("another"), "{}", content(&place));
}

#[test]
fn a_batch_has_no_file() {
    let place = Place::new();
    place.conf("/srv CLOSE_WRITE [stdin=file batch=1s] x\n");
    let output = place.facrond_check();
    assert!(String::from_utf8_lossy(&output.stdout).contains("a batch has several"), "{output:?}");
}
