//! From the wire types to the meaning: what must be set is there, every text has its form, defaults
//! are applied. How the fields fit together is checked in `check`.

use std::collections::BTreeMap;

use super::check;
use super::names;
use super::resource::{ResourceName, Resources};
use super::{
    Capabilities, Container, EnvSource, EnvVar, FieldPath, Metadata, Pod, PodSecurity, PodSpec,
    Port, Protocol, PullPolicy, ResourceField, RestartPolicy, SeccompProfile, SeccompType,
    Security, Sysctl, ValueFrom, Volume, VolumeMount, VolumeSource,
};
use crate::pod::manifest::read::key_path;
use crate::pod::manifest::schema::Support;
use crate::pod::manifest::vocabulary;
use crate::pod::manifest::{Lines, Problem, wire};
use crate::pod::quantity::Quantity;
use crate::pod::resources;

/// The default of terminationGracePeriodSeconds.
const GRACE_SECONDS: u64 = 30;
/// How much all annotations of a pod may hold, keys and values.
const ANNOTATIONS_MAX: usize = 256 << 10;

/// Collects what is wrong, with the line of the field it is about.
pub(super) struct Findings<'a> {
    lines: &'a Lines,
    problems: Vec<Problem>,
    notes: Vec<Problem>,
}

impl Findings<'_> {
    pub(super) fn add(&mut self, path: &str, message: impl Into<String>) {
        let problem = Problem::new(self.lines.of(path), path, message);
        self.problems.push(problem);
    }

    /// Something that is allowed and probably not meant.
    pub(super) fn note(&mut self, path: &str, message: impl Into<String>) {
        let note = Problem::new(self.lines.of(path), path, message);
        self.notes.push(note);
    }

    fn rule(&mut self, path: &str, wrong: Option<String>) {
        if let Some(message) = wrong {
            self.add(path, message);
        }
    }

    fn required<T: Default>(&mut self, path: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| {
            self.add(path, "is not set");
            T::default()
        })
    }

    /// A name that must be set and follow a rule.
    fn named(
        &mut self,
        path: &str,
        value: Option<&String>,
        rule: fn(&str) -> Option<String>,
    ) -> String {
        match value {
            Some(name) => {
                self.rule(path, rule(name));
                name.clone()
            }
            None => self.required(path, None),
        }
    }
}

/// The meaning of a pod as written, and notes about what is allowed and probably not meant.
///
/// # Errors
/// Everything that is wrong with it.
pub fn from_wire(written: &wire::Pod, lines: &Lines) -> Result<(Pod, Vec<Problem>), Vec<Problem>> {
    let mut findings = Findings {
        lines,
        problems: Vec::new(),
        notes: Vec::new(),
    };
    let metadata = metadata(&written.metadata, &mut findings);
    let Some(written) = &written.spec else {
        findings.add("spec", "is not set");
        return Err(findings.problems);
    };
    let spec = pod_spec(written, &mut findings);
    check::fits_together(&spec, &mut findings);
    if findings.problems.is_empty() {
        Ok((Pod { metadata, spec }, findings.notes))
    } else {
        Err(findings.problems)
    }
}

