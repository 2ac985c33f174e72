//! The container's file systems: mounts and their options, masked and read-only paths, devices,
//! propagation, and paths that try to lead out.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use serde_json::json;

use crate::fixture::{Bundle, Output, chown_tree};
use crate::runner::Test;
use crate::{require, tests};

pub const TESTS: &[Test] = tests![
    mounts_are_made_in_order,
    mount_options_are_applied,
    unknown_options_are_data_for_the_file_system,
    bind_of_a_folder_shows_it,
    bind_of_a_file_makes_its_target,
    bind_source_may_be_relative_to_the_bundle,
    read_only_bind_refuses_writes,
    recursive_read_only_reaches_mounts_below,
    plain_read_only_does_not_reach_mounts_below,
    bind_source_that_is_missing_is_an_error,
    read_only_root_refuses_writes,
    masked_path_reads_empty,
    masked_folder_is_empty_and_read_only,
    masked_path_that_is_missing_is_skipped,
    read_only_path_refuses_writes,
    read_only_path_keeps_its_other_flags,
    device_nodes_exist_and_device_rules_hold,
    default_devices_and_links_exist,
    device_that_is_asked_for_is_made,
    device_in_a_user_namespace_is_the_hosts,
    old_root_is_gone,
    host_mounts_are_not_seen,
    container_mounts_do_not_reach_the_host,
    slave_propagation_brings_host_mounts_in,
    proc_that_is_a_symlink_is_refused,
    mount_target_symlink_does_not_leave_the_root,
    dev_that_is_a_symlink_does_not_leave_the_root,
    device_null_that_is_a_symlink_does_not_unmask,
    cwd_through_a_descriptor_is_refused,
    tmpfs_size_and_mode_hold,
    tmpcopyup_copies_what_the_mount_covers,
    idmapped_bind_shifts_the_owner,
    mappings_without_the_option_mean_idmap,
    idmapped_tmpfs_source_works,
    private_folder_of_the_host_can_be_bound_in_a_user_namespace,
];

/// The options of the last mount on a path, as the kernel shows them (per mount, then of the file system).
fn options(mountinfo: &str, path: &str) -> Vec<String> {
    let line = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(path))
        .unwrap_or_else(|| panic!("nothing is mounted at {path}: {mountinfo}"));
    let (mount, file_system) = line.split_once(" - ").unwrap();
    let both = [
        mount.split(' ').nth(5).unwrap(),
        file_system.split(' ').nth(2).unwrap(),
    ];
    both.iter()
        .flat_map(|part| part.split(','))
        .map(str::to_owned)
        .collect()
}

fn source(bundle: &Bundle, name: &str) -> std::path::PathBuf {
    let dir = bundle.dir().join(name);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "from the host").unwrap();
    dir
}

fn mounts_are_made_in_order() {
    let seen = Bundle::sh("ls /data /data/inner; grep -c ' /data' /proc/self/mountinfo")
        .mount("/data", "tmpfs", Path::new("tmpfs"), &["mode=755"])
        .mount("/data/inner", "tmpfs", Path::new("tmpfs"), &["mode=755"])
        .stdout();
    assert_eq!(seen, "/data:\ninner\n\n/data/inner:\n2");
}

fn mount_options_are_applied() {
    let seen = Bundle::sh("cat /proc/self/mountinfo")
        .mount(
            "/a",
            "tmpfs",
            Path::new("t"),
            &["nosuid", "nodev", "noexec", "noatime", "ro"],
        )
        .mount(
            "/b",
            "tmpfs",
            Path::new("t"),
            &["relatime", "dirsync", "sync", "nodiratime"],
        )
        .mount(
            "/c",
            "tmpfs",
            Path::new("t"),
            &["strictatime", "nosuid", "suid"],
        )
        .stdout();
    let has = |path: &str, option: &str| options(&seen, path).iter().any(|o| o == option);
    for option in ["nosuid", "nodev", "noexec", "noatime", "ro"] {
        assert!(has("/a", option), "{option}: {:?}", options(&seen, "/a"));
    }
    for option in ["relatime", "dirsync", "sync", "nodiratime", "rw"] {
        assert!(has("/b", option), "{option}: {:?}", options(&seen, "/b"));
    }
    for option in ["nosuid", "relatime", "noatime"] {
        assert!(!has("/c", option), "{option}: {:?}", options(&seen, "/c"));
    }
}

