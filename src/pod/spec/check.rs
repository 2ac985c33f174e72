//! Whether the fields of a pod fit together: names that must differ, names that must exist, settings
//! that exclude each other.

use std::collections::HashMap;

use super::convert::Findings;
use super::names;
use super::resource::{ResourceName, Resources};
use super::{Container, EnvSource, PodSpec, ProcMount, ValueFrom};
use crate::pod::quantity::Quantity;
use crate::pod::resources;

/// Kernel settings that belong to a namespace of the pod and harm nobody else (kubernetes "Using
/// sysctls", the safe set).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Adds everything that does not fit.
pub(super) fn fits_together(spec: &PodSpec, findings: &mut Findings<'_>) {
    let init = spec.init_containers.iter().enumerate();
    let apps = spec.containers.iter().enumerate();
    let all: Vec<(String, &Container)> = init
        .map(|(i, c)| (format!("spec.initContainers[{i}]"), c))
        .chain(apps.map(|(i, c)| (format!("spec.containers[{i}]"), c)))
        .collect();
    unique(
        all.iter()
            .map(|(path, c)| (format!("{path}.name"), c.name.as_str())),
        findings,
    );
    unique(
        (spec.volumes.iter().enumerate())
            .map(|(i, volume)| (format!("spec.volumes[{i}].name"), volume.name.as_str())),
        findings,
    );
    for (path, container) in &all {
        mounts(spec, container, path, findings);
        environment(spec, container, path, findings);
        ports(container, path, findings);
        amounts(&container.resources, &format!("{path}.resources"), findings);
        security(spec, container, path, findings);
    }
    host(spec, findings);
    sysctls(spec, findings);
    pod_amounts(spec, findings);
}

/// Each text once; a text that is not set is a problem of its own.
fn unique<'a>(list: impl Iterator<Item = (String, &'a str)>, findings: &mut Findings<'_>) {
    let mut seen: HashMap<&str, String> = HashMap::new();
    for (path, text) in list {
        if text.is_empty() {
            continue;
        }
        match seen.get(text) {
            Some(first) => {
                findings.add(&path, format!("\"{text}\" is already the name of {first}"))
            }
            None => {
                seen.insert(text, path.trim_end_matches(".name").to_owned());
            }
        }
    }
}

fn mounts(spec: &PodSpec, container: &Container, path: &str, findings: &mut Findings<'_>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if !mount.name.is_empty() && spec.volume(&mount.name).is_none() {
            let message = format!("there is no volume \"{}\" in spec.volumes", mount.name);
            findings.add(&format!("{path}.name"), message);
        }
        let place = mount.mount_path.trim_end_matches('/');
        if place.is_empty() {
            continue;
        }
        if let Some(first) = seen.insert(place, index) {
            let message = format!("\"{place}\" is already the place of volumeMounts[{first}]");
            findings.add(&format!("{path}.mountPath"), message);
        }
    }
}

fn environment(spec: &PodSpec, container: &Container, path: &str, findings: &mut Findings<'_>) {
    for (index, variable) in container.env.iter().enumerate() {
        if let EnvSource::ValueFrom(ValueFrom::ResourceFieldRef {
            container_name: Some(name),
            ..
        }) = &variable.source
            && spec.container(name).is_none()
        {
            findings.add(
                &format!("{path}.env[{index}].valueFrom.resourceFieldRef.containerName"),
                format!("there is no container \"{name}\" in the pod"),
            );
        }
    }
}

fn ports(container: &Container, path: &str, findings: &mut Findings<'_>) {
    for (index, port) in container.ports.iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        let before = &container.ports[..index];
        if port.name.is_some() && before.iter().any(|other| other.name == port.name) {
            findings.add(
                &format!("{path}.name"),
                "is already the name of another port",
            );
        }
        let same = |other: &&super::Port| {
            other.container_port == port.container_port && other.protocol == port.protocol
        };
        if before.iter().any(|other| same(&other)) {
            let message = format!("port {} is listed twice", port.container_port);
            findings.note(&format!("{path}.containerPort"), message);
        }
    }
}

