//! cgroup version 2: directories, writes, kill, freeze and removal
//! (kernel's Documentation/admin-guide/cgroup-v2.rst).
//!
//! "Write these files in this order": what to write is in the plan. The hot path of create and
//! delete uses no sleep: the end of a cgroup's processes is awaited on its cgroup.events file.

pub mod devices;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::error::{Failure, OrFailure};
use crate::plan::CgroupPlan;
use crate::sys;

const MAGIC: i64 = 0x6367_7270;

/// The mounted tree.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    mount: PathBuf,
}

impl Hierarchy {
    /// The tree at /sys/fs/cgroup, or the version 2 tree of a hybrid set-up beside version 1's.
    ///
    /// # Errors
    /// When neither is there.
    pub fn find() -> Result<Self> {
        for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let Ok(directory) = fs::File::open(mount) else {
                continue;
            };
            if sys::open::fs_magic(directory.as_fd()) == Ok(MAGIC) {
                return Ok(Self {
                    mount: mount.into(),
                });
            }
        }
        bail!(
            "no cgroup version 2 at /sys/fs/cgroup or /sys/fs/cgroup/unified; seedpod does not use \
             version 1: boot with systemd.unified_cgroup_hierarchy=1"
        )
    }

    /// The directory of a path that starts with `/`.
    pub fn directory(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }

    /// The controllers that the root of the tree has.
    pub fn controllers(&self) -> Vec<String> {
        words(&self.mount.join("cgroup.controllers"))
    }

    /// Makes the cgroup of a plan: directory, controllers, limits, device program. On an error,
    /// what was made is removed again.
    ///
    /// # Errors
    /// One that names the file, the value and the errno.
    pub fn make(&self, plan: &CgroupPlan, warnings: &mut Vec<String>) -> Result<Made> {
        let needed: Vec<&str> = plan
            .writes
            .iter()
            .filter_map(|it| it.file.split('.').next())
            .collect();
        self.check_available(&needed, plan)?;
        let mut made = Made {
            cgroup: Cgroup {
                directory: self.directory(&plan.path),
            },
            undo: Vec::new(),
        };
        let mut directory = self.mount.clone();
        for part in plan.path.split('/').filter(|part| !part.is_empty()) {
            let parent = directory.clone();
            directory.push(part);
            crate::fault::parent_step("make cgroup")?;
            if make_directory(&parent, &directory, &needed)? {
                made.undo.push(directory.clone());
            }
        }
        if !made.undo.contains(&directory) {
            made.cgroup.check_empty()?;
        }
        for it in &plan.writes {
            crate::fault::parent_step("write cgroup")?;
            made.cgroup.write(&it.file, &it.value)?;
        }
        if let Some(owner) = plan.owner {
            crate::fault::parent_step("give the cgroup away")?;
            made.cgroup.delegate(owner)?;
        }
        if !plan.devices.is_empty() {
            crate::fault::parent_step("attach the device program")?;
            made.cgroup.attach_devices(&plan.devices, warnings)?;
        }
        Ok(made)
    }

    fn check_available(&self, needed: &[&str], plan: &CgroupPlan) -> Result<()> {
        let available = self.controllers();
        for (controller, write) in needed.iter().zip(&plan.writes) {
            ensure!(
                available.iter().any(|it| it == controller),
                "{}: the cgroup tree at {} has no {controller} controller; it has: {}",
                write.file,
                self.mount.display(),
                if available.is_empty() {
                    "none".to_owned()
                } else {
                    available.join(" ")
                }
            );
        }
        Ok(())
    }
}

/// A cgroup that was just made; undone when it is dropped before [`keep`](Made::keep).
#[derive(Debug)]
pub struct Made {
    /// The cgroup.
    pub cgroup: Cgroup,
    undo: Vec<PathBuf>,
}

impl Made {
    /// It stays.
    pub fn keep(mut self) -> Cgroup {
        self.undo.clear();
        self.cgroup.clone()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for directory in self.undo.iter().rev() {
            let cgroup = Cgroup {
                directory: directory.clone(),
            };
            // A parent that has got another child meanwhile stays, and that is right.
            let _ = if *directory == self.cgroup.directory {
                cgroup.remove()
            } else {
                fs::remove_dir(directory).map_err(Into::into)
            };
        }
    }
}

