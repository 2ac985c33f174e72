//! Namespaces: setns, unshare, and what an open namespace tells about itself (ioctl_ns(2)).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::open::own;
use super::{Result, syscall};

/// setns(2) on a namespace file, or on a pidfd with several kinds at once. `flags` are the
/// `CLONE_NEW*` of the kinds.
///
/// # Errors
/// As setns(2).
pub fn setns(fd: BorrowedFd<'_>, flags: u64) -> Result<()> {
    let flags = libc::c_int::try_from(flags).map_err(|_| Errno::EINVAL)?;
    syscall!(libc::SYS_setns, fd.as_raw_fd(), flags).map(drop)
}

/// unshare(2).
///
/// # Errors
/// As unshare(2).
pub fn unshare(flags: u64) -> Result<()> {
    syscall!(libc::SYS_unshare, flags).map(drop)
}

const NS_GET_USERNS: libc::c_ulong = 0xb701;
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// Which kind a namespace file is, as its `CLONE_NEW*`.
///
/// # Errors
/// ENOTTY when it is no namespace file.
pub fn kind(fd: BorrowedFd<'_>) -> Result<u64> {
    syscall!(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_NSTYPE, 0)
        .map(|kind| u64::try_from(kind).unwrap_or(0))
}

/// The user namespace that owns this namespace.
///
/// # Errors
/// EPERM when the owner is not our user namespace or below it.
pub fn owner(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    syscall!(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_USERNS, 0).map(own)
}
