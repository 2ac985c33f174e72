//! The container's cgroup: where it is, its limits as read back, who may write it.

use std::fs;

use serde_json::{Value, json};

use crate::fixture::{Bundle, seedpod};
use crate::runner::{Test, case_cgroup};
use crate::{require, tests, wait};

pub const TESTS: &[Test] = tests![
    process_is_in_the_named_cgroup_from_its_start,
    cgroup_in_the_container_is_read_only,
    pids_limit_is_applied,
    pids_limit_of_minus_one_is_max,
    memory_limit_is_read_back,
    memory_limit_kills_what_goes_over_it,
    swap_is_memory_and_swap_together,
    cpu_quota_and_period_are_read_back,
    cpu_shares_become_a_weight,
    unified_keys_are_written,
    unified_key_with_a_slash_is_refused,
    unified_key_without_its_controller_is_an_error,
    limit_without_its_controller_is_an_error,
    io_weight_or_limit_is_read_back,
    update_changes_limits_and_keeps_others,
    update_of_memory_below_use_is_refused_when_asked,
    events_stats_show_memory_and_pids,
    nested_cgroups_are_removed_with_the_container,
    missing_parents_of_the_cgroup_are_made,
    delete_reaches_processes_that_init_left,
    kill_all_reaches_every_process,
    container_in_a_user_namespace_owns_its_delegated_cgroup,
];

fn process_is_in_the_named_cgroup_from_its_start() {
    let container = Bundle::sleeper().without_namespace("cgroup").create();
    let line = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let expected = format!("0::{}/{}", case_cgroup(), container.id());
    assert!(line.lines().any(|line| line == expected), "{line}");
    let procs = container.cgroup_file("cgroup.procs");
    assert_eq!(procs, container.pid().to_string());
}

fn cgroup_in_the_container_is_read_only() {
    let seen = Bundle::sh("ls /sys/fs/cgroup; mkdir /sys/fs/cgroup/x 2>&1; true").stdout();
    assert!(seen.contains("cgroup.procs"), "{seen}");
    assert!(seen.contains("Read-only file system"), "{seen}");
}

fn pids_limit_is_applied() {
    require!(cgroup2_controller("pids"));
    let container = Bundle::sleeper()
        .set("/linux/resources/pids", json!({ "limit": 5 }))
        .start();
    assert_eq!(container.cgroup_file("pids.max"), "5");
    let output = container.exec(&[
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7; do sleep 1 & done; wait",
    ]);
    assert!(output.stderr.contains("fork"), "{output:?}");
}

fn pids_limit_of_minus_one_is_max() {
    require!(cgroup2_controller("pids"));
    let container = Bundle::sleeper()
        .set("/linux/resources/pids", json!({ "limit": -1 }))
        .start();
    assert_eq!(container.cgroup_file("pids.max"), "max");
}

fn memory_limit_is_read_back() {
    require!(cgroup2_controller("memory"));
    let container = Bundle::sleeper()
        .set(
            "/linux/resources/memory",
            json!({ "limit": 64 << 20, "reservation": 32 << 20 }),
        )
        .start();
    assert_eq!(container.cgroup_file("memory.max"), (64 << 20).to_string());
    assert_eq!(container.cgroup_file("memory.low"), (32 << 20).to_string());
}

fn memory_limit_kills_what_goes_over_it() {
    require!(cgroup2_controller("memory"));
    let output = Bundle::sh("x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo survived")
        .set(
            "/linux/resources/memory",
            json!({ "limit": 16 << 20, "swap": 16 << 20 }),
        )
        .run();
    assert!(!output.stdout.contains("survived"), "{output:?}");
    assert_eq!(output.code, 137, "{output:?}");
}

fn swap_is_memory_and_swap_together() {
    require!(cgroup2_controller("memory"));
    let container = Bundle::sleeper()
        .set(
            "/linux/resources/memory",
            json!({ "limit": 64 << 20, "swap": 96 << 20 }),
        )
        .start();
    if container.bundle.cgroup().join("memory.swap.max").exists() {
        assert_eq!(
            container.cgroup_file("memory.swap.max"),
            (32 << 20).to_string()
        );
    }
}

