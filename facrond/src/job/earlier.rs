//! Commands that an earlier daemon has started, and that still run.
//!
//! They are no children of this one. So their end is seen by a descriptor of the process, and
//! their exit status is known where the kernel tells it (Linux 6.15).

use crate::kernel::pidfd::Pidfd;
use crate::kernel::readiness;
use crate::kernel::wait::Exit;
use std::io;
use std::time::{Duration, SystemTime};
use tokio::io::Interest;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// How long the parent of a process may take to learn of its end.
const REAPED: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

/// A process as an earlier daemon has noted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub pid: i32,
    /// What no other process has; see [`identity`](crate::kernel::process::identity).
    pub identity: String,
    pub began: SystemTime,
}

/// Waits for the end of a process beside everything else; the receiver is told how it ended.
pub(super) fn wait(process: Pidfd) -> io::Result<oneshot::Receiver<Exit>> {
    let (sender, receiver) = oneshot::channel();
    let ended = readiness(process.ended()?, Interest::READABLE)?;
    tokio::task::spawn_local(async move {
        // An error is a defect of the descriptor, and no reason to wait for ever.
        drop(ended.readable().await);
        // Nobody waits for it any more where the job was given up.
        let _ = sender.send(exit(&process).await);
    });
    Ok(receiver)
}

async fn exit(process: &Pidfd) -> Exit {
    let until = Instant::now() + REAPED;
    loop {
        match process.exit() {
            Some(exit) => return exit,
            None if Instant::now() >= until => return Exit::Unknown,
            None => sleep(POLL).await,
        }
    }
}
