//! Requests and limits, read back from the kernel: the pod's cgroup and those of its containers.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Manifest, Pods};
use crate::runner::Test;
use crate::{require, tests};

pub const TESTS: &[Test] = tests![
    limits_are_in_the_pods_and_the_containers_cgroups,
    requests_are_weights,
    cgroups_are_laid_out_by_quality_of_service,
    score_of_the_one_that_memory_is_taken_from_follows_the_class,
    limits_without_a_controller_are_told_and_not_enforced,
    container_sees_its_own_limits,
];

fn read(directory: &Path, file: &str) -> String {
    let path = directory.join(file);
    let text = fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim()
        .to_owned()
}

/// The cgroup of a container of the pod `p`.
fn of(pods: &Pods, name: &str) -> PathBuf {
    let status = pods.status("p");
    let list = status["containerStatuses"].as_array().unwrap();
    let it = list.iter().find(|it| it["name"] == name).unwrap();
    let id = it["containerID"].as_str().unwrap();
    pods.cgroup("p")
        .join(id.strip_prefix("seedpod://").unwrap())
}

fn limits_are_in_the_pods_and_the_containers_cgroups() {
    require!(cgroup2_controller("memory"), cgroup2_controller("cpu"));
    let pods = Pods::new();
    let pod = Manifest::sleeper("p")
        .container("b", &["sleep", "1000"])
        .of(
            0,
            "resources",
            json!({"limits": {"cpu": "500m", "memory": "64Mi"}}),
        )
        .of(
            1,
            "resources",
            json!({"limits": {"cpu": "250m", "memory": "32Mi"}}),
        );
    pods.start(&pod);
    let (a, b, all) = (of(&pods, "a"), of(&pods, "b"), pods.cgroup("p"));
    for (directory, file, value) in [
        (&a, "cpu.max", "50000 100000"),
        (&a, "cpu.weight", "59"),
        (&a, "memory.max", "67108864"),
        (&a, "memory.oom.group", "1"),
        (&b, "cpu.max", "25000 100000"),
        (&b, "cpu.weight", "35"),
        (&b, "memory.max", "33554432"),
        (&all, "cpu.max", "75000 100000"),
        (&all, "memory.max", "100663296"),
        (&all, "memory.oom.group", "0"),
    ] {
        assert_eq!(
            read(directory, file),
            value,
            "{}/{file}",
            directory.display()
        );
    }
    // Where the kernel has swap at all.
    if a.join("memory.swap.max").exists() {
        assert_eq!(read(&a, "memory.swap.max"), "0");
    }
}

fn requests_are_weights() {
    require!(cgroup2_controller("cpu"));
    let pods = Pods::new();
    let pod = Manifest::sleeper("p")
        .container("b", &["sleep", "1000"])
        .of(0, "resources", json!({"requests": {"cpu": "1"}}));
    pods.start(&pod);
    assert_eq!(read(&of(&pods, "a"), "cpu.weight"), "100");
    assert_eq!(read(&of(&pods, "b"), "cpu.weight"), "1");
    assert_eq!(read(&of(&pods, "a"), "cpu.max"), "max 100000");
    assert_eq!(read(&pods.cgroup("p"), "cpu.weight"), "100");
}

fn cgroups_are_laid_out_by_quality_of_service() {
    let pods = Pods::new();
    for (name, resources, class) in [
        ("best", json!({}), "besteffort/"),
        ("burst", json!({"requests": {"cpu": "100m"}}), "burstable/"),
        (
            "sure",
            json!({"limits": {"cpu": "100m", "memory": "32Mi"}}),
            "",
        ),
    ] {
        pods.start(&Manifest::sleeper(name).of(0, "resources", resources));
        let uid = pods.object(name)["metadata"]["uid"].clone();
        let path = format!(
            "/sys/fs/cgroup/kubepods/{class}pod{}",
            uid.as_str().unwrap()
        );
        let inside = fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let containers = inside.flatten().filter(|it| it.path().is_dir()).count();
        assert_eq!(containers, 2, "the container and the sandbox in {path}");
    }
    pods.delete("best").ok();
    // The class goes with its last pod; the others stay.
    assert!(!Path::new("/sys/fs/cgroup/kubepods/besteffort").exists());
    assert!(Path::new("/sys/fs/cgroup/kubepods/burstable").exists());
}

fn score_of_the_one_that_memory_is_taken_from_follows_the_class() {
    require!(capability("CAP_SYS_RESOURCE"));
    let pods = Pods::new();
    let script = "cat /proc/self/oom_score_adj";
    assert_eq!(pods.said(&Manifest::sh("best", script)), "1000");
    let sure = json!({"limits": {"cpu": "1", "memory": "32Mi"}});
    let sure = Manifest::sh("sure", script).of(0, "resources", sure);
    assert_eq!(pods.said(&sure), "-997");
    let burst =
        Manifest::sh("burst", script).of(0, "resources", json!({"requests": {"memory": "64Mi"}}));
    let score: i32 = pods.said(&burst).parse().unwrap();
    assert!((3..1000).contains(&score), "{score}");
}

fn limits_without_a_controller_are_told_and_not_enforced() {
    if require::cgroup2_controller("memory").is_ok() {
        crate::runner::skip("the cgroup v2 controller memory is there");
    }
    let pods = Pods::new();
    let pod = Manifest::sh("p", "true").of(0, "resources", json!({"limits": {"memory": "64Mi"}}));
    let said = pods.try_apply(&pod);
    assert!(
        said.stderr.contains("not enforced") && said.stderr.contains("memory.max 67108864"),
        "{}",
        said.stderr
    );
    said.ok();
}

fn container_sees_its_own_limits() {
    require!(cgroup2_controller("memory"));
    let pods = Pods::new();
    let pod = Manifest::sh(
        "p",
        "cat /sys/fs/cgroup/memory.max; echo 1 >/sys/fs/cgroup/memory.max; true",
    )
    .of(0, "resources", json!({"limits": {"memory": "64Mi"}}))
    .own_users();
    let said = pods.said(&pod);
    assert!(said.starts_with("67108864\n"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}
