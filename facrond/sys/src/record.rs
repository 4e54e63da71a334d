//! Records of a fanotify group in FID mode, read in place.
//!
//! fanotify(7) describes the layout: a metadata structure, then information records with
//! file system id, file handle and name. Each length is checked.

/// A file system. Usually the id from `statfs(2)`; see [`FsId::or`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FsId(pub u64);

impl FsId {
    /// This id, or `other` if it is zero. File systems such as FUSE have no id. Each has a
    /// group of its own, which knows its number.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self.0 == 0 { other } else { self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle<'a> {
    pub fs: FsId,
    /// The handle's length, type and bytes, as the kernel lays out a `file_handle`.
    pub bytes: &'a [u8],
}

/// The bytes before the handle itself: its length and type.
const HANDLE_HEAD: usize = 8;

impl<'a> Handle<'a> {
    /// The `file_handle` at the start of `bytes`; `None` if it does not fit.
    pub fn from_prefix(fs: FsId, bytes: &'a [u8]) -> Option<Self> {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let bytes = bytes.get(..HANDLE_HEAD.checked_add(len)?)?;
        Some(Self { fs, bytes })
    }
}

/// A name in a directory. The name is `.` for the directory itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub dir: Handle<'a>,
    pub name: &'a [u8],
}

/// Errors of a file system since its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsError {
    /// The number of the first error, as in errno(3).
    pub number: i32,
    pub count: u32,
}

/// One record of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// Events and flags. Several events if the kernel has merged them.
    pub mask: u64,
    /// The process that caused it; 0 if the kernel hides it.
    pub pid: i32,
    pub entry: Option<Entry<'a>>,
    /// `FAN_RENAME`: the old name, if its directory is watched.
    pub old: Option<Entry<'a>>,
    /// `FAN_RENAME`: the new name, if its directory is watched.
    pub new: Option<Entry<'a>>,
    pub object: Option<Handle<'a>>,
    pub error: Option<FsError>,
    /// `FAN_MNT_ATTACH` and `FAN_MNT_DETACH`: the mount's unique number.
    pub mount: Option<u64>,
}

/// Where the pid is in a record.
pub(crate) const PID_OFFSET: usize = 20;

/// Stands for the pids of an earlier process and its commands; see [`crate::slots`].
pub const OWN_PID: i32 = i32::MIN;

const METADATA_LEN: usize = 24;
const INFO_HEAD: usize = 4;
const VERSION: u8 = 3;

const INFO_FID: u8 = 1;
const INFO_DFID_NAME: u8 = 2;
const INFO_DFID: u8 = 3;
const INFO_ERROR: u8 = 5;
const INFO_MNT: u8 = 7;
const INFO_OLD_DFID_NAME: u8 = 10;
const INFO_NEW_DFID_NAME: u8 = 12;

/// The records of one read. If the bytes make no sense, the last item is an error. The
/// kernel never sends such bytes.
#[derive(Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    fs: FsId,
}

/// Bytes that are no records of fanotify metadata version 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's records are malformed or of an unknown version")]
pub struct Malformed;

impl<'a> Records<'a> {
    /// The records in the bytes of one read. `fs` is the file system for records without an
    /// id.
    pub fn new(bytes: &'a [u8], fs: FsId) -> Self {
        Self { rest: bytes, fs }
    }

    /// How many bytes follow the last record.
    pub fn rest(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = parse(self.rest, self.fs);
        self.rest = parsed.map_or(&[], |(_, rest)| rest);
        Some(parsed.map(|(record, _)| record).ok_or(Malformed))
    }
}

fn parse(bytes: &[u8], fs: FsId) -> Option<(Record<'_>, &[u8])> {
    let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let head = usize::from(u16_at(bytes, 6)?);
    if bytes.get(4) != Some(&VERSION) || head < METADATA_LEN || len < head {
        return None;
    }
    let (this, rest) = bytes.split_at_checked(len)?;
    let mut record = Record {
        mask: u64::from_ne_bytes(this.get(8..16)?.try_into().ok()?),
        pid: u32_at(this, PID_OFFSET)?.cast_signed(),
        ..Record::default()
    };
    let mut infos = this.get(head..)?;
    while !infos.is_empty() {
        let info_len = usize::from(u16_at(infos, 2)?);
        if info_len < INFO_HEAD {
            return None;
        }
        let (info, others) = infos.split_at_checked(info_len)?;
        read_info(&mut record, info[0], &info[INFO_HEAD..], fs)?;
        infos = others;
    }
    Some((record, rest))
}

/// Takes over one information record. Unknown kinds are ignored.
fn read_info<'a>(record: &mut Record<'a>, kind: u8, body: &'a [u8], fs: FsId) -> Option<()> {
    match kind {
        INFO_FID => record.object = Some(identity(body, fs)?),
        INFO_DFID => record.entry = Some(Entry { dir: identity(body, fs)?, name: b"." }),
        INFO_DFID_NAME => record.entry = Some(named(body, fs)?),
        INFO_ERROR => {
            record.error = Some(FsError { number: u32_at(body, 0)?.cast_signed(), count: u32_at(body, 4)? });
        }
        INFO_MNT => record.mount = Some(u64::from_ne_bytes(body.get(4..12)?.try_into().ok()?)),
        INFO_OLD_DFID_NAME => record.old = Some(named(body, fs)?),
        INFO_NEW_DFID_NAME => record.new = Some(named(body, fs)?),
        _ => {}
    }
    Some(())
}

