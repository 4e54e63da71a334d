//! Groups for what is not about one file: mounts, and errors of file systems.

use super::{Group, Privilege, UNLIMITED, init};
use crate::kernel::object::Object;
use nix::errno::Errno;
use nix::libc;
use std::fs::File;
use std::os::fd::AsRawFd;

const BASE: u32 = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | UNLIMITED;
/// Linux 6.14.
const REPORT_MNT: u32 = 0x4000;
const MARK_MNTNS: u32 = 0x110;

impl Group {
    /// A group whose records have a mount each, marked for these events of the
    /// mount namespace that this process is in.
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

    /// A group for marks of whole file systems whose records have no names.
    ///
    /// # Errors
    /// `EPERM` for ordinary users.
    pub fn for_file_systems() -> Result<Self, Errno> {
        Self::special(libc::FAN_REPORT_FID)
    }

    /// Adds `mask` to the mark of the file system that an object is on.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where it does not report errors or has no handles, `EXDEV` on a
    /// subvolume of btrfs, `EINVAL` before Linux 5.16.
    pub fn add_file_system_mark(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        self.mark(libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM, object, mask)
    }

    /// Takes `mask` out of that mark. A mark that is not there is no error.
    pub fn remove_file_system_mark(&self, object: &Object, mask: u64) -> Result<(), Errno> {
        match self.mark(libc::FAN_MARK_REMOVE | libc::FAN_MARK_FILESYSTEM, object, mask) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn special(report: u32) -> Result<Self, Errno> {
        let fd = init(BASE | report)?;
        Ok(Self { fd, privilege: Privilege::Full, target_fid: false })
    }
}
