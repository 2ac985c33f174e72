//! `podctl delete`: gracefully, by force, twice, at bad moments, and without the supervisor.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{Manifest, Pods};
use crate::runner::Test;
use crate::{tests, wait};

pub const TESTS: &[Test] = tests![
    container_that_handles_term_ends_in_its_own_way,
    container_that_ignores_term_is_killed_at_the_deadline,
    grace_period_of_the_command_goes_first,
    grace_period_of_0_kills_at_once,
    pod_that_has_ended_is_removed,
    pod_that_is_starting_is_removed_and_starts_nothing_more,
    two_at_once_are_both_content,
    second_delete_can_only_be_sooner,
    pod_without_its_supervisor_is_shown_as_it_is_and_removed,
    pod_whose_processes_were_all_killed_is_shown_as_failed,
    supervisor_killed_at_any_moment_leaves_what_delete_can_remove within 60,
    mount_of_somebody_else_in_the_pods_directory_is_not_emptied,
    name_is_free_after_delete,
];

/// Writes a line when it is asked to stop.
const POLITE: &str =
    "trap 'echo last words; exit 5' TERM; echo ready; while true; do sleep 0.05; done";
const STUBBORN: &str = "trap '' TERM; echo ready; while true; do sleep 0.05; done";

/// Deletes in the background; gives the command.
fn deleting(pods: &Pods, arguments: &[&str]) -> std::process::Child {
    let mut command = pods.command();
    command.args(["delete", "pod", "p"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn container_that_handles_term_ends_in_its_own_way() {
    let pods = Pods::new();
    pods.start(&Manifest::sh("p", POLITE).spec("terminationGracePeriodSeconds", 10));
    pods.wait_log("p", "a", "ready");
    let log = pods.kept("p").join("logs/a/0.log");
    // Another name for the file, as the pod's directory goes.
    let kept = crate::runner::case_dir().join("log");
    fs::hard_link(&log, &kept).unwrap();
    let begun = Instant::now();
    assert_eq!(
        pods.podctl(&["delete", "pod", "p"]).ok(),
        "pod \"p\" deleted"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    let text = fs::read_to_string(kept).unwrap();
    assert!(text.ends_with("stdout F last words\n"), "{text}");
    pods.assert_empty();
}

fn container_that_ignores_term_is_killed_at_the_deadline() {
    let pods = Pods::new();
    pods.start(&Manifest::sh("p", STUBBORN).spec("terminationGracePeriodSeconds", 2));
    pods.wait_log("p", "a", "ready");
    let mut child = deleting(&pods, &[]);
    let begun = Instant::now();
    wait::until("it is terminating", || pods.word("p") == "Terminating");
    assert!(pods.object("p")["metadata"]["deletionTimestamp"].is_string());
    assert!(child.wait().unwrap().success());
    let taken = begun.elapsed();
    assert!(taken >= Duration::from_millis(1800), "{taken:?}");
    pods.assert_empty();
}

fn grace_period_of_the_command_goes_first() {
    let pods = Pods::new();
    pods.start(&Manifest::sh("p", STUBBORN).spec("terminationGracePeriodSeconds", 1000));
    pods.wait_log("p", "a", "ready");
    let begun = Instant::now();
    pods.podctl(&["delete", "pod", "p", "--grace-period=1"])
        .ok();
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

fn grace_period_of_0_kills_at_once() {
    let pods = Pods::new();
    pods.start(&Manifest::sh("p", STUBBORN).spec("terminationGracePeriodSeconds", 1000));
    pods.wait_log("p", "a", "ready");
    pods.podctl(&["delete", "pod/p", "--grace-period=0"]).ok();
    pods.assert_empty();
}

fn pod_that_has_ended_is_removed() {
    let pods = Pods::new();
    assert_eq!(pods.run(&Manifest::sh("p", "echo hello")), "Succeeded");
    // Its records and its log stay until then.
    assert_eq!(pods.logs("p", "a"), "hello");
    pods.podctl(&["delete", "pod", "p"]).ok();
    pods.assert_empty();
}

fn pod_that_is_starting_is_removed_and_starts_nothing_more() {
    let pods = Pods::new();
    let mut pod = Manifest::sh("p", "echo started >/v/a; sleep 100")
        .init("i", "sleep 100")
        .spec("terminationGracePeriodSeconds", 1);
    for number in 0..5 {
        pod = pod.container(&format!("c{number}"), &["sleep", "100"]);
    }
    let pod = pod.volume("v", json!({}));
    // While the init container runs.
    pods.apply(&pod);
    pods.podctl(&["delete", "pod", "p"]).ok();
    pods.assert_empty();
    // And while `apply` is at work.
    for milliseconds in [0, 5, 10, 20, 30, 50] {
        let mut apply = pods.command();
        apply.args(["apply", "-f", &pods.file(&pod)]);
        apply
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut apply = apply.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        pods.podctl(&[
            "delete",
            "pod",
            "p",
            "--grace-period=0",
            "--ignore-not-found",
        ])
        .ok();
        apply.wait().unwrap();
        pods.podctl(&[
            "delete",
            "pod",
            "p",
            "--grace-period=0",
            "--ignore-not-found",
        ])
        .ok();
        pods.assert_empty();
        let kubepods = std::path::Path::new("/sys/fs/cgroup/kubepods");
        assert!(!kubepods.exists(), "after {milliseconds} ms");
    }
}

fn two_at_once_are_both_content() {
    let pods = Pods::new();
    for _ in 0..2 {
        pods.start(&Manifest::sleeper("p"));
        let both = [0, 1].map(|_| deleting(&pods, &["--grace-period=1", "--ignore-not-found"]));
        for mut child in both {
            assert!(child.wait().unwrap().success());
        }
        pods.assert_empty();
    }
}

fn second_delete_can_only_be_sooner() {
    let pods = Pods::new();
    pods.start(&Manifest::sh("p", STUBBORN));
    pods.wait_log("p", "a", "ready");
    let mut first = deleting(&pods, &["--grace-period=1000"]);
    wait::until("it is terminating", || pods.word("p") == "Terminating");
    let begun = Instant::now();
    pods.podctl(&["delete", "pod", "p", "--grace-period=1"])
        .ok();
    assert!(first.wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(15));
}

fn kill_supervisor(pods: &Pods) {
    let pid = Pid::from_raw(pods.supervisor("p"));
    kill(pid, Signal::SIGKILL).unwrap();
    wait::until("the supervisor is gone", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_err() || stat.is_ok_and(|it| it.contains(") Z "))
    });
}

fn pod_without_its_supervisor_is_shown_as_it_is_and_removed() {
    let pods = Pods::new();
    pods.start(
        &Manifest::sleeper("p")
            .container("b", &["sleep", "1000"])
            .own_users(),
    );
    kill_supervisor(&pods);
    // The containers live.
    let status = pods.status("p");
    assert_eq!(status["phase"], "Unknown", "{status:#}");
    assert_eq!(pods.word("p"), "SupervisorLost");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("supervisor"), "{message}");
    assert_eq!(pods.sh("p", "b", "echo lives"), "lives");
    // One of them dies, and nobody sees it.
    let id = pods.status("p")["containerStatuses"][0]["containerID"].clone();
    let id = id
        .as_str()
        .unwrap()
        .strip_prefix("seedpod://")
        .unwrap()
        .to_owned();
    fs::write(pods.cgroup("p").join(id).join("cgroup.kill"), "1").unwrap();
    wait::until("the end of a is seen", || {
        let end = pods.state("p", "a")["terminated"].clone();
        end["reason"] == "ContainerStatusUnknown" && end["exitCode"] == 137
    });
    let error = pods.podctl(&["exec", "p", "-c", "a", "--", "true"]).err();
    assert!(error.contains("does not run"), "{error}");
    let error = pods.try_apply(&Manifest::sleeper("p")).err();
    assert!(error.contains("pod p exists"), "{error}");
    assert_eq!(
        pods.podctl(&["delete", "pod", "p"]).ok(),
        "pod \"p\" deleted"
    );
    pods.assert_empty();
}

fn pod_whose_processes_were_all_killed_is_shown_as_failed() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p"));
    kill_supervisor(&pods);
    fs::write(pods.cgroup("p").join("cgroup.kill"), "1").unwrap();
    wait::until("the pod has failed", || pods.phase("p") == "Failed");
    let reason = pods.status("p")["reason"].clone();
    assert_eq!(reason, "SupervisorLost");
    assert_eq!(pods.word("p"), "ContainerStatusUnknown");
    pods.delete("p").ok();
    pods.assert_empty();
}

fn supervisor_killed_at_any_moment_leaves_what_delete_can_remove() {
    let pods = Pods::new();
    let pod = Manifest::sleeper("p")
        .init("i", "true")
        .container("b", &["sleep", "1000"])
        .volume("v", json!({"medium": "Memory"}));
    let file = pods.file(&pod);
    for milliseconds in [1, 3, 6, 10, 15, 20, 30, 45, 60] {
        let mut apply = pods.command();
        apply.args(["apply", "-f", &file]).stdin(Stdio::null());
        apply.stdout(Stdio::null()).stderr(Stdio::null());
        let mut apply = apply.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let state = pods.state.join("pods");
        for entry in fs::read_dir(&state).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path().join("supervisor.json")).unwrap_or_default();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if let Some(pid) = value["pid"].as_i64() {
                let pid = Pid::from_raw(i32::try_from(pid).unwrap());
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        apply.wait().unwrap();
        pods.podctl(&["get", "pods"]);
        pods.podctl(&[
            "delete",
            "pod",
            "p",
            "--grace-period=0",
            "--ignore-not-found",
        ])
        .ok();
        pods.assert_empty();
        let kubepods = std::path::Path::new("/sys/fs/cgroup/kubepods");
        assert!(!kubepods.exists(), "after {milliseconds} ms");
    }
}

fn mount_of_somebody_else_in_the_pods_directory_is_not_emptied() {
    let pods = Pods::new();
    assert_eq!(
        pods.run(&Manifest::sh("p", "true").volume("v", json!({}))),
        "Succeeded"
    );
    let source = crate::runner::case_dir().join("precious");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "hello").unwrap();
    let target = pods.kept("p").join("volumes/v");
    nix::mount::mount(
        Some(&source),
        &target,
        None::<&str>,
        nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    )
    .unwrap();
    pods.delete("p").ok();
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "hello");
    pods.assert_empty();
}

fn name_is_free_after_delete() {
    let pods = Pods::new();
    for number in 0..3 {
        let pod = Manifest::sh("p", &format!("echo {number}"));
        assert_eq!(pods.said(&pod), number.to_string());
        pods.delete("p").ok();
    }
    let error = pods.podctl(&["delete", "pod", "p"]).err();
    assert!(error.contains("\"p\" not found"), "{error}");
    pods.podctl(&["delete", "pod", "p", "--ignore-not-found"])
        .ok();
}
