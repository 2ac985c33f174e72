//! The phase of a pod (kubernetes "Pod phase").

use super::View;
use super::containers::will_restart;
use super::types::{ContainerState, ContainerStatus, Phase};
use crate::pod::spec::RestartPolicy;

/// How many containers are in which state.
#[derive(Default)]
struct Counts {
    pending_init: u32,
    failed_init: bool,
    waiting: u32,
    running: u32,
    stopped: u32,
    failed: u32,
    /// Ended, and to be started again.
    restarting: u32,
}

/// The phase; what ended before is the caller's.
pub(super) fn of(view: &View<'_>) -> Phase {
    let observation = view.observation;
    let spec = &observation.pod.pod.spec;
    let counts = count(view);
    if counts.failed_init {
        return Phase::Failed;
    }
    let initialising = counts.pending_init > 0 && !view.app_started();
    let deleting = observation.pod.deletion.is_some();
    if initialising || counts.waiting > 0 {
        return Phase::Pending;
    }
    if counts.running > 0 {
        return Phase::Running;
    }
    if counts.stopped == 0 {
        return Phase::Pending;
    }
    if counts.restarting > 0 {
        return Phase::Running;
    }
    let all_well = counts.failed == 0;
    match (all_well, spec.restart_policy) {
        (true, _) => Phase::Succeeded,
        (false, RestartPolicy::Never) => Phase::Failed,
        (false, _) if deleting => Phase::Failed,
        (false, RestartPolicy::Always | RestartPolicy::OnFailure) => Phase::Running,
    }
}

fn count(view: &View<'_>) -> Counts {
    let observation = view.observation;
    let spec = &observation.pod.pod.spec;
    let mut counts = Counts::default();
    for container in &spec.init_containers {
        let status = view.init(&container.name);
        if container.is_sidecar() {
            // Sidecars restart whatever happens; only one that is still starting holds up the pod.
            match status {
                Some(status) if status.is_running() => {
                    counts.pending_init += u32::from(!status.started);
                }
                Some(status) if status.ran() => {}
                _ => counts.pending_init += 1,
            }
            continue;
        }
        let Some(status) = status else {
            counts.pending_init += 1;
            continue;
        };
        let end = status
            .terminated()
            .or(status.last_state.terminated.as_ref());
        let failed = end.is_some_and(|end| {
            end.exit_code != 0 && !will_restart(observation, container, end.exit_code)
        });
        counts.failed_init |= failed;
        counts.pending_init += u32::from(!status.ready);
    }
    for container in &spec.containers {
        let Some(status) = view.app(&container.name) else {
            counts.waiting += 1;
            continue;
        };
        app(status, &mut counts, |code| {
            will_restart(observation, container, code)
        });
    }
    counts
}

fn app(status: &ContainerStatus, counts: &mut Counts, restarts: impl Fn(i32) -> bool) {
    let end = match &status.state {
        ContainerState::Running(_) => {
            counts.running += 1;
            return;
        }
        ContainerState::Terminated(end) => end,
        ContainerState::Waiting(_) => match &status.last_state.terminated {
            Some(end) => end,
            None => {
                counts.waiting += 1;
                return;
            }
        },
    };
    counts.stopped += 1;
    counts.failed += u32::from(end.exit_code != 0);
    counts.restarting += u32::from(restarts(end.exit_code));
}
