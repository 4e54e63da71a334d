//! Limits that a process sets on itself for good: capabilities, system calls, open files.

use nix::errno::Errno;
use nix::libc::{self, c_long, sock_filter, sock_fprog};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use std::time::Duration;

/// Allows to look up files without permission (`linux/capability.h`).
pub const CAP_DAC_READ_SEARCH: u32 = 2;
/// Allows to read the links in `/proc` of other users' processes.
pub const CAP_SYS_PTRACE: u32 = 19;
/// Allows to open files when the system has reached its limit of open files.
pub const CAP_SYS_ADMIN: u32 = 21;

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Drops all capabilities of this process except these, which have numbers below 32.
pub fn keep_capabilities(kept: &[u32]) -> Result<(), Errno> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut sets = [CapabilitySet { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: version 3 has two sets, and there is room for them.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    let permitted = sets[0].permitted & kept.iter().fold(0, |bits, capability| bits | 1 << capability);
    sets = [
        CapabilitySet { effective: permitted, permitted, inheritable: 0 },
        CapabilitySet { effective: 0, permitted: 0, inheritable: 0 },
    ];
    // SAFETY: as above; the kernel only reads them.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) }).map(drop)
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;

/// The calls that make a new process, or execute another program.
const FORBIDDEN: &[c_long] = &[
    libc::SYS_clone,
    libc::SYS_clone3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_execve,
    libc::SYS_execveat,
];

/// The offset of the call's number in `struct seccomp_data`.
const CALL_NUMBER: u32 = 0;
const CALL_ARCHITECTURE: u32 = 4;
/// Calls of the x32 ABI have numbers from here on.
const X32: u32 = 0x4000_0000;

/// Makes fork and exec fail in this process, with `EPERM`. A call of a foreign
/// architecture kills the process (seccomp(2)).
pub fn forbid_new_processes() -> Result<(), Errno> {
    let kill = statement(libc::BPF_RET, libc::SECCOMP_RET_KILL_PROCESS);
    let mut filter = vec![
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, CALL_ARCHITECTURE),
        jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0),
        kill,
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, CALL_NUMBER),
        jump(libc::BPF_JGE, X32, 0, 1),
        kill,
    ];
    for call in FORBIDDEN {
        let call = u32::try_from(*call).expect("numbers of calls are small");
        filter.push(jump(libc::BPF_JEQ, call, 0, 1));
        filter.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()));
    }
    filter.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW));
    nix::sys::prctl::set_no_new_privs()?;
    let program = sock_fprog {
        len: u16::try_from(filter.len()).expect("a dozen instructions"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program points to as many instructions as it says, which the kernel copies.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Errno::result(result).map(drop)
}

fn statement(code: u32, k: u32) -> sock_filter {
    jump_unless(code, k, 0, 0)
}

fn jump(condition: u32, k: u32, if_so: u8, if_not: u8) -> sock_filter {
    jump_unless(libc::BPF_JMP | condition | libc::BPF_K, k, if_so, if_not)
}

fn jump_unless(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).expect("codes are short"), jt, jf, k }
}

/// Raises the limit of open files to `wanted`, or as far as permitted. Returns the new limit.
pub fn raise_file_limit(wanted: u64) -> Result<u64, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = wanted.max(soft);
    let reached = setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted.max(hard)).map(|()| wanted);
    reached.or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard))
}

/// Ignores the signals that ask a process to end. This process ends with its task.
pub fn ignore_requests_to_end() -> Result<(), Errno> {
    for request in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        // SAFETY: no handler is installed.
        unsafe { signal(request, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Makes the kernel end this process by SIGALRM after `time`, unless this function is
/// called again before. Zero means never.
pub fn end_after(time: Duration) {
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval {
            tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_usec: time.subsec_micros().into(),
        },
    };
    // SAFETY: the kernel reads the structure, and is to write no old one. It cannot fail
    // with a valid timer and valid times.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    /// What a process that did this exits with.
    fn status_of(what: fn() -> i32) -> WaitStatus {
        // SAFETY: the child makes system calls and leaves without running anything of ours.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let code = what();
                // SAFETY: ends the process.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => waitpid(child, None).unwrap(),
        }
    }

    #[test]
    fn no_fork_and_no_exec() {
        let status = status_of(|| {
            if forbid_new_processes().is_err() {
                return 1;
            }
            // SAFETY: both are to be refused.
            let forked = unsafe { libc::fork() };
            if forked != -1 || Errno::last() != Errno::EPERM {
                return 2;
            }
            let no: *const *const libc::c_char = std::ptr::null();
            // SAFETY: as above.
            let executed = unsafe { libc::execve(c"/bin/true".as_ptr(), no, no) };
            if executed != -1 || Errno::last() != Errno::EPERM {
                return 3;
            }
            0
        });
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    }

    #[test]
    fn an_end_if_nothing_is_heard() {
        let status = status_of(|| {
            end_after(Duration::from_millis(20));
            std::thread::sleep(Duration::from_secs(10));
            0
        });
        assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGALRM, _)), "{status:?}");
    }
}
