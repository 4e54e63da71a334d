//! Signals that are read from a descriptor. This is cheaper than handlers, and no handler
//! can run in a child that still shares our memory. Also `SIGIO`, which other users can
//! cause.

use nix::errno::Errno;
use nix::libc::signalfd_siginfo;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;
use std::io;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The size of the structure that the kernel writes for one signal.
const TOLD: usize = size_of::<signalfd_siginfo>();

/// A signal can be pending twice: for the thread and for the process. So there are never
/// more than this many to be read.
const MANY: usize = 16;

/// Signals to this process. They are read here, and have no other effect.
#[derive(Debug)]
pub struct Signals(AsyncFd<SignalFd>);

impl Signals {
    /// Takes over these signals. Needs a tokio runtime, and must be called while the process
    /// has only one thread.
    pub fn take(signals: &[Signal]) -> io::Result<Self> {
        let set: SigSet = signals.iter().copied().collect();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: a `SignalFd` stays the same open descriptor until it is dropped.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?))
    }

    /// Waits for signals. Cancel safe.
    pub async fn come(&self) -> io::Result<SigSet> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut told = [0; MANY * TOLD];
            let length = match read(ready.get_inner(), &mut told) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => 0,
                Err(errno) => return Err(errno.into()),
            };
            // All that were pending have been read; others make it ready anew.
            ready.clear_ready();
            let come = told[..length].chunks_exact(TOLD).filter_map(|told| {
                let number = u32::from_ne_bytes(*told.first_chunk()?);
                Signal::try_from(number.cast_signed()).ok()
            });
            let come: SigSet = come.collect();
            if come.iter().next().is_some() {
                return Ok(come);
            }
        }
    }
}

/// Makes this process survive the break of its leases.
///
/// When another process opens a file for writing on which this process has a read lease,
/// the kernel sends `SIGIO` to this process (fcntl(2), "Leases"). The default action of
/// `SIGIO` ends the process. Must be called before the first lease is taken and before
/// [`Spawner::default`](super::spawn::Spawner::default), which resets it for commands.
pub fn ignore_lease_breaks() -> Result<(), Errno> {
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::libc;
    use nix::sys::signal::raise;
    use nix::sys::stat::Mode;
    use std::os::fd::AsRawFd;
    use std::time::Duration;
    use tokio::time::timeout;

    #[test]
    fn the_end_of_a_lease_ends_nothing() {
        ignore_lease_breaks().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let leased = std::fs::File::open(file.path()).unwrap();
        drop(file.reopen().unwrap());
        let path = file.into_temp_path();
        // SAFETY: takes an int and touches no memory of ours.
        let lease = unsafe { libc::fcntl(leased.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
        assert_eq!(lease, 0);
        let writer = nix::fcntl::open(&*path, OFlag::O_WRONLY | OFlag::O_NONBLOCK, Mode::empty());
        assert_eq!(writer.unwrap_err(), Errno::EAGAIN);
    }

    #[test]
    fn all_that_have_come_are_told_at_once_and_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let two = [Signal::SIGUSR1, Signal::SIGUSR2];
            let signals = Signals::take(&two).unwrap();
            for _ in 0..3 {
                // To this thread, where they wait for the descriptor to be read.
                two.iter().chain(&two).for_each(|signal| raise(*signal).unwrap());
                let come = timeout(Duration::from_secs(20), signals.come()).await.unwrap().unwrap();
                assert_eq!(come, two.iter().copied().collect());
            }
            assert!(timeout(Duration::ZERO, signals.come()).await.is_err());
        });
    }
}
