//! Tests that hold processes up: a watchdog ends the gates, so that none can hang.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Longer than any test takes, or any round of one, that is not stuck.
const LIMIT: Duration = Duration::from_secs(240);

/// Ends all gates of the programs under test when the test has not ended in time; the
/// kernel lets go of whoever waits, and the test fails.
///
/// To be made before the first daemon, and so dropped after the last.
pub struct Watchdog {
    alive: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    has_bitten: Arc<AtomicBool>,
}

impl Watchdog {
    /// Watches from now on over gates of daemons that are children of this process.
    pub fn new() -> Self {
        let (alive, signs) = mpsc::channel();
        let has_bitten = Arc::new(AtomicBool::new(false));
        let bites = Arc::clone(&has_bitten);
        let thread = thread::spawn(move || {
            loop {
                match signs.recv_timeout(LIMIT) {
                    Ok(()) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        bites.store(true, Ordering::SeqCst);
                        gates().into_iter().for_each(end);
                    }
                }
            }
        });
        Self { alive: Some(alive), thread: Some(thread), has_bitten }
    }

    /// A test of many rounds goes on: it may take as long again.
    pub fn feed(&self) {
        self.alive.as_ref().unwrap().send(()).unwrap();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.alive.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_some_and(|ended| ended.is_ok()));
        if !thread::panicking() {
            assert!(!self.has_bitten.load(Ordering::SeqCst), "the test was stuck, and the gates were ended");
        }
    }
}

/// The gate of a daemon, if it runs.
pub fn gate_of(daemon: i32) -> Option<i32> {
    gates().into_iter().find(|(_, of)| *of == daemon).map(|(pid, _)| pid)
}

/// The process that looks for the inodes of a daemon's permission rules, if it runs.
pub fn walker_of(daemon: i32) -> Option<i32> {
    let is_walker =
        |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"facrond\0walker\0");
    super::process::children(daemon).into_iter().find(is_walker)
}

fn end((gate, _): (i32, i32)) {
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(gate), Signal::SIGKILL);
}

/// The gates of daemons that this process has started: their pids, and the daemons'.
fn gates() -> Vec<(i32, i32)> {
    let own = fs::canonicalize(super::FACROND).ok();
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0);
        let is_gate = words.next()? == b"facrond" && words.next()? == b"gate";
        let daemon = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        (is_gate && fs::canonicalize(format!("/proc/{pid}/exe")).ok() == own).then_some((pid, daemon))
    })
    .collect()
}
