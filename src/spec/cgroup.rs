//! Resources as cgroup version 2 has them: an ordered list of files and values.
//!
//! config-linux.md speaks version 1; the conversions are those that runc and crun agreed on
//! (kernel's Documentation/admin-guide/cgroup-v2.rst names the files). What version 2 does not have
//! is an error where it asks for something, and nothing where it asks for the default.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{
    Linux, LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxResources,
    LinuxThrottleDevice,
};

/// One line written to one file of the cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// As `memory.max`.
    pub file: String,
    /// As it is written.
    pub value: String,
}

/// Where a container lives in the cgroup tree, and its limits.
#[derive(Debug, Clone)]
pub struct Cgroup {
    /// `cgroupsPath`, as it was given.
    pub path: Option<PathBuf>,
    /// In this order.
    pub writes: Vec<Write>,
    /// Device rules, in the order of the configuration.
    pub devices: Vec<LinuxDeviceCgroup>,
}

impl Cgroup {
    /// From `linux.cgroupsPath` and `linux.resources`.
    ///
    /// # Errors
    /// One that names the property.
    pub fn new(linux: &Linux, warnings: &mut Vec<String>) -> Result<Self> {
        let path = linux
            .cgroups_path()
            .clone()
            .filter(|path| !path.as_os_str().is_empty());
        let resources = linux.resources().clone().unwrap_or_default();
        Ok(Self {
            path,
            writes: writes(&resources, warnings)?,
            devices: resources.devices().clone().unwrap_or_default(),
        })
    }
}

/// All writes for a set of resources, unified ones last.
///
/// # Errors
/// One that names the property.
pub fn writes(resources: &LinuxResources, warnings: &mut Vec<String>) -> Result<Vec<Write>> {
    let mut list = List(Vec::new());
    if let Some(memory) = resources.memory() {
        memory_writes(memory, &mut list, warnings).context("memory")?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_writes(cpu, &mut list).context("cpu")?;
    }
    if let Some(pids) = resources.pids() {
        list.add("pids.max", limit(pids.limit()));
    }
    if let Some(io) = resources.block_io() {
        io_writes(io, &mut list).context("blockIO")?;
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let size = huge.page_size();
        let plain = size.bytes().all(|byte| byte.is_ascii_alphanumeric());
        ensure!(
            plain && !size.is_empty(),
            "hugepageLimits: `{size}` is not a page size"
        );
        list.add(&format!("hugetlb.{size}.max"), limit(huge.limit()));
    }
    let mut rdma: Vec<_> = resources.rdma().iter().flatten().collect();
    rdma.sort_by_key(|(device, _)| *device);
    for (device, limits) in rdma {
        let handles = limits
            .hca_handles()
            .map(|count| format!(" hca_handle={count}"));
        let objects = limits
            .hca_objects()
            .map(|count| format!(" hca_object={count}"));
        let value = format!(
            "{device}{}{}",
            handles.unwrap_or_default(),
            objects.unwrap_or_default()
        );
        list.add("rdma.max", value);
    }
    if let Some(network) = resources.network() {
        let empty = network.class_id().is_none_or(|id| id == 0)
            && network.priorities().as_ref().is_none_or(Vec::is_empty);
        ensure!(
            empty,
            "network: classID and priorities are of cgroup version 1 only"
        );
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        let plain = !file.contains('/') && !file.starts_with("cgroup.") && file.contains('.');
        ensure!(
            plain,
            "unified: `{file}` is not a file of a cgroup controller"
        );
        for line in value.lines().filter(|line| !line.is_empty()) {
            list.add(file, line.to_owned());
        }
    }
    Ok(list.0)
}

struct List(Vec<Write>);

impl List {
    fn add(&mut self, file: &str, value: impl Into<String>) {
        self.0.push(Write {
            file: file.to_owned(),
            value: value.into(),
        });
    }
}

fn limit(number: i64) -> String {
    if number < 0 {
        "max".to_owned()
    } else {
        number.to_string()
    }
}