/// One cgroup.
#[derive(Debug, Clone)]
pub struct Cgroup {
    directory: PathBuf,
}

impl Cgroup {
    /// The one at a directory; it need not exist.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens the directory: where clone3(2) puts a child.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self) -> Result<OwnedFd> {
        let opened = fs::File::open(&self.directory);
        Ok(opened
            .or_failure(|| format!("open cgroup {}", self.directory.display()))?
            .into())
    }

    /// Writes one file.
    ///
    /// # Errors
    /// With file, value and errno.
    pub fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.directory.join(file);
        fs::write(&path, value)
            .or_failure(|| format!("write {value} to {}", path.display()))
            .map_err(|failure| match failure.errno {
                Errno::ENOENT => failure.hint("the kernel has no such cgroup file"),
                _ => failure,
            })?;
        Ok(())
    }

    /// Reads one file, without white space at its ends; `None` when it is not there.
    pub fn read(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.directory.join(file)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The value of a key in a file of lines `key value`.
    pub fn read_key(&self, file: &str, key: &str) -> Option<u64> {
        let text = self.read(file)?;
        let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.find(|(name, _)| *name == key)?.1.parse().ok()
    }

    fn check_empty(&self) -> Result<()> {
        let populated = self.read_key("cgroup.events", "populated") == Some(1);
        ensure!(
            !populated,
            "container's cgroup is not empty: {}",
            self.directory.display()
        );
        let frozen = self.read("cgroup.freeze").as_deref() == Some("1");
        ensure!(
            !frozen,
            "container's cgroup unexpectedly frozen: {}",
            self.directory.display()
        );
        Ok(())
    }

    /// Gives the directory, and the files that the kernel lists for it, to a user.
    fn delegate(&self, owner: u32) -> Result<()> {
        let list = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| {
            "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned()
        });
        let files = list.lines().map(|file| self.directory.join(file));
        for path in files.chain([self.directory.clone()]) {
            match std::os::unix::fs::chown(&path, Some(owner), None) {
                // The kernel lists files of controllers that are not enabled here.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.or_failure(|| format!("give {} to uid {owner}", path.display()))?,
            }
        }
        Ok(())
    }

    /// Stops all processes in it, or lets them go on, and waits until that is so.
    ///
    /// # Errors
    /// When it is not so within ten seconds; a stop is then taken back.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let word = if frozen { "1" } else { "0" };
        self.write("cgroup.freeze", word)?;
        let path = self.directory.join("cgroup.events");
        let file = fs::File::open(&path).or_failure(|| format!("open {}", path.display()))?;
        let end = Instant::now() + Duration::from_secs(10);
        while self.read_key("cgroup.events", "frozen") != Some(u64::from(frozen)) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if frozen {
                    self.write("cgroup.freeze", "0")?;
                }
                bail!(
                    "freeze {}: its processes do not stop; look for state D in /proc/PID/status",
                    self.directory.display()
                );
            }
            wait_event(&file, left);
        }
        Ok(())
    }

    /// The processes in it and in all cgroups below.
    pub fn all_pids(&self) -> Vec<i32> {
        let mut pids = self.pids();
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pids.extend(Cgroup::at(entry.path()).all_pids());
            }
        }
        pids
    }

    fn attach_devices(
        &self,
        program: &[devices::Instruction],
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let directory = self.open()?;
        let attached = sys::bpf::load_device_program(program).and_then(|program| {
            sys::bpf::attach_device_program(program.as_fd(), directory.as_fd())
        });
        match attached {
            Ok(()) => Ok(()),
            Err(errno @ (Errno::EPERM | Errno::ENOSYS)) => {
                let what = format!("device rules of {}", self.directory.display());
                warnings.push(format!("{}; they do not apply", Failure::new(what, errno)));
                Ok(())
            }
            Err(errno) => {
                let what = format!("attach the device program to {}", self.directory.display());
                Err(Failure::new(what, errno).into())
            }
        }
    }

    /// Kills every process in it and below (cgroup.kill, Linux 5.14). A cgroup that is gone has
    /// none.
    ///
    /// # Errors
    /// As write(2).
    pub fn kill(&self) -> Result<()> {
        match fs::write(self.directory.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.directory.exists() => {
                Ok(())
            }
            other => Ok(other
                .or_failure(|| format!("write 1 to {}/cgroup.kill", self.directory.display()))?),
        }
    }

    /// The processes in it, without those below.
    pub fn pids(&self) -> Vec<i32> {
        let text = self.read("cgroup.procs").unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills what is in it, waits for its end, removes it with all below. One that is gone is no
    /// error.
    ///
    /// # Errors
    /// When processes do not end within ten seconds: it names them.
    pub fn remove(&self) -> Result<()> {
        if !self.directory.exists() {
            return Ok(());
        }
        self.kill()?;
        let end = Instant::now() + Duration::from_secs(10);
        remove_tree(&self.directory, end)
    }
}

