//! Descriptors of processes. Unlike a pid, a descriptor never refers to another process
//! after the first one has ended.

use crate::process;
use crate::wait::Exit;
use nix::errno::Errno;
use nix::libc::{self, c_int, c_uint};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{io, mem, ptr};

/// A descriptor of a process: `pidfd_open(2)`.
#[derive(Debug)]
pub struct Pidfd {
    pid: i32,
    fd: OwnedFd,
}

/// `PIDFD_INFO_EXIT` (Linux 6.15).
const INFO_EXIT: u64 = 1 << 3;

/// The present facts about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The pid of its parent; 0 if the parent is in another pid namespace.
    pub parent: i32,
    /// The effective user of the process.
    pub uid: u32,
}

impl Pidfd {
    /// Opens the process that has this pid now.
    pub fn open(pid: i32) -> Result<Self, Errno> {
        // SAFETY: the call takes no pointers.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        let fd = c_int::try_from(fd).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        Ok(Self { pid, fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// A number that no other process has until the next boot. Before Linux 6.9 all
    /// processes have the same number ([`has_identities`]).
    pub fn identity(&self) -> Result<u64, Errno> {
        nix::sys::stat::fstat(&self.fd).map(|stat| stat.st_ino)
    }

    /// The facts, also about a zombie; `None` if the process is gone.
    pub fn facts(&self) -> Option<Facts> {
        // SAFETY: the structure has integers only.
        let mut info: libc::pidfd_info = unsafe { mem::zeroed() };
        info.mask = libc::PIDFD_INFO_CREDS.into();
        // SAFETY: the kernel writes as much as the call's number says the structure has.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        match Errno::result(result) {
            Ok(_) => Some(Facts { parent: info.ppid.cast_signed(), uid: info.euid }),
            Err(Errno::ESRCH) => None,
            // Linux 6.13 brought the call. Before, there is `/proc`, which may show the
            // next process with this pid.
            Err(_) => {
                let (process, uid) = (process::look(self.pid)?, process::uid(self.pid)?);
                self.send(0, 0).ok().map(|()| Facts { parent: process.parent, uid })
            }
        }
    }

    /// How the process has ended. Once its parent knows, only Linux 6.15 and later tell.
    pub fn exit(&self) -> Option<Exit> {
        self.exit_after_reaping().or_else(|| {
            let status = process::zombie_status(self.pid)?;
            // It was this process, if that is still there.
            self.send(0, 0).ok().map(|()| Exit::of_status(status))
        })
    }

    fn exit_after_reaping(&self) -> Option<Exit> {
        // SAFETY: the structure has integers only.
        let mut info: libc::pidfd_info = unsafe { mem::zeroed() };
        info.mask = INFO_EXIT;
        // SAFETY: the kernel writes as much as the call's number says the structure has.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        Errno::result(result).ok()?;
        (info.mask & INFO_EXIT != 0).then(|| Exit::of_status(info.exit_code))
    }

    /// A descriptor that is readable when the process has ended.
    pub fn ended(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal to the process. A process that is gone is no error.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match self.send(signal as c_int, 0) {
            Err(Errno::ESRCH) => Ok(()),
            result => result,
        }
    }

    pub(crate) fn send(&self, signal: c_int, flags: c_uint) -> Result<(), Errno> {
        let (fd, info) = (self.fd.as_raw_fd(), ptr::null::<libc::siginfo_t>());
        // SAFETY: the descriptor is open, and no siginfo is passed.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, flags) };
        Errno::result(sent).map(drop)
    }
}

pub fn has_identities() -> bool {
    let identity = |pid: Pid| Pidfd::open(pid.as_raw()).and_then(|process| process.identity());
    match (identity(Pid::this()), identity(Pid::parent())) {
        (Ok(own), Ok(parent)) => own != parent,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_those_of_proc() {
        let own = Pid::this().as_raw();
        let facts = Pidfd::open(own).unwrap().facts().unwrap();
        assert_eq!(Some(facts.parent), process::look(own).map(|process| process.parent));
        assert_eq!(Some(facts.uid), process::uid(own));
    }

    #[test]
    fn an_identity_stays_with_its_process() {
        let own = Pidfd::open(Pid::this().as_raw()).unwrap();
        let again = Pidfd::open(Pid::this().as_raw()).unwrap();
        assert_eq!(own.identity(), again.identity());
        if has_identities() {
            let parent = Pidfd::open(Pid::parent().as_raw()).unwrap();
            assert_ne!(own.identity(), parent.identity());
        }
    }

    #[test]
    fn how_it_has_ended_is_known_also_to_others() {
        let mut child = std::process::Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let process = Pidfd::open(child.id().cast_signed()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while process.exit().is_none() {
            assert!(std::time::Instant::now() < deadline);
        }
        assert_eq!(process.exit(), Some(Exit::Code(7)));
        child.wait().unwrap();
        assert!([None, Some(Exit::Code(7))].contains(&process.exit()));
    }

    #[test]
    fn only_who_is_reaped_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        let process = Pidfd::open(pid).unwrap();
        process.signal(Signal::SIGKILL).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !crate::wait::is_to_be_reaped(pid) {
            assert!(std::time::Instant::now() < deadline);
        }
        assert_eq!(process.facts().unwrap().parent, Pid::this().as_raw(), "a zombie has its parent");
        child.wait().unwrap();
        assert_eq!(process.facts(), None);
        assert_eq!(process.signal(Signal::SIGKILL), Ok(()));
        assert_eq!(Pidfd::open(pid).err(), Some(Errno::ESRCH));
    }
}
