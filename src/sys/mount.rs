//! The mount interface of Linux 5.2 (fsopen, fsconfig, fsmount, open_tree, move_mount),
//! mount_setattr (5.12), and pivot_root and umount2.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::open::own;
use super::{At, EMPTY, Result, syscall};

/// `MOUNT_ATTR_*`, from linux/mount.h.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits do nothing.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The mask of the access time modes.
    pub const ATIME: u64 = 0x70;
    /// Access times are not updated.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not updated.
    pub const NODIRATIME: u64 = 0x80;
    /// Ids are mapped by a user namespace.
    pub const IDMAP: u64 = 0x0010_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const CLOEXEC: libc::c_uint = libc::O_CLOEXEC.cast_unsigned();

/// open_tree(2) with `OPEN_TREE_CLONE`: a detached copy of the mount at `path` (or of `at` itself,
/// with an empty path), with everything below it when `recursive`.
///
/// # Errors
/// As open_tree(2).
pub fn clone_tree(at: At<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | CLOEXEC | libc::AT_EMPTY_PATH.cast_unsigned();
    if recursive {
        flags |= AT_RECURSIVE;
    }
    syscall!(libc::SYS_open_tree, at.raw(), path.as_ptr(), flags).map(own)
}

/// move_mount(2) of a detached tree onto an open directory or file.
///
/// # Errors
/// As move_mount(2).
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    const EMPTY_PATHS: libc::c_uint = 0x04 | 0x40;
    let (from, to) = (tree.as_raw_fd(), target.as_raw_fd());
    syscall!(
        libc::SYS_move_mount,
        from,
        EMPTY.as_ptr(),
        to,
        EMPTY.as_ptr(),
        EMPTY_PATHS
    )
    .map(drop)
}

/// move_mount(2) of a detached tree onto a path.
///
/// # Errors
/// As move_mount(2).
pub fn attach_at(tree: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    let from = tree.as_raw_fd();
    syscall!(
        libc::SYS_move_mount,
        from,
        EMPTY.as_ptr(),
        libc::AT_FDCWD,
        path.as_ptr(),
        0x04
    )
    .map(drop)
}

/// What mount_setattr(2) takes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 for no change.
    pub propagation: u64,
    /// The user namespace of an idmap.
    pub userns_fd: u64,
}

/// mount_setattr(2) on an open mount (or on what is at `path` below it).
///
/// # Errors
/// As mount_setattr(2).
pub fn set_attr(at: At<'_>, path: &CStr, attr: &MountAttr, recursive: bool) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH.cast_unsigned();
    if recursive {
        flags |= AT_RECURSIVE;
    }
    let attr_pointer = std::ptr::from_ref(attr);
    let size = size_of::<MountAttr>();
    syscall!(
        libc::SYS_mount_setattr,
        at.raw(),
        path.as_ptr(),
        flags,
        attr_pointer,
        size
    )
    .map(drop)
}

/// fsopen(2).
///
/// # Errors
/// As fsopen(2); ENODEV for an unknown type.
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd> {
    syscall!(libc::SYS_fsopen, fstype.as_ptr(), 1).map(own)
}

/// One setting of a file system that is being made.
#[derive(Debug, Clone, Copy)]
pub enum Setting<'a> {
    /// A key alone.
    Flag(&'a CStr),
    /// A key with a value.
    Text(&'a CStr, &'a CStr),
}

/// fsconfig(2): one setting.
///
/// # Errors
/// As fsconfig(2); EINVAL for a key that the file system does not know.
pub fn fsconfig(fs: BorrowedFd<'_>, setting: Setting<'_>) -> Result<()> {
    let null = std::ptr::null::<libc::c_char>();
    let (command, key, value) = match setting {
        Setting::Flag(key) => (0, key.as_ptr(), null),
        Setting::Text(key, value) => (1, key.as_ptr(), value.as_ptr()),
    };
    syscall!(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, 0).map(drop)
}

/// fsconfig(2) with `FSCONFIG_CMD_CREATE`: makes the superblock.
///
/// # Errors
/// As mount(2) of that type.
pub fn fscreate(fs: BorrowedFd<'_>) -> Result<()> {
    let null = std::ptr::null::<libc::c_char>();
    syscall!(libc::SYS_fsconfig, fs.as_raw_fd(), 6, null, null, 0).map(drop)
}

/// fsmount(2): a detached mount of the superblock, with attributes from [`attr`].
///
/// # Errors
/// As fsmount(2); EPERM where a user namespace would see more than it may (proc, sysfs).
pub fn fsmount(fs: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    syscall!(libc::SYS_fsmount, fs.as_raw_fd(), 1, attributes).map(own)
}

/// Reads one message of the kernel about a file system context ("e tmpfs: Unknown parameter 'x'").
///
/// # Errors
/// As read(2); ENODATA when there is none.
pub fn fsmessage(fs: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    super::open::read(fs, buffer)
}

/// mount(2) of a new file system, with its options as one text. For overlayfs, whose list of layers
/// is longer than fsconfig(2) takes as one value.
///
/// # Errors
/// As mount(2).
pub fn mount(source: &CStr, target: &CStr, fstype: &CStr, options: &CStr) -> Result<()> {
    let (source, target, fstype) = (source.as_ptr(), target.as_ptr(), fstype.as_ptr());
    syscall!(libc::SYS_mount, source, target, fstype, 0, options.as_ptr()).map(drop)
}

/// mount(2) that only changes the propagation of the whole tree at `/`.
///
/// # Errors
/// As mount(2).
pub fn propagate_root(flags: libc::c_ulong) -> Result<()> {
    let null = std::ptr::null::<libc::c_char>();
    syscall!(
        libc::SYS_mount,
        null,
        c"/".as_ptr(),
        null,
        flags | libc::MS_REC,
        null
    )
    .map(drop)
}

/// pivot_root(2) with `.` as both directories: the old root ends up on top of the new one.
///
/// # Errors
/// As pivot_root(2).
pub fn pivot_here() -> Result<()> {
    syscall!(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()).map(drop)
}

/// umount2(2).
///
/// # Errors
/// As umount2(2).
pub fn unmount(path: &CStr, flags: i32) -> Result<()> {
    syscall!(libc::SYS_umount2, path.as_ptr(), flags).map(drop)
}

/// fchdir(2).
///
/// # Errors
/// As fchdir(2).
pub fn fchdir(fd: BorrowedFd<'_>) -> Result<()> {
    syscall!(libc::SYS_fchdir, fd.as_raw_fd()).map(drop)
}

/// chdir(2).
///
/// # Errors
/// As chdir(2).
pub fn chdir(path: &CStr) -> Result<()> {
    syscall!(libc::SYS_chdir, path.as_ptr()).map(drop)
}

/// chroot(2).
///
/// # Errors
/// As chroot(2).
pub fn chroot(path: &CStr) -> Result<()> {
    syscall!(libc::SYS_chroot, path.as_ptr()).map(drop)
}

/// The path of the working directory, as getcwd(2) of the kernel gives it: it starts with
/// `(unreachable)` when the directory is outside the root. Returns the length with its final NUL.
///
/// # Errors
/// As getcwd(2).
pub fn getcwd(buffer: &mut [u8]) -> Result<usize> {
    syscall!(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len())
        .map(|length| usize::try_from(length).unwrap_or(0))
}
