//! Each action and operator by the interpreter alone, and what is refused.

use super::interpreter::{Call, run};
use super::*;

const X86_64_CALLS: u32 = 0xc000_003e;
const I386_CALLS: u32 = 0x4000_0003;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn compiled(json: &str) -> Compiled {
    compile_for(&X86_64, &profile(json)).unwrap()
}

fn refusal(json: &str) -> String {
    format!("{:#}", compile_for(&X86_64, &profile(json)).unwrap_err())
}

fn verdict(compiled: &Compiled, architecture: u32, number: u32, arguments: &[u64]) -> u32 {
    let mut call = Call {
        number,
        architecture,
        ..Call::default()
    };
    call.arguments[..arguments.len()].copy_from_slice(arguments);
    run(&compiled.program, &call).unwrap().0
}

/// The verdict of write(2) on x86_64.
fn write(compiled: &Compiled, arguments: &[u64]) -> u32 {
    verdict(compiled, X86_64_CALLS, 1, arguments)
}

fn with_argument(op: &str, value: u64, two: u64) -> Compiled {
    compiled(&format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["write"],
        "action":"SCMP_ACT_ALLOW",
        "args":[{{"index":2,"op":"{op}","value":{value},"valueTwo":{two}}}]}}]}}"#
    ))
}

#[test]
fn every_action_has_the_kernels_value() {
    for (action, errno, value) in [
        ("KILL", "", libc::SECCOMP_RET_KILL_THREAD),
        ("KILL_THREAD", "", libc::SECCOMP_RET_KILL_THREAD),
        ("KILL_PROCESS", "", libc::SECCOMP_RET_KILL_PROCESS),
        ("TRAP", "", libc::SECCOMP_RET_TRAP),
        ("ERRNO", "", EPERM),
        (
            "ERRNO",
            r#","errnoRet":4095"#,
            libc::SECCOMP_RET_ERRNO | 4095,
        ),
        ("TRACE", "", libc::SECCOMP_RET_TRACE | 1),
        (
            "TRACE",
            r#","errnoRet":65535"#,
            libc::SECCOMP_RET_TRACE | 0xffff,
        ),
        ("LOG", "", libc::SECCOMP_RET_LOG),
        ("NOTIFY", "", libc::SECCOMP_RET_USER_NOTIF),
        ("ALLOW", "", ALLOW),
    ] {
        let compiled = compiled(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":99,"syscalls":[
            {{"names":["write"],"action":"SCMP_ACT_{action}"{errno}}}]}}"#
        ));
        assert_eq!(write(&compiled, &[]), value, "{action}");
        assert_eq!(compiled.needs_listener, action == "NOTIFY");
        assert_eq!(
            verdict(&compiled, X86_64_CALLS, 0, &[]),
            libc::SECCOMP_RET_ERRNO | 99
        );
    }
}

#[test]
fn every_operator_compares_all_64_bits() {
    let value = 0x2_0000_0005;
    let near = [
        0,
        4,
        5,
        6,
        value - 1,
        value,
        value + 1,
        0x1_0000_0009,
        0x3_0000_0000,
        u64::MAX,
    ];
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("SCMP_CMP_EQ", |a, b| a == b),
        ("SCMP_CMP_NE", |a, b| a != b),
        ("SCMP_CMP_LT", |a, b| a < b),
        ("SCMP_CMP_LE", |a, b| a <= b),
        ("SCMP_CMP_GT", |a, b| a > b),
        ("SCMP_CMP_GE", |a, b| a >= b),
    ];
    for (name, holds) in operators {
        let compiled = with_argument(name, value, 0);
        for argument in near {
            let wanted = if holds(argument, value) { ALLOW } else { EPERM };
            assert_eq!(
                write(&compiled, &[0, 0, argument]),
                wanted,
                "{argument:#x} {name}"
            );
        }
    }
}

#[test]
fn masked_comparison_looks_at_the_masks_bits_only() {
    let compiled = with_argument("SCMP_CMP_MASKED_EQ", 0xf000_0000_00f0, 0x1000_0000_0020);
    for (argument, wanted) in [
        (0x1000_0000_0020, ALLOW),
        (0xffff_1fff_ffff_ff2f, ALLOW),
        (0x1000_0000_0030, EPERM),
        (0x2000_0000_0020, EPERM),
        (0x20, EPERM),
    ] {
        assert_eq!(write(&compiled, &[0, 0, argument]), wanted, "{argument:#x}");
    }
}

