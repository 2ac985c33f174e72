//! Admits a pod and starts its supervisor.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::spec::{Pod, StoredPod};
use super::store::{Entry, Store};
use super::supervisor::Report;
use super::time::Timestamp;
use super::{delete, machine};
use crate::container::process::ProcessId;
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
    if let Some(applied) = existing(store, pod)? {
        return Ok(applied);
    }
    let images = store.images();
    for container in pod.spec.all_containers() {
        images
            .resolve(&container.image)
            .with_context(|| format!("container {}", container.name))?;
    }
    let now = Timestamp::from(SystemTime::now());
    let stored = StoredPod::new(pod.clone(), machine::uuid()?, machine::node_name()?, now);
    let Some(entry) = store.admit(&stored)? else {
        // Somebody else was quicker.
        let applied = existing(store, pod)?;
        return applied.with_context(|| format!("pod {} is being deleted", pod.metadata.name));
    };
    if let Err(error) = start_supervisor(store, &entry, program, warnings) {
        delete::remove(store, &entry)?;
        return Err(error.context(format!("pod {}", pod.metadata.name)));
    }
    Ok(Applied::Created)
}

/// What a pod of this name, if there is one, makes of the request.
fn existing(store: &Store, pod: &Pod) -> Result<Option<Applied>> {
    let name = &pod.metadata.name;
    let Some(entry) = store.find(&pod.metadata.namespace, name)? else {
        return Ok(None);
    };
    let Some(existing) = entry.pod()? else {
        return Ok(None);
    };
    if existing.deletion.is_some() {
        bail!("pod {name} is being deleted; wait until it is gone");
    }
    if existing.pod != *pod {
        bail!(
            "pod {name} exists and is another one; changing a pod is not supported by this version of \
             podctl: \"podctl delete pod {name}\" first"
        );
    }
    Ok(Some(Applied::Unchanged))
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
    let mut reports = child.stdout.take().context("no pipe to the supervisor")?;
    // The end of the pipe would not do: a process that the supervisor has just made has it, too.
    let pid = i32::try_from(child.id()).context("pid")?;
    let ended = ProcessId::of(pid)?.open()?;
    let mut heard = Vec::new();
    while wait_for(&reports, ended.as_ref())? {
        let mut buffer = [0; 4096];
        let count = reports
            .read(&mut buffer)
            .or_failure(|| "hear from the supervisor")?;
        heard.extend_from_slice(buffer.get(..count).unwrap_or_default());
        while let Some(end) = heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = heard.drain(..=end).collect();
            match serde_json::from_slice(&line).context("hear from the supervisor")? {
                Report::Warning(text) => warnings.push(text),
                Report::Ready => return Ok(()),
                Report::Error(text) => {
                    let _ = child.wait();
                    bail!("{text}");
                }
            }
        }
        if count == 0 {
            break;
        }
    }
    let end = child.wait().or_failure(|| "wait for the supervisor")?;
    let text = files::read(&entry.running("supervisor.log"))?.unwrap_or_default();
    bail!(
        "the supervisor ended before the sandbox was there ({end}) {}",
        text.trim()
    )
}

/// Waits until there is something to read; false when there is not and the writer has ended.
fn wait_for(pipe: &impl AsFd, ended: Option<&OwnedFd>) -> Result<bool> {
    loop {
        let mut fds = vec![PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        fds.extend(ended.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        // Without a pidfd it has ended already.
        let timeout = ended.map_or(PollTimeout::ZERO, |_| PollTimeout::NONE);
        match nix::poll::poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            other => {
                other.or_failure(|| "wait for the supervisor")?;
                return Ok(fds[0].revents().is_some_and(|events| !events.is_empty()));
            }
        }
    }
}
