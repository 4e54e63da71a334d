//! What makes a process the only one that has something.
//!
//! A lock on a file, which the kernel drops with the process. The file holds the owner's pid,
//! for the one that comes second.

use super::{OwnDir, OwnError};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::kill;
use nix::sys::stat::fstat;
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tracing::debug;

/// A command that a daemon was starting when it died has the daemon's lock until it
/// executes its program; no longer than this.
const INHERITED: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("it is in use by the process {pid}")]
    Held {
        /// The other one's process, `?` if it has not said so yet.
        pid: String,
    },
    #[error(transparent)]
    Own(#[from] OwnError),
}

#[derive(Debug)]
pub struct Lock {
    // removed while still locked, so that nobody locks a file about to go
    _path: RemovedAtEnd,
    _file: Flock<File>,
}

impl Lock {
    pub fn take(dir: &Arc<OwnDir>, name: &OsStr) -> Result<Self, LockError> {
        let failed = |what, error: io::Error| OwnError::io(what, &dir.path_of(name), error);
        let end = Instant::now() + INHERITED;
        loop {
            let file = dir.open_file(name, OFlag::O_RDWR | OFlag::O_CREAT)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // its last owner removed it in between
                Ok(lock) if !is_at(&lock, dir, name) => {}
                Ok(lock) => {
                    write_pid(&lock).map_err(|error| failed("write to", error))?;
                    return Ok(Self { _path: RemovedAtEnd::new(dir, name), _file: lock });
                }
                Err((file, Errno::EWOULDBLOCK)) => {
                    let pid = read_pid(file);
                    if Instant::now() > end || !is_gone(&pid) {
                        return Err(LockError::Held { pid });
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                Err((_, errno)) => return Err(failed("lock", errno.into()).into()),
            }
        }
    }
}

/// An entry of a directory that goes when this is dropped.
#[derive(Debug)]
pub struct RemovedAtEnd {
    dir: Arc<OwnDir>,
    name: OsString,
}

impl RemovedAtEnd {
    pub fn new(dir: &Arc<OwnDir>, name: &OsStr) -> Self {
        Self { dir: Arc::clone(dir), name: name.to_owned() }
    }
}

impl Drop for RemovedAtEnd {
    fn drop(&mut self) {
        if let Err(error) = self.dir.remove(&self.name) {
            debug!("{error}");
        }
    }
}

fn is_gone(pid: &str) -> bool {
    pid.parse().is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
}

fn is_at(file: &File, dir: &OwnDir, name: &OsStr) -> bool {
    match (fstat(file), dir.stat(name)) {
        (Ok(ours), Ok(Some(there))) => (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino),
        _ => false,
    }
}

fn write_pid(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: File) -> String {
    let mut text = String::new();
    let _ = file.take(16).read_to_string(&mut text);
    text.trim().parse().map_or_else(|_| "?".to_owned(), |pid: u32| pid.to_string())
}
