//! Facts about other processes, from `/proc`.
//!
//! A process may end at any moment: each fact is `None` where it is not to be
//! had any more.

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::Signal;
use nix::sys::stat::stat;
use nix::unistd::{Pid, getsid};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

/// What the kernel appends to the path of an executable that was unlinked.
const DELETED: &[u8] = b" (deleted)";

/// How many parents are followed: more than any real tree is deep.
const MAX_DEPTH: usize = 64;

/// The path of the executable, as it was when it still had one.
pub fn exe(pid: i32) -> Option<Box<[u8]>> {
    let mut path = fs::read_link(format!("/proc/{pid}/exe")).ok()?.into_os_string().into_vec();
    if path.ends_with(DELETED) {
        path.truncate(path.len() - DELETED.len());
    }
    Some(path.into_boxed_slice())
}

/// The effective user id: the owner of the directory in `/proc`, which needs nothing
/// to be put into words and read again.
pub fn uid(pid: i32) -> Option<u32> {
    stat(format!("/proc/{pid}").as_str()).ok().map(|stat| stat.st_uid)
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// The parent's; 0 for those that have none.
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// Whether it has ended and is not reaped.
    pub is_zombie: bool,
}

pub fn look(pid: i32) -> Option<Process> {
    let mut buffer = [0; 512];
    let stat = read(&format!("/proc/{pid}/stat"), &mut buffer)?;
    // The name before it is in parentheses and may itself contain any byte.
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let mut words = words(stat.get(end_of_name + 1..)?);
    let state = words.next()?;
    let parent = number(words.next()?)?;
    let group = number(words.next()?)?;
    let session = number(words.next()?)?;
    Some(Process { pid, parent, group, session, is_zombie: matches!(state, b"Z" | b"X") })
}

/// Looks at all processes, one after the other.
pub fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| look(entry.file_name().to_str()?.parse().ok()?))
}

/// A descriptor of the process that has this pid now: `pidfd_open(2)`.
pub(super) fn open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes no pointers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = c_int::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Signals a process if it is one to be signalled, which is asked when its number
/// can no longer become another's. That it is not there is no error.
pub fn signal_if(pid: i32, signal: Signal, is_meant: impl FnOnce(i32) -> bool) -> Result<(), Errno> {
    let fd = match open(pid) {
        Err(Errno::ESRCH) => return Ok(()),
        result => result?,
    };
    if !is_meant(pid) {
        return Ok(());
    }
    let (signal, info) = (signal as c_int, ptr::null::<libc::siginfo_t>());
    // SAFETY: the descriptor is open, and no siginfo is passed.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, info, 0) };
    match Errno::result(sent) {
        Err(Errno::ESRCH) => Ok(()),
        result => result.map(drop),
    }
}

/// The parent's pid; 0 for those that have none.
pub fn parent(pid: i32) -> Option<i32> {
    look(pid).map(|process| process.parent)
}

pub fn session(pid: i32) -> Option<i32> {
    getsid(Some(Pid::from_raw(pid))).ok().map(Pid::as_raw)
}

/// Whether `pid`, its parent or one of their parents is what the caller looks for.
pub fn descends_from(pid: i32, is_ancestor: impl Fn(i32) -> bool) -> bool {
    let mut next = Some(pid).filter(|pid| *pid > 0);
    for _ in 0..MAX_DEPTH {
        match next {
            Some(pid) if is_ancestor(pid) => return true,
            Some(pid) => next = parent(pid).filter(|pid| *pid > 0),
            None => return false,
        }
    }
    false
}

/// The beginning of a file of `/proc`, which is complete after one read.
fn read<'a>(path: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = File::open(path).ok()?.read(buffer).ok()?;
    buffer.get(..length)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio, id};

    fn own() -> i32 {
        id().cast_signed()
    }

    #[test]
    fn facts_of_this_process() {
        let exe_path = std::env::current_exe().unwrap();
        assert_eq!(exe(own()).unwrap(), exe_path.into_os_string().into_vec().into_boxed_slice());
        assert_eq!(uid(own()), Some(nix::unistd::geteuid().as_raw()));
        assert_eq!(parent(own()), Some(nix::unistd::getppid().as_raw()));
        assert_eq!(session(own()), Some(getsid(None).unwrap().as_raw()));
    }

    #[test]
    fn nothing_of_a_process_that_is_not_there() {
        let none = i32::MAX;
        assert_eq!((exe(none), uid(none), parent(none), session(none)), (None, None, None, None));
        assert_eq!(look(none), None);
        assert!(!descends_from(none, |pid| pid == own()));
        assert!(!descends_from(0, |_| true));
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
        let (parent, exe) = (parent(pid), exe(pid));
        child.kill().unwrap();
        assert_eq!(parent, Some(own()));
        assert_eq!(exe.unwrap(), program.into_os_string().into_vec().into_boxed_slice());
        assert!(descends_from(pid, |pid| pid == own()), "a zombie still has its parent");
        child.wait().unwrap();
    }
}
