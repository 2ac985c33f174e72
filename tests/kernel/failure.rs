//! What fails: it says what and why, and leaves nothing. The runner's check after each test is half
//! of every test here.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::fixture::{Bundle, seedpod};
use crate::runner::Test;
use crate::{require, tests};

pub const TESTS: &[Test] = tests![
    missing_bundle_is_an_error,
    broken_json_is_an_error,
    missing_root_file_system_is_an_error,
    missing_program_is_an_error_of_create_or_start_and_leaves_nothing,
    program_that_is_not_executable_is_an_error,
    mount_that_fails_names_its_target,
    mount_that_fails_leaves_nothing_in_the_first_nor_the_last_place,
    failing_cgroup_write_leaves_nothing,
    unknown_command_is_an_error,
    unknown_option_is_an_error,
    version_newer_than_1_is_an_error,
    unknown_fields_are_ignored,
    errors_go_to_the_log_as_json_too,
    id_is_free_again_after_a_failure,
];

fn missing_bundle_is_an_error() {
    seedpod(&["create", "--bundle", "/nowhere/bundle", "x"]).err();
}

fn broken_json_is_an_error() {
    let bundle = Bundle::busybox();
    fs::write(bundle.dir().join("config.json"), "{ \"ociVersion\": ").unwrap();
    let dir = bundle.dir().to_str().unwrap();
    seedpod(&["create", "--bundle", dir, &bundle.id]).err();
}

fn missing_root_file_system_is_an_error() {
    let error = Bundle::busybox()
        .set("/root/path", "not-there")
        .create_err();
    assert!(error.contains("not-there"), "{error}");
}

fn missing_program_is_an_error_of_create_or_start_and_leaves_nothing() {
    let bundle = Bundle::busybox().args(&["no-such-program"]);
    let error = bundle.run().err();
    assert!(error.contains("no-such-program"), "{error}");
    assert!(!bundle.cgroup().exists());
}

fn program_that_is_not_executable_is_an_error() {
    let bundle = Bundle::busybox().args(&["/etc/passwd"]);
    let error = bundle.run().err();
    assert!(error.contains("/etc/passwd"), "{error}");
}

fn mount_that_fails_names_its_target() {
    let error = Bundle::busybox()
        .mount("/data", "no-such-file-system", Path::new("none"), &[])
        .create_err();
    assert!(error.contains("data"), "{error}");
}

fn mount_that_fails_leaves_nothing_in_the_first_nor_the_last_place() {
    for first in [true, false] {
        let mut bundle = Bundle::busybox();
        let bad = json!({ "destination": "/data", "type": "no-such-file-system", "source": "x" });
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        let place = if first { 0 } else { mounts.len() };
        mounts.insert(place, bad);
        let cgroup = bundle.cgroup();
        bundle.create_err();
        assert!(!cgroup.exists());
    }
}

fn failing_cgroup_write_leaves_nothing() {
    require!(cgroup2_controller("memory"));
    let bundle = Bundle::busybox().set(
        "/linux/resources/unified",
        json!({ "memory.max": "nonsense" }),
    );
    let cgroup = bundle.cgroup();
    bundle.create_err();
    assert!(!cgroup.exists());
}

fn unknown_command_is_an_error() {
    seedpod(&["no-such-command"]);
    assert_ne!(seedpod(&["no-such-command"]).code, 0);
}

fn unknown_option_is_an_error() {
    assert_ne!(seedpod(&["create", "--no-such-option", "x"]).code, 0);
}

/// crun checks no version since 1.14.
fn version_newer_than_1_is_an_error() {
    require!(seedpod);
    let error = Bundle::busybox().set("/ociVersion", "2.0.0").create_err();
    assert!(error.contains("2.0.0"), "{error}");
}

fn unknown_fields_are_ignored() {
    let bundle = Bundle::sh("echo ran")
        .set("/futureField", json!({ "a": 1 }))
        .set("/linux/futureField", true)
        .set("/process/futureField", "x");
    assert_eq!(bundle.stdout(), "ran");
}

fn errors_go_to_the_log_as_json_too() {
    let bundle = Bundle::busybox().set("/root/path", "not-there");
    bundle.write();
    let log = bundle.dir().join("log.json");
    let dir = bundle.dir().to_str().unwrap();
    let words = [
        "--log",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "create",
        "--bundle",
        dir,
        &bundle.id,
    ];
    seedpod(&words).err();
    let text = fs::read_to_string(&log).unwrap();
    let last: serde_json::Value = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .rfind(|line: &serde_json::Value| line["level"] == "error")
        .unwrap_or_else(|| panic!("no error in {text}"));
    assert!(
        last["msg"].as_str().unwrap().contains("not-there"),
        "{last}"
    );
    assert!(last["time"].is_string());
}

fn id_is_free_again_after_a_failure() {
    let mut bundle = Bundle::sleeper();
    let good = bundle.config["root"].clone();
    bundle.config["root"]["path"] = json!("not-there");
    bundle.write();
    let dir = bundle.dir().to_str().unwrap().to_owned();
    seedpod(&["create", "--bundle", &dir, &bundle.id]).err();
    bundle.config["root"] = good;
    assert_eq!(bundle.start().status(), "running");
}
