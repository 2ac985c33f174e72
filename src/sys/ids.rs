//! User and group ids of the calling thread: raw calls, because the C library's versions would
//! try to change every thread of a process that has been cloned.

use super::{Result, syscall};

/// setresuid(2) with all three the same.
///
/// # Errors
/// As setresuid(2); EINVAL when the user namespace does not map the id.
pub fn set_uid(uid: u32) -> Result<()> {
    syscall!(libc::SYS_setresuid, uid, uid, uid).map(drop)
}

/// setresgid(2) with all three the same.
///
/// # Errors
/// As setresgid(2).
pub fn set_gid(gid: u32) -> Result<()> {
    syscall!(libc::SYS_setresgid, gid, gid, gid).map(drop)
}

/// setgroups(2).
///
/// # Errors
/// As setgroups(2); EPERM where /proc/PID/setgroups says deny.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    syscall!(libc::SYS_setgroups, groups.len(), groups.as_ptr()).map(drop)
}
