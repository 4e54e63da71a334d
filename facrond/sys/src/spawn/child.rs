//! The steps of a new process until it executes its program.
//!
//! The child runs in the daemon's memory while the daemon's thread is stopped. So
//! nothing here allocates, panics, takes a lock or returns to the caller.

use super::{Credentials, Plan, SpawnError, Step};
use nix::errno::Errno;
use nix::libc::{self, c_char, c_int, c_long, c_void};
use std::convert::Infallible;
use std::{mem, ptr};

/// The exit status of a child that failed before exec. Nobody reads it.
const FAILED: c_int = 127;

// On two 32-bit architectures these names are calls with 16-bit numbers.
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
use libc::{SYS_setgroups as SYS_SETGROUPS, SYS_setresgid as SYS_SETRESGID, SYS_setresuid as SYS_SETRESUID};
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
use libc::{
    SYS_setgroups32 as SYS_SETGROUPS, SYS_setresgid32 as SYS_SETRESGID, SYS_setresuid32 as SYS_SETRESUID,
};

/// The kernel's signals, and its set of them in bytes.
pub(super) const LAST_SIGNAL: c_int = 64;
pub(super) const SIGNAL_SET_SIZE: usize = 8;

/// The kernel's `struct sigaction` for `SIG_DFL` without flags, and some more room.
pub(super) const DEFAULT: [u64; 8] = [0; 8];

/// Entry point for clone(2); `plan` is a [`Plan`].
pub(super) extern "C" fn start(plan: *mut c_void) -> c_int {
    // SAFETY: the parent passes its plan, and stands still while we use it.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    let Err(failure) = execute(plan);
    plan.failure = Some(failure);
    // SAFETY: ends this process and runs no handler of the parent's.
    unsafe { libc::_exit(FAILED) }
}

fn execute(plan: &Plan<'_>) -> Result<Infallible, SpawnError> {
    // SAFETY: plain system calls on this process's own descriptors, signals,
    // session and directory; all pointers come from the plan.
    unsafe {
        reset_dispositions(plan.disposed);
        check(libc::setsid(), Step::Session)?;
        for (source, target) in plan.stdio.into_iter().zip(0..) {
            place(source, target)?;
        }
        if plan.reopens_input {
            reopen_input()?;
        }
        close_from(3);
        libc::umask(plan.umask);
        if let Some(nice) = plan.nice {
            check(libc::setpriority(libc::PRIO_PROCESS, 0, nice), Step::Nice)?;
        }
        if let Some(credentials) = &plan.credentials {
            become_user(credentials)?;
        }
        if !plan.cwd.is_null() {
            check(libc::chdir(plan.cwd), Step::Directory)?;
        }
        unblock_signals();
        Err(SpawnError { step: Step::Exec, errno: exec(plan) })
    }
}

/// Uses the raw calls. The functions of the C library would also change the daemon's
/// threads.
unsafe fn become_user(credentials: &Credentials<'_>) -> Result<(), SpawnError> {
    let Credentials { uid, gid, groups } = *credentials;
    // SAFETY: the groups are those of the plan; the rest are numbers.
    unsafe {
        check_call(libc::syscall(SYS_SETGROUPS, groups.len(), groups.as_ptr()))?;
        check_call(libc::syscall(SYS_SETRESGID, gid, gid, gid))?;
        check_call(libc::syscall(SYS_SETRESUID, uid, uid, uid))?;
        if uid != 0 { drop_capabilities() } else { Ok(()) }
    }
}

/// Drops all capabilities. The change of user has dropped the effective ones, but not the
/// inheritable and ambient ones.
unsafe fn drop_capabilities() -> Result<(), SpawnError> {
    // `struct __user_cap_header_struct` of version 3, for this process, and two
    // `struct __user_cap_data_struct`.
    let header: [u32; 2] = [0x2008_0522, 0];
    let none = [0u32; 6];
    // SAFETY: the structures have the sizes of this version.
    unsafe { check_call(libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr())) }
}

fn check_call(result: c_long) -> Result<(), SpawnError> {
    if result == -1 { Err(SpawnError { step: Step::Credentials, errno: Errno::last() }) } else { Ok(()) }
}

fn check(result: c_int, step: Step) -> Result<(), SpawnError> {
    if result == -1 { Err(SpawnError { step, errno: Errno::last() }) } else { Ok(()) }
}

/// Resets signals to their default. Exec does this for handled signals, but not for ignored
/// ones, and no handler may run here before exec.
unsafe fn reset_dispositions(disposed: &[c_int]) {
    for signal in disposed {
        // SAFETY: reads the structure only. By the raw call: the C library's leaves out
        // the two signals that it uses itself.
        unsafe {
            let none = ptr::null_mut::<c_void>();
            libc::syscall(libc::SYS_rt_sigaction, *signal, DEFAULT.as_ptr(), none, SIGNAL_SET_SIZE);
        }
    }
}

unsafe fn unblock_signals() {
    // SAFETY: the set is initialised by `sigemptyset`.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Makes `source` the descriptor `target`, to stay open across exec.
unsafe fn place(source: c_int, target: c_int) -> Result<(), SpawnError> {
    // SAFETY: only changes this process's descriptor table.
    let result = unsafe {
        if source == target { libc::fcntl(target, libc::F_SETFD, 0) } else { libc::dup2(source, target) }
    };
    check(result, Step::Stdio)
}

/// Here and not in the daemon, since who has a lease on the file can let this wait.
unsafe fn reopen_input() -> Result<(), SpawnError> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the path is NUL-terminated; the rest only changes this process's descriptors.
    unsafe {
        let file = libc::open(c"/proc/self/fd/0".as_ptr(), flags);
        check(file, Step::Stdio)?;
        place(file, 0)
    }
}

unsafe fn close_from(first: libc::c_uint) {
    // SAFETY: the table is this process's own copy.
    unsafe {
        // The raw call: not every C library has a wrapper.
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) == 0 {
            return;
        }
        let mut limit: libc::rlimit = mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        for fd in first..libc::c_uint::try_from(limit.rlim_cur).unwrap_or(1 << 20) {
            libc::close(fd.cast_signed());
        }
    }
}

/// As execvp(3), over a prepared list. Tries the next program if one does not exist or may
/// not be executed. Returns only on failure.
unsafe fn exec(plan: &Plan<'_>) -> Errno {
    let mut denied = false;
    let mut errno = Errno::ENOENT;
    let mut program: *const *const c_char = plan.programs;
    // SAFETY: the arrays end with a null pointer, and what they point to is
    // null-terminated.
    unsafe {
        while !(*program).is_null() {
            libc::execve(*program, plan.argv, plan.env);
            errno = Errno::last();
            match errno {
                Errno::EACCES => denied = true,
                Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
                _ => return errno,
            }
            program = program.add(1);
        }
    }
    if denied { Errno::EACCES } else { errno }
}
