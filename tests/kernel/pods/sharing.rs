//! What containers of a pod share, and what they do not: namespaces, user ids, network.

use std::fs;

use serde_json::json;

use super::{Manifest, Pods};
use crate::runner::Test;
use crate::tests;

pub const TESTS: &[Test] = tests![
    net_ipc_uts_and_user_are_the_pods_own,
    mount_pid_and_cgroup_are_each_containers_own,
    shared_pid_namespace_has_pause_first_and_shows_all,
    orphans_of_a_shared_pid_namespace_are_reaped,
    host_namespaces_are_the_hosts,
    own_user_ids_are_65536_and_differ_between_pods,
    range_of_user_ids_is_free_again_after_delete,
    loopback_is_up_and_containers_meet_on_localhost,
    low_port_needs_no_privilege,
    hostname_is_the_pods,
    sysctls_apply_to_the_pods_namespaces,
];

fn two(name: &str) -> Manifest {
    Manifest::sleeper(name).container("b", &["sleep", "1000"])
}

fn namespace(pods: &Pods, container: &str, kind: &str) -> String {
    pods.sh("p", container, &format!("readlink /proc/self/ns/{kind}"))
}

fn hosts(kind: &str) -> String {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    link.to_str().unwrap().to_owned()
}

fn net_ipc_uts_and_user_are_the_pods_own() {
    let pods = Pods::new();
    pods.start(&two("p").own_users());
    for kind in ["net", "ipc", "uts", "user"] {
        let a = namespace(&pods, "a", kind);
        assert_eq!(a, namespace(&pods, "b", kind), "{kind}");
        assert_ne!(a, hosts(kind), "{kind}");
    }
}

fn mount_pid_and_cgroup_are_each_containers_own() {
    let pods = Pods::new();
    pods.start(&two("p"));
    for kind in ["mnt", "pid", "cgroup"] {
        let (a, b) = (namespace(&pods, "a", kind), namespace(&pods, "b", kind));
        assert_ne!(a, b, "{kind}");
        assert_ne!(a, hosts(kind), "{kind}");
    }
    // Each sees its own processes, and its own cgroup as the root.
    let seen = pods.sh(
        "p",
        "a",
        "cat /proc/1/comm; ps -o comm | grep -c sleep; grep ^0: /proc/1/cgroup",
    );
    assert_eq!(seen, "sleep\n1\n0::/");
}

fn shared_pid_namespace_has_pause_first_and_shows_all() {
    let pods = Pods::new();
    for (name, own) in [("p", true), ("q", false)] {
        pods.start(
            &two(name)
                .spec("shareProcessNamespace", true)
                .spec("hostUsers", !own),
        );
        let seen = pods.sh(name, "a", "cat /proc/1/comm; ps -o comm | grep -c sleep");
        assert_eq!(seen, "pause\n2", "{name}");
        let (a, b) = (
            pods.sh(name, "a", "readlink /proc/self/ns/pid"),
            pods.sh(name, "b", "readlink /proc/self/ns/pid"),
        );
        assert_eq!(a, b);
        assert_ne!(a, hosts("pid"));
    }
}

fn orphans_of_a_shared_pid_namespace_are_reaped() {
    let pods = Pods::new();
    pods.start(&two("p").spec("shareProcessNamespace", true));
    // The shell ends before its child: pause becomes the child's parent, and reaps it.
    pods.sh("p", "a", "(sleep 0.1; exit 0) & exit 0");
    crate::wait::until("no zombie is left", || {
        pods.sh("p", "a", "grep -l '^State:.Z' /proc/[0-9]*/status; true")
            .is_empty()
            && pods.sh("p", "a", "pidof sleep | wc -w") == "2"
    });
}

fn host_namespaces_are_the_hosts() {
    let pods = Pods::new();
    let pod = two("p")
        .spec("hostNetwork", true)
        .spec("hostPID", true)
        .spec("hostIPC", true);
    pods.start(&pod);
    for kind in ["net", "pid", "ipc", "user"] {
        assert_eq!(namespace(&pods, "b", kind), hosts(kind), "{kind}");
    }
    // The machine's name goes with its network.
    assert_eq!(namespace(&pods, "b", "uts"), hosts("uts"));
    assert_ne!(namespace(&pods, "b", "mnt"), hosts("mnt"));
}

