//! create, start, state, kill, delete, run, list, and the hooks between them.

use std::fs;

use serde_json::{Value, json};

use crate::fixture::{Bundle, seedpod};
use crate::runner::Test;
use crate::{require, tests, wait};

pub const TESTS: &[Test] = tests![
    true_runs_and_exits_0,
    exit_code_is_passed_through,
    death_by_signal_is_128_and_the_signal,
    output_and_errors_reach_the_caller,
    state_says_created_running_and_stopped,
    state_names_bundle_version_and_annotations,
    state_of_an_unknown_id_is_an_error,
    create_runs_no_user_code,
    changes_of_the_configuration_after_create_have_no_effect,
    start_works_only_once,
    second_create_of_an_id_fails_and_leaves_the_first,
    invalid_ids_are_refused,
    kill_sends_the_signal,
    kill_takes_names_and_numbers,
    kill_of_a_stopped_container_says_not_running,
    kill_of_an_unknown_signal_is_an_error,
    delete_of_a_running_container_is_refused,
    delete_by_force_ends_a_running_container,
    delete_by_force_of_an_unknown_id_is_0,
    delete_of_a_created_container_is_refused_or_ends_it,
    delete_leaves_nothing,
    run_detached_leaves_only_the_container,
    pid_file_holds_the_pid_of_state,
    list_shows_every_container,
    hooks_of_any_kind_are_refused_by_name_where_they_are_not_done,
    hooks_run_in_order_with_the_state_on_stdin,
    failing_create_runtime_hook_undoes_the_container,
    failing_poststop_hook_does_not_fail_delete,
    hook_does_not_see_the_containers_environment,
    hook_that_takes_too_long_is_stopped,
    pause_stops_and_resume_goes_on,
    spec_writes_a_configuration_once,
];

fn true_runs_and_exits_0() {
    assert_eq!(Bundle::busybox().run().code, 0);
}

fn exit_code_is_passed_through() {
    for code in [1, 7, 42, 255] {
        let output = Bundle::sh(&format!("exit {code}")).run();
        assert_eq!(output.code, code, "{}", output.stderr);
    }
}

fn death_by_signal_is_128_and_the_signal() {
    let init_and_child = Bundle::sh("sh -c 'kill -9 $$'; exit $?");
    assert_eq!(init_and_child.run().code, 137);
}

fn output_and_errors_reach_the_caller() {
    let output = Bundle::sh("echo to-stdout; echo to-stderr >&2").run();
    assert_eq!(output.stdout, "to-stdout\n");
    assert_eq!(output.stderr, "to-stderr\n");
}

fn state_says_created_running_and_stopped() {
    let container = Bundle::sleeper().create();
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
    container.kill("KILL").ok();
    container.wait_stopped();
    assert_eq!(container.state()["pid"], 0);
}

fn state_names_bundle_version_and_annotations() {
    let container = Bundle::sleeper()
        .set("/annotations", json!({ "com.example.key": "value" }))
        .start();
    let state = container.state();
    assert_eq!(state["id"], container.id());
    assert_eq!(state["bundle"], container.bundle.dir().to_str().unwrap());
    assert_eq!(state["annotations"]["com.example.key"], "value");
    assert_eq!(state["pid"], container.pid());
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    assert!(state["created"].as_str().unwrap().contains('T'));
}

fn state_of_an_unknown_id_is_an_error() {
    let error = seedpod(&["state", "nobody"]).err();
    assert!(error.contains("does not exist"), "{error}");
}

fn create_runs_no_user_code() {
    let container = Bundle::sh("touch /ran; sleep 1000").create();
    let trace = container.bundle.rootfs("ran");
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!trace.exists());
    container.start().ok();
    wait::until("the process ran", || trace.exists());
}

fn changes_of_the_configuration_after_create_have_no_effect() {
    let mut container = Bundle::sh("touch /first; sleep 1000").create();
    container.bundle.config["process"]["args"] = json!(["sh", "-c", "touch /second; sleep 1000"]);
    container.bundle.write();
    container.start().ok();
    wait::until("a process ran", || {
        container.bundle.rootfs("first").exists() || container.bundle.rootfs("second").exists()
    });
    assert!(container.bundle.rootfs("first").exists());
}

fn start_works_only_once() {
    let container = Bundle::sleeper().start();
    container.start().err();
    assert_eq!(container.status(), "running");
}

fn second_create_of_an_id_fails_and_leaves_the_first() {
    let first = Bundle::sleeper().start();
    let mut second = Bundle::sleeper();
    second.id = first.id().to_owned();
    second.write();
    let bundle = second.dir().to_str().unwrap();
    let error = seedpod(&["create", "--bundle", bundle, first.id()]).err();
    assert!(
        error.contains("exists") || error.contains("in use"),
        "{error}"
    );
    assert_eq!(first.status(), "running");
}

