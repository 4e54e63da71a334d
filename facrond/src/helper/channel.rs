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
    /// `EAGAIN` where there is no room, `EPIPE` or `ECONNRESET` where nobody is left,
    /// `EMSGSIZE` for a message that is too long.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn channels() -> (Channel, Channel) {
        let (one, other) = packet::pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    #[test]
    fn messages_come_with_their_descriptors_and_in_order() {
        let (one, mut other) = channels();
        one.send(&("first", 1), Some(File::open("/dev/null").unwrap().as_fd())).unwrap();
        one.send(&("second", 2), None).unwrap();
        let (message, fd) = other.receive::<(String, u8)>().unwrap().unwrap();
        assert_eq!((message, fd.is_some()), (("first".to_owned(), 1), true));
        let (message, fd) = other.receive::<(String, u8)>().unwrap().unwrap();
        assert_eq!((message, fd.is_some()), (("second".to_owned(), 2), false));
        assert_eq!(other.receive::<u8>().unwrap_err(), Errno::EAGAIN);
        drop(one);
        assert!(other.receive::<u8>().unwrap().is_none());
    }

    #[test]
    fn what_is_no_message_or_too_long_is_refused() {
        let (one, mut other) = channels();
        one.send_bytes(b"{\"half", None).unwrap();
        assert_eq!(other.receive::<String>().unwrap_err(), Errno::EBADMSG);
        one.send(&7, None).unwrap();
        assert_eq!(other.receive::<String>().unwrap_err(), Errno::EBADMSG, "of another type");
        assert_eq!(one.send(&"x".repeat(packet::LONGEST), None), Err(Errno::EMSGSIZE));
    }

    #[test]
    fn who_does_not_read_holds_up_nobody() {
        let (one, other) = channels();
        let text = "x".repeat(60_000);
        let refused = std::iter::repeat_with(|| one.send(&text, None)).find_map(Result::err);
        assert_eq!(refused, Some(Errno::EAGAIN));
        drop(other);
        assert!(matches!(one.send(&text, None), Err(Errno::EPIPE | Errno::ECONNRESET)));
    }
}
