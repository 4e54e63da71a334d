//! A command for rules that writes down how it was run.
//!
//! ```text
//! e2e-recorder argv FILE [ARGUMENT...]    its arguments
//! e2e-recorder state FILE                 what it has inherited
//! e2e-recorder allow FILE                 nothing: allows all openings of FILE, until killed
//! ```
//!
//! A record is the number of its words, the time (nanoseconds since 1970) and the
//! words, each closed by a NUL. It is appended by one write, so that records of
//! commands that run at the same time stay whole.

use facron_config::events::Events;
use facron_sys::object::Object;
use facron_sys::permission::{Answer, Group, Told};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

fn main() -> io::Result<()> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let mut args = env::args_os().skip(1);
    let (Some(what), Some(file)) = (args.next(), args.next()) else {
        return Err(io::Error::other("usage: e2e-recorder argv|state FILE [ARGUMENT...]"));
    };
    if what == "allow" {
        return allow(Path::new(&file));
    }
    let words = if what == "state" { state()? } else { args.collect() };
    let mut record = format!("{}\0{}\0", words.len(), started.as_nanos()).into_bytes();
    for word in words {
        record.extend_from_slice(word.as_bytes());
        record.push(0);
    }
    fs::OpenOptions::new().append(true).create(true).open(file)?.write_all(&record)
}

/// The least that any program has to do which is asked for permission.
fn allow(file: &Path) -> io::Result<()> {
    let mut group = Group::open()?;
    group.add_mark(&Object::open(&fs::canonicalize(file)?)?, Events::OPEN_PERM.mask())?;
    println!("ready");
    let mut told = Vec::new();
    loop {
        poll(&mut [PollFd::new(group.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        group.read(&mut told)?;
        for told in told.drain(..) {
            if let Told::Held(held) = told {
                group.answer(held.fd.as_fd(), Answer::Allow)?;
            }
        }
    }
}

/// `NAME=value` words: the environment as it is, and the rest under names in
/// lower case.
fn state() -> io::Result<Vec<OsString>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // the fields behind the name: state, parent, process group, session
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let pid = std::process::id().to_string();
    let mut words = vec![
        word("cwd", env::current_dir()?),
        word("descriptors", open_descriptors()?),
        word("stdin", fs::read_link("/proc/self/fd/0")?),
        word("leads_group", (fields.get(2) == Some(&&*pid)).to_string()),
        word("leads_session", (fields.get(3) == Some(&&*pid)).to_string()),
    ];
    words.extend(env::vars_os().map(|(name, value)| word(name, value)));
    Ok(words)
}

fn word(name: impl Into<OsString>, value: impl Into<OsString>) -> OsString {
    let mut word = name.into();
    word.push("=");
    word.push(value.into());
    word
}

/// Their numbers, but for the one that looks.
fn open_descriptors() -> io::Result<String> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let is_the_looking_one =
            fs::read_link(entry.path())?.parent() == Some(Path::new("/proc").join(pid()).as_path());
        if !is_the_looking_one {
            numbers.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    numbers.sort();
    Ok(numbers.join(" "))
}

fn pid() -> String {
    std::process::id().to_string()
}