fn unknown_options_are_data_for_the_file_system() {
    let seen = Bundle::sh("cat /proc/self/mountinfo")
        .mount(
            "/a",
            "tmpfs",
            Path::new("t"),
            &["nr_inodes=321", "size=64k"],
        )
        .stdout();
    let seen = options(&seen, "/a");
    assert!(
        seen.iter().any(|option| option == "nr_inodes=321"),
        "{seen:?}"
    );
    let bad = Bundle::sleeper().mount("/a", "tmpfs", Path::new("t"), &["no-such-option"]);
    bad.create_err();
}

fn bind_of_a_folder_shows_it() {
    let bundle = Bundle::sh("cat /data/file; echo back >/data/made");
    let dir = source(&bundle, "volume");
    let bundle = bundle.mount("/data", "bind", &dir, &["rbind", "rw"]);
    assert_eq!(bundle.stdout(), "from the host");
    assert_eq!(fs::read_to_string(dir.join("made")).unwrap(), "back\n");
}

fn bind_of_a_file_makes_its_target() {
    let bundle = Bundle::sh("cat /etc/deep/name");
    let dir = source(&bundle, "volume");
    let bundle = bundle.mount("/etc/deep/name", "none", &dir.join("file"), &["bind", "ro"]);
    assert_eq!(bundle.stdout(), "from the host");
}

fn bind_source_may_be_relative_to_the_bundle() {
    let bundle = Bundle::sh("cat /data/file");
    source(&bundle, "volume");
    let bundle = bundle.mount("/data", "bind", Path::new("volume"), &["bind"]);
    assert_eq!(bundle.stdout(), "from the host");
}

fn read_only_bind_refuses_writes() {
    let bundle = Bundle::sh("touch /data/x 2>&1; cat /data/file");
    let dir = source(&bundle, "volume");
    let seen = bundle
        .mount("/data", "bind", &dir, &["bind", "ro"])
        .stdout();
    assert!(seen.contains("Read-only file system"), "{seen}");
}

fn with_a_mount_below(read_only: &str) -> String {
    let bundle = Bundle::sh("touch /data/below/x 2>&1 && echo wrote; true");
    let dir = source(&bundle, "volume");
    let below = dir.join("below");
    fs::create_dir(&below).unwrap();
    let none: Option<&str> = None;
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("below"), &below, Some("tmpfs"), flags, none).unwrap();
    let output = bundle
        .mount("/data", "bind", &dir, &["rbind", read_only])
        .run();
    nix::mount::umount(&below).unwrap();
    output.ok()
}

fn recursive_read_only_reaches_mounts_below() {
    let seen = with_a_mount_below("rro");
    assert!(seen.contains("Read-only file system"), "{seen}");
}

fn plain_read_only_does_not_reach_mounts_below() {
    assert_eq!(with_a_mount_below("ro"), "wrote");
}

fn bind_source_that_is_missing_is_an_error() {
    let bundle = Bundle::sleeper();
    let missing = bundle.dir().join("missing");
    let error = bundle
        .mount("/data", "bind", &missing, &["bind"])
        .create_err();
    assert!(error.contains("missing"), "{error}");
}

fn read_only_root_refuses_writes() {
    let seen = Bundle::sh("touch /x 2>&1; touch /dev/x && echo dev is writable")
        .set("/root/readonly", true)
        .stdout();
    assert!(seen.contains("Read-only file system"), "{seen}");
    assert!(seen.contains("dev is writable"), "{seen}");
}

fn masked_path_reads_empty() {
    let bundle = Bundle::sh("cat /secret; wc -c </secret; echo x >/secret; wc -c </secret");
    fs::write(bundle.rootfs("secret"), "text").unwrap();
    let seen = bundle
        .set("/linux/maskedPaths", json!(["/secret"]))
        .stdout();
    assert_eq!(seen, "0\n0");
}

fn masked_folder_is_empty_and_read_only() {
    let bundle = Bundle::sh("ls -A /secret; touch /secret/x 2>&1");
    fs::create_dir(bundle.rootfs("secret")).unwrap();
    fs::write(bundle.rootfs("secret/file"), "text").unwrap();
    let output = bundle.set("/linux/maskedPaths", json!(["/secret"])).run();
    assert_ne!(output.code, 0);
    assert!(
        output.stdout.contains("Read-only file system"),
        "{output:?}"
    );
    assert!(!output.stdout.contains("file\n"), "{output:?}");
}

