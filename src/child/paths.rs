//! Paths inside the container: every one is opened from the root's descriptor, and what is missing
//! is made one component at a time, relative to a descriptor that was opened the same way.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::record::Detail;
use super::{Because, Child, Fault, Result};
use crate::sys::At;
use crate::sys::open::{self, IN_ROOT, NO_MAGICLINKS, NO_SYMLINKS, NO_XDEV};

/// What is made where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Directory,
    File,
}

const PATH: i32 = libc::O_PATH;
const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// Opens a file below a procfs, never through a link that leaves it, never in another mount.
pub(super) fn open_proc(proc: BorrowedFd<'_>, file: &CStr, flags: i32) -> Result<OwnedFd> {
    // `self` is a link of procfs itself, and not a magic one.
    Ok(open::openat2(
        At::Fd(proc),
        file,
        flags,
        0,
        open::BENEATH | NO_MAGICLINKS | NO_XDEV,
    )?)
}

impl Child<'_> {
    /// The container's root.
    pub(super) fn root(&mut self) -> Result<BorrowedFd<'_>> {
        if self.work.root.is_none() {
            self.work.root = Some(open::openat2(At::Cwd, c"/", DIRECTORY, 0, 0)?);
        }
        Ok(self.work.root.as_ref().ok_or(Errno::EBADF)?.as_fd())
    }

    /// Opens a path of the container.
    pub(super) fn open(&mut self, path: &CStr, flags: i32) -> Result<OwnedFd> {
        let root = self.root()?;
        Ok(open::openat2(
            At::Fd(root),
            path,
            flags,
            0,
            IN_ROOT | NO_MAGICLINKS,
        )?)
    }

    /// Opens a path of the container as a mount target, made where it is missing.
    pub(super) fn target(&mut self, path: &CStr, missing: Missing) -> Result<OwnedFd> {
        match self.open(path, PATH) {
            Err(Fault {
                errno: Errno::ENOENT,
                ..
            }) => {}
            other => {
                return other.map_err(|fault| Fault {
                    detail: Detail::OpenTarget,
                    ..fault
                });
            }
        }
        let (parent, name) = self.parent(path)?;
        let name = name.as_cstr().ok_or(Errno::ENAMETOOLONG)?;
        match missing {
            Missing::Directory => ignore_exists(open::mkdirat(parent.as_fd(), name, 0o755)),
            Missing::File => {
                let mode = libc::S_IFREG | 0o644;
                ignore_exists(open::mknodat(parent.as_fd(), name, mode, 0))
            }
        }
        .because(Detail::OpenTarget)?;
        let resolve = IN_ROOT | NO_SYMLINKS;
        open::openat2(At::Fd(parent.as_fd()), name, PATH, 0, resolve).because(Detail::OpenTarget)
    }

    /// As [`target`](Self::target) for a directory, with no symbolic link on the way.
    pub(super) fn ordinary_directory(&mut self, path: &CStr) -> Result<OwnedFd> {
        let root = self.root()?;
        match open::openat2(At::Fd(root), path, PATH, 0, IN_ROOT | NO_SYMLINKS) {
            Err(Errno::ENOENT) => self.target(path, Missing::Directory),
            Err(Errno::ELOOP) => Err(Fault {
                errno: Errno::ELOOP,
                detail: Detail::Symlink,
            }),
            other => other.because(Detail::OpenTarget),
        }
    }

    /// The directory that holds `path`, made with all above it where it is missing, and the last
    /// component.
    pub(super) fn parent(&mut self, path: &CStr) -> Result<(OwnedFd, Name)> {
        let mut prefix = Buffer::<4096>::new();
        let mut at = self.open(c"/", DIRECTORY)?;
        let mut last = Name::new();
        for part in path
            .to_bytes()
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
        {
            if let Some(name) = last.as_cstr().filter(|name| !name.is_empty()) {
                prefix.push(b"/").ok_or(Errno::ENAMETOOLONG)?;
                prefix.push(name.to_bytes()).ok_or(Errno::ENAMETOOLONG)?;
                let whole = prefix.as_cstr().ok_or(Errno::ENAMETOOLONG)?;
                at = self.enter(at, name, whole)?;
            }
            last = Name::new();
            last.push(part).ok_or(Errno::ENAMETOOLONG)?;
        }
        Ok((at, last))
    }

    /// Opens the directory at `whole`, whose parent is `at`; makes it where it is missing.
    fn enter(&mut self, at: OwnedFd, name: &CStr, whole: &CStr) -> Result<OwnedFd> {
        match self.open(whole, DIRECTORY) {
            Err(Fault {
                errno: Errno::ENOENT,
                ..
            }) => {}
            other => {
                return other.map_err(|fault| Fault {
                    detail: Detail::MakeParent,
                    ..fault
                });
            }
        }
        ignore_exists(open::mkdirat(at.as_fd(), name, 0o755)).because(Detail::MakeParent)?;
        let resolve = IN_ROOT | NO_SYMLINKS;
        open::openat2(At::Fd(at.as_fd()), name, DIRECTORY, 0, resolve).because(Detail::MakeParent)
    }

    pub(super) fn make_directory(&mut self, path: &CStr) -> Result<()> {
        self.target(path, Missing::Directory).map(drop)
    }

    pub(super) fn make_symlink(&mut self, path: &CStr, target: &CStr) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let name = name.as_cstr().ok_or(Errno::ENAMETOOLONG)?;
        // What the image or a mount has there stays.
        Ok(ignore_exists(open::symlinkat(
            target,
            parent.as_fd(),
            name,
        ))?)
    }

    pub(super) fn make_node(
        &mut self,
        path: &CStr,
        mode: u32,
        number: u64,
        (uid, gid): (u32, u32),
    ) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let name = name.as_cstr().ok_or(Errno::ENAMETOOLONG)?;
        match open::mknodat(parent.as_fd(), name, mode, number) {
            Err(Errno::EEXIST) => same_node(parent.as_fd(), name, mode, number)?,
            other => {
                other?;
                open::fchmodat(parent.as_fd(), name, mode & 0o7777)?;
            }
        }
        Ok(open::fchownat(parent.as_fd(), name, uid, gid)?)
    }
}

