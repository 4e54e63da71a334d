//! The thread that reads the history, by a connection of its own.

use super::FILE;
use super::history::Blocks;
use crate::own_dir::OwnDir;
use rusqlite::{Connection, OpenFlags};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

/// Work with the history; without one, because it cannot be read.
pub(super) struct Read(pub(super) Work);

type Work = Box<dyn FnOnce(Option<&Blocks<'_>>) + Send>;

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Read")
    }
}

/// Starts the thread, which ends with the sender. To be called with all signals blocked.
pub(super) fn spawn(dir: Arc<OwnDir>) -> io::Result<Sender<Read>> {
    let (reads, come) = channel();
    Builder::new().name("facrond-history".to_owned()).spawn(move || run(&dir, &come))?;
    Ok(reads)
}

/// Each time the database is opened: it may be another file by now, and that is no great work.
fn run(dir: &OwnDir, reads: &Receiver<Read>) {
    for Read(work) in reads {
        match open(dir) {
            Ok(connection) => work(Some(&Blocks::new(&connection))),
            Err(why) => {
                tracing::warn!("cannot read the history: {why}; what is not in memory is left out of `tail`");
                work(None);
            }
        }
    }
}

fn open(dir: &OwnDir) -> Result<Connection, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let path = dir.real_path().map_err(|error| error.to_string())?.join(FILE);
    Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| error.to_string())
}
