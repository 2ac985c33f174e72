//! A pod as it is now, for whoever asks: from its files, and from what is alive.
//!
//! As long as the supervisor lives, the records tell all. When it was killed, or the machine was
//! restarted, nobody has seen how the containers ended, and nobody will: those that are gone are
//! lost (`ContainerStatusUnknown`). Those that live go on without logs; the pod's phase is then
//! `Unknown`, which Kubernetes has for a pod whose state cannot be obtained, until it is deleted.

use anyhow::Result;

use super::decide::{self, Next};
use super::expand::Facts;
use super::spec::StoredPod;
use super::status::{ContainerRecord, Failure, Phase, PodStatus};
use super::store::Entry;
use super::supervisor::observe;
use crate::container::View;
use crate::files;

/// The pod and its status; none for a directory that is just being made or removed.
///
/// # Errors
/// When a file of the pod cannot be read.
pub fn look(entry: &Entry) -> Result<Option<(StoredPod, PodStatus)>> {
    // The supervisor first: when it is gone, what it has written is complete.
    let alive = entry.supervisor()?.is_some();
    let begun = entry.was_begun();
    let Some(pod) = entry.pod()? else {
        return Ok(None);
    };
    let previous = entry.status()?;
    let mut records = entry.records()?;
    let ended = previous.as_ref().is_some_and(|it| it.phase.is_terminal());
    let failure = if alive || ended || !begun {
        None
    } else {
        lost(entry, &pod, &mut records)
    };
    let facts = Facts::default();
    let status = observe(
        &pod,
        &records,
        alive,
        failure,
        previous.as_ref(),
        &facts.host_ips,
    );
    Ok(Some((pod, status)))
}

/// What is to be said of a pod without a supervisor. Containers that are gone are marked so.
fn lost(entry: &Entry, pod: &StoredPod, records: &mut [ContainerRecord]) -> Option<Failure> {
    let deleting = pod.deletion.is_some();
    // It had nothing more to do, and only did not come to write it down.
    if decide::next(&pod.pod.spec, records, deleting) == Next::Finish {
        return None;
    }
    let containers = entry.containers();
    let lives = |id: &str| View::of(&containers, id).is_ok_and(|view| view.pidfd.is_some());
    for record in records.iter_mut().filter(|it| it.terminated().is_none()) {
        record.lost = !record.container_id.as_deref().is_some_and(lives);
    }
    let left = containers.ids().unwrap_or_default();
    let phase = if left.iter().any(|id| lives(id)) {
        Phase::Unknown
    } else {
        Phase::Failed
    };
    let said = files::read(&entry.running("supervisor.log")).ok().flatten();
    let said = said.map(|text| text.trim().to_owned());
    let message = match said.filter(|text| !text.is_empty()) {
        Some(text) => format!("the pod's supervisor ended before the pod: {text}"),
        None => "the pod's supervisor ended before the pod, without a word".to_owned(),
    };
    Some(Failure {
        phase,
        reason: "SupervisorLost".to_owned(),
        message,
    })
}
