//! What a file-system worker is asked, and what it answers: packets of bounded size.

use crate::kernel::object::{DirEntry, Kind};
use crate::kernel::record::FsId;
use crate::watch::recheck::Facts;
use crate::watch::scanner::{Answer, Found, InodeKey, Probe};
use facron_proto::Text;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One request. They are answered in their order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Another number when the table of mounts has changed: nothing may be kept open.
    pub(super) epoch: u64,
    /// Where something is mounted, as far as it is on the way to what is asked about.
    pub(super) mount_points: Vec<Text>,
    /// The file system that may be marked, if the group is for one alone: something else
    /// may be there since.
    pub(super) device: Option<u64>,
    pub(super) order: Order,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Look at a place. The group comes with it if there is something to mark.
    Look(Probe),
    /// Take these events out of the mark of an inode, which is at one of the paths or on
    /// the file system of one of them.
    Reduce {
        fs: u64,
        #[serde(with = "bytes")]
        handle: Box<[u8]>,
        excess: u64,
        paths: Vec<Text>,
    },
    /// Ask the server for what is at a path, whatever the answer is.
    Check(#[serde(with = "bytes")] Vec<u8>),
}

/// A time before or after the epoch: seconds, rounded down, and nanoseconds.
type Time = (i64, u32);

/// One packet of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Some entries of a directory, each as a digit for its kind, its name and a NUL. More
    /// packets follow.
    Entries(#[serde(with = "bytes")] Vec<u8>),
    DirectoryGone,
    Absent,
    Failed(i32),
    Found(Box<Report>),
    /// What was to be done is done.
    Done,
}

/// What was found, but for the entries, which were sent before.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    fs: u64,
    #[serde(with = "bytes")]
    handle: Box<[u8]>,
    kind: u8,
    size: u64,
    links: u64,
    changed: Time,
    modified: Time,
    born: Option<Time>,
    complete: Option<bool>,
    #[serde(with = "bytes")]
    link: Box<[u8]>,
    marked: Result<u64, i32>,
    was_lost: bool,
    read: Option<Result<(), i32>>,
}

impl Reply {
    /// The last packet of an answer, and the entries, which are sent before it.
    pub(super) fn of(answer: Answer) -> (Self, Vec<DirEntry>) {
        let found = match answer {
            Answer::DirectoryGone => return (Self::DirectoryGone, Vec::new()),
            Answer::Absent => return (Self::Absent, Vec::new()),
            Answer::Failed(errno) => return (Self::Failed(errno as i32), Vec::new()),
            Answer::Found(found) => *found,
        };
        let Found { facts, link, marked, was_lost, entries } = found;
        let Facts { object: (fs, handle), kind, size, links, changed, modified, born, complete } = facts;
        let report = Report {
            fs: fs.0,
            handle,
            kind: Kind::digit(Some(kind)),
            size,
            links,
            changed: to_time(changed),
            modified: to_time(modified),
            born: born.map(to_time),
            complete,
            link,
            marked: marked.map_err(|errno| errno as i32),
            was_lost,
            read: entries.as_ref().map(|entries| entries.as_ref().map(drop).map_err(|errno| *errno as i32)),
        };
        (Self::Found(Box::new(report)), entries.and_then(Result::ok).unwrap_or_default())
    }
}

impl Report {
    /// As the one who asked takes it, with the entries that came before it.
    pub(super) fn found(self, entries: Vec<DirEntry>) -> Found {
        let facts = Facts {
            object: (FsId(self.fs), self.handle),
            kind: Kind::of_digit(self.kind).unwrap_or(Kind::Other),
            size: self.size,
            links: self.links,
            changed: of_time(self.changed),
            modified: of_time(self.modified),
            born: self.born.map(of_time),
            complete: self.complete,
        };
        let marked = self.marked.map_err(Errno::from_raw);
        let entries = self.read.map(|read| read.map(|()| entries).map_err(Errno::from_raw));
        Found { facts, link: self.link, marked, was_lost: self.was_lost, entries }
    }
}

/// Some entries as they travel.
pub(super) fn pack(entries: &[DirEntry]) -> Vec<u8> {
    let packed = entries.iter().flat_map(|(name, kind)| [&[Kind::digit(*kind)], &**name, b"\0"].concat());
    packed.collect()
}

/// The entries of a packet.
pub(super) fn unpack(packed: &[u8]) -> impl Iterator<Item = DirEntry> {
    let entries = packed.split(|byte| *byte == 0).filter_map(<[u8]>::split_first);
    entries.map(|(kind, name)| (name.into(), Kind::of_digit(*kind)))
}

fn to_time(time: SystemTime) -> Time {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (seconds(after), after.subsec_nanos()),
        Err(before) => match before.duration() {
            whole if whole.subsec_nanos() == 0 => (-seconds(whole), 0),
            before => (-seconds(before) - 1, 1_000_000_000 - before.subsec_nanos()),
        },
    }
}

fn of_time((seconds, nanos): Time) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    start.and_then(|start| start.checked_add(Duration::from_nanos(nanos.into()))).unwrap_or(UNIX_EPOCH)
}

/// How bytes travel: as text where they are some.
pub(in crate::watch) mod bytes {
    use facron_proto::Text;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::watch) fn serialize<S: Serializer>(
        bytes: impl AsRef<[u8]>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        Text::from(bytes.as_ref()).serialize(to)
    }

    pub(in crate::watch) fn deserialize<'d, D: Deserializer<'d>, B: From<Vec<u8>>>(
        from: D,
    ) -> Result<B, D::Error> {
        Text::deserialize(from).map(|text| text.0.into())
    }
}

/// How a handle that is kept travels.
pub(in crate::watch) mod key {
    use super::{FsId, InodeKey};
    use facron_proto::Text;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(in crate::watch) fn serialize<S: Serializer>(
        key: &Option<InodeKey>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        key.as_ref().map(|(fs, bytes)| (fs.0, Text::from(&**bytes))).serialize(to)
    }

    pub(in crate::watch) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<Option<InodeKey>, D::Error> {
        let key: Option<(u64, Text)> = Deserialize::deserialize(from)?;
        Ok(key.map(|(fs, bytes)| (FsId(fs), bytes.0.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_travels() {
        let before = UNIX_EPOCH - Duration::new(7, 3);
        let facts = Facts {
            object: (FsId(1 << 63), Box::new([8, 0, 0, 0, 1, 0, 0, 0, 255])),
            kind: Kind::Directory,
            size: u64::MAX,
            links: 2,
            changed: UNIX_EPOCH + Duration::new(5, 999_999_999),
            modified: before,
            born: None,
            complete: Some(false),
        };
        let entries: Vec<DirEntry> =
            vec![(b"a\xff\n".as_slice().into(), Some(Kind::Link)), (b"b".as_slice().into(), None)];
        for entries in [None, Some(Ok(entries)), Some(Err(Errno::EIO))] {
            let found = Found {
                facts: facts.clone(),
                link: Box::default(),
                marked: Err(Errno::ENOSPC),
                was_lost: true,
                entries,
            };
            let before = format!("{found:?}");
            let (reply, entries) = Reply::of(Answer::Found(Box::new(found)));
            let text = serde_json::to_string(&reply).unwrap();
            let Reply::Found(report) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
            assert_eq!(format!("{:?}", report.found(unpack(&pack(&entries)).collect())), before);
        }
    }
}