fn map(pods: &Pods, name: &str) -> Vec<u64> {
    let uids = pods.sh(name, "a", "cat /proc/self/uid_map");
    assert_eq!(uids, pods.sh(name, "a", "cat /proc/self/gid_map"));
    uids.split_whitespace()
        .map(|it| it.parse().unwrap())
        .collect()
}

fn own_user_ids_are_65536_and_differ_between_pods() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p").own_users());
    pods.start(&Manifest::sleeper("q").own_users());
    let (p, q) = (map(&pods, "p"), map(&pods, "q"));
    for map in [&p, &q] {
        assert_eq!((map[0], map[1] % 65536, map[2]), (0, 0, 65536));
        assert!(map[1] >= 65536);
    }
    assert_ne!(p[1], q[1]);
    // Outside, root of the container is that user.
    let pid = fs::read_to_string(pods.cgroup("p").join("cgroup.procs")).unwrap();
    assert_eq!(
        pid, "",
        "the pod's processes are in its containers' cgroups"
    );
    let procs = fs::read_dir(pods.cgroup("p")).unwrap().flatten();
    let pids: Vec<String> = procs
        .filter_map(|it| fs::read_to_string(it.path().join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let sleep = pids.iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it == "sleep\n")
    });
    let status = fs::read_to_string(format!("/proc/{}/status", sleep.unwrap())).unwrap();
    assert!(status.contains(&format!("Uid:\t{}\t", p[1])), "{status}");
    assert_eq!(pods.sh("p", "a", "id -u"), "0");
}

fn range_of_user_ids_is_free_again_after_delete() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p").own_users());
    pods.start(&Manifest::sleeper("q").own_users());
    let first = map(&pods, "p");
    pods.delete("p").ok();
    pods.start(&Manifest::sleeper("r").own_users());
    assert_eq!(map(&pods, "r"), first);
}

fn loopback_is_up_and_containers_meet_on_localhost() {
    let pods = Pods::new();
    let serve = "mkdir /www; echo hello >/www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www";
    let ask = "for i in $(seq 100); do wget -q -O - http://127.0.0.1:8080/ && exit 0; sleep 0.1; done; exit 1";
    let pod = Manifest::sh("p", serve).container("b", &["sh", "-c", ask]);
    pods.start(&pod);
    pods.wait_log("p", "b", "hello");
    // Another pod, and the host, have another localhost.
    let other = "wget -q -O - http://127.0.0.1:8080/ 2>&1 || echo unreachable";
    assert!(pods.said(&Manifest::sh("q", other)).contains("unreachable"));
    let port = std::net::TcpStream::connect("127.0.0.1:8080");
    assert!(port.is_err());
}

fn low_port_needs_no_privilege() {
    let pods = Pods::new();
    let security = json!({"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}});
    let pod = Manifest::sh("p", "id -u; exec httpd -f -p 127.0.0.1:80 -h /tmp")
        .of(0, "securityContext", security)
        .own_users();
    pods.start(&pod);
    pods.wait_log("p", "a", "1000");
    crate::wait::until("somebody listens on port 80", || {
        // Port 80 in /proc/net/tcp.
        pods.sh("p", "a", "cat /proc/net/tcp").contains(":0050 ")
    });
}

fn hostname_is_the_pods() {
    let pods = Pods::new();
    assert_eq!(
        pods.said(&Manifest::sh("p", "hostname; echo $HOSTNAME")),
        "p\np"
    );
    let named = Manifest::sh("q", "hostname").spec("hostname", "other");
    assert_eq!(pods.said(&named), "other");
}

fn sysctls_apply_to_the_pods_namespaces() {
    let pods = Pods::new();
    let sysctls =
        json!({"sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "30000 30100"}]});
    let pod = Manifest::sh("p", "cat /proc/sys/net/ipv4/ip_local_port_range")
        .spec("securityContext", sysctls);
    assert_eq!(pods.said(&pod), "30000\t30100");
}
