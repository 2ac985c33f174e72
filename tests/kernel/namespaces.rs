//! Namespaces: new ones, joined ones, and what belongs to them (hostname, sysctl, id maps).

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::fixture::{Bundle, field};
use crate::runner::Test;
use crate::{require, tests};

pub const TESTS: &[Test] = tests![
    each_namespace_differs_from_the_hosts,
    namespace_that_is_not_named_is_the_hosts,
    namespaces_are_joined_by_path,
    namespace_path_of_the_wrong_type_is_an_error,
    namespace_path_that_is_missing_is_an_error,
    the_same_namespace_twice_is_an_error,
    init_is_process_1_and_alone,
    joined_pid_namespace_shows_its_processes,
    hostname_is_set,
    hostname_without_a_uts_namespace_is_an_error,
    domainname_is_set,
    loopback_is_up,
    user_namespace_maps_are_written,
    several_map_lines_are_written_in_order,
    root_of_the_user_namespace_owns_its_root_file_system,
    host_files_that_are_not_mapped_belong_to_nobody,
    joined_user_namespace_with_equal_maps_is_accepted,
    joined_user_namespace_with_other_maps_is_refused,
    pod_of_two_containers_shares_all_but_pid_and_mount,
    sysctl_of_a_private_namespace_is_set,
    sysctl_that_is_not_namespaced_is_refused,
    sysctl_of_a_shared_namespace_is_refused,
    cgroup_namespace_shows_its_own_root,
    time_namespace_offsets_are_applied,
];

const KINDS: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

fn inode(path: impl AsRef<Path>) -> String {
    let link = fs::read_link(path).unwrap();
    link.to_str().unwrap().to_owned()
}

fn each_namespace_differs_from_the_hosts() {
    let container = Bundle::sleeper().user_namespace(100_000).start();
    for kind in KINDS.iter().chain(&["user"]) {
        let ours = inode(format!("/proc/self/ns/{kind}"));
        assert_ne!(inode(container.namespace_file(kind)), ours, "{kind}");
    }
}

fn namespace_that_is_not_named_is_the_hosts() {
    for kind in ["network", "ipc", "cgroup"] {
        let container = Bundle::sleeper().without_namespace(kind).start();
        let file = if kind == "network" { "net" } else { kind };
        let ours = inode(format!("/proc/self/ns/{file}"));
        assert_eq!(inode(container.namespace_file(file)), ours, "{kind}");
    }
}

fn namespaces_are_joined_by_path() {
    let first = Bundle::sleeper().start();
    let mut bundle = Bundle::sleeper();
    bundle.config.as_object_mut().unwrap().remove("hostname");
    for (kind, file) in [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
        ("cgroup", "cgroup"),
    ] {
        bundle = bundle.namespace(kind, Some(&first.namespace_file(file)));
    }
    let second = bundle.start();
    for kind in KINDS {
        let same = inode(first.namespace_file(kind)) == inode(second.namespace_file(kind));
        assert_eq!(same, kind != "mnt", "{kind}");
    }
}

fn namespace_path_of_the_wrong_type_is_an_error() {
    Bundle::sleeper()
        .namespace("ipc", Some(Path::new("/proc/self/ns/net")))
        .create_err();
}

fn namespace_path_that_is_missing_is_an_error() {
    Bundle::sleeper()
        .namespace("ipc", Some(Path::new("/nowhere/ipc")))
        .create_err();
}

fn the_same_namespace_twice_is_an_error() {
    Bundle::sleeper()
        .push("/linux/namespaces", json!({ "type": "pid" }))
        .create_err();
}

fn init_is_process_1_and_alone() {
    let seen = Bundle::sh("echo $$; ls -d /proc/[0-9]* | wc -l").stdout();
    let mut lines = seen.lines();
    assert_eq!(lines.next(), Some("1"));
    // The shell, and the two programs of the pipe.
    assert!(lines.next().unwrap().parse::<u32>().unwrap() <= 3, "{seen}");
}

fn joined_pid_namespace_shows_its_processes() {
    let first = Bundle::busybox().args(&["sleep", "1234"]).start();
    let seen = Bundle::sh("tr '\\0' ' ' </proc/1/cmdline")
        .namespace("pid", Some(&first.namespace_file("pid")))
        .stdout();
    assert_eq!(seen, "sleep 1234");
}

fn hostname_is_set() {
    let seen = Bundle::sh("hostname")
        .set("/hostname", "some-name")
        .stdout();
    assert_eq!(seen, "some-name");
}

fn hostname_without_a_uts_namespace_is_an_error() {
    Bundle::sleeper().without_namespace("uts").create_err();
}

/// Debian's runc and crun are older than the property and ignore it.
fn domainname_is_set() {
    require!(seedpod);
    let seen = Bundle::sh("cat /proc/sys/kernel/domainname")
        .set("/domainname", "example.org")
        .stdout();
    assert_eq!(seen, "example.org");
}

fn loopback_is_up() {
    let seen = Bundle::sh("ip -o addr show lo; ls /sys/class/net").stdout();
    assert!(seen.contains("127.0.0.1/8"), "{seen}");
}

