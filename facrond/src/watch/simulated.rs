//! A tree of directories that no kernel knows, for benchmarks.

use super::mirror::Mirror;
use super::recheck::{Facts, Lanes};
use super::rules::Moves;
use super::scanner::{Answer, Found, InodeKey, Probe};
use crate::config::{Words, parse_words};
use crate::events::Events;
use crate::kernel::fanotify::Privilege;
use crate::kernel::object::{DirEntry, Kind};
use crate::kernel::record::{Entry, FsId, Handle, Record};
use facron_proto::RuleId;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

const FS: FsId = FsId(1);

/// `/srv` with directories in it, watched by a recursive rule.
#[derive(Debug)]
pub struct Tree(Mirror);

impl Tree {
    /// A tree of as many directories.
    pub fn new(directories: u64) -> Self {
        let words =
            Words { path: b"/srv", events: b"CLOSE_WRITE", options: b"recursive", command: vec![b"-"] };
        let (spec, _) = parse_words(&words).expect("it is a rule");
        let mut mirror = Mirror::new(Moves::Rename, Privilege::Full);
        mirror.attach(RuleId(1), Rc::new(spec), None);
        let now = Instant::now();
        loop {
            if mirror.pass_some(0) {
                continue;
            }
            let Some(task) = mirror.take_task(now, Lanes::Background) else { break };
            let answer = look(&mirror.probe(&task), directories);
            mirror.apply(task, answer, (now, SystemTime::UNIX_EPOCH));
        }
        Self(mirror)
    }

    /// Whether a directory is known by its handle.
    pub fn knows(&self, directory: u64) -> bool {
        let handle = handle(directory + 3);
        self.0.tree.places(Handle { fs: FS, bytes: &handle }).next().is_some()
    }

    /// Matches a record of a file in a directory; how many rules it fires.
    pub fn on_close(&mut self, directory: u64, name: &[u8]) -> usize {
        let handle = handle(directory + 3);
        let entry = Entry { dir: Handle { fs: FS, bytes: &handle }, name };
        let record =
            Record { mask: Events::CLOSE_WRITE.mask(), pid: 1, entry: Some(entry), ..Record::default() };
        let mut fired = Vec::new();
        self.0.on_record(&record, &mut || false, &mut fired);
        fired.len()
    }
}

/// The root is the inode 1, `/srv` 2, and the directories in it begin with 3.
fn look(probe: &Probe, directories: u64) -> Answer {
    let (inode, names) = match (&*probe.path, &*probe.name) {
        (_, b"") => (1, Vec::new()),
        (b"/" | b"", b"srv") => (2, (0..directories).map(directory).collect()),
        (_, name) => match str::from_utf8(name).map(str::parse::<u64>) {
            Ok(Ok(number)) => (number + 3, Vec::new()),
            _ => return Answer::Absent,
        },
    };
    let facts = Facts {
        object: (FS, handle(inode).into()) as InodeKey,
        kind: Kind::Directory,
        size: 0,
        links: 2,
        changed: SystemTime::UNIX_EPOCH,
        modified: SystemTime::UNIX_EPOCH,
        born: None,
        complete: None,
    };
    let marked = Ok(probe.marked | probe.need.directory);
    Answer::Found(Box::new(Found {
        facts,
        link: Box::default(),
        marked,
        was_lost: false,
        entries: Some(Ok(names)),
    }))
}

fn directory(number: u64) -> DirEntry {
    (number.to_string().into_bytes().into(), Some(Kind::Directory))
}

fn handle(inode: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = 8;
    bytes[8..].copy_from_slice(&inode.to_ne_bytes());
    bytes
}
