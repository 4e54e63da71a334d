//! The socket itself: one daemon has it, and whoever connects gets a task.
//!
//! Which daemon has it is decided by a lock on `SOCKET.lock`, so a socket that is there
//! once the lock is held is stale.

use super::shares::Shares;
use super::{Access, Api, Caller, EngineHandle, connection};
use crate::kernel::peer::Peer;
use crate::own_dir::{Lock, LockError, OwnDir, OwnError, RemovedAtEnd, is};
use facron_proto::Text;
use facron_proto::rpc::{Code, Error, Id, Reply};
use nix::sys::stat::{Mode, SFlag, umask};
use nix::unistd::{Gid, Group, geteuid};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
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
        let dir = Arc::new(OwnDir::make(parent)?);
        let mut lock = name.to_owned();
        lock.push(".lock");
        let lock = Lock::take(&dir, &lock).map_err(|error| match error {
            LockError::Held { pid } => BindError::InUse { path: path.to_owned(), pid },
            LockError::Own(error) => error.into(),
        })?;
        remove_stale(path, &dir, name)?;
        // By its path, which only trusted users can change by now, and for users to see.
        let before = umask(Mode::from_bits_truncate(0o117));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.map_err(listen)?;
        let guard = RemovedAtEnd::new(&dir, name);
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
