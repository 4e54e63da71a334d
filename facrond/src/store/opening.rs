//! How the database is opened: at the start, or as soon as the disk takes it.

use super::database::Database;
use super::history::Kept;
use super::rows::Saved;
use super::{Error, FILE, LOCK};
use crate::own_dir::{Lock, LockError, OwnDir};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Opening {
    pub(super) dir: Arc<OwnDir>,
    pub(super) state: PathBuf,
    pub(super) boot: String,
    pub(super) kept: Kept,
    /// The next numbers of rules and of records, as the daemon found them at its start.
    pub(super) next: [u64; 2],
}

impl Opening {
    /// Locks the state, opens the database and reads it.
    pub(super) fn open(&self) -> Result<(Database, Saved), Error> {
        let lock = Lock::take(&self.dir, OsStr::new(LOCK)).map_err(|error| match error {
            LockError::Held { pid } => Error::InUse { path: self.state.clone(), pid },
            LockError::Own(error) => error.into(),
        })?;
        Database::open(Arc::clone(&self.dir), self.boot.clone(), self.kept, lock)
    }

    /// The same for a daemon that has begun without. It must have read before what is in there.
    pub(super) fn open_later(&self) -> Result<Database, Error> {
        let (database, saved) = self.open()?;
        if [saved.next_rule, saved.next_seq] != self.next {
            return Err(Error::Unread { path: self.dir.path_of(OsStr::new(FILE)) });
        }
        saved.problems.iter().for_each(|problem| tracing::error!("{problem}"));
        Ok(database)
    }
}
