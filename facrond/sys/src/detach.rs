//! `--daemon`: detaching from the terminal. The parent waits until the daemon is
//! ready, so that the exit status shows whether the start has succeeded.

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe, setsid};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// One side of the fork.
#[derive(Debug)]
pub enum Side {
    /// The daemon, which reports when it is ready.
    Daemon(Ready),
    /// The process that was started from the terminal. It ends with this status.
    Parent(ExitCode),
}

/// The pipe by which the daemon reports to its parent.
#[derive(Debug)]
pub struct Ready(File);

/// Forks. Must be called while the process has only one thread.
pub fn detach() -> Result<Side, Errno> {
    let (wait, ready) = pipe()?;
    // SAFETY: the process has a single thread, so the child may do all that it could.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(wait);
            setsid()?;
            Ok(Side::Daemon(Ready(File::from(ready))))
        }
        ForkResult::Parent { child } => {
            drop(ready);
            Ok(Side::Parent(outcome(wait, child)?))
        }
    }
}

/// Waits until the daemon is ready, or has ended.
fn outcome(wait: OwnedFd, child: nix::unistd::Pid) -> Result<ExitCode, Errno> {
    let mut byte = [0];
    if File::from(wait).read(&mut byte).unwrap_or_default() == 1 {
        return Ok(ExitCode::SUCCESS);
    }
    match waitpid(child, None)? {
        WaitStatus::Exited(_, code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        _ => Ok(ExitCode::FAILURE),
    }
}

impl Ready {
    /// Gives up the terminal and reports to the parent. If standard error is
    /// redirected, it stays the log.
    pub fn tell(mut self) -> std::io::Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        if std::io::stderr().is_terminal() {
            dup2_stderr(&null)?;
        }
        std::env::set_current_dir("/")?;
        self.0.write_all(&[1])
    }
}
