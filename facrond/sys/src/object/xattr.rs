//! Extended attributes (xattr(7)), with access control lists among them.

use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

/// How much the kernel takes at most (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MOST: usize = 64 * 1024;

/// Gives a file the extended attributes of another one. Those that this process may not set, or
/// the file system does not have, are left out, as mv(1) does.
pub fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let (mut names, mut value) = (vec![0u8; MOST], vec![0u8; MOST]);
    // SAFETY: there is room for as many bytes as it says.
    let length = unsafe { libc::flistxattr(from.as_raw_fd(), names.as_mut_ptr().cast(), MOST) };
    let names = match Errno::result(length) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Ok(()),
        length => &names[..length?.cast_unsigned()],
    };
    for name in
        names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
    {
        // SAFETY: the name is NUL-terminated, and there is room for as many bytes as it says.
        let length =
            unsafe { libc::fgetxattr(from.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), MOST) };
        let Ok(length) = Errno::result(length) else { continue };
        let length = length.cast_unsigned();
        // SAFETY: the name is NUL-terminated, and the value has as many bytes.
        let set = unsafe { libc::fsetxattr(to.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), length, 0) };
        match Errno::result(set) {
            Err(Errno::EPERM | Errno::EACCES | Errno::EOPNOTSUPP | Errno::EINVAL) => {}
            result => drop(result?),
        }
    }
    Ok(())
}