fn user_namespace_maps_are_written() {
    let seen = Bundle::sh("cat /proc/self/uid_map /proc/self/gid_map; id -u")
        .user_namespace(100_000)
        .stdout();
    let rows: Vec<Vec<&str>> = seen
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    let map = vec!["0", "100000", "65536"];
    assert_eq!(rows, [map.clone(), map, vec!["0"]]);
}

fn several_map_lines_are_written_in_order() {
    let map = json!([
        { "containerID": 0, "hostID": 200_000, "size": 1 },
        { "containerID": 1, "hostID": 300_000, "size": 1000 },
        { "containerID": 5000, "hostID": 400_000, "size": 10 },
    ]);
    let seen = Bundle::sh("cat /proc/self/uid_map")
        .user_namespace(200_000)
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .stdout();
    let words: Vec<&str> = seen.split_whitespace().collect();
    let expected = "0 200000 1 1 300000 1000 5000 400000 10";
    assert_eq!(words.join(" "), expected);
}

fn root_of_the_user_namespace_owns_its_root_file_system() {
    let bundle = Bundle::sh("stat -c %u:%g /bin; touch /made").user_namespace(100_000);
    assert_eq!(bundle.stdout(), "0:0");
    let made = fs::metadata(bundle.rootfs("made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 100_000);
}

fn host_files_that_are_not_mapped_belong_to_nobody() {
    let bundle =
        Bundle::sh("stat -c %u:%g /foreign; echo x 2>/dev/null >/foreign && echo wrote; true");
    let bundle = bundle.user_namespace(100_000);
    fs::write(bundle.rootfs("foreign"), "text").unwrap();
    assert_eq!(bundle.stdout(), "65534:65534");
}

fn joined_user_namespace_with_equal_maps_is_accepted() {
    let first = Bundle::sleeper().user_namespace(100_000).start();
    let second = Bundle::sleeper()
        .user_namespace(100_000)
        .namespace("user", Some(&first.namespace_file("user")))
        .start();
    assert_eq!(
        inode(first.namespace_file("user")),
        inode(second.namespace_file("user"))
    );
}

/// crun takes the namespace's maps without a word; Debian's runc too.
fn joined_user_namespace_with_other_maps_is_refused() {
    require!(seedpod);
    let first = Bundle::sleeper().user_namespace(100_000).start();
    let error = Bundle::sleeper()
        .user_namespace(200_000)
        .namespace("user", Some(&first.namespace_file("user")))
        .create_err();
    assert!(error.contains("map"), "{error}");
}

/// What a pod with a user namespace is made of. runc cannot mount mqueue or sysfs here (its #4138)
/// when the namespaces belong to another user namespace; these do not.
fn pod_of_two_containers_shares_all_but_pid_and_mount() {
    let first = Bundle::sleeper().user_namespace(100_000).start();
    let mut bundle = Bundle::sleeper().user_namespace(100_000);
    bundle.config.as_object_mut().unwrap().remove("hostname");
    for (kind, file) in [
        ("user", "user"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
    ] {
        bundle = bundle.namespace(kind, Some(&first.namespace_file(file)));
    }
    let second = bundle.start();
    for kind in ["user", "net", "ipc", "uts", "pid", "mnt"] {
        let same = inode(first.namespace_file(kind)) == inode(second.namespace_file(kind));
        assert_eq!(same, !["pid", "mnt"].contains(&kind), "{kind}");
    }
    assert_eq!(second.sh("hostname"), "seedpod-test");
    assert_eq!(field(&second.sh("cat /proc/1/status"), "NSpid"), "1");
}

fn sysctl_of_a_private_namespace_is_set() {
    let seen = Bundle::sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
        .set(
            "/linux/sysctl",
            json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "4096" }),
        )
        .stdout();
    assert_eq!(seen, "1\n4096");
}

fn sysctl_that_is_not_namespaced_is_refused() {
    for name in ["vm.swappiness", "kernel.panic"] {
        Bundle::sleeper()
            .set("/linux/sysctl", json!({ name: "1" }))
            .create_err();
    }
}

fn sysctl_of_a_shared_namespace_is_refused() {
    Bundle::sleeper()
        .without_namespace("network")
        .set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }))
        .create_err();
}

fn cgroup_namespace_shows_its_own_root() {
    let seen = Bundle::sh("grep ^0: /proc/self/cgroup").stdout();
    assert_eq!(seen, "0::/");
}

/// Newer than Debian's peers.
fn time_namespace_offsets_are_applied() {
    require!(seedpod, kernel_file("/proc/self/timens_offsets"));
    let seen = Bundle::sh("cut -d. -f1 /proc/uptime")
        .namespace("time", None)
        .set(
            "/linux/timeOffsets",
            json!({ "boottime": { "secs": 1_000_000, "nanosecs": 0 } }),
        )
        .stdout();
    assert!(seen.parse::<u64>().unwrap() >= 1_000_000, "{seen}");
}
