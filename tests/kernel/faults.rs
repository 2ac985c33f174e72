//! Every step of create, start, exec and apply fails once: one error that names the step, and nothing
//! is left.
//!
//! With the programs of the feature `fault-injection` (src/fault.rs says how a step is named). In slow
//! test kernels only every few steps are tried; the machine tries all.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::{Bundle, Container, Output, chown_tree, output_of, seedpod};
use crate::leftovers::{Snapshot, settle};
use crate::runner::{Test, case_dir, time_factor};
use crate::{require, tests, wait};

pub const TESTS: &[Test] = tests![
    create_in_a_user_namespace_fails_at_each_step_and_leaves_nothing within 120,
    create_with_a_terminal_fails_at_each_step_and_leaves_nothing within 120,
    create_with_a_stage_fails_at_each_step_and_leaves_nothing within 120,
    create_with_shared_pids_and_a_new_time_fails_at_each_step_and_leaves_nothing within 120,
    start_that_fails_before_it_begins_can_be_tried_again,
    delete_that_fails_can_be_tried_again,
    exec_fails_at_each_step_and_leaves_the_container_as_it_was within 120,
    exec_that_cannot_be_handed_over_leaves_no_process,
    apply_fails_at_each_step_of_the_supervisor_and_leaves_nothing within 120,
    apply_fails_at_each_step_of_a_child_and_leaves_nothing within 180,
];

/// More steps than any plan has.
const ENOUGH: usize = 300;

/// A program with fault injection, with a variable set.
pub fn program(name: &str, variable: &str, value: &str) -> Command {
    let folder = PathBuf::from(std::env::var_os("SEEDPOD_FAULTS").unwrap());
    let mut command = Command::new(folder.join(name));
    command.env(variable, value);
    command
}

/// `seedpod` with an injected fault, and the errors of its log.
fn faulty(step: &str, words: &[&str]) -> (Output, Vec<String>) {
    let log = case_dir().join("log.json");
    let _ = fs::remove_file(&log);
    let mut command = program("seedpod", "SEEDPOD_FAULT", step);
    command.arg("--root").arg(case_dir().join("state"));
    command
        .arg("--log")
        .arg(&log)
        .args(["--log-format", "json"]);
    let output = output_of(command.args(words));
    let text = fs::read_to_string(&log).unwrap_or_default();
    let errors = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["level"] == "error")
        .map(|line| line["msg"].as_str().unwrap().to_owned())
        .collect();
    (output, errors)
}

/// The one error of a failed command, the same on standard error and in the log.
#[track_caller]
fn one_error(step: &str, (output, logged): &(Output, Vec<String>)) -> String {
    let said: Vec<_> = output
        .stderr
        .lines()
        .filter(|line| !line.starts_with("seedpod: warning: "))
        .collect();
    assert_eq!(said.len(), 1, "{step}: {said:?}");
    assert_eq!(logged.len(), 1, "{step}: {logged:?}");
    assert_eq!(said[0], format!("seedpod: {}", logged[0]), "{step}");
    logged[0].clone()
}

#[track_caller]
pub fn nothing_left(step: &str, before: &Snapshot) {
    let left = settle(before, &case_dir().join("state"));
    assert!(left.is_empty(), "{step}: {left:?}");
}

/// What `explain` says of the child's operations, in their order.
fn steps(dir: &str, id: &str) -> Vec<String> {
    let text = seedpod(&["explain", "--bundle", dir]).ok();
    text.lines()
        .filter(|line| line.starts_with("child ") || line.starts_with("stage "))
        .map(|line| {
            line.get(12..)
                .unwrap()
                .replace("_ses.ID", &format!("_ses.{id}"))
        })
        .collect()
}

/// Whether an error is about a step, by the words that errors and `explain` have for it.
#[track_caller]
fn names_the_step(error: &str, step: &str) {
    let named = if let Some(rest) = step.strip_prefix("make ").filter(|it| it.contains(" for ")) {
        let (fstype, target) = rest.split_once(" for ").unwrap();
        let target = target
            .split([',', '>'])
            .next()
            .unwrap()
            .trim_end_matches(" -");
        error.contains(&format!("mount {fstype} at {target}"))
    } else if step.starts_with("check that the program") || step.starts_with("execute") {
        error.contains("exec ")
    } else {
        error.contains(step)
    };
    assert!(named && error.contains("EIO"), "`{step}`: {error}");
}

/// A configuration in which as much as possible can fail.
pub fn rich(bundle: Bundle) -> Bundle {
    let data = bundle.dir().join("data");
    fs::create_dir(&data).unwrap();
    chown_tree(&data, 0);
    let mut bundle = bundle
        .args(&["sleep", "1000"])
        .mount("/made/data", "bind", &data, &["rbind", "nosuid"])
        .set("/root/readonly", true)
        .set("/process/oomScoreAdj", 500)
        .set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }))
        .set(
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{ "names": ["reboot"], "action": "SCMP_ACT_ERRNO" }] }),
        );
    if require::cgroup2_controller("pids").is_ok() {
        bundle = bundle.set("/linux/resources/pids", json!({ "limit": 100 }));
    }
    if require::cgroup2_controller("memory").is_ok() {
        bundle = bundle.set("/linux/resources/memory", json!({ "limit": 100 << 20 }));
    }
    bundle
}

