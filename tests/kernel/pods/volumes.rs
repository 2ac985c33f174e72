//! Volumes: who owns what, what is shared, how large it may grow; /dev/shm.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use super::{Manifest, Pods};
use crate::require::kernel;
use crate::runner::Test;
use crate::tests;

pub const TESTS: &[Test] = tests![
    file_of_the_containers_root_is_roots_on_disk_and_everywhere,
    file_of_another_user_keeps_its_id,
    volume_in_memory_is_one_tmpfs_with_its_limit,
    volume_in_memory_is_bounded_by_the_pods_memory,
    volume_in_memory_of_own_users_on_an_old_kernel_is_an_error,
    read_only_mount_refuses_writing,
    size_limit_on_disk_is_said_to_be_unenforced,
    shared_memory_is_the_pods_and_has_64_mib,
    volumes_of_others_are_out_of_reach,
    writable_layer_is_each_containers_own,
];

fn two(name: &str) -> Manifest {
    Manifest::sleeper(name).container("b", &["sleep", "1000"])
}

fn file_of_the_containers_root_is_roots_on_disk_and_everywhere() {
    let pods = Pods::new();
    pods.start(&two("p").volume("v", json!({})).own_users());
    pods.sh("p", "a", "echo hello >/v/file");
    assert_eq!(
        pods.sh("p", "b", "stat -c %u:%g /v/file; cat /v/file"),
        "0:0\nhello"
    );
    let file = pods.kept("p").join("volumes/v/file");
    let it = fs::metadata(&file).unwrap();
    assert_eq!((it.uid(), it.gid()), (0, 0), "{}", file.display());
    pods.delete("p").ok();
    assert!(!file.exists());
}

fn file_of_another_user_keeps_its_id() {
    let pods = Pods::new();
    let pod = two("p")
        .of(
            0,
            "securityContext",
            json!({"runAsUser": 1234, "runAsGroup": 99}),
        )
        .volume("v", json!({}))
        .own_users();
    pods.start(&pod);
    // Any user may write: emptyDir has mode 0777.
    pods.sh("p", "a", "touch /v/file");
    assert_eq!(
        pods.sh("p", "b", "stat -c %u:%g:%a /v/file /v"),
        "1234:99:644\n0:0:777"
    );
    let it = fs::metadata(pods.kept("p").join("volumes/v/file")).unwrap();
    assert_eq!((it.uid(), it.gid()), (1234, 99));
}

fn volume_in_memory_is_one_tmpfs_with_its_limit() {
    let pods = Pods::new();
    let own = kernel(6, 3).is_ok();
    let volume = json!({"medium": "Memory", "sizeLimit": "2Mi"});
    pods.start(&two("p").volume("m", volume).spec("hostUsers", !own));
    pods.sh("p", "a", "echo hello >/m/file");
    assert_eq!(
        pods.sh("p", "b", "stat -c %u /m/file; cat /m/file"),
        "0\nhello"
    );
    let fill = "dd if=/dev/zero of=/m/big bs=64k count=64 2>&1; stat -c %s /m/big";
    let said = pods.sh("p", "b", fill);
    assert!(said.contains("No space left on device"), "{said}");
    let size: u64 = said.lines().last().unwrap().parse().unwrap();
    assert!((1 << 20..=2 << 20).contains(&size), "{size}");
    // The mount table calls it by its name.
    let mount = pods.sh("p", "a", "grep ' /m ' /proc/self/mountinfo");
    assert!(
        mount.contains("- tmpfs m rw") && mount.contains("size=2048k"),
        "{mount}"
    );
}

fn volume_in_memory_is_bounded_by_the_pods_memory() {
    let pods = Pods::new();
    let pod = Manifest::sleeper("p")
        .of(0, "resources", json!({"limits": {"memory": "8Mi"}}))
        .volume("m", json!({"medium": "Memory"}));
    pods.start(&pod);
    let mount = pods.sh("p", "a", "grep ' /m ' /proc/self/mountinfo");
    assert!(mount.contains("size=8192k"), "{mount}");
}

fn volume_in_memory_of_own_users_on_an_old_kernel_is_an_error() {
    if kernel(6, 3).is_ok() {
        crate::runner::skip("the kernel id-maps tmpfs");
    }
    let pods = Pods::new();
    let pod = Manifest::sleeper("p")
        .volume("m", json!({"medium": "Memory"}))
        .own_users();
    let error = pods.try_apply(&pod).err();
    for part in ["volume m", "tmpfs", "kernel 6."] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    pods.assert_empty();
}

fn read_only_mount_refuses_writing() {
    let pods = Pods::new();
    let mut pod = two("p").volume("v", json!({})).own_users();
    pod.0["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = json!(true);
    pods.start(&pod);
    let said = pods.sh("p", "a", "touch /v/file 2>&1; true");
    assert!(said.contains("Read-only file system"), "{said}");
    pods.sh("p", "b", "touch /v/file");
}

fn size_limit_on_disk_is_said_to_be_unenforced() {
    let pods = Pods::new();
    let pod = Manifest::sh("p", "true").volume("v", json!({"sizeLimit": "1Mi"}));
    let said = pods.try_apply(&pod);
    assert!(
        said.stderr.contains("sizeLimit is not enforced"),
        "{}",
        said.stderr
    );
    said.ok();
}

fn shared_memory_is_the_pods_and_has_64_mib() {
    let pods = Pods::new();
    for own in [false, true] {
        let name = if own { "own" } else { "host" };
        pods.start(&two(name).spec("hostUsers", !own));
        pods.sh(name, "a", "echo hello >/dev/shm/file");
        let seen = pods.sh(name, "b", "cat /dev/shm/file; stat -c %a:%u /dev/shm");
        assert_eq!(seen, "hello\n1777:0");
        let size = pods.sh(name, "b", "df -k /dev/shm | tail -n 1 | awk '{print $2}'");
        assert_eq!(size, "65536");
    }
}

fn volumes_of_others_are_out_of_reach() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p").volume("v", json!({})));
    // A directory that anybody may write is below one that only root may enter.
    let mode = fs::metadata(pods.root.join("pods")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o700);
    let mode = fs::metadata(pods.state.join("pods")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

fn writable_layer_is_each_containers_own() {
    let pods = Pods::new();
    pods.start(&two("p").own_users());
    pods.sh("p", "a", "echo changed >/etc/passwd; echo new >/etc/new");
    assert_eq!(
        pods.sh("p", "a", "cat /etc/passwd; stat -c %u /etc/new"),
        "changed\n0"
    );
    let other = pods.sh("p", "b", "head -n 1 /etc/passwd; ls /etc/new 2>&1; true");
    assert!(
        other.starts_with("root:") && other.contains("No such file"),
        "{other}"
    );
}