#[test]
fn conditions_on_different_arguments_must_all_hold() {
    let compiled = compiled(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["write"],
        "action":"SCMP_ACT_ALLOW","args":[{"index":0,"op":"SCMP_CMP_EQ","value":1},
        {"index":2,"op":"SCMP_CMP_LT","value":10}]}]}"#,
    );
    assert_eq!(write(&compiled, &[1, 0, 9]), ALLOW);
    assert_eq!(write(&compiled, &[1, 0, 10]), EPERM);
    assert_eq!(write(&compiled, &[2, 0, 9]), EPERM);
}

#[test]
fn conditions_on_one_argument_stand_alone() {
    let compiled = compiled(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["write"],
        "action":"SCMP_ACT_ALLOW","args":[{"index":0,"op":"SCMP_CMP_EQ","value":1},
        {"index":0,"op":"SCMP_CMP_EQ","value":2},{"index":1,"op":"SCMP_CMP_EQ","value":7}]}]}"#,
    );
    for arguments in [[1, 0], [2, 0], [0, 7]] {
        assert_eq!(write(&compiled, &arguments), ALLOW);
    }
    assert_eq!(write(&compiled, &[3, 3]), EPERM);
}

#[test]
fn first_rule_without_conditions_decides() {
    let compiled = compiled(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"names":["write"],"action":"SCMP_ACT_LOG",
         "args":[{"index":0,"op":"SCMP_CMP_EQ","value":1}]},
        {"names":["write"],"action":"SCMP_ACT_ALLOW"},
        {"names":["write"],"action":"SCMP_ACT_TRAP"}]}"#,
    );
    assert_eq!(write(&compiled, &[1]), ALLOW);
    assert_eq!(write(&compiled, &[2]), ALLOW);
}

#[test]
fn rule_with_the_default_action_changes_nothing() {
    let compiled = compiled(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"names":["write"],"action":"SCMP_ACT_ERRNO","errnoRet":1},
        {"names":["write"],"action":"SCMP_ACT_ALLOW"}]}"#,
    );
    assert_eq!(write(&compiled, &[]), ALLOW);
}

#[test]
fn rules_that_contradict_each_other_are_refused() {
    let text = refusal(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"names":["write"],"action":"SCMP_ACT_LOG",
         "args":[{"index":0,"op":"SCMP_CMP_EQ","value":1}]},
        {"names":["write"],"action":"SCMP_ACT_ALLOW",
         "args":[{"index":0,"op":"SCMP_CMP_EQ","value":1}]}]}"#,
    );
    assert!(text.contains("write: SCMP_ACT_ALLOW"), "{text}");
    assert!(text.contains("contradict"), "{text}");
}

#[test]
fn rule_behind_a_wider_one_gives_a_warning() {
    let compiled = compiled(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"names":["write"],"action":"SCMP_ACT_LOG",
         "args":[{"index":0,"op":"SCMP_CMP_EQ","value":1}]},
        {"names":["write"],"action":"SCMP_ACT_ALLOW",
         "args":[{"index":0,"op":"SCMP_CMP_EQ","value":1},
                 {"index":1,"op":"SCMP_CMP_EQ","value":2}]}]}"#,
    );
    assert_eq!(write(&compiled, &[1, 2]), libc::SECCOMP_RET_LOG);
    assert_eq!(compiled.warnings.len(), 1, "{:?}", compiled.warnings);
}

#[test]
fn calls_newer_than_the_profile_return_enosys() {
    let compiled = compiled(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
        {"names":["read","openat2"],"action":"SCMP_ACT_ALLOW"}]}"#,
    );
    for architecture in [X86_64_CALLS, I386_CALLS] {
        assert_eq!(verdict(&compiled, architecture, 436, &[]), EPERM);
        assert_eq!(verdict(&compiled, architecture, 437, &[]), ALLOW);
        assert_eq!(verdict(&compiled, architecture, 438, &[]), ENOSYS);
        assert_eq!(verdict(&compiled, architecture, u32::MAX, &[]), EPERM);
    }
    // x32 is not listed.
    assert_eq!(verdict(&compiled, X86_64_CALLS, 0x4000_0000, &[]), 0);
}

#[test]
fn calls_newer_than_the_profile_have_a_permissive_default_action() {
    for action in ["ALLOW", "LOG", "TRACE", "NOTIFY"] {
        let compiled = compiled(&format!(
            r#"{{"defaultAction":"SCMP_ACT_{action}","syscalls":[
            {{"names":["read"],"action":"SCMP_ACT_KILL"}}]}}"#
        ));
        let newest = verdict(&compiled, X86_64_CALLS, 460, &[]);
        assert_eq!(newest, write(&compiled, &[]), "{action}");
    }
}

