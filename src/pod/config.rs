//! A pod's containers as OCI configurations: what Kubernetes says, in the runtime's words.
//!
//! Made as JSON, written into the bundle, and then read like any other configuration: `seedpod
//! explain -b` shows what a pod's container is. No input or output here.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::expand::{self, Facts};
use super::resources::CgroupLimits;
use super::spec::security::Effective;
use super::spec::{Capabilities, Container, Pod, ProcMount, SeccompProfile};

use crate::image::ImageConfig;
use crate::spec::namespaces::IdMaps;

/// runtime-spec's version of these configurations.
const VERSION: &str = "1.2.0";

/// What is known of the pod when a configuration is made.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its own ids, in a `hostUsers: false` pod.
    pub maps: Option<&'a IdMaps>,
    /// The pod's cgroup, below the root of the tree.
    pub cgroup: &'a str,
    /// What the downward API gives.
    pub facts: &'a Facts,
    /// The controllers that can enforce limits.
    pub controllers: &'a [String],
}

/// What is known of one container when its configuration is made.
#[derive(Debug)]
pub struct Instance<'a> {
    /// The container.
    pub container: &'a Container,
    /// Its id.
    pub id: &'a str,
    /// What its image says.
    pub image: &'a ImageConfig,
    /// Pod and container settings together.
    pub security: &'a Effective,
    /// The capabilities that there are to give, without `CAP_`.
    pub available: &'a BTreeSet<String>,
    /// Its user, found in the image.
    pub user: &'a User,
    /// The mounted root file system.
    pub rootfs: &'a str,
    /// Directories of the host that are mounted: source, target, read-only, with the pod's ids.
    pub binds: &'a [Bind],
    /// The sandbox's first process.
    pub pause: i32,
    /// Written to oom_score_adj.
    pub oom_score_adj: i32,
    /// Of its own cgroup.
    pub limits: &'a CgroupLimits,
}

/// A user as numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// A directory of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Bind {
    pub source: String,
    pub target: String,
    pub readonly: bool,
    /// Owners on the disk are ids of the container.
    pub idmapped: bool,
    pub options: Vec<&'static str>,
}

/// The sandbox: the namespaces that all containers share, and the process that holds them.
pub fn sandbox(setting: &Setting<'_>, id: &str, oom_score_adj: i32) -> Value {
    let spec = &setting.pod.spec;
    let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "cgroup"})];
    if !spec.host_pid {
        namespaces.push(json!({"type": "pid"}));
    }
    if !spec.host_ipc {
        namespaces.push(json!({"type": "ipc"}));
    }
    let mut sysctls = serde_json::Map::new();
    if !spec.host_network {
        namespaces.extend([json!({"type": "network"}), json!({"type": "uts"})]);
        // The low ports of a network that only the pod sees need no privilege.
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), json!("0"));
    }
    for sysctl in &spec.security_context.sysctls {
        sysctls.insert(sysctl.name.clone(), json!(sysctl.value));
    }
    let mut linux = json!({
        "cgroupsPath": format!("{}/{id}", setting.cgroup),
        "sysctl": sysctls,
        "resources": {"devices": [{"allow": false, "access": "rwm"}]},
    });
    if let Some(maps) = setting.maps {
        namespaces.push(json!({"type": "user"}));
        put_maps(&mut linux, maps);
    }
    linux["namespaces"] = json!(namespaces);
    let mut config = json!({
        "ociVersion": VERSION,
        // Not used: the sandbox's root is an empty file system.
        "root": {"path": "/", "readonly": true},
        "process": {
            "args": ["pause"],
            "cwd": "/",
            "env": ["HOME=/"],
            "user": {"uid": 65535, "gid": 65535},
            "noNewPrivileges": true,
            "oomScoreAdj": oom_score_adj,
        },
        "linux": linux,
        "annotations": annotations(setting, "sandbox", None),
    });
    if !spec.host_network {
        config["hostname"] = json!(setting.pod.hostname());
    }
    config
}

fn annotations(setting: &Setting<'_>, kind: &str, name: Option<&str>) -> Value {
    let metadata = &setting.pod.metadata;
    let mut annotations = json!({
        "org.seedpod.kind": kind,
        "org.seedpod.pod.name": metadata.name,
        "org.seedpod.pod.namespace": metadata.namespace,
        "org.seedpod.pod.uid": setting.facts.uid,
    });
    if let Some(name) = name {
        annotations["org.seedpod.container.name"] = json!(name);
    }
    annotations
}

