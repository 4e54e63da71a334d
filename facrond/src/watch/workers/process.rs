//! The worker itself: it takes requests one by one, for as long as there is a daemon, and
//! keeps nothing open between them.

use super::message::{Order, Reply, Request, pack};
use crate::helper::Channel;
use crate::kernel::fanotify::Group;
use crate::kernel::object::Object;
use crate::kernel::record::{FsId, Handle};
use crate::watch::marks::{Marker, absent_from};
use crate::watch::scanner::Scanner;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How many entries are sent at once: so many of the longest names fit into a packet.
const ENTRIES: usize = 128;

/// How long descriptors are kept while there are requests.
const HOLD: Duration = Duration::from_millis(50);

/// `facrond worker POINT`: serves the line on standard input.
pub(crate) fn run() -> ExitCode {
    let Ok(mut channel) = Channel::of_helper() else { return ExitCode::FAILURE };
    let mut worker = Worker { scanner: Scanner::default(), epoch: 0, held_since: Instant::now() };
    loop {
        let received = match channel.receive() {
            Err(Errno::EAGAIN) => {
                if !comes_soon(&channel) {
                    worker.scanner.rest();
                }
                channel.receive_blocking()
            }
            received => received,
        };
        match received {
            Ok(Some((request, group))) => {
                if worker.serve(&channel, request, group).is_err() {
                    return ExitCode::FAILURE;
                }
            }
            Ok(None) => return ExitCode::SUCCESS,
            Err(Errno::EINTR) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// Whether the next request comes before what is open has to be closed. To give up the copy
/// of a mount and to make another one takes the kernel longer than most looks.
fn comes_soon(channel: &Channel) -> bool {
    let timeout = PollTimeout::try_from(HOLD).unwrap_or(PollTimeout::ZERO);
    poll(&mut [PollFd::new(channel.as_fd(), PollFlags::POLLIN)], timeout) == Ok(1)
}

struct Worker {
    scanner: Scanner,
    epoch: u64,
    held_since: Instant,
}

impl Worker {
    fn serve(&mut self, channel: &Channel, request: Request, group: Option<OwnedFd>) -> Result<(), Errno> {
        let Request { epoch, mount_points, device, order } = request;
        if epoch != self.epoch || self.held_since.elapsed() > HOLD {
            self.scanner.rest();
            self.held_since = Instant::now();
        }
        self.epoch = epoch;
        self.scanner.set_mount_points(mount_points.iter().map(|point| &*point.0));
        let mut marks = Given { group: group.map(Group::of_other), device: device.map(FsId) };
        let (reply, entries) = match order {
            Order::Look(probe) => Reply::of(self.scanner.look(&mut marks, &probe)),
            Order::Reduce { fs, handle, excess, paths } => {
                let paths: Vec<_> = paths.into_iter().map(|path| path.0).collect();
                self.scanner.reduce(&mut marks, &(FsId(fs), handle), excess, 0, &paths);
                (Reply::Done, Vec::new())
            }
            Order::Check(path) => {
                // Any answer is one.
                let _ = self.scanner.open(&path).and_then(|object| object.ask());
                (Reply::Done, Vec::new())
            }
        };
        for some in entries.chunks(ENTRIES) {
            channel.send_blocking(&Reply::Entries(pack(some)), None)?;
        }
        channel.send_blocking(&reply, None)
    }
}

/// Changes marks in the group that came with a request. The daemon counts them.
struct Given {
    group: Option<Group>,
    device: Option<FsId>,
}

impl Marker for Given {
    fn add(&mut self, _: Handle<'_>, object: &Object, before: u64, mask: u64) -> Result<u64, Errno> {
        if before | mask != before {
            if self.device.is_some_and(|device| device != FsId::of_device(object.inode().device)) {
                return Err(Errno::ESTALE);
            }
            self.group.as_ref().ok_or(Errno::EBADF)?.add_mark(object, mask)?;
        }
        Ok(before | mask)
    }

    fn reduce(&mut self, _: FsId, object: &Object, before: u64, mask: u64) -> u64 {
        let excess = before & !mask;
        if excess != 0
            && let Some(group) = &self.group
        {
            // It may have gone with the inode.
            let _ = group.remove_mark(object, excess);
        }
        before & mask
    }

    fn forget(&mut self, _: FsId) {}

    fn is_lost(&self, _: FsId, object: &Object, before: u64) -> bool {
        let group = self.group.as_ref().zip(absent_from(before));
        group.is_some_and(|(group, absent)| group.has_mark(object, absent) == Ok(false))
    }

    fn unignore(&mut self, _: Handle<'_>, _: &Object) {}
}
