//! What `/proc` says of processes.

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;

/// Sends a signal to a process that the test, or a daemon of it, has started.
pub fn kill(pid: i32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid), signal).unwrap();
}

/// Whether there is such a process, dead ones that nobody has waited for left out.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z')
}

/// The children of a process.
pub fn children(parent: i32) -> Vec<i32> {
    children_where(parent, |_| true)
}

/// The children of a process that are dead and were not waited for.
pub fn zombies(parent: i32) -> Vec<i32> {
    children_where(parent, |stat| stat.state == 'Z')
}

/// The most memory that a process has had so far, in bytes.
pub fn peak_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

struct Stat {
    state: char,
    parent: i32,
}

fn stat(pid: i32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    Some(Stat { state: fields.next()?.chars().next()?, parent: fields.next()?.parse().ok()? })
}

fn children_where(parent: i32, is_wanted: impl Fn(&Stat) -> bool) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent && is_wanted(&stat))).collect()
}
