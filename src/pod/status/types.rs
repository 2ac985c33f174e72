//! The status as Kubernetes writes it (core v1, PodStatus).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::pod::resources::QosClass;
use crate::pod::time::Timestamp;

/// How a pod is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// The number of the specification that this is about.
    #[serde(default)]
    pub observed_generation: u64,
    /// Where in its life it is.
    pub phase: Phase,
    /// Why, where the pod as a whole was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it has reached.
    pub conditions: Vec<Condition>,
    /// The machine's first address.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// The machine's addresses.
    #[serde(rename = "hostIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub host_ips: Vec<Ip>,
    /// The pod's first address.
    #[serde(rename = "podIP", default, skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// The pod's addresses.
    #[serde(rename = "podIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<Ip>,
    /// When it was first looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// Its init containers, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Its containers, in order.
    #[serde(default)]
    pub container_statuses: Vec<ContainerStatus>,
    /// How sure it can be of its resources.
    pub qos_class: QosClass,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// As text.
    pub ip: String,
}

/// Where in its life a pod is (kubernetes "Pod phase").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Something is still to be made, or init containers are running.
    Pending,
    /// At least one container is running, or is about to be started again.
    Running,
    /// All containers ended well and stay so.
    Succeeded,
    /// All containers ended and at least one did not end well.
    Failed,
    /// It cannot be read.
    Unknown,
}

impl Phase {
    /// Whether it never changes again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        })
    }
}

/// Something that a pod has reached or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The number of the specification that this is about.
    #[serde(default)]
    pub observed_generation: u64,
    /// Always none; Kubernetes writes it so.
    #[serde(default)]
    pub last_probe_time: Option<Timestamp>,
    /// Since when.
    pub last_transition_time: Timestamp,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// `seedpod://` and the id of its instance; empty before there was one.
    #[serde(
        rename = "containerID",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub container_id: String,
    /// The image's name.
    pub image: String,
    /// The image's digest; empty before it was found.
    #[serde(rename = "imageID", default)]
    pub image_id: String,
    /// The instance before.
    #[serde(default)]
    pub last_state: LastState,
    /// Whether it can do its work; an init container, whether it has done it.
    pub ready: bool,
    /// How often it was started again.
    pub restart_count: u32,
    /// Whether its start is complete.
    pub started: bool,
    /// What it does.
    pub state: ContainerState,
}

impl ContainerStatus {
    /// Whether an instance of it ever ran, this one or the one before.
    pub fn ran(&self) -> bool {
        !matches!(self.state, ContainerState::Waiting(_)) || self.last_state.terminated.is_some()
    }

    /// How it ended, where it ended.
    pub fn terminated(&self) -> Option<&TerminatedState> {
        match &self.state {
            ContainerState::Terminated(end) => Some(end),
            _ => None,
        }
    }

    /// Whether it is running.
    pub fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running(_))
    }
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    /// It is not there yet.
    Waiting(WaitingState),
    /// It runs.
    Running(RunningState),
    /// It ended.
    Terminated(TerminatedState),
}

/// The instance before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LastState {
    /// How it ended, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminated: Option<TerminatedState>,
}

/// Why a container is not there yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WaitingState {
    /// In one word; none when it was made and is about to be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Since when a container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningState {
    /// When it was started.
    pub started_at: Timestamp,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminatedState {
    /// `seedpod://` and the id of the instance.
    #[serde(
        rename = "containerID",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub container_id: String,
    /// 128 and the signal's number for an end by a signal.
    pub exit_code: i32,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// Its last words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// In one word.
    pub reason: String,
    /// When it was started; none when it could not be.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
}