fn invalid_ids_are_refused() {
    let bundle = Bundle::sleeper();
    bundle.write();
    let dir = bundle.dir().to_str().unwrap();
    for id in ["", "..", ".", "a/b", "../x", "a b", "a\nb"] {
        seedpod(&["create", "--bundle", dir, id]).err();
    }
}

fn kill_sends_the_signal() {
    let container = Bundle::sh(
        "trap 'echo USR1 >/tmp/got' USR1; touch /tmp/ready; while :; do sleep 0.02; done",
    )
    .start();
    wait::until("the trap is set", || {
        container.bundle.rootfs("tmp/ready").exists()
    });
    container.kill("USR1").ok();
    wait::until("the signal came", || {
        container.bundle.rootfs("tmp/got").exists()
    });
}

fn kill_takes_names_and_numbers() {
    let container = Bundle::sh(
        "for s in HUP USR1 USR2; do trap \"touch /tmp/$s\" $s; done; touch /tmp/ready
         while :; do sleep 0.02; done",
    )
    .start();
    wait::until("the traps are set", || {
        container.bundle.rootfs("tmp/ready").exists()
    });
    for (signal, name) in [("SIGHUP", "HUP"), ("USR1", "USR1"), ("12", "USR2")] {
        container.kill(signal).ok();
        let trace = container.bundle.rootfs("tmp").join(name);
        wait::until(signal, || trace.exists());
    }
}

fn kill_of_a_stopped_container_says_not_running() {
    let container = Bundle::busybox().start();
    container.wait_stopped();
    let error = container.kill("TERM").err();
    assert!(error.contains("container not running"), "{error}");
}

fn kill_of_an_unknown_signal_is_an_error() {
    let container = Bundle::sleeper().start();
    container.kill("NOSUCH").err();
    container.kill("1000").err();
    assert_eq!(container.status(), "running");
}

fn delete_of_a_running_container_is_refused() {
    let container = Bundle::sleeper().start();
    container.delete().err();
    assert_eq!(container.status(), "running");
}

fn delete_by_force_ends_a_running_container() {
    let container = Bundle::sleeper().start();
    let pid = container.pid();
    seedpod(&["delete", "--force", container.id()]).ok();
    wait::until("the process is gone", || {
        !fs::exists(format!("/proc/{pid}")).unwrap()
    });
    seedpod(&["state", container.id()]).err();
}

fn delete_by_force_of_an_unknown_id_is_0() {
    seedpod(&["delete", "--force", "nobody"]).ok();
}

/// The specification refuses it; runc and crun end the container, which nothing was started in.
fn delete_of_a_created_container_is_refused_or_ends_it() {
    let container = Bundle::sleeper().create();
    let pid = container.pid();
    if container.delete().code == 0 {
        wait::until("the process is gone", || {
            !fs::exists(format!("/proc/{pid}")).unwrap()
        });
        seedpod(&["state", container.id()]).err();
    } else {
        assert_eq!(container.status(), "created");
    }
}

/// Processes, mounts, cgroups and files: what the runner's own check finds fails the test.
fn delete_leaves_nothing() {
    let container = Bundle::sleeper().start();
    let cgroup = container.bundle.cgroup();
    assert!(cgroup.is_dir());
    container.kill("KILL").ok();
    container.wait_stopped();
    container.delete().ok();
    assert!(!cgroup.exists());
    seedpod(&["state", container.id()]).err();
}

fn run_detached_leaves_only_the_container() {
    let bundle = Bundle::sleeper();
    bundle.write();
    let dir = bundle.dir().to_str().unwrap();
    seedpod(&["run", "--detach", "--bundle", dir, &bundle.id]).ok();
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children.trim(), "");
    let state: Value = serde_json::from_str(&seedpod(&["state", &bundle.id]).ok()).unwrap();
    assert_eq!(state["status"], "running");
    let name = crate::fixture::runtime_path();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let exe = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        assert!(
            exe != name,
            "a process of the runtime is left: {}",
            entry.path().display()
        );
    }
    seedpod(&["delete", "--force", &bundle.id]).ok();
}

fn pid_file_holds_the_pid_of_state() {
    let container = Bundle::sleeper().start();
    assert_eq!(container.state()["pid"], container.pid());
    let text = fs::read_to_string(container.bundle.dir().join("pid")).unwrap();
    assert_eq!(text, container.pid().to_string());
}

fn list_shows_every_container() {
    let first = Bundle::sleeper().start();
    let second = Bundle::sleeper().create();
    let rows: Vec<Value> =
        serde_json::from_str(&seedpod(&["list", "--format", "json"]).ok()).unwrap();
    let seen: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["status"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [(first.id(), "running"), (second.id(), "created")]);
    let names = seedpod(&["list", "--quiet"]).ok();
    assert_eq!(names.lines().collect::<Vec<_>>(), [first.id(), second.id()]);
    let table = seedpod(&["list"]).ok();
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
}

