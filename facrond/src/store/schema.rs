//! The tables, and how those of earlier versions become these.

use rusqlite::{Connection, Result, Transaction, TransactionBehavior};

/// Step N makes version N + 1 of version N. A step that was released is never changed.
const STEPS: [&str; 5] = [
    // Sums tell what was written from bits that have changed on the disk.
    // A rule without a boot lasts for ever.
    "CREATE TABLE number(name TEXT PRIMARY KEY, value INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
     CREATE TABLE rule(id INTEGER PRIMARY KEY, boot TEXT, paused INTEGER NOT NULL, data BLOB NOT NULL,
         sum INTEGER NOT NULL) STRICT;",
    // Records in blocks, by their lowest numbers; times are seconds since 1970.
    "CREATE TABLE history(first INTEGER PRIMARY KEY, last INTEGER NOT NULL, count INTEGER NOT NULL,
         newest INTEGER NOT NULL, data BLOB NOT NULL) STRICT;",
    // Times are nanoseconds since 1970. A rule without one is at the number known until.
    "CREATE TABLE watermark(rule INTEGER PRIMARY KEY, begun INTEGER NOT NULL, since INTEGER) STRICT;
     CREATE TABLE told(number INTEGER PRIMARY KEY, time INTEGER NOT NULL, batch BLOB NOT NULL, sum INTEGER NOT NULL)
         STRICT;
     CREATE TABLE directories(rule INTEGER PRIMARY KEY, time INTEGER NOT NULL, numbers BLOB NOT NULL,
         sum INTEGER NOT NULL) STRICT;",
    // Jobs that are not concluded, and the rules that they had. `tries` have failed; `due` and
    // `began` are in milliseconds since 1970.
    "CREATE TABLE spec(id INTEGER PRIMARY KEY, data BLOB NOT NULL, sum INTEGER NOT NULL) STRICT;
     CREATE TABLE job(seq INTEGER PRIMARY KEY, rule INTEGER NOT NULL, spec INTEGER NOT NULL, data BLOB NOT NULL,
         sum INTEGER NOT NULL, merged INTEGER NOT NULL, tries INTEGER NOT NULL, due INTEGER, pid INTEGER,
         identity TEXT, began INTEGER) STRICT;
     CREATE TABLE event(seq INTEGER, number INTEGER, data BLOB NOT NULL, sum INTEGER NOT NULL,
         PRIMARY KEY(seq, number)) STRICT, WITHOUT ROWID;",
    // What is known of the files of a job whose command runs. Without a pid it has ended.
    "ALTER TABLE job ADD COLUMN files BLOB;",
];

/// The version that this facron writes.
#[expect(clippy::cast_possible_wrap, reason = "there are not so many")]
pub(super) const VERSION: i64 = STEPS.len() as i64;

pub(super) fn version(connection: &Connection) -> Result<i64> {
    connection.query_row("PRAGMA user_version", (), |row| row.get(0))
}

/// Brings the tables of an earlier version, or of none, to this one.
pub(super) fn migrate(connection: &mut Connection, from: i64) -> Result<()> {
    if from == VERSION {
        return Ok(());
    }
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    for step in STEPS.iter().skip(usize::try_from(from).unwrap_or_default()) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// The steps to a version, for tests.
#[cfg(test)]
pub(super) fn steps(to: usize) -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().take(to)
}
