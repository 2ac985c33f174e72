//! The status of each container, from its records.

use super::Observation;
use super::record::ContainerRecord;
use super::types::{ContainerState, ContainerStatus, LastState, RunningState, WaitingState};
use crate::pod::spec::{Container, RestartPolicy};

/// The init containers' statuses, in the order of the specification.
pub(super) fn init_statuses(observation: &Observation<'_>) -> Vec<ContainerStatus> {
    let waiting = default_waiting(observation);
    let spec = &observation.pod.pod.spec;
    spec.init_containers
        .iter()
        .map(|container| {
            let mut status = status(observation, container, waiting);
            status.ready = if container.is_sidecar() {
                status.is_running() && status.started
            } else {
                status.terminated().is_some_and(|end| end.exit_code == 0)
            };
            status
        })
        .collect()
}

/// The application containers' statuses, in the order of the specification.
pub(super) fn app_statuses(observation: &Observation<'_>) -> Vec<ContainerStatus> {
    let waiting = default_waiting(observation);
    let containers = &observation.pod.pod.spec.containers;
    containers
        .iter()
        .map(|container| {
            let mut status = status(observation, container, waiting);
            // Without probes, what runs is ready.
            status.ready = status.is_running() && status.started;
            status
        })
        .collect()
}

fn default_waiting(observation: &Observation<'_>) -> &'static str {
    if observation.pod.pod.spec.init_containers.is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    }
}

fn status(
    observation: &Observation<'_>,
    container: &Container,
    waiting: &'static str,
) -> ContainerStatus {
    let mut instances: Vec<&ContainerRecord> = observation
        .records
        .iter()
        .filter(|record| record.name == container.name)
        .collect();
    instances.sort_by_key(|record| record.restart_count);
    let Some(current) = instances.pop() else {
        return ContainerStatus {
            name: container.name.clone(),
            container_id: String::new(),
            image: container.image.clone(),
            image_id: String::new(),
            last_state: LastState::default(),
            ready: false,
            restart_count: 0,
            started: false,
            state: wait(waiting, None),
        };
    };
    let before = instances.pop().and_then(ContainerRecord::terminated);
    let (state, last) = state(observation, container, current, waiting);
    let running = matches!(state, ContainerState::Running(_));
    ContainerStatus {
        name: container.name.clone(),
        container_id: current.container_uri(),
        image: container.image.clone(),
        image_id: current.image_id.clone().unwrap_or_default(),
        last_state: LastState {
            terminated: last.or(before),
        },
        ready: false,
        restart_count: current.restart_count,
        started: running,
        state,
    }
}

/// The state of the latest instance, and what becomes the state before when it waits to be started
/// again.
fn state(
    observation: &Observation<'_>,
    container: &Container,
    record: &ContainerRecord,
    waiting: &'static str,
) -> (ContainerState, Option<super::TerminatedState>) {
    if let Some(end) = record.terminated() {
        // An instance that ended and is to be started again, and cannot be yet, waits.
        return match &record.waiting {
            Some(why) if will_restart(observation, container, end.exit_code) => {
                (wait(&why.reason, why.message.clone()), Some(end))
            }
            _ => (ContainerState::Terminated(end), None),
        };
    }
    if let Some(started_at) = record.started_at {
        return (ContainerState::Running(RunningState { started_at }), None);
    }
    let state = match &record.waiting {
        Some(why) => wait(&why.reason, why.message.clone()),
        // Made and about to be started: waiting for nothing that has a name.
        None if record.created_at.is_some() => ContainerState::Waiting(WaitingState::default()),
        None => wait(waiting, None),
    };
    (state, None)
}

fn wait(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState::Waiting(WaitingState {
        reason: Some(reason.to_owned()),
        message,
    })
}

/// Whether a container that ended with this code is started again.
pub(super) fn will_restart(
    observation: &Observation<'_>,
    container: &Container,
    exit_code: i32,
) -> bool {
    if observation.pod.deletion.is_some() {
        return false;
    }
    let policy = container
        .restart_policy
        .unwrap_or(observation.pod.pod.spec.restart_policy);
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}
