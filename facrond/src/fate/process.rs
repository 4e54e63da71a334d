//! The mover: it takes requests one by one, for as long as there is a daemon.

use super::place::Entry;
use super::settle::settle;
use super::{Answer, Identity, Noted, Task};
use crate::helper::Channel;
use crate::job::file_reason;
use crate::kernel::confine;
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often it says that it goes on.
const SIGN: Duration = Duration::from_secs(1);

/// `facrond mover RULE`: serves the line on standard input.
pub(crate) fn run() -> ExitCode {
    // Its user must not trace it, and it must not go on without a daemon that knows of it.
    let confined = prctl::set_dumpable(false)
        .and_then(|()| prctl::set_pdeathsig(Signal::SIGKILL))
        .and_then(|()| confine::forbid_new_processes());
    let Some(mut channel) = confined.ok().and_then(|()| Channel::of_helper().ok()) else {
        return ExitCode::FAILURE;
    };
    loop {
        match channel.receive_blocking() {
            Ok(Some((task, _))) => {
                if serve(&channel, task).is_err() {
                    return ExitCode::FAILURE;
                }
            }
            Ok(None) => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

fn serve(channel: &Channel, task: Task) -> Result<(), Errno> {
    let answer = match task {
        Task::Note(path) => Answer::Noted(note(path.as_bytes())),
        Task::Settle(order) => {
            let mut told = Instant::now();
            let mut go_on = || {
                if told.elapsed() >= SIGN {
                    told = Instant::now();
                    // Where the daemon is gone, the answer fails as well.
                    let _ = channel.send(&Answer::Working, None);
                }
            };
            Answer::Settled(settle(&order, &mut go_on))
        }
    };
    channel.send_blocking(&answer, None)
}

fn note(path: &[u8]) -> Noted {
    match Entry::of(path).and_then(|entry| entry.stat()) {
        Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => Noted::Directory,
        Ok(stat) => Noted::File(Identity::of(&stat)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Noted::Gone,
        Err(Errno::EISDIR) => Noted::Directory,
        Err(errno) => Noted::Unknown(format!("cannot look at it: {}", file_reason(errno))),
    }
}