fn masked_path_that_is_missing_is_skipped() {
    let bundle =
        Bundle::sh("echo ran").set("/linux/maskedPaths", json!(["/not/there", "/proc/none"]));
    assert_eq!(bundle.stdout(), "ran");
}

fn read_only_path_refuses_writes() {
    let bundle = Bundle::sh("touch /data/x 2>&1; echo 1 2>&1 >/proc/sys/kernel/domainname || true");
    fs::create_dir(bundle.rootfs("data")).unwrap();
    let seen = bundle.push("/linux/readonlyPaths", "/data").run();
    assert!(seen.stdout.contains("Read-only file system"), "{seen:?}");
    let sysctl = Bundle::sh("cat /proc/self/mountinfo").stdout();
    assert!(options(&sysctl, "/proc/sys").contains(&"ro".to_owned()));
}

fn read_only_path_keeps_its_other_flags() {
    let seen = Bundle::sh("cat /proc/self/mountinfo")
        .mount(
            "/data",
            "tmpfs",
            Path::new("t"),
            &["nosuid", "nodev", "noexec"],
        )
        .push("/linux/readonlyPaths", "/data")
        .stdout();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(
            options(&seen, "/data").iter().any(|o| o == option),
            "{option}: {seen}"
        );
    }
}

fn device_nodes_exist_and_device_rules_hold() {
    let node = |path: &str, major: u32, minor: u32| json!({ "path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666 });
    let seen = Bundle::sh(
        "stat -c '%t:%T %a' /dev/allowed /dev/denied
         head -c 1 /dev/allowed | wc -c; (: </dev/denied) 2>&1; mknod /dev/more c 1 5 2>&1; true",
    )
    .set(
        "/linux/devices",
        json!([node("/dev/allowed", 1, 5), node("/dev/denied", 1, 11)]),
    )
    .set(
        "/linux/resources/devices",
        json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 5, "access": "r" }
        ]),
    )
    .push("/process/capabilities/bounding", "CAP_MKNOD")
    .stdout();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..3], ["1:5 666", "1:b 666", "1"], "{seen}");
    assert!(lines[3].contains("Operation not permitted"), "{seen}");
}

fn default_devices_and_links_exist() {
    let seen = Bundle::sh(
        "for d in null zero full random urandom tty; do stat -c '%n %t:%T' /dev/$d; done
         for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done; echo x >/dev/null",
    )
    .stdout();
    let expected = "/dev/null 1:3\n/dev/zero 1:5\n/dev/full 1:7\n/dev/random 1:8\n/dev/urandom 1:9\n\
                    /dev/tty 5:0\nfd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\n\
                    stderr /proc/self/fd/2\nptmx pts/ptmx";
    assert_eq!(seen, expected);
}

fn device_that_is_asked_for_is_made() {
    let seen = Bundle::sh("stat -c '%t:%T %a %u:%g' /dev/mine; stat -c '%F' /dev/queue")
        .set(
            "/linux/devices",
            json!([
                { "path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640,
                  "uid": 1000, "gid": 1001 },
                { "path": "/dev/queue", "type": "p", "fileMode": 0o600 }
            ]),
        )
        .stdout();
    assert_eq!(seen, "a:e5 640 1000:1001\nfifo");
}

fn device_in_a_user_namespace_is_the_hosts() {
    let seen =
        Bundle::sh("stat -c '%t:%T' /dev/null; echo x >/dev/null; head -c 3 /dev/zero | wc -c")
            .user_namespace(100_000)
            .stdout();
    assert_eq!(seen, "1:3\n3");
}

fn old_root_is_gone() {
    let seen = Bundle::sh("cut -d' ' -f5 /proc/self/mountinfo").stdout();
    let allowed = ["/", "/proc", "/dev", "/sys"];
    assert!(seen.lines().any(|path| path == "/proc"), "{seen}");
    for path in seen.lines() {
        let known = allowed
            .iter()
            .any(|top| path == *top || (*top != "/" && path.starts_with(&format!("{top}/"))));
        assert!(known, "{path} is mounted: {seen}");
    }
}

