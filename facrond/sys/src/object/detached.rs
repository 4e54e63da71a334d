//! Detached copies of mounts, through which a file system can be looked at while it is
//! unmounted.
//!
//! A process that has a descriptor on a mount makes umount(8) fail with `EBUSY`. A detached
//! copy (`open_tree(2)`, `OPEN_TREE_CLONE`) is not part of the tree of mounts. A descriptor
//! that was opened through it keeps the file system alive, but not the mount busy.

use super::Object;
use nix::errno::Errno;
use nix::libc;
use std::ffi::CString;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

const OPEN_TREE_CLONE: libc::c_uint = 1;

/// A detached copy of a mount. Objects that were opened through it stay open after it is
/// dropped.
#[derive(Debug)]
pub struct DetachedMount {
    point: Box<[u8]>,
    root: OwnedFd,
}

impl DetachedMount {
    /// Copies the mount at `point`, in one call. A descriptor on the mount itself could make an
    /// unmount at the same moment fail.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`, `ENOSYS` before Linux 5.2, else those of
    /// `open_tree(2)`.
    pub fn of(point: &[u8]) -> Result<Self, Errno> {
        let path = CString::new(point).map_err(|_| Errno::EINVAL)?;
        let flags = OPEN_TREE_CLONE | (libc::AT_SYMLINK_NOFOLLOW | libc::O_CLOEXEC).cast_unsigned();
        // SAFETY: the string is NUL-terminated; the rest are numbers.
        let root = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
        let root = i32::try_from(Errno::result(root)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        Ok(Self { point: point.into(), root: unsafe { OwnedFd::from_raw_fd(root) } })
    }

    /// The mount point of the original.
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// As [`Object::open`], for a path at or below the mount point. Other mounts below it are
    /// not part of the copy.
    pub fn open(&self, path: &[u8]) -> Result<Object, Errno> {
        let below = path.strip_prefix(&*self.point).ok_or(Errno::ENOENT)?;
        match below.strip_prefix(b"/") {
            None if below.is_empty() => Object::held(self.root.try_clone().map_err(|_| Errno::EMFILE)?),
            None => Err(Errno::ENOENT),
            Some(below) => Object::open_at(self.root.as_fd(), below),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::time::{Duration, Instant};

    #[test]
    fn what_is_open_keeps_no_mount_busy() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_owned();
        mount(Some("none"), &at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        std::fs::create_dir(at.join("below")).unwrap();
        let point = at.as_os_str().as_bytes();
        let path = [point, b"/below"].concat();
        let busy = Object::open(Path::new(OsStr::from_bytes(&path))).unwrap();
        assert_eq!(umount2(&at, MntFlags::empty()), Err(Errno::EBUSY));
        let detached = DetachedMount::of(point).unwrap();
        let below = detached.open(&path).unwrap();
        assert_eq!(below.inode(), busy.inode());
        assert_eq!(detached.open(&[point, b"x"].concat()).unwrap_err(), Errno::ENOENT);
        drop(detached);
        drop(busy);
        // Children of other tests have copies of it until they reach their programs.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(errno) = umount2(&at, MntFlags::empty()) {
            assert!(errno == Errno::EBUSY && Instant::now() < deadline, "{errno}");
            std::thread::yield_now();
        }
        assert_eq!(below.entries().unwrap(), []);
    }
}