fn cpu_quota_and_period_are_read_back() {
    require!(cgroup2_controller("cpu"));
    let container = Bundle::sleeper()
        .set(
            "/linux/resources/cpu",
            json!({ "quota": 25_000, "period": 50_000 }),
        )
        .start();
    assert_eq!(container.cgroup_file("cpu.max"), "25000 50000");
}

/// The newer formula maps 1024 shares to weight 100, the older one to 39.
fn cpu_shares_become_a_weight() {
    require!(cgroup2_controller("cpu"));
    let container = Bundle::sleeper()
        .set("/linux/resources/cpu", json!({ "shares": 1024 }))
        .start();
    let weight = container.cgroup_file("cpu.weight");
    assert!(["39", "100"].contains(&weight.as_str()), "{weight}");
}

fn unified_keys_are_written() {
    require!(cgroup2_controller("memory"));
    let container = Bundle::sleeper()
        .set(
            "/linux/resources/unified",
            json!({ "memory.high": "50331648", "memory.oom.group": "1" }),
        )
        .start();
    assert_eq!(container.cgroup_file("memory.high"), "50331648");
    assert_eq!(container.cgroup_file("memory.oom.group"), "1");
}

fn unified_key_with_a_slash_is_refused() {
    Bundle::sleeper()
        .set(
            "/linux/resources/unified",
            json!({ "../cgroup.freeze": "1" }),
        )
        .create_err();
}

fn unified_key_without_its_controller_is_an_error() {
    Bundle::sleeper()
        .set("/linux/resources/unified", json!({ "nonsense.max": "1" }))
        .create_err();
}

fn limit_without_its_controller_is_an_error() {
    if require::cgroup2_controller("memory").is_ok() {
        crate::runner::skip("the cgroup v2 controller memory is there");
    }
    Bundle::sleeper()
        .set("/linux/resources/memory", json!({ "limit": 64 << 20 }))
        .create_err();
}

fn io_weight_or_limit_is_read_back() {
    require!(cgroup2_controller("io"));
    let disk = fs::metadata(crate::runner::case_dir()).unwrap();
    let device = std::os::unix::fs::MetadataExt::dev(&disk);
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let container = Bundle::sleeper()
        .set(
            "/linux/resources/blockIO",
            json!({ "throttleReadBpsDevice": [{ "major": major, "minor": minor, "rate": 1_048_576 }] }),
        )
        .start();
    let limits = container.cgroup_file("io.max");
    assert!(
        limits.contains(&format!("{major}:{minor} rbps=1048576")),
        "{limits}"
    );
}

fn update_changes_limits_and_keeps_others() {
    require!(
        command("update"),
        cgroup2_controller("memory"),
        cgroup2_controller("pids"),
        cgroup2_controller("cpu")
    );
    let container = Bundle::sleeper()
        .set("/linux/resources/memory", json!({ "limit": 64 << 20 }))
        .set("/linux/resources/pids", json!({ "limit": 20 }))
        .set(
            "/linux/resources/cpu",
            json!({ "quota": 20_000, "period": 40_000 }),
        )
        .start();
    seedpod(&["update", "--memory", "33554432", container.id()]).ok();
    seedpod(&["update", "--pids-limit", "30", container.id()]).ok();
    seedpod(&["update", "--cpu-quota", "30000", container.id()]).ok();
    assert_eq!(container.cgroup_file("memory.max"), (32 << 20).to_string());
    assert_eq!(container.cgroup_file("pids.max"), "30");
    assert_eq!(container.cgroup_file("cpu.max"), "30000 40000");
    let file = container.bundle.dir().join("resources.json");
    fs::write(&file, r#"{"memory":{"limit":50331648}}"#).unwrap();
    seedpod(&[
        "update",
        "--resources",
        file.to_str().unwrap(),
        container.id(),
    ])
    .ok();
    assert_eq!(container.cgroup_file("memory.max"), (48 << 20).to_string());
    assert_eq!(container.cgroup_file("pids.max"), "30");
}

/// Newer than Debian's peers.
fn update_of_memory_below_use_is_refused_when_asked() {
    require!(seedpod, command("update"), cgroup2_controller("memory"));
    let container = Bundle::sleeper()
        .set(
            "/linux/resources/memory",
            json!({ "limit": 64 << 20, "checkBeforeUpdate": true }),
        )
        .start();
    let file = container.bundle.dir().join("resources.json");
    fs::write(
        &file,
        r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#,
    )
    .unwrap();
    let words = [
        "update",
        "--resources",
        file.to_str().unwrap(),
        container.id(),
    ];
    let error = seedpod(&words).err();
    assert!(error.contains("rejecting memory limit"), "{error}");
    assert_eq!(container.status(), "running");
}

fn events_stats_show_memory_and_pids() {
    require!(
        command("events"),
        cgroup2_controller("memory"),
        cgroup2_controller("pids")
    );
    let container = Bundle::sleeper()
        .set("/linux/resources/memory", json!({ "limit": 64 << 20 }))
        .start();
    let event: Value =
        serde_json::from_str(&seedpod(&["events", "--stats", container.id()]).ok()).unwrap();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], container.id());
    assert_eq!(event["data"]["pids"]["current"], 1);
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 64 << 20);
}

