//! Commands that are killed, and commands that meet: whatever moment it is, `delete --force` removes
//! everything, and nothing leaks.
//!
//! With the programs of the feature `fault-injection`, which can stop at each step (src/fault.rs). In
//! slow test kernels only every few steps are tried.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::faults::{in_user_namespace, nothing_left, program, with_a_stage};
use crate::fixture::{Bundle, Container, runtime_path, seedpod};
use crate::leftovers::Snapshot;
use crate::runner::{Test, case_dir, time_factor};
use crate::{require, tests, wait};

pub const TESTS: &[Test] = tests![
    create_killed_at_each_step_of_its_own_is_removed_by_force within 60,
    create_killed_at_each_step_of_the_child_is_removed_by_force within 60,
    create_killed_at_each_step_of_a_stage_is_removed_by_force within 60,
    create_killed_at_any_moment_is_removed_by_force within 60,
    delete_killed_at_each_step_can_be_done_again,
    delete_by_force_during_create_leaves_nothing within 60,
    delete_by_force_of_a_container_that_is_being_made_ends_its_create,
    kill_of_a_container_that_is_being_made_says_not_running,
    only_one_of_two_starts_wins,
    only_one_of_two_creates_wins,
    start_of_a_container_that_was_killed_is_an_error,
];

fn stride() -> usize {
    if time_factor() > 1 { 5 } else { 1 }
}