fn metadata(written: &wire::Metadata, findings: &mut Findings<'_>) -> Metadata {
    let name = findings.named("metadata.name", written.name.as_ref(), names::subdomain);
    let namespace = match written.namespace.as_deref() {
        None | Some("") => "default".to_owned(),
        Some(namespace) => {
            findings.rule("metadata.namespace", names::label(namespace));
            namespace.to_owned()
        }
    };
    for (key, value) in &written.labels {
        let path = key_path("metadata.labels", key);
        findings.rule(&path, names::key(key));
        findings.rule(&path, names::label_value(value));
    }
    let mut size = 0;
    for (key, value) in &written.annotations {
        findings.rule(&key_path("metadata.annotations", key), names::key(key));
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_MAX {
        findings.add(
            "metadata.annotations",
            format!("must hold at most {ANNOTATIONS_MAX} bytes, not {size}"),
        );
    }
    Metadata {
        name,
        namespace,
        labels: written.labels.clone(),
        annotations: written.annotations.clone(),
    }
}

fn pod_spec(written: &wire::PodSpec, findings: &mut Findings<'_>) -> PodSpec {
    // The vocabulary decides what is supported; the default has to be, too.
    let always = vocabulary::POD_SPEC.field("restartPolicy");
    let always = always.is_some_and(|field| field.support == Support::Yes);
    if written.restart_policy.is_none() && !always {
        findings.add(
            "spec.restartPolicy",
            "is not set, which means Always: only restartPolicy: Never is supported by this \
             version of podctl, so write it",
        );
    }
    if written.containers.is_empty() {
        findings.add(
            "spec.containers",
            "is not set: a pod has at least one container",
        );
    }
    let list = |name: &str, list: &[wire::Container], findings: &mut Findings<'_>| {
        list.iter()
            .enumerate()
            .map(|(index, written)| container(written, &format!("spec.{name}[{index}]"), findings))
            .collect::<Vec<_>>()
    };
    let init_containers = list("initContainers", &written.init_containers, findings);
    let containers = list("containers", &written.containers, findings);
    if let Some(hostname) = &written.hostname {
        findings.rule("spec.hostname", names::label(hostname));
    }
    let volumes = written
        .volumes
        .iter()
        .enumerate()
        .map(|(index, written)| volume(written, &format!("spec.volumes[{index}]"), findings))
        .collect();
    let resources = requests_and_limits(&written.resources, "spec.resources", findings);
    let mut spec = PodSpec {
        init_containers,
        containers,
        volumes,
        restart_policy: written.restart_policy.unwrap_or(RestartPolicy::Always),
        termination_grace_period_seconds: written
            .termination_grace_period_seconds
            .unwrap_or(GRACE_SECONDS),
        host_users: written.host_users.unwrap_or(true),
        host_network: written.host_network.unwrap_or(false),
        host_pid: written.host_pid.unwrap_or(false),
        host_ipc: written.host_ipc.unwrap_or(false),
        share_process_namespace: written.share_process_namespace.unwrap_or(false),
        hostname: written.hostname.clone(),
        security_context: pod_security(&written.security_context, findings),
        resources,
    };
    pod_requests(&mut spec);
    spec
}

/// Pod-level requests that are not written: what the containers request together, or else the limit.
fn pod_requests(spec: &mut PodSpec) {
    if spec.resources.is_empty() {
        return;
    }
    let together = resources::container_requests(spec);
    let limits = spec.resources.limits.clone();
    let requests = &mut spec.resources.requests;
    for (name, quantity) in together {
        // Huge pages of the pod as a whole are only what is written.
        if matches!(name, ResourceName::Cpu | ResourceName::Memory) && !quantity.is_zero() {
            requests.entry(name).or_insert(quantity);
        }
    }
    for (name, quantity) in limits {
        requests.entry(name).or_insert(quantity);
    }
}

fn container(written: &wire::Container, path: &str, findings: &mut Findings<'_>) -> Container {
    let at = |field: &str| format!("{path}.{field}");
    let name = findings.named(&at("name"), written.name.as_ref(), names::label);
    let image = findings.required(&at("image"), written.image.clone());
    if written.image.is_some() && (image.is_empty() || image.trim() != image) {
        findings.add(
            &at("image"),
            format!("\"{image}\" is not the name of an image"),
        );
    }
    let working_dir = written.working_dir.clone().filter(|dir| !dir.is_empty());
    if working_dir
        .as_deref()
        .is_some_and(|dir| !dir.starts_with('/'))
    {
        findings.add(&at("workingDir"), "must be an absolute path");
    }
    let mut resources = requests_and_limits(&written.resources, &at("resources"), findings);
    for (name, limit) in &resources.limits {
        resources.requests.entry(*name).or_insert(*limit);
    }
    let each = |field: &str, index: usize| format!("{path}.{field}[{index}]");
    Container {
        name,
        image_pull_policy: written
            .image_pull_policy
            .unwrap_or_else(|| default_pull_policy(&image)),
        image,
        command: written.command.clone(),
        args: written.args.clone(),
        working_dir,
        env: (written.env.iter().enumerate())
            .filter_map(|(i, written)| env_var(written, &each("env", i), findings))
            .collect(),
        ports: (written.ports.iter().enumerate())
            .map(|(i, written)| port(written, &each("ports", i), findings))
            .collect(),
        resources,
        volume_mounts: (written.volume_mounts.iter().enumerate())
            .map(|(i, written)| mount(written, &each("volumeMounts", i), findings))
            .collect(),
        restart_policy: None,
        security_context: security(&written.security_context, &at("securityContext"), findings),
        stdin: written.stdin.unwrap_or(false),
        stdin_once: written.stdin_once.unwrap_or(false),
        tty: written.tty.unwrap_or(false),
    }
}

/// `Always` for the tag latest, written or not; otherwise `IfNotPresent`.
fn default_pull_policy(image: &str) -> PullPolicy {
    if image.contains('@') {
        return PullPolicy::IfNotPresent;
    }
    // A colon before the last slash belongs to the registry's port.
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None | Some((_, "latest")) => PullPolicy::Always,
        Some(_) => PullPolicy::IfNotPresent,
    }
}

