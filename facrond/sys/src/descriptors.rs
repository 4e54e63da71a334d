//! How many descriptors this process may have.

use crate::confine::raise_file_limit;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

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
