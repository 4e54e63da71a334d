//! `stdin=json`: the event on a command's standard input.
//!
//! All of it is written into a memory file before the command starts: however
//! slowly it reads, or not at all, nobody waits for it.

use super::Job;
use facron_proto::{RuleId, Text};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;

/// An event as a command reads it; the members are those of a record.
#[derive(Debug, Serialize)]
struct Input<'a> {
    seq: u64,
    time: String,
    rule: RuleId,
    rule_name: Option<&'a str>,
    events: Vec<&'static str>,
    mask: u64,
    path: Text,
    old_path: Option<Text>,
    pid: i32,
    exe: Option<Text>,
    uid: Option<u32>,
    synthetic: bool,
}

/// A file that holds the job's event, one JSON object a line, at its beginning.
pub(super) fn json(job: &Job) -> io::Result<OwnedFd> {
    let event = &job.event;
    let mut line = serde_json::to_vec(&Input {
        seq: job.seq,
        time: humantime::format_rfc3339_nanos(event.time).to_string(),
        rule: job.rule,
        rule_name: job.spec.options.name.as_deref(),
        events: event.events.names().collect(),
        mask: event.mask,
        path: Text::from(&*event.path),
        old_path: event.old_path.as_deref().map(Text::from),
        pid: event.pid,
        exe: event.exe.as_deref().map(Text::from),
        uid: event.uid,
        synthetic: event.synthetic,
    })?;
    line.push(b'\n');
    let mut file = File::from(memfd_create(c"facron-event", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&line)?;
    file.rewind()?;
    Ok(file.into())
}
