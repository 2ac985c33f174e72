//! openat2(2) and what is done with the directories that it opens.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{At, Result, syscall};

/// `RESOLVE_IN_ROOT`: the directory is `/` for this look-up.
pub const IN_ROOT: u64 = 0x10;
/// `RESOLVE_BENEATH`: nothing above the directory.
pub const BENEATH: u64 = 0x08;
/// `RESOLVE_NO_MAGICLINKS`: no /proc/PID/fd and the like.
pub const NO_MAGICLINKS: u64 = 0x02;
/// `RESOLVE_NO_SYMLINKS`: no symbolic link in any component.
pub const NO_SYMLINKS: u64 = 0x04;
/// `RESOLVE_NO_XDEV`: no crossing of mounts.
pub const NO_XDEV: u64 = 0x01;

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Takes ownership of a descriptor number that a system call has just returned.
pub(super) fn own(number: libc::c_long) -> OwnedFd {
    let number = RawFd::try_from(number).unwrap_or(-1);
    // SAFETY: the kernel has just handed out this descriptor to this process, and nothing else
    // knows its number yet.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// openat2(2), retried when a rename race asks for it (EAGAIN), at most 64 times. Always
/// close-on-exec; `mode` counts only with `O_CREAT` or `O_TMPFILE`.
///
/// # Errors
/// As openat2(2); EXDEV where `resolve` forbids what the path asks for.
pub fn openat2(at: At<'_>, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    let how = OpenHow {
        flags: u64::from(flags.cast_unsigned() | libc::O_CLOEXEC.cast_unsigned()),
        mode: u64::from(mode),
        resolve,
    };
    let mut tries = 0;
    loop {
        let result = syscall!(
            libc::SYS_openat2,
            at.raw(),
            path.as_ptr(),
            std::ptr::from_ref(&how),
            size_of::<OpenHow>(),
        );
        match result {
            Ok(number) => return Ok(own(number)),
            Err(Errno::EAGAIN | Errno::EINTR) if tries < 64 => tries += 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// mkdirat(2).
///
/// # Errors
/// As mkdirat(2).
pub fn mkdirat(at: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    syscall!(libc::SYS_mkdirat, at.as_raw_fd(), name.as_ptr(), mode).map(drop)
}

/// mknodat(2).
///
/// # Errors
/// As mknodat(2).
pub fn mknodat(at: BorrowedFd<'_>, name: &CStr, mode: u32, device: u64) -> Result<()> {
    syscall!(
        libc::SYS_mknodat,
        at.as_raw_fd(),
        name.as_ptr(),
        mode,
        device
    )
    .map(drop)
}

/// symlinkat(2).
///
/// # Errors
/// As symlinkat(2).
pub fn symlinkat(target: &CStr, at: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    syscall!(
        libc::SYS_symlinkat,
        target.as_ptr(),
        at.as_raw_fd(),
        name.as_ptr()
    )
    .map(drop)
}

/// fchmodat(2): follows a symbolic link, so only for names that were just made.
///
/// # Errors
/// As fchmodat(2).
pub fn fchmodat(at: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    syscall!(libc::SYS_fchmodat, at.as_raw_fd(), name.as_ptr(), mode).map(drop)
}

/// fchownat(2) without following a link.
///
/// # Errors
/// As fchownat(2).
pub fn fchownat(at: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    syscall!(
        libc::SYS_fchownat,
        at.as_raw_fd(),
        name.as_ptr(),
        uid,
        gid,
        flags
    )
    .map(drop)
}

/// unlinkat(2), of a directory with `AT_REMOVEDIR`.
///
/// # Errors
/// As unlinkat(2).
pub fn unlinkat(at: At<'_>, name: &CStr, flags: i32) -> Result<()> {
    syscall!(libc::SYS_unlinkat, at.raw(), name.as_ptr(), flags).map(drop)
}

/// fstat(2).
///
/// # Errors
/// As fstat(2).
pub fn fstat(fd: BorrowedFd<'_>) -> Result<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is valid for writes of a whole struct stat; it is read only when the call
    // succeeded, and then the kernel has filled it.
    unsafe {
        if libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) == -1 {
            return Err(Errno::last());
        }
        Ok(stat.assume_init())
    }
}

/// The `f_type` of fstatfs(2): which kind of file system this is.
///
/// # Errors
/// As fstatfs(2).
pub fn fs_magic(fd: BorrowedFd<'_>) -> Result<i64> {
    let mut statfs = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: as in `fstat`.
    unsafe {
        if libc::fstatfs(fd.as_raw_fd(), statfs.as_mut_ptr()) == -1 {
            return Err(Errno::last());
        }
        #[allow(
            clippy::unnecessary_cast,
            reason = "the type differs between C libraries"
        )]
        Ok(statfs.assume_init().f_type as i64)
    }
}

/// write(2) of all the bytes.
///
/// # Errors
/// As write(2); EIO when the file takes no more.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match syscall!(libc::SYS_write, fd.as_raw_fd(), bytes.as_ptr(), bytes.len()) {
            Ok(count) => {
                let count = usize::try_from(count).unwrap_or(0);
                bytes = bytes.get(count..).unwrap_or_default();
                if count == 0 {
                    return Err(Errno::EIO);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// read(2), once.
///
/// # Errors
/// As read(2).
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match syscall!(
            libc::SYS_read,
            fd.as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len()
        ) {
            Err(Errno::EINTR) => {}
            other => return other.map(|count| usize::try_from(count).unwrap_or(0)),
        }
    }
}

/// dup3(2) onto a number; the copy is not close-on-exec. The same number only loses the flag.
///
/// # Errors
/// As dup3(2).
pub fn dup_onto(fd: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    if fd.as_raw_fd() == number {
        return syscall!(libc::SYS_fcntl, number, libc::F_SETFD, 0).map(drop);
    }
    syscall!(libc::SYS_dup3, fd.as_raw_fd(), number, 0).map(drop)
}

/// Sets close-on-exec on all descriptors from `first` on (close_range(2)).
///
/// # Errors
/// As close_range(2).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    const CLOEXEC: u32 = 4;
    syscall!(libc::SYS_close_range, first, u32::MAX, CLOEXEC).map(drop)
}

/// Closes the descriptors `first` to `last` (close_range(2)); for a process that drops none of them.
///
/// # Errors
/// As close_range(2).
pub fn close_between(first: u32, last: u32) -> Result<()> {
    syscall!(libc::SYS_close_range, first, last, 0).map(drop)
}

/// A memfd with the given bytes, sealed against every change.
///
/// # Errors
/// As memfd_create(2), write(2) and fcntl(2).
pub fn sealed_memfd(name: &CStr, bytes: &[u8]) -> Result<OwnedFd> {
    const MFD_EXEC: libc::c_uint = 0x10;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let made = match syscall!(libc::SYS_memfd_create, name.as_ptr(), flags | MFD_EXEC) {
        // Kernels before 6.3 know no MFD_EXEC, and make every memfd executable.
        Err(Errno::EINVAL) => syscall!(libc::SYS_memfd_create, name.as_ptr(), flags)?,
        other => other?,
    };
    let fd = own(made);
    write_all(std::os::fd::AsFd::as_fd(&fd), bytes)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    syscall!(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_ADD_SEALS, seals)?;
    Ok(fd)
}
