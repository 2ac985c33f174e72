//! Plans: everything that the kernel will be asked, in order, as data.
//!
//! [`create`] and [`exec`] are the only two orders there are; [`explain`] prints them. A plan is
//! made without input or output, so the same configuration gives the same plan everywhere, and a
//! golden test can hold it. `launch` executes what is the parent's, `child` what is the child's.

pub mod create;
pub mod exec;
pub mod explain;
pub mod op;

use crate::spec::namespaces::{IdMaps, TimeOffset};
use crate::spec::process::Rlimit;

use op::{Op, Open, Slot, Strings};

/// What is done to the cgroup before the child is born into it.
#[derive(Debug, Clone)]
pub struct CgroupPlan {
    /// Below the mount point of cgroup version 2, starting with `/`.
    pub path: String,
    /// Files and values, in this order.
    pub writes: Vec<crate::spec::cgroup::Write>,
    /// The host's user who owns what is delegated to the container.
    pub owner: Option<u32>,
    /// The device program, as instructions.
    pub devices: Vec<crate::cgroup::devices::Instruction>,
}

/// What the parent does after the clone and before `Go`.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// Of the new user namespace.
    pub maps: Option<IdMaps>,
    /// Written to /proc/PID/oom_score_adj.
    pub oom_score_adj: Option<i32>,
    /// Hard limits that may have to be raised, which needs the parent's capabilities.
    pub rlimits: Vec<Rlimit>,
}

/// A whole plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the parent opens, in order.
    pub open: Vec<Open>,
    /// The container's own cgroup; `exec` joins the one that is there.
    pub cgroup: Option<CgroupPlan>,
    /// A pid namespace that the parent joins for its children, around the clone.
    pub join_pid: Option<Slot>,
    /// A new time namespace that the parent makes for its children, around the clone.
    pub new_time: Option<Vec<TimeOffset>>,
    /// New namespaces of the first clone3.
    pub clone_flags: u64,
    /// Given by the parent between clone and `Go`.
    pub grant: Grant,
    /// What the child does. [`Op::CloneChild`] ends the stage, where there is one.
    pub ops: Vec<Op>,
    /// argv and environment of the program.
    pub strings: Strings,
    /// How many slots there are.
    pub slots: usize,
}

impl Plan {
    /// Whether a stage clones the child (see docs/architecture.md, Who runs what).
    pub fn has_stage(&self) -> bool {
        self.ops
            .iter()
            .any(|op| matches!(op, Op::CloneChild { .. }))
    }
}

/// Hands out slots.
#[derive(Debug, Default)]
struct Slots(usize);

impl Slots {
    fn next(&mut self) -> Slot {
        self.0 += 1;
        Slot(self.0 - 1)
    }
}
