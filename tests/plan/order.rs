//! The rules of the order, each as a sentence, over every plan that there is a configuration for.

use seedpod::plan::Plan;
use seedpod::plan::op::{Op, Open};
use seedpod::spec::namespaces::Kind;

use super::{configuration, create, example, exec, sandbox, with_seccomp};

/// Every plan of `create`, with its name.
fn creates() -> Vec<(&'static str, Plan)> {
    let plain = ["user-namespace", "shared-pid", "terminal", "time-namespace"];
    let mut plans: Vec<_> = plain
        .into_iter()
        .map(|name| (name, create(&configuration(name))))
        .collect();
    for name in ["containerd", "pod-container"] {
        plans.push((name, create(&with_seccomp(configuration(name)))));
    }
    plans.push(("example", create(&example())));
    plans.push(("sandbox", sandbox(&configuration("sandbox"))));
    plans
}

fn execs() -> Vec<(&'static str, Plan)> {
    ["containerd", "pod-container", "terminal", "shared-pid"]
        .into_iter()
        .map(|name| (name, exec(&with_seccomp(configuration(name)), false)))
        .collect()
}

fn all() -> Vec<(&'static str, Plan)> {
    creates().into_iter().chain(execs()).collect()
}

/// Where the operations are that `wanted` picks.
fn places(plan: &Plan, wanted: impl Fn(&Op) -> bool) -> Vec<usize> {
    let ops = plan.ops.iter().enumerate();
    ops.filter(|(_, op)| wanted(op)).map(|(at, _)| at).collect()
}

/// Where the one operation is that `wanted` picks.
#[track_caller]
fn place(plan: &Plan, wanted: impl Fn(&Op) -> bool) -> usize {
    match places(plan, wanted)[..] {
        [at] => at,
        ref other => panic!("one is expected, there are {other:?}"),
    }
}

fn text(plan: &Plan, at: usize) -> String {
    plan.ops[at].to_string()
}

/// Whether the operation walks a path of the container.
fn resolves(op: &Op) -> bool {
    matches!(
        op,
        Op::Attach { .. }
            | Op::SetPropagation { .. }
            | Op::SetAttributes { .. }
            | Op::MakeNode { .. }
            | Op::MakeSymlink { .. }
            | Op::OpenTerminal { .. }
            | Op::AttachConsole { .. }
            | Op::MaskPath { .. }
            | Op::ReadonlyPath { .. }
            | Op::MakeDirectory { .. }
            | Op::FindHome { .. }
            | Op::CheckProgram
            | Op::ChangeDirectory { .. }
            | Op::Execute(_)
    )
}

#[test]
fn nothing_of_the_container_is_resolved_before_the_hosts_mounts_are_detached() {
    for (name, plan) in creates() {
        let detached = place(&plan, |op| matches!(op, Op::DetachHost));
        for at in places(&plan, resolves) {
            assert!(at > detached, "{name}: {}", text(&plan, at));
        }
    }
    for (name, plan) in execs() {
        // There the container's mount namespace is the way in.
        let joined = place(
            &plan,
            |op| matches!(op, Op::JoinProcess { flags, .. } if flags & Kind::Mount.flag() != 0),
        );
        for at in places(&plan, resolves) {
            assert!(at > joined, "{name}: {}", text(&plan, at));
        }
    }
}

#[test]
fn host_is_left_in_three_steps_with_nothing_between() {
    for (name, plan) in creates() {
        let root = place(&plan, |op| matches!(op, Op::AttachRoot { .. }));
        assert_eq!(
            place(&plan, |op| matches!(op, Op::PivotRoot)),
            root + 1,
            "{name}"
        );
        assert_eq!(
            place(&plan, |op| matches!(op, Op::DetachHost)),
            root + 2,
            "{name}"
        );
    }
}

#[test]
fn every_new_file_system_is_made_while_the_hosts_can_still_be_seen() {
    for (name, plan) in creates() {
        let root = place(&plan, |op| matches!(op, Op::AttachRoot { .. }));
        for at in places(&plan, |op| matches!(op, Op::NewFileSystem(_))) {
            assert!(at < root, "{name}: {}", text(&plan, at));
        }
    }
}

