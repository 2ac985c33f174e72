//! bpf(2): loading a device program and attaching it to a cgroup.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::open::own;
use super::{Result, syscall};

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low half, source register in the high half.
    pub registers: u8,
    /// Jump distance, or offset of a load.
    pub offset: i16,
    /// Constant operand.
    pub immediate: i32,
}

#[repr(C, align(8))]
struct LoadAttr {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C, align(8))]
struct AttachAttr {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
    replace_fd: u32,
    relative_fd: u32,
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
///
/// # Errors
/// As bpf(2); EPERM without CAP_BPF or in a user namespace, EINVAL or EACCES when the verifier
/// refuses it.
pub fn load_device_program(instructions: &[Instruction]) -> Result<OwnedFd> {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(b"seedpod_dev") {
        *to = *from;
    }
    let attr = LoadAttr {
        program_type: TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name,
    };
    syscall!(
        libc::SYS_bpf,
        PROG_LOAD,
        std::ptr::from_ref(&attr),
        size_of::<LoadAttr>()
    )
    .map(own)
}

/// Attaches a device program to a cgroup directory, beside those that are there.
///
/// # Errors
/// As bpf(2).
pub fn attach_device_program(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> Result<()> {
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        program_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        replace_fd: 0,
        relative_fd: 0,
    };
    syscall!(
        libc::SYS_bpf,
        PROG_ATTACH,
        std::ptr::from_ref(&attr),
        size_of::<AttachAttr>()
    )
    .map(drop)
}
