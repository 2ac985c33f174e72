//! Deleting trees that strangers shaped.
//!
//! A layer's tree may be deeper than any stack, path or descriptor limit. So nothing recurses: a
//! directory's subdirectories are first moved up into the trash directory, which is on the same
//! file system, and then each is emptied there. Names are never followed: every call is relative
//! to a descriptor and acts on the name itself.

use std::cell::Cell;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::Result;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Failure, OrFailure};

/// A directory whose content is going to be deleted.
pub(super) struct Trash {
    dir: OwnedFd,
    next: Cell<u64>,
}

/// What to open a directory with that may have been put in place of another.
pub(super) const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

impl Trash {
    /// The trash in an existing directory.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let dir = open(path, DIRECTORY, Mode::empty())
            .or_failure(|| format!("open {}", path.display()))?;
        Ok(Self {
            dir,
            next: Cell::new(0),
        })
    }

    /// Deletes `name` in `parent`, with everything below it; nothing happens if it is not there.
    pub(super) fn discard(&self, parent: impl AsFd, name: &OsStr) -> Result<()> {
        let parent = parent.as_fd();
        if !is_directory(parent, name)? {
            return match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
                Err(Errno::ENOENT) => Ok(()),
                done => Ok(done.or_failure(|| delete(name))?),
            };
        }
        let mut queue = vec![self.take(parent, name)?];
        while let Some(directory) = queue.pop() {
            self.empty_one(&directory, &mut queue)?;
            unlinkat(&self.dir, directory.as_os_str(), UnlinkatFlags::RemoveDir)
                .or_failure(|| delete(&directory))?;
        }
        Ok(())
    }

    /// Deletes everything that is in the trash directory itself.
    pub(super) fn empty(&self) -> Result<()> {
        for name in names(&self.dir, OsStr::new("."))? {
            self.discard(&self.dir, &name)?;
        }
        Ok(())
    }

    fn empty_one(&self, directory: &OsStr, queue: &mut Vec<OsString>) -> Result<()> {
        let entries = names(&self.dir, directory)?;
        let fd = nix::fcntl::openat(&self.dir, directory, DIRECTORY, Mode::empty())
            .or_failure(|| delete(directory))?;
        for name in entries {
            if is_directory(&fd, &name)? {
                queue.push(self.take(&fd, &name)?);
            } else {
                unlinkat(&fd, name.as_os_str(), UnlinkatFlags::NoRemoveDir)
                    .or_failure(|| delete(&name))?;
            }
        }
        Ok(())
    }

    /// Moves a directory into the trash under a new name.
    fn take(&self, parent: impl AsFd, name: &OsStr) -> Result<OsString> {
        loop {
            let number = self.next.get();
            self.next.set(number + 1);
            let free = OsString::from(format!("discarded.{number}"));
            // A leftover of a killed writer may have the name. An empty directory is replaced,
            // which deletes it; anything else is in the way.
            match renameat(parent.as_fd(), name, &self.dir, free.as_os_str()) {
                Ok(()) => return Ok(free),
                Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
                Err(errno) => return Err(Failure::new(delete(name), errno).into()),
            }
        }
    }
}

fn delete(name: &OsStr) -> String {
    format!("delete {}", name.display())
}

fn is_directory(parent: impl AsFd, name: &OsStr) -> Result<bool> {
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(Failure::new(delete(name), errno).into()),
    }
}

fn names(parent: impl AsFd, directory: &OsStr) -> Result<Vec<OsString>> {
    let mut dir = Dir::openat(parent, directory, DIRECTORY, Mode::empty())
        .or_failure(|| delete(directory))?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name: CString = entry
            .or_failure(|| delete(directory))?
            .file_name()
            .to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(OsString::from_vec(name.into_bytes()));
        }
    }
    Ok(names)
}

/// Deletes a tree by path, moving its directories into `trash` on the way.
pub(super) fn discard(trash: &Trash, path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let parent = open(parent, DIRECTORY, Mode::empty())
        .or_failure(|| format!("open {}", parent.display()))?;
    trash.discard(parent, OsStr::from_bytes(name.as_bytes()))
}

/// Deletes a tree by path, however deep it is; its directories are moved up in it on the way. One
/// that is gone is no error.
///
/// # Errors
/// As open(2), rename(2), unlink(2) and rmdir(2).
pub fn remove_tree(path: &Path) -> Result<()> {
    if let Err(error) = std::fs::symlink_metadata(path)
        && error.kind() == std::io::ErrorKind::NotFound
    {
        return Ok(());
    }
    Trash::open(path)?.empty()?;
    Ok(std::fs::remove_dir(path).or_failure(|| format!("remove {}", path.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::openat;
    use nix::sys::stat::mkdirat;
    use std::fs;

    #[test]
    fn tree_deeper_than_every_limit_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("trash")).unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let mut at = open(&dir.path().join("tree"), DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..5000 {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        drop(at);
        let trash = Trash::open(&dir.path().join("trash")).unwrap();
        discard(&trash, &dir.path().join("tree")).unwrap();
        assert!(!dir.path().join("tree").exists());
        assert_eq!(fs::read_dir(dir.path().join("trash")).unwrap().count(), 0);
    }

    #[test]
    fn symlinks_are_deleted_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), b"x").unwrap();
        let trash = dir.path().join("trash");
        fs::create_dir_all(trash.join("tree/sub")).unwrap();
        fs::create_dir_all(trash.join("discarded.0/full")).unwrap();
        fs::create_dir_all(trash.join("discarded.1")).unwrap();
        fs::write(trash.join("discarded.2"), b"x").unwrap();
        std::os::unix::fs::symlink(&outside, trash.join("tree/link")).unwrap();
        std::os::unix::fs::symlink(&outside, trash.join("tree/sub/link")).unwrap();
        std::os::unix::fs::symlink(&outside, trash.join("link")).unwrap();
        Trash::open(&trash).unwrap().empty().unwrap();
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
        assert!(outside.join("keep").exists());
    }

    #[test]
    fn deep_tree_is_removed_by_path_and_one_that_is_gone_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("discarded.0/full")).unwrap();
        fs::write(tree.join("discarded.1"), b"x").unwrap();
        let mut at = open(&tree, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..5000 {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        drop(at);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_tree(&tree).unwrap();
    }
}
