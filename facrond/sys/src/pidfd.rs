//! Processes by descriptor: who they are, whatever becomes of their pids.

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, OwnedFd};
use std::{mem, ptr};

#[derive(Debug)]
pub struct Process {
    pid: i32,
    fd: OwnedFd,
}

/// What the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its parent; 0 for those that have none in this namespace.
    pub parent: i32,
    /// Its effective user.
    pub uid: u32,
}

impl Process {
    /// The process that has this pid now.
    pub fn open(pid: i32) -> Result<Self, Errno> {
        super::process::open(pid).map(|fd| Self { pid, fd })
    }

    /// A number that no other process ever has while the system runs; Linux 6.9,
    /// before which all have the same ([`has_identities`]).
    pub fn identity(&self) -> Result<u64, Errno> {
        nix::sys::stat::fstat(&self.fd).map(|stat| stat.st_ino)
    }

    /// What there is to be told; `None` when it is gone.
    pub fn facts(&self) -> Option<Facts> {
        // SAFETY: the structure has integers only.
        let mut info: libc::pidfd_info = unsafe { mem::zeroed() };
        info.mask = libc::PIDFD_INFO_CREDS.into();
        // SAFETY: the kernel writes as much as the call's number says the structure has.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        match Errno::result(result) {
            Ok(_) => Some(Facts { parent: info.ppid.cast_signed(), uid: info.euid }),
            Err(Errno::ESRCH) => None,
            // Linux 6.13 brought the call; before, there is `/proc`, which may tell of the
            // next process with this pid.
            Err(_) => {
                let (parent, uid) = (super::process::parent(self.pid)?, super::process::uid(self.pid)?);
                self.exists().then_some(Facts { parent, uid })
            }
        }
    }

    fn exists(&self) -> bool {
        // SAFETY: signal 0 is none, and no siginfo is passed.
        let result = unsafe {
            let none = ptr::null::<libc::siginfo_t>();
            libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), 0, none, 0)
        };
        result == 0
    }
}

pub fn has_identities() -> bool {
    let identity = |pid: Pid| Process::open(pid.as_raw()).and_then(|process| process.identity());
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
        let facts = Process::open(own).unwrap().facts().unwrap();
        assert_eq!(Some(facts.parent), super::super::process::parent(own));
        assert_eq!(Some(facts.uid), super::super::process::uid(own));
    }

    #[test]
    fn an_identity_stays_with_its_process() {
        let own = Process::open(Pid::this().as_raw()).unwrap();
        let again = Process::open(Pid::this().as_raw()).unwrap();
        assert_eq!(own.identity(), again.identity());
        if has_identities() {
            let parent = Process::open(Pid::parent().as_raw()).unwrap();
            assert_ne!(own.identity(), parent.identity());
        }
    }

    #[test]
    fn who_is_gone_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id().cast_signed()).unwrap();
        assert_eq!(process.facts().unwrap().parent, Pid::this().as_raw());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(process.facts(), None);
        assert_eq!(Process::open(child.id().cast_signed()).err(), Some(Errno::ESRCH));
    }
}
