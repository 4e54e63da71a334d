//! Commands that write, or do not read, as nobody should.

use crate::harness::{Place, wait_until};
use std::time::{Duration, Instant};

const MEMORY: u64 = 64 << 20;

/// A gigabyte of one line, and one of short lines, while another rule works.
#[test]
fn a_gigabyte_of_output_holds_nobody_up() {
    let place = Place::new();
    let (noisy, quiet) = (place.mkdir("noisy"), place.mkdir("quiet"));
    let records = place.records("records");
    place.conf(&format!(
        "{noisy} CLOSE_WRITE [name=line include=line] dd if=/dev/zero bs=1M count=1024 status=none\n\
         {noisy} CLOSE_WRITE [name=lines include=lines] sh -c 'yes \"a line of the output\" | head -c 1G'\n\
         {quiet} CLOSE_WRITE {}\n",
        records.command("$#"),
    ));
    let daemon = place.start();
    place.write("noisy/line");
    place.write("noisy/lines");
    wait_until("both to run", || place.status()["queue"]["running"] == 2);
    let mut answered = 0;
    let is_running = || place.status()["queue"]["running"].as_u64().unwrap() > 0;
    while answered < 10 && is_running() {
        let started = Instant::now();
        place.write(&format!("quiet/{answered}"));
        answered += 1;
        records.wait(answered);
        assert!(started.elapsed() < Duration::from_secs(2), "held up for {:?}", started.elapsed());
    }
    assert!(answered >= 3, "the gigabyte was too fast to say anything");
    place.settle();
    for rule in ["line", "lines"] {
        let outcome = &place.tail_of(rule)[0]["outcome"];
        assert_eq!((&outcome["state"], &outcome["exit"]), (&"exited".into(), &0.into()), "{outcome}");
    }
    assert!(daemon.peak_memory() < MEMORY, "{} bytes", daemon.peak_memory());
    assert!(daemon.raw_log().len() < 4 << 20, "{} bytes of log", daemon.raw_log().len());
    daemon.wait_for_log("lines left out");
}

#[test]
fn long_lines_fill_no_log() {
    let place = Place::new();
    let script = "for line in $(seq 150); do printf \"%4000d\\n\" $line; done";
    place.conf(&format!("{} CLOSE_WRITE [shell] {script}\n", place.play("")));
    let daemon = place.start();
    place.write("file");
    daemon.wait_for_log("lines left out");
    let log = daemon.raw_log().len();
    assert!((60_000..200_000).contains(&log), "{log} bytes of log");
}

#[test]
fn standard_input_is_at_its_end_at_once() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=reads] cat\n", place.play("")));
    let _daemon = place.start();
    place.write("file");
    place.settle();
    assert_eq!(place.tail_of("reads")[0]["outcome"]["exit"], 0);
}

/// What has left the command's process group still has its output, and holds
/// nothing up.
#[test]
fn a_command_that_leaves_a_daemon_behind_has_ended() {
    let place = Place::new();
    let script = "(sleep 1; echo from behind) & echo at once";
    place.conf(&format!("{} CLOSE_WRITE [name=leaves jobs=1] sh -c '{script}'\n", place.play("")));
    let daemon = place.start();
    let started = Instant::now();
    place.write("one");
    place.write("two");
    place.settle();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let outcome = &place.tail_of("leaves")[0]["outcome"];
    assert_eq!((&outcome["state"], &outcome["output"]), (&"exited".into(), &"at once".into()));
    daemon.wait_for_log("from behind");
}