fn put_maps(linux: &mut Value, maps: &IdMaps) {
    let (uids, gids) = mappings(maps);
    linux["uidMappings"] = uids;
    linux["gidMappings"] = gids;
}

fn mappings(maps: &IdMaps) -> (Value, Value) {
    let list = |lines: &[crate::spec::namespaces::IdMapping]| {
        let list: Vec<_> = lines
            .iter()
            .map(|it| json!({"containerID": it.inside, "hostID": it.outside, "size": it.count}))
            .collect();
        json!(list)
    };
    (list(&maps.uids), list(&maps.gids))
}

/// A container of the pod.
///
/// # Errors
/// When its command or environment cannot be made, or a capability is unknown.
pub fn container(setting: &Setting<'_>, it: &Instance<'_>) -> Result<Value> {
    let env = expand::manifest_env(setting.pod, it.container, setting.facts)?;
    let args = expand::arguments(it.container, &it.image.entrypoint, &it.image.cmd, &env)?;
    let hostname = setting.pod.hostname();
    let mut process = json!({
        "terminal": it.container.tty,
        "args": args,
        "env": expand::environment(hostname, it.container.tty, &it.image.env, &env),
        "cwd": working_directory(it),
        "user": {"uid": it.user.uid, "gid": it.user.gid, "additionalGids": it.user.groups},
        "noNewPrivileges": it.security.no_new_privileges,
        "oomScoreAdj": it.oom_score_adj,
    });
    let capabilities = capabilities(
        &it.security.capabilities,
        it.security.privileged,
        it.available,
    )?;
    process["capabilities"] = json!({
        "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
    });
    Ok(json!({
        "ociVersion": VERSION,
        "root": {"path": it.rootfs, "readonly": it.security.read_only_root},
        "process": process,
        "mounts": mounts(setting, it),
        "linux": linux(setting, it)?,
        "annotations": annotations(setting, "container", Some(&it.container.name)),
    }))
}

fn working_directory(it: &Instance<'_>) -> String {
    let own = it
        .container
        .working_dir
        .clone()
        .filter(|path| !path.is_empty());
    let image = Some(it.image.working_dir.clone()).filter(|path| !path.is_empty());
    own.or(image).unwrap_or_else(|| "/".to_owned())
}

/// What containerd and CRI-O give a container that asks for nothing.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// `ALL` comes first, then single ones: `drop: [ALL], add: [CHOWN]` is CHOWN alone. ALL are those that
/// there are to give; one that is asked for by name must be among them.
fn capabilities(
    changes: &Capabilities,
    privileged: bool,
    available: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let plain = |name: &str| name.strip_prefix("CAP_").unwrap_or(name).to_owned();
    let known = crate::spec::process::capability_names();
    let mut set: BTreeSet<String> = DEFAULT_CAPABILITIES
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    if privileged || changes.add.iter().any(|name| name == "ALL") {
        set.clone_from(available);
    }
    if changes.drop.iter().any(|name| name == "ALL") {
        set.clear();
    }
    for name in changes.add.iter().filter(|name| *name != "ALL") {
        let name = plain(name);
        ensure!(
            known.contains(&name),
            "securityContext.capabilities.add: unknown capability {name}"
        );
        ensure!(
            available.contains(&name),
            "securityContext.capabilities.add: {name}: podctl does not have it itself"
        );
        set.insert(name);
    }
    for name in &changes.drop {
        set.remove(&plain(name));
    }
    Ok(set.into_iter().map(|name| format!("CAP_{name}")).collect())
}

fn mounts(setting: &Setting<'_>, it: &Instance<'_>) -> Value {
    let sys_mode = if it.security.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc",
            "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", sys_mode]}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", sys_mode]}),
    ];
    let mut binds: Vec<&Bind> = it.binds.iter().collect();
    // A mount below another one comes after it, whatever the manifest's order.
    binds.sort_by_key(|bind| bind.target.matches('/').count());
    for bind in binds {
        let mut options = vec!["rbind", "rprivate", if bind.readonly { "ro" } else { "rw" }];
        options.extend(&bind.options);
        let mut mount = json!({"destination": bind.target, "type": "bind", "source": bind.source,
            "options": options});
        if let Some(maps) = setting.maps.filter(|_| bind.idmapped) {
            put_maps(&mut mount, maps);
        }
        mounts.push(mount);
    }
    json!(mounts)
}

