//! Bundles, the runtime under test, and containers that are gone when the test is.
//!
//! Output goes to files, never to pipes: a detached container keeps its descriptors, and a pipe that
//! is read to its end would wait for the container. Everything is below the test's own folder and its
//! own cgroup.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::runner::{case_cgroup, case_dir, time_factor};
use crate::wait;

/// The programs of busybox that tests use.
const APPLETS: &[&str] = &[
    "[", "awk", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dmesg",
    "echo", "env", "expr", "false", "find", "grep", "head", "hostname", "id", "ifconfig", "ip",
    "kill", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount", "mv", "nc", "nice", "nproc", "od",
    "pidof", "printf", "ps", "pwd", "readlink", "realpath", "rm", "rmdir", "sed", "seq", "setsid",
    "sh", "sleep", "sort", "stat", "stty", "sync", "sysctl", "tail", "tee", "test", "timeout",
    "touch", "tr", "true", "tty", "umount", "uname", "unshare", "uptime", "wc", "which", "whoami",
    "xargs", "yes",
];

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn next_number() -> u32 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// The runtime under test: `SEEDPOD_BIN`.
pub fn runtime_path() -> PathBuf {
    std::env::var_os("SEEDPOD_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bin/seedpod"),
        PathBuf::from,
    )
}

/// What a command did.
#[derive(Debug)]
pub struct Output {
    /// The exit code; 128 + n where signal n ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// Asserts success and gives the output without white space at its ends.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.code == 0,
            "exit code {}: {}{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self.stdout.trim().to_owned()
    }

    /// Asserts failure and gives what was said on standard error.
    #[track_caller]
    pub fn err(self) -> String {
        assert!(self.code != 0, "succeeded, with output {}", self.stdout);
        assert!(
            !self.stderr.is_empty(),
            "failed with {} and without a word",
            self.code
        );
        self.stderr
    }
}

/// Runs `seedpod ARGUMENTS` with the test's own state directory.
pub fn seedpod<S: AsRef<str>>(arguments: &[S]) -> Output {
    let mut command = Command::new(runtime_path());
    command.arg("--root").arg(case_dir().join("state"));
    command.args(arguments.iter().map(AsRef::as_ref));
    output_of(&mut command)
}

