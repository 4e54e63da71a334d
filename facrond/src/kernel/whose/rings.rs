//! perf_event_open(2) without counting: records of what processes do, written by
//! the kernel into one ring a CPU. Reading is a look at shared memory.

use crate::kernel::sources::Sources;
use nix::errno::Errno;
use nix::libc::{self, c_void};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// A record: its type, its `misc` bits and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: u32,
    pub(super) misc: u16,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) time: u64,
    pub(super) body: Vec<u8>,
}

/// The rings of all CPUs.
#[derive(Debug)]
pub(super) struct Rings {
    rings: Vec<Ring>,
    /// Readable when one of them is half full.
    fullness: Sources,
}

/// Of each ring, a power of two.
const PAGES: usize = 64;

const TYPE_SOFTWARE: u32 = 1;
const COUNT_DUMMY: u64 = 9;
const SAMPLE_TIME: u64 = 1 << 2;
const FLAG_CLOEXEC: libc::c_ulong = 8;

/// Bits of `perf_event_attr`.
const EXCLUDE_KERNEL: u64 = 1 << 5;
const WATERMARK: u64 = 1 << 14;
const SAMPLE_ID_ALL: u64 = 1 << 18;
const USE_CLOCKID: u64 = 1 << 25;

/// `struct perf_event_attr` as of Linux 4.1; later kernels take it, too.
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
    wakeup: u32,
    unused: [u32; 10],
    clock: i32,
    unused_too: [u32; 4],
}

impl Rings {
    /// Starts writing records of these kinds (bits of `perf_event_attr`), of all processes.
    ///
    /// # Errors
    /// That of `perf_event_open(2)` or `mmap(2)`: `EACCES` without `CAP_PERFMON`.
    pub(super) fn open(kinds: u64) -> Result<Self, Errno> {
        let fullness = Sources::new()?;
        let mut rings = Vec::new();
        for cpu in cpus() {
            match open(cpu, kinds) {
                Ok(event) => {
                    let ring = Ring::map(event)?;
                    fullness.add(&ring.event)?;
                    rings.push(ring);
                }
                // It is offline.
                Err(Errno::ENODEV) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Self { rings, fullness })
    }

    /// All records until now, in order of time.
    pub(super) fn read(&mut self) -> Vec<Record> {
        // One may have its cause in a ring that was read before it.
        const MAX_TURNS: usize = 8;
        let mut records = Vec::new();
        for _ in 0..MAX_TURNS {
            let before = records.len();
            self.rings.iter_mut().for_each(|ring| ring.read(&mut records));
            if records.len() == before {
                break;
            }
        }
        records.sort_by_key(|record| record.time);
        records
    }
}

impl AsFd for Rings {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fullness.as_fd()
    }
}

fn open(cpu: i32, kinds: u64) -> Result<OwnedFd, Errno> {
    let attributes = Attributes {
        kind: TYPE_SOFTWARE,
        size: u32::try_from(size_of::<Attributes>()).expect("a small structure"),
        config: COUNT_DUMMY,
        sample_type: SAMPLE_TIME,
        flags: kinds | EXCLUDE_KERNEL | WATERMARK | SAMPLE_ID_ALL | USE_CLOCKID,
        wakeup: u32::try_from(PAGES * 4096 / 2).expect("a small constant"),
        clock: libc::CLOCK_MONOTONIC,
        ..Attributes::default()
    };
    let (every_process, no_group) = (-1, -1);
    // SAFETY: the structure has the size that it says and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            every_process,
            cpu,
            no_group,
            FLAG_CLOEXEC,
        )
    };
    let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

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
    page: usize,
    tail: u64,
}

/// Where `data_head` and `data_tail` are in `struct perf_event_mmap_page`.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// Type, misc and size.
const HEADER: usize = 8;

impl Ring {
    fn map(event: OwnedFd) -> Result<Self, Errno> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| usize::try_from(size).ok());
        let page = page.ok_or(Errno::EINVAL)?;
        let length = NonZeroUsize::new((PAGES + 1) * page).ok_or(Errno::EINVAL)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &event, 0)? };
        Ok(Self { event, base, page, tail: 0 })
    }

    fn read(&mut self, records: &mut Vec<Record>) {
        let head = self.position(HEAD).load(Ordering::Acquire);
        while self.tail < head {
            let header = self.copy(self.tail, HEADER);
            let [k0, k1, k2, k3, m0, m1, s0, s1] = header[..] else { break };
            let (kind, misc) = (u32::from_ne_bytes([k0, k1, k2, k3]), u16::from_ne_bytes([m0, m1]));
            let size = usize::from(u16::from_ne_bytes([s0, s1])).max(HEADER);
            let mut body = self.copy(self.tail + HEADER as u64, size - HEADER);
            // By `SAMPLE_ID_ALL` each record ends with its time.
            let time = body.split_off(body.len().saturating_sub(8)).try_into().map_or(0, u64::from_ne_bytes);
            records.push(Record { kind, misc, time, body });
            self.tail += size as u64;
        }
        self.position(TAIL).store(self.tail, Ordering::Release);
    }

    /// Bytes of the ring, which go on at its beginning where it ends.
    fn copy(&self, from: u64, len: usize) -> Vec<u8> {
        let size = PAGES * self.page;
        let start = usize::try_from(from % size as u64).unwrap_or_default();
        let first = len.min(size - start);
        let mut out = Vec::with_capacity(len);
        for (at, len) in [(start, first), (0, len.min(size) - first)] {
            // SAFETY: within the mapping; the kernel does not write between the tail
            // and the head, where these bytes are.
            out.extend(unsafe {
                std::slice::from_raw_parts(self.base.byte_add(self.page + at).cast::<u8>().as_ptr(), len)
            });
        }
        out
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
        let _ = unsafe { munmap(self.base, self.page * (PAGES + 1)) };
    }
}
