//! The database itself: opened, read, written, and set aside where it is damaged.
//!
//! SQLite takes paths. So the directory is checked first, and all files that SQLite opens in it
//! are made by us, or found to be ours: then others can neither remove nor exchange them.

use super::group::{Changed, Group, Pending};
use super::history::{self, Extent, Kept};
use super::load::{Damage, TOLD, job_sum, load, sum};
use super::rows::{Change, DirectoriesRow, JobRow, Layer, Number, Phase, RuleRow, Saved, WatermarkRow};
use super::{Error, FILE, schema};
use crate::own_dir::{Lock, OwnDir};
use crate::wire::timestamp;
use nix::fcntl::OFlag;
use rusqlite::{Connection, ErrorCode, OpenFlags, Result, Transaction, params};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// What SQLite appends to the name for its other files.
const SUFFIXES: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// Its cache in KiB; there is little to read again.
const CACHE: i64 = 1024;

/// How often what is more than that is removed: users choose how many events there are.
const TRIMMED: i64 = 64;

/// Removes what nobody will read.
const UNREAD: &str = "DELETE FROM told WHERE number <= (SELECT max(number) FROM
    (SELECT number, sum(length(batch)) OVER (ORDER BY number DESC) AS size FROM told) WHERE size > ?)";

/// What the log is cut to when all of it is in the database, in bytes.
const LOG: i64 = 4 << 20;

#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    dir: Arc<OwnDir>,
    boot: String,
    history: Extent,
    /// The jobs that are in it.
    written: HashSet<u64>,
    /// No other daemon has it.
    _lock: Lock,
}

impl Database {
    /// Opens it and reads it. One that cannot be read is set aside, with a new one in its place
    /// that has what could be read.
    pub(super) fn open(
        dir: Arc<OwnDir>,
        boot: String,
        limits: Kept,
        lock: Lock,
    ) -> Result<(Self, Saved), Error> {
        let (connection, saved) = connect(&dir, &boot).or_else(|why| match why {
            Error::Damaged { .. } | Error::Newer { .. } => replace(&dir, &boot, &why),
            _ => Err(why),
        })?;
        let history = Extent::new(limits, saved.oldest);
        let written = numbers_of(&saved);
        Ok((Self { connection, dir, boot, history, written, _lock: lock }, saved))
    }

    /// From this number on, all records are in the history.
    pub(super) fn oldest(&self) -> u64 {
        self.history.oldest
    }

    /// What can be read of one that cannot be written.
    pub(super) fn look(dir: &OwnDir, boot: &str) -> Result<Saved, Error> {
        salvage(dir, OsStr::new(FILE), boot)
    }

    /// Sets it aside, and begins a new one with what can be read of it.
    pub(super) fn begin_anew(&mut self) -> Result<(), Error> {
        self.connection = Connection::open_in_memory().map_err(|error| failed(&self.dir, "leave", error))?;
        let why =
            Error::Damaged { path: self.dir.path_of(OsStr::new(FILE)), why: "a write failed".to_owned() };
        let (connection, saved) = replace(&self.dir, &self.boot, &why)?;
        saved.problems.iter().for_each(|problem| tracing::error!("{problem}"));
        (self.connection, self.written) = (connection, numbers_of(&saved));
        self.history = self.history.anew(saved.oldest);
        Ok(())
    }

    /// Marks the numbers of records below this as used up, before anybody is told one: no power
    /// failure is to bring one back.
    pub(super) fn use_up(&mut self, below: u64) -> Result<(), Error> {
        let mut group = Group::default();
        group.add(Vec::new(), vec![(0, vec![Change::Number { name: Number::NextSeq, value: below }])]);
        self.write(&mut group)
    }

    /// Writes a group, all or nothing. What somebody waits for is on the disk afterwards.
    pub(super) fn write(&mut self, group: &mut Group) -> Result<(), Error> {
        group.complete(&self.written);
        let synchronous = if group.is_promised() { "FULL" } else { "NORMAL" };
        let Self { connection, boot, history, .. } = self;
        let mut write = || {
            connection.pragma_update(None, "synchronous", synchronous)?;
            let transaction = connection.transaction()?;
            group.apply(&transaction, boot)?;
            let trimmed = trim(&transaction, boot, *history, group.records())?;
            transaction.commit()?;
            *history = trimmed;
            if group.is_promised() { checkpoint(connection) } else { Ok(()) }
        };
        write().map_err(|error| failed(&self.dir, "write to", error))?;
        group.note(&mut self.written);
        Ok(())
    }

