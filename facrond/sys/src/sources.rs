//! Several descriptors, to be waited for as one.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::os::fd::{AsFd, BorrowedFd};

/// A descriptor that is readable when one of its members is readable. A member that is
/// closed leaves the set.
#[derive(Debug)]
pub struct Sources(Epoll);

impl Sources {
    /// An empty set, which is never readable.
    pub fn new() -> Result<Self, Errno> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self)
    }

    /// Adds a descriptor to the set.
    pub fn add(&self, source: impl AsFd) -> Result<(), Errno> {
        self.0.add(source, EpollEvent::new(EpollFlags::EPOLLIN, 0))
    }
}

impl AsFd for Sources {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}
