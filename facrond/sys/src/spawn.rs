//! Starts commands, at a cost that does not depend on the size of the daemon.
//!
//! `fork` copies page tables, which takes milliseconds for a large daemon. So the child
//! is made by `clone(CLONE_VM | CLONE_VFORK)`. It shares the daemon's memory and runs on
//! a stack of its own. The calling thread stops until the child has executed its program
//! or has failed. So the child can write an error into the parent's memory.

mod child;

use super::process_group::ProcessGroup;
use super::wait;
use nix::errno::Errno;
use nix::libc::{self, c_char, c_int, c_void};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use nix::sys::prctl::{get_dumpable, set_dumpable};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::iter;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::LazyLock;

static OWN_PROGRAM: LazyLock<[CString; 1]> = LazyLock::new(|| [c"/proc/self/exe".into()]);

/// The program to start, and its environment.
///
/// The rest is the same for all programs: a session and process group of its own, no
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
    /// Whether descriptor 0 is opened anew, for reading, so that its offset is the command's own.
    pub reopens_input: bool,
    /// Its user and groups. Default: those of the daemon.
    pub credentials: Option<Credentials<'a>>,
    pub umask: u32,
    /// Its nice value. Default: that of the daemon.
    pub nice: Option<i32>,
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
            reopens_input: false,
            credentials: None,
            umask: 0o077,
            nice: None,
        }
    }
}

/// A user and groups. A process of a user other than root has no capabilities.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'a [u32],
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
    /// Making it the leader of a session.
    Session,
    /// Putting descriptors 0, 1 and 2 in place.
    Stdio,
    Nice,
    Credentials,
    Directory,
    Exec,
}

/// All that a child needs until exec. The child must not allocate memory.
struct Plan<'a> {
    programs: *const *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    cwd: *const c_char,
    stdio: [c_int; 3],
    reopens_input: bool,
    credentials: Option<Credentials<'a>>,
    umask: u32,
    nice: Option<i32>,
    /// The signals whose disposition the child would inherit.
    disposed: &'a [c_int],
    /// The child writes its error here.
    failure: Option<SpawnError>,
}

/// Starts processes, one at a time. Owns the stack on which they begin.
#[derive(Debug)]
pub struct Spawner {
    stack: Stack,
    disposed: Vec<c_int>,
}

impl Spawner {
    /// Maps the stack, and notes the signals whose disposition is not the default now. Each
    /// child resets them.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { stack: Stack::map()?, disposed: disposed() })
    }

    /// Starts a process, and returns when it executes its program or has failed. A process
    /// that has failed is already reaped.
    ///
    /// The calling thread is the parent, and must be the thread that reaps the child.
    pub fn spawn(&mut self, spawn: &Spawn<'_>) -> Result<ProcessGroup, SpawnError> {
        let programs = pointers(spawn.programs.iter().map(CString::as_c_str));
        let argv = pointers(spawn.argv.iter().map(CString::as_c_str));
        let env = pointers(spawn.env.iter().map(AsRef::as_ref));
        let mut plan = Plan {
            programs: programs.as_ptr(),
            argv: argv.as_ptr(),
            env: env.as_ptr(),
            cwd: spawn.cwd.map_or(ptr::null(), CStr::as_ptr),
            stdio: spawn.stdio.map(|fd| fd.as_raw_fd()),
            reopens_input: spawn.reopens_input,
            credentials: spawn.credentials,
            umask: spawn.umask,
            nice: spawn.nice,
            disposed: &self.disposed,
            failure: None,
        };
        let pid = clone_child(&self.stack, &mut plan);
        let pid = pid.map_err(|errno| SpawnError { step: Step::Clone, errno })?;
        match plan.failure {
            None => Ok(ProcessGroup::new(pid)),
            Some(failure) => {
                wait::reap(pid);
                Err(failure)
            }
        }
    }
}

/// Blocks all signals until the child has reset its dispositions. A signal handler must
/// not run in a child that shares our memory.
fn clone_child(stack: &Stack, plan: &mut Plan<'_>) -> Result<i32, Errno> {
    const FLAGS: c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let is_dumpable = plan.credentials.is_some() && get_dumpable()?;
    // SAFETY: CLONE_VFORK suspends this thread until the child has left the
    // stack, the plan and what the plan points to, all of which outlive this
    // call; the spawner is borrowed mutably, which keeps a second child off the
    // stack. `child::start` never returns and only makes async-signal-safe calls.
    let pid = unsafe { libc::clone(child::start, stack.top(), FLAGS, ptr::from_mut(plan).cast::<c_void>()) };
    let pid = Errno::result(pid);
    if is_dumpable {
        // The change of user took it from the memory that the child shared with us,
        // so that the user cannot trace a process in our memory.
        set_dumpable(true)?;
    }
    mask.thread_set_mask()?;
    pid
}

/// The signals that have a handler or are ignored. Rust programs ignore SIGPIPE.
fn disposed() -> Vec<c_int> {
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

/// A null-terminated array of C strings, which the strings must outlive.
fn pointers<'a>(strings: impl Iterator<Item = &'a CStr>) -> Vec<*const c_char> {
    strings.map(CStr::as_ptr).chain(iter::once(ptr::null())).collect()
}

/// Memory for the first steps of a child, with a guard page at its lower end.
#[derive(Debug)]
struct Stack(NonNull<c_void>);

impl Stack {
    const SIZE: NonZeroUsize = NonZeroUsize::new(64 * 1024).expect("not zero");
    /// The guard area: at least one page of any supported page size.
    const GUARD: usize = 16 * 1024;

    fn map() -> Result<Self, Errno> {
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK;
        // SAFETY: an anonymous mapping at an address of the kernel's choice.
        let base =
            unsafe { mmap_anonymous(None, Self::SIZE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)? };
        let stack = Self(base);
        // SAFETY: the range is within the mapping, which nobody uses yet.
        unsafe { mprotect(base, Self::GUARD, ProtFlags::PROT_NONE)? };
        Ok(stack)
    }

    /// The upper end of the stack, which grows down.
    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping is within what `add` may name.
        unsafe { self.0.as_ptr().byte_add(Self::SIZE.get()) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no child is on it outside `spawn`.
        // Failure would only leak it.
        let _ = unsafe { munmap(self.0, Self::SIZE.get()) };
    }
}

#[cfg(test)]
mod tests;
