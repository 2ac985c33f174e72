//! Who the process is: user, groups, capabilities, limits, environment, working directory.

use std::fs;

use serde_json::json;

use crate::fixture::{Bundle, field};
use crate::runner::Test;
use crate::{require, tests};

pub const TESTS: &[Test] = tests![
    cwd_env_user_are_applied,
    additional_groups_are_exact,
    umask_is_applied,
    home_comes_from_the_containers_passwd,
    home_that_is_given_stays,
    path_of_the_container_finds_the_program,
    cwd_that_is_missing_is_made_or_refused,
    relative_cwd_is_refused,
    empty_args_are_refused,
    capability_sets_are_exact,
    capabilities_are_empty_when_none_are_given,
    user_without_ambient_capabilities_has_none,
    ambient_capability_reaches_an_ordinary_user,
    no_new_privs_is_set,
    no_new_privs_is_absent_when_not_asked,
    rlimit_is_set,
    rlimit_of_an_unknown_type_is_refused,
    rlimit_twice_is_refused,
    oom_score_adj_is_set,
    oom_score_adj_can_be_lowered,
    no_descriptor_of_the_runtime_leaks,
    signals_are_at_their_defaults,
    personality_is_applied,
    uid_beyond_31_bits_does_not_become_root,
];

fn cwd_env_user_are_applied() {
    let bundle = Bundle::sh("pwd; id -u; id -g; echo $COLOUR")
        .set("/process/cwd", "/tmp")
        .push("/process/env", "COLOUR=green blue")
        .set("/process/user", json!({ "uid": 1000, "gid": 1001 }));
    assert_eq!(bundle.stdout(), "/tmp\n1000\n1001\ngreen blue");
}

fn additional_groups_are_exact() {
    let seen = Bundle::sh("cat /proc/self/status")
        .set(
            "/process/user",
            json!({ "uid": 1000, "gid": 1000, "additionalGids": [5, 77] }),
        )
        .stdout();
    let mut groups: Vec<u32> = field(&seen, "Groups")
        .split(' ')
        .map(|group| group.parse().unwrap())
        .collect();
    groups.retain(|group| *group != 1000);
    assert_eq!(groups, [5, 77]);
    let seen = Bundle::sh("cat /proc/self/status").stdout();
    assert!(
        ["", "0"].contains(&field(&seen, "Groups").as_str()),
        "{seen}"
    );
}

fn umask_is_applied() {
    let seen = Bundle::sh("umask; touch /tmp/f; stat -c %a /tmp/f")
        .set("/process/user/umask", 0o027)
        .stdout();
    assert_eq!(seen, "0027\n640");
}

fn home_comes_from_the_containers_passwd() {
    assert_eq!(Bundle::sh("echo $HOME").stdout(), "/root");
    let user = Bundle::sh("echo $HOME").set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    assert_eq!(user.stdout(), "/home/user");
}

fn home_that_is_given_stays() {
    let seen = Bundle::sh("echo $HOME")
        .push("/process/env", "HOME=/given")
        .stdout();
    assert_eq!(seen, "/given");
}

