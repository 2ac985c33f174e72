//! What stands in the columns of `podctl get pods`.
//!
//! STATUS is not the phase: it is the most telling thing that is known, by the rules that kubectl's
//! users know from an API server (`Init:1/2`, `CrashLoopBackOff`, `Completed`, `Terminating`).

use super::age::human;
use crate::pod::spec::{PodSpec, StoredPod};
use crate::pod::status::{ConditionStatus, ContainerState, ContainerStatus, PodStatus};
use crate::pod::time::Timestamp;

/// One pod's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// NAME.
    pub name: String,
    /// NAMESPACE.
    pub namespace: String,
    /// READY: `1/2`.
    pub ready: String,
    /// STATUS.
    pub status: String,
    /// RESTARTS: `3 (20s ago)`.
    pub restarts: String,
    /// AGE.
    pub age: String,
    /// IP.
    pub ip: String,
    /// NODE.
    pub node: String,
}

/// The columns of a pod.
pub fn row(pod: &StoredPod, status: &PodStatus, now: Timestamp) -> Row {
    let spec = &pod.pod.spec;
    let sidecars = spec.init_containers.iter().filter(|c| c.is_sidecar());
    let total = spec.containers.len() + sidecars.count();
    let mut summary = Summary {
        reason: status
            .reason
            .clone()
            .unwrap_or_else(|| status.phase.to_string()),
        ..Summary::default()
    };
    let initialising = summary.init(spec, status);
    let initialised = condition(status, "Initialized");
    if !initialising || initialised {
        summary.restarts = summary.sidecar_restarts;
        summary.last_restart = summary.last_sidecar_restart;
        summary.apps(status);
    }
    // Of the pod as a whole, unless a container has an end of its own to tell of.
    if let Some(reason) = status.reason.as_ref().filter(|_| !any_failed(status)) {
        summary.reason.clone_from(reason);
    }
    if pod.deletion.is_some() && !status.phase.is_terminal() {
        summary.reason = "Terminating".to_owned();
    }
    let restarts = match summary.last_restart {
        Some(time) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, human(time.age_at(now)))
        }
        _ => summary.restarts.to_string(),
    };
    let or_none = |text: Option<&String>| {
        text.filter(|text| !text.is_empty())
            .cloned()
            .unwrap_or_else(|| "<none>".to_owned())
    };
    Row {
        name: pod.pod.metadata.name.clone(),
        namespace: pod.pod.metadata.namespace.clone(),
        ready: format!("{}/{total}", summary.ready),
        status: summary.reason,
        restarts,
        age: human(pod.created.age_at(now)),
        ip: or_none(status.pod_ip.as_ref()),
        node: or_none(Some(&pod.node_name)),
    }
}

#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    restarts: u64,
    last_restart: Option<Timestamp>,
    sidecar_restarts: u64,
    last_sidecar_restart: Option<Timestamp>,
}

impl Summary {
    /// Looks at the init containers, up to the first that is not done. Returns whether there is one.
    fn init(&mut self, spec: &PodSpec, status: &PodStatus) -> bool {
        for (index, one) in status.init_container_statuses.iter().enumerate() {
            let sidecar = spec
                .init_containers
                .iter()
                .any(|container| container.name == one.name && container.is_sidecar());
            count(one, &mut self.restarts, &mut self.last_restart);
            if sidecar {
                count(
                    one,
                    &mut self.sidecar_restarts,
                    &mut self.last_sidecar_restart,
                );
            }
            let reason = match &one.state {
                ContainerState::Terminated(end) if end.exit_code == 0 => continue,
                _ if sidecar && one.started => {
                    self.ready += usize::from(one.ready);
                    continue;
                }
                ContainerState::Terminated(end) if end.reason.is_empty() => {
                    format!("Init:ExitCode:{}", end.exit_code)
                }
                ContainerState::Terminated(end) => format!("Init:{}", end.reason),
                ContainerState::Waiting(waiting) => match waiting.reason.as_deref() {
                    Some(reason) if !reason.is_empty() && reason != "PodInitializing" => {
                        format!("Init:{reason}")
                    }
                    _ => format!("Init:{index}/{}", spec.init_containers.len()),
                },
                ContainerState::Running(_) => {
                    format!("Init:{index}/{}", spec.init_containers.len())
                }
            };
            self.reason = reason;
            return true;
        }
        false
    }

    /// Looks at the application containers, the first having the last word.
    fn apps(&mut self, status: &PodStatus) {
        let mut running = false;
        let mut error: Option<String> = None;
        for one in status.container_statuses.iter().rev() {
            count(one, &mut self.restarts, &mut self.last_restart);
            match &one.state {
                ContainerState::Waiting(waiting) => {
                    if let Some(reason) = &waiting.reason {
                        self.reason.clone_from(reason);
                    }
                }
                ContainerState::Terminated(end) => {
                    self.reason = if end.reason.is_empty() {
                        format!("ExitCode:{}", end.exit_code)
                    } else {
                        end.reason.clone()
                    };
                    if end.exit_code != 0 {
                        error = Some(self.reason.clone());
                    }
                }
                ContainerState::Running(_) if one.ready => {
                    running = true;
                    self.ready += 1;
                }
                ContainerState::Running(_) => {}
            }
        }
        // One that is done says little about a pod in which others still run, or failed.
        if self.reason == "Completed" {
            if running && condition(status, "Ready") {
                self.reason = "Running".to_owned();
            } else if let Some(error) = error {
                self.reason = error;
            } else if running {
                self.reason = "NotReady".to_owned();
            }
        }
    }
}

fn any_failed(status: &PodStatus) -> bool {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let ends = lists
        .into_iter()
        .flatten()
        .filter_map(ContainerStatus::terminated);
    ends.into_iter().any(|end| end.exit_code != 0)
}

fn count(status: &ContainerStatus, restarts: &mut u64, last: &mut Option<Timestamp>) {
    *restarts += u64::from(status.restart_count);
    let ended = status.last_state.terminated.as_ref();
    *last = (*last).max(ended.and_then(|end| end.finished_at));
}

fn condition(status: &PodStatus, kind: &str) -> bool {
    status
        .conditions
        .iter()
        .any(|condition| condition.kind == kind && condition.status == ConditionStatus::True)
}
