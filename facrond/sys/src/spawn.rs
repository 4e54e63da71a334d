//! Starts commands, at a cost that does not depend on the size of the daemon.
//!
//! `fork` copies page tables, which takes milliseconds for a large daemon. So the child
//! is made by `clone(CLONE_VM)`: it shares the daemon's memory until it executes its
//! program, and runs on a stack of its own.
//!
//! The daemon does not wait for that, as after `vfork`. From the change of user on, the
//! child belongs to another user, who can stop it, or keep it from its program with a
//! lease. So the daemon goes on at once, and ends a child that takes too long.

mod arena;
mod child;
mod input;
mod raw;
mod strings;

pub use arena::Start;

use super::descriptors::inherited_limits;
use super::process_group::ProcessGroup;
use super::record::FsId;
use nix::errno::Errno;
use nix::libc::{self, c_int, c_void};
use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::{Arc, LazyLock};
use strings::Strings;

static OWN_PROGRAM: LazyLock<[CString; 1]> = LazyLock::new(|| [c"/proc/self/exe".into()]);

/// The program to start, and its environment.
///
/// The rest is the same for all programs: a process group of its own, no
/// further descriptor, default signal dispositions, no signal blocked.
pub struct Spawn<'a> {
    /// The paths to try in order, as execvp(3) does with those of `PATH`.
    pub programs: &'a [CString],
    /// The arguments, from `argv[0]`.
    pub argv: &'a [CString],
    /// The whole environment, as `NAME=value`.
    pub env: &'a [Cow<'a, CStr>],
    /// The working directory. Default: that of the daemon.
    pub cwd: Option<&'a CStr>,
    /// Descriptors 0, 1 and 2 of the command. A descriptor below 3 must be used in its own
    /// place.
    pub stdio: [BorrowedFd<'a>; 3],
    pub input: Input,
    /// A file to which descriptors 1 and 2 append in place of those. The command's own user
    /// opens it.
    pub output: Option<&'a CStr>,
    /// Its user and groups. Default: those of the daemon.
    pub credentials: Option<Credentials<&'a [u32]>>,
    pub umask: u32,
    /// Its nice value. Default: that of the daemon.
    pub nice: Option<i32>,
    pub session: Session,
}

/// What becomes of descriptor 0.
#[derive(Clone, Debug)]
pub enum Input {
    AsItIs,
    /// The file is opened anew, for reading, so that its offset is the command's own.
    Reopened,
    /// In its place this path is opened, for reading, if the regular file is there that has this
    /// handle. No links are followed.
    File {
        path: CString,
        fs: FsId,
        handle: Box<[u8]>,
    },
}

/// The session of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    Own,
    /// That of the daemon. The daemon trusts such processes.
    Daemon,
}

impl<'a> Spawn<'a> {
    /// Starts the daemon's own program as a helper, with an empty environment.
    pub fn of_self(argv: &'a [CString], stdio: [BorrowedFd<'a>; 3]) -> Self {
        Self {
            programs: &*OWN_PROGRAM,
            argv,
            env: &[],
            cwd: Some(c"/"),
            stdio,
            input: Input::AsItIs,
            output: None,
            credentials: None,
            umask: 0o077,
            nice: None,
            session: Session::Daemon,
        }
    }
}

/// A user and groups. A process of a user other than root has no capabilities.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<Groups> {
    pub uid: u32,
    pub gid: u32,
    pub groups: Groups,
}

/// The reason why a command was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnError {
    pub step: Step,
    pub errno: Errno,
}

/// The steps of a start that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Clone,
    /// Making it the leader of a session or a process group.
    Session,
    /// Putting descriptors 0, 1 and 2 in place.
    Stdio,
    /// Opening the file for descriptor 0. `ESTALE` means that another one is there, `ESPIPE` that
    /// it is not a regular file.
    Input,
    Nice,
    Credentials,
    /// Opening the file for descriptors 1 and 2. `ESPIPE` means that it is not a regular file,
    /// `EMLINK` that it has further names, `EBUSY` that somebody has a lease on it.
    Output,
    Directory,
    Exec,
}

/// All that a child needs until exec.
#[derive(Debug)]
struct Plan {
    programs: Strings,
    argv: Strings,
    env: Strings,
    cwd: Option<CString>,
    stdio: [c_int; 3],
    input: Input,
    output: Option<CString>,
    credentials: Option<Credentials<Box<[u32]>>>,
    umask: u32,
    nice: Option<i32>,
    session: Session,
    /// The signals whose disposition the child would inherit.
    disposed: Arc<[c_int]>,
    /// Its limit of descriptors, if it is another than ours.
    files: Option<libc::rlimit64>,
}

/// Starts processes.
#[derive(Debug)]
pub struct Spawner {
    disposed: Arc<[c_int]>,
}

impl Default for Spawner {
    /// Notes the signals whose disposition is not the default now. Each child resets them.
    fn default() -> Self {
        Self { disposed: disposed() }
    }
}

impl Spawner {
    /// Starts a process, which is then on its way to its program. Whether it gets there is
    /// told by [`Start`].
    ///
    /// The calling thread is the parent, and must be the thread that reaps the child.
    pub fn spawn(&self, spawn: &Spawn<'_>) -> Result<(ProcessGroup, Start), SpawnError> {
        let plan = Plan {
            programs: Strings::new(spawn.programs.iter().map(CString::as_c_str)),
            argv: Strings::new(spawn.argv.iter().map(CString::as_c_str)),
            env: Strings::new(spawn.env.iter().map(AsRef::as_ref)),
            cwd: spawn.cwd.map(CStr::to_owned),
            stdio: spawn.stdio.map(|fd| fd.as_raw_fd()),
            input: spawn.input.clone(),
            output: spawn.output.map(CStr::to_owned),
            credentials: spawn.credentials.map(|Credentials { uid, gid, groups }| Credentials {
                uid,
                gid,
                groups: groups.into(),
            }),
            umask: spawn.umask,
            nice: spawn.nice,
            session: spawn.session,
            disposed: Arc::clone(&self.disposed),
            files: inherited_limits().map(|(rlim_cur, rlim_max)| libc::rlimit64 { rlim_cur, rlim_max }),
        };
        let started = Start::new(plan).map_err(|errno| SpawnError { step: Step::Clone, errno });
        started.map(|(pid, start)| (ProcessGroup::new(pid), start))
    }
}

/// The signals that have a handler or are ignored. Rust programs ignore SIGPIPE.
fn disposed() -> Arc<[c_int]> {
    let is_disposed = |signal: &c_int| {
        let mut action = child::DEFAULT;
        let none = ptr::null::<c_void>();
        // SAFETY: the kernel's structure has room in the array.
        let result = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, *signal, none, action.as_mut_ptr(), child::SIGNAL_SET_SIZE)
        };
        result == 0 && action != child::DEFAULT
    };
    (1..=child::LAST_SIGNAL).filter(is_disposed).collect()
}

#[cfg(test)]
mod tests;
