//! System calls for a process that shares the daemon's memory and its thread-local data.
//!
//! The functions of the C library store errors in `errno`, which is the daemon's here. So
//! the call itself is made. [`IS_OURS`] tells where this module knows how.

use nix::errno::Errno;
use nix::libc::c_long;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
use std::arch::asm;

/// Whether these calls leave `errno` alone. If not, the daemon must stand still meanwhile.
pub(super) const IS_OURS: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// Errors are the last numbers that a register has.
const MAX_ERRNO: usize = 4095;

/// Makes a system call with these arguments, and zeros for those that it does not have.
///
/// # Safety
///
/// As for the system call.
pub(super) unsafe fn call<const N: usize>(number: c_long, arguments: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 5];
    all[..N].copy_from_slice(&arguments);
    // SAFETY: as for this function.
    let result = unsafe { enter(number, all) };
    match result.wrapping_neg() {
        errno @ 1..=MAX_ERRNO => Err(Errno::from_raw(i32::try_from(errno).unwrap_or_default())),
        _ => Ok(result),
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn enter(number: c_long, all: [usize; 5]) -> usize {
    let result;
    // SAFETY: the calling convention of the kernel, which uses no stack of ours.
    unsafe {
        asm!(
            "syscall", inlateout("rax") number => result,
            in("rdi") all[0], in("rsi") all[1], in("rdx") all[2], in("r10") all[3], in("r8") all[4],
            lateout("rcx") _, lateout("r11") _, options(nostack)
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn enter(number: c_long, all: [usize; 5]) -> usize {
    let result;
    // SAFETY: the calling convention of the kernel, which uses no stack of ours.
    unsafe {
        asm!(
            "svc 0", in("x8") number, inlateout("x0") all[0] => result,
            in("x1") all[1], in("x2") all[2], in("x3") all[3], in("x4") all[4],
            options(nostack)
        );
    }
    result
}

#[cfg(target_arch = "riscv64")]
unsafe fn enter(number: c_long, all: [usize; 5]) -> usize {
    let result;
    // SAFETY: the calling convention of the kernel, which uses no stack of ours.
    unsafe {
        asm!(
            "ecall", in("a7") number, inlateout("a0") all[0] => result,
            in("a1") all[1], in("a2") all[2], in("a3") all[3], in("a4") all[4],
            options(nostack)
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
unsafe fn enter(number: c_long, all: [usize; 5]) -> usize {
    // SAFETY: as for the caller.
    match unsafe { nix::libc::syscall(number, all[0], all[1], all[2], all[3], all[4]) } {
        -1 => (Errno::last_raw() as usize).wrapping_neg(),
        result => result as usize,
    }
}
