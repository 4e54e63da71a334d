//! Reading of all that an earlier daemon has left. Each row has a sum of what is in it, so that
//! bits which have changed on the disk are found.

use super::rows::{DirectoriesRow, End, JobRow, Known, Layer, Number, Phase, RuleRow, Saved, WatermarkRow};
use rusqlite::{Connection, Result, Row};

/// The memory for what an earlier daemon has told, in bytes.
pub(super) const TOLD: u32 = 16 << 20;

/// What becomes of a row that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    Ends,
    IsLeftOut,
}

/// Reads all; and whether the sums are right.
pub(super) fn load(connection: &Connection, boot: &str, damage: Damage) -> Result<(Saved, bool)> {
    let (numbers, are_right) = rows(connection, "SELECT name, value, sum FROM number", number, damage)?;
    let number = |name: Number| {
        let found = numbers.iter().find(|(found, _)| found == name.name());
        found.map_or(1, |(_, value)| (*value).max(1))
    };
    let sql = "SELECT id, boot, paused, data, sum FROM rule";
    let (rules, is_whole) = rows(connection, sql, rule, damage)?;
    let highest = rules.iter().map(|(rule, _)| rule.id + 1).max().unwrap_or(1);
    let lasts = |(_, of): &(RuleRow, Option<String>)| of.as_ref().is_none_or(|of| of == boot);
    let rules = rules.into_iter().filter(lasts).map(|(rule, _)| rule).collect();
    let next_rule = number(Number::NextRule).max(highest);
    let (specs, are_specs_right) = rows(connection, "SELECT id, data, sum FROM spec", spec, damage)?;
    let sql = "SELECT seq, number, data, sum FROM event ORDER BY seq, number";
    let (events, are_events_right) = rows(connection, sql, event, damage)?;
    let sql = "SELECT seq, rule, spec, data, sum, merged, tries, due, pid, identity, began, files FROM job ORDER BY seq";
    let (mut jobs, are_jobs_right) = rows(connection, sql, job, damage)?;
    for (seq, event) in events {
        if let Ok(at) = jobs.binary_search_by_key(&seq, |job| job.seq) {
            jobs[at].events.push(event);
        }
    }
    let oldest = number(Number::Oldest);
    let next_seq = number(Number::NextSeq).max(jobs.last().map_or(1, |job| job.seq + 1));
    let is_whole = is_whole && are_right && are_specs_right && are_events_right && are_jobs_right;
    let specs = specs.into_iter().collect();
    let (known, is_known) = known(connection, &number, damage)?;
    let saved = Saved { rules, jobs, specs, next_rule, next_seq, oldest, known, problems: Vec::new() };
    Ok((saved, is_whole && is_known))
}

/// What an earlier daemon knew; of what it has told, the latest.
fn known(connection: &Connection, number: &dyn Fn(Number) -> u64, damage: Damage) -> Result<(Known, bool)> {
    let sql = "SELECT rule, begun, since FROM watermark";
    let (watermarks, are_right) = rows(connection, sql, watermark, damage)?;
    let sql = format!(
        "SELECT time, batch, sum FROM (SELECT *, sum(length(batch)) OVER (ORDER BY number DESC) AS size FROM told) \
         WHERE size <= {TOLD}"
    );
    let (told, is_told_right) = rows(connection, &sql, batch, damage)?;
    let sql = "SELECT time, numbers, sum, rule FROM directories";
    let (directories, is_tree_right) = rows(connection, sql, directories, damage)?;
    let (until, end) = (number(Number::KnownUntil), End::from(number(Number::CleanEnd)));
    let known = Known { until, watermarks, told, directories, end };
    Ok((known, are_right && is_told_right && is_tree_right))
}

fn watermark(row: &Row<'_>) -> Result<(WatermarkRow, bool)> {
    let [rule, begun] = [row.get::<_, i64>(0)?, row.get(1)?].map(i64::cast_unsigned);
    let since = row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned);
    Ok((WatermarkRow { rule, begun, since }, true))
}

fn batch(row: &Row<'_>) -> Result<(Vec<u8>, bool)> {
    let (time, batch): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
    let is_right = sum(time.cast_unsigned(), None, &batch) == row.get::<_, i64>(2)?;
    Ok((batch, is_right))
}

