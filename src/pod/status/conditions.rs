//! The conditions of a pod, in the order that Kubernetes emits them.

use super::View;
use super::types::{Condition, ConditionStatus, ContainerStatus, Phase};

/// A condition before its time is known.
struct Finding {
    kind: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Finding {
    fn yes(kind: &'static str) -> Self {
        Self {
            kind,
            holds: true,
            reason: None,
            message: None,
        }
    }

    fn no(kind: &'static str, reason: Option<&'static str>, message: Option<String>) -> Self {
        Self {
            kind,
            holds: false,
            reason,
            message,
        }
    }
}

/// The conditions; the time of a transition is kept while the condition stays as it is.
pub(super) fn of(view: &View<'_>, phase: Phase) -> Vec<Condition> {
    let observation = view.observation;
    let sandbox = if observation.sandbox.ready {
        Finding::yes("PodReadyToStartContainers")
    } else {
        Finding::no("PodReadyToStartContainers", None, None)
    };
    // Ready follows ContainersReady; further gates are not supported by this version.
    let findings = [
        sandbox,
        initialized(view, phase),
        ready("Ready", view, phase),
        ready("ContainersReady", view, phase),
        Finding::yes("PodScheduled"),
    ];
    findings
        .into_iter()
        .map(|finding| {
            let status = if finding.holds {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            };
            let since = observation
                .previous
                .and_then(|before| before.conditions.iter().find(|c| c.kind == finding.kind))
                .filter(|before| before.status == status)
                .map_or(observation.now, |before| before.last_transition_time);
            Condition {
                kind: finding.kind.to_owned(),
                status,
                observed_generation: observation.pod.generation,
                last_probe_time: None,
                last_transition_time: since,
                reason: finding.reason.map(str::to_owned),
                message: finding.message,
            }
        })
        .collect()
}

fn initialized(view: &View<'_>, phase: Phase) -> Finding {
    let spec = &view.observation.pod.pod.spec;
    let incomplete: Vec<&str> = spec
        .init_containers
        .iter()
        .filter(|container| {
            !view.init(&container.name).is_some_and(|status| {
                if container.is_sidecar() {
                    status.started
                } else {
                    status.ready
                }
            })
        })
        .map(|container| container.name.as_str())
        .collect();
    if phase == Phase::Succeeded {
        return Finding {
            reason: Some("PodCompleted"),
            ..Finding::yes("Initialized")
        };
    }
    if incomplete.is_empty() || view.app_started() {
        return Finding::yes("Initialized");
    }
    Finding::no(
        "Initialized",
        Some("ContainersNotInitialized"),
        Some(format!(
            "containers with incomplete status: [{}]",
            incomplete.join(" ")
        )),
    )
}

fn ready(kind: &'static str, view: &View<'_>, phase: Phase) -> Finding {
    match phase {
        Phase::Succeeded => return Finding::no(kind, Some("PodCompleted"), None),
        Phase::Failed => return Finding::no(kind, Some("PodFailed"), None),
        Phase::Pending | Phase::Running | Phase::Unknown => {}
    }
    let spec = &view.observation.pod.pod.spec;
    let sidecars = spec
        .init_containers
        .iter()
        .filter(|container| container.is_sidecar())
        .map(|container| (container.name.as_str(), view.init(&container.name)));
    let apps = spec
        .containers
        .iter()
        .map(|container| (container.name.as_str(), view.app(&container.name)));
    let is_ready = |status: Option<&ContainerStatus>| status.is_some_and(|status| status.ready);
    let unready: Vec<&str> = sidecars
        .chain(apps)
        .filter(|(_, status)| !is_ready(*status))
        .map(|(name, _)| name)
        .collect();
    if unready.is_empty() {
        return Finding::yes(kind);
    }
    Finding::no(
        kind,
        Some("ContainersNotReady"),
        Some(format!(
            "containers with unready status: [{}]",
            unready.join(" ")
        )),
    )
}
