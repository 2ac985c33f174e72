//! What a Pod means: validated, defaults applied, nothing left to decide later.
//!
//! The types are written as Kubernetes writes them (camelCase, what is default and empty left out),
//! so the same text is `pod.json` on disk and `spec` in `podctl get -o yaml`. They are made from the
//! wire types by [`from_wire`] and nowhere else; [`fn@load`] does both steps for a whole file.
//! What container and pod security settings come to together is in [`security`].

mod check;
mod convert;
pub mod field;
mod load;
pub mod names;
pub mod resource;
pub mod security;
mod stored;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use convert::from_wire;
pub use field::{FieldPath, ResourceField};
pub use load::{Loaded, load};
pub use resource::{ResourceName, Resources};
pub use stored::{Deletion, FORMAT, StoredPod};

use crate::pod::quantity::Quantity;

/// A Pod, as it is meant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Who it is.
    pub metadata: Metadata,
    /// What it is.
    pub spec: PodSpec,
}

/// Who a pod is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// A DNS subdomain, unique in the namespace.
    pub name: String,
    /// A DNS label.
    pub namespace: String,
    /// Facts to select by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Further facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a pod is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Run to their end in this order (sidecars: to their start) before `containers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Container>,
    /// At least one.
    pub containers: Vec<Container>,
    /// What can be mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Whether containers that ended are started again.
    pub restart_policy: RestartPolicy,
    /// Seconds that containers have to stop.
    pub termination_grace_period_seconds: u64,
    /// Whether user ids inside are the machine's; false: the pod has ids of its own.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub host_users: bool,
    /// Whether the pod uses the machine's network.
    #[serde(default, skip_serializing_if = "is_false")]
    pub host_network: bool,
    /// Whether the pod sees the machine's processes.
    #[serde(rename = "hostPID", default, skip_serializing_if = "is_false")]
    pub host_pid: bool,
    /// Whether the pod uses the machine's IPC namespace.
    #[serde(rename = "hostIPC", default, skip_serializing_if = "is_false")]
    pub host_ipc: bool,
    /// Whether containers see each other's processes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub share_process_namespace: bool,
    /// The host name, where it is not made from the pod's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Security settings for all containers.
    #[serde(default)]
    pub security_context: PodSecurity,
    /// Requests and limits of the pod as a whole.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// A DNS label, unique in the pod.
    pub name: String,
    /// The image's name.
    pub image: String,
    /// When the image is fetched.
    pub image_pull_policy: PullPolicy,
    /// In place of the image's ENTRYPOINT and CMD; empty: the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// In place of the image's CMD; empty: the image's, unless `command` is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The directory it starts in; none: the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Variables, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Ports, for information.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Requests and limits.
    #[serde(default)]
    pub resources: Resources,
    /// What is mounted where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Its own restart policy; `Always` makes an init container a sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Its own security settings; [`security::effective`] combines them with the pod's.
    #[serde(default, skip_serializing_if = "Security::is_empty")]
    pub security_context: Security,
    /// Whether standard input is kept open.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin: bool,
    /// Whether standard input is closed after the first attachment.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin_once: bool,
    /// Whether it has a terminal.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tty: bool,
}

/// Whether containers that ended are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Whenever they end.
    Always,
    /// When they end with an error.
    OnFailure,
    /// Not at all.
    Never,
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// When it is not there.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// A variable of a container's environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    #[serde(flatten)]
    pub source: EnvSource,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvSource {
    /// This text, with `$(OTHER)` replaced.
    Value(String),
    /// Something that is known when the container is made.
    ValueFrom(ValueFrom),
}

/// What a variable's value is taken from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueFrom {
    /// A field of the pod.
    #[serde(rename_all = "camelCase")]
    FieldRef {
        /// Which.
        field_path: FieldPath,
    },
    /// A request or limit of a container.
    #[serde(rename_all = "camelCase")]
    ResourceFieldRef {
        /// The container; none: the one whose variable it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container_name: Option<String>,
        /// Which.
        resource: ResourceField,
        /// The unit.
        divisor: Quantity,
    },
}

