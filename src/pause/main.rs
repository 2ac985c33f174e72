//! The pause program: the first process of a pod's sandbox, which holds its namespaces.
//!
//! It reaps what is given to it (with `shareProcessNamespace` it is PID 1 of the whole pod) and ends
//! on SIGTERM and SIGINT. Freestanding, so that a sandbox costs a few pages: no C library, no heap,
//! no stack to speak of. `build.rs` builds it, `podctl` carries its bytes and executes them from a
//! sealed memfd. Not here: policy of any kind.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const WAIT4: usize = 61;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
    pub const PRCTL: usize = 167;
    pub const EXIT_GROUP: usize = 94;
}

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "and rsp, -16", "call {pause}", pause = sym pause);

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "bl {pause}", pause = sym pause);

#[cfg(target_arch = "x86_64")]
fn syscall(number: usize, args: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the five calls that are made below get pointers to live data of the right size or
    // null, and do not touch other memory; the instruction clobbers rcx and r11 only.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn syscall(number: usize, args: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: as on x86_64; the instruction clobbers only x0.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            options(nostack),
        );
    }
    result
}

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const BLOCK: usize = 0;
const NO_HANG: usize = 1;
const ANY_CHILD: usize = usize::MAX;

const SET_NAME: usize = 15;

extern "C" fn pause() -> ! {
    // What `ps` shows: executed from a memfd, the name would be the kernel's for that.
    let name = c"pause".as_ptr() as usize;
    syscall(number::PRCTL, [SET_NAME, name, 0, 0]);
    // Blocked and waited for: no handler, no race. The rest keep their default actions, which PID 1
    // of a pid namespace never sees.
    let set: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
    let pointer = &raw const set as usize;
    syscall(number::RT_SIGPROCMASK, [BLOCK, pointer, 0, size_of::<u64>()]);
    loop {
        match syscall(number::RT_SIGTIMEDWAIT, [pointer, 0, 0, size_of::<u64>()]) {
            SIGINT | SIGTERM => {
                syscall(number::EXIT_GROUP, [0; 4]);
            }
            SIGCHLD => while syscall(number::WAIT4, [ANY_CHILD, 0, NO_HANG, 0]) > 0 {},
            // EINTR.
            _ => {}
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        syscall(number::EXIT_GROUP, [101, 0, 0, 0]);
    }
}
