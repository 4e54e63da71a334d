//! The thread that has the database.

use super::Error;
use super::database::Database;
use super::group::Group;
use super::inbox::{Inbox, Taken};
use super::opening::Opening;
use super::reader::{self, Read};
use nix::sys::signal::SigSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Before the next try; it doubles as long as the disk takes nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often it is logged that it takes nothing.
const LOGGED: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Writer {
    opening: Opening,
    /// Once it is open.
    database: Option<Database>,
    inbox: Arc<Inbox>,
    group: Group,
    pause: Duration,
    logged: Option<Instant>,
}

impl Writer {
    pub(super) fn new(opening: Opening, database: Option<Database>, inbox: Arc<Inbox>) -> Self {
        Self { opening, database, inbox, group: Group::default(), pause: Duration::ZERO, logged: None }
    }

    /// Starts the thread. It takes no signals: those are for the engine's thread.
    pub(super) fn spawn(self) -> io::Result<()> {
        let before = SigSet::thread_get_mask()?;
        SigSet::all().thread_block()?;
        let spawned = reader::spawn(Arc::clone(&self.opening.dir)).and_then(|reads| {
            Builder::new().name("facrond-store".to_owned()).spawn(move || self.run(&reads))
        });
        before.thread_set_mask()?;
        spawned.map(drop)
    }

    fn run(mut self, reader: &Sender<Read>) {
        // Told also if this thread ends by a defect: then nobody waits for it for ever.
        let _end = End(Arc::clone(&self.inbox));
        self.serve(reader);
        // The database is closed by then.
        drop(self);
    }

    fn serve(&mut self, reader: &Sender<Read>) {
        loop {
            let retry = (!self.pause.is_zero()).then(|| Instant::now() + self.pause);
            let Taken { changes, promised, reads, is_last } = self.inbox.take(retry);
            self.group.add(changes, promised);
            if !self.group.is_empty() {
                self.write();
            }
            for read in reads {
                // That thread ends with this one.
                let _ = reader.send(read);
            }
            if is_last {
                return;
            }
        }
    }

    fn write(&mut self) {
        match self.try_to_write() {
            Ok(oldest) => self.on_written(oldest),
            Err(error) => self.on_failed(&error.to_string()),
        }
    }

    /// Writes the group; the number from which on all records are in the history.
    fn try_to_write(&mut self) -> Result<u64, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.opening.open_later()?,
        };
        let database = self.database.insert(database);
        match database.write(&mut self.group) {
            Err(Error::Damaged { .. }) => {
                database.begin_anew()?;
                database.write(&mut self.group)?;
            }
            written => written?,
        }
        Ok(database.oldest())
    }

    fn on_written(&mut self, oldest: u64) {
        if !self.pause.is_zero() {
            tracing::info!("the state is written again");
        }
        (self.pause, self.logged) = (Duration::ZERO, None);
        let promises = std::mem::take(&mut self.group).take_promises();
        self.inbox.set_oldest(oldest);
        self.inbox.written(&promises);
    }

    fn on_failed(&mut self, why: &str) {
        let now = Instant::now();
        if self.logged.is_none_or(|logged| now - logged >= LOGGED) {
            tracing::error!("{why}; what changes waits in memory, and is tried again");
            self.logged = Some(now);
        }
        self.pause = (2 * self.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let promises = self.group.take_promises();
        self.inbox.failed(self.group.waiting(), why, &promises);
    }
}

struct End(Arc<Inbox>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}