pub fn in_user_namespace() -> Bundle {
    let bundle = rich(Bundle::busybox()).user_namespace(300_000);
    let volume = bundle.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    bundle.mount("/volume", "bind", &volume, &["rbind", "idmap"])
}

/// A container that joins the namespaces of `first`, as the containers of a pod do.
pub fn with_a_stage(first: &Container) -> Bundle {
    let mut bundle = in_user_namespace();
    for (kind, file) in [
        ("user", "user"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
    ] {
        bundle = bundle.namespace(kind, Some(&first.namespace_file(file)));
    }
    bundle.config.as_object_mut().unwrap().remove("hostname");
    bundle
}

/// Fails every step in turn of the child and of the parent; behind `create`, of `start`.
fn each_step(bundle: Bundle, options: &[&str]) {
    bundle.write();
    let dir = bundle.dir().to_str().unwrap().to_owned();
    let names = steps(&dir, &bundle.id);
    let stride = if time_factor() > 1 { 4 } else { 1 };
    let before = Snapshot::take();
    let container = Container { bundle };
    let id = container.id();
    let mut words = vec!["create", "--bundle", &dir];
    words.extend_from_slice(options);
    words.push(id);
    for who in ["child", "parent"] {
        let mut failed = 0;
        for number in (0..ENOUGH).step_by(stride) {
            let step = format!("{who}:{number}");
            let result = faulty(&step, &words);
            if result.0.code != 0 {
                assert_eq!(result.0.code, 1, "{step}");
                let error = one_error(&step, &result);
                match who {
                    "child" => names_the_step(&error, &names[number]),
                    _ => assert!(
                        error.contains(&format!("injected at step {number}")),
                        "{error}"
                    ),
                }
                nothing_left(&step, &before);
                failed += 1;
                continue;
            }
            let started = container.start();
            let begun = started.code == 0;
            if !begun {
                assert_eq!(started.code, 1, "{step}");
                assert_eq!(
                    started.stderr.lines().count(),
                    1,
                    "{step}: {}",
                    started.stderr
                );
                let waiting = names[number].starts_with("wait for start");
                if !waiting {
                    names_the_step(&started.stderr, &names[number]);
                }
                container.wait_stopped();
                failed += 1;
            }
            seedpod(&["delete", "--force", id]).ok();
            nothing_left(&step, &before);
            if begun {
                break;
            }
        }
        let least = if who == "child" { names.len() } else { 15 };
        assert!(
            failed >= least / stride,
            "{who}: only {failed} steps failed"
        );
    }
}

fn create_in_a_user_namespace_fails_at_each_step_and_leaves_nothing() {
    require!(fault_injection);
    each_step(in_user_namespace(), &[]);
}

fn create_with_a_terminal_fails_at_each_step_and_leaves_nothing() {
    require!(fault_injection);
    let bundle = rich(Bundle::busybox())
        .set("/process/terminal", true)
        .set("/process/noNewPrivileges", false);
    let path = bundle.dir().join("console");
    let _listener = UnixListener::bind(&path).unwrap();
    each_step(bundle, &["--console-socket", path.to_str().unwrap()]);
}

fn create_with_a_stage_fails_at_each_step_and_leaves_nothing() {
    require!(fault_injection);
    let first = in_user_namespace().start();
    // Each container's namespaces: the first one's stay, and are not left over.
    let bundle = with_a_stage(&first);
    stay(&bundle, |bundle| each_step(bundle, &[]));
}

/// Runs with a bundle, while another container's state is no leftover: it moves to another root.
fn stay(bundle: &Bundle, run: impl FnOnce(Bundle)) {
    let (state, aside) = (case_dir().join("state"), case_dir().join("aside"));
    fs::rename(&state, &aside).unwrap();
    bundle.write();
    run(bundle.again());
    let _ = fs::remove_dir(&state);
    fs::rename(&aside, &state).unwrap();
}

fn create_with_shared_pids_and_a_new_time_fails_at_each_step_and_leaves_nothing() {
    require!(fault_injection, kernel_file("/proc/self/timens_offsets"));
    let first = Bundle::sleeper().start();
    let bundle = rich(Bundle::busybox())
        .namespace("pid", Some(&first.namespace_file("pid")))
        .namespace("time", None)
        .set("/linux/timeOffsets", json!({ "boottime": { "secs": 100 } }));
    stay(&bundle, |bundle| each_step(bundle, &[]));
}

fn start_that_fails_before_it_begins_can_be_tried_again() {
    require!(fault_injection);
    let container = Bundle::sleeper().create();
    let result = faulty("parent:0", &["start", container.id()]);
    assert_eq!(result.0.code, 1);
    one_error("start", &result);
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
}

fn delete_that_fails_can_be_tried_again() {
    require!(fault_injection);
    for number in 0..2 {
        let container = Bundle::sleeper().start();
        let step = format!("parent:{number}");
        let result = faulty(&step, &["delete", "--force", container.id()]);
        assert_eq!(result.0.code, 1);
        one_error(&step, &result);
        assert_eq!(container.status(), "stopped");
        container.delete().ok();
        assert!(!container.bundle.cgroup().exists());
    }
}

fn exec_fails_at_each_step_and_leaves_the_container_as_it_was() {
    require!(fault_injection);
    let container = in_user_namespace().start();
    let processes = container.cgroup_file("cgroup.procs");
    let stride = if time_factor() > 1 { 4 } else { 1 };
    for who in ["child", "parent"] {
        let mut failed = 0;
        for number in (0..ENOUGH).step_by(stride) {
            let step = format!("{who}:{number}");
            let result = faulty(&step, &["exec", container.id(), "true"]);
            wait::until("only the first process is there", || {
                container.cgroup_file("cgroup.procs") == processes
            });
            assert_eq!(container.status(), "running");
            if result.0.code == 0 {
                break;
            }
            let error = one_error(&step, &result);
            assert!(error.contains("EIO"), "{step}: {error}");
            failed += 1;
        }
        assert!(
            failed >= if who == "child" { 12 } else { 5 } / stride,
            "{who}: {failed}"
        );
    }
}

fn exec_that_cannot_be_handed_over_leaves_no_process() {
    require!(seedpod);
    let container = Bundle::sleeper().start();
    let processes = container.cgroup_file("cgroup.procs");
    let options = ["--detach", "--pid-file", "/nowhere/pid"];
    let error = container.exec_with(&options, &["sleep", "1000"]).err();
    assert!(error.contains("/nowhere/pid"), "{error}");
    wait::until("only the first process is there", || {
        container.cgroup_file("cgroup.procs") == processes
    });
}

/// `podctl` with an injected fault, here and in its supervisor.
fn podctl(step: &str, words: &[&str]) -> Output {
    let mut command = program("podctl", "SEEDPOD_FAULT", step);
    command.arg("--root").arg(case_dir().join("podctl"));
    command.arg("--state").arg(case_dir().join("pods"));
    output_of(command.args(words))
}

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: faulty}
spec:
  hostUsers: false
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    command: [sleep, '1000']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
";

