//! The golden files.

use std::fmt::Write;

use seedpod::plan::Plan;
use seedpod::plan::explain::explain;

use super::{configuration, create, example, exec, folder, sandbox, with_seccomp};

/// Compares a plan with `tests/plan/NAME.plan`, or writes it there with `UPDATE_GOLDEN=1`.
#[track_caller]
fn golden(name: &str, plan: &Plan) {
    let path = folder().join(name).with_extension("plan");
    let is = without_program_length(&explain(plan));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, is).unwrap();
        return;
    }
    let was = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        is == was,
        "the plan of {name} changed:\n{}\nif that is right: UPDATE_GOLDEN=1 cargo test --test plan",
        difference(&was, &is)
    );
}

/// The compiler of profiles may become better at any time, and another machine has another length.
fn without_program_length(text: &str) -> String {
    let mut result = String::new();
    for line in text.lines() {
        match line.split_once("load seccomp filter, ") {
            Some((start, rest)) => {
                let (_, rest) = rest.split_once(' ').unwrap();
                let _ = writeln!(result, "{start}load seccomp filter, N {rest}");
            }
            None => {
                let _ = writeln!(result, "{line}");
            }
        }
    }
    result
}

/// Lines that went with `-`, lines that came with `+`, those around them with two spaces; by the
/// longest common subsequence, step numbers left aside.
fn difference(was: &str, is: &str) -> String {
    let (was, is): (Vec<_>, Vec<_>) = (was.lines().collect(), is.lines().collect());
    let step = |line: &str| line.get(12..).unwrap_or(line).to_owned();
    let mut common = vec![vec![0_usize; is.len() + 1]; was.len() + 1];
    for a in (0..was.len()).rev() {
        for b in (0..is.len()).rev() {
            common[a][b] = if step(was[a]) == step(is[b]) {
                common[a + 1][b + 1] + 1
            } else {
                common[a + 1][b].max(common[a][b + 1])
            };
        }
    }
    let (mut a, mut b) = (0, 0);
    let mut lines = Vec::new();
    while a < was.len() || b < is.len() {
        if a < was.len() && b < is.len() && step(was[a]) == step(is[b]) {
            lines.push((' ', is[b]));
            (a, b) = (a + 1, b + 1);
        } else if b == is.len() || (a < was.len() && common[a + 1][b] >= common[a][b + 1]) {
            lines.push(('-', was[a]));
            a += 1;
        } else {
            lines.push(('+', is[b]));
            b += 1;
        }
    }
    let changed = |at: usize| lines.get(at).is_some_and(|(sign, _)| *sign != ' ');
    let mut text = String::new();
    for (at, (sign, line)) in lines.iter().enumerate() {
        if (at.saturating_sub(2)..=at + 2).any(changed) {
            let _ = writeln!(text, "{sign} {line}");
        }
    }
    text
}

#[test]
fn example_of_the_spec_command() {
    golden("example", &create(&example()));
}

#[test]
fn containers_of_containerd() {
    golden(
        "containerd",
        &create(&with_seccomp(configuration("containerd"))),
    );
}

#[test]
fn new_user_namespace_with_an_id_mapped_volume() {
    golden("user-namespace", &create(&configuration("user-namespace")));
}

#[test]
fn container_of_a_pod_with_users_of_its_own() {
    let plan = create(&with_seccomp(configuration("pod-container")));
    assert!(plan.has_stage());
    golden("pod-container", &plan);
}

#[test]
fn pid_namespace_of_another() {
    golden("shared-pid", &create(&configuration("shared-pid")));
}

#[test]
fn terminal() {
    golden("terminal", &create(&configuration("terminal")));
}

#[test]
fn time_namespace() {
    golden("time-namespace", &create(&configuration("time-namespace")));
}

#[test]
fn sandbox_of_a_pod() {
    golden("sandbox", &sandbox(&configuration("sandbox")));
}

#[test]
fn exec_in_a_container_of_containerd() {
    golden(
        "exec-containerd",
        &exec(&with_seccomp(configuration("containerd")), false),
    );
}

#[test]
fn exec_in_a_container_of_a_pod() {
    golden(
        "exec-pod-container",
        &exec(&with_seccomp(configuration("pod-container")), true),
    );
}

#[test]
fn exec_with_a_terminal() {
    golden("exec-terminal", &exec(&configuration("terminal"), false));
}

#[test]
fn difference_shows_what_changed_and_not_the_numbers_behind_it() {
    let was = "child    0  wait\nchild    1  go\nchild    2  end\n";
    let is = "child    0  wait\nchild    1  look\nchild    2  go\nchild    3  end\n";
    let text = difference(was, is);
    assert!(text.contains("+ child    1  look"), "{text}");
    assert!(!text.contains("- "), "{text}");
}
