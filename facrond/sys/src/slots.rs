//! Read buffers that outlive this process: a file in memory (`memfd_create(2)`), whose
//! descriptor somebody else keeps.
//!
//! The kernel copies records straight into a slot that is marked as used before. So whatever
//! has left the kernel's queue is found there, even if the process is killed on its way out of
//! the read. A used slot is zero behind its records.

use crate::fanotify::READ_SIZE;
use crate::record::{FsId, OWN_PID, PID_OFFSET};
use nix::errno::Errno;
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many there are.
pub const COUNT: usize = 512;

/// The layout of the file. It begins with this number, in which the last byte is its version.
const MAGIC: u64 = 0x6661_6372_6f6e_0001;
/// Each slot has two numbers: its place in the order of reads, 0 if it is free, and the file system
/// of records without an id.
const HEADS: usize = 64;
const DATA: usize = 16 * 1024;
const SIZE: usize = DATA + COUNT * READ_SIZE;

#[derive(Debug)]
pub struct Slots {
    fd: OwnedFd,
    memory: NonNull<libc::c_void>,
    last: u64,
}

impl Slots {
    /// Slots that are all free.
    pub fn new() -> Result<Self, Errno> {
        let fd = memfd_create(c"facron-reads", MFdFlags::MFD_CLOEXEC)?;
        ftruncate(&fd, SIZE.try_into().map_err(|_| Errno::EFBIG)?)?;
        let slots = Self::map(fd)?;
        slots.number(0).store(MAGIC, Ordering::Relaxed);
        Ok(slots)
    }

    /// The slots of an earlier process. `None` if their layout is another one.
    pub fn taken_back(fd: OwnedFd) -> Option<Self> {
        let size = fstat(&fd).ok()?.st_size;
        if usize::try_from(size) != Ok(SIZE) {
            return None;
        }
        let mut slots =
            Self::map(fd).ok().filter(|slots| slots.number(0).load(Ordering::Relaxed) == MAGIC)?;
        slots.last = (0..COUNT).map(|slot| slots.order(slot).load(Ordering::Relaxed)).max()?;
        Some(slots)
    }

    fn map(fd: OwnedFd) -> Result<Self, Errno> {
        let size = NonZeroUsize::new(SIZE).ok_or(Errno::EINVAL)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses, of a file that has this
        // size: nobody else has the descriptor but who keeps it, and does not use it.
        let memory = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, &fd, 0) }?;
        Ok(Self { fd, memory, last: 0 })
    }

    /// A number in the file.
    fn number(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(8) && at < DATA);
        // SAFETY: it is within the mapping and aligned, and only used as an atomic.
        unsafe { AtomicU64::from_ptr(self.memory.as_ptr().cast::<u8>().add(at).cast()) }
    }

    fn order(&self, slot: usize) -> &AtomicU64 {
        self.number(HEADS + 16 * slot)
    }

    /// Those that are used, in the order of their reads.
    pub fn used(&self) -> Vec<usize> {
        let order = |slot: &usize| self.order(*slot).load(Ordering::Relaxed);
        let mut used: Vec<_> = (0..COUNT).filter(|slot| order(slot) != 0).collect();
        used.sort_by_key(order);
        used
    }

    /// Marks a free slot as used, for records of which those without an id are of this file
    /// system. `None` if there is none.
    pub fn take(&mut self, fs: FsId) -> Option<usize> {
        let slot = (0..COUNT).find(|slot| self.order(*slot).load(Ordering::Relaxed) == 0)?;
        self.room(slot, 0).fill(0);
        self.named(slot).store(fs.0, Ordering::Relaxed);
        self.last += 1;
        self.order(slot).store(self.last, Ordering::Release);
        Some(slot)
    }

    fn named(&self, slot: usize) -> &AtomicU64 {
        self.number(HEADS + 16 * slot + 8)
    }

    /// The file system of records without an id.
    pub fn fs(&self, slot: usize) -> FsId {
        FsId(self.named(slot).load(Ordering::Relaxed))
    }

    pub fn free(&mut self, slot: usize) {
        self.order(slot).store(0, Ordering::Release);
    }

    /// The room for one read, behind those of this length together.
    pub fn room(&mut self, slot: usize, len: usize) -> &mut [u8] {
        assert!(slot < COUNT);
        // SAFETY: it is within the mapping. Nobody else uses the file, and `self` is borrowed.
        let room = unsafe { std::slice::from_raw_parts_mut(self.start(slot), READ_SIZE) };
        room.get_mut(len..).unwrap_or_default()
    }

    /// Marks a record as one that this process or its commands have caused: the next process does
    /// not know their pids.
    pub fn set_own(&mut self, slot: usize, offset: usize) {
        if let Some(pid) = self.room(slot, 0).get_mut(offset + PID_OFFSET..offset + PID_OFFSET + 4) {
            pid.copy_from_slice(&OWN_PID.to_ne_bytes());
        }
    }

    /// The records that were read into a slot.
    pub fn records(&self, slot: usize) -> &[u8] {
        assert!(slot < COUNT);
        // SAFETY: as in `room`.
        let room = unsafe { std::slice::from_raw_parts(self.start(slot), READ_SIZE) };
        let mut len = 0;
        while let Some(head) = room.get(len..len + 4)
            && let Some(next) = head.try_into().ok().map(u32::from_ne_bytes).filter(|next| *next > 0)
        {
            len += next as usize;
        }
        room.get(..len).unwrap_or_default()
    }

    fn start(&self, slot: usize) -> *mut u8 {
        // SAFETY: the result is within the mapping, because `slot` is below `COUNT`.
        unsafe { self.memory.as_ptr().cast::<u8>().add(DATA + slot * READ_SIZE) }
    }
}

impl AsFd for Slots {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: it is our mapping, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.memory, SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_found_by_the_next_process_in_order() {
        let mut slots = Slots::new().unwrap();
        let [one, two, empty] = [1, 2, 3].map(|fs| slots.take(FsId(fs)).unwrap());
        for (slot, len, byte) in [(two, 0, 2), (two, 8, 3), (one, 0, 1)] {
            let room = slots.room(slot, len);
            room[..4].copy_from_slice(&8u32.to_ne_bytes());
            room[4..8].fill(byte);
        }
        slots.free(one);
        let again = slots.take(FsId(4)).unwrap();
        assert_eq!((again, slots.records(again)), (one, &[][..]));
        let other = Slots::taken_back(slots.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(other.used(), [two, empty, again]);
        assert_eq!((other.fs(two), other.fs(again)), (FsId(2), FsId(4)));
        let [first, second] = [2, 3].map(|byte| [&8u32.to_ne_bytes()[..], &[byte; 4]].concat());
        assert_eq!(other.records(two), [first, second].concat());
        assert_eq!(other.records(empty), []);
        slots.number(0).store(MAGIC + 1, Ordering::Relaxed);
        assert!(Slots::taken_back(slots.as_fd().try_clone_to_owned().unwrap()).is_none());
    }
}
