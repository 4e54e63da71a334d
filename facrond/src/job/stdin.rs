//! `stdin=json`: the event on a command's standard input.
//!
//! All of it is written into a memory file before the command starts: however
//! slowly it reads, or not at all, nobody waits for it.

use super::Job;
use crate::wire::Input;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, BufWriter, IntoInnerError, Seek, Write};
use std::os::fd::OwnedFd;

/// A file that holds the job's events, one JSON object a line, at its beginning.
pub(super) fn json(job: &Job) -> io::Result<OwnedFd> {
    let mut file = BufWriter::new(File::from(memfd_create(c"facron-event", MFdFlags::MFD_CLOEXEC)?));
    for event in job.events() {
        serde_json::to_writer(&mut file, &Input(job, event))?;
        file.write_all(b"\n")?;
    }
    let mut file = file.into_inner().map_err(IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file.into())
}
