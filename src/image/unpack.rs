//! Unpacking one layer into a directory that overlayfs takes as a lower layer.
//!
//! Every entry is made relative to its parent's descriptor (see `beneath`), under a name that was
//! free: whatever an earlier entry put there goes first. So nothing is ever opened, changed or
//! written through a link. Owners are the container's numbers, as they are in the archive.
//! Deletions become overlayfs's own marks: a character device 0:0 for a name, and
//! `trusted.overlay.opaque` on a directory (kernel overlayfs.rst; image-spec layer.md, Whiteouts).
//!
//! Not here: the digests (the caller hashes the stream) and the order of layers.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc::makedev;
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, futimens,
    mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};

use super::Limits;
use super::beneath::{Inside, Root};
use super::tarball::{Entry, Extent, Kind, Reader};
use super::trash::{DIRECTORY, Trash};
use crate::error::OrFailure;
use crate::sys::xattr::fsetxattr;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE_XATTR: &std::ffi::CStr = c"trusted.overlay.opaque";

/// What unpacking a layer gave.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    /// The bytes of all files.
    pub(super) bytes: u64,
    /// The layer hides everything below it: overlayfs has no such mark for a whole layer.
    pub(super) opaque_root: bool,
    /// What was not applied, once per kind.
    pub(super) warnings: BTreeSet<String>,
}

/// Unpacks a tar stream into `root`, which is empty and which nobody else writes to.
pub(super) fn unpack(
    stream: impl Read,
    root: OwnedFd,
    trash: &Trash,
    limits: &Limits,
) -> Result<Unpacked> {
    // The mode of a container's `/` where no entry says otherwise.
    fchmod(&root, Mode::from_bits_truncate(0o755)).or_failure(|| "set the mode of the root")?;
    let mut unpacker = Unpacker {
        root: Root::new(root),
        trash,
        times: HashMap::new(),
        result: Unpacked::default(),
        buffer: vec![0; 128 << 10],
    };
    let mut reader = Reader::new(stream);
    let mut entries = 0u64;
    while let Some(entry) = reader.next()? {
        entries += 1;
        ensure!(
            entries <= limits.layer_entries,
            "the layer has more than {} entries",
            limits.layer_entries
        );
        unpacker
            .entry(&entry, &mut reader)
            .with_context(|| format!("entry {:?}", String::from_utf8_lossy(&entry.path)))?;
    }
    unpacker.set_directory_times()?;
    Ok(unpacker.result)
}

struct Unpacker<'a> {
    root: Root,
    trash: &'a Trash,
    /// Directories' times, which are set when nothing more is made in them.
    times: HashMap<Inside, (i64, i64)>,
    result: Unpacked,
    buffer: Vec<u8>,
}

/// What stands at a name already.
enum Existing {
    Nothing,
    Directory,
    Whiteout,
    Other,
}

