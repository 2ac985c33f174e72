//! Takes a pod away: gracefully where its supervisor lives, and in any case completely.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::spec::{Deletion, StoredPod};
use super::store::{Entry, Store};
use super::supervisor::cgroup_path;
use super::time::Timestamp;
use crate::cgroup::{Cgroup, Hierarchy};
use crate::container;

/// Asks a pod to stop and removes it. `grace` overrides the pod's own, in seconds.
///
/// # Errors
/// When something of it cannot be removed.
pub fn delete(store: &Store, entry: &Entry, grace: Option<u64>) -> Result<()> {
    let pod = entry.pod()?;
    if let (Some(mut pod), Some(supervisor)) = (pod.clone(), entry.supervisor()?) {
        let grace_seconds = grace.unwrap_or(pod.pod.spec.termination_grace_period_seconds);
        let now = Timestamp::from(SystemTime::now());
        let deadline = Timestamp::from_unix(now.unix().saturating_add(grace_seconds));
        // Written before the signal, so that no restart of anything can extend it; a second
        // request can only make it sooner.
        if pod.deletion.is_none_or(|before| deadline < before.deadline) {
            pod.deletion = Some(Deletion {
                deadline,
                grace_seconds,
            });
            entry.write_pod(&pod)?;
        }
        container::process::signal(&supervisor, libc::SIGTERM)?;
        wait(
            &supervisor,
            Duration::from_secs(grace_seconds.saturating_add(15)),
        )?;
    }
    remove(store, entry, pod.as_ref())
}

fn wait(supervisor: &OwnedFd, limit: Duration) -> Result<()> {
    let end = SystemTime::now() + limit;
    loop {
        let left = end
            .duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO);
        let milliseconds = u16::try_from(left.as_millis().min(60_000)).unwrap_or(60_000);
        let mut fds = [PollFd::new(supervisor.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, PollTimeout::from(milliseconds)) {
            Ok(0) if left.is_zero() => break,
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => bail!("wait for the pod's supervisor: {errno}"),
        }
    }
    // It does not do its work any more: what it should have done is done below.
    container::process::signal(supervisor, libc::SIGKILL)
}

/// Removes all that there is of a pod. A second pass is safe, also over what a killed command left.
///
/// # Errors
/// When something cannot be removed.
pub fn remove(store: &Store, entry: &Entry, pod: Option<&StoredPod>) -> Result<()> {
    let containers = entry.containers();
    for id in containers.ids()? {
        container::delete(&containers, &id, true)?;
    }
    if let Some(pod) = pod {
        let path = cgroup_path(pod);
        let directory = Hierarchy::find()?.directory(&path);
        Cgroup::at(&directory).remove()?;
        // The class of service, and kubepods.
        crate::cgroup::remove_empty_parents(&directory, path.matches('/').count() - 1);
    }
    let (namespace, name) = match pod {
        Some(pod) => (
            pod.pod.metadata.namespace.as_str(),
            pod.pod.metadata.name.as_str(),
        ),
        None => ("", ""),
    };
    store.forget(entry, namespace, name)
}
