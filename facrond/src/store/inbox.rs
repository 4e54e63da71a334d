//! The way from the engine to the thread that writes, and back.
//!
//! The engine puts changes in and goes on. The thread is woken by the first of a group, and
//! takes all that has come some milliseconds later.

use super::reader::Read;
use super::rows::Change;
use std::collections::HashMap;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long changes are collected to be written together.
const COLLECT: Duration = Duration::from_millis(20);

/// The memory of changes that wait, here or for a disk that takes nothing.
const ROOM: usize = 32 << 20;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    content: Mutex<Content>,
    /// There is something to take.
    come: Condvar,
    /// Something is known of a promise, or the thread has ended.
    pub(super) told: Notify,
}

#[derive(Debug, Default)]
struct Content {
    taken: Taken,
    bytes: usize,
    /// Changes, and their memory, that the thread could not write so far.
    stuck: (usize, usize),
    /// Why not.
    why: Option<String>,
    /// Changes for which there was no room.
    lost: u64,
    /// The number of the last promise, and of the last that was decided.
    promised: u64,
    decided: u64,
    /// How many changes were put in, were in when the thread last took them, and were tried.
    put: u64,
    taken_up_to: u64,
    tried: u64,
    /// Somebody wants to know of each group.
    is_awaited: bool,
    /// From this number on, all records are in the history.
    oldest: u64,
    /// Why promises were not kept, until somebody asks.
    failed: HashMap<u64, String>,
    is_closed: bool,
    has_ended: bool,
}

/// What the thread takes.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) changes: Vec<Change>,
    pub(super) promised: Vec<(u64, Vec<Change>)>,
    /// What is to be read when all this is written.
    pub(super) reads: Vec<Read>,
    pub(super) is_last: bool,
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.promised.is_empty() && self.reads.is_empty()
    }

    /// Whether somebody waits.
    fn is_urgent(&self) -> bool {
        !self.promised.is_empty() || !self.reads.is_empty()
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a change in; its number.
    pub(super) fn push(&self, change: Change) -> u64 {
        let mut content = self.lock();
        let size = change.size();
        content.put += 1;
        let number = content.put;
        if content.bytes + content.stuck.1 + size > ROOM {
            content.lost += 1;
            return number;
        }
        let is_first = content.taken.is_empty();
        content.bytes += size;
        content.taken.changes.push(change);
        drop(content);
        if is_first {
            self.come.notify_one();
        }
        number
    }

    pub(super) fn read(&self, read: Read) {
        self.lock().taken.reads.push(read);
        self.come.notify_one();
    }

    /// Whether this change was written, or could not be.
    pub(super) fn is_tried(&self, number: u64) -> bool {
        let content = self.lock();
        content.tried >= number || content.has_ended
    }

    pub(super) fn last(&self) -> u64 {
        self.lock().put
    }

    /// Whether all changes up to this one were written.
    pub(super) fn is_written(&self, number: u64) -> bool {
        let content = self.lock();
        content.tried >= number && content.why.is_none()
    }

    pub(super) fn set_awaited(&self, is_awaited: bool) {
        self.lock().is_awaited = is_awaited;
    }

    pub(super) fn oldest(&self) -> u64 {
        self.lock().oldest
    }

    pub(super) fn set_oldest(&self, oldest: u64) {
        self.lock().oldest = oldest;
    }

    pub(super) fn promise(&self, changes: Vec<Change>) -> u64 {
        let mut content = self.lock();
        content.promised += 1;
        let promise = content.promised;
        content.taken.promised.push((promise, changes));
        drop(content);
        self.come.notify_one();
        promise
    }

    pub(super) fn is_decided(&self, promise: u64) -> bool {
        let content = self.lock();
        content.decided >= promise || content.has_ended
    }

    pub(super) fn outcome(&self, promise: u64) -> Result<(), String> {
        let mut content = self.lock();
        if content.decided < promise {
            return Err("the database is closed".to_owned());
        }
        content.failed.remove(&promise).map_or(Ok(()), Err)
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.come.notify_one();
    }

    /// Waits for the end of the thread.
    pub(super) async fn ended(&self) {
        while !self.lock().has_ended {
            self.told.notified().await;
        }
    }

    /// How many changes are not on the disk.
    pub(super) fn waiting(&self) -> usize {
        let content = self.lock();
        content.taken.changes.len() + content.stuck.0
    }

    pub(super) fn problem(&self) -> Option<String> {
        let content = self.lock();
        let lost = (content.lost > 0).then(|| format!("{} changes of the state are lost", content.lost));
        let stuck = content.why.as_ref().map(|why| format!("{why}; {} changes wait", content.stuck.0));
        let parts: Vec<_> = [stuck, lost].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Waits for changes and takes them; without any, until `retry`.
    pub(super) fn take(&self, retry: Option<Instant>) -> Taken {
        let is_idle = |content: &mut Content| content.taken.is_empty() && !content.is_closed;
        let mut content = self.lock();
        if let Some(retry) = retry {
            // What somebody waits for is not to wait for the pause.
            let left = retry.saturating_duration_since(Instant::now());
            let is_idle = |content: &mut Content| !content.taken.is_urgent() && !content.is_closed;
            content = wait(self.come.wait_timeout_while(content, left, is_idle)).0;
        } else {
            content = wait(self.come.wait_while(content, is_idle));
            let collects = |content: &mut Content| !content.taken.is_urgent() && !content.is_closed;
            content = wait(self.come.wait_timeout_while(content, COLLECT, collects)).0;
        }
        content.bytes = 0;
        content.taken_up_to = content.put;
        let is_last = content.is_closed;
        Taken { is_last, ..mem::take(&mut content.taken) }
    }

    /// The thread has written all that it took; what nothing was lost of is well.
    pub(super) fn written(&self, promises: &[u64]) {
        let mut content = self.lock();
        (content.stuck, content.why) = ((0, 0), None);
        self.decide(content, promises, None);
    }

    /// The thread could not write what it took. Changes that nobody waits for stay.
    pub(super) fn failed(&self, stuck: (usize, usize), why: &str, promises: &[u64]) {
        let mut content = self.lock();
        (content.stuck, content.why) = (stuck, Some(why.to_owned()));
        self.decide(content, promises, Some(why));
    }

    fn decide(&self, mut content: MutexGuard<'_, Content>, promises: &[u64], why: Option<&str>) {
        let before = content.decided;
        for promise in promises {
            content.decided = *promise;
            content.failed.extend(why.map(|why| (*promise, why.to_owned())));
        }
        content.tried = content.taken_up_to;
        if content.decided != before || content.is_awaited {
            drop(content);
            self.told.notify_one();
        }
    }

    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.told.notify_one();
    }
}

fn wait<T>(waited: Result<T, PoisonError<T>>) -> T {
    waited.unwrap_or_else(PoisonError::into_inner)
}
