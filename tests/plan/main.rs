//! Golden plans: what `seedpod explain` prints for whole configurations, and the rules of the order as
//! sentences.
//!
//! A change of the order is a change of the security of the runtime, so it is read as a diff: run
//! `UPDATE_GOLDEN=1 cargo test --test plan` and look at what changed in `tests/plan/*.plan`. No root is
//! needed. The length of a seccomp program is not held here; `tests/seccomp` judges what it decides.

#![allow(clippy::unwrap_used)]

mod golden;
mod order;

use std::path::{Path, PathBuf};

use seedpod::plan::{self, Plan};
use seedpod::spec::{Container, wire};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan")
}

/// `tests/plan/NAME.json`.
fn configuration(name: &str) -> Value {
    let path = folder().join(name).with_extension("json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// With the default profile of seccomp, as containerd puts it in.
fn with_seccomp(mut config: Value) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor-configs/seccomp/default.json");
    config["linux"]["seccomp"] = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    config
}

/// What `seedpod spec` writes.
fn example() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_seedpod"))
        .args(["spec", "--bundle"])
        .arg(folder.path())
        .status();
    assert!(made.unwrap().success());
    serde_json::from_slice(&std::fs::read(folder.path().join("config.json")).unwrap()).unwrap()
}

/// The meaning of a configuration in `/bundle`; none of these gives a warning.
fn meaning(config: &Value) -> Container {
    let mut warnings = Vec::new();
    let wire = wire::read(config.to_string().as_bytes(), &mut warnings).unwrap();
    let container = Container::new(&wire, Path::new("/bundle"), &mut warnings).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    container
}

fn create(config: &Value) -> Plan {
    let request = plan::create::Request {
        id: "golden".to_owned(),
        ..plan::create::Request::default()
    };
    plan::create::plan(&meaning(config), &request, &mut Vec::new()).unwrap()
}

/// As `podctl` makes a sandbox: its streams and its program are given.
fn sandbox(config: &Value) -> Plan {
    let request = plan::create::Request {
        id: "golden".to_owned(),
        own_streams: true,
        sandbox: true,
        ..plan::create::Request::default()
    };
    plan::create::plan(&meaning(config), &request, &mut Vec::new()).unwrap()
}

/// An exec of the container's own process.
fn exec(config: &Value, own_streams: bool) -> Plan {
    let container = meaning(config);
    let request = plan::exec::Request {
        id: "golden".to_owned(),
        own_streams,
        ..plan::exec::Request::default()
    };
    plan::exec::plan(&container, &container.process, &request, &mut Vec::new()).unwrap()
}