#[test]
fn mounts_are_private_before_any_is_made() {
    for (name, plan) in creates() {
        let private = place(&plan, |op| matches!(op, Op::MakeMountsPrivate));
        for at in places(&plan, |op| {
            matches!(op, Op::NewFileSystem(_) | Op::AttachRoot { .. })
        }) {
            assert!(at > private, "{name}: {}", text(&plan, at));
        }
    }
}

#[test]
fn no_copy_of_a_host_mount_is_shared_unless_it_is_asked_for() {
    const SHARED: u64 = 1 << 20;
    for (name, plan) in creates() {
        for open in &plan.open {
            if let Open::Tree(tree) = open {
                assert_eq!(tree.propagation.flag & SHARED, 0, "{name}: {tree}");
            }
        }
    }
}

#[test]
fn seccomp_is_last_with_no_new_privs() {
    for (name, plan) in all() {
        let filters = places(&plan, |op| matches!(op, Op::LoadSeccomp { .. }));
        let privileges = places(&plan, |op| matches!(op, Op::NoNewPrivileges));
        let (Some(&filter), Some(&no_new)) = (filters.first(), privileges.first()) else {
            continue;
        };
        assert_eq!(
            filter,
            plan.ops.len() - 2,
            "{name}: only execve comes behind it"
        );
        assert_eq!(no_new, filter - 1, "{name}");
    }
}

