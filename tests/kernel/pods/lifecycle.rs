//! From apply to the end: phases, exit codes, init containers, what is left.

use std::path::Path;

use serde_json::json;

use super::{Manifest, Pods};
use crate::runner::Test;
use crate::{require, tests, wait};

pub const TESTS: &[Test] = tests![
    first_pod_of_the_examples_works_and_leaves_nothing,
    exit_codes_make_the_phase,
    signal_that_ends_a_container_is_128_and_its_number,
    missing_program_is_a_start_error,
    init_containers_run_in_order_and_before_the_others,
    failing_init_container_fails_the_pod,
    object_as_yaml_can_be_applied_again,
    conditions_follow_the_life_of_the_pod,
    memory_that_runs_out_is_told,
    pod_whose_pause_process_is_killed_fails,
    full_disk_ends_the_pod_with_a_reason_and_it_can_be_deleted,
];

fn first_pod_of_the_examples_works_and_leaves_nothing() {
    let pods = Pods::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/first-pod.yaml");
    let file = file.to_str().unwrap();
    assert_eq!(
        pods.podctl(&["apply", "-f", file]).ok(),
        "pod/first-pod created"
    );
    pods.wait_log("first-pod", "reader", "hostname=");
    let log = pods.logs("first-pod", "reader");
    assert_eq!(
        log,
        "prepared by the init container\nhello from first-pod\nhostname=first-pod uid=0"
    );
    assert_eq!(pods.word("first-pod"), "Running");
    let table = pods.podctl(&["get", "pods"]).ok();
    let words: Vec<&str> = table.split_whitespace().take(8).collect();
    let expected = [
        "NAME",
        "READY",
        "STATUS",
        "RESTARTS",
        "AGE",
        "first-pod",
        "2/2",
        "Running",
    ];
    assert_eq!(words, expected);
    let copy = pods.sh("first-pod", "reader", "cat /shared/greeting");
    assert_eq!(copy, log);
    // The volume is read-only in this container.
    pods.podctl(&[
        "exec",
        "first-pod",
        "-c",
        "reader",
        "--",
        "touch",
        "/shared/x",
    ])
    .err();
    let gone = pods.podctl(&["delete", "-f", file, "--grace-period=1"]);
    assert_eq!(gone.ok(), "pod \"first-pod\" deleted");
    pods.assert_empty();
}

fn exit_codes_make_the_phase() {
    let pods = Pods::new();
    assert_eq!(pods.run(&Manifest::sh("well", "exit 0")), "Succeeded");
    assert_eq!(pods.word("well"), "Completed");
    let ill = Manifest::sh("ill", "exit 7").container("b", &["true"]);
    assert_eq!(pods.run(&ill), "Failed");
    assert_eq!(pods.word("ill"), "Error");
    let end = pods.state("ill", "a")["terminated"].clone();
    assert_eq!(
        (&end["exitCode"], &end["reason"]),
        (&json!(7), &json!("Error"))
    );
    let end = pods.state("ill", "b")["terminated"].clone();
    assert_eq!(
        (&end["exitCode"], &end["reason"]),
        (&json!(0), &json!("Completed"))
    );
}

fn signal_that_ends_a_container_is_128_and_its_number() {
    let pods = Pods::new();
    // The first process of a pid namespace does not die of its own signals.
    let script = "trap 'exit 9' USR1; kill -USR1 1; sleep 5";
    assert_eq!(pods.run(&Manifest::sh("p", script)), "Failed");
    assert_eq!(pods.state("p", "a")["terminated"]["exitCode"], 9);
    let shared = Manifest::sh("q", "kill -SEGV $$$$").spec("shareProcessNamespace", true);
    assert_eq!(pods.run(&shared), "Failed");
    assert_eq!(pods.state("q", "a")["terminated"]["exitCode"], 139);
}

fn missing_program_is_a_start_error() {
    let pods = Pods::new();
    let pod = Manifest::new("p").container("a", &["/no/such/program"]);
    assert_eq!(pods.run(&pod), "Failed");
    assert_eq!(pods.word("p"), "StartError");
    let end = pods.state("p", "a")["terminated"].clone();
    assert_eq!(end["exitCode"], 128);
    let message = end["message"].as_str().unwrap();
    assert!(
        message.contains("/no/such/program") && message.contains("no such file"),
        "{message}"
    );
}

fn init_containers_run_in_order_and_before_the_others() {
    let pods = Pods::new();
    let pod = Manifest::sh("p", "cat /v/order")
        .init("one", "sleep 0.2; echo one >>/v/order")
        .init("two", "echo two >>/v/order")
        .volume("v", json!({}));
    assert_eq!(pods.said(&pod), "one\ntwo");
    let end = |name| pods.state("p", name)["terminated"]["exitCode"].clone();
    assert_eq!((end("one"), end("two")), (json!(0), json!(0)));
}

