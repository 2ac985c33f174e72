//! The kernel-feature suite: what a container looks like from inside and outside, on a real kernel.
//!
//! Each test runs in a process of its own, in a cgroup of its own, with a time limit; what it leaves
//! behind (processes, mounts, cgroups, interfaces, files) fails it. `tests/run` starts this program
//! as root in a private view of the machine and in test kernels; started by a plain `cargo test` it
//! says so and skips. The runtime under test is `SEEDPOD_BIN`, so that a peer can be held against
//! the same tests.
//!
//! An own runner, as libtest-mimic has neither a skip that is decided while the test runs with its
//! reason, nor a process and a time limit per test.

// A test program: a panic is how a test fails, and what it prints is its result.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod fixture;
mod leftovers;
mod require;
mod runner;
mod wait;

mod attacks;
mod cgroup;
mod child;
mod exec;
mod failure;
mod faults;
mod identity;
mod kills;
mod lifecycle;
mod mounts;
mod namespaces;
mod pods;
mod seccomp;
mod terminal;

use runner::Test;

/// Every topic. A new topic is one line here.
const TOPICS: &[&[Test]] = &[
    lifecycle::TESTS,
    namespaces::TESTS,
    mounts::TESTS,
    identity::TESTS,
    cgroup::TESTS,
    seccomp::TESTS,
    exec::TESTS,
    terminal::TESTS,
    failure::TESTS,
    pods::lifecycle::TESTS,
    pods::sharing::TESTS,
    pods::volumes::TESTS,
    pods::process::TESTS,
    pods::security::TESTS,
    pods::limits::TESTS,
    pods::apply::TESTS,
    pods::delete::TESTS,
    pods::io::TESTS,
    pods::commands::TESTS,
    child::TESTS,
    faults::TESTS,
    kills::TESTS,
    attacks::TESTS,
];

fn main() -> std::process::ExitCode {
    runner::main(TOPICS)
}
