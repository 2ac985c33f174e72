//! `features` (runtime-spec features.md): true only what works.

use anyhow::Result;
use serde_json::json;

use super::{SPEC_VERSION, out};
use crate::spec::mounts::option_names;
use crate::spec::namespaces::Kind;

pub(super) fn features() -> Result<i32> {
    let capabilities: Vec<String> = {
        let mut all: Vec<_> = caps::all().into_iter().collect();
        all.sort_by_key(caps::Capability::index);
        all.iter().map(ToString::to_string).collect()
    };
    let mut namespaces: Vec<_> = Kind::ALL.iter().map(|kind| kind.word()).collect();
    namespaces.sort_unstable();
    let object = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": [],
        "mountOptions": option_names(),
        "linux": {
            "namespaces": namespaces,
            "capabilities": capabilities,
            "cgroup": {
                "v1": false,
                "v2": true,
                "systemd": false,
                "systemdUser": false,
                "rdma": true,
            },
            "seccomp": seccomp(),
            "apparmor": {"enabled": false},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": false},
            "memoryPolicy": {},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": false},
        },
        "annotations": {
            "org.seedpod.version": env!("CARGO_PKG_VERSION"),
        },
        "potentiallyUnsafeConfigAnnotations": [],
    });
    out(&format!("{}\n", serde_json::to_string_pretty(&object)?))?;
    Ok(0)
}

/// What `seccomp::compile` takes; SCMP_ACT_NOTIFY is left out, for its listener is not supported.
fn seccomp() -> serde_json::Value {
    let architectures: &[&str] = if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
    } else {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    };
    json!({
        "enabled": true,
        "actions": [
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP",
        ],
        "operators": [
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_LE",
            "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
        "archs": architectures,
    })
}
