//! The steps of a new process until it executes its program.
//!
//! The child runs in the daemon's memory while the daemon goes on. So nothing here
//! allocates, panics, takes a lock, touches `errno` or returns to the caller.

use super::arena::Arena;
use super::input;
use super::raw::call;
use super::{Credentials, Plan, Session, SpawnError, Step};
use nix::errno::Errno;
use nix::libc::{self, c_int, c_void};
use std::convert::Infallible;
use std::ffi::CStr;
use std::{hint, mem, ptr};

/// The exit status of a child that failed before exec. Nobody reads it.
const FAILED: usize = 127;

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

/// Entry point for clone(2); `arena` is an [`Arena`].
pub(super) extern "C" fn start(arena: *mut c_void) -> c_int {
    // SAFETY: the parent passes an arena that is ours until we leave its memory, which the
    // kernel tells it by clearing the mark.
    unsafe {
        let arena = &*arena.cast::<Arena>().cast_const();
        // This call always succeeds.
        let _ = call(libc::SYS_set_tid_address, [arena.mark().as_ptr() as usize]);
        let Err(failure) = execute(arena.plan());
        arena.fail(failure);
        loop {
            // Ends this process and runs no handler of the parent's.
            let _ = call(libc::SYS_exit_group, [FAILED]);
            hint::spin_loop();
        }
    }
}

fn execute(plan: &Plan) -> Result<Infallible, SpawnError> {
    // SAFETY: plain system calls on this process's own descriptors, signals,
    // session and directory; all pointers come from the plan.
    unsafe {
        reset_dispositions(&plan.disposed);
        match plan.session {
            Session::Own => call(libc::SYS_setsid, []),
            Session::Daemon => call(libc::SYS_setpgid, [0, 0]),
        }
        .map_err(at(Step::Session))?;
        for (source, target) in plan.stdio.iter().zip(0..) {
            place(*source, target).map_err(at(Step::Stdio))?;
        }
        close_from(3);
        // It can wait for a server, and must keep nothing of ours meanwhile.
        input::prepare(&plan.input).map_err(at(Step::Input))?;
        if let Some(files) = &plan.files {
            // Not raised, so it succeeds.
            let limit = ptr::from_ref(files) as usize;
            let _ = call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, limit, 0]);
        }
        // This call always succeeds.
        let _ = call(libc::SYS_umask, [plan.umask as usize]);
        if let Some(nice) = plan.nice {
            let itself = [libc::PRIO_PROCESS as usize, 0, nice.cast_unsigned() as usize];
            call(libc::SYS_setpriority, itself).map_err(at(Step::Nice))?;
        }
        if let Some(credentials) = &plan.credentials {
            become_user(credentials).map_err(at(Step::Credentials))?;
        }
        if let Some(output) = &plan.output {
            open_output(output).map_err(at(Step::Output))?;
        }
        if let Some(cwd) = &plan.cwd {
            call(libc::SYS_chdir, [cwd.as_ptr() as usize]).map_err(at(Step::Directory))?;
        }
        unblock_signals();
        Err(SpawnError { step: Step::Exec, errno: exec(plan) })
    }
}

fn at(step: Step) -> impl FnOnce(Errno) -> SpawnError {
    move |errno| SpawnError { step, errno }
}

/// From here on the user can send signals to this process: stop it, for instance.
unsafe fn become_user(Credentials { uid, gid, groups }: &Credentials<Box<[u32]>>) -> Result<(), Errno> {
    let (uid, gid) = (*uid as usize, *gid as usize);
    // SAFETY: the groups are those of the plan; the rest are numbers.
    unsafe {
        call(SYS_SETGROUPS, [groups.len(), groups.as_ptr() as usize])?;
        call(SYS_SETRESGID, [gid, gid, gid])?;
        call(SYS_SETRESUID, [uid, uid, uid])?;
        if uid != 0 {
            drop_capabilities()?;
        }
        // A core of this process would be one of the daemon: its memory is the daemon's. The
        // daemon itself stays as it is then, so that the user cannot trace into it.
        call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.cast_unsigned() as usize, 0]).map(drop)
    }
}

/// Drops all capabilities. The change of user has dropped the effective ones, but not the
/// inheritable and ambient ones.
unsafe fn drop_capabilities() -> Result<(), Errno> {
    // `struct __user_cap_header_struct` of version 3, for this process, and two
    // `struct __user_cap_data_struct`.
    let header: [u32; 2] = [0x2008_0522, 0];
    let none = [0u32; 6];
    // SAFETY: the structures have the sizes of this version.
    unsafe { call(libc::SYS_capset, [header.as_ptr() as usize, none.as_ptr() as usize]).map(drop) }
}

