//! Signals by a descriptor: cheaper than by handlers, and none can run in a child
//! that still shares our memory.

use nix::errno::Errno;
use nix::libc::signalfd_siginfo;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;
use std::io;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The size of what the kernel tells of one signal.
const TOLD: usize = size_of::<signalfd_siginfo>();

/// A signal that is pending is so once, for us and for the process: more than this
/// are not there to be read.
const MANY: usize = 16;

/// Signals that come to this process, and do nothing else any more.
#[derive(Debug)]
pub struct Signals(AsyncFd<SignalFd>);

impl Signals {
    /// Takes over these signals, within a tokio runtime. To be called while the process
    /// has one thread.
    pub fn take(signals: &[Signal]) -> io::Result<Self> {
        let set: SigSet = signals.iter().copied().collect();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: a `SignalFd` stays the same open descriptor until it is dropped.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?))
    }

    /// Waits for some. May be dropped at any time.
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;
    use std::time::Duration;
    use tokio::time::timeout;

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
