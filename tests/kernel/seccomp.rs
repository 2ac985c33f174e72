//! Seccomp: verdicts as seen from inside, and the order with privileges.

use serde_json::{Value, json};

use crate::fixture::{Bundle, field};
use crate::runner::Test;
use crate::{require, tests};

pub const TESTS: &[Test] = tests![
    seccomp_filter_returns_eperm,
    seccomp_errno_is_the_one_that_was_given,
    seccomp_argument_conditions_hold,
    seccomp_allow_list_refuses_the_rest,
    seccomp_kill_ends_the_process,
    seccomp_unknown_names_are_skipped,
    seccomp_unknown_action_is_an_error,
    seccomp_works_without_no_new_privs,
    seccomp_reaches_exec_too,
    seccomp_32_bit_calls_do_not_slip_through,
    seccomp_default_errno_is_applied,
];

fn filter(default: &str, rules: Value) -> Value {
    json!({
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    })
}

fn deny_mkdir(errno: Value) -> Value {
    let mut rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" });
    if !errno.is_null() {
        rule["errnoRet"] = errno;
    }
    filter("SCMP_ACT_ALLOW", json!([rule]))
}

fn seccomp_filter_returns_eperm() {
    let seen = Bundle::sh("mkdir /x 2>&1; touch /y; grep Seccomp: /proc/self/status")
        .set("/linux/seccomp", deny_mkdir(Value::Null))
        .stdout();
    assert!(seen.contains("Operation not permitted"), "{seen}");
    assert_eq!(field(&seen, "Seccomp"), "2");
}

fn seccomp_errno_is_the_one_that_was_given() {
    let seen = Bundle::sh("mkdir /x 2>&1; true")
        .set("/linux/seccomp", deny_mkdir(json!(28)))
        .stdout();
    assert!(seen.contains("No space left on device"), "{seen}");
}

fn seccomp_argument_conditions_hold() {
    // kill(pid, 10) is refused, kill(pid, 0) is not.
    let rule = json!({
        "names": ["kill"], "action": "SCMP_ACT_ERRNO",
        "args": [{ "index": 1, "value": 10, "op": "SCMP_CMP_EQ" }]
    });
    let seen = Bundle::sh("kill -0 1 && echo fine; kill -10 1 2>&1; true")
        .set("/linux/seccomp", filter("SCMP_ACT_ALLOW", json!([rule])))
        .stdout();
    assert!(seen.starts_with("fine"), "{seen}");
    assert!(seen.contains("not permitted"), "{seen}");
}

/// What a static shell and mkdir need, without mkdir(2) itself.
const CALLS_OF_A_SHELL: &str = "
    access arch_prctl brk capget capset chdir clone close close_range dup2 dup3
    epoll_create1 epoll_ctl epoll_pwait execve exit exit_group fchdir fcntl fstat fstatfs
    futex getcwd getdents64 getegid geteuid getgid getpgrp getpid getppid getrandom gettid
    getuid ioctl lseek lstat mmap mprotect munmap nanosleep newfstatat open openat openat2
    pipe2 poll prctl pread64 prlimit64 read readlink readlinkat rseq rt_sigaction
    rt_sigprocmask rt_sigreturn sched_yield sendmsg set_robust_list set_tid_address setgid
    setgroups setresgid setresuid setuid sigaltstack stat statfs statx tgkill umask uname
    unlinkat wait4 write writev
";

fn seccomp_allow_list_refuses_the_rest() {
    let names: Vec<&str> = CALLS_OF_A_SHELL.split_whitespace().collect();
    let rule = json!({ "names": names, "action": "SCMP_ACT_ALLOW" });
    let seen = Bundle::sh("echo alive; mkdir /x 2>&1; true")
        .set("/linux/seccomp", filter("SCMP_ACT_ERRNO", json!([rule])))
        .stdout();
    assert!(seen.starts_with("alive"), "{seen}");
    assert!(seen.contains("Operation not permitted"), "{seen}");
}

fn seccomp_kill_ends_the_process() {
    let rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" });
    let seen = Bundle::sh("mkdir /x; echo $?")
        .set("/linux/seccomp", filter("SCMP_ACT_ALLOW", json!([rule])))
        .stdout();
    // 128 + SIGSYS
    assert!(seen.ends_with("159"), "{seen}");
}

fn seccomp_unknown_names_are_skipped() {
    let rule = json!({ "names": ["no_such_call", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" });
    let seen = Bundle::sh("mkdir /x 2>&1; true")
        .set("/linux/seccomp", filter("SCMP_ACT_ALLOW", json!([rule])))
        .stdout();
    assert!(seen.contains("Operation not permitted"), "{seen}");
}

fn seccomp_unknown_action_is_an_error() {
    let rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_NONSENSE" });
    Bundle::sleeper()
        .set("/linux/seccomp", filter("SCMP_ACT_ALLOW", json!([rule])))
        .create_err();
}

fn seccomp_works_without_no_new_privs() {
    let seen = Bundle::sh("mkdir /x 2>&1; cat /proc/self/status")
        .set("/process/noNewPrivileges", false)
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .set("/process/capabilities", json!({}))
        .set("/linux/seccomp", deny_mkdir(json!(28)))
        .stdout();
    assert!(seen.contains("No space left on device"), "{seen}");
    assert_eq!(field(&seen, "NoNewPrivs"), "0");
}

fn seccomp_reaches_exec_too() {
    let container = Bundle::sleeper()
        .set("/linux/seccomp", deny_mkdir(Value::Null))
        .start();
    let output = container.exec(&["mkdir", "/x"]);
    assert!(
        output.stderr.contains("Operation not permitted"),
        "{output:?}"
    );
    assert!(!container.bundle.rootfs("x").exists());
}

/// A filter for x86_64 alone must not let the other tables of the same kernel through: with only
/// that architecture named, a foreign call ends the process.
fn seccomp_32_bit_calls_do_not_slip_through() {
    require!(program("gcc"), ia32);
    let bundle = Bundle::busybox().args(&["/call32"]);
    let source = bundle.dir().join("call32.c");
    // mkdir(2) is 39 in the 32 bit table.
    let text = "int main(void) { static const char p[] = \"/x\"; int r; __asm__ volatile(\"int $0x80\" \
                : \"=a\"(r) : \"a\"(39), \"b\"(p), \"c\"(0755) : \"memory\"); return r == -1 ? 1 : r != 0 ? 2 : 0; }";
    std::fs::write(&source, text).unwrap();
    let built = std::process::Command::new("gcc")
        .args(["-static", "-no-pie", "-O1", "-o"])
        .arg(bundle.rootfs("call32"))
        .arg(&source)
        .status()
        .unwrap();
    assert!(built.success());
    let output = bundle.set("/linux/seccomp", deny_mkdir(Value::Null)).run();
    assert_ne!(output.code, 0, "{output:?}");
    assert!(!std::fs::exists(source.parent().unwrap().join("rootfs/x")).unwrap());
}

fn seccomp_default_errno_is_applied() {
    let mut all = deny_mkdir(Value::Null);
    all["defaultErrnoRet"] = json!(38);
    all["defaultAction"] = json!("SCMP_ACT_ALLOW");
    // A default errno next to a default action that takes none is an error or is ignored, never
    // another verdict.
    let output = Bundle::sh("mkdir /x 2>&1; true")
        .set("/linux/seccomp", all)
        .run();
    assert!(
        output.code != 0 || output.stdout.contains("Operation not permitted"),
        "{output:?}"
    );
}