    pub(super) fn change(transaction: &Transaction<'_>, boot: &str, change: &Change) -> Result<()> {
        let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
            transaction.prepare_cached(sql)?.execute(params).map(drop)
        };
        match change {
            Change::Number { name, value } => {
                let (name, sum) = (name.name(), sum(*value, Some(name.name()), b""));
                run("REPLACE INTO number VALUES(?, ?, ?)", params![name, signed(*value), sum])
            }
            Change::Rule(RuleRow { id, layer, paused, data }) => {
                let boot = Some(boot).filter(|_| *layer == Layer::UntilBoot);
                let sum = sum(*id, boot, data) + i64::from(*paused);
                run("REPLACE INTO rule VALUES(?, ?, ?, ?, ?)", params![signed(*id), boot, paused, data, sum])
            }
            Change::PauseRule { id, paused } => {
                let sql = "UPDATE rule SET paused = ?1, sum = sum - paused + ?1 WHERE id = ?2";
                run(sql, params![paused, signed(*id)])
            }
            Change::RemoveRule { id } => run("DELETE FROM rule WHERE id = ?", params![signed(*id)]),
            Change::History(block) => history::insert(transaction, block),
            Change::Watermark(WatermarkRow { rule, begun, since }) => {
                let row = params![signed(*rule), signed(*begun), since.map(signed)];
                run("REPLACE INTO watermark VALUES(?, ?, ?)", row)
            }
            Change::FreezeWatermarks { since } => {
                run("UPDATE watermark SET since = ? WHERE since IS NULL", params![signed(*since)])
            }
            Change::RemoveWatermark { rule } => {
                run("DELETE FROM directories WHERE rule = ?", params![signed(*rule)])?;
                run("DELETE FROM watermark WHERE rule = ?", params![signed(*rule)])
            }
            Change::Directories(DirectoriesRow { rule, time, numbers }) => {
                let sum = sum(*time, None, numbers);
                let row = params![signed(*rule), signed(*time), numbers, sum];
                run("REPLACE INTO directories VALUES(?, ?, ?, ?)", row)
            }
            Change::Known { until, told, forget } => {
                let number = Change::Number { name: Number::KnownUntil, value: *until };
                Self::change(transaction, boot, &number)?;
                if !told.is_empty() {
                    let row = params![signed(*until), told, sum(*until, None, told)];
                    run("INSERT INTO told(time, batch, sum) VALUES(?, ?, ?)", row)?;
                    if transaction.last_insert_rowid() % TRIMMED == 0 {
                        run(UNREAD, params![TOLD])?;
                    }
                }
                run("DELETE FROM told WHERE time < ?", params![signed(*forget)])
            }
            Change::Spec { id, data } => {
                run("REPLACE INTO spec VALUES(?, ?, ?)", params![signed(*id), data, sum(*id, None, data)])
            }
            Change::RemoveSpec { id } => run("DELETE FROM spec WHERE id = ?", params![signed(*id)]),
            // These are put together first.
            Change::Job { .. } => Ok(()),
        }
    }

    pub(super) fn change_job(transaction: &Transaction<'_>, seq: u64, pending: &Pending) -> Result<()> {
        let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
            transaction.prepare_cached(sql)?.execute(params).map(drop)
        };
        let key = signed(seq);
        match pending {
            Pending::New(row) => insert_job(transaction, row),
            Pending::Changed(Changed { merged, events, went }) => {
                if *merged > 0 {
                    run("UPDATE job SET merged = merged + ? WHERE seq = ?", params![signed(*merged), key])?;
                }
                insert_events(transaction, seq, events)?;
                let Some((tries, phase)) = went else { return Ok(()) };
                let (due, pid, identity, began, files) = columns(phase);
                let sql = "UPDATE job SET tries = ?, due = ?, pid = ?, identity = ?, began = ?, files = ? WHERE seq = ?";
                run(sql, params![tries, due, pid, identity, began, files, key])
            }
            Pending::Ended => {
                run("DELETE FROM job WHERE seq = ?", params![key])?;
                run("DELETE FROM event WHERE seq = ?", params![key])
            }
        }
    }
}

