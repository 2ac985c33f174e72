//! A seccomp profile to one BPF program.
//!
//! `rules` reads the profile (what an entry means), `machine` and `tables` know architectures and
//! numbers, `verdicts` decides what happens to every number, `emit` writes the program. No system
//! call is made here: loading is `seccomp(2)`'s wrapper in `sys`.
//!
//! Verdicts are libseccomp's, which tests/seccomp proves by running both programs, with one addition
//! of runc's: see [`compile`].

mod emit;
#[cfg(test)]
mod interpreter;
mod machine;
mod rules;
mod tables;
#[cfg(test)]
mod tests;
mod verdicts;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
pub use seccompiler::sock_filter;

pub use machine::{AARCH64, HOST, Machine, X86_64};
use verdicts::{Fallback, Resolver, Verdicts};

/// The largest program that the kernel takes (`BPF_MAXINSNS`).
pub const LARGEST_PROGRAM: usize = 4096;

/// A profile as the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The filter, for `struct sock_fprog`.
    pub program: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*` for `seccomp(SECCOMP_SET_MODE_FILTER)`; holds
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER` where a listener is needed.
    pub flags: u32,
    /// An action is `SCMP_ACT_NOTIFY`: the call returns a listener, which must be handed over.
    pub needs_listener: bool,
    /// What the profile asks for and does not get, for the log.
    pub warnings: Vec<String>,
    /// Names that are no system call on this machine. The specification has them skipped, and
    /// profiles that serve several machines are full of them, so this is for `explain` only.
    pub unknown: Vec<String>,
}

/// Compiles a profile for the machine that this program runs on.
///
/// Source: runtime-spec config-linux.md, Seccomp. Where that is silent, libseccomp's behaviour:
///
/// - The native architecture is always filtered; calls of an architecture that is not listed kill
///   the thread. So do x32 calls if x32 is not listed.
/// - Of the rules for one call, the first without conditions holds, wherever it stands. Else the
///   conditions are tried in libseccomp's order (later arguments, equality, narrower bounds first).
/// - A rule whose action is the default action changes nothing.
/// - On x86, a rule for a socket or System V call also holds for socketcall(2) and ipc(2) with
///   that call's number, without the rule's condition on the first argument.
/// - 32-bit architectures and x32 compare the low halves of arguments and values.
///
/// As runc: a number above all those that the profile names for an architecture returns ENOSYS, so
/// that programs fall back from calls that are newer than the profile instead of failing with EPERM.
/// Not so if the default action lets the call happen, or hands it to someone who may know it
/// (`SCMP_ACT_ALLOW`, `LOG`, `TRACE`, `NOTIFY`). Other than in runc, the native architecture need
/// not be listed for that, private calls of 32-bit Arm are not taken for new ones, and the number
/// -1, by which a tracer skips a call, keeps the default action.
///
/// Without `flags` in the profile, `SECCOMP_FILTER_FLAG_SPEC_ALLOW` is set, as in runc and crun.
///
/// # Errors
/// An errno for an action that takes none, an argument index above 5, an entry without names, rules
/// that contradict each other, a program that is longer than the kernel takes.
pub fn compile(profile: &LinuxSeccomp) -> Result<Compiled> {
    compile_for(HOST, profile)
}

/// Compiles a profile for a machine of either kind; see [`compile`].
///
/// # Errors
/// As [`compile`].
pub fn compile_for(machine: &Machine, profile: &LinuxSeccomp) -> Result<Compiled> {
    let default = rules::default_action(profile).context("seccomp")?;
    let rules = profile
        .syscalls()
        .iter()
        .flatten()
        .enumerate()
        .map(|(at, syscall)| {
            rules::rule(syscall, default).with_context(|| format!("seccomp: syscalls[{at}]"))
        })
        .collect::<Result<Vec<_>>>()?;
    let foreign = libc::SECCOMP_RET_KILL_THREAD;
    let fallback = Fallback {
        default,
        newer: newer_action(default)?,
        foreign,
    };
    let listed = profile.architectures().as_deref().unwrap_or_default();
    let mut resolver = Resolver::new(machine, listed, &rules, fallback);
    let mut families: Vec<(u32, Verdicts)> = Vec::with_capacity(machine.families.len());
    for family in machine.families {
        if let Some(verdicts) = resolver.family(family).context("seccomp")? {
            families.push((family.audit, verdicts));
        }
    }
    let unknown = resolver.unknown().map(str::to_owned).collect();
    let mut warnings = resolver.warnings;

    let program = emit::program(&families, default, foreign);
    ensure!(
        program.len() <= LARGEST_PROGRAM,
        "seccomp: the profile needs {} instructions, and the kernel takes {LARGEST_PROGRAM}: \
         use fewer conditions on arguments",
        program.len()
    );
    let needs_listener = notifies(default) || rules.iter().any(|rule| notifies(rule.action));
    Ok(Compiled {
        program,
        flags: flags(profile, needs_listener, &mut warnings)?,
        needs_listener,
        warnings,
        unknown,
    })
}

/// The action for calls that are newer than the profile.
fn newer_action(default: u32) -> Result<u32> {
    Ok(match default & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ALLOW
        | libc::SECCOMP_RET_LOG
        | libc::SECCOMP_RET_TRACE
        | libc::SECCOMP_RET_USER_NOTIF => default,
        _ => libc::SECCOMP_RET_ERRNO | u32::try_from(Errno::ENOSYS as i32)?,
    })
}

fn notifies(action: u32) -> bool {
    action == libc::SECCOMP_RET_USER_NOTIF
}

/// `SECCOMP_FILTER_FLAG_*` of a profile, made to fit together (seccomp(2)).
fn flags(profile: &LinuxSeccomp, needs_listener: bool, warnings: &mut Vec<String>) -> Result<u32> {
    use LinuxSeccompFilterFlag as Flag;
    let mut flags = match profile.flags() {
        None => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        Some(listed) => listed.iter().fold(0, |flags, flag| {
            flags
                | match flag {
                    Flag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
                    Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
                    Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                    Flag::SeccompFilterFlagWaitKillableRecv => {
                        libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
                    }
                }
        }),
    };
    if needs_listener {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // The call's result is the listener, so it cannot be the thread that did not synchronize.
        if flags & libc::SECCOMP_FILTER_FLAG_TSYNC != 0 {
            flags |= libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        }
    } else if flags & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 {
        flags &= !libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        warnings.push(
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV without SCMP_ACT_NOTIFY: nobody is waited for"
                .to_owned(),
        );
    }
    u32::try_from(flags).context("seccomp flags")
}