fn memory_writes(memory: &LinuxMemory, list: &mut List, warnings: &mut Vec<String>) -> Result<()> {
    ensure!(
        memory.swappiness().is_none_or(|it| it == 0),
        "swappiness: not in cgroup version 2"
    );
    if memory.disable_oom_killer() == Some(true) {
        warnings.push(
            "linux.resources.memory.disableOOMKiller: not in cgroup version 2, ignored".into(),
        );
    }
    if let Some(swap) = swap_max(memory)? {
        list.add("memory.swap.max", swap);
    }
    // 0 is "not set" for these two in every caller: a container without memory cannot start.
    if let Some(number) = memory.limit().filter(|number| *number != 0) {
        list.add("memory.max", limit(number));
    }
    if let Some(number) = memory.reservation().filter(|number| *number != 0) {
        list.add("memory.low", limit(number));
    }
    Ok(())
}

/// Version 1's `swap` is memory and swap together, version 2's file is swap alone.
fn swap_max(memory: &LinuxMemory) -> Result<Option<String>> {
    let limit = memory.limit().unwrap_or(0);
    match memory.swap() {
        None | Some(0) if limit == -1 => Ok(Some("max".to_owned())),
        None | Some(0) => Ok(None),
        Some(number) if number < 0 => Ok(Some("max".to_owned())),
        Some(_) if limit <= 0 => {
            bail!("swap: needs a memory limit, for it is the sum of memory and swap")
        }
        Some(number) if number < limit => {
            bail!("swap: {number} is less than the memory limit, {limit}")
        }
        Some(number) => Ok(Some((number - limit).to_string())),
    }
}

fn cpu_writes(cpu: &LinuxCpu, list: &mut List) -> Result<()> {
    let none = |number: Option<i64>| number.is_none_or(|number| number == 0);
    ensure!(
        none(cpu.realtime_runtime()) && cpu.realtime_period().is_none_or(|number| number == 0),
        "realtimeRuntime, realtimePeriod: not in cgroup version 2"
    );
    let shares = cpu.shares().filter(|number| *number != 0);
    if let Some(idle) = cpu.idle() {
        ensure!(
            idle != 1 || shares.is_none(),
            "unable to apply both shares and idle"
        );
        list.add("cpu.idle", idle.to_string());
    }
    if let Some(shares) = shares {
        list.add("cpu.weight", weight(shares).to_string());
    }
    let quota = cpu.quota().filter(|number| *number != 0);
    let period = cpu.period().filter(|number| *number != 0);
    // A burst is checked against the quota, so it is lifted after a larger quota is there.
    match (quota, period) {
        (None, None) => {}
        (Some(quota), Some(period)) => list.add("cpu.max", format!("{} {period}", limit(quota))),
        (Some(quota), None) => list.add("cpu.max", limit(quota)),
        (None, Some(period)) => list.add("cpu.max", format!("max {period}")),
    }
    if let Some(burst) = cpu.burst() {
        list.add("cpu.max.burst", burst.to_string());
    }
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            list.add(file, value.clone());
        }
    }
    Ok(())
}

/// cpu.shares (2..262144) to cpu.weight (1..10000): 2 is 1, 1024 is 100, 262144 is 10000, and a
/// curve through the three in between: `ceil(10^((l*l + 125*l)/612 - 7/34))` with l = log2(shares).
pub fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[allow(clippy::cast_precision_loss, reason = "at most 18 bits")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "1 to 10000"
    )]
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight
}