fn path_of_the_container_finds_the_program() {
    let bundle = Bundle::busybox().args(&["only-here"]);
    let dir = bundle.rootfs("opt/tools");
    fs::create_dir_all(&dir).unwrap();
    fs::copy("/bin/busybox", dir.join("busybox")).unwrap();
    fs::write(dir.join("only-here"), "#!/bin/sh\necho found\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.join("only-here"), mode).unwrap();
    let seen = bundle
        .set("/process/env", json!(["PATH=/nowhere:/opt/tools"]))
        .stdout();
    assert_eq!(seen, "found");
}

fn cwd_that_is_missing_is_made_or_refused() {
    let bundle = Bundle::sh("pwd").set("/process/cwd", "/deep/below");
    let output = bundle.run();
    if output.code == 0 {
        assert_eq!(output.stdout, "/deep/below\n");
        assert!(bundle.rootfs("deep/below").is_dir());
    }
}

fn relative_cwd_is_refused() {
    Bundle::sleeper().set("/process/cwd", "tmp").create_err();
}

fn empty_args_are_refused() {
    let output = Bundle::busybox().args(&[]).run();
    output.err();
}

const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_RAW: u64 = 1 << 13;

fn capabilities(status: &str) -> [u64; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .map(|name| u64::from_str_radix(&field(status, name), 16).unwrap())
}

fn capability_sets_are_exact() {
    let status = Bundle::sh("cat /proc/self/status")
        .set(
            "/process/capabilities",
            json!({
                "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
                "permitted": ["CAP_CHOWN", "CAP_KILL"],
                "effective": ["CAP_CHOWN"],
                "inheritable": ["CAP_KILL"],
                "ambient": []
            }),
        )
        .args(&["cat", "/proc/self/status"])
        .stdout();
    let [inheritable, permitted, effective, bounding, ambient] = capabilities(&status);
    assert_eq!(inheritable, KILL);
    assert_eq!(bounding, CHOWN | KILL | NET_RAW);
    assert_eq!(ambient, 0);
    // With no_new_privs the execve(2) of root gains nothing from the bounding set, but what is
    // permitted becomes effective: capabilities(7).
    assert_eq!(permitted, CHOWN | KILL);
    assert_eq!(effective, CHOWN | KILL);
}

fn capabilities_are_empty_when_none_are_given() {
    let status = Bundle::sh("cat /proc/self/status")
        .set("/process/capabilities", json!({}))
        .stdout();
    assert_eq!(capabilities(&status), [0; 5]);
}

fn user_without_ambient_capabilities_has_none() {
    let held = json!(["CAP_CHOWN"]);
    let status = Bundle::sh("cat /proc/self/status")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .set(
            "/process/capabilities",
            json!({ "bounding": held, "permitted": held, "effective": held }),
        )
        .stdout();
    assert_eq!(capabilities(&status), [0, 0, 0, CHOWN, 0]);
}

fn ambient_capability_reaches_an_ordinary_user() {
    let held = json!(["CAP_KILL"]);
    let status = Bundle::sh("cat /proc/self/status")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .set(
            "/process/capabilities",
            json!({ "bounding": held, "permitted": held, "effective": held,
                    "inheritable": held, "ambient": held }),
        )
        .stdout();
    assert_eq!(capabilities(&status), [KILL; 5]);
}

fn no_new_privs_is_set() {
    let status = Bundle::sh("cat /proc/self/status").stdout();
    assert_eq!(field(&status, "NoNewPrivs"), "1");
}

fn no_new_privs_is_absent_when_not_asked() {
    let status = Bundle::sh("cat /proc/self/status")
        .set("/process/noNewPrivileges", false)
        .stdout();
    assert_eq!(field(&status, "NoNewPrivs"), "0");
}

fn rlimit_is_set() {
    let limits = Bundle::sh("cat /proc/self/limits")
        .set(
            "/process/rlimits",
            json!([
                { "type": "RLIMIT_NOFILE", "soft": 111, "hard": 222 },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }
            ]),
        )
        .stdout();
    let row = |name: &str| -> Vec<String> {
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    assert_eq!(row("Max open files"), ["111", "222"]);
    assert_eq!(row("Max core file size"), ["0", "0"]);
}

fn rlimit_of_an_unknown_type_is_refused() {
    Bundle::sleeper()
        .set(
            "/process/rlimits",
            json!([{ "type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1 }]),
        )
        .create_err();
}

/// Debian's runc takes the last.
fn rlimit_twice_is_refused() {
    require!(seedpod);
    let one = json!({ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 });
    Bundle::sleeper()
        .set("/process/rlimits", json!([one, one]))
        .create_err();
}

fn oom_score_adj_is_set() {
    let seen = Bundle::sh("cat /proc/self/oom_score_adj")
        .set("/process/oomScoreAdj", 345)
        .stdout();
    assert_eq!(seen, "345");
}

fn oom_score_adj_can_be_lowered() {
    require!(root, capability("CAP_SYS_RESOURCE"));
    let seen = Bundle::sh("cat /proc/self/oom_score_adj")
        .set("/process/oomScoreAdj", -500)
        .stdout();
    assert_eq!(seen, "-500");
}

fn no_descriptor_of_the_runtime_leaks() {
    // 3 is the folder that ls reads.
    let seen = Bundle::busybox().args(&["ls", "/proc/self/fd"]).stdout();
    assert_eq!(
        seen.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
}

fn signals_are_at_their_defaults() {
    let status = Bundle::busybox()
        .args(&["cat", "/proc/self/status"])
        .stdout();
    for set in ["SigBlk", "SigIgn"] {
        assert_eq!(
            u64::from_str_radix(&field(&status, set), 16).unwrap(),
            0,
            "{set}"
        );
    }
}

/// Debian's runc ignores it.
fn personality_is_applied() {
    require!(seedpod, ia32);
    let seen = Bundle::sh("uname -m")
        .set("/linux/personality", json!({ "domain": "LINUX32" }))
        .stdout();
    assert_eq!(seen, "i686");
}

/// The class of CVE-2024-40635: an id that wraps to 0.
fn uid_beyond_31_bits_does_not_become_root() {
    let output = Bundle::sh("id -u")
        .set("/process/user/uid", 4_294_967_294_u32)
        .run();
    assert!(
        output.code != 0 || output.stdout.trim() == "4294967294",
        "{output:?}"
    );
    Bundle::sleeper()
        .set("/process/user/uid", 4_294_967_296_u64)
        .create_err();
}