fn insert_job(transaction: &Transaction<'_>, row: &JobRow) -> Result<()> {
    let JobRow { seq, rule, spec, data, merged, events, tries, phase } = row;
    let (due, pid, identity, began, files) = columns(phase);
    let sql = "REPLACE INTO job VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let sum = job_sum(*seq, *spec, data);
    let (rule, spec, merged) = (signed(*rule), signed(*spec), signed(*merged));
    let mut statement = transaction.prepare_cached(sql)?;
    statement.execute(params![
        signed(*seq),
        rule,
        spec,
        data,
        sum,
        merged,
        tries,
        due,
        pid,
        identity,
        began,
        files
    ])?;
    insert_events(transaction, *seq, events)
}

fn insert_events(transaction: &Transaction<'_>, seq: u64, events: &[(u64, Vec<u8>)]) -> Result<()> {
    for (number, data) in events {
        let mut statement = transaction.prepare_cached("REPLACE INTO event VALUES(?, ?, ?, ?)")?;
        statement.execute(params![signed(seq), signed(*number), data, sum(seq, None, data)])?;
    }
    Ok(())
}

/// `due`, `pid`, `identity`, `began` and `files`.
type Columns<'p> = (Option<i64>, Option<i32>, Option<&'p str>, Option<i64>, Option<&'p [u8]>);

fn columns(phase: &Phase) -> Columns<'_> {
    match phase {
        Phase::Waits => (None, None, None, None, None),
        Phase::WaitsUntil(due) => (Some(*due), None, None, None, None),
        Phase::Runs { pid, identity, began, files } => {
            let files = Some(&**files).filter(|files| !files.is_empty());
            (None, Some(*pid), identity.as_deref(), Some(*began), files)
        }
        Phase::Settles { files } => (None, None, None, None, Some(files)),
    }
}

fn numbers_of(saved: &Saved) -> HashSet<u64> {
    saved.jobs.iter().map(|job| job.seq).collect()
}

/// Removes what the history has no room for.
fn trim(transaction: &Transaction<'_>, boot: &str, history: Extent, added: u64) -> Result<Extent> {
    if added == 0 {
        return Ok(history);
    }
    let trimmed = history.trim(transaction, added)?;
    if trimmed.oldest > history.oldest {
        let change = Change::Number { name: Number::Oldest, value: trimmed.oldest };
        Database::change(transaction, boot, &change)?;
    }
    Ok(trimmed)
}

/// Opens the database for writing, and reads it.
fn connect(dir: &OwnDir, boot: &str) -> Result<(Connection, Saved), Error> {
    let was_empty = dir.stat(OsStr::new(FILE))?.is_some_and(|stat| stat.st_size == 0);
    for suffix in SUFFIXES {
        drop(dir.open_file(&name(suffix), OFlag::O_RDWR | OFlag::O_CREAT)?);
    }
    dir.sync()?;
    let failed = |error| failed(dir, "open", error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection =
        Connection::open_with_flags(dir.real_path()?.join(FILE), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(failed)?;
    let version = prepare(&connection).map_err(failed)?;
    if version > schema::VERSION {
        return Err(Error::Newer { path: dir.path_of(OsStr::new(FILE)), version });
    }
    let check: String =
        connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(failed)?;
    if check != "ok" {
        return Err(damaged(dir, check));
    }
    schema::migrate(&mut connection, version).map_err(failed)?;
    checkpoint(&connection).map_err(failed)?;
    let (mut saved, is_whole) = load(&connection, boot, Damage::Ends).map_err(failed)?;
    if !is_whole {
        return Err(damaged(dir, "bits have changed".to_owned()));
    }
    if was_empty {
        let path = dir.path_of(OsStr::new(FILE));
        saved.problems.push(format!("the database {} was empty", path.display()));
    }
    connection.execute("DELETE FROM rule WHERE boot <> ?", [boot]).map_err(failed)?;
    connection.execute("DELETE FROM spec WHERE id NOT IN (SELECT spec FROM job)", ()).map_err(failed)?;
    Ok((connection, saved))
}

/// Brings what is in the log into the file itself, which can be read without writing.
fn checkpoint(connection: &Connection) -> Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))
}

fn prepare(connection: &Connection) -> Result<i64> {
    connection.pragma_update(None, "cache_size", -CACHE)?;
    connection.pragma_update(None, "journal_size_limit", LOG)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.query_row("PRAGMA journal_mode = WAL", (), |_| Ok(()))?;
    schema::version(connection)
}

