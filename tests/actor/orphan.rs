//! A thread that opens a file after the main thread of its process has ended. `/proc` then
//! no longer tells which program the process runs.

use nix::libc;
use std::fs::{self, File};
use std::process;
use std::thread::{self, sleep};
use std::time::Duration;

/// Says whether the file could be opened.
#[expect(unsafe_code, reason = "only this call ends a thread, and not its process")]
pub fn run(file: &str) -> ! {
    let file = file.to_owned();
    thread::spawn(move || {
        while fs::read_link("/proc/self/exe").is_ok() {
            sleep(Duration::from_millis(1));
        }
        println!("{}", if File::open(file).is_ok() { "opened" } else { "denied" });
        process::exit(0)
    });
    // SAFETY: the main thread has nothing that others use.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("this thread has ended")
}