fn linux(setting: &Setting<'_>, it: &Instance<'_>) -> Result<Value> {
    let mut linux = json!({
        "namespaces": namespaces(setting, it.pause),
        "cgroupsPath": format!("{}/{}", setting.cgroup, it.id),
        "resources": {
            "devices": [{"allow": it.security.privileged, "access": "rwm"}],
            "unified": unified(it.limits, setting.controllers).0,
        },
    });
    if let Some(maps) = setting.maps {
        put_maps(&mut linux, maps);
    }
    if !it.security.privileged && it.security.proc_mount == ProcMount::Default {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READONLY);
    }
    match &it.security.seccomp {
        SeccompProfile::Unconfined => {}
        SeccompProfile::RuntimeDefault => linux["seccomp"] = default_profile()?,
        SeccompProfile::Localhost { localhost_profile } => anyhow::bail!(
            "seccompProfile Localhost ({localhost_profile}): not supported by this version of podctl"
        ),
    }
    Ok(linux)
}

fn namespaces(setting: &Setting<'_>, pause: i32) -> Value {
    let spec = &setting.pod.spec;
    let shared =
        |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{pause}/ns/{file}")});
    let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "cgroup"})];
    if !spec.host_pid {
        let pid = if spec.share_process_namespace {
            shared("pid", "pid")
        } else {
            json!({"type": "pid"})
        };
        namespaces.push(pid);
    }
    if !spec.host_ipc {
        namespaces.push(shared("ipc", "ipc"));
    }
    if !spec.host_network {
        namespaces.extend([shared("network", "net"), shared("uts", "uts")]);
    }
    if setting.maps.is_some() {
        namespaces.push(shared("user", "user"));
    }
    json!(namespaces)
}

/// Limits as files of a cgroup, and the names of those that no controller here can enforce.
pub fn unified(limits: &CgroupLimits, controllers: &[String]) -> (Value, Vec<String>) {
    let mut files: Vec<(String, String)> = Vec::new();
    let mut add = |file: &str, value: Option<String>| {
        files.extend(value.map(|value| (file.to_owned(), value)));
    };
    add("cpu.weight", limits.cpu_weight.map(|it| it.to_string()));
    add("cpu.max", limits.cpu_max.map(|it| it.to_string()));
    add("memory.max", limits.memory_max.map(|it| it.to_string()));
    add(
        "memory.swap.max",
        limits.memory_swap_max.map(|it| it.to_string()),
    );
    add(
        "memory.oom.group",
        limits.memory_oom_group.then(|| "1".to_owned()),
    );
    add("pids.max", limits.pids_max.map(|it| it.to_string()));
    for (size, bytes) in &limits.hugetlb_max {
        add(&format!("hugetlb.{size}.max"), Some(bytes.to_string()));
    }
    let mut unified = serde_json::Map::new();
    let mut missing = Vec::new();
    for (file, value) in files {
        let controller = file.split('.').next().unwrap_or_default();
        if controllers.iter().any(|it| it == controller) {
            unified.insert(file, json!(value));
        } else {
            missing.push(format!("{file} {value}"));
        }
    }
    (Value::Object(unified), missing)
}

/// The runtime's default profile, the same that vendor-configs has for others.
fn default_profile() -> Result<Value> {
    let text = include_str!("../../vendor-configs/seccomp/default.json");
    serde_json::from_str(text).context("vendor-configs/seccomp/default.json")
}

/// Parts of /proc and /sys that tell of, or change, the whole machine.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Result<Vec<String>> {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        capabilities(
            &Capabilities {
                add: list(add),
                drop: list(drop),
            },
            false,
            &crate::spec::process::capability_names()
                .into_iter()
                .collect(),
        )
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        assert_eq!(set(&[], &[]).unwrap().len(), 14);
        assert_eq!(set(&["CHOWN"], &["ALL"]).unwrap(), ["CAP_CHOWN"]);
        assert!(
            !set(&[], &["NET_RAW"])
                .unwrap()
                .contains(&"CAP_NET_RAW".to_owned())
        );
        assert!(set(&["ALL"], &["SYS_ADMIN"]).unwrap().len() > 35);
        assert!(set(&["NOPE"], &[]).is_err());
    }

    #[test]
    fn limits_without_a_controller_are_told() {
        let limits = CgroupLimits {
            memory_max: Some(5),
            pids_max: Some(3),
            ..CgroupLimits::default()
        };
        let (unified, missing) = unified(&limits, &["pids".to_owned()]);
        assert_eq!(unified, json!({"pids.max": "3"}));
        assert_eq!(missing, ["memory.max 5"]);
    }
}
