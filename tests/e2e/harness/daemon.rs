//! A daemon that runs as long as the test wants it to.

use super::process::{kill, peak_memory, zombies};
use super::{Place, wait_for, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How long the end of a daemon may take; its commands have ten seconds of it.
const END: Duration = Duration::from_secs(20);

/// A running facrond; stopped when dropped.
pub struct Daemon<'a> {
    place: &'a Place,
    child: Child,
}

impl<'a> Daemon<'a> {
    /// Starts it and waits until it answers.
    pub(super) fn start(place: &'a Place, mut command: Command) -> Self {
        let child = command.stdout(place.log_file("log")).stderr(place.log_file("log")).spawn().unwrap();
        let mut daemon = Self { place, child };
        wait_until("the daemon to serve", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("facrond ended: {status}\n{}", daemon.log());
            }
            daemon.answers()
        });
        daemon
    }

    /// Whether it, and no other, answers on the socket.
    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.place.path("control.sock")) else { return false };
        let is_asked = stream.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"status\",\"id\":1}\n").is_ok();
        let mut reply = String::new();
        // One that was killed may still have the socket for a moment, through a child.
        let is_answered = is_asked && BufReader::new(stream).read_line(&mut reply).is_ok();
        let reply: Value = serde_json::from_str(&reply).unwrap_or_default();
        is_answered && reply["result"]["pid"] == self.child.id()
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.raw_log()).into_owned()
    }

    /// The same, byte for byte.
    pub fn raw_log(&self) -> Vec<u8> {
        fs::read(self.place.path("log")).unwrap()
    }

    /// Waits until its log has this.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("{text:?} in the log"), || self.log().contains(text));
    }

    /// The most memory that it has had so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.pid())
    }

    /// Waits until it has no dead children left.
    #[track_caller]
    pub fn wait_without_zombies(&self) {
        wait_until("all children to be reaped", || zombies(self.pid()).is_empty());
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the daemon to end", || self.child.try_wait().unwrap())
    }

    /// Ends it as a service manager would.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Ends it as nobody should.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log:\n{}---", self.log());
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
            let deadline = Instant::now() + END;
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            // it may have ended by now
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
