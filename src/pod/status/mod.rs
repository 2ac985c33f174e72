//! The status of a pod, as a pure function of its specification and of what happened.
//!
//! [`observe`] takes the stored pod, the [`ContainerRecord`]s that its containers left, the sandbox's
//! facts and the status before, and gives a [`PodStatus`] in the shape that Kubernetes has. It asks
//! no clock and reads no file, so every rule is a table test. `containers` makes the states of the
//! containers, `phase` the phase, `conditions` the conditions.

mod conditions;
mod containers;
mod phase;
mod record;
mod types;

pub use record::{ContainerRecord, Waiting};
pub use types::{
    Condition, ConditionStatus, ContainerState, ContainerStatus, Ip, LastState, Phase, PodStatus,
    RunningState, TerminatedState, WaitingState,
};

use crate::pod::resources::qos_class;
use crate::pod::spec::StoredPod;
use crate::pod::time::Timestamp;

/// Everything that a status is made from.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// The pod.
    pub pod: &'a StoredPod,
    /// What its containers left, in any order; several of one name are its instances, told apart by
    /// their restart count.
    pub records: &'a [ContainerRecord],
    /// The sandbox.
    pub sandbox: Sandbox,
    /// What is to be said of the pod as a whole, where its containers do not say it.
    pub failure: Option<Failure>,
    /// The status before; times of transition and an end that was reached are kept.
    pub previous: Option<&'a PodStatus>,
    /// The time.
    pub now: Timestamp,
}

/// What is known of a pod's sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether its namespaces and its network are there.
    pub ready: bool,
    /// The machine's addresses.
    pub host_ips: Vec<String>,
    /// The pod's addresses.
    pub pod_ips: Vec<String>,
}

/// Why a pod as a whole is in a phase that its containers do not tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `Failed`, or `Unknown`.
    pub phase: Phase,
    /// One word.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// The status now.
pub fn observe(observation: &Observation<'_>) -> PodStatus {
    let spec = &observation.pod.pod.spec;
    let previous = observation.previous;
    let init = containers::init_statuses(observation);
    let apps = containers::app_statuses(observation);
    let view = View {
        observation,
        init: &init,
        apps: &apps,
    };
    let ended = previous.filter(|status| status.phase.is_terminal());
    let (phase, reason, message) = match (ended, &observation.failure) {
        // An end is an end: what is seen of its remains later does not change it.
        (Some(status), _) => (status.phase, status.reason.clone(), status.message.clone()),
        (None, Some(failure)) => (
            failure.phase,
            Some(failure.reason.clone()),
            Some(failure.message.clone()),
        ),
        (None, None) => (phase::of(&view), None, None),
    };
    let conditions = conditions::of(&view, phase);
    let ip = |list: &[String]| list.iter().map(|ip| Ip { ip: ip.clone() }).collect();
    let pod_ips = if spec.host_network {
        &observation.sandbox.host_ips
    } else {
        &observation.sandbox.pod_ips
    };
    PodStatus {
        observed_generation: observation.pod.generation,
        phase,
        reason,
        message,
        conditions,
        host_ip: observation.sandbox.host_ips.first().cloned(),
        host_ips: ip(&observation.sandbox.host_ips),
        pod_ip: pod_ips.first().cloned(),
        pod_ips: ip(pod_ips),
        start_time: Some(
            previous
                .and_then(|status| status.start_time)
                .unwrap_or(observation.now),
        ),
        init_container_statuses: init,
        container_statuses: apps,
        qos_class: qos_class(spec),
    }
}

/// What the phase and the conditions are decided from.
struct View<'a> {
    observation: &'a Observation<'a>,
    init: &'a [ContainerStatus],
    apps: &'a [ContainerStatus],
}

impl View<'_> {
    /// Whether any application container was ever started.
    fn app_started(&self) -> bool {
        self.apps.iter().any(ContainerStatus::ran)
    }

    /// The status of an init container.
    fn init(&self, name: &str) -> Option<&ContainerStatus> {
        self.init.iter().find(|status| status.name == name)
    }

    /// The status of an application container.
    fn app(&self, name: &str) -> Option<&ContainerStatus> {
        self.apps.iter().find(|status| status.name == name)
    }
}

#[cfg(test)]
mod tests;
