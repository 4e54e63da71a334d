//! How many descriptors this process may have, and those that it was started with.

use crate::confine::raise_file_limit;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use std::env;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that a service manager passes (`sd_listen_fds(3)`).
const FIRST_PASSED: i32 = 3;

/// Whether [`take_passed`] was called.
static ARE_TAKEN: AtomicBool = AtomicBool::new(false);

/// The soft and the hard limit before they were raised, and the limit since.
static LIMITS: OnceLock<(u64, u64, u64)> = OnceLock::new();

/// So many are kept for clients, looks and the like, and a quarter of a small limit.
const RESERVE: u64 = 256;

/// Raises the soft limit to the hard one. Processes that are started later get the limits
/// from before.
pub fn raise_limit() -> Result<(), Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = raise_file_limit(hard)?;
    // A process does this once.
    let _ = LIMITS.set((soft, hard, raised));
    Ok(())
}

/// The limits from before.
pub(crate) fn inherited_limits() -> Option<(u64, u64)> {
    LIMITS.get().map(|(soft, hard, _)| (*soft, *hard))
}

/// Whether so many are open already that the rest, from this one on, is not for commands.
pub fn is_reserved(fd: BorrowedFd<'_>) -> bool {
    let Some((_, _, limit)) = LIMITS.get() else { return false };
    let first = limit - RESERVE.min(limit / 4);
    u64::try_from(fd.as_raw_fd()).is_ok_and(|number| number >= first)
}

/// The descriptors that the service manager has passed to this process, with their names
/// (`sd_listen_fds_with_names(3)`). Programs that are executed do not get them. Only the first
/// call returns them.
pub fn take_passed() -> Vec<(String, OwnedFd)> {
    let variable = |name| env::var(name).unwrap_or_default();
    let is_for_us = variable("LISTEN_PID").parse() == Ok(std::process::id());
    let count = variable("LISTEN_FDS").parse().unwrap_or(0);
    if !is_for_us || ARE_TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let names = variable("LISTEN_FDNAMES");
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat_with(String::new));
    let numbers = (FIRST_PASSED..).take(count);
    numbers.zip(names).filter_map(|(number, name)| Some((name, take_over(number)?))).collect()
}

fn take_over(number: i32) -> Option<OwnedFd> {
    // SAFETY: it is only asked whether it is open. If it is, it was opened before this process
    // began to run, and nobody but the one caller knows of it.
    let flags = fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    // SAFETY: the same. It is taken over once.
    flags.ok().map(|_| unsafe { OwnedFd::from_raw_fd(number) })
}
