//! Further processes in a running container.

use std::fs;

use serde_json::json;

use crate::fixture::{Bundle, field, seedpod};
use crate::runner::Test;
use crate::{require, tests, wait};

pub const TESTS: &[Test] = tests![
    exec_runs_in_the_same_namespaces,
    exec_is_in_the_containers_cgroup,
    exec_passes_the_exit_code,
    exec_output_reaches_the_caller,
    exec_of_a_missing_program_fails_and_says_so,
    exec_options_set_user_env_and_cwd,
    exec_takes_a_process_file,
    exec_inherits_the_containers_capabilities,
    exec_cap_adds_one_and_leaves_inheritable_empty,
    exec_detached_writes_its_pid_and_leaves_no_process_of_the_runtime,
    exec_in_a_stopped_container_fails,
    exec_in_a_created_container_is_refused_or_runs,
    exec_in_a_user_namespace_is_root_there,
    program_of_the_runtime_is_read_only_inside_a_container,
    exec_refuses_users_that_are_no_numbers,
    exec_leaks_no_descriptor,
    exec_repeated_variable_last_wins,
    exec_killed_by_a_signal_is_128_and_the_signal,
    ps_shows_the_containers_processes,
];

fn exec_runs_in_the_same_namespaces() {
    let container = Bundle::sleeper().start();
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let inside = container.sh(&format!("readlink /proc/self/ns/{kind}"));
        let init = fs::read_link(container.namespace_file(kind)).unwrap();
        assert_eq!(inside, init.to_str().unwrap(), "{kind}");
    }
}

fn exec_is_in_the_containers_cgroup() {
    let container = Bundle::sleeper().start();
    assert_eq!(container.sh("grep ^0: /proc/self/cgroup"), "0::/");
}

fn exec_passes_the_exit_code() {
    let container = Bundle::sleeper().start();
    for code in [0, 3, 200] {
        assert_eq!(
            container.exec(&["sh", "-c", &format!("exit {code}")]).code,
            code
        );
    }
}

