//! securityContext, as a container sees it from inside.

use serde_json::{Value, json};

use super::{Manifest, Pods};
use crate::runner::Test;
use crate::tests;

pub const TESTS: &[Test] = tests![
    default_capabilities_are_the_usual_fourteen,
    capabilities_are_dropped_and_added,
    no_escalation_is_no_new_privs,
    read_only_root_refuses_writing,
    default_seccomp_profile_is_loaded,
    container_without_a_profile_is_not_filtered,
    root_is_refused_where_only_others_may_run,
    privileged_container_has_everything,
    kernel_files_are_hidden_unless_privileged,
    profile_of_the_machine_is_refused_with_its_name,
];

fn with(name: &str, script: &str, security: Value) -> Manifest {
    Manifest::sh(name, script).of(0, "securityContext", security)
}

/// A field of /proc/self/status.
fn field(name: &str) -> String {
    format!("grep ^{name}: /proc/self/status | awk '{{print $2}}'")
}

fn default_capabilities_are_the_usual_fourteen() {
    let pods = Pods::new();
    let script = ["CapEff", "CapBnd", "CapInh", "CapAmb"]
        .map(field)
        .join("; ");
    let said = pods.said(&Manifest::sh("p", &script));
    assert_eq!(
        said,
        "00000000a80425fb\n00000000a80425fb\n0000000000000000\n0000000000000000"
    );
}

fn capabilities_are_dropped_and_added() {
    let pods = Pods::new();
    let none = json!({"capabilities": {"drop": ["ALL"]}});
    let script = [field("CapEff"), field("CapBnd")].join("; ");
    let said = pods.said(&with("p", &script, none));
    assert_eq!(said, "0000000000000000\n0000000000000000");
    // CAP_CHOWN is bit 0.
    let one = json!({"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}});
    let said = pods.said(&with(
        "q",
        &format!("{script}; touch /f; chown 5:5 /f; stat -c %u /f"),
        one,
    ));
    assert_eq!(said, "0000000000000001\n0000000000000001\n5");
}

fn no_escalation_is_no_new_privs() {
    let pods = Pods::new();
    let script = field("NoNewPrivs");
    assert_eq!(pods.said(&Manifest::sh("p", &script)), "0");
    let no = json!({"allowPrivilegeEscalation": false});
    assert_eq!(pods.said(&with("q", &script, no)), "1");
}

fn read_only_root_refuses_writing() {
    let pods = Pods::new();
    let script = "touch /file 2>&1; touch /v/file && echo volume; touch /dev/shm/file && echo shm";
    let pod = with("p", script, json!({"readOnlyRootFilesystem": true}))
        .volume("v", json!({}))
        .own_users();
    let said = pods.said(&pod);
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.ends_with("volume\nshm"), "{said}");
}

fn default_seccomp_profile_is_loaded() {
    let pods = Pods::new();
    // 2: a filter. Making a user namespace is what it refuses.
    let script = format!("{}; unshare -U true 2>&1 || echo refused", field("Seccomp"));
    let pod = with(
        "p",
        &script,
        json!({"seccompProfile": {"type": "RuntimeDefault"}}),
    );
    let said = pods.said(&pod);
    assert!(said.starts_with('2') && said.ends_with("refused"), "{said}");
    let whole = Manifest::sh("q", &field("Seccomp")).spec(
        "securityContext",
        json!({"seccompProfile": {"type": "RuntimeDefault"}}),
    );
    assert_eq!(pods.said(&whole), "2");
}

fn container_without_a_profile_is_not_filtered() {
    let pods = Pods::new();
    assert_eq!(pods.said(&Manifest::sh("p", &field("Seccomp"))), "0");
}

fn root_is_refused_where_only_others_may_run() {
    let pods = Pods::new();
    let refused = with("p", "echo ran", json!({"runAsNonRoot": true}));
    assert_eq!(pods.run(&refused), "Failed");
    let end = pods.state("p", "a")["terminated"].clone();
    let message = end["message"].as_str().unwrap();
    assert!(message.contains("runAsNonRoot"), "{message}");
    assert_eq!(pods.logs("p", "a"), "");
    let other = with("q", "id -u", json!({"runAsNonRoot": true, "runAsUser": 5}));
    assert_eq!(pods.said(&other), "5");
}

fn privileged_container_has_everything() {
    let pods = Pods::new();
    let script = format!(
        "{}; mount -t tmpfs x /mnt 2>&1 && echo mounted; test -w /proc/sys/kernel/domainname && echo \
         writable; {}",
        field("CapEff"),
        field("Seccomp")
    );
    let security = json!({"privileged": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let pod = with("p", &format!("mkdir -p /mnt; {script}"), security);
    let said = pods.said(&pod);
    let lines: Vec<&str> = said.lines().collect();
    let held = u64::from_str_radix(lines[0], 16).unwrap();
    // What the machine itself may: more than the default in any case, and CAP_SYS_ADMIN.
    assert!(held & (1 << 21) != 0, "{said}");
    assert_eq!(lines[1..], ["mounted", "writable", "0"], "{said}");
}

fn kernel_files_are_hidden_unless_privileged() {
    let pods = Pods::new();
    let script = "wc -c </proc/timer_list; echo x >/proc/sys/kernel/domainname; ls /sys/firmware | wc -l; \
                  touch /sys/kernel/x";
    let said = pods.said(&Manifest::sh("p", &format!("{{ {script}; }} 2>&1; true")));
    let refused = said.matches("Read-only file system").count();
    assert!(said.starts_with('0') && refused >= 1, "{said}");
    assert!(said.contains("\n0\n"), "{said}");
}

fn profile_of_the_machine_is_refused_with_its_name() {
    let pods = Pods::new();
    let profile = json!({"type": "Localhost", "localhostProfile": "my.json"});
    let pod = with("p", "true", json!({"seccompProfile": profile}));
    let output = pods.try_apply(&pod);
    if output.code == 0 {
        assert_eq!(pods.ended("p"), "Failed");
        let message = pods.state("p", "a")["terminated"]["message"].clone();
        assert!(message.as_str().unwrap().contains("my.json"), "{message}");
    } else {
        assert!(output.stderr.contains("Localhost"), "{}", output.stderr);
    }
}