/// Requests are at most the limits, and huge pages are given whole.
fn amounts(resources: &Resources, path: &str, findings: &mut Findings<'_>) {
    let mut huge = false;
    for (name, request) in &resources.requests {
        let path = format!("{path}.requests.{name}");
        let limit = resources.limits.get(name);
        if let Some(limit) = limit.filter(|limit| *limit < request) {
            findings.add(
                &path,
                format!("{request} is more than the limit of {limit}"),
            );
        }
        if let ResourceName::HugePages(size) = name {
            huge = true;
            if limit != Some(request) {
                findings.add(&path, "must be the same as the limit, which must be set");
            }
            if request.value() % size != 0 {
                findings.add(&path, "must be a whole number of pages");
            }
        }
    }
    let has = |name| resources.requests.contains_key(&name);
    if huge && !has(ResourceName::Cpu) && !has(ResourceName::Memory) {
        findings.add(
            path,
            "huge pages need a request for cpu or memory beside them",
        );
    }
}

fn security(spec: &PodSpec, container: &Container, path: &str, findings: &mut Findings<'_>) {
    let settings = &container.security_context;
    let path = format!("{path}.securityContext");
    if settings.allow_privilege_escalation == Some(false) {
        let at = format!("{path}.allowPrivilegeEscalation");
        if settings.privileged {
            findings.add(&at, "cannot be false together with privileged: true");
        }
        if settings
            .capabilities
            .add
            .iter()
            .any(|name| name == "SYS_ADMIN")
        {
            findings.add(
                &at,
                "cannot be false together with the capability SYS_ADMIN",
            );
        }
    }
    if settings.proc_mount == ProcMount::Unmasked && spec.host_users {
        findings.add(
            &format!("{path}.procMount"),
            "Unmasked needs spec.hostUsers: false",
        );
    }
}

fn host(spec: &PodSpec, findings: &mut Findings<'_>) {
    for (set, field) in [
        (spec.host_network, "hostNetwork"),
        (spec.host_pid, "hostPID"),
        (spec.host_ipc, "hostIPC"),
    ] {
        if set && !spec.host_users {
            findings.add(
                &format!("spec.{field}"),
                "cannot be true together with hostUsers: false: a namespace of the machine is not \
                 owned by the pod's user namespace",
            );
        }
    }
    if spec.host_pid && spec.share_process_namespace {
        findings.add(
            "spec.shareProcessNamespace",
            "cannot be true together with hostPID: true",
        );
    }
}

fn sysctls(spec: &PodSpec, findings: &mut Findings<'_>) {
    let list = &spec.security_context.sysctls;
    for (index, sysctl) in list.iter().enumerate() {
        let path = format!("spec.securityContext.sysctls[{index}].name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            continue;
        }
        if let Some(message) = names::sysctl(name) {
            findings.add(&path, message);
        } else if !SAFE_SYSCTLS.contains(&name) {
            let message = format!(
                "{name} is not one of the safe ones: {}",
                SAFE_SYSCTLS.join(", ")
            );
            findings.add(&path, message);
        } else if name.starts_with("net.") && spec.host_network {
            findings.add(
                &path,
                format!("{name} would change the machine's network (hostNetwork)"),
            );
        } else if name.starts_with("kernel.") && spec.host_ipc {
            findings.add(
                &path,
                format!("{name} would change the machine itself (hostIPC)"),
            );
        } else if list[..index].iter().any(|other| other.name == name) {
            findings.add(&path, format!("{name} is set twice"));
        }
    }
}

/// The pod's own requests and limits enclose those of its containers.
fn pod_amounts(spec: &PodSpec, findings: &mut Findings<'_>) {
    let own = &spec.resources;
    if own.is_empty() {
        return;
    }
    amounts(own, "spec.resources", findings);
    for list in [&own.limits, &own.requests] {
        if list.contains_key(&ResourceName::EphemeralStorage) {
            findings.add(
                "spec.resources",
                "ephemeral-storage is only for containers, not for the pod as a whole",
            );
        }
    }
    for (name, together) in resources::container_requests(spec) {
        let request = own.request(name);
        if own.requests.contains_key(&name) && request < together {
            findings.add(
                &format!("spec.resources.requests.{name}"),
                format!("{request} is less than the {together} that the containers request"),
            );
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        for (name, limit) in &container.resources.limits {
            let most: Option<Quantity> = own.limit(*name);
            if let Some(most) = most.filter(|most| most < limit) {
                findings.add(
                    &format!("spec.containers[{index}].resources.limits.{name}"),
                    format!("{limit} is more than the pod's limit of {most}"),
                );
            }
        }
    }
}
