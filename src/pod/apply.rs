//! Admits a pod and starts its supervisor.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use super::spec::{Pod, StoredPod};
use super::store::{Entry, Store};
use super::supervisor::Report;
use super::time::Timestamp;
use super::{delete, machine};
use crate::error::OrFailure;
use crate::files;

/// What became of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The pod was made.
    Created,
    /// It was there, and is the same.
    Unchanged,
}

impl Applied {
    /// As kubectl says it.
    pub fn word(self) -> &'static str {
        match self {
            Applied::Created => "created",
            Applied::Unchanged => "unchanged",
        }
    }
}

/// Applies one pod: when it returns, the sandbox is there and the containers are about to start.
/// `program` is `podctl` itself.
///
/// # Errors
/// When an image is missing, the name is taken by another pod, or the sandbox cannot be made;
/// nothing is left then.
pub fn apply(
    store: &Store,
    pod: &Pod,
    program: &Path,
    warnings: &mut Vec<String>,
) -> Result<Applied> {
    let metadata = &pod.metadata;
    if let Some(entry) = store.find(&metadata.namespace, &metadata.name)?
        && let Some(existing) = entry.pod()?
    {
        if existing.deletion.is_some() {
            bail!(
                "pod {} is being deleted; wait until it is gone",
                metadata.name
            );
        }
        if existing.pod == *pod {
            return Ok(Applied::Unchanged);
        }
        bail!(
            "pod {0} exists and is another one; changing a pod is not supported by this version of \
             podctl: \"podctl delete pod {0}\" first",
            metadata.name
        );
    }
    let images = store.images();
    for container in pod.spec.all_containers() {
        images
            .resolve(&container.image)
            .with_context(|| format!("container {}", container.name))?;
    }
    let now = Timestamp::from(SystemTime::now());
    let stored = StoredPod::new(pod.clone(), machine::uuid()?, machine::node_name()?, now);
    let entry = store.admit(&stored)?;
    let started = start_supervisor(store, &entry, program, warnings);
    if let Err(error) = started {
        delete::remove(store, &entry, Some(&stored))?;
        return Err(error.context(format!("pod {}", metadata.name)));
    }
    Ok(Applied::Created)
}

/// Starts the supervisor in the background, and hears from it until the sandbox is there.
fn start_supervisor(
    store: &Store,
    entry: &Entry,
    program: &Path,
    warnings: &mut Vec<String>,
) -> Result<()> {
    files::make_directory(&entry.running(""))?;
    let log = entry.running("supervisor.log");
    let log = std::fs::File::create(&log).or_failure(|| format!("open {}", log.display()))?;
    let mut child = Command::new(program)
        .arg("--root")
        .arg(store.root())
        .arg("--state")
        .arg(store.run())
        .arg("supervise")
        .arg(entry.uid())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .or_failure(|| format!("start {}", program.display()))?;
    let reports = child.stdout.take().context("no pipe to the supervisor")?;
    for line in BufReader::new(reports).lines() {
        let line = line.or_failure(|| "hear from the supervisor")?;
        match serde_json::from_str(&line).context("hear from the supervisor")? {
            Report::Warning(text) => warnings.push(text),
            Report::Ready => return Ok(()),
            Report::Error(text) => {
                let _ = child.wait();
                bail!("{text}");
            }
        }
    }
    let end = child.wait().or_failure(|| "wait for the supervisor")?;
    let text = files::read(&entry.running("supervisor.log"))?.unwrap_or_default();
    bail!(
        "the supervisor ended before the sandbox was there ({end}): {}",
        text.trim()
    )
}
