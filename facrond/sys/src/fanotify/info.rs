//! The kernel's own list of a group's flags and marks, in `/proc/self/fdinfo`
//! (`proc_pid_fdinfo(5)`).

use nix::libc;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A mark of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The device of its file system.
    pub device: u64,
    pub mask: u64,
    /// The events that it ignores.
    pub ignored: u64,
    /// The bytes of the inode's `file_handle`; `None` for the mark of a whole file system.
    pub handle: Option<Vec<u8>>,
}

fn lines(group: BorrowedFd<'_>) -> io::Result<impl Iterator<Item = String> + use<>> {
    let file = File::open(format!("/proc/self/fdinfo/{}", group.as_raw_fd()))?;
    Ok(BufReader::new(file).lines().map_while(Result::ok))
}

/// The line with the flags of a group.
pub(super) fn flags(group: BorrowedFd<'_>) -> Option<String> {
    lines(group).ok()?.find(|line| line.starts_with("fanotify flags:"))
}

/// The marks of a group on inodes and file systems.
pub(super) fn marks(group: BorrowedFd<'_>) -> io::Result<impl Iterator<Item = Listed> + use<>> {
    Ok(lines(group)?.filter_map(|line| parse(&line)))
}

/// `fanotify ino:4f969 sdev:800013 mflags:0 mask:3b ignored_mask:40000000 fhandle-bytes:8
/// fhandle-type:1 f_handle:69f90400c275b5b4`, and for a file system without inode and handle.
fn parse(line: &str) -> Option<Listed> {
    let fields = line.strip_prefix("fanotify ")?;
    let field = |name: &str| {
        let mut values = fields.split(' ').filter_map(|field| field.strip_prefix(name)?.strip_prefix(':'));
        values.next()
    };
    let number = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
    let device = number("sdev")?;
    let handle = match field("f_handle") {
        Some(digits) => {
            let head = [number("fhandle-bytes")?, number("fhandle-type")?].map(u32::try_from);
            let [len, kind] = [head[0].ok()?, head[1].ok()?];
            Some([&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &bytes(digits)?].concat())
        }
        // An inode whose file system did not say its handle.
        None if number("ino").is_some() => return None,
        None => None,
    };
    Some(Listed {
        // As the kernel numbers devices internally.
        device: libc::makedev(u32::try_from(device >> 20).ok()?, u32::try_from(device & 0xf_ffff).ok()?),
        mask: number("mask")?,
        ignored: number("ignored_mask")?,
        handle,
    })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_marks() {
        let inode = "fanotify ino:4f969 sdev:800013 mflags:0 mask:3b ignored_mask:40000000 \
                     fhandle-bytes:8 fhandle-type:1 f_handle:69f90400c275b5b4";
        let handle = [&8u32.to_ne_bytes()[..], &1u32.to_ne_bytes(), b"\x69\xf9\x04\x00\xc2\x75\xb5\xb4"];
        let listed = Listed {
            device: libc::makedev(8, 19),
            mask: 0x3b,
            ignored: 0x4000_0000,
            handle: Some(handle.concat()),
        };
        assert_eq!(parse(inode), Some(listed));
        let whole = "fanotify sdev:1b mflags:0 mask:8 ignored_mask:0";
        let listed = Listed { device: libc::makedev(0, 27), mask: 8, ignored: 0, handle: None };
        assert_eq!(parse(whole), Some(listed));
        for other in
            ["pos:\t0", "fanotify flags:10 event-flags:0", "fanotify ino:1 sdev:2 mask:3 ignored_mask:0"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