/// Runs a command to its end, within 15 seconds, with its output in files and nothing on its input
/// unless the caller chose one.
pub fn output_of(command: &mut Command) -> Output {
    let base = case_dir().join(format!("out-{}", next_number()));
    let (out, err) = (base.with_extension("stdout"), base.with_extension("stderr"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    let deadline = Instant::now() + Duration::from_secs(15 * time_factor());
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!(
                "took longer than 15 s: {command:?}: {}",
                fs::read_to_string(&err).unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    use std::os::unix::process::ExitStatusExt;
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Output {
        code: status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: read(&out),
        stderr: read(&err),
    }
}

/// A bundle: a root file system of busybox, and a configuration that tests edit.
pub struct Bundle {
    dir: PathBuf,
    /// The container's id.
    pub id: String,
    /// config.json, written when the container is made.
    pub config: Value,
}

impl Bundle {
    /// A bundle that runs `true`.
    pub fn busybox() -> Self {
        let number = next_number();
        let dir = case_dir().join(format!("bundle-{number}"));
        let bin = dir.join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        for name in ["dev", "etc", "proc", "root", "sys", "tmp", "var"] {
            fs::create_dir(dir.join("rootfs").join(name)).unwrap();
        }
        fs::set_permissions(dir.join("rootfs/tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        // A mapped root of a user namespace must be able to come this far.
        for open in [&case_dir(), &dir] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        fs::write(
            dir.join("rootfs/etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .unwrap();
        fs::write(dir.join("rootfs/etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
        let id = format!("c{number}");
        let config = default_config(&id);
        Self { dir, id, config }
    }

    /// A bundle that runs a shell script.
    pub fn sh(script: &str) -> Self {
        Self::busybox().args(&["sh", "-c", script])
    }

    /// A bundle whose process only waits.
    pub fn sleeper() -> Self {
        Self::busybox().args(&["sleep", "1000"])
    }

    /// The same bundle once more.
    pub fn again(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            id: self.id.clone(),
            config: self.config.clone(),
        }
    }

    /// The bundle's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the root file system.
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path)
    }

    /// `process.args`.
    pub fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", json!(args))
    }

    /// Sets the value at a JSON pointer; objects on the way are made.
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let mut place = &mut self.config;
        for key in pointer.split('/').skip(1) {
            place = match place {
                Value::Array(items) => &mut items[key.parse::<usize>().unwrap()],
                other => {
                    if other.is_null() {
                        *other = json!({});
                    }
                    &mut other[key]
                }
            };
        }
        *place = value.into();
        self
    }

    /// Adds to the array at a JSON pointer, which is made where it is missing.
    pub fn push(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        if self.config.pointer(pointer).is_none() {
            self = self.set(pointer, json!([]));
        }
        let array = self.config.pointer_mut(pointer).unwrap();
        array.as_array_mut().unwrap().push(value.into());
        self
    }

    /// Adds a mount.
    pub fn mount(self, destination: &str, kind: &str, source: &Path, options: &[&str]) -> Self {
        self.push(
            "/mounts",
            json!({ "destination": destination, "type": kind, "source": source, "options": options }),
        )
    }

    /// Takes a namespace out of the configuration: the host's is used.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        let namespaces = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != kind);
        self
    }

    /// Adds a new namespace, or joins one by path.
    pub fn namespace(self, kind: &str, path: Option<&Path>) -> Self {
        let entry = match path {
            Some(path) => json!({ "type": kind, "path": path }),
            None => json!({ "type": kind }),
        };
        self.without_namespace(kind)
            .push("/linux/namespaces", entry)
    }

    /// A user namespace in which ids from 0 are the host's from `first`, and a root file system that
    /// belongs to it.
    pub fn user_namespace(self, first: u32) -> Self {
        let map = json!([{ "containerID": 0, "hostID": first, "size": 65536 }]);
        chown_tree(&self.rootfs(""), first);
        self.namespace("user", None)
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
    }

    /// The container's cgroup in the file system.
    pub fn cgroup(&self) -> PathBuf {
        PathBuf::from(format!("/sys/fs/cgroup{}/{}", case_cgroup(), self.id))
    }

    /// Writes config.json.
    pub fn write(&self) {
        let text = serde_json::to_string_pretty(&self.config).unwrap();
        fs::write(self.dir.join("config.json"), text).unwrap();
    }

    /// Runs in the foreground to the end.
    pub fn run(&self) -> Output {
        self.write();
        let output = seedpod(&["run", "--bundle", self.dir.to_str().unwrap(), &self.id]);
        // A failed test shall report its own failure and not what it left.
        if case_dir().join("state").join(&self.id).exists() {
            let _ = seedpod(&["delete", "--force", &self.id]);
        }
        output
    }

    /// Runs in the foreground, asserts success, gives the output.
    #[track_caller]
    pub fn stdout(&self) -> String {
        self.run().ok()
    }

    /// `create`, expected to succeed.
    #[track_caller]
    pub fn create(self) -> Container {
        self.write();
        let pid_file = self.dir.join("pid");
        let output = seedpod(&[
            "create",
            "--bundle",
            self.dir.to_str().unwrap(),
            "--pid-file",
            pid_file.to_str().unwrap(),
            &self.id,
        ]);
        let container = Container { bundle: self };
        output.ok();
        container
    }

    /// `create`, expected to fail; gives the error.
    #[track_caller]
    pub fn create_err(self) -> String {
        self.write();
        let dir = self.dir.to_str().unwrap().to_owned();
        let output = seedpod(&["create", "--bundle", &dir, &self.id]);
        if output.code == 0 {
            drop(Container { bundle: self });
        }
        output.err()
    }

    /// `create` and `start`.
    #[track_caller]
    pub fn start(self) -> Container {
        let container = self.create();
        container.start().ok();
        container
    }
}

/// A container that was created; deleted by force at the end of the test.
pub struct Container {
    /// What it was made from.
    pub bundle: Bundle,
}

impl Container {
    fn verb(&self, words: &[&str]) -> Output {
        seedpod(words)
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.bundle.id
    }

    /// `start`.
    pub fn start(&self) -> Output {
        self.verb(&["start", self.id()])
    }

    /// `state`, parsed.
    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.verb(&["state", self.id()]).ok()).unwrap()
    }

    /// The status in `state`.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Waits until `state` says `stopped`.
    #[track_caller]
    pub fn wait_stopped(&self) {
        wait::until("the container is stopped", || self.status() == "stopped");
    }

    /// The init process's pid on the host.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let text = fs::read_to_string(self.bundle.dir.join("pid")).unwrap();
        text.trim().parse().unwrap()
    }

    /// A namespace file of the init process.
    pub fn namespace_file(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{kind}", self.pid()))
    }

    /// `kill` with a signal.
    pub fn kill(&self, signal: &str) -> Output {
        self.verb(&["kill", self.id(), signal])
    }

    /// `delete`.
    pub fn delete(&self) -> Output {
        self.verb(&["delete", self.id()])
    }

    /// `exec` of a command.
    pub fn exec(&self, command: &[&str]) -> Output {
        self.exec_with(&[], command)
    }

    /// `exec` with options in front.
    pub fn exec_with(&self, options: &[&str], command: &[&str]) -> Output {
        let mut words = vec!["exec"];
        words.extend_from_slice(options);
        words.push(self.id());
        words.extend_from_slice(command);
        self.verb(&words)
    }

    /// `exec` of a shell script, expected to succeed; gives its output.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["sh", "-c", script]).ok()
    }

    /// A file of the container's cgroup, trimmed.
    #[track_caller]
    pub fn cgroup_file(&self, name: &str) -> String {
        let path = self.bundle.cgroup().join(name);
        let text = fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .trim()
            .to_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if case_dir().join("state").join(self.id()).exists() {
            let _ = seedpod(&["delete", "--force", self.id()]);
        }
    }
}

/// A field of a table like /proc/self/status: the words after `name:`.
#[track_caller]
pub fn field(table: &str, name: &str) -> String {
    table
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {table}"))
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Gives a tree to one user and group of the host.
pub fn chown_tree(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            chown_tree(&entry.unwrap().path(), id);
        }
    }
}

/// What `spec` writes for cgroup v2, with the test's cgroup and no terminal.
fn default_config(id: &str) -> Value {
    let held = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["true"],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": held, "effective": held, "permitted": held },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "seedpod-test",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
        ],
        "linux": {
            "cgroupsPath": format!("{}/{id}", case_cgroup()),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" }
            ],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list",
                            "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
