//! `stdin=json`: the event on a command's standard input.
//!
//! All of it is written into a memory file before the command starts: however
//! slowly it reads, or not at all, nobody waits for it.

use super::Job;
use crate::event::Event;
use facron_proto::{RuleId, Text};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, IntoInnerError, Seek, Write};
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

/// A file that holds the job's events, one JSON object a line, at its beginning.
pub(super) fn json(job: &Job) -> io::Result<OwnedFd> {
    let mut file = BufWriter::new(File::from(memfd_create(c"facron-event", MFdFlags::MFD_CLOEXEC)?));
    for event in job.events() {
        serde_json::to_writer(&mut file, &input(job, event))?;
        file.write_all(b"\n")?;
    }
    let mut file = file.into_inner().map_err(IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file.into())
}

fn input<'a>(job: &'a Job, event: &Event) -> Input<'a> {
    Input {
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
    }
}
