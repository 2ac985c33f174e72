//! Extended attributes of open files: fsetxattr(2), fgetxattr(2).
//!
//! nix has no extended attributes. Only descriptors are taken here, so no path is resolved.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Sets an attribute: fsetxattr(2) without flags, so an old value is replaced.
///
/// # Errors
/// The kernel's: ENOTSUP where the file system has no such attributes, EPERM for `user.` on
/// anything but files and directories and for `trusted.` without CAP_SYS_ADMIN.
pub fn fsetxattr(fd: impl AsFd, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: `name` is zero-terminated and `value` is `value.len()` readable bytes; both outlive
    // the call, which keeps no pointer. The descriptor is borrowed, so it is open.
    let result = unsafe {
        libc::fsetxattr(
            fd.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(result).map(drop)
}

/// Reads an attribute of at most `max` bytes: fgetxattr(2); `None` where it is not set.
///
/// # Errors
/// The kernel's: ERANGE for a value longer than `max`.
pub fn fgetxattr(fd: impl AsFd, name: &CStr, max: usize) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0u8; max];
    // SAFETY: `name` is zero-terminated and `value` is `value.len()` writable bytes; both outlive
    // the call, which keeps no pointer. The descriptor is borrowed, so it is open.
    let result = unsafe {
        libc::fgetxattr(
            fd.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    match Errno::result(result) {
        Ok(length) => {
            value.truncate(usize::try_from(length).unwrap_or(0));
            Ok(Some(value))
        }
        Err(Errno::ENODATA) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_that_was_set_is_read_and_a_missing_one_is_none() {
        let file = tempfile::tempfile().unwrap();
        match fsetxattr(&file, c"user.seedpod", b"a\0b") {
            Err(Errno::ENOTSUP) => eprintln!("skipped: no user attributes in the temp directory"),
            set => {
                set.unwrap();
                let value = fgetxattr(&file, c"user.seedpod", 16).unwrap();
                assert_eq!(value.unwrap(), b"a\0b");
            }
        }
        assert_eq!(fgetxattr(&file, c"user.missing", 16).ok().flatten(), None);
    }
}
