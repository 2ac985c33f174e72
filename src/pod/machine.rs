//! Facts about this machine that a pod's containers are told or measured by.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::expand::Facts;
use crate::error::OrFailure;

/// What the downward API needs, for a pod with this uid.
///
/// # Errors
/// When /proc cannot be read.
pub fn facts(uid: &str, root: &Path) -> Result<Facts> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let space =
        nix::sys::statvfs::statvfs(root).or_failure(|| format!("look at {}", root.display()))?;
    Ok(Facts {
        uid: uid.to_owned(),
        node_name: node_name()?,
        host_ips: Vec::new(),
        pod_ips: Vec::new(),
        allocatable_milli_cpu: u64::try_from(cpus).unwrap_or(1) * 1000,
        allocatable_memory: memory_bytes()?,
        allocatable_storage: space.blocks() * space.fragment_size(),
    })
}

/// The machine's name, in small letters, as Kubernetes names nodes.
///
/// # Errors
/// As gethostname(2).
pub fn node_name() -> Result<String> {
    let name = nix::unistd::gethostname().or_failure(|| "read the machine's name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// The machine's memory.
///
/// # Errors
/// When /proc/meminfo cannot be read.
pub fn memory_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").or_failure(|| "read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number
        .map(|kilobytes| kilobytes * 1024)
        .context("/proc/meminfo has no MemTotal")
}

/// The lowest oom_score_adj that this process may give: without CAP_SYS_RESOURCE, not less than its
/// own lowest (proc_pid_oom_score_adj(5)).
pub fn lowest_oom_score_adj() -> i32 {
    let capability = caps::Capability::CAP_SYS_RESOURCE;
    if caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false) {
        return -1000;
    }
    let text = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The capabilities that a container can be given, without `CAP_`. In a user namespace of its own
/// there are all that the kernel knows; otherwise it gets no more than we have.
///
/// # Errors
/// When they cannot be read.
pub fn capabilities(own_users: bool) -> Result<BTreeSet<String>> {
    let names = crate::spec::process::capability_names();
    if own_users {
        return Ok(names.into_iter().collect());
    }
    let read = |set| caps::read(None, set).context("read our own capabilities");
    let (bounding, permitted) = (
        read(caps::CapSet::Bounding)?,
        read(caps::CapSet::Permitted)?,
    );
    let ours = bounding.intersection(&permitted);
    let plain = |it: &caps::Capability| it.to_string().trim_start_matches("CAP_").to_owned();
    Ok(ours.map(plain).collect())
}

/// Bytes from the kernel's random number generator, as hexadecimal digits.
///
/// # Errors
/// When /dev/urandom cannot be read.
pub fn random_hex(bytes: usize) -> Result<String> {
    use std::io::Read;
    let mut buffer = vec![0; bytes];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut buffer));
    read.or_failure(|| "read /dev/urandom")?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A random UUID (RFC 9562, version 4), made by the kernel.
///
/// # Errors
/// When it cannot be read.
pub fn uuid() -> Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    Ok(fs::read_to_string(path)
        .or_failure(|| format!("read {path}"))?
        .trim()
        .to_owned())
}
