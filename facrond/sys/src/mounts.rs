//! Mounts by their unique numbers: statmount(2) and listmount(2), Linux 6.8.

use nix::errno::Errno;
use nix::libc::{self, c_long};

/// The path of a mount point, from the root directory of this process.
pub type MountPoint = Box<[u8]>;

const SYS_STATMOUNT: c_long = 457;
const SYS_LISTMOUNT: c_long = 458;

/// `struct mnt_id_req`, its first version.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    param: u64,
}

impl Request {
    fn new(mount: u64, param: u64) -> Self {
        let size = u32::try_from(size_of::<Self>()).expect("a small structure");
        Self { size, spare: 0, mount, param }
    }
}

const WANT_MOUNT_POINT: u64 = 0x10;
/// `LSMT_ROOT`: all mounts of the namespace.
const ALL: u64 = u64::MAX;
/// Offsets in `struct statmount`: of the field for the mount point, and of the strings.
const MOUNT_POINT: usize = 108;
const STRINGS: usize = 512;
/// Room for the structure and the longest path.
const ROOM: usize = STRINGS + 4096;

/// The mount point of a mount.
///
/// # Errors
/// `ENOENT` if there is no such mount in this namespace, `ENOSYS` before Linux 6.8.
pub fn mount_point(mount: u64) -> Result<MountPoint, Errno> {
    let request = Request::new(mount, WANT_MOUNT_POINT);
    let mut room = Room([0; ROOM]);
    // SAFETY: the request has the size that it says; the kernel writes at most the
    // bytes of the room that it is told of, which is aligned as the structure is.
    let result = unsafe {
        libc::syscall(SYS_STATMOUNT, &raw const request, room.0.as_mut_ptr(), ROOM, 0 as libc::c_ulong)
    };
    Errno::result(result)?;
    let offset = room.0[MOUNT_POINT..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let start = usize::try_from(offset).ok().and_then(|offset| STRINGS.checked_add(offset));
    let path = start.and_then(|start| room.0.get(start..)).and_then(|bytes| bytes.split(|b| *b == 0).next());
    path.filter(|path| !path.is_empty()).map(Box::from).ok_or(Errno::ENOENT)
}

#[repr(align(8))]
struct Room([u8; ROOM]);

/// The numbers of all mounts of this namespace.
pub fn all() -> Result<Vec<u64>, Errno> {
    const ONCE: usize = 256;
    let mut mounts = Vec::new();
    loop {
        let request = Request::new(ALL, mounts.last().copied().unwrap_or(0));
        let mut some = [0u64; ONCE];
        // SAFETY: the request has the size that it says; the kernel writes at most
        // as many numbers as it is told there is room for.
        let count = unsafe {
            libc::syscall(SYS_LISTMOUNT, &raw const request, some.as_mut_ptr(), ONCE, 0 as libc::c_ulong)
        };
        let count = usize::try_from(Errno::result(count)?).unwrap_or_default().min(ONCE);
        mounts.extend(&some[..count]);
        if count < ONCE {
            return Ok(mounts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mounts_have_a_place() {
        let points: Vec<_> = all().unwrap().into_iter().filter_map(|mount| mount_point(mount).ok()).collect();
        assert!(points.iter().any(|point| &**point == b"/proc"), "{points:?}");
        assert_eq!(mount_point(u64::MAX / 2), Err(Errno::ENOENT));
    }
}
