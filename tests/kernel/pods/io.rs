//! What containers say, and what is said to them: logs, exec, terminals.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{Manifest, Pods};
use crate::runner::Test;
use crate::tests;

pub const TESTS: &[Test] = tests![
    both_streams_are_in_the_log,
    long_lines_and_unfinished_ones_are_whole,
    timestamps_begin_lines,
    ten_megabytes_are_complete,
    output_of_the_last_moment_is_in_the_log,
    log_of_all_containers_is_one_after_the_other,
    exec_gives_the_exit_code,
    exec_passes_standard_input,
    exec_keeps_streams_apart,
    exec_has_the_containers_variables_and_user,
    exec_with_a_terminal_is_interactive,
    exec_in_a_container_that_has_ended_is_an_error,
    exec_of_a_missing_program_is_an_error,
];

fn both_streams_are_in_the_log() {
    let pods = Pods::new();
    let said = pods.said(&Manifest::sh("p", "echo out; sleep 0.1; echo err >&2"));
    assert_eq!(said, "out\nerr");
    let text = std::fs::read_to_string(pods.kept("p").join("logs/a/0.log")).unwrap();
    assert!(
        text.contains(" stdout F out\n") && text.contains(" stderr F err\n"),
        "{text}"
    );
}

fn long_lines_and_unfinished_ones_are_whole() {
    let pods = Pods::new();
    let script = "yes x | head -n 50000 | tr -d '\\n'; echo; printf 'no end'";
    let said = pods.said(&Manifest::sh("p", script));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0].len(), 50_000);
    assert_eq!(lines[1], "no end");
}

fn timestamps_begin_lines() {
    let pods = Pods::new();
    pods.said(&Manifest::sh("p", "echo one; echo two"));
    let text = pods.podctl(&["logs", "p", "--timestamps"]).ok();
    for line in text.lines() {
        let time = line.split(' ').next().unwrap();
        assert!(
            time.starts_with("20") && time.ends_with('Z') && time.contains('.'),
            "{line}"
        );
    }
}

fn ten_megabytes_are_complete() {
    let pods = Pods::new();
    // 100000 lines of 100 bytes and their line ends.
    let line = "x".repeat(99);
    let script = format!("yes {line} | head -n 100000; echo done >&2");
    assert_eq!(pods.run(&Manifest::sh("p", &script)), "Succeeded");
    let output = pods.podctl(&["logs", "p"]);
    let text = output.ok();
    assert_eq!(text.lines().filter(|it| **it == *line).count(), 100_000);
    assert_eq!(text.lines().filter(|it| *it == "done").count(), 1);
}

fn output_of_the_last_moment_is_in_the_log() {
    let pods = Pods::new();
    // From a process that outlives the first one for a moment, and more than a pipe holds.
    let script = "yes last | head -n 30000; echo end";
    let said = pods.said(&Manifest::sh("p", script));
    assert!(said.ends_with("last\nend"));
    assert_eq!(said.lines().count(), 30_001);
}

fn log_of_all_containers_is_one_after_the_other() {
    let pods = Pods::new();
    let pod = Manifest::sh("p", "echo from a")
        .container("b", &["echo", "from b"])
        .init("i", "echo from i");
    pods.run(&pod);
    let text = pods.podctl(&["logs", "p", "--all-containers"]).ok();
    assert_eq!(text, "from i\nfrom a\nfrom b");
    // Without a name, the first, and a word about it.
    let one = pods.podctl(&["logs", "p"]);
    assert!(
        one.stderr.contains("Defaulted container \"a\""),
        "{}",
        one.stderr
    );
    assert_eq!(one.ok(), "from a");
}

fn exec_gives_the_exit_code() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p"));
    for (script, code) in [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143)] {
        let output = pods.podctl(&["exec", "p", "--", "sh", "-c", script]);
        assert_eq!(output.code, code, "{script}: {}", output.stderr);
    }
}

fn exec_passes_standard_input() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p").own_users());
    for (options, expected) in [(&["-i"][..], "words\n"), (&[], "")] {
        let mut command = pods.command();
        command.arg("exec").args(options).args(["p", "--", "cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // Nobody reads it without -i.
        let _ = input.write_all(b"words\n");
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            expected,
            "{options:?}"
        );
    }
}

fn exec_keeps_streams_apart() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p"));
    let output = pods.podctl(&["exec", "p", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

fn exec_has_the_containers_variables_and_user() {
    let pods = Pods::new();
    let pod = Manifest::sleeper("p")
        .of(0, "env", serde_json::json!([{"name": "X", "value": "y"}]))
        .of(0, "workingDir", "/tmp")
        .of(0, "securityContext", serde_json::json!({"runAsUser": 33}));
    pods.start(&pod);
    assert_eq!(
        pods.sh("p", "a", "echo $X; pwd; id -u; hostname"),
        "y\n/tmp\n33\np"
    );
    // And it is in the container's cgroup.
    assert_eq!(pods.sh("p", "a", "grep ^0: /proc/self/cgroup"), "0::/");
}

/// Both ends of a new terminal.
fn terminal() -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    (File::from(master), slave.into())
}

fn read_until(master: &mut File, seen: &mut String, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(10 * crate::runner::time_factor());
    while !seen.contains(text) {
        assert!(Instant::now() < deadline, "no {text:?} in {seen:?}");
        let mut fds = [PollFd::new(master, PollFlags::IN)];
        let limit = rustix::event::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&limit)).unwrap() == 0 {
            continue;
        }
        let mut bytes = [0; 1024];
        let count = master.read(&mut bytes).unwrap_or(0);
        assert!(count > 0, "the terminal ended, without {text:?}: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

fn exec_with_a_terminal_is_interactive() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p").own_users());
    let (mut master, slave) = terminal();
    let size = rustix::termios::Winsize {
        ws_row: 33,
        ws_col: 111,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    let mut command = pods.command();
    command.args(["exec", "-it", "p", "--", "sh"]);
    command.stdin(slave.try_clone().unwrap());
    command.stdout(slave.try_clone().unwrap());
    command.stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut seen = String::new();
    master
        .write_all(b"tty; stty size; echo $((6*7))\n")
        .unwrap();
    read_until(&mut master, &mut seen, "42\r\n");
    assert!(seen.contains("/dev/pts/"), "{seen:?}");
    assert!(seen.contains("33 111"), "{seen:?}");
    // ^C goes to what runs in there, not to podctl.
    master.write_all(b"sleep 1000\n").unwrap();
    read_until(&mut master, &mut seen, "sleep 1000\r\n");
    std::thread::sleep(Duration::from_millis(200));
    master.write_all(b"\x03").unwrap();
    master.write_all(b"echo a$((1+1))b\n").unwrap();
    read_until(&mut master, &mut seen, "a2b\r\n");
    master.write_all(b"exit 9\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

fn exec_in_a_container_that_has_ended_is_an_error() {
    let pods = Pods::new();
    pods.run(&Manifest::sh("p", "true"));
    let output = pods.podctl(&["exec", "p", "--", "true"]);
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("container a of pod p does not run"),
        "{}",
        output.stderr
    );
}

fn exec_of_a_missing_program_is_an_error() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p"));
    let error = pods.podctl(&["exec", "p", "--", "/no/such"]).err();
    assert!(
        error.contains("/no/such") && error.contains("no such file"),
        "{error}"
    );
}
