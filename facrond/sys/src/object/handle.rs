//! File handles, which identify an inode independently of its path.

use super::Object;
use crate::record::{FsId, Handle};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Opens the object of a handle, on the mount of the directory `mount`.
///
/// Needs `CAP_DAC_READ_SEARCH`. It is slow, and not meant for each event.
///
/// # Errors
/// `ESTALE` if the object is gone, and always on overlayfs; `EPERM` for ordinary users.
pub fn open_by_handle(mount: &Object, handle: Handle<'_>) -> Result<Object, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mount = openat(&mount.fd, ".", flags, Mode::empty())?;
    let mut room = HandleBuffer::default();
    room.0.0[..handle.bytes.len()].copy_from_slice(handle.bytes);
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the buffer holds a `struct file_handle` (length, type, bytes) that is as
    // long as it says, as `Handle` guarantees, and aligned.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), room.0.0.as_mut_ptr().cast(), flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Object::held(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `MAX_HANDLE_SZ` of `<linux/exportfs.h>`.
pub(crate) const MAX_HANDLE: usize = 128;
const ROOM: usize = 8 + MAX_HANDLE;
/// Asks for a handle that identifies the object, even if it cannot be opened; Linux 6.5.
pub(crate) const AT_HANDLE_FID: i32 = 0x200;

#[repr(align(8))]
#[derive(Debug)]
struct Aligned([u8; ROOM]);

#[derive(Debug)]
pub struct HandleBuffer(Aligned);

impl Default for HandleBuffer {
    fn default() -> Self {
        Self(Aligned([0; ROOM]))
    }
}

impl HandleBuffer {
    /// The `file_handle`, and the unused room behind it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.0
    }

    /// Asks for the handle of a descriptor's object, as the kernel's records contain it, and
    /// for the id of its file system.
    pub(super) fn ask_for_both(&mut self, fd: BorrowedFd<'_>) -> Result<FsId, Errno> {
        match self.ask(fd, AT_HANDLE_FID) {
            Err(Errno::EINVAL) => self.ask(fd, 0)?,
            other => other?,
        }
        fsid_of(fd)
    }

    pub(super) fn ask(&mut self, fd: BorrowedFd<'_>, flags: i32) -> Result<(), Errno> {
        let room = u32::try_from(MAX_HANDLE).expect("a small constant");
        self.0.0[..4].copy_from_slice(&room.to_ne_bytes());
        let mut mount_id = 0;
        let empty: &CStr = c"";
        // SAFETY: the pointer leads to a `struct file_handle` with `MAX_HANDLE` bytes
        // of room, as its length says, aligned to 8 bytes; the string is NUL-terminated.
        let result = unsafe {
            libc::name_to_handle_at(
                fd.as_raw_fd(),
                empty.as_ptr(),
                self.0.0.as_mut_ptr().cast(),
                &raw mut mount_id,
                AtFlags::AT_EMPTY_PATH.bits() | flags,
            )
        };
        Errno::result(result).map(drop)
    }
}

/// The file system id as fanotify reports it.
pub(super) fn fsid_of(fd: BorrowedFd<'_>) -> Result<FsId, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the pointer leads to room for one `struct statfs`, which the kernel fills.
    Errno::result(unsafe { libc::fstatfs(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so the structure is initialised.
    Ok(FsId::of(unsafe { stat.assume_init_ref() }))
}

impl FsId {
    /// As the file system itself tells it.
    pub(crate) fn of(stat: &libc::statfs) -> Self {
        // SAFETY: `fsid_t` is two ints without padding, as in fanotify's `__kernel_fsid_t`.
        Self(u64::from_ne_bytes(unsafe { std::mem::transmute::<libc::fsid_t, [u8; 8]>(stat.f_fsid) }))
    }

    /// A number made of the device, for file systems without an id.
    pub fn of_device(device: u64) -> Self {
        Self(device | 1 << 63)
    }
}
