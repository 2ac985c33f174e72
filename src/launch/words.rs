//! A record of the child, and the plan that both hold, become an error for a person.

use nix::errno::Errno;

use crate::child::record::{Detail, Record};
use crate::error::Failure;
use crate::plan::Plan;
use crate::plan::op::{Op, Program, kinds};
use crate::spec::namespaces::Kind;

/// What failed, and why.
pub(super) fn failed(plan: &Plan, record: &Record) -> anyhow::Error {
    let step = usize::try_from(record.step).unwrap_or(usize::MAX);
    let errno = record.errno();
    let Some(op) = plan.ops.get(step) else {
        return Failure::new(format!("step {step} of the child"), errno).into();
    };
    if matches!(op, Op::CheckProgram | Op::Execute(Program::Args)) {
        return program(plan, errno);
    }
    let failure = Failure::new(what(op), errno);
    match hint(op, record) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
    .into()
}

fn what(op: &Op) -> String {
    match op {
        Op::NewFileSystem(new) => {
            format!("mount {} at {}", new.fstype.to_string_lossy(), new.purpose)
        }
        other => other.to_string(),
    }
}

/// The texts that callers search for: podman takes them for exit codes 126 and 127.
fn program(plan: &Plan, errno: Errno) -> anyhow::Error {
    let name = plan.strings.args.strings().first();
    let name = name
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    match errno {
        Errno::ENOENT if !name.contains('/') => {
            anyhow::anyhow!("exec {name}: executable file not found in $PATH")
        }
        Errno::ENOENT => anyhow::anyhow!("exec {name}: no such file or directory"),
        Errno::EACCES => anyhow::anyhow!("exec {name}: permission denied"),
        Errno::ENOEXEC => anyhow::anyhow!("exec {name}: exec format error"),
        errno => Failure::new(format!("exec {name}"), errno).into(),
    }
}

fn hint(op: &Op, record: &Record) -> Option<String> {
    let detail = match record.detail {
        Detail::None => None,
        Detail::Text => {
            let text = String::from_utf8_lossy(record.text());
            return Some(format!("the kernel says: {}", text.trim()));
        }
        Detail::MakeParent => Some("a directory on the way cannot be made in the container"),
        Detail::OpenTarget if record.errno() == Errno::ENOENT => {
            Some("the target leads through a symbolic link to nothing")
        }
        Detail::OpenTarget => Some("the target cannot be opened or made in the container"),
        Detail::Symlink => {
            Some("the target must be mounted on ordinary directory, and it is a symbolic link")
        }
        Detail::FileAndDirectory => {
            Some("one of source and target is a directory, the other is not")
        }
        Detail::Different => Some("something else is there already"),
        Detail::OtherMaps => Some("it has other id maps than the configuration"),
        Detail::OutsideRoot => Some("the working directory is outside the container's root"),
        Detail::NotDevpts => Some("a terminal needs a devpts mounted at /dev/pts"),
        Detail::EmptySlot => Some("the plan names a descriptor that was never opened"),
    };
    detail
        .or_else(|| hint_of_errno(op, record.errno()))
        .map(str::to_owned)
}

fn hint_of_errno(op: &Op, errno: Errno) -> Option<&'static str> {
    match (op, errno) {
        (Op::NewFileSystem(new), Errno::EPERM) => match new.fstype.to_bytes() {
            b"proc" => Some(
                "the user namespace must own the pid namespace, and a proc that is not masked must be \
                 visible (user_namespaces(7))",
            ),
            b"sysfs" => Some(
                "the user namespace must own the network namespace, and a sysfs that is not masked must \
                 be visible (user_namespaces(7))",
            ),
            b"mqueue" => Some("the user namespace must own the ipc namespace (user_namespaces(7))"),
            _ => None,
        },
        (Op::NewFileSystem(_), Errno::ENODEV) => Some("the kernel does not have this file system"),
        (Op::JoinNamespace { .. } | Op::JoinProcess { .. }, Errno::EPERM) => {
            Some("no CAP_SYS_ADMIN over it, or over the user namespace that owns it")
        }
        (Op::MakeNode { .. }, Errno::EPERM) => {
            Some("no CAP_MKNOD, or the file system does not take device nodes")
        }
        (Op::SetRlimit(_), Errno::EPERM) => Some("raising a hard limit needs CAP_SYS_RESOURCE"),
        (Op::SetSysctl { .. }, Errno::ENOENT) => Some("the kernel has no such setting"),
        (Op::SetSysctl { .. }, Errno::EINVAL) => Some("the kernel does not take this value"),
        (Op::SetUid { .. } | Op::SetGid { .. } | Op::SetGroups { .. }, Errno::EINVAL) => {
            Some("the user namespace does not map this id")
        }
        (Op::ChangeDirectory { .. }, Errno::ENOTDIR) => Some("it is not a directory"),
        (Op::ChangeDirectory { .. }, Errno::ELOOP | Errno::EXDEV) => {
            Some("it leads out of the container")
        }
        (Op::LoadSeccomp { .. }, Errno::EINVAL) => Some("the kernel does not take this filter"),
        _ => None,
    }
}

/// Words for a clone3(2) that failed.
pub(super) fn clone(plan: &Plan, errno: Errno) -> Failure {
    let failure = Failure::new(
        format!(
            "clone a process, new namespaces: {}",
            kinds(plan.clone_flags)
        ),
        errno,
    );
    match errno {
        Errno::EPERM if plan.clone_flags & Kind::User.flag() == 0 => {
            failure.hint("new namespaces need CAP_SYS_ADMIN, or a user namespace")
        }
        Errno::ENOSPC => failure.hint("a limit of /proc/sys/user/max_*_namespaces is reached"),
        Errno::EAGAIN => failure.hint("a limit on processes is reached (pids.max, RLIMIT_NPROC)"),
        Errno::EBUSY => {
            failure.hint("the cgroup has controllers for its children, so it takes no process")
        }
        _ => failure,
    }
}
