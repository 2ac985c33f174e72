//! Thin wrappers, one system call each: the only unsafe code of the project.
//!
//! Each takes typed descriptors and C strings and returns the bare errno; nothing here allocates,
//! decides or retries (EINTR aside), so that the child may use all of it after clone3. What nix
//! wraps well is called through nix elsewhere. No policy, no paths, no words for errors here.
#![allow(unsafe_code)]

pub mod bpf;
pub mod caps;
pub mod clone;
pub mod ids;
pub mod mount;
pub mod net;
pub mod ns;
pub mod open;
pub mod process;
pub mod seccomp;
pub mod shared;
pub mod socket;
pub mod tty;
pub mod xattr;

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// The result of a system call: a value, or the errno.
pub type Result<T> = std::result::Result<T, Errno>;

/// Makes a system call with the numbers and pointers given; -1 becomes the errno.
macro_rules! syscall {
    ($number:expr $(, $argument:expr)* $(,)?) => {{
        // SAFETY: the wrapper that uses this macro passes pointers to live, properly sized data
        // for exactly this call; the kernel checks everything else.
        let result = unsafe { libc::syscall($number $(, $argument)*) };
        if result == -1 { Err(nix::errno::Errno::last()) } else { Ok(result) }
    }};
}
pub(crate) use syscall;

/// A descriptor argument: a real one, or the current working directory.
#[derive(Debug, Clone, Copy)]
pub enum At<'fd> {
    /// `AT_FDCWD`.
    Cwd,
    /// Relative to this descriptor.
    Fd(BorrowedFd<'fd>),
}

impl At<'_> {
    fn raw(self) -> libc::c_int {
        match self {
            At::Cwd => libc::AT_FDCWD,
            At::Fd(fd) => fd.as_raw_fd(),
        }
    }
}

/// The empty path, for calls with `AT_EMPTY_PATH`.
pub const EMPTY: &CStr = c"";