/// Resets signals to their default. Exec does this for handled signals, but not for ignored
/// ones, and no handler may run here before exec.
unsafe fn reset_dispositions(disposed: &[c_int]) {
    for signal in disposed {
        let (signal, action) = (signal.cast_unsigned() as usize, DEFAULT.as_ptr() as usize);
        // SAFETY: reads the structure only. A signal that there is can be reset.
        let _ = unsafe { call(libc::SYS_rt_sigaction, [signal, action, 0, SIGNAL_SET_SIZE]) };
    }
}

/// Appends descriptors 1 and 2 to a file, below directories that are no links.
///
/// Whoever may write to a directory on the way must not choose what is written to: no link is
/// followed, and a file with a second name is refused, which could be anybody's.
unsafe fn open_output(path: &CStr) -> Result<(), Errno> {
    const FLAGS: c_int = libc::O_WRONLY
        | libc::O_APPEND
        | libc::O_CREAT
        | libc::O_NOFOLLOW
        | libc::O_NONBLOCK
        | libc::O_NOCTTY
        | libc::O_CLOEXEC;
    // `struct open_how`
    let how = [u64::from(FLAGS.cast_unsigned()), 0o640, libc::RESOLVE_NO_SYMLINKS];
    let (path, how_at) = (path.as_ptr() as usize, ptr::from_ref(&how) as usize);
    // SAFETY: the structures have the sizes that the kernel expects, and there is room for what
    // it writes. An array of zeros is a valid `stat`.
    unsafe {
        let arguments = [libc::AT_FDCWD.cast_unsigned() as usize, path, how_at, size_of_val(&how)];
        let file = call(libc::SYS_openat2, arguments).map_err(|errno| match errno {
            Errno::EAGAIN => Errno::EBUSY,
            Errno::ENXIO => Errno::ESPIPE,
            errno => errno,
        })?;
        let mut stat: libc::stat = mem::zeroed();
        call(libc::SYS_fstat, [file, ptr::from_mut(&mut stat) as usize])?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Errno::ESPIPE);
        }
        if stat.st_nlink > 1 {
            return Err(Errno::EMLINK);
        }
        // The command expects its writes to wait.
        call(libc::SYS_fcntl, [file, libc::F_SETFL as usize, libc::O_APPEND as usize])?;
        for target in 1..3 {
            call(libc::SYS_dup3, [file, target, 0])?;
        }
        call(libc::SYS_close, [file]).map(drop)
    }
}

unsafe fn unblock_signals() {
    let none = 0u64;
    let how = [libc::SIG_SETMASK as usize, ptr::from_ref(&none) as usize, 0, SIGNAL_SET_SIZE];
    // SAFETY: reads the set only. The arguments are valid, so it succeeds.
    let _ = unsafe { call(libc::SYS_rt_sigprocmask, how) };
}

/// Makes `source` the descriptor `target`, to stay open across exec.
unsafe fn place(source: c_int, target: c_int) -> Result<(), Errno> {
    let is_there = source == target;
    let (source, target) = (source.cast_unsigned() as usize, target.cast_unsigned() as usize);
    // SAFETY: only changes this process's descriptor table.
    let result = unsafe {
        if is_there {
            call(libc::SYS_fcntl, [target, libc::F_SETFD as usize, 0])
        } else {
            call(libc::SYS_dup3, [source, target, 0])
        }
    };
    result.map(drop)
}

unsafe fn close_from(first: usize) {
    // SAFETY: the table is this process's own copy.
    unsafe {
        if call(libc::SYS_close_range, [first, libc::c_uint::MAX as usize, 0]).is_ok() {
            return;
        }
        // Before Linux 5.9.
        let mut limit = libc::rlimit64 { rlim_cur: 1 << 20, rlim_max: 0 };
        let to = ptr::from_mut(&mut limit) as usize;
        let _ = call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, 0, to]);
        for fd in first..usize::try_from(limit.rlim_cur).unwrap_or(1 << 20) {
            let _ = call(libc::SYS_close, [fd]);
        }
    }
}

/// As execvp(3), over a prepared list. Tries the next program if one does not exist or may
/// not be executed. Returns only on failure.
unsafe fn exec(plan: &Plan) -> Errno {
    let mut denied = false;
    let mut errno = Errno::ENOENT;
    let (argv, env) = (plan.argv.array(), plan.env.array());
    for program in plan.programs.iter() {
        let arguments = [program as usize, argv as usize, env as usize];
        // SAFETY: the arrays end with a null pointer, and what they point to is
        // null-terminated.
        let Err(failed) = (unsafe { call(libc::SYS_execve, arguments) }) else { continue };
        errno = failed;
        match errno {
            Errno::EACCES => denied = true,
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
            _ => return errno,
        }
    }
    if denied { Errno::EACCES } else { errno }
}
