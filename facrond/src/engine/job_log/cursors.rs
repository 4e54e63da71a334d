//! Clients that get each record once and in the order of the numbers (`after` with `follow`).
//!
//! A record is sent when its outcome is final and on the disk, and those of all before it are, too.
//! So no client knows of a record that a crash takes back. What a client does not fetch stays in
//! the history and is sent later.

use super::disk::{Found, forwards};
use super::recent::Recent;
use super::wanted::Wanted;
use crate::control::{Follower, encode};
use crate::store::Store;
use facron_proto::RuleId;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Records that are looked at in one turn of the loop.
const STEP: usize = 256;

/// Records that are read in one go.
const FETCHED: usize = 1024;

/// How long a client gets to fetch some.
const PAUSE: Duration = Duration::from_millis(50);

/// The numbers of the records whose outcome is not final.
#[derive(Debug, Default)]
pub struct OpenRecords {
    all: BTreeSet<u64>,
    of_rules: BTreeSet<(RuleId, u64)>,
}

impl OpenRecords {
    pub fn insert(&mut self, rule: RuleId, seq: u64) {
        self.all.insert(seq);
        self.of_rules.insert((rule, seq));
    }

    pub fn remove(&mut self, rule: RuleId, seq: u64) {
        self.all.remove(&seq);
        self.of_rules.remove(&(rule, seq));
    }

    /// The first one, of a rule or of all.
    pub fn first(&self, rule: Option<RuleId>) -> Option<u64> {
        match rule {
            Some(rule) => self.of_rules.range((rule, 0)..=(rule, u64::MAX)).next().map(|(_, seq)| *seq),
            None => self.all.first().copied(),
        }
    }
}

#[derive(Debug)]
struct Cursor {
    number: u64,
    follower: Arc<Follower>,
    wanted: Wanted,
    /// The number from which on records are to be sent.
    next: u64,
    /// The history is read for it.
    is_fetching: bool,
    /// Its client has to fetch what waits for it, and gets until then for that.
    pause: Option<Instant>,
}

/// How far a cursor came in the history on the disk.
#[derive(Debug)]
struct Fetched {
    number: u64,
    next: u64,
    is_full: bool,
}

#[derive(Debug)]
pub struct Cursors {
    all: Vec<Cursor>,
    last_number: u64,
    due: Option<Instant>,
    fetched: UnboundedSender<Fetched>,
    come: UnboundedReceiver<Fetched>,
}

/// Where records are, and up to which number (exclusive) all outcomes are final and kept.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    pub recent: &'a Recent,
    pub store: &'a Store,
    pub open: &'a OpenRecords,
    pub end: u64,
}

impl Sources<'_> {
    /// The number from which on all records are in memory or in the history.
    pub fn oldest(&self) -> u64 {
        let recent = self.recent.oldest();
        self.store.oldest().map_or(recent, |oldest| oldest.min(recent))
    }
}

/// Why a cursor does not go on.
#[derive(PartialEq, Eq)]
enum Rest {
    /// There is no more for it at present.
    Done,
    /// Its client has to fetch what waits for it.
    Full,
    /// The turn is over.
    Later,
}

impl Cursors {
    pub fn new() -> Self {
        let (fetched, come) = unbounded_channel();
        Self { all: Vec::new(), last_number: 0, due: None, fetched, come }
    }

    pub fn add(&mut self, follower: Follower, wanted: Wanted, next: u64) {
        self.last_number += 1;
        let (number, follower) = (self.last_number, Arc::new(follower));
        self.all.push(Cursor { number, follower, wanted, next, is_fetching: false, pause: None });
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// When there is more to send.
    pub fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Waits until something was read for a cursor. Cancel safe.
    pub async fn wake(&mut self) {
        let Some(Fetched { number, next, is_full }) = self.come.recv().await else { return };
        if let Some(cursor) = self.all.iter_mut().find(|cursor| cursor.number == number) {
            (cursor.next, cursor.is_fetching) = (next, false);
            cursor.pause = is_full.then(|| Instant::now() + PAUSE);
        }
    }

    /// Sends what has come.
    pub fn advance(&mut self, sources: Sources<'_>) {
        self.due = None;
        if self.all.is_empty() {
            return;
        }
        self.all.retain(|cursor| !cursor.follower.is_closed());
        // Nobody is always the last one whose turn it is.
        let first = usize::from(!self.all.is_empty());
        self.all.rotate_left(first);
        let (fetched, now) = (&self.fetched, Instant::now());
        let mut turn = Turn { sources, fetched, lines: HashMap::new(), left: STEP };
        for cursor in &mut self.all {
            if cursor.pause.is_none_or(|pause| pause <= now) {
                cursor.pause = match turn.advance(cursor) {
                    Rest::Done => None,
                    Rest::Full => Some(now + PAUSE),
                    Rest::Later => Some(now),
                };
            }
            self.due = [self.due, cursor.pause].into_iter().flatten().min();
        }
    }
}

/// What all cursors share in one turn.
struct Turn<'a> {
    sources: Sources<'a>,
    fetched: &'a UnboundedSender<Fetched>,
    lines: HashMap<u64, Option<Arc<RawValue>>>,
    left: usize,
}

impl Turn<'_> {
    fn advance(&mut self, cursor: &mut Cursor) -> Rest {
        let Sources { recent, open, end, .. } = self.sources;
        let end = open.first(cursor.wanted.rule).unwrap_or(end).min(end);
        if cursor.next >= end || cursor.is_fetching {
            return Rest::Done;
        }
        let missed = self.sources.oldest().min(end).saturating_sub(cursor.next);
        if missed > 0 {
            cursor.follower.lag(missed);
            cursor.next += missed;
        }
        if cursor.next < recent.oldest().min(end) {
            if !cursor.follower.has_room() {
                return Rest::Full;
            }
            self.fetch(cursor, recent.oldest().min(end));
            return Rest::Done;
        }
        self.send(cursor, end)
    }

    /// Sends the records below `end`, which are in memory.
    fn send(&mut self, cursor: &mut Cursor, end: u64) -> Rest {
        for past in self.sources.recent.from(cursor.next).take_while(|past| past.job.seq < end) {
            if self.left == 0 {
                return Rest::Later;
            }
            self.left -= 1;
            if past.is_wanted(&cursor.wanted) {
                let line = self.lines.entry(past.job.seq).or_insert_with(|| encode(&past.record()));
                if line.as_ref().is_some_and(|line| !cursor.follower.try_send(line)) {
                    return Rest::Full;
                }
            }
            cursor.next = past.job.seq + 1;
        }
        cursor.next = end;
        Rest::Done
    }

    /// Lets the records below `end` be read and sent, or some of them.
    fn fetch(&self, cursor: &mut Cursor, end: u64) {
        cursor.is_fetching = true;
        let (number, from, wanted) = (cursor.number, cursor.next, cursor.wanted.clone());
        let (follower, fetched) = (Arc::clone(&cursor.follower), self.fetched.clone());
        self.sources.store.read(move |blocks| {
            let (mut left, mut is_full) = (FETCHED, false);
            let send = |found: Found| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                is_full = encode(&found.record).is_some_and(|line| !follower.try_send(&line));
                !is_full
            };
            let next = if let Some(blocks) = blocks {
                forwards(blocks, (from, end), &wanted, send)
            } else {
                follower.lag(end - from);
                end
            };
            // The engine is gone when the daemon ends.
            let _ = fetched.send(Fetched { number, next, is_full });
        });
    }
}
