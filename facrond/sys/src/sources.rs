//! Several descriptors that are waited for as one.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::os::fd::{AsFd, BorrowedFd};

/// A descriptor that is readable when one of those added to it is. One that is
/// closed is out of it.
#[derive(Debug)]
pub struct Sources(Epoll);

impl Sources {
    /// An empty set, which is never readable.
    pub fn new() -> Result<Self, Errno> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self)
    }

    /// Adds a descriptor.
    pub fn add(&self, source: impl AsFd) -> Result<(), Errno> {
        self.0.add(source, EpollEvent::new(EpollFlags::EPOLLIN, 0))
    }
}

impl AsFd for Sources {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}
