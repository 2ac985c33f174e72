//! Builds the pause program, whose bytes `podctl` carries: a freestanding program of one file, with
//! the same compiler and the linker that comes with it, without any library.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "src/pause/main.rs";
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(variable("OUT_DIR"));
    let (object, program) = (out.join("pause.o"), out.join("pause"));
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args([
        "--edition=2024",
        "--crate-name=pause",
        "--crate-type=bin",
        "--emit=obj",
    ]);
    rustc.args([
        "-Copt-level=s",
        "-Cpanic=abort",
        "-Crelocation-model=static",
    ]);
    rustc.args([
        "-Coverflow-checks=off",
        "--target",
        &variable("TARGET"),
        "-o",
    ]);
    run(rustc.arg(&object).arg(source));
    let mut linker = Command::new(bundled_linker());
    linker.args([
        "-flavor",
        "gnu",
        "-static",
        "--no-pie",
        "--gc-sections",
        "--strip-all",
    ]);
    // One segment of one page that is read and executed.
    linker.args([
        "--no-rosegment",
        "-zmax-page-size=4096",
        "-znorelro",
        "--build-id=none",
    ]);
    run(linker
        .args(["--no-eh-frame-hdr", "-o"])
        .arg(&program)
        .arg(&object));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// rust-lld, which is part of the toolchain.
fn bundled_linker() -> PathBuf {
    let output = Command::new(variable("RUSTC"))
        .args(["--print", "sysroot"])
        .output();
    let output = output.unwrap_or_else(|error| panic!("run rustc: {error}"));
    let sysroot = String::from_utf8_lossy(&output.stdout);
    PathBuf::from(sysroot.trim())
        .join("lib/rustlib")
        .join(variable("HOST"))
        .join("bin/rust-lld")
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
