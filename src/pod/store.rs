//! Where a pod is kept on the machine.
//!
//! What must survive a reboot is below `root`: the pod as it was admitted, its ids, what happened to
//! its containers, volumes, logs. What ends with the boot is below `run`: the supervisor, the
//! containers' state, bundles, mount points. A pod's name is a symbolic link, made exclusively, so
//! two pods never have the same one.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::spec::StoredPod;
use super::status::{ContainerRecord, PodStatus};
use crate::container::process::ProcessId;
use crate::error::OrFailure;
use crate::files::{self, Lasts};
use crate::image;
use crate::spec::namespaces::IdMaps;

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
        let link = self.name(namespace, name);
        match fs::read_link(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => {
                let uid = other.or_failure(|| format!("read {}", link.display()))?;
                let uid = uid.to_str().context("a pod's name that leads nowhere")?;
                Ok(Some(self.entry(uid)))
            }
        }
    }

    /// Writes a new pod and takes its name.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn admit(&self, pod: &StoredPod) -> Result<Entry> {
        let entry = self.entry(&pod.uid);
        let link = self.name(&pod.pod.metadata.namespace, &pod.pod.metadata.name);
        files::make_directory(&self.root.join("names"))?;
        files::make_directory(&entry.root)?;
        let written = entry
            .write_pod(pod)
            .and_then(|()| match symlink(&pod.uid, &link) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    bail!("pod {} already exists", pod.pod.metadata.name)
                }
                other => Ok(other.or_failure(|| format!("make {}", link.display()))?),
            });
        if written.is_err() {
            let _ = files::remove_tree(&entry.root);
        }
        written.map(|()| entry)
    }

    /// Forgets a pod: its name last, so that a second try finds what is left.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn forget(&self, entry: &Entry, namespace: &str, name: &str) -> Result<()> {
        // Containers shaped what is in there: it may be deeper than any limit.
        image::remove_tree(&entry.run)?;
        image::remove_tree(&entry.root)?;
        let link = self.name(namespace, name);
        match fs::remove_file(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other.or_failure(|| format!("remove {}", link.display()))?),
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
