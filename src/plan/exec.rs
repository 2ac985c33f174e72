//! The order in which a process joins a container that is there.

use std::ffi::CString;

use anyhow::Result;

use super::create::{become_user, filter, strings};
use super::op::{Op, Open, Program, Slot};
use super::{Grant, Plan, Slots};
use crate::spec::Container;
use crate::spec::namespaces::{Kind, Namespace};
use crate::spec::process::Process;

/// What a caller decides, besides the process.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Of the container; names the keyring.
    pub id: String,
    /// Standard streams are given by the caller, not inherited.
    pub own_streams: bool,
    /// Descriptors 3 to 3 + this stay open for the program.
    pub preserve_fds: u32,
}

/// The plan for `exec` of `process` in `container`.
///
/// # Errors
/// When the seccomp profile cannot be compiled.
pub fn plan(
    container: &Container,
    process: &Process,
    request: &Request,
    warnings: &mut Vec<String>,
) -> Result<Plan> {
    let mut slots = Slots::default();
    let mut open = Vec::new();
    let mut give = |slots: &mut Slots, name: &'static str| {
        let slot = slots.next();
        open.push(Open::Given { name, slot });
        slot
    };
    let namespaces = &container.namespaces;
    let own = |kind: Kind| *namespaces.get(kind) != Namespace::Host;
    let init = give(&mut slots, "the container's first process");
    // One setns(2) for all: the kernel checks each against the caller's credentials first, so a
    // namespace that another user namespace owns is no trouble.
    let flags = Kind::ALL
        .into_iter()
        .filter(|kind| own(*kind))
        .fold(0, |flags, kind| flags | kind.flag());
    let join = Op::JoinProcess { slot: init, flags };
    // A pid namespace is only for children. The child is cloned by a stage that has left the
    // host's mounts already: the container's processes see it from its first moment, and one with
    // CAP_SYS_PTRACE may look at the host through its /proc/PID/root otherwise.
    let stage = own(Kind::Pid);
    let mut ops = if stage {
        vec![join]
    } else {
        vec![Op::AwaitGo, join]
    };
    if namespaces.has_user() {
        ops.push(Op::BecomeRoot);
    }
    if stage {
        ops.push(Op::CloneChild { flags: 0 });
        ops.push(Op::AwaitGo);
    }
    ops.push(Op::NewSession);
    if let Ok(name) = CString::new(format!("_ses.{}", request.id)) {
        ops.push(Op::JoinKeyring { name });
    }
    if process.terminal {
        let slot = slots.next();
        open_terminal(&mut ops, slot, process);
    } else if request.own_streams {
        for (number, name) in [
            (0, "standard input"),
            (1, "standard output"),
            (2, "standard error"),
        ] {
            ops.push(Op::UseStream {
                slot: give(&mut slots, name),
                number,
            });
        }
    }
    if process.wants_home {
        ops.push(Op::FindHome {
            uid: process.user.uid,
        });
    }
    ops.push(Op::ChangeDirectory {
        path: process.cwd.clone(),
    });
    if let Some(persona) = container.personality {
        ops.push(Op::Personality { persona });
    }
    let filter = filter(container, warnings)?;
    become_user(&mut ops, process, request.preserve_fds, filter);
    ops.push(Op::Execute(Program::Args));
    Ok(Plan {
        open,
        cgroup: None,
        join_pid: None,
        new_time: None,
        clone_flags: 0,
        grant: Grant {
            maps: None,
            oom_score_adj: process.oom_score_adj,
            rlimits: process.rlimits.clone(),
        },
        ops,
        strings: strings(process),
        slots: slots.0,
    })
}

fn open_terminal(ops: &mut Vec<Op>, slot: Slot, process: &Process) {
    let (size, uid) = (process.console_size, process.user.uid);
    ops.push(Op::OpenTerminal { slot, size, uid });
    ops.push(Op::UseTerminal { slot });
}
