//! Many events at once, and more than there is room for.

use crate::harness::{FACROND, Place, QueueLimit, as_stranger, give, wait_until};
use nix::sys::signal::Signal;
use std::collections::HashSet;
use std::fs::File;
use std::thread;

const FILES: usize = 20_000;
const MEMORY: u64 = 64 << 20;

#[test]
fn twenty_thousand_files_of_two_writers_are_twenty_thousand_runs() {
    let place = Place::new();
    place.conf(&format!("{} FAN_CLOSE_WRITE [name=burst] /bin/true\n", place.play("")));
    let daemon = place.start_with(&["--history", "20000"]);
    thread::scope(|scope| {
        for writer in 0..2 {
            let place = &place;
            scope.spawn(move || {
                for number in 0..FILES / 2 {
                    place.write(&format!("{writer}-{number}"));
                }
            });
        }
    });
    // leaves the history to the burst
    wait_until("the last command to end", || {
        let status = place.status();
        assert!(status["events"]["matched"].as_u64().unwrap() <= FILES as u64, "{status}");
        status["jobs"]["run"].as_u64().unwrap() >= FILES as u64 && status["queue"]["running"] == 0
    });
    let records = place.tail_of("burst");
    let paths: HashSet<_> = records.iter().map(|record| record["path"].as_str().unwrap()).collect();
    assert_eq!((records.len(), paths.len()), (FILES, FILES));
    for record in &records {
        assert_eq!(
            (&record["outcome"]["state"], &record["outcome"]["exit"]),
            (&"exited".into(), &0.into()),
            "{record}"
        );
    }
    place.settle();
    let status = place.status();
    assert_eq!(status["jobs"]["run"], FILES, "{status}");
    for nothing in ["failed", "merged", "skipped", "dropped", "timeout"] {
        assert_eq!(status["jobs"][nothing], 0, "{status}");
    }
    assert_eq!((place.fired("burst"), &status["health"]), (FILES as u64, &"ok".into()));
    daemon.wait_without_zombies();
    assert!(daemon.peak_memory() < MEMORY, "{} bytes", daemon.peak_memory());
}

#[test]
fn what_has_no_room_is_dropped_and_told() {
    let place = Place::new();
    let dir = place.mkdir("in");
    place.conf(&format!("{dir} CREATE [name=slow jobs=1] sleep 0.05\n"));
    let daemon = place.start_with(&["--max-pending", "5"]);
    for number in 0..30 {
        place.write(&format!("in/{number}"));
    }
    place.settle();
    let (status, fired) = (place.status(), place.fired("slow"));
    let count = |name: &str| status["jobs"][name].as_u64().unwrap();
    assert_eq!(fired, 30);
    assert!(count("dropped") > 0 && count("run") >= 3, "{status}");
    assert_eq!(count("run") + count("dropped") + count("merged"), fired, "{status}");
    assert!(status["health"].as_str().unwrap().contains("dropped"), "{status}");
    let failed = place.ctl_ok(&["tail", "-n", "100", "--failed"]);
    assert_eq!(failed.lines().count() as u64, count("dropped"), "{failed}");
    assert!(failed.contains("--max-pending"), "{failed}");
    daemon.wait_for_log("--max-pending");
}

/// As root the kernel's queue has no limit; that of a user has.
#[test]
fn an_overflow_of_the_kernels_queue_runs_its_rules() {
    let kept = QueueLimit::keep();
    let limit = kept.events();
    assert!(limit <= 200_000, "fs.fanotify.max_queued_events is {limit}: too many files for a test");
    let place = Place::new();
    give(&place.path(""));
    let dir = place.mkdir("in");
    place.conf(&format!(
        "{dir} CREATE [name=made] -\n{dir} FAN_Q_OVERFLOW [name=overflow] /bin/echo $$ $%\n",
    ));
    let mut command = as_stranger(place.for_all(FACROND));
    command.args(place.options());
    let daemon = place.start_as(command);
    drop(kept);
    daemon.signal(Signal::SIGSTOP);
    for number in 0..=limit {
        File::create(place.play(&format!("in/{number}"))).unwrap();
    }
    daemon.signal(Signal::SIGCONT);
    let made = u64::try_from(limit).unwrap() + 1;
    assert_eq!(place.settle_fired("made", made), made, "what overflowed is looked for");
    assert_eq!(place.fired("overflow"), 1);
    let status = place.status();
    assert_eq!(status["events"]["overflows"], 1, "{status}");
    assert!(status["health"].as_str().unwrap().contains("overflow"), "{status}");
    let tail = place.ctl_ok(&["tail", "--rule", "overflow"]);
    assert!(tail.contains(&dir) && tail.contains("FAN_Q_OVERFLOW"), "{tail}");
    daemon.wait_for_log(&format!("{dir} FAN_Q_OVERFLOW"));
    // and it goes on
    place.write("in/after");
    assert_eq!(place.settle_fired("made", made + 1), made + 1);
}