/// An image store with busybox, and the manifest's path.
fn prepared() -> PathBuf {
    let archive = case_dir().join("busybox.tar");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/busybox-image.sh");
    output_of(Command::new(script).arg(&archive)).ok();
    podctl("none", &["image", "load", archive.to_str().unwrap()]).ok();
    let manifest = case_dir().join("pod.yaml");
    fs::write(&manifest, MANIFEST).unwrap();
    manifest
}

/// What is there of pods, below both directories; the image store is not looked at.
fn pods_left() -> Vec<PathBuf> {
    ["podctl/pods", "pods/pods"]
        .iter()
        .filter_map(|path| fs::read_dir(case_dir().join(path)).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .collect()
}

fn each_step_of_apply(who: &str, stride: usize) {
    let manifest = prepared();
    let before = Snapshot::take();
    let mut refused = 0;
    for number in (0..ENOUGH).step_by(stride) {
        let step = format!("{who}:{number}");
        let output = podctl(&step, &["apply", "-f", manifest.to_str().unwrap()]);
        let mut runs = false;
        if output.code == 0 {
            let status = || podctl("none", &["get", "pod", "faulty"]).stdout;
            wait::until("the pod has run or failed", || {
                let text = status();
                runs = text.contains("Running");
                runs || text.contains("Failed") || text.contains("Error")
            });
            podctl("none", &["delete", "pod", "faulty"]).ok();
        } else {
            assert_eq!(output.code, 1, "{step}: {}", output.stderr);
            let errors = output
                .stderr
                .lines()
                .filter(|line| !line.contains("warning:"));
            assert_eq!(errors.count(), 1, "{step}: {}", output.stderr);
            // The one that fails on its way to the wait has nobody to tell.
            let told = ["EIO", "it is stopped", "ended before it was started"];
            let told = told.iter().any(|words| output.stderr.contains(words));
            assert!(told, "{step}: {}", output.stderr);
            refused += 1;
        }
        assert_eq!(pods_left(), Vec::<PathBuf>::new(), "{step}");
        nothing_left(&step, &before);
        if runs {
            assert!(refused >= 10 / stride, "{who}: only {refused} were refused");
            return;
        }
    }
    panic!("{who}: the pod never ran");
}

fn apply_fails_at_each_step_of_the_supervisor_and_leaves_nothing() {
    require!(fault_injection);
    each_step_of_apply("parent", if time_factor() > 1 { 13 } else { 1 });
}

fn apply_fails_at_each_step_of_a_child_and_leaves_nothing() {
    require!(fault_injection);
    each_step_of_apply("child", if time_factor() > 1 { 13 } else { 1 });
}
