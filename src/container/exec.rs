//! A further process in a container that runs.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use oci_spec::runtime::Process as WireProcess;

use super::{Status, View};
use crate::cgroup::Cgroup;
use crate::error::Failure;
use crate::launch::{self, Given, Launched};
use crate::plan;
use crate::spec::process::Process;
use crate::spec::{Container, wire};

/// What `exec` needs.
#[derive(Default)]
pub struct ExecRequest {
    /// What to run, who and how.
    pub process: Process,
    /// Standard streams, when they are not inherited.
    pub given: Vec<Given>,
    /// Descriptors 3 to 3 + this stay open.
    pub preserve_fds: u32,
    /// Also in a paused container; the process starts when it is resumed.
    pub ignore_paused: bool,
}

/// The configuration of a container, to base an exec's process on.
///
/// # Errors
/// When the kept configuration cannot be read.
pub fn configuration(view: &View) -> Result<(WireProcess, Container)> {
    let (wire, container, _) = view.config()?.plan(&mut Vec::new())?;
    let process = wire
        .process()
        .clone()
        .context("the container has no process")?;
    Ok((process, container))
}

/// Reads a process.json.
///
/// # Errors
/// When it is wrong, with the property.
pub fn process_of(bytes: &[u8], warnings: &mut Vec<String>) -> Result<Process> {
    let wire = wire::read_process(bytes, warnings).context("process")?;
    Process::new(&wire, warnings).context("process")
}

/// Runs a process in a container; returns when its program runs.
///
/// # Errors
/// When the container does not run, or the program cannot be executed.
pub fn exec(
    view: &mut View,
    container: &Container,
    request: ExecRequest,
    warnings: &mut Vec<String>,
) -> Result<Launched> {
    let id = view.entry.id.clone();
    match view.status {
        Status::Paused if !request.ignore_paused => bail!("cannot exec in a paused container"),
        Status::Stopped | Status::Creating => {
            bail!("cannot exec in container {id}: container not running")
        }
        _ => {}
    }
    let pid = view.pid();
    let cgroup = view.cgroup().context("the container has no cgroup")?;
    let pidfd = view.pidfd.take().context("container not running")?;
    let mut given = request.given;
    let own_streams = given.iter().any(|(name, _)| *name == "standard output");
    given.push(("the container's first process", pidfd));
    let exec = plan::exec::Request {
        id,
        own_streams,
        preserve_fds: request.preserve_fds,
    };
    let plan = plan::exec::plan(container, &request.process, &exec, warnings)?;
    let cgroup = if takes_processes(&cgroup) {
        cgroup
    } else {
        cgroup_of(pid)?
    };
    launch::launch(&plan, given, Some(&cgroup), warnings, |_| Ok(()))
}

/// A container that manages cgroups of its own (systemd) has given controllers to its children, and
/// then its own cgroup takes no processes: they go where its first process is.
fn takes_processes(cgroup: &Cgroup) -> bool {
    cgroup
        .read("cgroup.subtree_control")
        .is_none_or(|text| text.is_empty())
}

fn cgroup_of(pid: i32) -> Result<Cgroup> {
    let path = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&path)
        .map_err(|_| Failure::new(format!("read {path}"), Errno::ESRCH))?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    let line = line.with_context(|| format!("{path}: no cgroup version 2"))?;
    ensure!(
        !line.contains("/.."),
        "process {pid} is in a cgroup outside of ours: {line}"
    );
    Ok(Cgroup::at(
        crate::cgroup::Hierarchy::find()?.directory(line),
    ))
}