#[test]
fn seccomp_without_no_new_privs_comes_before_the_capability_that_it_needs_is_dropped() {
    let mut seen = 0;
    for (name, plan) in all() {
        let filters = places(&plan, |op| matches!(op, Op::LoadSeccomp { .. }));
        let privileges = places(&plan, |op| matches!(op, Op::NoNewPrivileges));
        if let (Some(&filter), true) = (filters.first(), privileges.is_empty()) {
            let dropped = place(&plan, |op| matches!(op, Op::SetCapabilities { .. }));
            assert!(filter < dropped, "{name}");
            let user = place(&plan, |op| matches!(op, Op::SetUid { .. }));
            assert!(user < filter, "{name}: a filter need not allow setuid");
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn sysctls_come_before_read_only_proc_sys() {
    let plan = create(&configuration("containerd"));
    let settings = places(&plan, |op| matches!(op, Op::SetSysctl { .. }));
    let sys = place(
        &plan,
        |op| matches!(op, Op::ReadonlyPath { path } if path.as_c_str() == c"/proc/sys"),
    );
    assert_eq!(settings.len(), 2);
    assert!(settings.into_iter().all(|at| at < sys));
}

#[test]
fn masks_come_after_every_mount() {
    for (name, plan) in creates() {
        let Some(&first) = places(&plan, |op| matches!(op, Op::MaskPath { .. })).first() else {
            continue;
        };
        let mounts = |op: &Op| matches!(op, Op::Attach { .. } | Op::ReadonlyPath { .. });
        for at in places(&plan, mounts) {
            assert!(at < first, "{name}: {}", text(&plan, at));
        }
    }
}

#[test]
fn root_becomes_read_only_after_the_last_thing_that_is_made_in_it() {
    for (name, plan) in creates() {
        let read_only = places(
            &plan,
            |op| matches!(op, Op::SetAttributes { target, .. } if target.as_c_str() == c"/"),
        );
        let makes = |op: &Op| {
            matches!(
                op,
                Op::Attach { .. }
                    | Op::MakeNode { .. }
                    | Op::MakeSymlink { .. }
                    | Op::MakeDirectory { .. }
                    | Op::AttachConsole { .. }
            )
        };
        for at in places(&plan, makes) {
            assert!(
                read_only.iter().all(|last| at < *last),
                "{name}: {}",
                text(&plan, at)
            );
        }
    }
}

#[test]
fn nothing_is_done_with_the_users_rights_but_what_must() {
    for (name, plan) in all() {
        let order = [
            place(&plan, |op| matches!(op, Op::LimitBounding { .. })),
            place(&plan, |op| matches!(op, Op::SetGroups { .. })),
            place(&plan, |op| matches!(op, Op::SetGid { .. })),
            place(&plan, |op| matches!(op, Op::SetUid { .. })),
            place(&plan, |op| matches!(op, Op::SetCapabilities { .. })),
            place(&plan, |op| matches!(op, Op::SetAmbient { .. })),
        ];
        assert!(order.is_sorted(), "{name}: {order:?}");
        let last = *order.last().unwrap();
        let user = order[3];
        for at in places(&plan, |op| resolves(op) && !matches!(op, Op::Execute(_))) {
            assert!(at < user, "{name}: {}", text(&plan, at));
        }
        assert!(last < plan.ops.len() - 1, "{name}");
    }
}

#[test]
fn descriptors_are_closed_before_the_program_and_after_the_last_that_is_taken() {
    for (name, plan) in all() {
        let close = place(&plan, |op| matches!(op, Op::CloseOnExec { .. }));
        let takes = |op: &Op| {
            matches!(
                op,
                Op::UseStream { .. } | Op::UseTerminal { .. } | Op::AwaitStart { .. }
            )
        };
        for at in places(&plan, takes) {
            assert!(at < close, "{name}: {}", text(&plan, at));
        }
    }
}

#[test]
fn execve_is_the_last_and_the_only_one() {
    for (name, plan) in all() {
        let execute = place(&plan, |op| matches!(op, Op::Execute(_)));
        assert_eq!(execute, plan.ops.len() - 1, "{name}");
    }
}

#[test]
fn child_waits_for_its_maps_and_limits_before_it_makes_anything() {
    for (name, plan) in all() {
        let go = place(&plan, |op| matches!(op, Op::AwaitGo));
        if plan.has_stage() {
            let clone = place(&plan, |op| matches!(op, Op::CloneChild { .. }));
            assert_eq!(go, clone + 1, "{name}: the first step of the child itself");
        } else {
            assert_eq!(go, 0, "{name}");
        }
    }
}

#[test]
fn user_namespace_is_joined_after_all_that_the_host_owns() {
    let plan = create(&configuration("pod-container"));
    let user = place(
        &plan,
        |op| matches!(op, Op::JoinNamespace { kind, .. } if *kind == Kind::User),
    );
    let others = places(
        &plan,
        |op| matches!(op, Op::JoinNamespace { kind, .. } if *kind != Kind::User),
    );
    assert_eq!(others.len(), 3);
    assert!(others.into_iter().all(|at| at < user));
    assert_eq!(place(&plan, |op| matches!(op, Op::JoinRemaining)), user + 1);
    assert_eq!(
        place(&plan, |op| matches!(op, Op::CheckIdMaps { .. })),
        user + 2
    );
}

#[test]
fn cgroup_namespace_is_made_in_the_containers_cgroup_by_the_child() {
    for (name, plan) in creates() {
        assert_eq!(plan.clone_flags & Kind::Cgroup.flag(), 0, "{name}");
        let flags: u64 = plan
            .ops
            .iter()
            .map(|op| match op {
                Op::CloneChild { flags } => *flags & Kind::Cgroup.flag(),
                _ => 0,
            })
            .sum();
        assert_eq!(flags, 0, "{name}");
    }
}

#[test]
fn devices_of_a_user_namespace_are_the_hosts_and_never_made() {
    for name in ["user-namespace", "pod-container"] {
        let plan = create(&configuration(name));
        assert_eq!(
            places(&plan, |op| matches!(op, Op::MakeNode { .. })),
            [0; 0]
        );
        let nodes = plan
            .open
            .iter()
            .filter(|it| matches!(it, Open::Node { .. }));
        assert!(nodes.count() >= 6, "{name}");
    }
}

#[test]
fn sandbox_opens_nothing_of_the_host_but_its_proc() {
    let plan = sandbox(&configuration("sandbox"));
    for open in &plan.open {
        assert!(
            matches!(open, Open::Proc { .. } | Open::Given { .. }),
            "{open}"
        );
    }
}

#[test]
fn plan_of_the_same_configuration_is_the_same() {
    for name in ["containerd", "pod-container"] {
        let config = with_seccomp(configuration(name));
        let text = |plan: &Plan| seedpod::plan::explain::explain(plan);
        assert_eq!(text(&create(&config)), text(&create(&config)));
    }
}