/// Makes one directory, and says whether it was missing. A parent that another deletion has just
/// removed is made again.
fn make_directory(parent: &Path, directory: &Path, needed: &[&str]) -> Result<bool> {
    for _ in 0..100 {
        enable(parent, needed)?;
        match fs::create_dir(directory) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(parent)
                    .or_failure(|| format!("make cgroup {}", parent.display()))?;
            }
            Err(error) => {
                Err(error).or_failure(|| format!("make cgroup {}", directory.display()))?;
            }
        }
    }
    bail!(
        "make cgroup {}: its parent is removed again and again",
        directory.display()
    )
}

fn remove_tree(directory: &Path, end: Instant) -> Result<()> {
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            other => {
                return Ok(other.or_failure(|| format!("remove cgroup {}", directory.display()))?);
            }
        }
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path(), end)?;
            }
        }
        if !wait_empty(directory, end) {
            let pids = Cgroup::at(directory).pids();
            bail!(
                "remove cgroup {}: EBUSY: processes {pids:?} do not end although they were killed; \
                 look for state D in /proc/PID/status",
                directory.display()
            );
        }
    }
}

/// Removes the parents of a cgroup that have become empty, up to the root of the tree.
pub fn remove_empty_parents(directory: &Path, levels: usize) {
    for parent in directory.ancestors().skip(1).take(levels) {
        // EBUSY: it has other children.
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
}

/// Waits until cgroup.events says `populated 0`; the kernel wakes pollers when it changes.
fn wait_empty(directory: &Path, end: Instant) -> bool {
    let path = directory.join("cgroup.events");
    let Ok(file) = fs::File::open(&path) else {
        return true;
    };
    loop {
        let empty = Cgroup::at(directory).read_key("cgroup.events", "populated") != Some(1);
        let left = end.saturating_duration_since(Instant::now());
        if empty || left.is_zero() {
            // Empty, and still busy: the last process is on its way out. Do not spin.
            if empty {
                std::thread::sleep(Duration::from_micros(200).min(left));
            }
            return !left.is_zero();
        }
        wait_event(&file, left);
    }
}

/// Waits for a change of cgroup.events, for a second at most.
fn wait_event(file: &fs::File, left: Duration) {
    let milliseconds = u16::try_from(left.as_millis().min(1000)).unwrap_or(1000);
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    let _ = nix::poll::poll(&mut fds, PollTimeout::from(milliseconds));
}

/// Gives the children of a cgroup all controllers that it has; those that are needed must work.
fn enable(directory: &Path, needed: &[&str]) -> Result<()> {
    let control = directory.join("cgroup.subtree_control");
    let enabled = words(&control);
    let missing: Vec<_> = words(&directory.join("cgroup.controllers"))
        .into_iter()
        .filter(|it| !enabled.contains(it))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = missing.iter().map(|it| format!("+{it}")).collect();
    if fs::write(&control, all.join(" ")).is_ok() {
        return Ok(());
    }
    for (word, controller) in all.iter().zip(&missing) {
        let result = fs::write(&control, word)
            .or_failure(|| format!("write {word} to {}", control.display()))
            .map_err(|failure| match failure.errno {
                Errno::EBUSY => failure.hint(format!(
                    "{} has processes of its own, so its children cannot have controllers",
                    directory.display()
                )),
                _ => failure,
            });
        if needed.contains(&controller.as_str()) {
            result.context("enable a controller that the configuration needs")?;
        }
    }
    Ok(())
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}
