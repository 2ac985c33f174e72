//! Files that are written as a whole: under another name in the same directory, then renamed, so
//! that a reader, or a crash, sees the old text or the new one.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};

use crate::error::OrFailure;

/// How long a file must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// Until the machine stops: nothing is synced.
    UntilShutdown,
    /// Over a loss of power: file and directory are synced.
    Forever,
}

/// Writes a file as a whole.
///
/// # Errors
/// As open(2), write(2), fsync(2) and rename(2); the old file is as it was.
pub fn replace(path: &Path, bytes: &[u8], lasts: Lasts) -> Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().context("a path without a file name")?);
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = write(&temporary, bytes, lasts).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.or_failure(|| format!("write {}", path.display()))?;
    if lasts == Lasts::Forever
        && let Some(directory) = path.parent()
    {
        let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
        synced.or_failure(|| format!("sync {}", directory.display()))?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8], lasts: Lasts) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(bytes)?;
    if lasts == Lasts::Forever {
        file.sync_all()?;
    }
    Ok(())
}

/// Makes a directory with all above it, for root alone: what containers leave in their volumes and
/// writable layers (a setuid program of their root, a device node) must be out of reach for the
/// users of the machine, and so must the secrets in configurations.
///
/// # Errors
/// As mkdir(2).
pub fn make_directory(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    Ok(made.or_failure(|| format!("make directory {}", path.display()))?)
}

/// Removes a directory with all in it; one that is gone is no error.
///
/// # Errors
/// As rmdir(2).
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => Ok(other.or_failure(|| format!("remove {}", path.display()))?),
    }
}

/// Reads a file; `None` when it is not there.
///
/// # Errors
/// As open(2) and read(2).
pub fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(
            other.or_failure(|| format!("read {}", path.display()))?,
        )),
    }
}