fn host_mounts_are_not_seen() {
    let seen = Bundle::sh("ls /; cat /proc/mounts").stdout();
    assert!(seen.contains("/dev/pts"), "{seen}");
    assert!(!seen.contains("seedpod-test."), "{seen}");
}

fn container_mounts_do_not_reach_the_host() {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let container = Bundle::sleeper()
        .mount("/data", "tmpfs", Path::new("t"), &[])
        .start();
    assert_eq!(
        container.sh("grep -q ' /data ' /proc/mounts && echo mounted"),
        "mounted"
    );
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

fn slave_propagation_brings_host_mounts_in() {
    use nix::mount::{MsFlags, mount, umount};
    let none: Option<&str> = None;
    let bundle = Bundle::sleeper();
    let dir = bundle.dir().join("shared");
    fs::create_dir(&dir).unwrap();
    mount(Some(&dir), &dir, none, MsFlags::MS_BIND, none).unwrap();
    mount(none, &dir, none, MsFlags::MS_SHARED, none).unwrap();
    let container = bundle
        .set("/linux/rootfsPropagation", "rslave")
        .mount("/data", "bind", &dir, &["rbind", "rslave"])
        .start();
    fs::create_dir(dir.join("late")).unwrap();
    mount(
        Some("late"),
        &dir.join("late"),
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .unwrap();
    fs::write(dir.join("late/file"), "late").unwrap();
    assert_eq!(container.sh("cat /data/late/file"), "late");
    drop(container);
    umount(&dir.join("late")).unwrap();
    umount(&dir).unwrap();
}

/// CVE-2019-19921 and what came after it.
fn proc_that_is_a_symlink_is_refused() {
    let bundle = Bundle::sleeper();
    fs::remove_dir(bundle.rootfs("proc")).unwrap();
    fs::create_dir(bundle.rootfs("elsewhere")).unwrap();
    symlink("/elsewhere", bundle.rootfs("proc")).unwrap();
    let error = bundle.create_err();
    assert!(
        error.contains("must be mounted on ordinary directory"),
        "{error}"
    );
}

/// A folder of the host that nothing may appear in, and a check that nothing did. The container
/// either ran or was refused.
fn untouched(decoy: &Path, output: &Output) {
    assert!(output.code != 0 || output.stdout == "ran\n", "{output:?}");
    let entries: Vec<_> = fs::read_dir(decoy)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .collect();
    assert!(entries.is_empty(), "{entries:?}");
}

fn mount_target_symlink_does_not_leave_the_root() {
    for target in ["absolute", "relative"] {
        let bundle = Bundle::sh("echo ran");
        let decoy = bundle.dir().join("decoy");
        fs::create_dir(&decoy).unwrap();
        let link = if target == "absolute" {
            decoy.clone()
        } else {
            "../../decoy".into()
        };
        symlink(link, bundle.rootfs("data")).unwrap();
        // It lands inside the root or is refused.
        let output = bundle
            .mount("/data/deep", "tmpfs", Path::new("t"), &[])
            .run();
        untouched(&decoy, &output);
    }
}

/// CVE-2026-41579, CVE-2026-47766.
fn dev_that_is_a_symlink_does_not_leave_the_root() {
    for mounts in [true, false] {
        let mut bundle = Bundle::sh("echo ran");
        let decoy = bundle.dir().join("decoy");
        fs::create_dir(&decoy).unwrap();
        fs::remove_dir(bundle.rootfs("dev")).unwrap();
        symlink("../../decoy", bundle.rootfs("dev")).unwrap();
        if !mounts {
            bundle = bundle.set("/mounts", json!([]));
        }
        let output = bundle.set("/linux/maskedPaths", json!([])).run();
        untouched(&decoy, &output);
    }
}

/// CVE-2025-31133: what masks must be the null device and nothing that an image put there. Debian's
/// runc 1.1 has it, and hands the file to the process as its standard streams too.
fn device_null_that_is_a_symlink_does_not_unmask() {
    let bundle = Bundle::sh("echo ran; head -c 100 /secret");
    fs::write(bundle.rootfs("secret"), "secret text").unwrap();
    fs::write(bundle.rootfs("other"), "other text").unwrap();
    symlink("/other", bundle.rootfs("dev/null")).unwrap();
    let output = bundle
        .set(
            "/mounts",
            json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]),
        )
        .set("/linux/maskedPaths", json!(["/secret"]))
        .set("/linux/readonlyPaths", json!([]))
        .run();
    assert!(
        output.code != 0 || output.stdout.starts_with("ran\n"),
        "{output:?}"
    );
    assert!(!output.stdout.contains("text"), "{output:?}");
}