impl Unpacker<'_> {
    fn entry(&mut self, entry: &Entry, data: &mut impl Read) -> Result<()> {
        let path = Inside::new(&entry.path)?;
        let Some((parents, name)) = path.split() else {
            ensure!(
                entry.kind == Kind::Directory,
                "the layer's root is not a directory"
            );
            let root = openat(self.root.fd(), ".", DIRECTORY, Mode::empty())
                .or_failure(|| "open the layer's root")?;
            self.directory_metadata(&root, entry)?;
            self.times.insert(path, entry.mtime);
            return Ok(());
        };
        let bytes = name.as_bytes();
        if bytes == OPAQUE {
            return self.opaque(parents);
        }
        if path.any(|component| component.starts_with(AUFS)) {
            // Bookkeeping of aufs, which old layers contain.
            return Ok(());
        }
        if let Some(hidden) = bytes.strip_prefix(WHITEOUT) {
            ensure!(
                !matches!(hidden, b"" | b"." | b".."),
                "the whiteout names no file"
            );
            let parent = self.root.make_directory(parents)?;
            return whiteout(&parent, OsStr::from_bytes(hidden));
        }
        let parent = self.root.make_directory(parents)?;
        match entry.kind {
            Kind::Directory => {
                self.directory(&parent, name, entry)?;
                self.times.insert(path, entry.mtime);
                Ok(())
            }
            Kind::File => self.file(&parent, name, entry, data),
            Kind::HardLink => self.hard_link(&parent, name, entry),
            Kind::Symlink => self.symlink(&parent, name, entry),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(&parent, name, entry),
        }
    }

    fn opaque(&mut self, parents: &[std::ffi::OsString]) -> Result<()> {
        if parents.is_empty() {
            self.result.opaque_root = true;
            return Ok(());
        }
        let path = self.root.make_directory(parents)?;
        let directory = openat(&path, ".", DIRECTORY, Mode::empty())
            .or_failure(|| "open the opaque directory")?;
        set_opaque(&directory)
    }

    fn directory(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        let existing = existing(parent, name)?;
        if !matches!(existing, Existing::Directory) {
            self.trash.discard(parent, name)?;
            mkdirat(parent, name, Mode::S_IRWXU).or_failure(|| "make the directory")?;
        }
        let directory = openat(parent, name, DIRECTORY, Mode::empty())
            .or_failure(|| "open the new directory")?;
        if matches!(existing, Existing::Whiteout) {
            // The name was deleted from the layers below, and made again in this one.
            set_opaque(&directory)?;
        }
        self.directory_metadata(&directory, entry)
    }

    fn directory_metadata(&mut self, directory: &OwnedFd, entry: &Entry) -> Result<()> {
        own(directory, entry)?;
        fchmod(directory, Mode::from_bits_truncate(entry.mode)).or_failure(|| "set the mode")?;
        self.xattrs(directory, entry)
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<()> {
        self.trash.discard(parent, name)?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file: File = openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .or_failure(|| "make the file")?
            .into();
        match &entry.extents {
            None => self.copy(&file, 0, entry.size, data)?,
            Some(extents) => {
                for Extent { offset, len } in extents {
                    self.copy(&file, *offset, *len, data)?;
                }
                file.set_len(entry.size)
                    .or_failure(|| format!("set the length to {}", entry.size))?;
            }
        }
        // Changing the owner clears setuid and capabilities, so it comes first.
        own(&file, entry)?;
        fchmod(&file, Mode::from_bits_truncate(entry.mode)).or_failure(|| "set the mode")?;
        self.xattrs(&file, entry)?;
        let (access, modify) = times(entry.mtime);
        futimens(&file, &access, &modify).or_failure(|| "set the time")?;
        Ok(())
    }

    fn copy(&mut self, file: &File, offset: u64, len: u64, data: &mut impl Read) -> Result<()> {
        let mut done = 0;
        while done < len {
            let want = usize::try_from(len - done).unwrap_or(usize::MAX);
            let want = want.min(self.buffer.len());
            let count = data.read(self.buffer.get_mut(..want).unwrap_or_default())?;
            ensure!(count > 0, "the layer ends in the middle of this file");
            file.write_all_at(self.buffer.get(..count).unwrap_or_default(), offset + done)
                .or_failure(|| "write the file")?;
            done += count as u64;
        }
        self.result.bytes = self.result.bytes.saturating_add(len);
        Ok(())
    }

    fn hard_link(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        let target = String::from_utf8_lossy(&entry.link);
        let inside =
            Inside::new(&entry.link).with_context(|| format!("hard link to {target:?}"))?;
        let Some((parents, target_name)) = inside.split() else {
            bail!("it is a hard link to the layer's root");
        };
        let target_parent = match self.root.directory(parents) {
            Ok(fd) => fd,
            Err(failure) if failure.errno == Errno::ENOENT => bail!(missing_target(&target)),
            Err(failure) => return Err(failure.into()),
        };
        let stat = match lstat(&target_parent, target_name)? {
            Some(stat) => stat,
            None => bail!(missing_target(&target)),
        };
        if let Some(old) = lstat(parent, name)? {
            if (old.st_dev, old.st_ino) == (stat.st_dev, stat.st_ino) {
                return Ok(());
            }
            self.trash.discard(parent, name)?;
        }
        // Without AT_SYMLINK_FOLLOW a link to a symlink links the symlink itself.
        linkat(&target_parent, target_name, parent, name, AtFlags::empty())
            .or_failure(|| format!("hard link to {target:?}"))?;
        Ok(())
    }

    fn symlink(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        self.trash.discard(parent, name)?;
        symlinkat(entry.link.as_slice(), parent, name).or_failure(|| "make the symlink")?;
        self.own_name(parent, name, entry)?;
        self.no_xattrs(entry);
        self.name_times(parent, name, entry.mtime)
    }

    fn node(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        self.trash.discard(parent, name)?;
        let (major, minor) = entry.device;
        let (kind, device) = match entry.kind {
            Kind::CharDevice => (SFlag::S_IFCHR, makedev(major, minor)),
            Kind::BlockDevice => (SFlag::S_IFBLK, makedev(major, minor)),
            _ => (SFlag::S_IFIFO, 0),
        };
        let mode = Mode::from_bits_truncate(entry.mode);
        mknodat(parent, name, kind, Mode::empty(), device).or_failure(|| "make the node")?;
        self.own_name(parent, name, entry)?;
        // A node that was made just now under this name: there is no link to follow.
        fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink).or_failure(|| "set the mode")?;
        self.no_xattrs(entry);
        self.name_times(parent, name, entry.mtime)
    }

    fn own_name(&self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        let (uid, gid) = owner(entry);
        fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
            .or_failure(|| "set the owner")?;
        Ok(())
    }

    fn name_times(&self, parent: &OwnedFd, name: &OsStr, mtime: (i64, i64)) -> Result<()> {
        let (access, modify) = times(mtime);
        let flag = UtimensatFlags::NoFollowSymlink;
        utimensat(parent, name, &access, &modify, flag).or_failure(|| "set the time")?;
        Ok(())
    }

    fn xattrs(&mut self, fd: impl AsFd, entry: &Entry) -> Result<()> {
        for (name, value) in &entry.xattrs {
            let shown = String::from_utf8_lossy(name);
            if is_overlay_mark(name) {
                bail!("it sets the attribute {shown}, which overlayfs would obey");
            }
            if name != b"security.capability" && !name.starts_with(b"user.") {
                self.warn(&shown, "is not kept");
                continue;
            }
            let c_name = CString::new(name.as_slice()).context("an attribute has a zero byte")?;
            match fsetxattr(fd.as_fd(), &c_name, value) {
                Err(Errno::ENOTSUP) if name.starts_with(b"user.") => {
                    self.warn(&shown, "is not kept: the store's file system has none");
                }
                result => result.or_failure(|| format!("set the attribute {shown}"))?,
            }
        }
        Ok(())
    }

    /// Links, devices and fifos have neither capabilities nor `user.` attributes: xattr(7).
    fn no_xattrs(&mut self, entry: &Entry) {
        for (name, _) in &entry.xattrs {
            let shown = String::from_utf8_lossy(name);
            self.warn(&shown, "is not kept on links and special files");
        }
    }

    fn warn(&mut self, attribute: &str, what: &str) {
        const WARNINGS_MAX: usize = 20;
        if self.result.warnings.len() < WARNINGS_MAX {
            let text = format!("extended attribute {attribute:?} {what}");
            self.result.warnings.insert(text);
        }
    }

    fn set_directory_times(&mut self) -> Result<()> {
        for (path, mtime) in std::mem::take(&mut self.times) {
            let Some((parents, name)) = path.split() else {
                self.name_times(self.root.fd(), OsStr::new("."), mtime)?;
                continue;
            };
            // A later entry may have replaced the directory or one above it.
            let Ok(parent) = self.root.directory(parents) else {
                continue;
            };
            if matches!(existing(&parent, name)?, Existing::Directory) {
                self.name_times(&parent, name, mtime)?;
            }
        }
        Ok(())
    }
}

