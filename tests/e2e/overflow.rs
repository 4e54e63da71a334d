//! An overflow of the kernel's queue: told, and repaired.
//!
//! As root the queue has no limit; that of a user has.

use crate::harness::{FACROND, Place, QueueLimit, as_stranger, give};
use nix::sys::signal::Signal;

const FILES: u64 = 5_000;

#[test]
fn after_an_overflow_every_file_has_fired_once() {
    let place = Place::new();
    give(&place.path(""));
    let top = place.mkdir("in");
    give(&top);
    place.conf(&format!(
        "{top} CLOSE_WRITE [recursive name=written] -\n{top} ARRIVED [recursive name=arrived] -\n\
         {top} CLOSE_WRITE [name=flat] -\n{top} FAN_Q_OVERFLOW [name=overflow] -\n"
    ));
    let mut command = as_stranger(place.for_all(FACROND));
    command.args(place.options()).args(["--history", "50000"]);
    let limit = QueueLimit::lower_to(64);
    let daemon = place.start_as(command);
    drop(limit);
    let write = |range: &str| {
        let script = format!(
            "cd {top}; for n in $(seq {range}); do \
             if [ $((n % 2)) = 0 ]; then echo x > $n; else mkdir -p $((n % 10)); echo x > $((n % 10))/$n; fi; done"
        );
        assert!(as_stranger("sh").args(["-c", &script]).status().unwrap().success());
    };
    // while it reads, and while it does not
    for (range, signal) in [
        ("1 1000", Signal::SIGSTOP),
        ("1001 2000", Signal::SIGCONT),
        ("2001 3000", Signal::SIGSTOP),
        ("3001 4000", Signal::SIGCONT),
        ("4001 5000", Signal::SIGCONT),
    ] {
        write(range);
        daemon.signal(signal);
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
    write("6001 6001");
    assert_eq!(place.settle_fired("written", FILES + 1), FILES + 1);
}
