//! The store: what outlives the daemon, in one SQLite database in the state directory.
//!
//! It knows plain rows: numbers, texts and bytes. Other rooms make rows of what they have, and
//! read what they were from them. A thread of the store's own has the database, and the engine
//! never waits for it: [`Store::write`] takes a change and returns. Changes are written in
//! groups, one transaction each. Only where a reply promises that something is on the disk does
//! somebody wait, for a [`Promise`]: its group is written at once, and synced.
//!
//! Where the disk takes nothing, the changes wait, and are tried again after growing pauses. That
//! holds for a database that cannot even be opened at the start: it is opened later.
//! What waits is bounded; what there is no room for is lost, counted and reported.
//! A promise is not kept late: it has failed when its group has.

mod boot;
mod database;
mod group;
mod history;
mod inbox;
mod load;
mod opening;
mod reader;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

pub use boot::boot_of;
pub use history::{Block, Blocks, Kept, SPAN, seconds};
pub use rows::{
    Change, DirectoriesRow, End, JobChange, JobRow, Known, Layer, Number, Phase, RuleRow, Saved, WatermarkRow,
};

use crate::own_dir::{OwnDir, OwnError};
use database::Database;
use facron_proto::Text;
use inbox::Inbox;
use opening::Opening;
use reader::Read;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use writer::Writer;

/// The database, in the state directory; SQLite's other files have longer names.
pub const FILE: &str = "facron.db";
const LOCK: &str = "facron.db.lock";

/// So many numbers of records are marked as used up before they are: they are not used again
/// after a crash, and not each costs a write.
const RESERVED: u64 = 100_000;

/// How long the end of the daemon waits for the last group.
const LAST_GROUP: Duration = Duration::from_secs(5);

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the state directory {} is in use by the facrond with pid {pid}; stop that one, or choose another directory with --state-dir", Text::from(.path.as_os_str().as_bytes()))]
    InUse { path: PathBuf, pid: String },
    #[error(transparent)]
    Own(#[from] OwnError),
    #[error("cannot {what} the database {}: {error}", Text::from(.path.as_os_str().as_bytes()))]
    Database {
        /// What was to be done.
        what: &'static str,
        path: PathBuf,
        error: rusqlite::Error,
    },
    #[error("the database {} is damaged: {why}", Text::from(.path.as_os_str().as_bytes()))]
    Damaged { path: PathBuf, why: String },
    #[error("the database {} is of a later version of facron ({version})", Text::from(.path.as_os_str().as_bytes()))]
    Newer { path: PathBuf, version: i64 },
    #[error("the database {} has more than could be read at the start: restart facrond to use it", Text::from(.path.as_os_str().as_bytes()))]
    Unread { path: PathBuf },
}

impl Error {
    /// Whether the daemon must not start, since others could change its state, or do.
    fn is_fatal(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }

    /// Whether the disk is to blame, which may take it later.
    fn is_of_disk(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match self {
            Self::Database { .. } => true,
            Self::Own(OwnError::Io { error, .. }) => {
                matches!(error.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull)
            }
            _ => false,
        }
    }
}

/// Changes that somebody waits for, until they are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Promise(u64);

/// The engine's end of the store.
#[derive(Debug)]
pub struct Store(State);

#[derive(Debug)]
enum State {
    /// Nothing is to outlive the daemon.
    Absent,
    /// Nothing can outlive the daemon, for this reason.
    Unusable(String),
    Open(Open),
}

#[derive(Debug)]
struct Open {
    inbox: Arc<Inbox>,
    /// Numbers of records below this are marked as used up.
    reserved: u64,
}

impl Store {
    /// A store for who keeps nothing.
    pub fn absent() -> Self {
        Self(State::Absent)
    }

    /// Opens the store, and reads what an earlier daemon has left. Where that cannot be, the
    /// daemon does without, and says so, until the disk takes it; except where its state is
    /// another daemon's, or others could change it.
    ///
    /// `boot` tells one boot from the other: runtime rules of another one are gone.
    pub fn open(state: &Path, boot: &str, kept: Kept) -> Result<(Self, Saved), Error> {
        let dir = match OwnDir::make(state) {
            Err(error @ OwnError::Untrusted { .. }) => return Err(error.into()),
            Err(error) => return Ok(Self::unusable(&error.into(), Saved::default())),
            Ok(dir) => Arc::new(dir),
        };
        let (state, boot) = (state.to_owned(), boot.to_owned());
        let opening = Opening { dir, state, boot, kept, next: [1; 2] };
        let (database, saved) = match opening.open() {
            Ok((database, saved)) => (Some(database), saved),
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => match Database::look(&opening.dir, &opening.boot) {
                Ok(saved) if error.is_of_disk() => (None, saved),
                looked => return Ok(Self::unusable(&error, looked.unwrap_or_default())),
            },
        };
        let opening = Opening { next: [saved.next_rule, saved.next_seq], ..opening };
        Ok(match Self::begin(opening, database, saved.next_seq) {
            Ok(store) => (store, saved),
            Err(error) => Self::unusable(&error.into(), saved),
        })
    }

    /// Begins to write.
    fn begin(opening: Opening, mut database: Option<Database>, next: u64) -> Result<Self, OwnError> {
        let inbox = Arc::new(Inbox::default());
        inbox.set_oldest(database.as_ref().map_or(u64::MAX, Database::oldest));
        let reserved = next + RESERVED;
        let is_reserved = database.as_mut().is_some_and(|database| database.use_up(reserved).is_ok());
        let path = opening.dir.path_of(OsStr::new(FILE));
        Writer::new(opening, database, Arc::clone(&inbox))
            .spawn()
            .map_err(|error| OwnError::io("start a thread for", &path, error))?;
        let mut open = Open { inbox, reserved };
        if !is_reserved {
            open.reserve(next);
        }
        Ok(Self(State::Open(open)))
    }

