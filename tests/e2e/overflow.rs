//! An overflow of the kernel's queue: told, and repaired.
//!
//! As root the queue has no limit; that of a user has.

use crate::harness::{FACROND, Place, QueueLimit, as_stranger, give};
use nix::sys::signal::Signal;
use std::fs;

const FILES: u64 = 5_000;

#[test]
fn after_an_overflow_every_file_has_fired_once() {
    let place = Place::new();
    give(&place.path(""));
    let top = place.mkdir("in");
    place.conf(&format!(
        "{top} CLOSE_WRITE [recursive name=written] -\n{top} ARRIVED [recursive name=arrived] -\n\
         {top} CLOSE_WRITE [name=flat] -\n{top} FAN_Q_OVERFLOW [name=overflow] -\n"
    ));
    let mut command = as_stranger(place.for_all(FACROND));
    command.args(place.options()).args(["--history", "50000"]);
    let limit = QueueLimit::lower_to(64);
    let daemon = place.start_as(command);
    drop(limit);
    // some while it reads, some while it does not
    for number in 0..FILES {
        match number {
            1_000 | 3_000 => daemon.signal(Signal::SIGSTOP),
            2_000 | 4_000 => daemon.signal(Signal::SIGCONT),
            _ => {}
        }
        let dir = format!("{top}/{}", number % 10);
        if number % 2 == 0 {
            fs::write(format!("{top}/{number}"), "x").unwrap();
        } else {
            fs::create_dir_all(&dir).unwrap();
            fs::write(format!("{dir}/{number}"), "x").unwrap();
        }
    }
    for rule in ["written", "arrived"] {
        assert_eq!(place.settle_fired(rule, FILES), FILES, "{rule}");
        let mut paths = place.paths_of(rule);
        paths.dedup();
        assert_eq!(paths.len() as u64, FILES, "{rule}");
    }
    assert_eq!(place.fired("flat"), FILES / 2);
    let status = place.status();
    let overflows = status["events"]["overflows"].as_u64().unwrap();
    assert!(overflows > 0 && place.fired("overflow") == overflows, "{status}");
    assert!(status["health"].as_str().unwrap().contains("overflow"), "{status}");
    daemon.wait_for_log("queue overflowed");
    // and it goes on
    place.write("in/1/after");
    assert_eq!(place.settle_fired("written", FILES + 1), FILES + 1);
}