/// Starts a command in the background, without a word from it.
fn spawn(mut command: Command, words: &[&str]) -> Child {
    command.arg("--root").arg(case_dir().join("state"));
    command
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn create_words(bundle: &Bundle) -> [String; 4] {
    let dir = bundle.dir().to_str().unwrap().to_owned();
    ["create".into(), "--bundle".into(), dir, bundle.id.clone()]
}

fn create(bundle: &Bundle, command: Command) -> Child {
    let words = create_words(bundle);
    spawn(command, &words.each_ref().map(String::as_str))
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Waits until the process has stopped itself; `false` when it has ended instead.
fn stopped(child: &mut Child) -> bool {
    let mut ended = false;
    wait::until("it stops or ends", || {
        ended = child.try_wait().unwrap().is_some();
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        ended
            || stat
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
    });
    !ended
}

/// Kills `create` at each step at which it stops.
fn kill_at_each_step(bundle: &Bundle, before: &Snapshot) {
    bundle.write();
    let mut killed = 0;
    for number in (0..300).step_by(stride()) {
        let step = format!("parent:{number}");
        let mut child = create(bundle, program("seedpod", "SEEDPOD_PAUSE", &step));
        let last = !stopped(&mut child);
        if !last {
            kill(&mut child);
            killed += 1;
        }
        seedpod(&["delete", "--force", &bundle.id]).ok();
        nothing_left(&step, before);
        if last {
            break;
        }
    }
    assert!(killed >= 15 / stride(), "{killed}");
}

fn create_killed_at_each_step_of_its_own_is_removed_by_force() {
    require!(fault_injection);
    let before = Snapshot::take();
    kill_at_each_step(&in_user_namespace(), &before);
}

/// Kills `create` while the child sleeps at one of its operations, and will never wake up.
fn kill_at_each_step_of_the_child(bundle: &Bundle, before: &Snapshot) {
    bundle.write();
    let cgroup = bundle.cgroup();
    for number in (0..300).step_by(stride()) {
        let step = format!("child:{number}");
        let mut child = create(bundle, program("seedpod", "SEEDPOD_PAUSE", &step));
        let populated = || {
            let procs = fs::read_to_string(cgroup.join("cgroup.procs"));
            procs.is_ok_and(|text| !text.is_empty())
        };
        wait::until("the child is there", populated);
        // Long enough for the child to get there; when it is not, this is another moment.
        let deadline = Instant::now() + Duration::from_millis(25 * time_factor());
        let mut last = false;
        while !last && Instant::now() < deadline {
            last = child.try_wait().unwrap().is_some();
            std::thread::sleep(Duration::from_millis(1));
        }
        // One that has ended already is only waited for.
        kill(&mut child);
        seedpod(&["delete", "--force", &bundle.id]).ok();
        nothing_left(&step, before);
        if last {
            assert!(number >= 25, "{number}");
            return;
        }
    }
}

fn create_killed_at_each_step_of_the_child_is_removed_by_force() {
    require!(fault_injection);
    let before = Snapshot::take();
    kill_at_each_step_of_the_child(&in_user_namespace(), &before);
}

fn create_killed_at_each_step_of_a_stage_is_removed_by_force() {
    require!(fault_injection);
    let first = in_user_namespace().start();
    let bundle = with_a_stage(&first);
    let (state, aside) = (case_dir().join("state"), case_dir().join("aside"));
    fs::rename(&state, &aside).unwrap();
    let before = Snapshot::take();
    kill_at_each_step(&bundle, &before);
    kill_at_each_step_of_the_child(&bundle, &before);
    fs::remove_dir(&state).unwrap();
    fs::rename(&aside, &state).unwrap();
}

fn create_killed_at_any_moment_is_removed_by_force() {
    require!(seedpod);
    let bundle = in_user_namespace();
    bundle.write();
    let before = Snapshot::take();
    for moment in (0..100_u32).step_by(stride()) {
        let mut child = create(&bundle, Command::new(runtime_path()));
        std::thread::sleep(Duration::from_micros(
            u64::from(moment) * 200 * time_factor(),
        ));
        kill(&mut child);
        let state = seedpod(&["state", &bundle.id]);
        if state.code == 0 {
            let state: serde_json::Value = serde_json::from_str(&state.stdout).unwrap();
            let status = state["status"].as_str().unwrap();
            assert!(
                ["creating", "created", "stopped"].contains(&status),
                "{moment}: {status}"
            );
        }
        seedpod(&["delete", "--force", &bundle.id]).ok();
        nothing_left(&format!("{moment}"), &before);
    }
}

fn delete_killed_at_each_step_can_be_done_again() {
    require!(fault_injection);
    let before = Snapshot::take();
    for number in 0..2 {
        let container = Bundle::sleeper().start();
        let step = format!("parent:{number}");
        let command = program("seedpod", "SEEDPOD_PAUSE", &step);
        let mut child = spawn(command, &["delete", "--force", container.id()]);
        assert!(stopped(&mut child));
        kill(&mut child);
        assert_eq!(container.status(), "stopped");
        container.delete().ok();
        nothing_left(&step, &before);
    }
}

fn delete_by_force_during_create_leaves_nothing() {
    require!(seedpod);
    let bundle = in_user_namespace();
    bundle.write();
    let before = Snapshot::take();
    for moment in (0..60_u32).step_by(stride()) {
        let mut child = create(&bundle, Command::new(runtime_path()));
        std::thread::sleep(Duration::from_micros(
            u64::from(moment) * 300 * time_factor(),
        ));
        seedpod(&["delete", "--force", &bundle.id]).ok();
        child.wait().unwrap();
        // One that was not there yet for the first is there for the second.
        seedpod(&["delete", "--force", &bundle.id]).ok();
        nothing_left(&format!("{moment}"), &before);
    }
}

/// A `create` whose child sleeps for ever at an operation behind the wait for the parent.
fn hanging(bundle: &Bundle) -> Child {
    bundle.write();
    let child = create(bundle, program("seedpod", "SEEDPOD_PAUSE", "child:5"));
    wait::until("its process is known", || {
        let state = seedpod(&["state", &bundle.id]);
        let state = serde_json::from_str::<serde_json::Value>(&state.stdout).unwrap_or_default();
        state["status"] == "creating" && state["pid"].as_i64().unwrap_or(0) > 0
    });
    child
}

fn delete_by_force_of_a_container_that_is_being_made_ends_its_create() {
    require!(fault_injection);
    let bundle = in_user_namespace();
    let mut child = hanging(&bundle);
    seedpod(&["delete", "--force", &bundle.id]).ok();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!bundle.cgroup().exists());
}

fn kill_of_a_container_that_is_being_made_says_not_running() {
    require!(fault_injection);
    let bundle = in_user_namespace();
    let mut child = hanging(&bundle);
    let error = seedpod(&["kill", &bundle.id, "KILL"]).err();
    assert!(error.contains("not running"), "{error}");
    let error = seedpod(&["start", "no-such-container"]).err();
    assert!(error.contains("does not exist"), "{error}");
    seedpod(&["delete", "--force", &bundle.id]).ok();
    child.wait().unwrap();
}

fn only_one_of_two_starts_wins() {
    require!(seedpod);
    for _ in (0..10).step_by(stride()) {
        let container = Bundle::sleeper().create();
        let both =
            [(); 2].map(|()| spawn(Command::new(runtime_path()), &["start", container.id()]));
        let codes = both.map(|mut child| child.wait().unwrap().code().unwrap());
        assert_eq!(codes.iter().sum::<i32>(), 1, "{codes:?}");
        assert_eq!(container.status(), "running");
    }
}

fn only_one_of_two_creates_wins() {
    require!(seedpod);
    let bundle = Bundle::sleeper();
    bundle.write();
    for _ in (0..10).step_by(stride()) {
        let both = [(); 2].map(|()| create(&bundle, Command::new(runtime_path())));
        let codes = both.map(|mut child| child.wait().unwrap().code().unwrap());
        assert_eq!(codes.iter().sum::<i32>(), 1, "{codes:?}");
        let container = Container {
            bundle: bundle.again(),
        };
        container.start().ok();
        assert_eq!(container.status(), "running");
    }
}

fn start_of_a_container_that_was_killed_is_an_error() {
    let container = Bundle::sleeper().create();
    container.kill("KILL").ok();
    container.wait_stopped();
    let error = container.start().err();
    assert!(
        error.contains("stopped") || error.contains("cannot start"),
        "{error}"
    );
}
