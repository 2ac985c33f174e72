//! State directories: one per container, written so that a killed command leaves old or new.
//!
//! Nothing is synced to disk: the directory is for this boot only, and a boot that ends takes the
//! containers along.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::process::ProcessId;
use crate::error::OrFailure;
use crate::files::{Lasts, replace};

/// Of state.json; readers take this and the one before.
const FORMAT: u32 = 1;

/// What state.json holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Of this file.
    pub format: u32,
    /// As in the configuration.
    pub oci_version: String,
    /// The container's.
    pub id: String,
    /// Its first process.
    #[serde(flatten)]
    pub process: ProcessId,
    /// Everything is applied, and `create` has returned or is about to.
    pub ready: bool,
    /// On the host, absolute.
    pub bundle: PathBuf,
    /// On the host, absolute.
    pub rootfs: PathBuf,
    /// RFC 3339, UTC.
    pub created: String,
    /// The user name of who made it, or the number.
    pub owner: String,
    /// Its directory on the host.
    pub cgroup: PathBuf,
    /// Of the configuration, sorted.
    pub annotations: Vec<(String, String)>,
    /// What the maker decided besides the configuration: the same plan can be made again.
    pub request: crate::plan::create::Request,
}

/// All containers below one `--root`.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store at a directory; it need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the directory of a new container, and takes its lock.
    ///
    /// # Errors
    /// When the id is not one, or is taken.
    pub fn make(&self, id: &str) -> Result<Entry> {
        check_id(id)?;
        let what = || format!("make state directory {}", self.root.display());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.root)
            .or_failure(what)?;
        let directory = self.root.join(id);
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!(
                    "container with id {id} already exists in {}",
                    self.root.display()
                )
            }
            other => {
                other.or_failure(|| format!("make state directory {}", directory.display()))?
            }
        }
        let mut entry = Entry {
            directory,
            id: id.to_owned(),
            lock: None,
        };
        // When this fails the directory stays: `delete` has taken it over meanwhile.
        entry.lock()?;
        Ok(entry)
    }

    /// The directory of a container that is there.
    ///
    /// # Errors
    /// When there is none: the text has `does not exist`, which callers look for.
    pub fn entry(&self, id: &str) -> Result<Entry> {
        check_id(id)?;
        let directory = self.root.join(id);
        ensure!(
            directory.is_dir(),
            "container {id} does not exist in {}",
            self.root.display()
        );
        Ok(Entry {
            directory,
            id: id.to_owned(),
            lock: None,
        })
    }

    /// The ids of all containers, sorted.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.or_failure(|| format!("read {}", self.root.display()))?,
        };
        let names = entries.flatten().filter(|entry| entry.path().is_dir());
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<_> = names.filter(|name| check_id(name).is_ok()).collect();
        ids.sort();
        Ok(ids)
    }
}

/// runc's rule, and no name that a path could be made of.
fn check_id(id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    ensure!(
        !id.is_empty() && id.len() <= 1024 && id.chars().all(plain) && !id.starts_with('.'),
        "invalid container id `{id}`: letters, digits and `_+-.` only, not starting with `.`"
    );
    Ok(())
}

/// The state directory of one container.
#[derive(Debug)]
pub struct Entry {
    directory: PathBuf,
    /// The container's id.
    pub id: String,
    lock: Option<Flock<fs::File>>,
}

impl Entry {
    /// Its path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Takes the lock of the container, waiting for another command to end.
    ///
    /// # Errors
    /// As flock(2), and when the container went away meanwhile.
    pub fn lock(&mut self) -> Result<()> {
        let file = self.lock_file()?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
        let lock = lock.or_failure(|| format!("lock container {}", self.id))?;
        // The directory may have been removed while this waited, and even made again: then the lock
        // that counts is another file.
        let ours = lock.metadata().map(|data| data.ino()).ok();
        let now = fs::metadata(self.path("lock")).map(|data| data.ino()).ok();
        self.lock = Some(lock);
        ensure!(ours == now, "container {} does not exist any more", self.id);
        Ok(())
    }

    /// Whether a command holds the lock now.
    pub fn is_locked(&self) -> bool {
        let Ok(file) = self.lock_file() else {
            return false;
        };
        Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
    }

    fn lock_file(&self) -> Result<fs::File> {
        let path = self.path("lock");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        Ok(options
            .open(&path)
            .or_failure(|| format!("open {}", path.display()))?)
    }

    /// Reads state.json; `None` when a killed `create` left none.
    ///
    /// # Errors
    /// When it cannot be read, or is of a format that this version does not know.
    pub fn state(&self) -> Result<Option<State>> {
        let path = self.path("state.json");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.or_failure(|| format!("read {}", path.display()))?,
        };
        let state: State =
            serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?;
        ensure!(
            state.format == FORMAT,
            "{}: format {} is not known to this version, which writes {FORMAT}",
            path.display(),
            state.format
        );
        Ok(Some(state))
    }

    /// Writes state.json.
    ///
    /// # Errors
    /// As open(2), write(2) and rename(2).
    pub fn write_state(&self, state: &State) -> Result<()> {
        self.write(
            "state.json",
            &serde_json::to_vec(state).context("write state.json")?,
        )
    }

    /// Writes a file as a whole.
    ///
    /// # Errors
    /// As open(2), write(2) and rename(2).
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        replace(&self.path(name), bytes, Lasts::UntilShutdown)
    }

    /// Removes the directory with all that is in it.
    ///
    /// # Errors
    /// As rmdir(2).
    pub fn remove(self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other
                .or_failure(|| format!("remove state directory {}", self.directory.display()))?),
        }
    }
}

impl State {
    /// State of a container that is about to be made.
    pub fn new(id: &str, process: ProcessId) -> Self {
        Self {
            format: FORMAT,
            oci_version: String::new(),
            id: id.to_owned(),
            process,
            ready: false,
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created: humantime::format_rfc3339_nanos(std::time::SystemTime::now()).to_string(),
            owner: owner(),
            cgroup: PathBuf::new(),
            annotations: Vec::new(),
            request: crate::plan::create::Request::default(),
        }
    }
}

/// The name of the user, from /etc/passwd, or the number.
fn owner() -> String {
    let uid = nix::unistd::getuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&uid));
    line.and_then(|line| line.split(':').next())
        .map_or(uid.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_paths_are_refused() {
        for id in ["", ".", "..", "a/b", ".a", "a b", "a\n", "ä"] {
            check_id(id).unwrap_err();
        }
        for id in ["a", "A.b_c+d-e", "0"] {
            check_id(id).unwrap();
        }
    }
}
