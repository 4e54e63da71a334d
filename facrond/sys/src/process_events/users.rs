//! The effective users of all processes: the kernel's process connector, a netlink
//! socket (`<linux/cn_proc.h>`).

use super::{ProcessEvent, ProcessEventSource};
use crate::process;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recvfrom, sendto, setsockopt, sockopt};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The netlink socket of the proc connector.
#[derive(Debug)]
pub struct Users(OwnedFd);

/// Room for a burst of about ten thousand events.
const BUFFER: usize = 8 << 20;

const NLMSG_DONE: u16 = 3;
/// `struct nlmsghdr` and `struct cn_msg`.
const HEAD: usize = 16 + 20;
/// The offsets of the time and the data in a message with a `struct proc_event`.
const TIME: usize = HEAD + 8;
const DATA: usize = HEAD + 16;
/// The longest message that is read to its end.
const LONGEST: usize = 256;

const EVENT_FORK: u32 = 1;
const EVENT_UID: u32 = 4;
const EVENT_EXIT: u32 = 0x8000_0000;

impl ProcessEventSource for Users {
    type Fact = u32;

    /// # Errors
    /// `EPERM` for ordinary users, `EPROTONOSUPPORT` if the kernel does not have the
    /// connector, `EOPNOTSUPP` in a pid or user namespace other than the first.
    fn follow() -> Result<Self, Errno> {
        let socket = open()?;
        // Without the privilege the smaller buffer has to be enough.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, libc::CN_IDX_PROC))?;
        sendto(socket.as_raw_fd(), &listen(), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let this = Self(socket);
        // The kernel acknowledges before the call returns, or ignores the request.
        match this.receive(&mut [0; LONGEST])? {
            Some(_) => Ok(this),
            None => Err(Errno::EOPNOTSUPP),
        }
    }

    fn read(&mut self, events: &mut Vec<ProcessEvent<u32>>) -> Result<(), Errno> {
        let mut buffer = [0; LONGEST];
        loop {
            match self.receive(&mut buffer) {
                Ok(Some(message)) => events.extend(parse(message)),
                Ok(None) => return Ok(()),
                Err(Errno::ENOBUFS) => events.push(ProcessEvent::Lost),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn look_up(pid: i32) -> Option<u32> {
        process::uid(pid)
    }
}

impl Users {
    fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Errno> {
        match recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), buffer) {
            // Port 0 is the kernel.
            Ok((len, Some(from))) if from.pid() == 0 => Ok(Some(&buffer[..len])),
            Ok(_) => Ok(Some(&[])),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Users {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// nix has no name for this protocol.
fn open() -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes no pointers.
    let fd = Errno::result(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `PROC_CN_MCAST_LISTEN`
fn listen() -> Vec<u8> {
    let operation: u32 = 1;
    let length = u32::try_from(HEAD + 4).expect("a small constant");
    let mut message = Vec::with_capacity(HEAD + 4);
    message.extend(length.to_ne_bytes());
    message.extend(NLMSG_DONE.to_ne_bytes());
    // Flags, sequence number, port.
    message.extend([0; 10]);
    message.extend(libc::CN_IDX_PROC.to_ne_bytes());
    message.extend(libc::CN_VAL_PROC.to_ne_bytes());
    // Sequence number, acknowledgement.
    message.extend([0; 8]);
    message.extend(4u16.to_ne_bytes());
    message.extend([0; 2]);
    message.extend(operation.to_ne_bytes());
    message
}

/// The event that a message of the proc connector tells.
pub(crate) fn parse(message: &[u8]) -> Option<ProcessEvent<u32>> {
    let word = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    let pid = |at: usize| word(at).map(u32::cast_signed);
    let time = u64::from_ne_bytes(message.get(TIME..TIME + 8)?.try_into().ok()?);
    // The kernel names each process by the thread and then by the process.
    match word(HEAD)? {
        EVENT_FORK => {
            let (parent, thread, child) = (pid(DATA + 4)?, pid(DATA + 8)?, pid(DATA + 12)?);
            (thread == child).then_some(ProcessEvent::Fork { pid: child, parent, time })
        }
        EVENT_UID => Some(ProcessEvent::Fact { pid: pid(DATA + 4)?, fact: word(DATA + 12)?, time }),
        EVENT_EXIT => {
            let (thread, pid) = (pid(DATA)?, pid(DATA + 4)?);
            (thread == pid).then_some(ProcessEvent::Exit { pid, time })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process_events::tests::of;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    #[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
    fn the_users_of_a_child_are_told_in_order() {
        let mut users = Users::follow().unwrap();
        let mut child = Command::new("setpriv").args(["--reuid=65534", "true"]).spawn().unwrap();
        let pid = child.id().cast_signed();
        child.wait().unwrap();
        let mut seen = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        let exit = ProcessEvent::Exit { pid, time: 0 };
        while seen.last() != Some(&exit) && Instant::now() < deadline {
            let mut events = Vec::new();
            users.read(&mut events).unwrap();
            seen.extend(of(&mut events, pid));
        }
        seen.dedup();
        let parent = std::process::id().cast_signed();
        let fork = ProcessEvent::Fork { pid, parent, time: 0 };
        assert_eq!(seen, [fork, ProcessEvent::Fact { pid, fact: 65534, time: 0 }, exit]);
    }

    #[test]
    fn half_a_message_is_nothing() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[1; HEAD + 4]), None);
        assert_eq!(parse(&[0; LONGEST]), None);
    }
}