fn identity(body: &[u8], fs: FsId) -> Option<Handle<'_>> {
    let (id, handle) = body.split_first_chunk::<8>()?;
    Handle::from_prefix(FsId(u64::from_ne_bytes(*id)).or(fs), handle)
}

fn named(body: &[u8], fs: FsId) -> Option<Entry<'_>> {
    let dir = identity(body, fs)?;
    let name = &body[8 + dir.bytes.len()..];
    let end = name.iter().position(|b| *b == 0)?;
    Some(Entry { dir, name: &name[..end] })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Type, handle and name of an information record.
    type Info<'a> = (u8, &'a [u8], Option<&'a [u8]>);

    /// A record as the kernel lays it out.
    fn bytes_of(mask: u64, pid: i32, infos: &[Info<'_>]) -> Vec<u8> {
        let mut tail = Vec::new();
        for (kind, handle, name) in infos {
            let mut body = b"fsidfsid".to_vec();
            body.extend(u32::try_from(handle.len()).unwrap().to_ne_bytes());
            body.extend(1i32.to_ne_bytes());
            body.extend(*handle);
            if let Some(name) = name {
                body.extend(*name);
                body.push(0);
            }
            body.resize(body.len().next_multiple_of(4), 0);
            tail.extend([*kind, 0]);
            tail.extend(u16::try_from(body.len() + INFO_HEAD).unwrap().to_ne_bytes());
            tail.extend(body);
        }
        let len = u32::try_from(METADATA_LEN + tail.len()).unwrap();
        let mut out = len.to_ne_bytes().to_vec();
        out.extend([VERSION, 0, 24, 0]);
        out.extend(mask.to_ne_bytes());
        out.extend((-1i32).to_ne_bytes());
        out.extend(pid.to_ne_bytes());
        out.extend(tail);
        out
    }

    fn sample() -> Vec<u8> {
        let mut bytes =
            bytes_of(8, 42, &[(INFO_DFID_NAME, b"dirhandl", Some(b"a\xff b")), (INFO_FID, b"file", None)]);
        bytes.extend(bytes_of(
            0x1000_0000,
            7,
            &[
                (INFO_OLD_DFID_NAME, b"d1", Some(b"x")),
                (INFO_NEW_DFID_NAME, b"d2", Some(b"y")),
                (99, b"??", None),
            ],
        ));
        bytes
    }

    #[test]
    fn names_and_handles_are_read_in_place() {
        let bytes = sample();
        let records: Vec<_> = Records::new(&bytes, FsId(1)).map(Result::unwrap).collect();
        let [write, rename] = records[..] else { panic!("{records:?}") };
        assert_eq!((write.mask, write.pid, write.entry.unwrap().name), (8, 42, &b"a\xff b"[..]));
        assert_eq!(&write.object.unwrap().bytes[HANDLE_HEAD..], b"file");
        assert_eq!((rename.old.unwrap().name, rename.new.unwrap().name), (&b"x"[..], &b"y"[..]));
        assert_eq!(rename.entry, None);
    }

    #[test]
    fn an_overflow_has_no_information() {
        let bytes = bytes_of(0x4000, 0, &[]);
        assert_eq!(
            Records::new(&bytes, FsId(1)).next(),
            Some(Ok(Record { mask: 0x4000, ..Record::default() }))
        );
    }

    /// As read from Linux 6.18.
    #[test]
    fn errors_and_mounts() {
        let head = |len: u8, mask: u64| {
            let mut bytes = vec![len, 0, 0, 0, VERSION, 0, 24, 0];
            bytes.extend(mask.to_ne_bytes());
            bytes.extend([0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0]);
            bytes
        };
        let mut bytes = head(56, 0x8000);
        bytes.extend([INFO_FID, 0, 20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0xff, 0, 0, 0]);
        bytes.extend([INFO_ERROR, 0, 12, 0, 117, 0, 0, 0, 2, 0, 0, 0]);
        bytes.extend(head(40, 0x0100_0000));
        bytes.extend([INFO_MNT, 0, 16, 0, 0, 0, 0, 0, 0x56, 0, 0, 0x80, 0, 0, 0, 0]);
        let records: Vec<_> = Records::new(&bytes, FsId(1)).map(Result::unwrap).collect();
        let [error, mount] = records[..] else { panic!("{records:?}") };
        assert_eq!(error.error, Some(FsError { number: 117, count: 2 }));
        assert_eq!(error.object.unwrap().fs, FsId(u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8])));
        assert_eq!((mount.mount, mount.pid), (Some(0x8000_0056), 7));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes: Vec<u8>) {
            for _ in Records::new(&bytes, FsId(1)) {}
        }

        #[test]
        fn truncation_is_an_error(cut in 1..200usize) {
            let bytes = sample();
            let whole = bytes_of(8, 42, &[(INFO_DFID_NAME, b"dirhandl", Some(b"a\xff b")), (INFO_FID, b"file", None)]).len();
            prop_assume!(cut < bytes.len() && cut != whole);
            prop_assert_eq!(Records::new(&bytes[..cut], FsId(1)).last(), Some(Err(Malformed)));
        }

        #[test]
        fn one_wrong_byte_is_never_a_panic(at: prop::sample::Index, value: u8) {
            let mut bytes = sample();
            let at = at.index(bytes.len());
            bytes[at] = value;
            for _ in Records::new(&bytes, FsId(1)) {}
        }
    }
}
