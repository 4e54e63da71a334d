//! The children that run, and the word that they have ended.
//!
//! Reaping frees a pid for others. So the engine says when: on SIGCHLD, after it
//! has drained the kernel's queue, so that no event of a child is left in it
//! that could then be taken for one of a stranger.

use crate::kernel::wait::{Exit, Reaped, reap_any};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

/// Our direct children that are not reaped yet.
#[derive(Debug, Default)]
pub struct Children {
    running: FxHashMap<i32, oneshot::Sender<Exit>>,
}

impl Children {
    /// Notes a child that was just started; the receiver is told how it ended.
    pub fn insert(&mut self, pid: i32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        self.running.insert(pid, sender);
        receiver
    }

    /// Whether no child that we started is left to reap.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Reaps all that have ended, also those that we did not start ourselves but
    /// inherited; the pids of those that we started. Must be called on the thread that starts
    /// the children.
    pub fn reap(&mut self) -> Vec<i32> {
        let mut ended = Vec::new();
        while let Reaped::Child(pid, exit) = reap_any() {
            if let Some(sender) = self.running.remove(&pid) {
                // Nobody waits for it any more where the job was given up.
                let _ = sender.send(exit);
                ended.push(pid);
            }
        }
        ended
    }
}
