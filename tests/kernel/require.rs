//! What a test needs of the place it runs in; where it is not there, the test skips with the reason.
//!
//! `require!(root, kernel(6, 3), cgroup2_controller("memory"))`: each name is a function here that
//! answers `Err(reason)`. The reasons are matched by `tests/expected-skips`, so they name what is
//! missing and nothing that changes from run to run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// `Err` holds the reason for the skip.
pub type Need = Result<(), String>;

/// Skips the running test unless every named need is met.
#[macro_export]
macro_rules! require {
    ($($name:ident $(($($argument:expr),* $(,)?))?),+ $(,)?) => {
        $( $crate::require::need($crate::require::$name($($($argument),*)?)); )+
    };
}

/// Skips with the reason.
pub fn need(met: Need) {
    if let Err(reason) = met {
        crate::runner::skip(&reason);
    }
}

fn or(met: bool, reason: impl Into<String>) -> Need {
    if met { Ok(()) } else { Err(reason.into()) }
}

/// User id 0.
pub fn root() -> Need {
    or(nix::unistd::geteuid().is_root(), "not root")
}

/// A kernel of at least this version.
pub fn kernel(major: u32, minor: u32) -> Need {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let running = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    or(
        running >= (major, minor),
        format!("kernel older than {major}.{minor}"),
    )
}

/// A controller that containers' cgroups get.
pub fn cgroup2_controller(name: &str) -> Need {
    let path = format!(
        "/sys/fs/cgroup{}/cgroup.subtree_control",
        crate::runner::case_cgroup()
    );
    let enabled = fs::read_to_string(path).unwrap_or_default();
    or(
        enabled.split_whitespace().any(|word| word == name),
        format!("no cgroup v2 controller {name}"),
    )
}

/// A capability in the runner's effective set, by its name in capabilities(7).
pub fn capability(name: &str) -> Need {
    let capability: caps::Capability = name.parse().unwrap();
    let held = caps::has_cap(None, caps::CapSet::Effective, capability).unwrap();
    or(held, format!("no {name}"))
}

/// A program of the host.
pub fn program(name: &str) -> Need {
    let found = Command::new(name)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    or(found.is_ok(), format!("no program {name}"))
}

/// A file of the kernel: `/proc/self/timens_offsets` and the like.
pub fn kernel_file(path: &str) -> Need {
    or(Path::new(path).exists(), format!("no {path}"))
}

/// The runtime under test is seedpod, for behaviour that the peers do not have.
pub fn seedpod() -> Need {
    let bin = crate::fixture::runtime_path();
    or(
        bin.file_name().is_some_and(|name| name == "seedpod"),
        "only seedpod does this",
    )
}

/// The runtime runs hooks, as its `features` says. Peers do.
pub fn hooks() -> Need {
    let known =
        feature("/hooks").is_none_or(|list| list.as_array().is_some_and(|it| !it.is_empty()));
    or(known, "seedpod has no hooks yet")
}

/// The runtime knows an option of mounts, as its `features` says. Peers do.
pub fn mount_option(name: &str) -> Need {
    let known = feature("/mountOptions").is_none_or(|list| {
        list.as_array()
            .is_some_and(|it| it.iter().any(|it| it == name))
    });
    or(known, format!("seedpod has no mount option {name} yet"))
}

/// The runtime has a command. Peers do.
pub fn command(name: &str) -> Need {
    if seedpod().is_err() {
        return Ok(());
    }
    let known = crate::fixture::seedpod(&[name, "--help"]).code == 0;
    or(known, format!("seedpod has no command {name} yet"))
}

/// A value of seedpod's `features`; `None` for a peer.
fn feature(pointer: &str) -> Option<serde_json::Value> {
    seedpod().ok()?;
    let text = crate::fixture::seedpod(&["features"]).ok();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    Some(all.pointer(pointer).cloned().unwrap_or_default())
}

/// Programs with the feature `fault-injection`, in the folder `SEEDPOD_FAULTS`.
pub fn fault_injection() -> Need {
    seedpod()?;
    or(
        std::env::var_os("SEEDPOD_FAULTS").is_some(),
        "no programs with fault injection",
    )
}

/// The kernel runs 32 bit programs (User-Mode Linux and some hardened kernels do not).
pub fn ia32() -> Need {
    or(
        Path::new("/proc/sys/abi/vsyscall32").exists() || Path::new("/proc/sys/abi").exists(),
        "no 32 bit system calls",
    )
}
