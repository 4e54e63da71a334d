//! The file on a command's standard input. The child opens it, and not the daemon, because a
//! server or a lease can let that wait.

use super::Input;
use super::raw::call;
use crate::object::{AT_HANDLE_FID, MAX_HANDLE};
use crate::record::FsId;
use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;
use std::mem::zeroed;

const HERE: usize = libc::AT_FDCWD.cast_unsigned() as usize;
const EMPTY_PATH: usize = libc::AT_EMPTY_PATH.cast_unsigned() as usize;
/// The length of the room for the bytes of a handle, as a handle itself has it.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const LENGTH: u32 = MAX_HANDLE as u32;
/// The length and the type of a handle.
const HANDLE_HEAD: usize = 8;

#[repr(align(8))]
struct Room([u8; HANDLE_HEAD + MAX_HANDLE]);

/// Puts the file in the place of descriptor 0. As all of [`child`](super::child), it makes only
/// raw calls.
pub(super) unsafe fn prepare(input: &Input) -> Result<(), Errno> {
    // SAFETY: all changes are of this process's own descriptors.
    unsafe {
        match input {
            Input::AsItIs => Ok(()),
            Input::Reopened => reopen(),
            Input::File { path, fs, handle } => {
                let file = open(path)?;
                call(libc::SYS_dup3, [file, 0, 0])?;
                check(*fs, handle)?;
                reopen()
            }
        }
    }
}

/// Opens the place, but not the file.
unsafe fn open(path: &CStr) -> Result<usize, Errno> {
    // SAFETY: the structure is made of integers; the path is NUL-terminated.
    unsafe {
        let mut how: libc::open_how = zeroed();
        how.flags = u64::from((libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC).cast_unsigned());
        how.resolve = libc::RESOLVE_NO_SYMLINKS;
        let how_size = size_of::<libc::open_how>();
        call(libc::SYS_openat2, [HERE, path.as_ptr() as usize, (&raw const how) as usize, how_size])
    }
}

/// Whether descriptor 0 is a regular file, and the one with this handle.
unsafe fn check(fs: FsId, handle: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel fills structures of integers, which are as large as it takes them for.
    unsafe {
        let (mut stat, mut system): (libc::statx, libc::statfs) = (zeroed(), zeroed());
        let empty = c"".as_ptr() as usize;
        let wanted = (libc::STATX_TYPE | libc::STATX_INO) as usize;
        call(libc::SYS_statx, [0, empty, EMPTY_PATH, wanted, (&raw mut stat) as usize])?;
        if u32::from(stat.stx_mode) & libc::S_IFMT != libc::S_IFREG {
            return Err(Errno::ESPIPE);
        }
        call(libc::SYS_fstatfs, [0, (&raw mut system) as usize])?;
        let device = libc::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        let found = FsId::of(&system).or(FsId::of_device(device));
        let mut room = Room([0; HANDLE_HEAD + MAX_HANDLE]);
        ask(&mut room, AT_HANDLE_FID.cast_unsigned() as usize).or_else(|errno| match errno {
            Errno::EINVAL => ask(&mut room, 0),
            errno => Err(errno),
        })?;
        let is_it = fs == found && room.0.get(..handle.len()) == Some(handle);
        if is_it { Ok(()) } else { Err(Errno::ESTALE) }
    }
}

unsafe fn ask(room: &mut Room, flags: usize) -> Result<(), Errno> {
    let mut mount: i32 = 0;
    let [length @ .., _, _, _, _] = room.0.first_chunk_mut::<HANDLE_HEAD>().ok_or(Errno::EINVAL)?;
    *length = LENGTH.to_ne_bytes();
    let (empty, mount) = (c"".as_ptr() as usize, (&raw mut mount) as usize);
    // SAFETY: the room is a `file_handle` of the length that it says, aligned to 8 bytes.
    let asked = unsafe {
        call(libc::SYS_name_to_handle_at, [0, empty, room.0.as_mut_ptr() as usize, mount, EMPTY_PATH | flags])
    };
    asked.map(drop)
}

/// Opens the file of descriptor 0 for reading.
unsafe fn reopen() -> Result<(), Errno> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let flags = flags.cast_unsigned() as usize;
    // SAFETY: the path is NUL-terminated; the rest only changes this process's descriptors.
    unsafe {
        let file = call(libc::SYS_openat, [HERE, c"/proc/self/fd/0".as_ptr() as usize, flags])?;
        call(libc::SYS_dup3, [file, 0, 0]).map(drop)
    }
}
