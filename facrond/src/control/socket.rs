//! The socket itself: one daemon has it, and whoever connects gets a task.
//!
//! Which daemon has it is decided by a lock on `SOCKET.lock`, which the kernel
//! drops with the process, so a socket that is there once the lock is held is
//! stale. The lock's file holds the owner's pid, for the one that comes second.

use super::shares::Shares;
use super::{Access, Api, Caller, EngineHandle, connection};
use crate::kernel::peer::Peer;
use crate::own_dir::{OwnDir, OwnError, is};
use facron_proto::Text;
use facron_proto::rpc::{Code, Error, Id, Reply};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Gid, Group, Pid, geteuid};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinSet, yield_now};
use tracing::{debug, warn};

/// The group whose members may read.
const GROUP: &str = "facron";

/// So many connections are accepted before the engine has its turn, whoever connects again
/// and again.
const ACCEPTED: u64 = 16;

/// After `accept` failed, usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A command that a daemon was starting when it died has the daemon's lock until it
/// executes its program; no longer than this.
const INHERITED: Duration = Duration::from_secs(2);

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{} is in use by the facrond with pid {pid}; stop that one, or choose another socket with -s", show(.path))]
    InUse {
        path: PathBuf,
        /// The other one's process, `?` if it has not said so yet.
        pid: String,
    },
    /// Something else is in its place.
    #[error("{} exists and is not a socket; remove it, or choose another path with -s", show(.0))]
    NotASocket(PathBuf),
    #[error(transparent)]
    Own(#[from] OwnError),
}

fn show(path: &Path) -> Text {
    Text::from(path.as_os_str().as_bytes())
}

/// The control socket; removed when dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    readers: Option<Gid>,
    // dropped after the socket is gone
    _path: RemovedAtEnd,
    _lock: Lock,
}

impl Socket {
    /// Takes the socket at this path; to be called within a tokio runtime, and
    /// after the process has become what will serve.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let listen = |error| BindError::from(OwnError::io("listen on", path, error));
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(listen(io::ErrorKind::InvalidInput.into()));
        };
        let dir = Rc::new(OwnDir::make(parent)?);
        let lock = Lock::take(path, &dir, name)?;
        remove_stale(path, &dir, name)?;
        // By its path, which only trusted users can change by now, and for users to see.
        let before = umask(Mode::from_bits_truncate(0o117));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.map_err(listen)?;
        let guard = RemovedAtEnd { dir: Rc::clone(&dir), name: name.to_owned() };
        let readers = Group::from_name(GROUP).unwrap_or_default().map(|group| group.gid);
        if let Some(group) = readers.filter(|_| geteuid().is_root()) {
            dir.give_to_group(name, group)?;
        }
        Ok(Self { listener, readers, _path: guard, _lock: lock })
    }

    /// Answers clients until dropped, and their connections with it.
    pub async fn serve<E: Api>(&self, engine: EngineHandle<E>) -> Infallible {
        let (mut connections, mut shares) = (JoinSet::new(), Shares::default());
        let mut accepted = 0_u64;
        loop {
            accepted += 1;
            if accepted.is_multiple_of(ACCEPTED) {
                yield_now().await;
            }
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let peer = match Peer::of(&stream) {
                Ok(peer) => peer,
                Err(error) => {
                    warn!(%error, "cannot tell who connected");
                    continue;
                }
            };
            let access = Access::of(&peer, self.readers);
            let place = match shares.connect(peer.uid, access) {
                Ok(place) => place,
                Err(why) => {
                    warn!(peer.pid, peer.uid, "connection refused: {why}");
                    refuse(stream, why);
                    continue;
                }
            };
            let caller = Caller::new(peer.uid, access, place);
            let connection = connection::serve(stream, engine.clone(), caller);
            connections.spawn(async move {
                match connection.await {
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        warn!(peer.pid, peer.uid, "connection closed: the client does not read its reply");
                    }
                    Err(error) => debug!(peer.pid, peer.uid, %error, "connection lost"),
                    Ok(()) => {}
                }
            });
        }
    }
}

/// Says that there is no room, if that can be done without waiting.
fn refuse(stream: UnixStream, why: String) {
    let error = Error::new(Code::TOO_MANY, why);
    if let (Ok(mut stream), Ok(mut line)) =
        (stream.into_std(), serde_json::to_vec(&Reply::new(&Id::Null, Err(&error))))
    {
        line.push(b'\n');
        // a client that does not even take this has closed already
        let _ = stream.write_all(&line);
    }
}

/// Removes the socket that a dead daemon left; only for who has the lock.
fn remove_stale(path: &Path, dir: &OwnDir, name: &OsStr) -> Result<(), BindError> {
    match dir.stat(name)? {
        Some(stat) if !is(SFlag::S_IFSOCK, &stat) => Err(BindError::NotASocket(path.to_owned())),
        _ => Ok(dir.remove(name)?),
    }
}

#[derive(Debug)]
struct RemovedAtEnd {
    dir: Rc<OwnDir>,
    name: OsString,
}

impl Drop for RemovedAtEnd {
    fn drop(&mut self) {
        if let Err(error) = self.dir.remove(&self.name) {
            debug!("{error}");
        }
    }
}

/// What makes this daemon the only one on its socket.
#[derive(Debug)]
struct Lock {
    // removed while still locked, so that nobody locks a file about to go
    _path: RemovedAtEnd,
    _file: Flock<File>,
}

impl Lock {
    fn take(socket: &Path, dir: &Rc<OwnDir>, name: &OsStr) -> Result<Self, BindError> {
        let mut name = name.to_owned();
        name.push(".lock");
        let failed = |what, error| BindError::from(OwnError::io(what, &dir.path_of(&name), error));
        let end = Instant::now() + INHERITED;
        loop {
            let file = dir.open_file(&name, OFlag::O_RDWR | OFlag::O_CREAT)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // its last owner removed it in between
                Ok(lock) if !is_at(&lock, dir, &name) => {}
                Ok(lock) => {
                    write_pid(&lock).map_err(|error| failed("write to", error))?;
                    return Ok(Self { _path: RemovedAtEnd { dir: Rc::clone(dir), name }, _file: lock });
                }
                Err((file, Errno::EWOULDBLOCK)) => {
                    let pid = read_pid(file);
                    if Instant::now() > end || !is_gone(&pid) {
                        return Err(BindError::InUse { path: socket.to_owned(), pid });
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                Err((_, errno)) => return Err(failed("lock", errno.into())),
            }
        }
    }
}

fn is_gone(pid: &str) -> bool {
    pid.parse().is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
}

fn is_at(file: &File, dir: &OwnDir, name: &OsStr) -> bool {
    match (fstat(file), dir.stat(name)) {
        (Ok(ours), Ok(Some(there))) => (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino),
        _ => false,
    }
}

fn write_pid(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: File) -> String {
    let mut text = String::new();
    let _ = file.take(16).read_to_string(&mut text);
    text.trim().parse().map_or_else(|_| "?".to_owned(), |pid: u32| pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net as blocking;

    fn bind(path: &Path) -> Result<Socket, BindError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async { Socket::bind(path) })
    }

    #[test]
    fn made_with_its_directory_and_gone_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/facron/control.sock");
        let socket = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o755);
        drop(socket);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn the_second_is_told_who_has_it_and_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = bind(&path).unwrap();
        let message = bind(&path).unwrap_err().to_string();
        assert!(message.contains(&format!("the facrond with pid {};", std::process::id())), "{message}");
        assert!(path.exists());
        drop(first);
        bind(&path).unwrap();
    }

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(blocking::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        bind(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
