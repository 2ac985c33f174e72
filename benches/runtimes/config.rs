//! The configurations that are measured: what `spec` writes, what containerd sends for an ordinary
//! container, and the same in a user namespace.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

/// The first id of the host that the user namespace uses.
pub const FIRST_HOST_ID: u32 = 100_000;

/// Which configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What `spec` writes.
    Default,
    /// containerd's default for a container of a pod.
    Full,
    /// The same with `hostUsers: false`.
    FullWithUserNamespace,
}

impl Kind {
    /// In the order of the table.
    pub const ALL: [Self; 3] = [Self::Default, Self::Full, Self::FullWithUserNamespace];

    /// The row of the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "run (default)",
            Self::Full => "run (full)",
            Self::FullWithUserNamespace => "run (full, userns)",
        }
    }
}

const DEFAULT_CAPABILITIES: &[&str] = &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

const FULL_CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const FULL_MASKED: &[&str] = &[
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
    "/sys/devices/virtual/powercap",
];

/// config.json of one container.
pub fn make(kind: Kind, id: &str, args: &[&str]) -> Value {
    let full = kind != Kind::Default;
    let held = if full {
        FULL_CAPABILITIES
    } else {
        DEFAULT_CAPABILITIES
    };
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": held, "effective": held, "permitted": held },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": !full },
        "hostname": "bench",
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": format!("/bench/{id}"),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" }
            ],
            "maskedPaths": if full { FULL_MASKED } else { &FULL_MASKED[1..6] },
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    if full {
        config["linux"]["resources"]["devices"] = device_rules();
        if let Some(profile) = seccomp() {
            config["linux"]["seccomp"] = profile;
        }
    }
    if kind == Kind::FullWithUserNamespace {
        let map = json!([{ "containerID": 0, "hostID": FIRST_HOST_ID, "size": 65536 }]);
        let linux = &mut config["linux"];
        linux["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "type": "user" }));
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    }
    config
}

fn mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs",
          "options": ["nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
          "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
    ])
}

/// Nothing, then the devices that every container has.
fn device_rules() -> Value {
    let allow = |major: Value, minor: Value| {
        let mut rule = json!({ "allow": true, "type": "c", "access": "rwm" });
        rule["major"] = major;
        if !minor.is_null() {
            rule["minor"] = minor;
        }
        rule
    };
    json!([
        { "allow": false, "access": "rwm" },
        allow(json!(1), json!(3)),
        allow(json!(1), json!(5)),
        allow(json!(1), json!(7)),
        allow(json!(1), json!(8)),
        allow(json!(1), json!(9)),
        allow(json!(5), json!(0)),
        allow(json!(5), json!(2)),
        allow(json!(136), Value::Null)
    ])
}

fn profile_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vendor-configs/seccomp/default.json")
}

/// Whether the profile is there.
pub fn has_profile() -> bool {
    profile_path().exists()
}

/// The default profile, as a runtime gets it: the engine has already chosen the rules that apply
/// (those that ask for a capability which the container lacks are left out).
fn seccomp() -> Option<Value> {
    let text = fs::read_to_string(profile_path()).ok()?;
    let profile: Value = serde_json::from_str(&text).unwrap();
    let held = |list: &Value| {
        list.as_array().is_none_or(|names| {
            names
                .iter()
                .any(|name| FULL_CAPABILITIES.contains(&name.as_str().unwrap_or("")))
        })
    };
    let rules: Vec<Value> = profile["syscalls"]
        .as_array()?
        .iter()
        .filter(|rule| held(&rule["includes"]["caps"]))
        .filter(|rule| rule["excludes"]["caps"].is_null() || !held(&rule["excludes"]["caps"]))
        .filter(|rule| match rule["includes"]["arches"].as_array() {
            Some(arches) => arches.iter().any(|arch| arch == "amd64"),
            None => true,
        })
        .filter(|rule| match rule["excludes"]["arches"].as_array() {
            Some(arches) => !arches.iter().any(|arch| arch == "amd64"),
            None => true,
        })
        .map(|rule| {
            let mut kept = json!({ "names": rule["names"], "action": rule["action"] });
            for key in ["args", "errnoRet"] {
                if !rule[key].is_null() {
                    kept[key] = rule[key].clone();
                }
            }
            kept
        })
        .collect();
    let mut lowered = json!({
        "defaultAction": profile["defaultAction"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    });
    if !profile["defaultErrnoRet"].is_null() {
        lowered["defaultErrnoRet"] = profile["defaultErrnoRet"].clone();
    }
    Some(lowered)
}
