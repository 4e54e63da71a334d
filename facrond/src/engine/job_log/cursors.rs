//! Clients that get each record once and in the order of the numbers (`after` with `follow`).
//!
//! A record is sent when its outcome is final and that of all before it is, too. What a client
//! does not fetch stays in the history and is sent later.

use super::recent::Recent;
use super::wanted::Wanted;
use crate::control::{Follower, encode};
use facron_proto::RuleId;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records that are looked at in one turn of the loop.
const STEP: usize = 256;

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
    follower: Follower,
    wanted: Wanted,
    /// The number from which on records are to be sent.
    next: u64,
}

#[derive(Debug, Default)]
pub struct Cursors {
    cursors: Vec<Cursor>,
    due: Option<Instant>,
}

/// Why a cursor does not go on.
#[derive(PartialEq, Eq)]
enum Rest {
    /// There is no more for it.
    Done,
    /// Its client has to fetch what waits for it.
    Full,
    /// The turn is over.
    Later,
}

impl Cursors {
    pub fn add(&mut self, follower: Follower, wanted: Wanted, next: u64) {
        self.cursors.push(Cursor { follower, wanted, next });
    }

    /// When there is more to send.
    pub fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Sends what has come. `next_seq` is the number that no record has yet.
    pub fn advance(&mut self, recent: &Recent, open: &OpenRecords, next_seq: u64) {
        self.due = None;
        self.cursors.retain(|cursor| !cursor.follower.is_closed());
        if self.cursors.is_empty() {
            return;
        }
        let mut turn = Turn { recent, lines: HashMap::new(), left: STEP };
        let now = Instant::now();
        for cursor in &mut self.cursors {
            let end = open.first(cursor.wanted.rule).unwrap_or(next_seq);
            let due = match turn.advance(cursor, end) {
                Rest::Done => continue,
                Rest::Full => now + PAUSE,
                Rest::Later => now,
            };
            self.due = Some(self.due.map_or(due, |other| other.min(due)));
        }
        // Nobody is always the last one whose turn it is.
        self.cursors.rotate_left(1);
    }
}

/// What all cursors share in one turn.
struct Turn<'a> {
    recent: &'a Recent,
    lines: HashMap<u64, Option<Arc<RawValue>>>,
    left: usize,
}

impl Turn<'_> {
    /// Sends the records below `end`.
    fn advance(&mut self, cursor: &mut Cursor, end: u64) -> Rest {
        if cursor.next >= end {
            return Rest::Done;
        }
        let missed = self.recent.oldest().min(end).saturating_sub(cursor.next);
        if missed > 0 {
            cursor.follower.lag(missed);
            cursor.next += missed;
        }
        for past in self.recent.from(cursor.next).take_while(|past| past.job.seq < end) {
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
}
