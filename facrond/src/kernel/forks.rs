//! Forks and exits of all our descendants, as the kernel tells them.
//!
//! One perf dummy event a CPU on the thread that starts commands, inherited by
//! all that descends from it: it counts nothing, and writes a record into a ring
//! before a new process runs its first instruction (`PERF_RECORD_FORK`) and when
//! one ends (`PERF_RECORD_EXIT`). Nobody else's forks are told.
//! Reading a ring is a look at shared memory and no system call. See
//! `perf_event_open(2)`.

mod ring;

use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use ring::Ring;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// What happened to a descendant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A process was made by another, or a thread of it (then `pid` is `parent`).
    Fork {
        /// The new process.
        pid: i32,
        /// The process that made it.
        parent: i32,
    },
    /// A thread ended, and with the last one its process. Also told when the
    /// kernel stops telling of a process: it executed what is set-user-ID.
    Exit {
        /// The process.
        pid: i32,
    },
    /// A ring was full: changes before this one are missing.
    Lost,
}

/// A change and when it was, in nanoseconds of `CLOCK_MONOTONIC`.
pub type Told = (u64, Change);

/// The rings.
#[derive(Debug)]
pub struct Forks {
    rings: Vec<Ring>,
    /// Readable when one of the rings is half full.
    fullness: Epoll,
}

/// `PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_DUMMY`, `PERF_FLAG_FD_CLOEXEC`
const TYPE_SOFTWARE: u32 = 1;
const COUNT_DUMMY: u64 = 9;
const FD_CLOEXEC: libc::c_ulong = 8;
const THIS_THREAD: libc::pid_t = 0;
const NO_GROUP: libc::c_int = -1;

/// Bits of `perf_event_attr`.
const INHERIT: u64 = 1 << 1;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HV: u64 = 1 << 6;
const TASK: u64 = 1 << 13;
const USE_CLOCKID: u64 = 1 << 25;

/// `struct perf_event_attr` as of Linux 4.1; kernels take shorter and longer ones.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample: [u64; 3],
    flags: u64,
    wakeup: u32,
    breakpoint: [u32; 1],
    configs: [u64; 2],
    branches: u64,
    registers: u64,
    stack: u32,
    clock: i32,
    registers_at_interrupt: u64,
    aux_watermark: u32,
    max_stack: u32,
}

impl Attributes {
    const SIZE: u32 = 112;
}

const _: () = assert!(size_of::<Attributes>() == Attributes::SIZE as usize);

impl Forks {
    /// Follows what the calling thread starts from now on.
    ///
    /// # Errors
    /// That of `perf_event_open(2)` or `mmap(2)`: the kernel has no perf, or does
    /// not let this user have it or that much memory of it.
    pub fn follow() -> Result<Self, Errno> {
        let cpus = cpus();
        let pages = (1024 / cpus.len()).clamp(16, 64).next_power_of_two();
        Self::with_rings(&cpus, pages)
    }

    fn with_rings(cpus: &[i32], pages: usize) -> Result<Self, Errno> {
        let fullness = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut rings = Vec::with_capacity(cpus.len());
        for cpu in cpus {
            let ring = Ring::map(open(*cpu)?, pages)?;
            // Told once each time it gets half full; what is read then is all there is.
            fullness.add(&ring, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
            rings.push(ring);
        }
        Ok(Self { rings, fullness })
    }

    /// Adds all changes before the call to `changes`, in order.
    ///
    /// A change in one ring can have its cause in another that was read before
    /// it: the rings are read until there is nothing in any.
    pub fn read(&mut self, changes: &mut Vec<Told>) {
        const MAX_TURNS: usize = 8;
        let start = changes.len();
        for _ in 0..MAX_TURNS {
            let before = changes.len();
            for ring in &mut self.rings {
                ring.read(changes);
            }
            if changes.len() == before {
                break;
            }
        }
        changes[start..].sort_by_key(|(time, _)| *time);
    }
}

impl AsFd for Forks {
    /// Becomes readable when the rings should be read, lest they overflow.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fullness.0.as_fd()
    }
}

/// A dummy event for what runs on one CPU.
fn open(cpu: i32) -> Result<OwnedFd, Errno> {
    let attributes = Attributes {
        kind: TYPE_SOFTWARE,
        size: Attributes::SIZE,
        config: COUNT_DUMMY,
        flags: INHERIT | EXCLUDE_KERNEL | EXCLUDE_HV | TASK | USE_CLOCKID,
        clock: libc::CLOCK_MONOTONIC,
        ..Attributes::default()
    };
    // SAFETY: the structure has the size that it says and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            THIS_THREAD,
            cpu,
            NO_GROUP,
            FD_CLOEXEC,
        )
    };
    let fd = Errno::result(fd)?;
    let fd = libc::c_int::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us.
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

#[cfg(test)]
mod tests;
