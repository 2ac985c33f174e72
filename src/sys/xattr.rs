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

/// Reads an attribute into `value`: fgetxattr(2). Its length, or `None` where it is not set.
///
/// # Errors
/// The kernel's: ERANGE for a longer value, unless `value` is empty: then only the length is
/// asked for.
pub fn fgetxattr(fd: impl AsFd, name: &CStr, value: &mut [u8]) -> Result<Option<usize>, Errno> {
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
        Ok(length) => Ok(Some(usize::try_from(length).unwrap_or(0))),
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
                let mut value = [0; 16];
                let length = fgetxattr(&file, c"user.seedpod", &mut value).unwrap();
                assert_eq!(&value[..length.unwrap()], b"a\0b");
                assert_eq!(
                    fgetxattr(&file, c"user.seedpod", &mut [0; 2]),
                    Err(Errno::ERANGE)
                );
            }
        }
        let missing = fgetxattr(&file, c"user.missing", &mut []);
        assert_eq!(missing.ok().flatten(), None);
    }
}