fn failing_init_container_fails_the_pod() {
    let pods = Pods::new();
    let pod = Manifest::sh("p", "echo started")
        .init("one", "echo reason >&2; exit 3")
        .init("two", "echo started");
    assert_eq!(pods.run(&pod), "Failed");
    assert_eq!(pods.word("p"), "Init:Error");
    assert_eq!(pods.logs("p", "one"), "reason");
    for name in ["a", "two"] {
        let state = pods.state("p", name);
        assert_eq!(state["waiting"]["reason"], "PodInitializing", "{state}");
        let error = pods.podctl(&["logs", "p", "-c", name]).err();
        assert!(error.contains("has not started yet"), "{error}");
    }
}

fn object_as_yaml_can_be_applied_again() {
    let pods = Pods::new();
    let pod = Manifest::sleeper("p")
        .init("i", "exit 0")
        .metadata("labels", json!({"a": "true", "b": "1.0"}))
        .of(0, "env", json!([{"name": "X", "value": "a: b # c\nd"}]))
        .volume("v", json!({"sizeLimit": "1Mi"}));
    pods.start(&pod);
    let yaml = pods.podctl(&["get", "pod", "p", "-o", "yaml"]).ok();
    for line in [
        "kind: Pod",
        "  phase: Running",
        "  containerStatuses:",
        "  qosClass: BestEffort",
    ] {
        assert!(yaml.lines().any(|it| it == line), "no {line:?} in {yaml}");
    }
    let file = crate::runner::case_dir().join("again.yaml");
    std::fs::write(&file, yaml).unwrap();
    let again = pods.podctl(&["apply", "-f", file.to_str().unwrap()]).ok();
    assert_eq!(again, "pod/p unchanged");
}

fn conditions_follow_the_life_of_the_pod() {
    let pods = Pods::new();
    let conditions = |name| {
        let status = pods.status(name);
        let list = status["conditions"].as_array().unwrap().clone();
        let text = |it: &serde_json::Value| {
            format!(
                "{}={}",
                it["type"].as_str().unwrap(),
                it["status"].as_str().unwrap()
            )
        };
        list.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    pods.apply(&Manifest::sleeper("p").init("i", "sleep 1"));
    assert_eq!(
        conditions("p"),
        "PodReadyToStartContainers=True Initialized=False Ready=False ContainersReady=False \
         PodScheduled=True"
    );
    wait::until("the pod runs", || pods.phase("p") == "Running");
    assert_eq!(
        conditions("p"),
        "PodReadyToStartContainers=True Initialized=True Ready=True ContainersReady=True \
         PodScheduled=True"
    );
    assert_eq!(pods.run(&Manifest::sh("q", "exit 0")), "Succeeded");
    wait::until("the sandbox is gone", || {
        conditions("q").starts_with("PodReadyToStartContainers=False")
    });
    assert_eq!(
        conditions("q"),
        "PodReadyToStartContainers=False Initialized=True Ready=False ContainersReady=False \
         PodScheduled=True"
    );
}

fn memory_that_runs_out_is_told() {
    require!(cgroup2_controller("memory"));
    let pods = Pods::new();
    let pod = Manifest::sh("p", "x=xxxxxxxx; while true; do x=$x$x; done").of(
        0,
        "resources",
        json!({"limits": {"memory": "16Mi"}}),
    );
    assert_eq!(pods.run(&pod), "Failed");
    let end = pods.state("p", "a")["terminated"].clone();
    assert_eq!(
        (&end["reason"], &end["exitCode"]),
        (&json!("OOMKilled"), &json!(137))
    );
    assert_eq!(pods.word("p"), "OOMKilled");
}

fn pod_whose_pause_process_is_killed_fails() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p").container("b", &["sleep", "1000"]));
    let list = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pauses = list
        .filter(|it| {
            std::fs::read_to_string(it.path().join("comm")).is_ok_and(|it| it == "pause\n")
        })
        .filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let pause = nix::unistd::Pid::from_raw(pauses.next().expect("a pause process"));
    nix::sys::signal::kill(pause, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(pods.ended("p"), "Failed");
    let status = pods.status("p");
    assert_eq!(status["reason"], "SandboxLost");
    assert_eq!(pods.state("p", "b")["terminated"]["exitCode"], 137);
}

/// A small file system, until the end of the test.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: &Path, kilobytes: u32) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={kilobytes}k,mode=755");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(
            Some("small"),
            at,
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )
        .unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn full_disk_ends_the_pod_with_a_reason_and_it_can_be_deleted() {
    let root = Pods::without_image().root.clone();
    let _small = Small::mount(&root, 512);
    let pods = Pods::new();
    let pod = Manifest::sleeper("p")
        .init("fill", "cat /dev/zero >/v/big 2>/v/error; exit 0")
        .volume("v", json!({}));
    pods.apply(&pod);
    assert_eq!(pods.ended("p"), "Failed");
    let status = pods.status("p");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains("ENOSPC"), "{status:#}");
    assert!(!pods.cgroup("p").exists());
    pods.podctl(&["delete", "pod", "p"]).ok();
    pods.assert_empty();
}
