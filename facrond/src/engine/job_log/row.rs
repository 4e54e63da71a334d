//! Records as the store has them: short, one after the other in a block. The meaning of the
//! bytes belongs to the version of the store's tables.

use super::wanted::Facts;
use crate::events::Events;
use crate::job::Job;
use crate::job::outcome::Outcome;
use crate::wire;
use facron_proto::{self as proto, By, OutcomeState, Record, RuleId, Text};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A record whose outcome is final.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row<'a> {
    pub seq: u64,
    /// Nanoseconds since 1970.
    time: u64,
    rule: RuleId,
    rule_name: Option<&'a str>,
    events: u64,
    path: &'a [u8],
    old_path: Option<&'a [u8]>,
    pid: i32,
    exe: Option<&'a [u8]>,
    uid: Option<u32>,
    synthetic: bool,
    repeated: bool,
    merged: u64,
    state: OutcomeState,
    command: Option<i32>,
    exit: Option<i32>,
    signal: Option<i32>,
    duration_ms: Option<f64>,
    error: Option<&'a str>,
    by: Option<By>,
    output: Option<&'a [u8]>,
    tries: Option<u32>,
    restarted: bool,
}

/// Appends a record to a block.
pub fn append(block: &mut Vec<u8>, job: &Job, outcome: &Outcome) {
    let (event, flat) = (&job.event, wire::outcome(job, outcome));
    let row = Row {
        seq: job.seq,
        time: nanoseconds(event.time),
        rule: job.rule,
        rule_name: job.spec.options.name.as_deref(),
        events: event.events.bits(),
        path: &event.path,
        old_path: event.old_path.as_deref(),
        pid: event.pid,
        exe: event.exe.as_deref(),
        uid: event.uid,
        synthetic: event.synthetic,
        repeated: job.repeated,
        merged: job.merged,
        state: flat.state,
        command: flat.pid,
        exit: flat.exit,
        signal: flat.signal,
        duration_ms: flat.duration_ms,
        error: flat.error.as_deref(),
        by: flat.by,
        output: flat.output.as_ref().map(Text::as_bytes),
        tries: flat.tries,
        restarted: flat.restarted,
    };
    let before = block.len();
    let written = postcard::to_io(&row, &mut *block).map(drop);
    if let Err(error) = written {
        tracing::error!(%error, seq = job.seq, "a record cannot be written");
        block.truncate(before);
    }
}

/// The records of a block; what is after a damaged one is left out.
pub fn rows(block: &[u8]) -> impl Iterator<Item = Row<'_>> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = postcard::take_from_bytes(rest);
        let taken =
            taken.inspect_err(|error| tracing::warn!(%error, "records of the history cannot be read"));
        let (row, left) = taken.ok()?;
        rest = left;
        Some(row)
    })
}

/// The time since 1970, which a clock may be before.
pub fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Row<'_> {
    fn is_failure(&self) -> bool {
        let (exit, restarted) = (self.exit, self.restarted);
        proto::Outcome { exit, restarted, ..self.state.into() }.is_failure()
    }

    fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.time)
    }

    /// The memory of its record in bytes.
    pub fn size(&self) -> usize {
        let texts = [Some(self.path), self.old_path, self.exe, self.output, self.error.map(str::as_bytes)];
        size_of::<Record>() + texts.into_iter().flatten().map(<[u8]>::len).sum::<usize>()
    }

    pub fn facts(&self) -> Facts<'_> {
        Facts {
            rule: self.rule,
            is_failure: self.is_failure(),
            time: self.time(),
            path: self.path,
            old_path: self.old_path,
            exe: self.exe,
            uid: self.uid,
        }
    }

    pub fn record(&self) -> Record {
        Record {
            seq: self.seq,
            time: wire::timestamp(self.time()),
            rule: self.rule,
            rule_name: self.rule_name.map(str::to_owned),
            events: Events::from_mask(self.events).names().map(str::to_owned).collect(),
            path: Text::from(self.path),
            old_path: self.old_path.map(Text::from),
            pid: self.pid,
            exe: self.exe.map(Text::from),
            uid: self.uid,
            synthetic: self.synthetic,
            repeated: self.repeated,
            merged: self.merged,
            outcome: proto::Outcome {
                state: self.state,
                pid: self.command,
                exit: self.exit,
                signal: self.signal,
                duration_ms: self.duration_ms,
                error: self.error.map(str::to_owned),
                by: self.by,
                output: self.output.map(Text::from),
                tries: self.tries,
                restarted: self.restarted,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::outcome::{Ended, Ending};
    use crate::job::testing::job;
    use crate::kernel::wait::Exit;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut first = job(u64::MAX, 7, "/srv/a");
        first.event.path = b"/\xff\0".as_slice().into();
        first.event.events = Events::ARRIVED.with(Events::ONDIR);
        first.event.old_path = Some(b"".as_slice().into());
        first.event.exe = Some(b"/bin/\xfe".as_slice().into());
        (first.event.uid, first.event.pid, first.event.synthetic) = (Some(u32::MAX), -1, true);
        (first.merged, first.tries, first.repeated) = (3, 2, true);
        let ended = Ended {
            pid: 9,
            exit: Exit::Code(3),
            ending: Ending::TimedOut,
            duration: Duration::from_micros(1500),
            output: Some(Text::from(&b"\xff\n"[..])),
        };
        let mut second = job(2, 8, "/srv/b");
        second.event.time = UNIX_EPOCH - Duration::from_secs(1);
        let outcomes = [Outcome::Ended(ended), Outcome::skipped("why")];
        let mut block = Vec::new();
        append(&mut block, &first, &outcomes[0]);
        append(&mut block, &second, &outcomes[1]);
        let read: Vec<_> = rows(&block).map(|row| row.record()).collect();
        assert_eq!(read, [wire::record(&first, &outcomes[0]), wire::record(&second, &outcomes[1])]);
        let failures: Vec<_> = rows(&block).map(|row| row.facts().is_failure).collect();
        assert_eq!(failures, [true, false]);
        for length in 0..block.len() {
            assert!(rows(&block[..length]).count() < 2);
        }
    }
}
