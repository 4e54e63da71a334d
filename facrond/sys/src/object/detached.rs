//! Mounts that can be unmounted while somebody looks at what is there.
//!
//! Whoever has a descriptor on a mount makes umount(8) fail with `EBUSY`. A descriptor
//! that was opened through a copy of the mount, which is nowhere in the tree of mounts
//! (`open_tree(2)`, `OPEN_TREE_CLONE`), keeps the file system, but not the mount.

use super::Object;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc;
use std::ffi::{CString, OsStr};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const OPEN_TREE_CLONE: libc::c_uint = 1;

/// A copy of a mount. When it is dropped, what was opened through it stays open.
#[derive(Debug)]
pub struct DetachedMount {
    point: Box<[u8]>,
    root: OwnedFd,
}

impl DetachedMount {
    /// Of what is mounted at `point`. In one call: a descriptor on the mount itself, however
    /// briefly, could meet its unmounting.
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

    /// Where the mount is that it is a copy of.
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// As [`Object::open`], of a path at or below the mount point; what is mounted below
    /// is not seen.
    pub fn open(&self, path: &[u8]) -> Result<Object, Errno> {
        let below = path.strip_prefix(&*self.point).ok_or(Errno::ENOENT)?;
        match below.strip_prefix(b"/") {
            None if below.is_empty() => Object::held(self.root.try_clone().map_err(|_| Errno::EMFILE)?),
            None => Err(Errno::ENOENT),
            Some(below) => {
                let how = OpenHow::new()
                    .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
                    .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
                Object::held(openat2(&self.root, Path::new(OsStr::from_bytes(below)), how)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::mount::{MntFlags, MsFlags, mount, umount2};

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
        umount2(&at, MntFlags::empty()).unwrap();
        assert_eq!(below.entries().unwrap(), []);
    }
}
