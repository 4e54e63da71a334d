//! File systems whose server can be stopped.

use super::{Mount, PATIENCE, kill, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// A directory shown at another place by a FUSE server of the test's own.
pub struct Server {
    process: Child,
    /// Unmounted first: the server ends then.
    mount: Option<Mount>,
}

impl Server {
    /// Shows `source` at `at`, which is made if need be.
    #[track_caller]
    pub fn of(source: &str, at: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        // It keeps no attributes: whoever looks, asks it.
        let mut bindfs = Command::new("bindfs");
        bindfs.args(["-f", "-o", "attr_timeout=0,entry_timeout=0", source, at]);
        let mut server = Self { process: bindfs.spawn().unwrap(), mount: None };
        wait_until("the server to serve", || {
            server.mount = Mount::found(at);
            server.mount.is_some()
        });
        server
    }

    /// Stops it until what is returned is dropped.
    pub fn stop(&self) -> Stopped {
        let pid = self.process.id().cast_signed();
        kill(pid, Signal::SIGSTOP);
        let (go_on, gone_on) = mpsc::channel();
        let thread = thread::spawn(move || {
            // A test that is stuck goes on after a while, and fails.
            let in_time = gone_on.recv_timeout(2 * PATIENCE) != Err(mpsc::RecvTimeoutError::Timeout);
            kill(pid, Signal::SIGCONT);
            in_time
        });
        Stopped { go_on: Some(go_on), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.mount.take());
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server that is stopped.
pub struct Stopped {
    go_on: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<bool>>,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.go_on.take());
        let in_time = self.thread.take().is_some_and(|thread| thread.join().is_ok_and(|in_time| in_time));
        assert!(in_time || thread::panicking(), "the test was stuck");
    }
}