fn same_node(parent: BorrowedFd<'_>, name: &CStr, mode: u32, number: u64) -> Result<()> {
    let flags = PATH | libc::O_NOFOLLOW;
    let there = open::openat2(At::Fd(parent), name, flags, 0, IN_ROOT | NO_SYMLINKS);
    let stat = open::fstat(there.because(Detail::Different)?.as_fd())?;
    let fifo = mode & libc::S_IFMT == libc::S_IFIFO;
    if stat.st_mode & libc::S_IFMT == mode & libc::S_IFMT && (fifo || stat.st_rdev == number) {
        return Ok(());
    }
    Err(Fault {
        errno: Errno::EEXIST,
        detail: Detail::Different,
    })
}

fn ignore_exists(result: crate::sys::Result<()>) -> crate::sys::Result<()> {
    match result {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// A file name.
pub(super) type Name = Buffer<256>;

/// A C string that grows in place.
pub(super) struct Buffer<const SIZE: usize> {
    bytes: [u8; SIZE],
    length: usize,
}

impl<const SIZE: usize> Buffer<SIZE> {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; SIZE],
            length: 0,
        }
    }

    /// Adds bytes; `None` when they and the final NUL do not fit.
    pub(super) fn push(&mut self, more: &[u8]) -> Option<()> {
        let end = self
            .length
            .checked_add(more.len())
            .filter(|end| *end < SIZE)?;
        for (to, from) in self.bytes.get_mut(self.length..end)?.iter_mut().zip(more) {
            *to = *from;
        }
        self.length = end;
        Some(())
    }

    /// Up to the first NUL.
    pub(super) fn as_cstr(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }

    /// What was added.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}
