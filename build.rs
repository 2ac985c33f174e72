//! Builds the pause program, whose bytes `podctl` carries: a freestanding program of one file, with
//! the same compiler, without the standard library.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "src/pause/main.rs";
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let out = PathBuf::from(variable("OUT_DIR")).join("pause");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args([
        "--edition=2024",
        "--crate-name=pause",
        "--crate-type=bin",
        "--target",
    ]);
    rustc.arg(variable("TARGET"));
    rustc.args([
        "-Copt-level=s",
        "-Cpanic=abort",
        "-Cstrip=symbols",
        "-Crelocation-model=static",
    ]);
    // One segment that is read and executed: code and constants share a page.
    let linker = [
        "-nostdlib",
        "-static",
        "--no-pie",
        "--build-id=none",
        "--no-rosegment",
        "-zmax-page-size=4096",
        "-znorelro",
        "--no-eh-frame-hdr",
        "--gc-sections",
    ];
    for argument in linker {
        rustc.arg(format!("-Clink-arg={argument}"));
    }
    rustc.args([
        "-Clinker=rust-lld",
        "-Clinker-flavor=ld.lld",
        "-Ctarget-feature=+crt-static",
    ]);
    let status = rustc.arg("-o").arg(&out).arg(source).status();
    let status = status.unwrap_or_else(|error| panic!("run rustc for {source}: {error}"));
    assert!(status.success(), "{source} does not build: {status}");
}
