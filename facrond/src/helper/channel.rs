//! One end of the line between the daemon and a helper: a message is one JSON text in one
//! packet of a `SOCK_SEQPACKET` pair, sometimes with a descriptor.

use crate::kernel::packet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Channel {
    /// Over one end of a [`packet::pair`].
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; packet::LONGEST] }
    }

    /// The helper's end, which is its standard input.
    pub fn of_helper() -> Result<Self, std::io::Error> {
        std::io::stdin().as_fd().try_clone_to_owned().map(Self::new)
    }

    /// A message as a packet; `EMSGSIZE` for one that is too long.
    pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, Errno> {
        let bytes = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
        if bytes.len() > packet::LONGEST { Err(Errno::EMSGSIZE) } else { Ok(bytes) }
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// `EAGAIN` where there is no room, `EPIPE` where nobody is left, `EMSGSIZE` for a
    /// message that is too long.
    pub fn send(&self, message: &impl Serialize, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        self.send_bytes(&Self::encode(message)?, fd)
    }

    /// Sends an encoded message without waiting.
    pub fn send_bytes(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        packet::send(&self.socket, bytes, fd)
    }

    /// Receives without waiting; `None` where the other end is closed.
    ///
    /// # Errors
    /// `EAGAIN` where there is nothing, `EBADMSG` for anything but a message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Option<OwnedFd>)>, Errno> {
        let (length, fd) = packet::receive(&self.socket, &mut self.buffer)?;
        if length == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.buffer[..length]).map_err(|_| Errno::EBADMSG)?;
        Ok(Some((message, fd)))
    }

    /// Sends, and waits for room as long as it takes. Only for helpers that may wait.
    pub fn send_blocking(&self, message: &impl Serialize, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let bytes = Self::encode(message)?;
        loop {
            match self.send_bytes(&bytes, fd) {
                Err(Errno::EAGAIN | Errno::EINTR) => self.wait(PollFlags::POLLOUT),
                // Too many descriptors are on their way, for which there is no event.
                Err(Errno::ETOOMANYREFS) => std::thread::sleep(Duration::from_millis(1)),
                result => return result,
            }
        }
    }

    /// Receives, and waits for a message as long as it takes.
    pub fn receive_blocking<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Option<OwnedFd>)>, Errno> {
        loop {
            match self.receive() {
                Err(Errno::EAGAIN | Errno::EINTR) => self.wait(PollFlags::POLLIN),
                result => return result,
            }
        }
    }

    fn wait(&self, flags: PollFlags) {
        // An interruption or an error leads to the next attempt, which tells more.
        let _ = poll(&mut [PollFd::new(self.socket.as_fd(), flags)], PollTimeout::NONE);
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
