//! Groups for events that are not about one file: mounts, and errors of file systems.

use super::{Group, Privilege, UNLIMITED, init};
use nix::errno::Errno;
use nix::libc;
use std::fs::File;
use std::os::fd::AsRawFd;

const BASE: u32 = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | UNLIMITED;
/// `FAN_REPORT_MNT`, since Linux 6.14.
const REPORT_MNT: u32 = 0x4000;
const MARK_MNTNS: u32 = 0x110;

impl Group {
    /// A group for these events of the mount namespace of this process. Each record
    /// contains a mount.
    ///
    /// # Errors
    /// `EINVAL` before Linux 6.14, `EPERM` for ordinary users.
    pub fn for_mounts(mask: u64) -> Result<Self, Errno> {
        let group = Self::special(REPORT_MNT)?;
        let namespace = File::open("/proc/self/ns/mnt")
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        let flags = libc::FAN_MARK_ADD | MARK_MNTNS;
        // SAFETY: without a path the call takes no pointer.
        let result = unsafe {
            libc::fanotify_mark(group.fd.as_raw_fd(), flags, mask, namespace.as_raw_fd(), std::ptr::null())
        };
        Errno::result(result).map(|_| group)
    }

    /// A group for marks of whole file systems, whose records have no names.
    pub fn for_file_systems() -> Result<Self, Errno> {
        Self::special(libc::FAN_REPORT_FID)
    }

    fn special(report: u32) -> Result<Self, Errno> {
        let fd = init(BASE | report)?;
        Ok(Self { fd, privilege: Privilege::Full, target_fid: false })
    }
}