#[test]
fn calls_of_another_architecture_kill_the_thread() {
    let compiled = compiled(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#);
    assert_eq!(write(&compiled, &[]), ALLOW);
    assert_eq!(
        verdict(&compiled, I386_CALLS, 4, &[]),
        libc::SECCOMP_RET_KILL_THREAD
    );
    assert_eq!(
        verdict(&compiled, 0xc000_00b7, 64, &[]),
        libc::SECCOMP_RET_KILL_THREAD
    );
}

#[test]
fn socket_rule_holds_for_socketcall_on_x86() {
    let compiled = compiled(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
        {"names":["connect","send","shmat"],"action":"SCMP_ACT_ALLOW"}]}"#,
    );
    for (number, first, wanted) in [
        (362, 0, ALLOW),
        (102, 3, ALLOW),
        (102, 9, ALLOW),
        (102, 4, EPERM),
        (117, 21, ALLOW),
        (117, 22, EPERM),
    ] {
        assert_eq!(
            verdict(&compiled, I386_CALLS, number, &[first]),
            wanted,
            "{number} {first}"
        );
    }
    assert!(compiled.unknown.is_empty(), "{:?}", compiled.unknown);
}

#[test]
fn unknown_names_are_skipped_and_told() {
    let compiled = compiled(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_MIPS"],"syscalls":[
        {"names":["no_such_call","write"],"action":"SCMP_ACT_ALLOW"}]}"#,
    );
    assert_eq!(write(&compiled, &[]), ALLOW);
    assert_eq!(compiled.unknown, ["no_such_call"]);
    assert!(compiled.warnings.is_empty());
}

#[test]
fn errno_for_an_action_that_takes_none_is_refused() {
    let text = refusal(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],
        "action":"SCMP_ACT_TRAP","errnoRet":5}]}"#,
    );
    assert_eq!(
        text,
        "seccomp: syscalls[0]: errnoRet: SCMP_ACT_TRAP takes no errno"
    );
    let text = refusal(r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":5}"#);
    assert_eq!(
        text,
        "seccomp: defaultErrnoRet: SCMP_ACT_ALLOW takes no errno"
    );
}

#[test]
fn values_out_of_range_are_refused() {
    for (rule, wanted) in [
        (
            r#""names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":4096"#,
            "4096 is more than",
        ),
        (r#""names":[],"action":"SCMP_ACT_ALLOW""#, "at least one"),
        (r#""names":[""],"action":"SCMP_ACT_ALLOW""#, "empty string"),
        (
            r#""names":["read"],"action":"SCMP_ACT_ALLOW",
            "args":[{"index":6,"op":"SCMP_CMP_EQ","value":0}]"#,
            "argument index 6",
        ),
    ] {
        let text = refusal(&format!(
            r#"{{"defaultAction":"SCMP_ACT_KILL","syscalls":[{{{rule}}}]}}"#
        ));
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn program_beyond_the_kernels_limit_is_refused() {
    let rules: Vec<String> = (0..1100)
        .map(|value| {
            format!(
                r#"{{"names":["write"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":0,"op":"SCMP_CMP_EQ","value":{value}}}]}}"#
            )
        })
        .collect();
    let json = |count: usize| {
        let rules = rules[..count].join(",");
        format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#)
    };
    assert!(refusal(&json(1100)).contains("the kernel takes 4096"));
    // Below the limit, far targets are reached through near ones.
    let compiled = compiled(&json(1000));
    assert_eq!(write(&compiled, &[999]), ALLOW);
    assert_eq!(write(&compiled, &[1000]), EPERM);
}

#[test]
fn flags_fit_together() {
    let flags = |json: &str| compiled(json).flags;
    let plain = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
    assert_eq!(
        u64::from(flags(plain)),
        libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
    );
    let none = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":[]}"#;
    assert_eq!(flags(none), 0);
    let notify = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    assert_eq!(
        u64::from(flags(notify)),
        libc::SECCOMP_FILTER_FLAG_TSYNC
            | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
            | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
            | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    );
    let lost = compiled(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
    );
    assert_eq!(u64::from(lost.flags), libc::SECCOMP_FILTER_FLAG_LOG);
    assert_eq!(lost.warnings.len(), 1);
}
