//! The memory that the kernel writes perf records into.

use super::{Change, Told};
use nix::errno::Errno;
use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where `data_head` and `data_tail` are in `struct perf_event_mmap_page`.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

const RECORD_LOST: u32 = 2;
const RECORD_EXIT: u32 = 4;
const RECORD_FORK: u32 = 7;

/// type, misc and size; then for a fork and an exit pid, ppid, tid, ptid and time.
const HEADER: u64 = 8;
const TASK_RECORD: u64 = 32;

/// One ring, and the event that fills it.
#[derive(Debug)]
pub(super) struct Ring {
    event: OwnedFd,
    base: NonNull<c_void>,
    /// Of the mapping: a page of positions, then the records.
    length: usize,
    page: usize,
    /// Bytes of records, a power of two.
    size: u64,
    tail: u64,
}

impl Ring {
    /// Maps a ring of so many pages (a power of two) for an event.
    pub(super) fn map(event: OwnedFd, pages: usize) -> Result<Self, Errno> {
        let page =
            sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| usize::try_from(size).ok()).unwrap_or(4096);
        let length = (pages + 1) * page;
        let not_zero = NonZeroUsize::new(length).ok_or(Errno::EINVAL)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(None, not_zero, protection, MapFlags::MAP_SHARED, &event, 0)? };
        Ok(Self { event, base, length, page, size: (pages * page) as u64, tail: 0 })
    }

    /// Takes out all that is in it.
    pub(super) fn read(&mut self, changes: &mut Vec<Told>) {
        let head = self.position(HEAD).load(Ordering::Acquire);
        if head == self.tail {
            return;
        }
        while self.tail < head {
            let [kind, size] = [self.u32_at(0), self.u32_at(4) >> 16];
            let size = u64::from(size);
            match kind {
                RECORD_FORK | RECORD_EXIT if size >= TASK_RECORD => changes.push(self.task_record(kind)),
                // It has no time: what it stands for was before the next record.
                RECORD_LOST => changes.push((changes.last().map_or(0, |(time, _)| *time), Change::Lost)),
                _ => {}
            }
            self.tail += size.max(HEADER);
        }
        self.position(TAIL).store(self.tail, Ordering::Release);
    }

    fn task_record(&self, kind: u32) -> Told {
        let pid = self.u32_at(8).cast_signed();
        let parent = self.u32_at(12).cast_signed();
        let time = u64::from(self.u32_at(24)) | u64::from(self.u32_at(28)) << 32;
        (time, if kind == RECORD_FORK { Change::Fork { pid, parent } } else { Change::Exit { pid } })
    }

    /// Four bytes of the record at the tail. Records are aligned to eight, so none
    /// of these words crosses the ring's end.
    #[expect(clippy::cast_possible_truncation, reason = "less than the size of a mapping")]
    fn u32_at(&self, offset: u64) -> u32 {
        let offset = ((self.tail + offset) & (self.size - 1)) as usize;
        // SAFETY: within the mapping and aligned; the kernel does not write between
        // the tail and the head.
        unsafe { self.base.byte_add(self.page + offset).cast::<u32>().read() }
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: within the first page of the mapping, which lives as long as
        // `self`, and aligned; the kernel accesses it atomically, too.
        unsafe { self.base.byte_add(offset).cast::<AtomicU64>().as_ref() }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody borrows from it any more.
        // Failure would only leak it.
        let _ = unsafe { munmap(self.base, self.length) };
    }
}
