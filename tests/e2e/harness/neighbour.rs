//! Somebody else's rule, while a user does his worst to the daemon.

use super::{Daemon, Place, Records, Rpc, wait_until};
use facron_tests::number_from;
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime};

/// How late the neighbour's commands may start, in all cases but one of a hundred.
const START: Duration = Duration::from_millis(250);
/// How long the daemon may take to say how it is, in all cases but one of a hundred.
const STATUS: Duration = Duration::from_millis(100);
/// So many times as long it may take here, where the machine does other work, too. What these
/// tests are about takes seconds. `FACRON_TEST_SLACK=1` is for a machine that does nothing else.
const SLACK: u64 = 3;
/// How much memory the daemon may have, whatever users do, in bytes.
const MEMORY: u64 = 128 << 20;
/// How much the daemon may log, in bytes.
const LOG: usize = 1 << 20;

/// Between two files of the neighbour, and between two questions.
const INTERVAL: Duration = Duration::from_millis(20);

/// A rule of root in a directory of root. Files arrive there all the time, and the daemon
/// is asked how it is.
pub struct Neighbour {
    records: Records,
    is_over: Arc<AtomicBool>,
    writer: JoinHandle<HashMap<String, SystemTime>>,
    asker: JoinHandle<Vec<Duration>>,
}

impl Neighbour {
    /// The line of its rule; makes its directory.
    pub fn line(place: &Place) -> String {
        let dir = place.path("neighbour");
        fs::create_dir_all(&dir).unwrap();
        let command = place.records("neighbour-ran").command("$$");
        format!("{dir} FAN_CLOSE_WRITE [name=neighbour] {command}\n")
    }

    /// Begins, once the rule is in force.
    pub fn start(place: &Place) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (dir, over) = (place.path("neighbour"), Arc::clone(&is_over));
        let writer = thread::spawn(move || write_until(&over, &dir));
        let (rpc, over) = (place.rpc(), Arc::clone(&is_over));
        let asker = thread::spawn(move || ask_until(&over, rpc));
        Self { records: place.records("neighbour-ran"), is_over, writer, asker }
    }

    /// Ends, and says what it has had to bear. Fails if that was more than a user may do to
    /// others.
    #[track_caller]
    pub fn finish(self, daemon: &Daemon<'_>) -> String {
        self.is_over.store(true, Ordering::Relaxed);
        let (written, asked) = (self.writer.join().unwrap(), self.asker.join().unwrap());
        wait_until("the neighbour's commands", || self.records.all().len() >= written.len());
        let late = self.records.all().into_iter().map(|record| {
            let path = String::from_utf8(record.args[0].clone()).unwrap();
            record.time.duration_since(written[&path]).unwrap_or_default()
        });
        let late: Vec<_> = late.collect();
        assert_eq!(late.len(), written.len(), "the neighbour's files are told once");
        let (start, status) = (most(late), most(asked));
        let (memory, log) = (daemon.peak_memory(), daemon.raw_log().len());
        let told = format!(
            "{} starts, 99 of 100 within {start:?}; status within {status:?}; {} MB; log {log} bytes",
            written.len(),
            memory >> 20
        );
        let slack = u32::try_from(number_from("FACRON_TEST_SLACK", SLACK)).unwrap();
        let is_late = start > START * slack || status > STATUS * slack;
        assert!(!is_late && memory <= MEMORY && log <= LOG, "{told}");
        told
    }
}

/// Writes files; returns when each was begun.
fn write_until(is_over: &AtomicBool, dir: &str) -> HashMap<String, SystemTime> {
    let mut written = HashMap::new();
    while !is_over.load(Ordering::Relaxed) {
        let path = format!("{dir}/{}", written.len());
        let now = SystemTime::now();
        fs::write(&path, "x").unwrap();
        written.insert(path, now);
        sleep(INTERVAL);
    }
    written
}

/// Asks for the status; returns how long each answer took.
fn ask_until(is_over: &AtomicBool, mut rpc: Rpc) -> Vec<Duration> {
    let mut asked = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let now = Instant::now();
        rpc.call("status", &json!({})).unwrap();
        asked.push(now.elapsed());
        sleep(INTERVAL);
    }
    asked
}

/// What 99 of 100 do not exceed.
fn most(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}
