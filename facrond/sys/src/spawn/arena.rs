//! The memory in which a process is until it executes its program.
//!
//! Each process that is on its way has an arena of its own: a stack, what it needs, and
//! room for its failure. The kernel clears the arena's mark when the process leaves our
//! memory, be it by exec or by its end, so that the next one can have it. An arena is
//! never unmapped: somebody may have stopped the process in it.

use super::child::start;
use super::{Plan, SpawnError, raw};
use nix::errno::Errno;
use nix::libc::{self, c_int, c_void};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All arenas that there are.
static POOL: Mutex<Pool> = Mutex::new(Pool { arenas: Vec::new() });

#[derive(Debug)]
pub(super) struct Arena {
    stack: Stack,
    /// Not 0 while a process may be in it.
    mark: AtomicI32,
    plan: UnsafeCell<Option<Plan>>,
    failure: UnsafeCell<Option<SpawnError>>,
}

// SAFETY: while the mark is set, the process in the arena reads the plan and writes the
// failure, and we do neither. Else only the one owner of the arena uses them.
unsafe impl Sync for Arena {}
// SAFETY: as above; the stack is plain memory.
unsafe impl Send for Arena {}

/// A process on its way to its program.
#[derive(Debug)]
pub struct Start(Arc<Arena>);

impl Start {
    /// Sends a new process on its way; its pid.
    pub(super) fn new(plan: Plan) -> Result<(i32, Self), Errno> {
        let mut pool = Pool::lock();
        let arena = pool.vacant()?;
        // SAFETY: no process is in the arena, and we are the only owner.
        unsafe { (*arena.plan.get(), *arena.failure.get()) = (Some(plan), None) };
        arena.mark.store(1, Ordering::Release);
        match arena.clone_child() {
            Ok(pid) => Ok((pid, Self(arena))),
            Err(errno) => {
                arena.mark.store(0, Ordering::Release);
                Err(errno)
            }
        }
    }

    /// Whether the process executes its program, or has ended.
    pub fn is_over(&self) -> bool {
        self.0.is_vacant()
    }

    /// The same, and it has not failed.
    pub fn has_succeeded(&self) -> bool {
        // SAFETY: no process is in the arena.
        self.is_over() && unsafe { (*self.0.failure.get()).is_none() }
    }

    /// Why the process, which was reaped, has not executed its program; `None` if it has, or
    /// if a signal has ended it before.
    pub fn failure(self) -> Option<SpawnError> {
        self.0.mark.store(0, Ordering::Release);
        // SAFETY: the process is gone.
        unsafe { *self.0.failure.get() }
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if self.is_over() {
            // SAFETY: no process is in the arena, and this is the only owner.
            unsafe { *self.0.plan.get() = None };
        }
    }
}

impl Arena {
    fn map() -> Result<Self, Errno> {
        let (plan, failure) = (UnsafeCell::new(None), UnsafeCell::new(None));
        Ok(Self { stack: Stack::map()?, mark: AtomicI32::new(0), plan, failure })
    }

    fn is_vacant(&self) -> bool {
        self.mark.load(Ordering::Acquire) == 0
    }

    /// Makes a process in this arena, with all signals blocked: a signal handler must not
    /// run in a child that shares our memory.
    fn clone_child(self: &Arc<Self>) -> Result<i32, Errno> {
        let stand_still = if raw::IS_OURS { 0 } else { libc::CLONE_VFORK };
        let flags: c_int = libc::CLONE_VM | libc::SIGCHLD | stand_still;
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let arena = Arc::as_ptr(self).cast_mut().cast::<c_void>();
        // SAFETY: the arena is in the pool for ever, and nobody else uses it while its mark
        // is set. `start` never returns and touches nothing else of ours.
        let pid = Errno::result(unsafe { libc::clone(start, self.stack.top(), flags, arena) });
        // It cannot fail with a mask that was in force.
        let _ = mask.thread_set_mask();
        pid
    }

    /// What the kernel clears.
    pub(super) fn mark(&self) -> &AtomicI32 {
        &self.mark
    }

    /// For the process in it.
    ///
    /// # Safety
    ///
    /// The mark is set.
    pub(super) unsafe fn plan(&self) -> &Plan {
        // SAFETY: nobody changes it while the mark is set; there is one.
        unsafe { (*self.plan.get()).as_ref().unwrap_unchecked() }
    }

    /// For the process in it.
    ///
    /// # Safety
    ///
    /// The mark is set.
    pub(super) unsafe fn fail(&self, failure: SpawnError) {
        // SAFETY: nobody reads it while the mark is set.
        unsafe { *self.failure.get() = Some(failure) };
    }
}

#[derive(Debug)]
struct Pool {
    arenas: Vec<Arc<Arena>>,
}

impl Pool {
    fn lock() -> MutexGuard<'static, Self> {
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An arena that has neither a process nor another owner.
    fn vacant(&mut self) -> Result<Arc<Arena>, Errno> {
        for arena in &mut self.arenas {
            if Arc::get_mut(arena).is_some_and(|arena| arena.is_vacant()) {
                return Ok(Arc::clone(arena));
            }
        }
        let arena = Arc::new(Arena::map()?);
        self.arenas.push(Arc::clone(&arena));
        Ok(arena)
    }
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
        // SAFETY: the range is within the mapping, which nobody uses yet.
        unsafe { mprotect(base, Self::GUARD, ProtFlags::PROT_NONE)? };
        Ok(Self(base))
    }

    /// The upper end of the stack, which grows down.
    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping is within what `add` may name.
        unsafe { self.0.as_ptr().byte_add(Self::SIZE.get()) }
    }
}
