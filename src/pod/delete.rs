//! Takes a pod away: gracefully where its supervisor lives, and in any case completely.
//!
//! What the supervisor has mounted is in its own mount namespace and goes with its last process. A
//! second pass, or a second command at the same time, finds less to do and no error.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::sandbox;
use super::spec::Deletion;
use super::store::{Entry, Store};
use super::time::Timestamp;
use crate::cgroup::Hierarchy;
use crate::{container, mount};

/// For what a supervisor has to do after its last container has ended.
const LAST_WORK: Duration = Duration::from_secs(15);

/// Asks a pod to stop and removes it. `grace` overrides the pod's own, in seconds.
///
/// # Errors
/// When something of it cannot be removed.
pub fn delete(store: &Store, entry: &Entry, grace: Option<u64>) -> Result<()> {
    if let Some((supervisor, grace)) = ask(entry, grace)? {
        container::process::signal(&supervisor, libc::SIGTERM)?;
        if !wait(&supervisor, grace.saturating_add(LAST_WORK))? {
            // It does not do its work any more: what it should have done is done below.
            container::process::signal(&supervisor, libc::SIGKILL)?;
            wait(&supervisor, LAST_WORK)?;
        }
    }
    remove(store, entry)
}

/// Notes that the pod is to go, and until when. Returns its supervisor, if that lives; if not, none
/// will begin any more.
fn ask(entry: &Entry, grace: Option<u64>) -> Result<Option<(OwnedFd, Duration)>> {
    let Some(_lock) = entry.lock()? else {
        return Ok(None);
    };
    let Some(mut pod) = entry.pod()? else {
        return Ok(None);
    };
    let grace_seconds = grace.unwrap_or(pod.pod.spec.termination_grace_period_seconds);
    let grace = Duration::from_secs(grace_seconds);
    let deadline = deadline(SystemTime::now(), grace);
    // Written before the signal, so that no restart of anything can extend it; a second request can
    // only make it sooner.
    if pod.deletion.is_none_or(|before| deadline < before.deadline) {
        pod.deletion = Some(Deletion {
            deadline,
            grace_seconds,
        });
        // On a full disk a pod must be removable all the same; its containers then have the time
        // that the pod itself gives them.
        let _ = entry.write_pod(&pod);
    }
    Ok(entry.supervisor()?.map(|supervisor| (supervisor, grace)))
}

/// Files have whole seconds: rounded up, so that a container never has less time than it was given.
/// No time at all is no time.
fn deadline(now: SystemTime, grace: Duration) -> Timestamp {
    let seconds = Timestamp::from(now).unix().saturating_add(grace.as_secs());
    Timestamp::from_unix(seconds.saturating_add(u64::from(!grace.is_zero())))
}

/// Waits for the end of a process; false when it does not come in time.
fn wait(process: &OwnedFd, limit: Duration) -> Result<bool> {
    let end = std::time::Instant::now().checked_add(limit);
    loop {
        let left = end.map_or(limit, |end| {
            end.saturating_duration_since(std::time::Instant::now())
        });
        let milliseconds = u16::try_from(left.as_millis().min(60_000)).unwrap_or(60_000);
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, PollTimeout::from(milliseconds)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => bail!("wait for the pod's supervisor: {errno}"),
        }
    }
}

/// Removes all that there is of a pod. A second pass is safe, also over what a killed command left.
///
/// # Errors
/// When something cannot be removed.
pub fn remove(store: &Store, entry: &Entry) -> Result<()> {
    let Some(_lock) = entry.lock()? else {
        return Ok(());
    };
    // Without a pod there is a directory that a killed command left.
    if let Some(pod) = entry.pod()? {
        sandbox::remove(entry, &Hierarchy::find()?, &sandbox::cgroup_path(&pod))?;
    }
    // Nothing of a pod is mounted out here. What somebody else has mounted into it must not be
    // emptied.
    mount::unmount_below(&[&entry.kept(""), &entry.running("")])?;
    store.forget(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_never_too_early() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(10_900);
        let unix = |grace| deadline(now, Duration::from_secs(grace)).unix();
        assert_eq!((unix(0), unix(1), unix(30)), (10, 12, 41));
    }
}
