//! What a profile's rules mean: actions as the kernel's values, conditions checked and brought to
//! one form, rules split as runc splits them.
//!
//! Source: runtime-spec config-linux.md, Seccomp; seccomp(2). Nothing here knows an architecture.

use anyhow::{Result, bail, ensure};
use nix::errno::Errno;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

/// A system call has six arguments.
pub(super) const ARGUMENTS: usize = 6;
/// The largest errno that a call can return (`MAX_ERRNO`); the kernel would cut a larger one.
const LARGEST_ERRNO: u32 = 4095;

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) operator: Operator,
    /// Applied to the argument first. All ones, but for a masked comparison.
    pub(super) mask: u64,
    /// Compared with; never has bits outside the mask.
    pub(super) value: u64,
}

/// How a masked argument is compared with the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    GreaterOrEqual,
    Greater,
}

impl Condition {
    /// The condition as a 32-bit architecture compares it, or as it is.
    pub(super) fn narrowed(mut self, wide: bool) -> Self {
        if !wide {
            self.mask &= u64::from(u32::MAX);
            self.value &= u64::from(u32::MAX);
        }
        self
    }

    /// Whether the condition holds for every argument: it looks at no bit.
    pub(super) fn is_empty(&self) -> bool {
        self.mask == 0
    }

    fn new(argument: &LinuxSeccompArg) -> Result<Self> {
        use LinuxSeccompOperator as Op;
        let Some(index) = u8::try_from(argument.index())
            .ok()
            .filter(|index| usize::from(*index) < ARGUMENTS)
        else {
            bail!(
                "argument index {}: a system call has arguments 0 to 5",
                argument.index()
            );
        };
        let (operator, mask, value) = match argument.op() {
            Op::ScmpCmpEq => (Operator::Equal, u64::MAX, argument.value()),
            Op::ScmpCmpNe => (Operator::NotEqual, u64::MAX, argument.value()),
            Op::ScmpCmpLt => (Operator::Less, u64::MAX, argument.value()),
            Op::ScmpCmpLe => (Operator::LessOrEqual, u64::MAX, argument.value()),
            Op::ScmpCmpGe => (Operator::GreaterOrEqual, u64::MAX, argument.value()),
            Op::ScmpCmpGt => (Operator::Greater, u64::MAX, argument.value()),
            Op::ScmpCmpMaskedEq => (
                Operator::Equal,
                argument.value(),
                argument.value_two().unwrap_or(0),
            ),
        };
        Ok(Self {
            argument: index,
            operator,
            mask,
            value: value & mask,
        })
    }
}

/// One entry of a profile's `syscalls`.
pub(super) struct Rule<'a> {
    pub(super) names: &'a [String],
    /// A `SECCOMP_RET_*` value with its data.
    pub(super) action: u32,
    /// Sets of conditions; the rule matches where all of one set hold. One empty set: always.
    pub(super) alternatives: Vec<Vec<Condition>>,
    /// The action is the profile's default: the rule changes no verdict, and only tells that the
    /// profile knows these calls.
    pub(super) redundant: bool,
}

/// The kernel's value of a profile's default action.
pub(super) fn default_action(profile: &LinuxSeccomp) -> Result<u32> {
    action_value(
        profile.default_action(),
        profile.default_errno_ret(),
        "defaultErrnoRet",
    )
}

/// The meaning of one rule.
pub(super) fn rule(syscall: &LinuxSyscall, default: u32) -> Result<Rule<'_>> {
    ensure!(
        !syscall.names().is_empty(),
        "names: at least one system call must be named"
    );
    ensure!(
        syscall.names().iter().all(|name| !name.is_empty()),
        "names: an empty string names no system call"
    );
    let action = action_value(syscall.action(), syscall.errno_ret(), "errnoRet")?;
    let conditions = syscall
        .args()
        .iter()
        .flatten()
        .map(Condition::new)
        .collect::<Result<Vec<_>>>()?;
    Ok(Rule {
        names: syscall.names(),
        action,
        alternatives: alternatives(conditions),
        redundant: action == default,
    })
}

/// Conditions on different arguments must all hold. Where two look at the same argument, every
/// condition stands alone: runc and crun do this for the sake of profiles that were written before
/// conditions were joined.
fn alternatives(mut conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    let mut seen = [false; ARGUMENTS];
    let repeated = conditions
        .iter()
        .any(|condition| std::mem::replace(&mut seen[usize::from(condition.argument)], true));
    if repeated {
        return conditions.into_iter().map(|one| vec![one]).collect();
    }
    conditions.sort_by_key(|condition| condition.argument);
    vec![conditions]
}

fn action_value(action: LinuxSeccompAction, errno: Option<u32>, key: &str) -> Result<u32> {
    use LinuxSeccompAction as Action;
    let largest = match action {
        Action::ScmpActErrno => LARGEST_ERRNO,
        Action::ScmpActTrace => u32::from(u16::MAX),
        Action::ScmpActKill
        | Action::ScmpActKillThread
        | Action::ScmpActKillProcess
        | Action::ScmpActTrap
        | Action::ScmpActNotify
        | Action::ScmpActLog
        | Action::ScmpActAllow => {
            ensure!(errno.is_none(), "{key}: {action} takes no errno");
            return Ok(match action {
                Action::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
                Action::ScmpActTrap => libc::SECCOMP_RET_TRAP,
                Action::ScmpActNotify => libc::SECCOMP_RET_USER_NOTIF,
                Action::ScmpActLog => libc::SECCOMP_RET_LOG,
                Action::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
                _ => libc::SECCOMP_RET_KILL_THREAD,
            });
        }
    };
    let data = errno.unwrap_or(u32::try_from(Errno::EPERM as i32)?);
    ensure!(
        data <= largest,
        "{key}: {data} is more than {action} can return ({largest})"
    );
    Ok(match action {
        Action::ScmpActErrno => libc::SECCOMP_RET_ERRNO | data,
        _ => libc::SECCOMP_RET_TRACE | data,
    })
}

/// An action by the name that a profile gives it, for messages.
pub(super) fn action_name(value: u32) -> &'static str {
    match value & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_KILL_PROCESS => "SCMP_ACT_KILL_PROCESS",
        libc::SECCOMP_RET_TRAP => "SCMP_ACT_TRAP",
        libc::SECCOMP_RET_ERRNO => "SCMP_ACT_ERRNO",
        libc::SECCOMP_RET_USER_NOTIF => "SCMP_ACT_NOTIFY",
        libc::SECCOMP_RET_TRACE => "SCMP_ACT_TRACE",
        libc::SECCOMP_RET_LOG => "SCMP_ACT_LOG",
        libc::SECCOMP_RET_ALLOW => "SCMP_ACT_ALLOW",
        _ => "SCMP_ACT_KILL_THREAD",
    }
}
