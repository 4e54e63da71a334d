//! `stdin=json` and `stdin=file`: the event, or its file, on a command's standard input.
//!
//! All of the event is written into a memory file before the command starts: however
//! slowly it reads, or not at all, nobody waits for it.

use super::Job;
use super::error::StartError;
use crate::kernel::record::FsId;
use crate::kernel::spawn::Input;
use crate::wire;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufWriter, IntoInnerError, Seek, Write};
use std::os::fd::OwnedFd;

/// `stdin=file`: the file of the job's event, by its name, and what identifies it.
pub(super) fn file(job: &Job) -> Result<Input, StartError> {
    let object = job.event.object.as_ref().ok_or(StartError::Unidentified)?;
    let path = CString::new(&*job.event.path)?;
    Ok(Input::File { path, fs: FsId(object.fs), handle: object.handle.clone() })
}

/// A file that holds the job's events, one JSON object a line, at its beginning.
pub(super) fn json(job: &Job) -> io::Result<OwnedFd> {
    let mut file = BufWriter::new(File::from(memfd_create(c"facron-event", MFdFlags::MFD_CLOEXEC)?));
    for event in job.events() {
        serde_json::to_writer(&mut file, &wire::Input(job, event))?;
        file.write_all(b"\n")?;
    }
    let mut file = file.into_inner().map_err(IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file.into())
}
