//! Packets between two processes, each with a descriptor or without.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    setsockopt, socketpair, sockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub const LONGEST: usize = 256 * 1024;

/// A socket pair. Neither end ever blocks.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    for end in [&one, &other] {
        // Without the privilege the system's limit holds.
        let forced = setsockopt(end, sockopt::SndBufForce, &(2 * LONGEST));
        forced.or_else(|_| setsockopt(end, sockopt::SndBuf, &(2 * LONGEST)))?;
    }
    Ok((one, other))
}

/// Sends one packet.
///
/// # Errors
/// `EAGAIN` if there is no room, `EPIPE` if the other end is closed.
pub fn send(socket: &OwnedFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let fds = fd.map(|fd| [fd.as_raw_fd()]);
    let control: Vec<_> = fds.iter().map(|fds| ControlMessage::ScmRights(fds)).collect();
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], &control, flags, None).map(drop)
}

/// Receives one packet: its length, or 0 if the other end is closed, and its descriptor.
///
/// # Errors
/// `EAGAIN` if there is no packet.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut control = cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just made these descriptors for us; nobody else owns them.
            received.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, received.pop()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn packets_keep_their_bounds_and_their_descriptors() {
        let (one, other) = pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        send(&one, b"first", Some(file.as_fd())).unwrap();
        send(&one, &vec![b'x'; LONGEST], None).unwrap();
        let mut buffer = vec![0; LONGEST];
        let (length, fd) = receive(&other, &mut buffer).unwrap();
        assert_eq!((&buffer[..length], fd.is_some()), (&b"first"[..], true));
        let (length, fd) = receive(&other, &mut buffer).unwrap();
        assert_eq!((length, fd.is_some()), (LONGEST, false));
        assert_eq!(receive(&other, &mut buffer).err(), Some(Errno::EAGAIN));
        drop(one);
        assert_eq!(receive(&other, &mut buffer).unwrap().0, 0);
    }
}
