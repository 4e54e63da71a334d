//! The server in a worker. It answers requests one after the other until the daemon closes
//! the socket, and keeps nothing open between them.

use super::{LONGEST, TASKS, Task, wait};
use crate::object::{DetachedMount, HandleBuffer, Kind, Object, open_by_handle};
use crate::record::{FsId, Handle};
use crate::{fanotify, packet};
use nix::errno::Errno;
use nix::poll::PollFlags;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// The size from which on collected entries are sent.
const ENTRIES: usize = 32 * 1024;

/// `facrond worker POINT`: serves the socket on standard input.
pub fn run(point: &Path) -> ExitCode {
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let mut buffer = vec![0; LONGEST];
    let mut server = Server { socket, group: None, point: point.as_os_str().as_bytes().into(), mount: None };
    loop {
        match packet::receive(&server.socket, &mut buffer) {
            Ok((0, _)) => return ExitCode::SUCCESS,
            Ok((length, fd)) => {
                if server.serve(&buffer[..length], fd).is_none() {
                    return ExitCode::FAILURE;
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                server.mount = None;
                wait(&server.socket, PollFlags::POLLIN, None);
            }
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// The socket, and the state of a worker.
struct Server {
    socket: OwnedFd,
    group: Option<OwnedFd>,
    /// The mount point of this worker.
    point: Box<[u8]>,
    /// A detached copy of the mount, while there are requests.
    mount: Option<DetachedMount>,
}

impl Server {
    /// Answers a request. `None` if it makes no sense, or the daemon has closed the socket.
    fn serve(&mut self, question: &[u8], fd: Option<OwnedFd>) -> Option<()> {
        let (task, what) = question.split_first()?;
        match TASKS.get(usize::from(*task))? {
            Task::Group => {
                self.group = fd;
                Some(())
            }
            Task::Open => {
                let found = self.open(what);
                self.say_object(found)
            }
            task => {
                let object = Object::of(fd?).map_err(|(_, errno)| errno);
                match object.and_then(|object| self.look(*task, what, &object)) {
                    Ok(said) => said,
                    Err(errno) => self.say(errno as i32, b"", None),
                }
            }
        }
    }

    /// Opens a path through the detached copy, so that the mount is not busy.
    fn open(&mut self, path: &[u8]) -> Result<Object, Errno> {
        if self.mount.is_none() && path.starts_with(&self.point) {
            self.mount = DetachedMount::of(&self.point).ok();
        }
        match &self.mount {
            Some(mount) if path.starts_with(mount.point()) => mount.open(path),
            _ => Object::open(Path::new(OsStr::from_bytes(path))),
        }
    }

    fn look(&mut self, task: Task, what: &[u8], object: &Object) -> Result<Option<()>, Errno> {
        Ok(match task {
            Task::Entry => self.say_object(object.entry(what)),
            Task::ByHandle => {
                let handle = Handle::from_prefix(FsId::default(), what).ok_or(Errno::EINVAL)?;
                self.say_object(open_by_handle(object, handle))
            }
            Task::Handle => {
                let mut room = HandleBuffer::default();
                let handle = object.handle(&mut room)?;
                self.say(0, &[&handle.fs.0.to_ne_bytes()[..], handle.bytes].concat(), None)
            }
            Task::Entries => self.say_entries(object)?,
            Task::Target => self.say(0, &object.target()?, None),
            Task::Lease => self.say(0, &[u8::from(object.lease()?)], None),
            Task::Mark => {
                let (action, mask) = what.split_first_chunk().ok_or(Errno::EINVAL)?;
                let mask = u64::from_ne_bytes(mask.try_into().map_err(|_| Errno::EINVAL)?);
                let group = self.group.take().ok_or(Errno::EBADF)?;
                fanotify::mark(group.as_fd(), u32::from_ne_bytes(*action), object, mask)?;
                self.say(0, b"", None)
            }
            Task::Open | Task::Group => None,
        })
    }

    fn say_object(&self, found: Result<Object, Errno>) -> Option<()> {
        match found {
            Ok(object) => self.say(0, object.stat().as_bytes(), Some(object.as_fd())),
            Err(errno) => self.say(errno as i32, b"", None),
        }
    }

    /// Sends entries in several packets, so that the daemon sees progress. An empty packet is
    /// the last one.
    fn say_entries(&self, dir: &Object) -> Result<Option<()>, Errno> {
        let (mut some, mut heard) = (Vec::new(), Some(()));
        dir.each_entry(|name, kind| {
            some.push(Kind::digit(kind));
            some.extend_from_slice(name);
            some.push(0);
            if some.len() >= ENTRIES {
                heard = heard.and_then(|()| self.say(0, &std::mem::take(&mut some), None));
            }
        })?;
        if !some.is_empty() {
            heard = heard.and_then(|()| self.say(0, &some, None));
        }
        Ok(heard.and_then(|()| self.say(0, b"", None)))
    }

    fn say(&self, errno: i32, says: &[u8], fd: Option<BorrowedFd<'_>>) -> Option<()> {
        let answer = [&errno.to_ne_bytes()[..], says].concat();
        loop {
            match packet::send(&self.socket, &answer, fd) {
                Ok(()) => return Some(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    wait(&self.socket, PollFlags::POLLOUT, None);
                }
                Err(_) => return None,
            }
        }
    }
}
