//! Where a pod is kept on the machine.
//!
//! What must survive a reboot is below `root`: the pod as it was admitted, its ids, what happened to
//! its containers, volumes, logs. What ends with the boot is below `run`: the supervisor, the
//! containers' state, bundles, mount points.
//!
//! A pod's name is a symbolic link to its uid. A pod is there when its `pod.json` is: it is written
//! after the link and removed before it, so a command that is killed between the two leaves a link
//! that leads nowhere, which counts as no name. All that is below these directories is root's alone.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::spec::StoredPod;
use super::status::{ContainerRecord, PodStatus};
use crate::container::process::ProcessId;
use crate::error::OrFailure;
use crate::files::{self, Lasts};
use crate::image;
use crate::spec::namespaces::IdMaps;

/// How long a lock is waited for: longer than it takes to kill the containers of a pod.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// The two directories of all pods.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    run: PathBuf,
}

impl Store {
    /// The store in these directories; they need not exist.
    pub fn new(root: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            run: run.into(),
        }
    }

    /// What survives a reboot.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What ends with the boot.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The images of this store.
    pub fn images(&self) -> image::Store {
        image::Store::open(self.root.join("images"))
    }

    /// The directories of one pod; they need not exist.
    pub fn entry(&self, uid: &str) -> Entry {
        Entry {
            root: self.root.join("pods").join(uid),
            run: self.run.join("pods").join(uid),
        }
    }

    /// The directories of all pods, by uid.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let pods = self.root.join("pods");
        let list = match fs::read_dir(&pods) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.or_failure(|| format!("read {}", pods.display()))?,
        };
        let names = list
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut uids: Vec<String> = names.collect();
        uids.sort();
        Ok(uids.iter().map(|uid| self.entry(uid)).collect())
    }

    fn name(&self, namespace: &str, name: &str) -> PathBuf {
        // Neither can contain an underscore.
        self.root.join("names").join(format!("{namespace}_{name}"))
    }

    /// The pod of that name, if there is one.
    ///
    /// # Errors
    /// When the link cannot be read.
    pub fn find(&self, namespace: &str, name: &str) -> Result<Option<Entry>> {
        let entry = self.follow(&self.name(namespace, name))?;
        Ok(entry.filter(Entry::exists))
    }

    /// Where a name leads, whether there is a pod or not.
    fn follow(&self, link: &Path) -> Result<Option<Entry>> {
        match fs::read_link(link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => {
                let uid = other.or_failure(|| format!("read {}", link.display()))?;
                let uid = uid.to_str().context("a pod's name that leads nowhere")?;
                Ok(Some(self.entry(uid)))
            }
        }
    }

    /// Takes a new pod's name and writes it; none when the name is another pod's.
    ///
    /// # Errors
    /// As mkdir(2), symlink(2) and write(2); nothing is left then.
    pub fn admit(&self, pod: &StoredPod) -> Result<Option<Entry>> {
        let metadata = &pod.pod.metadata;
        let link = self.name(&metadata.namespace, &metadata.name);
        for directory in [self.root.join("pods"), self.run.join("pods")] {
            files::make_directory(&directory)?;
            let mode = fs::Permissions::from_mode(0o700);
            fs::set_permissions(&directory, mode)
                .or_failure(|| format!("set the mode of {}", directory.display()))?;
        }
        let _lock = self.lock_names()?;
        if let Some(other) = self.follow(&link)? {
            if other.exists() {
                return Ok(None);
            }
            // Of a command that was killed.
            other.clear()?;
            remove_file(&link)?;
        }
        let entry = self.entry(&pod.uid);
        let made = symlink(&pod.uid, &link).or_failure(|| format!("make {}", link.display()));
        let written = made.map_err(anyhow::Error::from).and_then(|()| {
            sync(&self.root.join("names"))?;
            files::make_directory(&entry.root)?;
            entry.write_pod(pod)
        });
        if written.is_err() {
            let _ = entry.clear();
            let _ = fs::remove_file(&link);
        }
        written.map(|()| Some(entry))
    }

    fn lock_names(&self) -> Result<File> {
        let names = self.root.join("names");
        files::make_directory(&names)?;
        lock(&names)?.with_context(|| format!("{} is gone", names.display()))
    }

    /// Forgets a pod. Its `pod.json` goes when everything else is gone: until then, a second try
    /// finds it by its name, and afterwards its name is free.
    ///
    /// # Errors
    /// As unlink(2) and rmdir(2).
    pub fn forget(&self, entry: &Entry) -> Result<()> {
        let pod = entry.pod()?;
        entry.clear()?;
        let Some(pod) = pod else { return Ok(()) };
        let metadata = &pod.pod.metadata;
        let link = self.name(&metadata.namespace, &metadata.name);
        let _lock = self.lock_names()?;
        // The name may be another pod's by now.
        match self.follow(&link)? {
            Some(other) if other.root == entry.root => remove_file(&link),
            _ => Ok(()),
        }
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => Ok(other.or_failure(|| format!("remove {}", path.display()))?),
    }
}