fn missing_target(target: &str) -> String {
    format!("it is a hard link to {target:?}, which is not in this layer before it")
}

/// A whiteout hides what lower layers have; what this layer itself has under the name stays.
fn whiteout(parent: &OwnedFd, name: &OsStr) -> Result<()> {
    match existing(parent, name)? {
        Existing::Nothing => {
            mknodat(parent, name, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))
                .or_failure(|| "make the whiteout")?;
        }
        Existing::Directory => {
            let directory = openat(parent, name, DIRECTORY, Mode::empty())
                .or_failure(|| "open the directory")?;
            set_opaque(&directory)?;
        }
        Existing::Whiteout | Existing::Other => {}
    }
    Ok(())
}

fn set_opaque(directory: &OwnedFd) -> Result<()> {
    fsetxattr(directory, OPAQUE_XATTR, b"y")
        .or_failure(|| "set the attribute trusted.overlay.opaque")?;
    Ok(())
}

/// Attributes that steer overlayfs: redirects, metadata-only copies, its whiteouts and marks.
fn is_overlay_mark(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

fn lstat(parent: &OwnedFd, name: &OsStr) -> Result<Option<FileStat>> {
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno).or_failure(|| format!("look at {}", name.display()))?,
    }
}

fn existing(parent: &OwnedFd, name: &OsStr) -> Result<Existing> {
    let Some(stat) = lstat(parent, name)? else {
        return Ok(Existing::Nothing);
    };
    Ok(
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => Existing::Directory,
            SFlag::S_IFCHR if stat.st_rdev == makedev(0, 0) => Existing::Whiteout,
            _ => Existing::Other,
        },
    )
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
}

fn own(fd: impl AsFd, entry: &Entry) -> Result<()> {
    let (uid, gid) = owner(entry);
    fchown(fd, uid, gid).or_failure(|| format!("set the owner {}:{}", entry.uid, entry.gid))?;
    Ok(())
}

fn times((seconds, nanoseconds): (i64, i64)) -> (TimeSpec, TimeSpec) {
    let time = TimeSpec::new(seconds, nanoseconds);
    (time, time)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
