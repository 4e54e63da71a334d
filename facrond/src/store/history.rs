//! The history: records in blocks, as short as their owner makes them.
//!
//! A row is a block, with the lowest number in it as its key. Records come in the order in which
//! they end, so blocks overlap, but none reaches further than [`SPAN`]. So a range of numbers is
//! found by the key alone, and writing a record costs little: no index, no row of its own.

use rusqlite::{Connection, OptionalExtension, Result, Row, Transaction, params};
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The numbers of a block are less than so much apart.
pub const SPAN: u64 = 1024;

/// A block that is as long as this takes no further records.
const FULL: usize = 32 << 10;

/// Blocks that are removed with a group at most, so that no group takes long.
const STEP: usize = 64;

/// Records that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The lowest and the highest number.
    pub first: u64,
    pub last: u64,
    pub count: u64,
    /// The time of the latest event, in seconds since 1970.
    pub newest: u64,
    pub data: Vec<u8>,
}

/// Since 1970, which a clock may be before.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Block {
    /// One without a record, for this one and others about it.
    pub fn new(seq: u64) -> Self {
        Self { first: seq, last: seq, count: 0, newest: 0, data: Vec::new() }
    }

    /// Whether records with such numbers may come in.
    pub fn has_room(&self, first: u64, last: u64) -> bool {
        self.last.max(last) - self.first.min(first) < SPAN && self.data.len() < FULL
    }

    /// Takes a later block in, or returns it, since it does not belong here.
    pub fn absorb(&mut self, other: Self) -> Option<Self> {
        if !self.has_room(other.first, other.last) {
            return Some(other);
        }
        let (first, last) = (self.first.min(other.first), self.last.max(other.last));
        let (count, newest) = (self.count + other.count, self.newest.max(other.newest));
        self.data.extend(other.data);
        *self = Self { first, last, count, newest, data: std::mem::take(&mut self.data) };
        None
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    pub records: u64,
    pub age: Duration,
}

impl Kept {
    /// What happened before is kept no more.
    pub fn horizon(&self) -> SystemTime {
        SystemTime::now().checked_sub(self.age).unwrap_or(UNIX_EPOCH)
    }
}

/// Adds a block. After a crash a record may come again, and with it the key of a block.
pub(super) fn insert(transaction: &Transaction<'_>, block: &Block) -> Result<()> {
    let sql = "INSERT INTO history VALUES(?, ?, ?, ?, ?) ON CONFLICT(first) DO UPDATE SET
        last = max(last, excluded.last), count = count + excluded.count,
        newest = max(newest, excluded.newest), data = CAST(data || excluded.data AS BLOB)";
    let Block { first, last, count, newest, data } = block;
    let numbers = [first, last, count, newest].map(|number| number.cast_signed());
    let [first, last, count, newest] = numbers;
    transaction.prepare_cached(sql)?.execute(params![first, last, count, newest, data]).map(drop)
}

/// What is in the history, and what is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    limits: Kept,
    /// How many records there are, once they were counted.
    records: Option<u64>,
    /// From this number on, all are there.
    pub(super) oldest: u64,
}

impl Extent {
    pub(super) fn new(limits: Kept, oldest: u64) -> Self {
        Self { limits, records: None, oldest }
    }

    /// The same of a database that is new.
    pub(super) fn anew(self, oldest: u64) -> Self {
        Self::new(self.limits, oldest)
    }

    /// Removes the oldest blocks as long as there would still be as many records as the limit, or
    /// they are too old; what is there then, since so many records were added.
    pub(super) fn trim(self, transaction: &Transaction<'_>, added: u64) -> Result<Self> {
        let records = self.records.map_or_else(|| count(transaction), |records| Ok(records + added))?;
        let (mut trimmed, horizon) =
            (Self { records: Some(records), ..self }, seconds(self.limits.horizon()));
        for _ in 0..STEP {
            let left = trimmed.records.unwrap_or_default();
            let Some([first, last, count, newest]) = oldest_block(transaction)? else { break };
            let left = left.saturating_sub(count);
            if left < self.limits.records && newest >= horizon {
                break;
            }
            let mut delete = transaction.prepare_cached("DELETE FROM history WHERE first = ?")?;
            delete.execute([first.cast_signed()])?;
            trimmed = Self { records: Some(left), oldest: trimmed.oldest.max(last + 1), ..trimmed };
        }
        Ok(trimmed)
    }
}

fn count(connection: &Connection) -> Result<u64> {
    let count: i64 =
        connection.query_row("SELECT coalesce(sum(count), 0) FROM history", (), |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// The lowest and the highest number, the count and the time of the first block.
fn oldest_block(transaction: &Transaction<'_>) -> Result<Option<[u64; 4]>> {
    let sql = "SELECT first, last, count, newest FROM history ORDER BY first LIMIT 1";
    let number = |row: &Row<'_>, place| row.get::<_, i64>(place).map(i64::cast_unsigned);
    let numbers = |row: &Row<'_>| Ok([number(row, 0)?, number(row, 1)?, number(row, 2)?, number(row, 3)?]);
    transaction.prepare_cached(sql)?.query_row((), numbers).optional()
}

/// The blocks, for who reads.
#[derive(Debug)]
pub struct Blocks<'c> {
    connection: &'c Connection,
}

impl<'c> Blocks<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection }
    }

    /// Visits the blocks that have numbers below one, the latest first, with their lowest numbers.
    pub fn backwards(&self, below: u64, visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>) -> Result<()> {
        self.visit("SELECT first, data FROM history WHERE first < ? ORDER BY first DESC", below, visit)
    }

    /// Visits the blocks that may have numbers from one on, the earliest first, with their lowest numbers.
    pub fn forwards(&self, from: u64, visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>) -> Result<()> {
        let from = from.saturating_sub(SPAN);
        self.visit("SELECT first, data FROM history WHERE first > ? ORDER BY first", from, visit)
    }

    fn visit(
        &self,
        sql: &str,
        number: u64,
        mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([number.cast_signed()])?;
        while let Some(row) = rows.next()? {
            if visit(row.get::<_, i64>(0)?.cast_unsigned(), row.get_ref(1)?.as_blob()?).is_break() {
                break;
            }
        }
        Ok(())
    }
}
