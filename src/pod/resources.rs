//! From requests and limits to control group values: QoS class, weight, quota, memory, OOM score.
//!
//! The figures are the kubelet's on cgroup version 2, with the weight formula that runc 1.3.2 and
//! crun 1.23 brought (100m is 17, one core is 100), which is [`crate::spec::cgroup`]'s. Nothing is
//! written here.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::pod::quantity::Quantity;
use crate::pod::spec::{Container, PodSpec, ResourceName, Resources};
use crate::spec::cgroup::weight;

/// The period of `cpu.max`, in microseconds.
const PERIOD_US: u64 = 100_000;
/// The smallest quota that the kernel takes, in microseconds.
const QUOTA_MIN_US: u64 = 1000;
/// The bounds of cpu shares, the version 1 unit that weights are made from.
const SHARES: (u64, u64) = (2, 262_144);
/// The pause process goes last of what can be killed.
pub const PAUSE_OOM_SCORE_ADJ: i32 = -998;

/// How sure a pod can be of its resources (kubernetes "Pod Quality of Service Classes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QosClass {
    /// Every container has limits for cpu and memory, and requests as much.
    Guaranteed,
    /// Something is requested.
    Burstable,
    /// Nothing is requested.
    BestEffort,
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        })
    }
}

/// Values for one control group; what is none is not written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupLimits {
    /// `cpu.weight`.
    pub cpu_weight: Option<u64>,
    /// `cpu.max`.
    pub cpu_max: Option<CpuMax>,
    /// `memory.max`, bytes.
    pub memory_max: Option<u64>,
    /// `memory.swap.max`, bytes; pods do not swap.
    pub memory_swap_max: Option<u64>,
    /// `memory.oom.group`: when memory runs out, the whole container ends, not one of its processes.
    pub memory_oom_group: bool,
    /// `pids.max`; Kubernetes sets none unless it is configured to.
    pub pids_max: Option<u64>,
    /// `hugetlb.<size>.max`, bytes, by the kernel's name of the page size (`2MB`).
    pub hugetlb_max: BTreeMap<String, u64>,
}

/// `cpu.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMax {
    /// Microseconds in a period; none: `max`.
    pub quota_us: Option<u64>,
    /// The period in microseconds.
    pub period_us: u64,
}

impl fmt::Display for CpuMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quota_us {
            Some(quota) => write!(f, "{quota} {}", self.period_us),
            None => write!(f, "max {}", self.period_us),
        }
    }
}

/// Thousandths of a core as version 1 shares.
pub fn shares(milli_cpu: u64) -> u64 {
    (milli_cpu.saturating_mul(1024) / 1000).clamp(SHARES.0, SHARES.1)
}

/// `cpu.max` for a limit in thousandths of a core; nothing is no limit.
pub fn cpu_max(milli_cpu: u64) -> CpuMax {
    let quota = milli_cpu.saturating_mul(PERIOD_US) / 1000;
    CpuMax {
        quota_us: (milli_cpu > 0).then(|| quota.max(QUOTA_MIN_US)),
        period_us: PERIOD_US,
    }
}

