//! `spec`: a config.json that runs a shell.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::SPEC_VERSION;
use crate::cli::args::Matches;
use crate::files::{Lasts, replace};

pub(super) fn spec(matches: &Matches) -> Result<i32> {
    let bundle = matches.get("bundle").map_or(Path::new("."), Path::new);
    let path = bundle.join("config.json");
    ensure!(
        !path.exists(),
        "{} exists already; it is left as it is",
        path.display()
    );
    let text = serde_json::to_string_pretty(&example())?;
    replace(&path, format!("{text}\n").as_bytes(), Lasts::UntilShutdown)?;
    Ok(0)
}

/// The configuration: all namespaces but user, three capabilities, kernel interfaces masked.
pub(super) fn example() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "seedpod",
        "mounts": mounts(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"},
                {"type": "network"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger",
            ],
        },
    })
}

fn mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {
            "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        },
        {
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_is_understood_without_a_warning() {
        let bytes = serde_json::to_vec(&example()).unwrap();
        let mut warnings = Vec::new();
        let spec = crate::spec::wire::read(&bytes, &mut warnings).unwrap();
        crate::spec::Container::new(&spec, Path::new("/b"), &mut warnings).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}
