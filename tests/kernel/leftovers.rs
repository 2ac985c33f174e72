//! What a test left behind: processes, mounts, cgroups, network interfaces, files in /run.
//!
//! The place that the suite runs in is its own (a pid, mount, network and cgroup namespace, or a
//! whole kernel), so anything new is the test's. Namespaces show as the process or the mount that
//! holds them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The state of the place at one moment; each thing by its identity, with words for a report.
pub struct Snapshot {
    processes: BTreeMap<(i32, u64), String>,
    mounts: BTreeMap<u64, (PathBuf, String)>,
    cgroups: BTreeSet<PathBuf>,
    interfaces: BTreeSet<String>,
    run: BTreeSet<PathBuf>,
}

impl Snapshot {
    /// Looks at everything.
    pub fn take() -> Self {
        let mut cgroups = BTreeSet::new();
        walk(Path::new("/sys/fs/cgroup"), &mut cgroups, true, 8);
        let mut run = BTreeSet::new();
        walk(Path::new("/run"), &mut run, false, 3);
        let interfaces = fs::read_to_string("/proc/net/dev").unwrap_or_default();
        Self {
            processes: processes(),
            mounts: mounts(),
            cgroups,
            interfaces: interfaces
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, _)| name.trim().to_owned())
                .collect(),
            run,
        }
    }

    /// What is there now and was not there `before`, in words.
    fn since(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, words) in &self.processes {
            if !before.processes.contains_key(id) {
                found.push(format!("process {}: {words}", id.0));
            }
        }
        for (id, (_, words)) in &self.mounts {
            if !before.mounts.contains_key(id) {
                found.push(format!("mount {words}"));
            }
        }
        for path in self.cgroups.difference(&before.cgroups) {
            found.push(format!("cgroup {}", path.display()));
        }
        for name in self.interfaces.difference(&before.interfaces) {
            found.push(format!("network interface {name}"));
        }
        for path in self.run.difference(&before.run) {
            // A runtime's default state directory may stay; what is in it may not.
            if path.parent() != Some(Path::new("/run")) {
                found.push(format!("file {}", path.display()));
            }
        }
        found
    }
}

/// Compares with `before`; what is only just ending gets half a second for it.
pub fn settle(before: &Snapshot, state: &Path) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_millis(500);
    loop {
        reap();
        let mut found = Snapshot::take().since(before);
        if let Ok(entries) = fs::read_dir(state) {
            for entry in entries.flatten() {
                found.push(format!("container state {}", entry.path().display()));
            }
        }
        if found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Takes away what is new since `before`, and the test's own cgroup.
pub fn remove(before: &Snapshot, cgroup: &Path) {
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
    for (pid, start) in processes().keys() {
        if !before.processes.contains_key(&(*pid, *start)) {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }
    for (id, (path, _)) in mounts().iter().rev() {
        if !before.mounts.contains_key(id) {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        reap();
        let now = Snapshot::take();
        let ours = |path: &&PathBuf| path.starts_with(cgroup) || !before.cgroups.contains(*path);
        for path in now.cgroups.iter().rev().filter(ours) {
            let _ = fs::write(path.join("cgroup.kill"), "1");
            let _ = fs::remove_dir(path);
        }
        if !cgroup.exists() || Instant::now() > deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    for path in Snapshot::take().run.difference(&before.run) {
        let _ = fs::remove_dir_all(path);
        let _ = fs::remove_file(path);
    }
}

fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>, only_dirs: bool, depth: usize) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && depth > 1 {
            walk(&entry.path(), found, only_dirs, depth - 1);
        }
        if is_dir || !only_dirs {
            found.insert(entry.path());
        }
    }
}

/// Processes by pid and start time; without kernel threads.
fn processes() -> BTreeMap<(i32, u64), String> {
    const KERNEL_THREAD: u64 = 0x0020_0000;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // After the name, which may hold anything: fields 3 (state), 9 (flags), 22 (start time).
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let fields: Vec<&str> = rest.split(' ').collect();
        let flags: u64 = fields[6].parse().unwrap_or(0);
        let start: u64 = fields[19].parse().unwrap_or(0);
        if flags & KERNEL_THREAD != 0 {
            continue;
        }
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        found.insert((pid, start), format!("{} ({})", command.trim(), fields[0]));
    }
    found
}

fn mounts() -> BTreeMap<u64, (PathBuf, String)> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (
                fields[0].parse().unwrap(),
                (PathBuf::from(fields[4]), line.to_owned()),
            )
        })
        .collect()
}
