//! What `/proc` says of processes.

use super::wait_until;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
    memory_line(pid, "VmHWM:")
}

/// The memory of its own that a process has at present, in bytes.
pub fn memory(pid: i32) -> u64 {
    memory_line(pid, "RssAnon:")
}

fn memory_line(pid: i32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// The time that a process has had of the processors, all its threads together.
pub fn cpu_time(pid: i32) -> Duration {
    let times = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| {
        let stat = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        stat.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(times.sum())
}

/// Waits until a process has had nothing to do for a while. One that waits for a
/// processor has.
#[track_caller]
pub fn wait_until_idle(pid: i32) {
    let mut idle = 0;
    wait_until("a process to have nothing to do", || {
        idle = if stat(pid).is_some_and(|stat| stat.state == 'S') { idle + 1 } else { 0 };
        idle == 20
    });
}

/// The number of open descriptors of a process.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Runs a script of the shell, which must succeed.
///
/// To be used where it matters that a file is closed before the next step: the
/// tests are one process, and a child that another of them is about to start has
/// its open files, too, until it runs its program.
#[track_caller]
pub fn sh(script: &str) {
    let status = Command::new("sh").args(["-euc", script]).stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{script}: {status}");
}

/// Processes that keep the processors busy until they are dropped.
pub struct Load([Child; 3]);

impl Load {
    /// One more than the processors of a small machine.
    pub fn start() -> Self {
        Self([(); 3].map(|()| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
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