/// Sets the database aside, and opens a new one with what could be read.
fn replace(dir: &OwnDir, boot: &str, why: &Error) -> Result<(Connection, Saved), Error> {
    let kind = if matches!(why, Error::Newer { .. }) { "newer" } else { "damaged" };
    let aside = OsString::from(format!("{FILE}.{kind}-{}", timestamp(SystemTime::now())));
    for suffix in SUFFIXES {
        let mut to = aside.clone();
        to.push(suffix);
        match dir.stat(&name(suffix))? {
            Some(stat) if stat.st_size > 0 => dir.rename(&name(suffix), &to)?,
            _ => dir.remove(&name(suffix))?,
        }
    }
    let (found, notes) = match why {
        Error::Newer { .. } => (Saved::default(), None),
        _ => salvage(dir, &aside, boot)
            .map_or_else(|error| (Saved::default(), Some(error.to_string())), |saved| (saved, None)),
    };
    let (mut connection, mut saved) = connect(dir, boot)?;
    take_over(&mut connection, boot, &found).map_err(|error| failed(dir, "write to", error))?;
    let news = notes.filter(|note| *note != why.to_string());
    let (rules, note) = (found.rules.len(), news.map(|note| format!(" ({note})")).unwrap_or_default());
    saved = Saved { problems: saved.problems, oldest: found.next_seq, ..found };
    saved.problems.push(format!(
        "{why}; it is kept as {}, and a new one is begun with what could be read of it: {rules} rules, {} jobs{note}",
        dir.path_of(&aside).display(),
        saved.jobs.len()
    ));
    Ok((connection, saved))
}

/// Reads what can be read.
fn salvage(dir: &OwnDir, file: &OsStr, boot: &str) -> Result<Saved, Error> {
    if dir.stat(file)?.is_none() {
        return Ok(Saved::default());
    }
    drop(dir.open_file(file, OFlag::O_RDONLY)?);
    let read = |connection: Connection| {
        // Without a file that is shared with others, for which there may be no room.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        // A file that is shorter than it was is read as far as it goes.
        connection.pragma_update(None, "writable_schema", true)?;
        // The first look finds out whether the log can be read.
        schema::version(&connection)?;
        Ok(load(&connection, boot, Damage::IsLeftOut)?.0)
    };
    let flags = OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let path = dir.real_path()?.join(file);
    Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(&read)
        .or_else(|_| {
            // Where nothing can be written, the log cannot be read.
            let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(immutable(&path), flags).and_then(&read)
        })
        .map_err(|error| failed(dir, "read", error))
}

/// The URI of a file of which SQLite is to think that nobody changes it.
fn immutable(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes().iter();
    let path: String = bytes
        .map(|byte| match byte {
            b'/' => "/".to_owned(),
            byte => format!("%{byte:02x}"),
        })
        .collect();
    format!("file://{path}?immutable=1")
}

fn take_over(connection: &mut Connection, boot: &str, found: &Saved) -> Result<()> {
    let transaction = connection.transaction()?;
    // The records of before stay where they are.
    let numbers = [Number::NextRule, Number::NextSeq, Number::Oldest];
    let numbers = numbers.into_iter().zip([found.next_rule, found.next_seq, found.next_seq]);
    let numbers = numbers.map(|(name, value)| Change::Number { name, value });
    let rules = found.rules.iter().map(|row| Change::Rule(row.clone()));
    let watermarks = found.known.watermarks.iter().map(|row| Change::Watermark(*row));
    let specs = found.specs.iter().map(|(id, data)| Change::Spec { id: *id, data: data.clone() });
    numbers
        .chain(rules)
        .chain(watermarks)
        .chain(specs)
        .try_for_each(|change| Database::change(&transaction, boot, &change))?;
    found.jobs.iter().try_for_each(|row| insert_job(&transaction, row))?;
    transaction.commit()
}

fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn name(suffix: &str) -> OsString {
    OsString::from(format!("{FILE}{suffix}"))
}

fn damaged(dir: &OwnDir, why: String) -> Error {
    Error::Damaged { path: dir.path_of(OsStr::new(FILE)), why }
}

/// Whether the medium, and not the content, is to blame. Our files are there and can be
/// written, so that "read-only" is about the content.
fn is_of_medium(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, PermissionDenied, SystemIoFailure,
    };
    matches!(
        error.sqlite_error_code(),
        Some(
            CannotOpen
                | DatabaseBusy
                | DatabaseLocked
                | DiskFull
                | OutOfMemory
                | PermissionDenied
                | SystemIoFailure
        )
    )
}

fn failed(dir: &OwnDir, what: &'static str, error: rusqlite::Error) -> Error {
    if is_of_medium(&error) {
        let path: PathBuf = dir.path_of(OsStr::new(FILE));
        return Error::Database { what, path, error };
    }
    damaged(dir, error.to_string())
}
