//! A container's command line and environment, from the image and the manifest.
//!
//! `$(VAR)` is replaced by what the manifest defines before it; `$$` stands for one `$`; what is not
//! defined stays as it is (kubernetes "Define Dependent Environment Variables"). Variables of the
//! image do not take part, as in Kubernetes, but what the manifest defines wins over them.

use std::collections::HashMap;

use anyhow::{Result, bail};

use crate::pod::quantity::Quantity;
use crate::pod::spec::{
    Container, EnvSource, FieldPath, Pod, ResourceField, ResourceName, ValueFrom,
};

/// Where programs are looked for when neither image nor manifest says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is known of a pod when one of its containers is made.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The pod's unique id.
    pub uid: String,
    /// The machine's name.
    pub node_name: String,
    /// The machine's addresses.
    pub host_ips: Vec<String>,
    /// The pod's addresses.
    pub pod_ips: Vec<String>,
    /// The machine's processor time in thousandths of a core; a missing limit counts as this.
    pub allocatable_milli_cpu: u64,
    /// The machine's memory in bytes; a missing limit counts as this.
    pub allocatable_memory: u64,
    /// The machine's space for containers' files in bytes; a missing limit counts as this.
    pub allocatable_storage: u64,
}

/// Replaces every `$(VAR)` that `value_of` knows.
pub fn expand<'a>(text: &str, value_of: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(behind) = after.strip_prefix('$') {
            result.push('$');
            rest = behind;
            continue;
        }
        let reference = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'));
        match reference {
            Some((name, behind)) => {
                match value_of(name) {
                    Some(value) => result.push_str(value),
                    None => {
                        result.push_str("$(");
                        result.push_str(name);
                        result.push(')');
                    }
                }
                rest = behind;
            }
            None => {
                result.push('$');
                rest = after;
            }
        }
    }
    result.push_str(rest);
    result
}

/// The variables that the manifest gives a container, in its order, each name once.
///
/// # Errors
/// A value that cannot be known, such as an address of a pod without a network.
pub fn manifest_env(
    pod: &Pod,
    container: &Container,
    facts: &Facts,
) -> Result<Vec<(String, String)>> {
    let mut list: Vec<(String, String)> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for variable in &container.env {
        let value = match &variable.source {
            EnvSource::Value(text) => expand(text, |name| {
                known.get(name).map(|index| list[*index].1.as_str())
            }),
            EnvSource::ValueFrom(ValueFrom::FieldRef { field_path }) => {
                field(pod, facts, field_path, &variable.name)?
            }
            EnvSource::ValueFrom(ValueFrom::ResourceFieldRef {
                container_name,
                resource,
                divisor,
            }) => {
                let of = match container_name {
                    Some(name) => pod.spec.container(name).unwrap_or(container),
                    None => container,
                };
                amount(of, *resource, facts)
                    .divided_by(*divisor)
                    .to_string()
            }
        };
        match known.get(variable.name.as_str()) {
            Some(index) => list[*index].1 = value,
            None => {
                known.insert(&variable.name, list.len());
                list.push((variable.name.clone(), value));
            }
        }
    }
    Ok(list)
}

fn field(pod: &Pod, facts: &Facts, path: &FieldPath, variable: &str) -> Result<String> {
    let metadata = &pod.metadata;
    let addresses = |list: &[String]| -> Result<String> {
        if list.is_empty() {
            bail!("env {variable}: {path} is not known: the pod has no network");
        }
        Ok(list.join(","))
    };
    let pod_ips = if pod.spec.host_network {
        &facts.host_ips
    } else {
        &facts.pod_ips
    };
    Ok(match path {
        FieldPath::Name => metadata.name.clone(),
        FieldPath::Namespace => metadata.namespace.clone(),
        FieldPath::Uid => facts.uid.clone(),
        FieldPath::NodeName => facts.node_name.clone(),
        // There is no API server, and so one account; it has the name that Kubernetes gives it.
        FieldPath::ServiceAccountName => "default".to_owned(),
        FieldPath::Label(key) => metadata.labels.get(key).cloned().unwrap_or_default(),
        FieldPath::Annotation(key) => metadata.annotations.get(key).cloned().unwrap_or_default(),
        FieldPath::HostIp => addresses(facts.host_ips.get(..1).unwrap_or_default())?,
        FieldPath::HostIps => addresses(&facts.host_ips)?,
        FieldPath::PodIp => addresses(pod_ips.get(..1).unwrap_or_default())?,
        FieldPath::PodIps => addresses(pod_ips)?,
    })
}

/// A request or limit; a missing limit of cpu, memory or storage is all that the machine has.
fn amount(container: &Container, field: ResourceField, facts: &Facts) -> Quantity {
    let resources = &container.resources;
    if !field.limit {
        return resources.request(field.name);
    }
    resources.limit(field.name).unwrap_or(match field.name {
        ResourceName::Cpu => Quantity::from_milli(facts.allocatable_milli_cpu),
        ResourceName::Memory => Quantity::from_value(facts.allocatable_memory),
        ResourceName::EphemeralStorage => Quantity::from_value(facts.allocatable_storage),
        ResourceName::HugePages(_) => Quantity::ZERO,
    })
}

/// The whole environment of a process, as `NAME=value`: what every container has, then the image's,
/// then the manifest's; a later one takes the place of an earlier one of the same name.
pub fn environment(
    hostname: &str,
    tty: bool,
    image: &[String],
    manifest: &[(String, String)],
) -> Vec<String> {
    let mut list: Vec<(&str, &str)> = vec![("PATH", DEFAULT_PATH), ("HOSTNAME", hostname)];
    if tty {
        list.push(("TERM", "xterm"));
    }
    let image = image.iter().filter_map(|entry| entry.split_once('='));
    let manifest = manifest
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in image.chain(manifest) {
        match list.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => list.push((name, value)),
        }
    }
    list.iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// The program and its arguments. `env` is [`manifest_env`]'s.
///
/// `command` takes the place of the image's entrypoint and arguments, `args` only of its arguments
/// (kubernetes "Define a Command and Arguments for a Container").
///
/// # Errors
/// There is no program.
pub fn arguments(
    container: &Container,
    entrypoint: &[String],
    cmd: &[String],
    env: &[(String, String)],
) -> Result<Vec<String>> {
    // A later definition of the same name is in the earlier one's place, so the first match is it.
    let value_of = |name: &str| {
        env.iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    let replaced = |list: &[String]| -> Vec<String> {
        list.iter().map(|text| expand(text, value_of)).collect()
    };
    let (mut line, rest) = match (container.command.is_empty(), container.args.is_empty()) {
        (false, _) => (replaced(&container.command), replaced(&container.args)),
        (true, false) => (entrypoint.to_vec(), replaced(&container.args)),
        (true, true) => (entrypoint.to_vec(), cmd.to_vec()),
    };
    line.extend(rest);
    if line.first().is_none_or(String::is_empty) {
        bail!(
            "container {}: there is no program to run: set command, the image {} has no entrypoint",
            container.name,
            container.image
        );
    }
    Ok(line)
}

#[cfg(test)]
mod tests;
