//! `perf_event_open(2)` without counting. The kernel writes records of forks, executions
//! and exits into one ring for each CPU. The rings are shared memory, so that reading them
//! needs no system call.

use nix::errno::Errno;
use nix::libc::{self, c_void};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::iter;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The records in these bytes, which follow one another.
pub(super) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    iter::from_fn(move || {
        let (record, after) = Record::split_first(bytes)?;
        bytes = after;
        Some(record)
    })
}

/// A record: its type, its `misc` bits and its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: u32,
    pub(super) misc: u16,
    /// When it was written, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) time: u64,
    pub(super) body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first of these records, and the bytes after it.
    fn split_first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (kind, rest) = bytes.split_first_chunk()?;
        let (misc, rest) = rest.split_first_chunk()?;
        let (size, _) = rest.split_first_chunk()?;
        let (record, after) = bytes.split_at_checked(usize::from(u16::from_ne_bytes(*size)))?;
        // By `SAMPLE_ID_ALL` each record ends with its time.
        let (body, time) = record.get(HEADER..)?.split_last_chunk()?;
        let (kind, misc) = (u32::from_ne_bytes(*kind), u16::from_ne_bytes(*misc));
        Some((Self { kind, misc, time: u64::from_ne_bytes(*time), body }, after))
    }

    /// A number of 32 bits in the body, such as a pid.
    pub(super) fn number(&self, at: usize) -> Option<i32> {
        Some(i32::from_ne_bytes(self.body.get(at..at + 4)?.try_into().ok()?))
    }
}

/// The rings of all CPUs.
#[derive(Debug)]
pub(super) struct Rings {
    by_cpu: Vec<Ring>,
    /// Readable when one of the rings is half full.
    fullness: Epoll,
    /// The records of the last read.
    bytes: Vec<u8>,
}

/// The processes about which the kernel writes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Processes that the calling thread starts from now on, and their descendants.
    Descendants,
    /// All processes of the system. Only for root.
    Everyone,
}

/// Bits of `perf_event_attr` that select the kinds of records.
pub(super) const MMAP: u64 = 1 << 8;
pub(super) const COMM: u64 = 1 << 9;
pub(super) const TASK: u64 = 1 << 13;
pub(super) const COMM_EXEC: u64 = 1 << 24;

/// The types of records that are read.
pub(super) const RECORD_MMAP: u32 = 1;
pub(super) const RECORD_LOST: u32 = 2;
pub(super) const RECORD_COMM: u32 = 3;
pub(super) const RECORD_EXIT: u32 = 4;
pub(super) const RECORD_FORK: u32 = 7;
/// In `RECORD_COMM`: the name was changed by an execution.
pub(super) const MISC_COMM_EXEC: u16 = 1 << 13;

const TYPE_SOFTWARE: u32 = 1;
const COUNT_DUMMY: u64 = 9;
const SAMPLE_TIME: u64 = 1 << 2;
const NO_GROUP: libc::c_int = -1;
const FLAG_CLOEXEC: libc::c_ulong = 8;

/// Further bits of `perf_event_attr`.
const INHERIT: u64 = 1 << 1;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HV: u64 = 1 << 6;
const SAMPLE_ID_ALL: u64 = 1 << 18;
const USE_CLOCKID: u64 = 1 << 25;

/// `struct perf_event_attr` of Linux 4.1. Later kernels accept it, too.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    unused: [u32; 11],
    clock: i32,
    unused_too: [u32; 4],
}

impl Attributes {
    const SIZE: u32 = 112;
}

const _: () = assert!(size_of::<Attributes>() == Attributes::SIZE as usize);

impl Rings {
    /// Starts to record events of these kinds (bits of `perf_event_attr`).
    ///
    /// # Errors
    /// The error of `perf_event_open(2)` or `mmap(2)`: the kernel has no perf, or this
    /// user may not use it, or not with that much memory.
    pub(super) fn open(scope: Scope, kinds: u64) -> Result<Self, Errno> {
        let pages = (1024 / cpus().len()).clamp(16, 64).next_power_of_two();
        Self::with_pages(scope, kinds, pages)
    }

