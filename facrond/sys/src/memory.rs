//! Memory of this process.

/// Gives what the allocator keeps for later back to the kernel, where that can be asked
/// for (`malloc_trim(3)` of glibc). To be called after a time of great need.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call touches only what the allocator knows to be unused.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