fn exec_output_reaches_the_caller() {
    let container = Bundle::sleeper().start();
    let output = container.exec(&["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

fn exec_of_a_missing_program_fails_and_says_so() {
    let container = Bundle::sleeper().start();
    let output = container.exec(&["no-such-program"]);
    assert!([1, 127, 255].contains(&output.code), "{output:?}");
    assert!(output.stderr.contains("no-such-program"), "{output:?}");
}

fn exec_options_set_user_env_and_cwd() {
    let container = Bundle::sleeper().start();
    let options = ["--user", "1000:1001", "--env", "A=b c", "--cwd", "/tmp"];
    let output = container.exec_with(&options, &["sh", "-c", "id -u; id -g; echo $A; pwd"]);
    assert_eq!(output.ok(), "1000\n1001\nb c\n/tmp");
}

fn exec_takes_a_process_file() {
    let container = Bundle::sleeper().start();
    let file = container.bundle.dir().join("process.json");
    let process = json!({
        "user": { "uid": 1000, "gid": 1000 }, "args": ["sh", "-c", "id -u; echo $K; pwd; cat /proc/self/status"],
        "env": ["PATH=/bin", "K=v"], "cwd": "/tmp", "noNewPrivileges": true
    });
    fs::write(&file, process.to_string()).unwrap();
    let words = ["exec", "--process", file.to_str().unwrap(), container.id()];
    let seen = seedpod(&words).ok();
    assert!(seen.starts_with("1000\nv\n/tmp\n"), "{seen}");
    assert_eq!(field(&seen, "NoNewPrivs"), "1");
}

fn exec_inherits_the_containers_capabilities() {
    let container = Bundle::sleeper().start();
    let init = container.sh("cat /proc/1/status");
    let exec = container.sh("cat /proc/self/status");
    for set in [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
    ] {
        assert_eq!(field(&init, set), field(&exec, set), "{set}");
    }
}

/// CVE-2022-29162 and its kin.
fn exec_cap_adds_one_and_leaves_inheritable_empty() {
    let container = Bundle::sleeper().start();
    let output = container.exec_with(&["--cap", "CAP_NET_RAW"], &["cat", "/proc/self/status"]);
    let status = output.ok();
    let effective = u64::from_str_radix(&field(&status, "CapEff"), 16).unwrap();
    assert_ne!(effective & (1 << 13), 0, "{status}");
    assert_eq!(
        u64::from_str_radix(&field(&status, "CapInh"), 16).unwrap(),
        0
    );
}

fn exec_detached_writes_its_pid_and_leaves_no_process_of_the_runtime() {
    let container = Bundle::sleeper().start();
    let file = container.bundle.dir().join("exec-pid");
    let options = ["--detach", "--pid-file", file.to_str().unwrap()];
    container.exec_with(&options, &["sleep", "777"]).ok();
    let pid = fs::read_to_string(file).unwrap();
    // The file may be there a moment before the program is.
    wait::until("the program runs", || {
        fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap() == "sleep\x00777\0"
    });
    let runtime = crate::fixture::runtime_path();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let exe = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        assert!(exe != runtime, "{} is left", entry.path().display());
    }
}

fn exec_in_a_stopped_container_fails() {
    let container = Bundle::busybox().start();
    container.wait_stopped();
    container.exec(&["true"]).err();
}

/// runc and crun run it; what counts is that the container's own process is still not started.
fn exec_in_a_created_container_is_refused_or_runs() {
    let container = Bundle::sh("touch /ran; sleep 1000").create();
    let _ = container.exec(&["true"]);
    assert_eq!(container.status(), "created");
    assert!(!container.bundle.rootfs("ran").exists());
}

fn exec_in_a_user_namespace_is_root_there() {
    let container = Bundle::sleeper().user_namespace(100_000).start();
    assert_eq!(
        container.sh("id -u; head -1 /proc/self/uid_map | awk '{print $2}'"),
        "0\n100000"
    );
}

/// CVE-2019-5736: between create and start the container's first process is the runtime's program.
fn program_of_the_runtime_is_read_only_inside_a_container() {
    require!(seedpod);
    let container = Bundle::sleeper().create();
    // Held open until no process runs it any more: before that the answer is "Text file busy".
    let script = "exec 3</proc/1/exe; until [ -e /go ]; do sleep 0.02; done
        for try in $(seq 100); do
            (true >>/proc/self/fd/3) 2>/said; grep -q busy /said || break; sleep 0.02
        done; mv /said /answer";
    let flags = ["--detach", "--cap", "CAP_SYS_PTRACE"];
    container.exec_with(&flags, &["sh", "-c", script]).ok();
    container.start();
    fs::write(container.bundle.rootfs("go"), "").unwrap();
    let answer = container.bundle.rootfs("answer");
    wait::until("the answer", || answer.exists());
    let text = fs::read_to_string(answer).unwrap();
    assert!(text.contains("Read-only file system"), "{text}");
}

/// CVE-2026-30892.
fn exec_refuses_users_that_are_no_numbers() {
    let container = Bundle::sleeper().start();
    for user in ["-1", "0x0", "4294967296", "name", "1000:-5"] {
        container.exec_with(&["--user", user], &["true"]).err();
    }
}

fn exec_leaks_no_descriptor() {
    let container = Bundle::sleeper().start();
    let seen = container.exec(&["ls", "/proc/self/fd"]).ok();
    assert_eq!(
        seen.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
}

fn exec_repeated_variable_last_wins() {
    let container = Bundle::sleeper().start();
    let options = ["--env", "A=first", "--env", "A=second"];
    let seen = container.exec_with(&options, &["sh", "-c", "echo $A"]).ok();
    assert_eq!(seen, "second");
}

fn exec_killed_by_a_signal_is_128_and_the_signal() {
    let container = Bundle::sleeper().start();
    assert_eq!(container.exec(&["sh", "-c", "kill -9 $$"]).code, 137);
}

fn ps_shows_the_containers_processes() {
    let container = Bundle::sh("sleep 555 & wait").start();
    wait::until("both run", || {
        container.cgroup_file("cgroup.procs").lines().count() == 2
    });
    let pids = seedpod(&["ps", "--format", "json", container.id()]).ok();
    let pids: Vec<i32> = serde_json::from_str(&pids).unwrap();
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&container.pid()));
}