    fn unusable(error: &Error, mut saved: Saved) -> (Self, Saved) {
        saved.problems.push(format!("{error}; nothing that happens now outlives the daemon"));
        (Self(State::Unusable(error.to_string())), saved)
    }

    /// Whether what happens now outlives the daemon.
    pub fn is_kept(&self) -> bool {
        self.inbox().is_some_and(|inbox| inbox.problem().is_none())
    }

    /// Another way to write.
    pub fn sender(&self) -> Sender {
        Sender(self.inbox().cloned())
    }

    fn inbox(&self) -> Option<&Arc<Inbox>> {
        if let State::Open(open) = &self.0 { Some(&open.inbox) } else { None }
    }

    /// Writes a change when there is time; its number, for [`Store::is_tried`].
    pub fn write(&self, change: Change) -> u64 {
        self.inbox().map_or(0, |inbox| inbox.push(change))
    }

    /// Whether a change is in the database, or could not be written so far.
    pub fn is_tried(&self, number: u64) -> bool {
        self.inbox().is_none_or(|inbox| inbox.is_tried(number))
    }

    /// The number of the last change.
    pub fn last_change(&self) -> u64 {
        self.inbox().map_or(0, |inbox| inbox.last())
    }

    /// Whether all changes up to this one are in the database.
    pub fn is_written(&self, number: u64) -> bool {
        self.inbox().is_none_or(|inbox| inbox.is_written(number))
    }

    /// Whether somebody wants to be [woken](Self::wake) whenever changes were tried.
    pub fn set_awaited(&self, is_awaited: bool) {
        self.inbox().inspect(|inbox| inbox.set_awaited(is_awaited));
    }

    /// From this number on, all records are in the history; `None` without one.
    pub fn oldest(&self) -> Option<u64> {
        self.inbox().map(|inbox| inbox.oldest())
    }

    /// Does work with the history in a thread of its own, when all is written that was before.
    /// Without a history to read, it gets none.
    pub fn read(&self, work: impl FnOnce(Option<&Blocks<'_>>) + Send + 'static) {
        match self.inbox() {
            Some(inbox) => inbox.read(Read(Box::new(work))),
            None => work(None),
        }
    }

    /// Writes changes at once, all or none.
    pub fn promise(&self, changes: Vec<Change>) -> Promise {
        match self.inbox() {
            Some(inbox) if !changes.is_empty() => Promise(inbox.promise(changes)),
            _ => Promise(u64::from(!changes.is_empty())),
        }
    }

    /// Whether it is known what became of a promise.
    pub fn is_decided(&self, promise: Promise) -> bool {
        self.inbox().is_none_or(|inbox| inbox.is_decided(promise.0))
    }

    /// What became of a promise, to be asked once; `Err` says why it was not kept.
    pub fn outcome(&self, promise: Promise) -> Result<(), String> {
        match &self.0 {
            State::Open(open) => open.inbox.outcome(promise.0),
            State::Unusable(why) if promise != Promise(0) => Err(why.clone()),
            State::Absent | State::Unusable(_) => Ok(()),
        }
    }

    /// Waits until something is known of a promise. Cancel safe.
    pub async fn wake(&self) {
        match self.inbox() {
            Some(inbox) => inbox.told.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Notes that the numbers of records below `next` are used up.
    pub fn use_up(&mut self, next: u64) {
        if let State::Open(open) = &mut self.0
            && next + RESERVED / 2 > open.reserved
        {
            open.reserve(next);
        }
    }

    /// What is wrong with it, for the health.
    pub fn problem(&self) -> Option<String> {
        self.inbox().and_then(|inbox| inbox.problem())
    }

    /// Writes all that waits, and closes the database. `next` is the first number of a record
    /// that was not used.
    pub async fn close(&mut self, next: u64) {
        let State::Open(open) = &self.0 else { return };
        open.inbox.push(Change::Number { name: Number::NextSeq, value: next });
        open.inbox.close();
        if tokio::time::timeout(LAST_GROUP, open.inbox.ended()).await.is_err() {
            let waiting = open.inbox.waiting();
            tracing::error!(waiting, "the last changes of the state are not on the disk, and are lost");
        }
    }

    /// The same without a runtime, for the start and for tests.
    #[cfg(test)]
    fn settle(&self, promise: Promise) -> Result<(), String> {
        while !self.is_decided(promise) {
            std::thread::yield_now();
        }
        self.outcome(promise)
    }
}

/// Writes changes without any promise.
#[derive(Clone, Debug, Default)]
pub struct Sender(Option<Arc<Inbox>>);

impl Sender {
    /// The change is made only where it can be written.
    pub fn write(&self, change: impl FnOnce() -> Change) {
        if let Some(inbox) = &self.0 {
            inbox.push(change());
        }
    }
}

impl Open {
    fn reserve(&mut self, next: u64) {
        self.reserved = next + RESERVED;
        let change = Change::Number { name: Number::NextSeq, value: self.reserved };
        // Tried until it is written, and synced: no power failure is to bring a number back.
        self.inbox.push(change.clone());
        self.inbox.promise(vec![change]);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