fn nested_cgroups_are_removed_with_the_container() {
    let container = Bundle::sleeper().start();
    fs::create_dir_all(container.bundle.cgroup().join("a/b/c")).unwrap();
    container.kill("KILL").ok();
    container.wait_stopped();
    container.delete().ok();
    assert!(!container.bundle.cgroup().exists());
}

/// Only the container's own cgroup goes with it; the parents may be shared.
fn missing_parents_of_the_cgroup_are_made() {
    let parent = format!("{}/pods/one", case_cgroup());
    let bundle = Bundle::sleeper();
    let path = format!("{parent}/{}", bundle.id);
    let container = bundle.set("/linux/cgroupsPath", path.as_str()).start();
    let procs = fs::read_to_string(format!("/sys/fs/cgroup{path}/cgroup.procs")).unwrap();
    assert_eq!(procs.trim(), container.pid().to_string());
    seedpod(&["delete", "--force", container.id()]).ok();
    assert!(!fs::exists(format!("/sys/fs/cgroup{path}")).unwrap());
    let _ = fs::remove_dir(format!("/sys/fs/cgroup{parent}"));
    let _ = fs::remove_dir(format!("/sys/fs/cgroup{}/pods", case_cgroup()));
}

/// With the host's pid namespace nothing ends with init.
fn delete_reaches_processes_that_init_left() {
    let container = Bundle::sh("sleep 1000 & exit 0")
        .without_namespace("pid")
        .start();
    container.wait_stopped();
    let left = || container.cgroup_file("cgroup.procs").lines().count();
    assert_eq!(left(), 1);
    seedpod(&["delete", "--force", container.id()]).ok();
    assert!(!container.bundle.cgroup().exists());
}

fn kill_all_reaches_every_process() {
    let container = Bundle::sh("sleep 1000 & sleep 1001 & wait")
        .without_namespace("pid")
        .start();
    wait::until("all run", || {
        container.cgroup_file("cgroup.procs").lines().count() == 3
    });
    seedpod(&["kill", "--all", container.id(), "KILL"]).ok();
    wait::until("none runs", || {
        container.cgroup_file("cgroup.procs").is_empty()
    });
}

/// What systemd in a container needs: runtime-spec config-linux.md, Cgroup ownership.
fn container_in_a_user_namespace_owns_its_delegated_cgroup() {
    let mut bundle = Bundle::sh("mkdir /sys/fs/cgroup/sub && echo 0 >/sys/fs/cgroup/sub/cgroup.procs && cat /proc/self/cgroup")
        .user_namespace(100_000);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let mount = mounts
        .iter_mut()
        .find(|m| m["destination"] == "/sys/fs/cgroup")
        .unwrap();
    mount["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
    let seen = bundle.stdout();
    assert!(seen.contains("0::/sub"), "{seen}");
}