fn sync(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(synced.or_failure(|| format!("sync {}", directory.display()))?)
}

/// Locks a directory; none when it is not there.
fn lock(directory: &Path) -> Result<Option<File>> {
    let file = match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.or_failure(|| format!("open {}", directory.display()))?,
    };
    let end = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(TryLockError::WouldBlock) => bail!(
                "lock {}: another podctl has held it for {} s",
                directory.display(),
                LOCK_WAIT.as_secs()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).or_failure(|| format!("lock {}", directory.display()))?;
            }
        }
    }
}

/// The directories of one pod.
#[derive(Debug, Clone)]
pub struct Entry {
    root: PathBuf,
    run: PathBuf,
}

impl Entry {
    /// A path that survives a reboot.
    pub fn kept(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A path that ends with the boot.
    pub fn running(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    /// The uid.
    pub fn uid(&self) -> String {
        self.root
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Whether there is such a pod.
    pub fn exists(&self) -> bool {
        self.kept("pod.json").exists()
    }

    /// One command at a time begins or ends a pod; released on drop. None when the pod is gone.
    ///
    /// # Errors
    /// When somebody else has it for a minute.
    pub fn lock(&self) -> Result<Option<File>> {
        // A directory that was removed meanwhile can still be locked.
        Ok(lock(&self.root)?.filter(|_| self.root.exists()))
    }

    /// Removes both directories, and `pod.json` after all else.
    fn clear(&self) -> Result<()> {
        files::remove_tree(&self.run)?;
        let list = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.or_failure(|| format!("read {}", self.root.display()))?,
        };
        for it in list.flatten().filter(|it| it.file_name() != "pod.json") {
            if it.file_type().is_ok_and(|kind| kind.is_dir()) {
                // Containers shaped what is in there: it may be deeper than any limit.
                image::remove_tree(&it.path())?;
            } else {
                remove_file(&it.path())?;
            }
        }
        remove_file(&self.kept("pod.json"))?;
        files::remove_tree(&self.root)
    }

    /// State of the pod's containers, the sandbox among them.
    pub fn containers(&self) -> crate::container::store::Store {
        crate::container::store::Store::new(self.running("containers"))
    }

    /// The pod; `None` for a directory that a killed command left before it had written it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pod(&self) -> Result<Option<StoredPod>> {
        let path = self.kept("pod.json");
        let Some(text) = files::read(&path)? else {
            return Ok(None);
        };
        StoredPod::from_json(&text)
            .with_context(|| path.display().to_string())
            .map(Some)
    }

    /// Writes the pod.
    ///
    /// # Errors
    /// As write(2).
    pub fn write_pod(&self, pod: &StoredPod) -> Result<()> {
        files::replace(
            &self.kept("pod.json"),
            pod.to_json()?.as_bytes(),
            Lasts::Forever,
        )
    }

    /// The status that was written last.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn status(&self) -> Result<Option<PodStatus>> {
        self.json(&self.kept("status.json"))
    }