/// A port that a container listens on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// A name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// A volume of the pod.
    pub name: String,
    /// An absolute path, unique in the container.
    pub mount_path: String,
    /// Whether it cannot be written.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

/// A volume of the pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// A DNS label, unique in the pod.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeSource {
    /// A directory that lives as long as the pod.
    #[serde(rename_all = "camelCase")]
    EmptyDir {
        /// What it is on.
        #[serde(default, skip_serializing_if = "Medium::is_disk")]
        medium: Medium,
        /// How large it may grow.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_limit: Option<Quantity>,
    },
}

/// What an emptyDir is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Medium {
    /// A directory on disk.
    #[default]
    #[serde(rename = "")]
    Disk,
    /// A tmpfs.
    Memory,
}

impl Medium {
    fn is_disk(&self) -> bool {
        *self == Self::Disk
    }
}

/// Security settings for all containers of a pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSecurity {
    /// The user id; none: the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// The group id; none: the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// Whether root is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// Further groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<u32>,
    /// Which system calls are allowed; none: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<SeccompProfile>,
    /// Kernel settings, only safe ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<Sysctl>,
}

/// A container's own security settings. What is not set is the pod's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Security {
    /// The user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// The group id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// Whether root is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// Capabilities added and dropped.
    #[serde(skip_serializing_if = "Capabilities::is_empty")]
    pub capabilities: Capabilities,
    /// All capabilities and devices, no filters.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Whether set-user-id programs give rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
    /// Whether the image's files cannot be written.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only_root_filesystem: bool,
    /// Which system calls are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<SeccompProfile>,
    /// Whether parts of /proc are hidden.
    #[serde(skip_serializing_if = "ProcMount::is_default")]
    pub proc_mount: ProcMount,
}

impl Security {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Capabilities by name, upper case, without `CAP_`; `ALL` stands for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Added to the default set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Taken from the default set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

impl Capabilities {
    fn is_empty(&self) -> bool {
        self.add.is_empty() && self.drop.is_empty()
    }
}

/// Whether parts of /proc are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ProcMount {
    /// The usual parts are hidden.
    #[default]
    Default,
    /// Nothing is; only with user ids of its own.
    Unmasked,
}

impl ProcMount {
    fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

/// The kinds of seccomp profiles, as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub enum SeccompType {
    RuntimeDefault,
    Localhost,
    Unconfined,
}

/// Which system calls are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum SeccompProfile {
    /// The runtime's default profile.
    RuntimeDefault,
    /// A profile of this machine, by its path below the profile directory.
    #[serde(rename_all = "camelCase")]
    Localhost {
        /// The path.
        localhost_profile: String,
    },
    /// All.
    Unconfined,
}

/// A kernel setting of the pod's namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Its name with dots.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Container {
    /// Whether it is a sidecar, given that it stands among the init containers.
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy == Some(RestartPolicy::Always)
    }
}

impl PodSpec {
    /// Init containers, then containers.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.all_containers()
            .find(|container| container.name == name)
    }

    /// The volume of this name.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }
}

impl Pod {
    /// The host name inside: the one that is set, or the pod's name, cut to what fits.
    pub fn hostname(&self) -> &str {
        if let Some(hostname) = &self.spec.hostname {
            return hostname;
        }
        let name = self.metadata.name.as_str();
        let end = name.len().min(names::LABEL_MAX);
        // A validated name is ASCII; `get` keeps any other from panicking.
        name.get(..end).unwrap_or(name).trim_end_matches(['-', '.'])
    }
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // The form that serde asks for.
fn is_true(value: &bool) -> bool {
    *value
}

#[allow(clippy::trivially_copy_pass_by_ref)] // The form that serde asks for.
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests;
