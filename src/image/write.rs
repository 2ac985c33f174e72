//! Changing the store: one writer at a time, and a crash at any point leaves a usable store.
//!
//! A change first makes new things under `tmp/` and moves them into place, complete and synced.
//! Then it replaces `index.json`, which is the commit. Then it deletes what no name leads to. A
//! change that dies before the commit leaves unused layers and blobs, and after it undeleted ones:
//! the next change deletes both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::store::{FORMAT, INDEX, Index, Record, find};
use super::trash::{self, Trash};
use super::{Digest, NotInStore, Store};
use crate::error::OrFailure;

/// What [`Store::remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The canonical name that is gone.
    pub name: String,
    /// The image that it led to.
    pub id: Digest,
    /// The layers that were deleted; the others belong to other names or are in use.
    pub layers_deleted: usize,
    /// The layers that only running containers still use: deleted by a later load or remove.
    pub layers_in_use: usize,
}

/// What a sweep found.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Swept {
    pub(super) deleted: usize,
    pub(super) in_use: usize,
}

/// The right to change the store, and the names as they are.
pub(super) struct Writer<'a> {
    pub(super) store: &'a Store,
    pub(super) index: Index,
    pub(super) trash: Trash,
    _lock: File,
}

impl Store {
    /// Removes a name, given as a reference or an id, and deletes what nothing else needs.
    ///
    /// A layer that a container holds (see [`Store::hold`]) stays until a later load or remove.
    ///
    /// # Errors
    /// [`NotInStore`] as the source; an id that has several names.
    pub fn remove(&self, reference: &str) -> Result<Removed> {
        // A name that is not there makes no store.
        let name = find(&self.index()?, reference)?;
        if !self.index()?.images.contains_key(&name) {
            return Err(NotInStore { name }.into());
        }
        let mut writer = self.writer()?;
        let name = find(&writer.index, reference)?;
        if let Ok(id) = reference.parse::<Digest>() {
            let all = writer.index.images.values();
            if all.filter(|record| record.id == id).count() > 1 {
                bail!("image {id} has several names: remove them by name");
            }
        }
        let Some(Record { id, .. }) = writer.index.images.remove(&name) else {
            return Err(NotInStore { name }.into());
        };
        writer.commit()?;
        let swept = writer.sweep()?;
        Ok(Removed {
            name,
            id,
            layers_deleted: swept.deleted,
            layers_in_use: swept.in_use,
        })
    }

    /// Takes the writers' lock and clears what a killed writer left behind.
    pub(super) fn writer(&self) -> Result<Writer<'_>> {
        for directory in ["", "blobs", "layers", "tmp"] {
            make_directory(&self.root.join(directory))?;
        }
        let lock = lock(&self.root.join("lock"), self.limits.lock_wait)?;
        let trash = Trash::open(&self.tmp())?;
        trash.empty()?;
        Ok(Writer {
            store: self,
            index: self.index()?,
            trash,
            _lock: lock,
        })
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}

impl Writer<'_> {
    /// Replaces the names.
    pub(super) fn commit(&mut self) -> Result<()> {
        self.index.format = FORMAT;
        let mut bytes = serde_json::to_vec_pretty(&self.index)?;
        bytes.push(b'\n');
        self.write(&self.store.root.join(INDEX), &bytes)
    }

    /// Deletes what was made since the last commit.
    pub(super) fn undo(&mut self) -> Result<()> {
        self.index = self.store.index()?;
        self.trash.empty()?;
        self.sweep().map(drop)
    }

    /// Stores a blob that was proved before.
    pub(super) fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let path = self.store.blob(digest);
        if fs::read(&path).is_ok_and(|old| digest.matches(&old)) {
            return Ok(());
        }
        make_parent(&path)?;
        self.write(&path, bytes)
    }

    /// Writes a file so that it is there as a whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let temporary = self.store.tmp().join("file");
        let what = || format!("write {}", path.display());
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .or_failure(what)?;
        file.write_all(bytes).or_failure(what)?;
        file.sync_all().or_failure(what)?;
        rename(&temporary, path)
    }

    /// Deletes layers and blobs that no name leads to.
    pub(super) fn sweep(&self) -> Result<Swept> {
        let mut layers = BTreeSet::new();
        let mut blobs = BTreeSet::new();
        for record in self.index.images.values() {
            layers.extend(record.layers.iter().map(|id| self.store.layer(id)));
            blobs.insert(self.store.blob(&record.id));
            blobs.extend(record.manifest.iter().map(|id| self.store.blob(id)));
        }
        let mut swept = Swept::default();
        for path in two_levels(&self.store.root.join("layers"))? {
            if layers.contains(&path) {
                continue;
            }
            match self.delete_layer(&path)? {
                true => swept.deleted += 1,
                false => swept.in_use += 1,
            }
        }
        for path in two_levels(&self.store.root.join("blobs"))? {
            if !blobs.contains(&path) {
                trash::discard(&self.trash, &path)?;
            }
        }
        Ok(swept)
    }

    /// Deletes a layer unless a container holds it.
    fn delete_layer(&self, path: &Path) -> Result<bool> {
        let lock = path.join("lock");
        let held = match File::open(&lock) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Some(file),
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => {
                    Err(error).or_failure(|| format!("lock {}", lock.display()))?
                }
            },
            // Nothing that a container could have locked.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => Err(error).or_failure(|| format!("open {}", lock.display()))?,
        };
        trash::discard(&self.trash, path)?;
        drop(held);
        Ok(true)
    }

    /// The bytes of all files in these layers, each counted once.
    pub(super) fn bytes(&self, layers: &[Digest]) -> Result<u64> {
        let mut sizes = BTreeMap::new();
        for id in layers {
            let record = self.store.layer_record(id)?;
            sizes.insert(id, record.map_or(0, |record| record.bytes));
        }
        Ok(sizes.into_values().fold(0, u64::saturating_add))
    }
}

/// Renames over the target and syncs the directory that now has the name.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("rename {} to {}", from.display(), to.display());
    fs::rename(from, to).or_failure(what)?;
    if let Some(parent) = to.parent() {
        let directory = File::open(parent).or_failure(what)?;
        directory.sync_all().or_failure(what)?;
    }
    Ok(())
}

pub(super) fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => make_directory(parent),
        None => Ok(()),
    }
}

/// Mode 0700: layers hold setuid programs and devices that no user of the host may reach.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .or_failure(|| format!("make directory {}", path.display()))?;
    Ok(())
}

fn lock(path: &Path, wait: Duration) -> Result<File> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .or_failure(|| format!("open {}", path.display()))?;
    let deadline = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                Err(error).or_failure(|| format!("lock {}", path.display()))?;
            }
        }
        if Instant::now() >= deadline {
            bail!(
                "lock {}: another command has been changing the store for {} seconds",
                path.display(),
                wait.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The paths `DIRECTORY/ALGORITHM/HEX`.
fn two_levels(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for algorithm in children(directory)? {
        paths.extend(children(&algorithm)?);
    }
    Ok(paths)
}

fn children(directory: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("read directory {}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).or_failure(what)? {
        paths.push(entry.or_failure(what)?.path());
    }
    Ok(paths)
}
