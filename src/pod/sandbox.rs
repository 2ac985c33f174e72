//! The sandbox: the pod's cgroup, its volumes, and the pause process that holds its namespaces.

use anyhow::Result;

use super::config::{self, Setting};
use super::resources::{self, QosClass};
use super::spec::{Medium, StoredPod, VolumeSource};
use super::store::Entry;
use super::{instance, machine, volumes};
use crate::cgroup::{Cgroup, Hierarchy, remove_empty_parents};
use crate::container;
use crate::launch::Launched;
use crate::plan::CgroupPlan;
use crate::spec::cgroup::Write;
use crate::spec::namespaces::IdMaps;

/// A sandbox that is there.
#[derive(Debug)]
pub struct Sandbox {
    /// Of its container.
    pub id: String,
    /// The pause process.
    pub launched: Launched,
}

/// `/kubepods[/QOS]/podUID`, as the kubelet lays it out, so that its tools find pods.
pub fn cgroup_path(pod: &StoredPod) -> String {
    let class = match resources::qos_class(&pod.pod.spec) {
        QosClass::Guaranteed => "",
        QosClass::Burstable => "/burstable",
        QosClass::BestEffort => "/besteffort",
    };
    format!("/kubepods{class}/pod{}", pod.uid)
}

/// What of the pod does not apply on this machine.
pub fn warnings(setting: &Setting<'_>) -> Vec<String> {
    let spec = &setting.pod.spec;
    let mut warnings = Vec::new();
    let mut missing = Vec::new();
    for container in spec.all_containers() {
        let limits = resources::container_limits(spec, container);
        let asked = !container.resources.is_empty();
        let list = config::unified(&limits, setting.controllers).1;
        if asked && !list.is_empty() {
            missing.push(format!("{} ({})", container.name, list.join(", ")));
        }
    }
    if !missing.is_empty() {
        warnings.push(format!(
            "this machine's cgroup tree lacks the controllers for these limits, they are not enforced: {}",
            missing.join("; ")
        ));
    }
    let unbounded = spec.volumes.iter().filter(|volume| {
        let VolumeSource::EmptyDir { medium, size_limit } = &volume.source;
        *medium == Medium::Disk && size_limit.is_some()
    });
    let unbounded: Vec<&str> = unbounded.map(|volume| volume.name.as_str()).collect();
    if !unbounded.is_empty() {
        warnings.push(format!(
            "sizeLimit is not enforced for volumes on disk, only for medium: Memory: {}",
            unbounded.join(", ")
        ));
    }
    let lowest = machine::lowest_oom_score_adj();
    let wanted = spec
        .all_containers()
        .map(|it| resources::oom_score_adj(spec, it, setting.facts.allocatable_memory))
        .min();
    if let Some(wanted) = wanted.filter(|wanted| *wanted < lowest) {
        warnings.push(format!(
            "oom_score_adj {wanted} needs CAP_SYS_RESOURCE, which podctl lacks; {lowest} is used"
        ));
    }
    warnings
}

/// Makes the sandbox.
///
/// # Errors
/// When a part cannot be made; [`remove`] takes away what was.
pub fn make(
    entry: &Entry,
    setting: &Setting<'_>,
    hierarchy: &Hierarchy,
    maps: Option<&IdMaps>,
) -> Result<Sandbox> {
    let limits = resources::pod_limits(&setting.pod.spec);
    let unified = config::unified(&limits, setting.controllers).0;
    let writes = unified
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(file, value)| {
            let value = value.as_str()?.to_owned();
            Some(Write {
                file: file.clone(),
                value,
            })
        });
    let plan = CgroupPlan {
        path: setting.cgroup.to_owned(),
        writes: writes.collect(),
        owner: None,
        devices: Vec::new(),
    };
    let made = hierarchy.make(&plan, &mut Vec::new())?;
    crate::fault::parent_step("make volumes")?;
    volumes::make(entry, &setting.pod.spec, maps)?;
    let id = machine::random_hex(32)?;
    // The last that memory is taken from, as far as we may say so.
    let score = resources::PAUSE_OOM_SCORE_ADJ.max(machine::lowest_oom_score_adj());
    let config = config::sandbox(setting, &id, score);
    let given = vec![
        ("standard input", instance::null(false)?),
        ("standard output", instance::null(true)?),
        ("standard error", instance::null(true)?),
        ("pause program", container::sandbox::pause_program()?),
    ];
    let launched = instance::create(entry, &id, "sandbox", &config, given, false)?;
    container::start(&entry.containers(), &id, &mut Vec::new())?;
    made.keep();
    Ok(Sandbox { id, launched })
}

/// Ends all processes of a pod and removes its cgroups; its mounts go with the caller's mount
/// namespace. Idempotent: also for a sandbox that was made in part.
///
/// # Errors
/// When something cannot be removed; all else is.
pub fn remove(entry: &Entry, hierarchy: &Hierarchy, path: &str) -> Result<()> {
    let directory = hierarchy.directory(path);
    // All at once, also those that a killed supervisor had just made and whose container does not
    // know of them yet.
    let mut result = Cgroup::at(&directory).kill();
    let containers = entry.containers();
    for id in containers.ids()? {
        result = result.and(container::delete(&containers, &id, true));
    }
    result = result.and(Cgroup::at(&directory).remove());
    // The class of service, and kubepods, where no other pod is in them.
    remove_empty_parents(&directory, path.matches('/').count() - 1);
    result
}