/// The pod's quality of service.
pub fn qos_class(spec: &PodSpec) -> QosClass {
    // Pod-level resources decide alone, where there are any.
    let own = std::slice::from_ref(&spec.resources);
    let per_container: Vec<Resources>;
    let considered = if spec.resources.is_empty() {
        per_container = spec.all_containers().map(|c| c.resources.clone()).collect();
        per_container.as_slice()
    } else {
        own
    };
    let names = [ResourceName::Cpu, ResourceName::Memory];
    let nothing = considered.iter().all(|resources| {
        names
            .iter()
            .all(|name| resources.request(*name).is_zero() && resources.limit(*name).is_none())
    });
    if nothing {
        return QosClass::BestEffort;
    }
    let guaranteed = considered.iter().all(|resources| {
        names
            .iter()
            .all(|name| resources.limit(*name) == Some(resources.request(*name)))
    });
    if guaranteed {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// What the containers request together.
///
/// Containers and sidecars run at the same time and add up; ordinary init containers run one after
/// the other, each beside the sidecars before it, so the largest moment counts.
pub fn container_requests(spec: &PodSpec) -> BTreeMap<ResourceName, Quantity> {
    together(spec, |container| &container.resources.requests)
}

fn together(
    spec: &PodSpec,
    of: impl Fn(&Container) -> &BTreeMap<ResourceName, Quantity>,
) -> BTreeMap<ResourceName, Quantity> {
    let mut running: BTreeMap<ResourceName, Quantity> = BTreeMap::new();
    let mut most: BTreeMap<ResourceName, Quantity> = BTreeMap::new();
    let add = |sum: &mut BTreeMap<ResourceName, Quantity>, more: &Container| {
        for (name, quantity) in of(more) {
            let entry = sum.entry(*name).or_insert(Quantity::ZERO);
            *entry = entry.plus(*quantity);
        }
    };
    let raise = |most: &mut BTreeMap<ResourceName, Quantity>, moment: &BTreeMap<_, Quantity>| {
        for (name, quantity) in moment {
            let entry = most.entry(*name).or_insert(*quantity);
            *entry = (*entry).max(*quantity);
        }
    };
    for init in &spec.init_containers {
        if init.is_sidecar() {
            add(&mut running, init);
            raise(&mut most, &running);
        } else {
            let mut moment = running.clone();
            add(&mut moment, init);
            raise(&mut most, &moment);
        }
    }
    for container in &spec.containers {
        add(&mut running, container);
    }
    raise(&mut most, &running);
    most
}

/// Values for the control group of `container`, a container of `spec`.
pub fn container_limits(spec: &PodSpec, container: &Container) -> CgroupLimits {
    let own = &container.resources;
    let limit = |name| own.limit(name).or_else(|| spec.resources.limit(name));
    let request = own.request(ResourceName::Cpu).milli_value();
    let cpu = limit(ResourceName::Cpu).map(Quantity::milli_value);
    CgroupLimits {
        cpu_weight: Some(weight(shares(request))),
        cpu_max: Some(cpu_max(cpu.unwrap_or(0))),
        memory_max: limit(ResourceName::Memory).map(Quantity::value),
        memory_swap_max: Some(0),
        memory_oom_group: true,
        pids_max: None,
        hugetlb_max: hugetlb(&own.requests),
    }
}

/// Values for the control group of the pod, above those of its containers.
pub fn pod_limits(spec: &PodSpec) -> CgroupLimits {
    let own = &spec.resources;
    let requests = container_requests(spec);
    let limits = together(spec, |container| &container.resources.limits);
    let limit = |name| {
        // The sum bounds the pod only when no container is without a bound.
        let every = spec
            .all_containers()
            .all(|c| c.resources.limit(name).is_some());
        own.limit(name)
            .or_else(|| limits.get(&name).copied().filter(|_| every))
    };
    let request = match own.requests.get(&ResourceName::Cpu) {
        Some(request) => *request,
        None => requests
            .get(&ResourceName::Cpu)
            .copied()
            .unwrap_or(Quantity::ZERO),
    };
    let cpu = limit(ResourceName::Cpu).map(Quantity::milli_value);
    let mut huge = hugetlb(&requests);
    huge.extend(hugetlb(&own.requests));
    CgroupLimits {
        cpu_weight: Some(weight(shares(request.milli_value()))),
        cpu_max: Some(cpu_max(cpu.unwrap_or(0))),
        memory_max: limit(ResourceName::Memory).map(Quantity::value),
        memory_swap_max: None,
        memory_oom_group: false,
        pids_max: None,
        hugetlb_max: huge,
    }
}

/// Page sizes that the machine has and that are not requested are for the writer to set to nothing.
fn hugetlb(requests: &BTreeMap<ResourceName, Quantity>) -> BTreeMap<String, u64> {
    let mut map = BTreeMap::new();
    for (name, quantity) in requests {
        if let ResourceName::HugePages(size) = name {
            map.insert(page_size_name(*size), quantity.value());
        }
    }
    map
}

/// The kernel's name of a page size: `64KB`, `2MB`, `1GB`.
fn page_size_name(bytes: u64) -> String {
    for (unit, suffix) in [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")] {
        if bytes >= unit {
            return format!("{}{suffix}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

/// `oom_score_adj` of a container, on a machine with this much memory in bytes.
pub fn oom_score_adj(spec: &PodSpec, container: &Container, memory_bytes: u64) -> i32 {
    match qos_class(spec) {
        QosClass::Guaranteed => return -997,
        QosClass::BestEffort => return 1000,
        QosClass::Burstable => {}
    }
    let own = burstable_score(spec, container, memory_bytes);
    let is_sidecar = container.is_sidecar()
        && spec
            .init_containers
            .iter()
            .any(|init| init.name == container.name);
    if !is_sidecar {
        return own;
    }
    // A sidecar serves the applications, so it goes no earlier than the first of them.
    let lowest = spec
        .containers
        .iter()
        .map(|app| burstable_score(spec, app, memory_bytes))
        .max()
        .unwrap_or(own);
    own.min(lowest)
}

/// The more memory a container was promised, the later it goes.
fn burstable_score(spec: &PodSpec, container: &Container, memory_bytes: u64) -> i32 {
    let mut request = container.resources.request(ResourceName::Memory).value();
    // What the pod as a whole was promised beyond its containers is shared evenly among them.
    let own = spec.resources.request(ResourceName::Memory).value();
    if own > 0 {
        let containers = container_requests(spec);
        let used = containers
            .get(&ResourceName::Memory)
            .map_or(0, |q| q.value());
        let count = u64::try_from(spec.all_containers().count()).unwrap_or(1);
        request = request.saturating_add(own.saturating_sub(used) / count.max(1));
    }
    let share = u128::from(request) * 1000 / u128::from(memory_bytes.max(1));
    let score = 1000 - i32::try_from(share.min(1000)).unwrap_or(1000);
    score.clamp(3, 999)
}

#[cfg(test)]
mod tests;