    /// The same with rings of `pages` pages, a power of two.
    pub(super) fn with_pages(scope: Scope, kinds: u64, pages: usize) -> Result<Self, Errno> {
        let fullness = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut rings = Vec::new();
        for cpu in cpus() {
            match open(scope, cpu, kinds) {
                Ok(event) => {
                    let ring = Ring::map(event, pages)?;
                    // Told once each time it gets half full; what is read then is all there is.
                    fullness
                        .add(&ring.event, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
                    rings.push(ring);
                }
                // Nobody runs on a CPU that is offline.
                Err(Errno::ENODEV) if scope == Scope::Everyone => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Self { by_cpu: rings, fullness, bytes: Vec::new() })
    }

    /// All records until now, in the order of time.
    ///
    /// The cause of a record can be in another ring that was read before. So the rings
    /// are read until all of them are empty.
    pub(super) fn read(&mut self) -> Vec<Record<'_>> {
        const MAX_TURNS: usize = 8;
        self.bytes.clear();
        for _ in 0..MAX_TURNS {
            let before = self.bytes.len();
            self.by_cpu.iter_mut().for_each(|ring| ring.read(&mut self.bytes));
            if self.bytes.len() == before {
                break;
            }
        }
        let mut records: Vec<_> = records(&self.bytes).collect();
        records.sort_by_key(|record| record.time);
        records
    }
}

impl AsFd for Rings {
    /// Becomes readable when the rings must be read before they overflow.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fullness.0.as_fd()
    }
}

fn open(scope: Scope, cpu: i32, kinds: u64) -> Result<OwnedFd, Errno> {
    let (pid, inherit) = match scope {
        Scope::Descendants => (0, INHERIT),
        Scope::Everyone => (-1, 0),
    };
    let attributes = Attributes {
        kind: TYPE_SOFTWARE,
        size: Attributes::SIZE,
        config: COUNT_DUMMY,
        sample_type: SAMPLE_TIME,
        flags: kinds | inherit | EXCLUDE_KERNEL | EXCLUDE_HV | SAMPLE_ID_ALL | USE_CLOCKID,
        clock: libc::CLOCK_MONOTONIC,
        ..Attributes::default()
    };
    // SAFETY: the structure has the size that it says and outlives the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, pid, cpu, NO_GROUP, FLAG_CLOEXEC)
    };
    let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// All CPUs that can ever be online.
fn cpus() -> Vec<i32> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<i32>().ok()?..=last.parse::<i32>().ok()?)
    });
    let cpus: Vec<i32> = ranges.flatten().collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// One ring, and the event that fills it.
#[derive(Debug)]
struct Ring {
    event: OwnedFd,
    base: NonNull<c_void>,
    /// The length of the mapping: one page of positions, then the records.
    length: usize,
    page: usize,
    tail: u64,
}

/// The offsets of `data_head` and `data_tail` in `struct perf_event_mmap_page`.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// The length of a record's header: type, misc and size.
const HEADER: usize = 8;

impl Ring {
    fn map(event: OwnedFd, pages: usize) -> Result<Self, Errno> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| usize::try_from(size).ok());
        let page = page.ok_or(Errno::EINVAL)?;
        let length = (pages + 1) * page;
        let not_zero = NonZeroUsize::new(length).ok_or(Errno::EINVAL)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(None, not_zero, protection, MapFlags::MAP_SHARED, &event, 0)? };
        Ok(Self { event, base, length, page, tail: 0 })
    }

    /// Moves its content, which is whole records, to the end of `bytes`.
    fn read(&mut self, bytes: &mut Vec<u8>) {
        let head = self.position(HEAD).load(Ordering::Acquire);
        let size = self.length - self.page;
        let len = usize::try_from(head - self.tail).map_or(size, |len| len.min(size));
        let start = usize::try_from(self.tail % size as u64).unwrap_or_default();
        let first = len.min(size - start);
        for (at, len) in [(start, first), (0, len - first)] {
            // SAFETY: within the mapping; the kernel does not write between the tail
            // and the head, where these bytes are.
            bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(self.base.byte_add(self.page + at).cast::<u8>().as_ptr(), len)
            });
        }
        self.tail = head;
        self.position(TAIL).store(head, Ordering::Release);
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: within the first page of the mapping, which lives as long as
        // `self`, and aligned; the kernel accesses it atomically, too.
        unsafe { self.base.byte_add(offset).cast::<AtomicU64>().as_ref() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody borrows from it any more.
        // Failure would only leak it.
        let _ = unsafe { munmap(self.base, self.length) };
    }
}
