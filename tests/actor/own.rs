//! What a user may do to his own processes and programs.

use facron_sys::signals::ignore_lease_breaks;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// How long it goes on before it makes the next file.
const TURN: Duration = Duration::from_millis(20);

/// Makes files, and stops all other processes of this user at each moment.
pub fn stop_all(dir: &str, time: Duration) -> io::Result<()> {
    let (end, all) = (Instant::now() + time, Pid::from_raw(-1));
    for number in 0.. {
        File::create(format!("{dir}/{number}"))?;
        let turn = Instant::now() + TURN;
        while Instant::now() < turn {
            // No process may be there at present.
            let _ = kill(all, Signal::SIGSTOP);
        }
        if turn >= end {
            break;
        }
    }
    let _ = kill(all, Signal::SIGCONT);
    Ok(())
}

/// Keeps everybody from a program, until the standard input ends.
#[expect(unsafe_code, reason = "no safe function takes a lease")]
pub fn lease(program: &str) -> io::Result<()> {
    ignore_lease_breaks()?;
    let file = File::open(program)?;
    let kind: c_int = libc::F_WRLCK;
    // SAFETY: takes an int and touches no memory of ours.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) })?;
    println!("leased");
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}