fn env_var(written: &wire::EnvVar, path: &str, findings: &mut Findings<'_>) -> Option<EnvVar> {
    let name = findings.named(
        &format!("{path}.name"),
        written.name.as_ref(),
        names::variable,
    );
    let Some(from) = &written.value_from else {
        let value = written.value.clone().unwrap_or_default();
        return Some(EnvVar {
            name,
            source: EnvSource::Value(value),
        });
    };
    let path = format!("{path}.valueFrom");
    if written
        .value
        .as_deref()
        .is_some_and(|value| !value.is_empty())
    {
        findings.add(&path, "cannot be set together with value");
    }
    let from = match (&from.field_ref, &from.resource_field_ref) {
        (Some(field), None) => field_ref(field, &format!("{path}.fieldRef.fieldPath"), findings)?,
        (None, Some(field)) => {
            resource_field_ref(field, &format!("{path}.resourceFieldRef"), findings)?
        }
        (None, None) => {
            findings.add(&path, "is not set to anything: name one source");
            return None;
        }
        (Some(_), Some(_)) => {
            findings.add(&path, "has two sources: name one");
            return None;
        }
    };
    Some(EnvVar {
        name,
        source: EnvSource::ValueFrom(from),
    })
}

fn field_ref(
    written: &wire::FieldRef,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<ValueFrom> {
    let text = findings.required(path, written.field_path.clone());
    if text.is_empty() {
        return None;
    }
    match text.parse::<FieldPath>() {
        Ok(field_path) => Some(ValueFrom::FieldRef { field_path }),
        Err(message) => {
            findings.add(path, message);
            None
        }
    }
}

fn resource_field_ref(
    written: &wire::ResourceFieldRef,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<ValueFrom> {
    let resource_path = format!("{path}.resource");
    let text = findings.required(&resource_path, written.resource.clone());
    if text.is_empty() {
        return None;
    }
    let resource = match text.parse::<ResourceField>() {
        Ok(resource) => resource,
        Err(message) => {
            findings.add(&resource_path, message);
            return None;
        }
    };
    let divisor = written.divisor.unwrap_or(Quantity::ZERO);
    let divisor = if divisor.is_zero() {
        Quantity::from_value(1)
    } else {
        divisor
    };
    // The units that Kubernetes allows: one and one thousandth for cpu, one and each suffix for bytes.
    let allowed: &[&str] = if resource.name == ResourceName::Cpu {
        &["1m", "1"]
    } else {
        &[
            "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
        ]
    };
    if !allowed.iter().any(|unit| unit.parse() == Ok(divisor)) {
        let message = format!("\"{divisor}\" must be one of {}", allowed.join(", "));
        findings.add(&format!("{path}.divisor"), message);
    }
    Some(ValueFrom::ResourceFieldRef {
        container_name: written
            .container_name
            .clone()
            .filter(|name| !name.is_empty()),
        resource,
        divisor,
    })
}

fn port(written: &wire::Port, path: &str, findings: &mut Findings<'_>) -> Port {
    if let Some(name) = &written.name {
        findings.rule(&format!("{path}.name"), names::port(name));
    }
    Port {
        name: written.name.clone(),
        container_port: findings.required(&format!("{path}.containerPort"), written.container_port),
        protocol: written.protocol.unwrap_or(Protocol::Tcp),
    }
}

fn mount(written: &wire::VolumeMount, path: &str, findings: &mut Findings<'_>) -> VolumeMount {
    let name = findings.required(&format!("{path}.name"), written.name.clone());
    let at = format!("{path}.mountPath");
    let mount_path = findings.required(&at, written.mount_path.clone());
    if written.mount_path.is_some() {
        if !mount_path.starts_with('/') {
            findings.add(&at, format!("\"{mount_path}\" must be an absolute path"));
        } else if mount_path.bytes().all(|b| b == b'/') {
            findings.add(&at, "must not be the root of the container");
        } else if mount_path.contains(':') {
            findings.add(&at, "must not contain ':'");
        } else if mount_path.split('/').any(|part| part == "..") {
            findings.add(&at, "must not contain '..'");
        }
    }
    VolumeMount {
        name,
        mount_path,
        read_only: written.read_only.unwrap_or(false),
    }
}

fn volume(written: &wire::Volume, path: &str, findings: &mut Findings<'_>) -> Volume {
    let size_limit = written.empty_dir.size_limit;
    if size_limit.is_some_and(Quantity::is_negative) {
        findings.add(
            &format!("{path}.emptyDir.sizeLimit"),
            "must not be negative",
        );
    }
    Volume {
        name: findings.named(&format!("{path}.name"), written.name.as_ref(), names::label),
        source: VolumeSource::EmptyDir {
            medium: written.empty_dir.medium.unwrap_or_default(),
            // A limit of nothing is no limit, as in Kubernetes.
            size_limit: size_limit.filter(|limit| !limit.is_zero()),
        },
    }
}

fn requests_and_limits(
    written: &wire::Resources,
    path: &str,
    findings: &mut Findings<'_>,
) -> Resources {
    let mut read = |list: &str, written: &BTreeMap<String, Quantity>| {
        let mut map = BTreeMap::new();
        for (name, quantity) in written {
            let path = key_path(&format!("{path}.{list}"), name);
            if quantity.is_negative() {
                findings.add(&path, "must not be negative");
            }
            match name.parse::<ResourceName>() {
                Ok(name) => {
                    map.insert(name, *quantity);
                }
                Err(message) => findings.add(&path, message),
            }
        }
        map
    };
    Resources {
        limits: read("limits", &written.limits),
        requests: read("requests", &written.requests),
    }
}

fn pod_security(written: &wire::PodSecurity, findings: &mut Findings<'_>) -> PodSecurity {
    let path = "spec.securityContext";
    let sysctls = written.sysctls.iter().enumerate().map(|(index, sysctl)| {
        let path = format!("{path}.sysctls[{index}]");
        let name = findings.required(&format!("{path}.name"), sysctl.name.clone());
        Sysctl {
            // Both `net/ipv4/x` and `net.ipv4.x` are written; the kernel's files have slashes.
            name: name.replace('/', "."),
            value: findings.required(&format!("{path}.value"), sysctl.value.clone()),
        }
    });
    let sysctls: Vec<_> = sysctls.collect();
    PodSecurity {
        run_as_user: written.run_as_user,
        run_as_group: written.run_as_group,
        run_as_non_root: written.run_as_non_root,
        supplemental_groups: written.supplemental_groups.clone(),
        seccomp_profile: seccomp(written.seccomp_profile.as_ref(), path, findings),
        sysctls,
    }
}

fn security(written: &wire::Security, path: &str, findings: &mut Findings<'_>) -> Security {
    let mut capabilities = |list: &str, written: &[String]| {
        let mut names = Vec::new();
        for (index, text) in written.iter().enumerate() {
            match capability(text) {
                Ok(name) if names.contains(&name) => {}
                Ok(name) => names.push(name),
                Err(message) => {
                    findings.add(&format!("{path}.capabilities.{list}[{index}]"), message);
                }
            }
        }
        names
    };
    Security {
        run_as_user: written.run_as_user,
        run_as_group: written.run_as_group,
        run_as_non_root: written.run_as_non_root,
        capabilities: Capabilities {
            add: capabilities("add", &written.capabilities.add),
            drop: capabilities("drop", &written.capabilities.drop),
        },
        privileged: written.privileged.unwrap_or(false),
        allow_privilege_escalation: written.allow_privilege_escalation,
        read_only_root_filesystem: written.read_only_root_filesystem.unwrap_or(false),
        seccomp_profile: seccomp(written.seccomp_profile.as_ref(), path, findings),
        proc_mount: written.proc_mount.unwrap_or_default(),
    }
}

/// Upper case, without `CAP_`.
fn capability(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || format!("CAP_{name}").parse::<caps::Capability>().is_ok() {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "\"{text}\" is not a capability (capabilities(7)), nor ALL"
        ))
    }
}

fn seccomp(
    written: Option<&wire::Seccomp>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<SeccompProfile> {
    let written = written?;
    let path = format!("{path}.seccompProfile");
    let at = format!("{path}.localhostProfile");
    let Some(kind) = written.kind else {
        findings.add(&format!("{path}.type"), "is not set");
        return None;
    };
    let file = written.localhost_profile.as_deref();
    if kind != SeccompType::Localhost && file.is_some() {
        findings.add(&at, "is only for the type Localhost");
    }
    match kind {
        SeccompType::RuntimeDefault => Some(SeccompProfile::RuntimeDefault),
        SeccompType::Unconfined => Some(SeccompProfile::Unconfined),
        SeccompType::Localhost => {
            let file = file.unwrap_or_default();
            if file.is_empty() {
                findings.add(&at, "is not set");
            } else if file.starts_with('/') || file.split('/').any(|part| part == "..") {
                findings.add(
                    &at,
                    "must be a path below the profile directory, without '..'",
                );
            }
            Some(SeccompProfile::Localhost {
                localhost_profile: file.to_owned(),
            })
        }
    }
}