fn directories(row: &Row<'_>) -> Result<(DirectoriesRow, bool)> {
    let (numbers, is_right) = batch(row)?;
    let [time, rule] = [row.get::<_, i64>(0)?, row.get(3)?].map(i64::cast_unsigned);
    Ok((DirectoriesRow { rule, time, numbers }, is_right))
}

fn number(row: &Row<'_>) -> Result<((String, u64), bool)> {
    let (name, value): (String, i64) = (row.get(0)?, row.get(1)?);
    let is_right = sum(value.cast_unsigned(), Some(&name), b"") == row.get::<_, i64>(2)?;
    Ok(((name, value.cast_unsigned()), is_right))
}

/// A rule with its boot, and whether the sum is right.
fn rule(row: &Row<'_>) -> Result<((RuleRow, Option<String>), bool)> {
    let (id, boot): (i64, Option<String>) = (row.get(0)?, row.get(1)?);
    let layer = if boot.is_some() { Layer::UntilBoot } else { Layer::ForEver };
    let rule = RuleRow { id: id.cast_unsigned(), layer, paused: row.get(2)?, data: row.get(3)? };
    let paused: i64 = row.get(2)?;
    let is_right = sum(rule.id, boot.as_deref(), &rule.data) + paused == row.get::<_, i64>(4)?;
    Ok(((rule, boot), is_right))
}

fn spec(row: &Row<'_>) -> Result<((u64, Vec<u8>), bool)> {
    let (id, data): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
    let is_right = sum(id.cast_unsigned(), None, &data) == row.get::<_, i64>(2)?;
    Ok(((id.cast_unsigned(), data), is_right))
}

type EventRow = (u64, (u64, Vec<u8>));

fn event(row: &Row<'_>) -> Result<(EventRow, bool)> {
    let (seq, number, data): (i64, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let seq = seq.cast_unsigned();
    let is_right = sum(seq, None, &data) == row.get::<_, i64>(3)?;
    Ok(((seq, (number.cast_unsigned(), data)), is_right))
}

fn job(row: &Row<'_>) -> Result<(JobRow, bool)> {
    let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let phase = match (row.get(7)?, row.get(8)?, row.get(10)?) {
        (Some(due), ..) => Phase::WaitsUntil(due),
        (None, Some(pid), Some(began)) => {
            let files = row.get::<_, Option<_>>(11)?.unwrap_or_default();
            Phase::Runs { pid, identity: row.get(9)?, began, files }
        }
        (None, None, _) => {
            row.get::<_, Option<_>>(11)?.map_or(Phase::Waits, |files| Phase::Settles { files })
        }
        _ => Phase::Waits,
    };
    let job = JobRow {
        seq: number(0)?,
        rule: number(1)?,
        spec: number(2)?,
        data: row.get(3)?,
        merged: number(5)?,
        events: Vec::new(),
        tries: row.get(6)?,
        phase,
    };
    let is_right = job_sum(job.seq, job.spec, &job.data) == row.get::<_, i64>(4)?;
    Ok((job, is_right))
}

/// The rows of a table whose sums are right, and whether all are.
fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: fn(&Row<'_>) -> Result<(T, bool)>,
    damage: Damage,
) -> Result<(Vec<T>, bool)> {
    let (mut all, mut is_whole) = (Vec::new(), true);
    let mut fill = || -> Result<()> {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            match read(row) {
                Ok((row, true)) => all.push(row),
                _ => is_whole = false,
            }
        }
        Ok(())
    };
    match fill() {
        Err(error) if damage == Damage::Ends => Err(error),
        Err(_) => Ok((all, false)),
        Ok(()) => Ok((all, is_whole)),
    }
}

/// FNV-1a: not against people, but against bits that change.
pub(super) fn sum(id: u64, text: Option<&str>, data: &[u8]) -> i64 {
    let text = text.map_or(b"".as_slice(), str::as_bytes);
    let bytes = id.to_le_bytes().into_iter().chain(text.iter().chain(data).copied());
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    // Something small may be added to it.
    (bytes.fold(0xcbf2_9ce4_8422_2325, mix) >> 2).cast_signed()
}

pub(super) fn job_sum(seq: u64, spec: u64, data: &[u8]) -> i64 {
    sum(seq.rotate_left(32) ^ spec, None, data)
}