    /// Writes the status.
    ///
    /// # Errors
    /// As write(2).
    pub fn write_status(&self, status: &PodStatus) -> Result<()> {
        files::replace(
            &self.kept("status.json"),
            &serde_json::to_vec(status)?,
            Lasts::Forever,
        )
    }

    /// What the containers left, in no order.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn records(&self) -> Result<Vec<ContainerRecord>> {
        let directory = self.kept("records");
        let mut records = Vec::new();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|it| it == "json") {
                records.extend(self.json(&entry.path())?);
            }
        }
        Ok(records)
    }

    /// Writes one record.
    ///
    /// # Errors
    /// As write(2).
    pub fn write_record(&self, record: &ContainerRecord) -> Result<()> {
        let directory = self.kept("records");
        files::make_directory(&directory)?;
        let path = directory.join(format!("{}.{}.json", record.name, record.restart_count));
        files::replace(&path, &serde_json::to_vec(record)?, Lasts::Forever)
    }

    /// The pod's own range of ids, once it has one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn maps(&self) -> Result<Option<IdMaps>> {
        self.json(&self.kept("userns"))
    }

    /// Whether a supervisor ever began with this pod, since the boot or before.
    pub fn was_begun(&self) -> bool {
        self.running("supervisor.json").exists() || self.kept("status.json").exists()
    }

    /// The supervisor, as long as it lives.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn supervisor(&self) -> Result<Option<std::os::fd::OwnedFd>> {
        match self.json::<ProcessId>(&self.running("supervisor.json"))? {
            Some(process) => process.open(),
            None => Ok(None),
        }
    }

    /// Notes the supervisor.
    ///
    /// # Errors
    /// As write(2).
    pub fn write_supervisor(&self, process: &ProcessId) -> Result<()> {
        files::make_directory(&self.run)?;
        let path = self.running("supervisor.json");
        files::replace(&path, &serde_json::to_vec(process)?, Lasts::UntilShutdown)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let Some(text) = files::read(path)? else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .with_context(|| format!("read {}", path.display()))
            .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::time::Timestamp;

    fn store(directory: &tempfile::TempDir) -> Store {
        Store::new(directory.path().join("root"), directory.path().join("run"))
    }

    fn pod(uid: &str) -> StoredPod {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  restartPolicy: Never\n  \
                    containers: [{name: a, image: x}]\n";
        let loaded = crate::pod::spec::load("p.yaml", text).unwrap();
        let pod = loaded.pods.into_iter().next().unwrap();
        StoredPod::new(pod, uid.into(), "node".into(), Timestamp::from_unix(1))
    }

    #[test]
    fn a_name_is_one_pods_until_that_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let first = store.admit(&pod("1")).unwrap().unwrap();
        assert!(store.admit(&pod("2")).unwrap().is_none());
        assert_eq!(store.find("default", "p").unwrap().unwrap().uid(), "1");
        store.forget(&first).unwrap();
        assert!(store.find("default", "p").unwrap().is_none());
        assert!(store.admit(&pod("2")).unwrap().is_some());
        store.forget(&first).unwrap();
        assert_eq!(store.find("default", "p").unwrap().unwrap().uid(), "2");
    }

    #[test]
    fn a_name_that_a_killed_command_left_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let first = store.admit(&pod("1")).unwrap().unwrap();
        fs::remove_file(first.kept("pod.json")).unwrap();
        assert!(store.find("default", "p").unwrap().is_none());
        assert!(store.admit(&pod("2")).unwrap().is_some());
        assert!(!first.kept("").exists());
        assert_eq!(store.find("default", "p").unwrap().unwrap().uid(), "2");
    }

    #[test]
    fn the_directory_of_a_pod_is_locked_by_one_and_not_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let entry = store.admit(&pod("1")).unwrap().unwrap();
        let lock = entry.lock().unwrap();
        assert!(lock.is_some());
        store.forget(&entry).unwrap();
        drop(lock);
        assert!(entry.lock().unwrap().is_none());
    }
}