fn hook(script: &str) -> Value {
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }])
}

/// A hook that is left out in silence is a container without its network, or without its limits.
fn hooks_of_any_kind_are_refused_by_name_where_they_are_not_done() {
    if require::hooks().is_ok() {
        return;
    }
    let kinds = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    for kind in kinds {
        let bundle = Bundle::sleeper().set(&format!("/hooks/{kind}"), hook("exit 0"));
        let cgroup = bundle.cgroup();
        let error = bundle.create_err();
        assert!(error.contains("hooks: not supported"), "{kind}: {error}");
        assert!(!cgroup.exists());
    }
}

/// Debian's runc 1.1 says `created` in poststart, against the specification.
fn hooks_run_in_order_with_the_state_on_stdin() {
    require!(hooks);
    let mut bundle = Bundle::busybox();
    let log = bundle.dir().join("log");
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    for kind in kinds {
        // The status as the state on standard input has it.
        let script = format!(
            "echo {kind} $(sed -E 's/.*\"status\": ?\"([a-z]+)\".*/\\1/') >>{}",
            log.display()
        );
        bundle = bundle.set(&format!("/hooks/{kind}"), hook(&script));
    }
    let inside = hook("echo createContainer >>/proc/1/cwd/tmp/none 2>/dev/null; true");
    let container = bundle
        .set("/hooks/createContainer", inside)
        .args(&["sleep", "1000"])
        .start();
    let early = fs::read_to_string(&log).unwrap();
    assert!(early.starts_with("prestart creat"), "{early}");
    assert!(early.contains("\ncreateRuntime creat"), "{early}");
    assert!(early.ends_with("poststart running\n"), "{early}");
    container.kill("KILL").ok();
    container.wait_stopped();
    container.delete().ok();
    let late = fs::read_to_string(&log).unwrap();
    assert!(late.ends_with("poststop stopped\n"), "{late}");
}

fn failing_create_runtime_hook_undoes_the_container() {
    require!(hooks);
    let bundle = Bundle::sleeper().set("/hooks/createRuntime", hook("echo reason >&2; exit 3"));
    let (id, cgroup) = (bundle.id.clone(), bundle.cgroup());
    let error = bundle.create_err();
    assert!(error.contains("hook"), "{error}");
    assert!(error.contains("reason"), "{error}");
    assert!(!cgroup.exists());
    seedpod(&["state", &id]).err();
}

fn failing_poststop_hook_does_not_fail_delete() {
    require!(hooks);
    let container = Bundle::busybox()
        .set("/hooks/poststop", hook("exit 1"))
        .start();
    container.wait_stopped();
    container.delete().ok();
}

/// An image must not choose what a hook on the host loads (the class of CVE-2025-23266).
fn hook_does_not_see_the_containers_environment() {
    require!(hooks);
    let bundle = Bundle::busybox();
    let seen = bundle.dir().join("seen");
    let script = format!("/usr/bin/env >{}", seen.display());
    let hooks = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    bundle
        .push("/process/env", "LD_PRELOAD_OF_THE_IMAGE=/evil.so")
        .set("/hooks/createRuntime", hooks)
        .run()
        .ok();
    let seen = fs::read_to_string(seen).unwrap();
    assert!(!seen.contains("OF_THE_IMAGE"), "{seen}");
}

fn hook_that_takes_too_long_is_stopped() {
    require!(hooks);
    let hooks = json!([{ "path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1 }]);
    let bundle = Bundle::busybox().set("/hooks/createRuntime", hooks);
    bundle.create_err();
}

fn pause_stops_and_resume_goes_on() {
    let container = Bundle::sh("while :; do echo >>/tmp/ticks; sleep 0.01; done").start();
    let ticks = container.bundle.rootfs("tmp/ticks");
    let count = || fs::metadata(&ticks).map_or(0, |data| data.len());
    wait::until("it ticks", || count() > 2);
    seedpod(&["pause", container.id()]).ok();
    assert_eq!(container.status(), "paused");
    assert_eq!(container.cgroup_file("cgroup.freeze"), "1");
    let paused = count();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(count(), paused);
    container.exec(&["true"]).err();
    seedpod(&["resume", container.id()]).ok();
    assert_eq!(container.status(), "running");
    wait::until("it ticks again", || count() > paused);
}

fn spec_writes_a_configuration_once() {
    let bundle = Bundle::busybox();
    let dir = bundle.dir().to_str().unwrap();
    seedpod(&["spec", "--bundle", dir]).ok();
    let text = fs::read_to_string(bundle.dir().join("config.json")).unwrap();
    let written: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["root"]["path"], "rootfs");
    assert_eq!(written["process"]["cwd"], "/");
    seedpod(&["spec", "--bundle", dir]).err();
}