/// CVE-2024-21626.
fn cwd_through_a_descriptor_is_refused() {
    for number in 3..20 {
        let output = Bundle::sh("cd ../../../../.. && ls -d var/tmp etc/debian_version")
            .set("/process/cwd", format!("/proc/self/fd/{number}"))
            .run();
        assert!(output.code != 0, "{number}: {output:?}");
    }
}

fn tmpfs_size_and_mode_hold() {
    let seen =
        Bundle::sh("stat -c %a /data; dd if=/dev/zero of=/data/f bs=1k count=100 2>&1; true")
            .mount("/data", "tmpfs", Path::new("t"), &["size=32k", "mode=1750"])
            .stdout();
    assert!(seen.starts_with("1750"), "{seen}");
    assert!(seen.contains("No space left"), "{seen}");
}

/// crun has it since 1.8, runc since 1.0.
fn tmpcopyup_copies_what_the_mount_covers() {
    require!(mount_option("tmpcopyup"));
    let bundle = Bundle::sh("cat /data/file; stat -c %a /data/dir; touch /data/more");
    fs::create_dir_all(bundle.rootfs("data/dir")).unwrap();
    fs::write(bundle.rootfs("data/file"), "below\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(bundle.rootfs("data/dir"), mode).unwrap();
    let bundle = bundle.mount("/data", "tmpfs", Path::new("t"), &["tmpcopyup"]);
    assert_eq!(bundle.stdout(), "below\n700");
    assert!(!bundle.rootfs("data/more").exists());
}

fn volume_of_root(bundle: &Bundle) -> std::path::PathBuf {
    let dir = source(bundle, "volume");
    chown_tree(&dir, 0);
    dir
}

/// Debian's runc has no idmapped mounts.
fn idmapped_bind_shifts_the_owner() {
    require!(seedpod);
    let bundle = Bundle::sh("stat -c %u:%g /data/file; touch /data/made").user_namespace(100_000);
    let dir = volume_of_root(&bundle);
    let bundle = bundle.mount("/data", "bind", &dir, &["rbind", "idmap"]);
    assert_eq!(bundle.stdout(), "0:0");
    assert_eq!(fs::metadata(dir.join("made")).unwrap().uid(), 0);
}

/// How containerd sends the volumes of a pod with `hostUsers: false`.
fn mappings_without_the_option_mean_idmap() {
    require!(seedpod);
    let bundle = Bundle::sh("stat -c %u:%g /data/file").user_namespace(100_000);
    let dir = volume_of_root(&bundle);
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let seen = bundle
        .push(
            "/mounts",
            json!({ "destination": "/data", "type": "bind", "source": dir,
                    "options": ["rbind", "rw"], "uidMappings": map, "gidMappings": map }),
        )
        .stdout();
    assert_eq!(seen, "0:0");
}

fn idmapped_tmpfs_source_works() {
    require!(seedpod, kernel(6, 3));
    let bundle = Bundle::sh("stat -c %u:%g /data/file").user_namespace(100_000);
    let dir = bundle.dir().join("volume");
    fs::create_dir(&dir).unwrap();
    let none: Option<&str> = None;
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("t"), &dir, Some("tmpfs"), flags, none).unwrap();
    fs::write(dir.join("file"), "x").unwrap();
    let output = bundle
        .mount("/data", "bind", &dir, &["bind", "idmap"])
        .run();
    nix::mount::umount(&dir).unwrap();
    assert_eq!(output.ok(), "0:0");
}

/// A kubelet's volumes lie below folders that the container's root may not enter.
fn private_folder_of_the_host_can_be_bound_in_a_user_namespace() {
    let bundle = Bundle::sh("cat /data/file").user_namespace(100_000);
    let private = bundle.dir().join("private");
    fs::create_dir(&private).unwrap();
    let volume = private.join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "readable").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&private, mode).unwrap();
    assert_eq!(
        bundle.mount("/data", "bind", &volume, &["rbind"]).stdout(),
        "readable"
    );
}
