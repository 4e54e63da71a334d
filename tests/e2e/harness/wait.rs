//! Waiting for conditions, and telling of results.

use std::io::{self, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a condition may take: long, since only a failure waits for it.
pub const PATIENCE: Duration = Duration::from_secs(180);

const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until there is something, and returns it.
#[track_caller]
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(INTERVAL);
    }
}

/// Whether it is so within a time.
pub fn comes_true(within: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(INTERVAL);
    }
}

/// Waits until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Shows what a test has found out, even if it passes.
pub fn report(text: &str) {
    io::stdout().write_all(format!("\n{text}\n").as_bytes()).unwrap();
}
