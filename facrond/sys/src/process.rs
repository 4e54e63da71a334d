//! Facts about processes, from `/proc`.
//!
//! A process may end at any moment. Each fact is `None` if the process is gone.

use nix::sys::stat::stat;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

/// What the kernel appends to the path of an executable that was unlinked.
const DELETED: &[u8] = b" (deleted)";

/// The path of the executable. If it was unlinked, its last path.
pub fn exe(pid: i32) -> Option<Box<[u8]>> {
    let mut path = fs::read_link(format!("/proc/{pid}/exe")).ok()?.into_os_string().into_vec();
    if path.ends_with(DELETED) {
        path.truncate(path.len() - DELETED.len());
    }
    Some(path.into_boxed_slice())
}

/// The effective user, which is the owner of the process's directory in `/proc`. This is
/// faster than to parse a file there.
pub fn uid(pid: i32) -> Option<u32> {
    stat(format!("/proc/{pid}").as_str()).ok().map(|stat| stat.st_uid)
}

/// Facts about a process from `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// The pid of its parent; 0 if it has no parent.
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// Whether it has ended and is not reaped.
    pub is_zombie: bool,
}

pub fn look(pid: i32) -> Option<Process> {
    let mut buffer = [0; 512];
    // A file of `/proc` is complete after one read.
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut buffer).ok()?;
    let stat = buffer.get(..length)?;
    // The name before it is in parentheses and may itself contain any byte.
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let mut words =
        stat.get(end_of_name + 1..)?.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let state = words.next()?;
    let mut number = || str::from_utf8(words.next()?).ok()?.parse().ok();
    Some(Process {
        pid,
        parent: number()?,
        group: number()?,
        session: number()?,
        is_zombie: matches!(state, b"Z" | b"X"),
    })
}

/// What this process has and no other ever had: the boot, and when in it the process began.
pub fn identity(pid: i32) -> Option<String> {
    static BOOT: OnceLock<String> = OnceLock::new();
    let boot = BOOT.get_or_init(|| fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let mut words =
        stat.get(end_of_name + 1..)?.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let state = words.next()?;
    // Field 22, and the third was the first after the name.
    let began = str::from_utf8(words.nth(18)?).ok()?;
    (!matches!(state, b"Z" | b"X")).then(|| format!("{} {began}", boot.trim()))
}

/// The status, as of wait(2), of a process that has ended and is not reaped.
pub(crate) fn zombie_status(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let words = stat.rsplit_once(") Z ")?.1;
    words.split_ascii_whitespace().next_back()?.parse().ok()
}

pub fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{Pid, getpgrp, getsid};
    use std::process::{Command, Stdio, id};

    fn own() -> i32 {
        id().cast_signed()
    }

    #[test]
    fn facts_of_this_process() {
        let exe_path = std::env::current_exe().unwrap();
        assert_eq!(exe(own()).unwrap(), exe_path.into_os_string().into_vec().into_boxed_slice());
        assert_eq!(uid(own()), Some(nix::unistd::geteuid().as_raw()));
        let expected = Process {
            pid: own(),
            parent: Pid::parent().as_raw(),
            group: getpgrp().as_raw(),
            session: getsid(None).unwrap().as_raw(),
            is_zombie: false,
        };
        assert_eq!(look(own()), Some(expected));
        assert!(pids().any(|pid| pid == own()));
    }

    #[test]
    fn an_identity_is_that_of_one_process() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        let (first, other) = (identity(pid), identity(own()));
        assert!(first.is_some() && first != other && first == identity(pid), "{first:?} {other:?}");
        assert_eq!(first.unwrap().split(' ').count(), 2);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(identity(pid), None);
    }

    #[test]
    fn nothing_of_a_process_that_is_not_there() {
        let none = i32::MAX;
        assert_eq!((exe(none), uid(none), look(none)), (None, None, None));
    }

    #[test]
    fn names_with_parentheses_and_unlinked_programs() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("a) R 1 (b");
        // By another process, so that no descriptor for writing keeps it busy.
        assert!(Command::new("cp").arg("/bin/sleep").arg(&program).status().unwrap().success());
        let mut child = Command::new(&program).arg("60").stdout(Stdio::null()).spawn().unwrap();
        fs::remove_file(&program).unwrap();
        let pid = child.id().cast_signed();
        let (process, exe) = (look(pid), exe(pid));
        child.kill().unwrap();
        assert_eq!(process.unwrap().parent, own());
        assert_eq!(exe.unwrap(), program.into_os_string().into_vec().into_boxed_slice());
        child.wait().unwrap();
    }
}