fn io_writes(io: &LinuxBlockIo, list: &mut List) -> Result<()> {
    ensure!(
        io.leaf_weight().is_none_or(|it| it == 0),
        "leafWeight: not in cgroup version 2"
    );
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        list.add("io.weight", format!("default {}", io_weight(weight)?));
    }
    for device in io.weight_device().iter().flatten() {
        ensure!(
            device.leaf_weight().is_none_or(|it| it == 0),
            "leafWeight: not in cgroup version 2"
        );
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            let value = format!(
                "{}:{} {}",
                device.major(),
                device.minor(),
                io_weight(weight)?
            );
            list.add("io.weight", value);
        }
    }
    let mut throttle = |devices: &Option<Vec<LinuxThrottleDevice>>, key: &str| {
        for device in devices.iter().flatten() {
            let rate = if device.rate() == 0 {
                "max".to_owned()
            } else {
                device.rate().to_string()
            };
            list.add(
                "io.max",
                format!("{}:{} {key}={rate}", device.major(), device.minor()),
            );
        }
    };
    throttle(io.throttle_read_bps_device(), "rbps");
    throttle(io.throttle_write_bps_device(), "wbps");
    throttle(io.throttle_read_iops_device(), "riops");
    throttle(io.throttle_write_iops_device(), "wiops");
    Ok(())
}

/// blkio.weight (10..1000) to io.weight (1..10000).
fn io_weight(weight: u16) -> Result<u64> {
    ensure!(
        (10..=1000).contains(&weight),
        "weight: {weight} is not in 10..1000"
    );
    Ok(1 + (u64::from(weight) - 10) * 9999 / 990)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<String>> {
        let resources = serde_json::from_str(text).unwrap();
        let list = writes(&resources, &mut Vec::new())?;
        Ok(list
            .into_iter()
            .map(|write| format!("{}={}", write.file, write.value))
            .collect())
    }

    #[test]
    fn shares_become_weight_by_the_quadratic_formula() {
        let expected = [
            (2, 1),
            (102, 17),
            (256, 35),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (4096, 303),
            (262_144, 10_000),
        ];
        for (shares, expected) in expected {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn swap_is_the_difference_to_memory() {
        let text = r#"{"memory":{"limit":1000,"swap":1500,"reservation":10}}"#;
        assert_eq!(
            of(text).unwrap(),
            ["memory.swap.max=500", "memory.max=1000", "memory.low=10"]
        );
        assert_eq!(
            of(r#"{"memory":{"limit":1000,"swap":1000}}"#).unwrap()[0],
            "memory.swap.max=0"
        );
        assert_eq!(
            of(r#"{"memory":{"limit":-1}}"#).unwrap(),
            ["memory.swap.max=max", "memory.max=max"]
        );
        assert!(of(r#"{"memory":{"swap":1000}}"#).is_err());
        assert!(of(r#"{"memory":{"limit":1000,"swap":500}}"#).is_err());
    }

    #[test]
    fn quota_and_period_are_one_file() {
        assert_eq!(
            of(r#"{"cpu":{"quota":50000,"period":100000}}"#).unwrap(),
            ["cpu.max=50000 100000"]
        );
        assert_eq!(
            of(r#"{"cpu":{"quota":-1,"period":100000}}"#).unwrap(),
            ["cpu.max=max 100000"]
        );
    }

    #[test]
    fn pids_limit_of_0_is_a_limit() {
        assert_eq!(of(r#"{"pids":{"limit":0}}"#).unwrap(), ["pids.max=0"]);
        assert_eq!(of(r#"{"pids":{"limit":-1}}"#).unwrap(), ["pids.max=max"]);
    }

    #[test]
    fn unified_is_written_last_and_checked() {
        let text = r#"{"unified":{"memory.high":"5","cpu.weight":"7"},"pids":{"limit":3}}"#;
        assert_eq!(
            of(text).unwrap(),
            ["pids.max=3", "cpu.weight=7", "memory.high=5"]
        );
        for wrong in ["../memory.max", "cgroup.procs", "memory"] {
            assert!(
                of(&format!(r#"{{"unified":{{"{wrong}":"1"}}}}"#)).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn version_1_only_settings_are_errors() {
        for text in [
            r#"{"cpu":{"realtimeRuntime":5}}"#,
            r#"{"memory":{"swappiness":5}}"#,
            r#"{"network":{"classID":5}}"#,
            r#"{"cpu":{"idle":1,"shares":5}}"#,
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
