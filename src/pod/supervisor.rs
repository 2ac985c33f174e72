//! The supervisor: one process per pod, which makes the sandbox and the containers and stays until
//! the pod has come to its end.
//!
//! What to do next is [`decide`]'s, from the records alone; this does it, waits, and writes down what
//! happened. It has a mount namespace of its own, so that the pod's mounts are gone when it is.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::{Deserialize, Serialize};

use super::config::{self, Setting};
use super::decide::{self, Next};
use super::expand::Facts;
use super::instance::{self, Running, Shared};
use super::resources::{self, QosClass};
use super::spec::StoredPod;
use super::status::{self, ContainerRecord, Observation, PodStatus};
use super::store::{Entry, Store};
use super::time::Timestamp;
use super::{machine, userns, volumes};
use crate::cgroup::{Cgroup, Hierarchy};
use crate::container::foreground::Signals;
use crate::container::process::ProcessId;
use crate::container::{self};
use crate::launch::Launched;
use crate::mount;
use crate::plan::CgroupPlan;
use crate::spec::namespaces::IdMaps;

/// What a supervisor tells who started it: one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// Something that does not apply on this machine.
    Warning(String),
    /// The sandbox is there.
    Ready,
    /// It cannot be made; nothing is left.
    Error(String),
}

/// Runs a pod to its end. `reports` is closed as soon as the sandbox is there.
///
/// # Errors
/// When the sandbox cannot be made; it is reported, too.
pub fn run(store: &Store, uid: &str, mut reports: impl Write) -> Result<()> {
    let signals = Signals::block()?;
    let entry = store.entry(uid);
    let me = i32::try_from(std::process::id()).context("pid")?;
    let made = entry.write_supervisor(&ProcessId::of(me)?).and_then(|()| {
        let pod = entry
            .pod()?
            .with_context(|| format!("pod {uid} is not there"))?;
        let facts = machine::facts(uid, store.root())?;
        mount::private_namespace()?;
        Ok((pod, facts))
    });
    let made = made.and_then(|(pod, facts)| {
        let maps = (!pod.pod.spec.host_users)
            .then(|| userns::assign(store, &entry))
            .transpose()?;
        let hierarchy = Hierarchy::find()?;
        Ok((pod, facts, maps, hierarchy))
    });
    let (pod, facts, maps, hierarchy) = match made {
        Ok(parts) => parts,
        Err(error) => return refuse(&mut reports, error),
    };
    let cgroup = cgroup_path(&pod);
    let controllers = hierarchy.controllers();
    let setting = Setting {
        pod: &pod.pod,
        maps: maps.as_ref(),
        cgroup: &cgroup,
        facts: &facts,
        controllers: &controllers,
    };
    for warning in warnings(&setting) {
        report(&mut reports, &Report::Warning(warning));
    }
    let sandbox = match make_sandbox(&entry, &setting, &hierarchy, maps.as_ref()) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            remove_sandbox(&entry, &hierarchy, &cgroup);
            return refuse(&mut reports, error);
        }
    };
    let mut supervisor = Supervisor {
        entry: &entry,
        pod: &pod,
        setting: &setting,
        images: store.images(),
        sandbox,
        records: entry.records()?,
        running: Vec::new(),
        status: entry.status()?,
        stop: None,
    };
    supervisor.observe()?;
    report(&mut reports, &Report::Ready);
    drop(reports);
    let lived = supervisor.live(&signals);
    supervisor.end(&hierarchy)?;
    lived
}

fn report(reports: &mut impl Write, what: &Report) {
    // Whoever asked may be gone; the pod lives on.
    if let Ok(text) = serde_json::to_string(what) {
        let _ = writeln!(reports, "{text}");
    }
}

fn refuse(reports: &mut impl Write, error: anyhow::Error) -> Result<()> {
    report(reports, &Report::Error(format!("{error:#}")));
    Err(error)
}

/// `/kubepods[/QOS]/podUID`, as the kubelet lays it out, so that its tools find pods.
pub fn cgroup_path(pod: &StoredPod) -> String {
    let class = match resources::qos_class(&pod.pod.spec) {
        QosClass::Guaranteed => "",
        QosClass::Burstable => "/burstable",
        QosClass::BestEffort => "/besteffort",
    };
    format!("/kubepods{class}/pod{}", pod.uid)
}

fn warnings(setting: &Setting<'_>) -> Vec<String> {
    let spec = &setting.pod.spec;
    let mut warnings = Vec::new();
    let mut missing = Vec::new();
    for container in spec.all_containers() {
        let limits = resources::container_limits(spec, container);
        let asked = !container.resources.is_empty();
        let list = config::unified(&limits, setting.controllers).1;
        if asked && !list.is_empty() {
            missing.push(format!("{} ({})", container.name, list.join(", ")));
        }
    }
    if !missing.is_empty() {
        warnings.push(format!(
            "this machine's cgroup tree lacks the controllers for these limits, they are not enforced: {}",
            missing.join("; ")
        ));
    }
    let lowest = machine::lowest_oom_score_adj();
    let wanted = spec
        .all_containers()
        .map(|it| resources::oom_score_adj(spec, it, setting.facts.allocatable_memory))
        .min();
    if let Some(wanted) = wanted.filter(|wanted| *wanted < lowest) {
        warnings.push(format!(
            "oom_score_adj {wanted} needs CAP_SYS_RESOURCE, which podctl lacks; {lowest} is used"
        ));
    }
    warnings
}

/// The sandbox: the pod's cgroup, its volumes, and the pause process that holds its namespaces.
fn make_sandbox(
    entry: &Entry,
    setting: &Setting<'_>,
    hierarchy: &Hierarchy,
    maps: Option<&IdMaps>,
) -> Result<Sandbox> {
    let limits = resources::pod_limits(&setting.pod.spec);
    let unified = config::unified(&limits, setting.controllers).0;
    let writes = unified
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(file, value)| {
            let value = value.as_str()?.to_owned();
            Some(crate::spec::cgroup::Write {
                file: file.clone(),
                value,
            })
        });
    let plan = CgroupPlan {
        path: setting.cgroup.to_owned(),
        writes: writes.collect(),
        owner: None,
        devices: Vec::new(),
    };
    let made = hierarchy.make(&plan, &mut Vec::new())?;
    crate::fault::parent_step("make volumes")?;
    volumes::make(entry, &setting.pod.spec, maps)?;
    let id = machine::random_hex(32)?;
    let config = config::sandbox(setting, &id);
    let given = vec![
        ("standard input", instance::null(false)?),
        ("standard output", instance::null(true)?),
        ("standard error", instance::null(true)?),
        ("pause program", container::sandbox::pause_program()?),
    ];
    let launched = instance::create(entry, &id, "sandbox", &config, given, false)?;
    container::start(&entry.containers(), &id, &mut Vec::new())?;
    made.keep();
    Ok(Sandbox { id, launched })
}

struct Sandbox {
    id: String,
    launched: Launched,
}

/// Idempotent: also for a sandbox that was made in part.
fn remove_sandbox(entry: &Entry, hierarchy: &Hierarchy, path: &str) {
    let containers = entry.containers();
    for id in containers.ids().unwrap_or_default() {
        let _ = container::delete(&containers, &id, true);
    }
    let directory = hierarchy.directory(path);
    let _ = Cgroup::at(&directory).remove();
    // The class of service, and kubepods.
    crate::cgroup::remove_empty_parents(&directory, path.matches('/').count() - 1);
}

struct Supervisor<'a> {
    entry: &'a Entry,
    pod: &'a StoredPod,
    setting: &'a Setting<'a>,
    images: crate::image::Store,
    sandbox: Sandbox,
    records: Vec<ContainerRecord>,
    running: Vec<Running>,
    status: Option<PodStatus>,
    /// When the containers are killed, once they were asked to stop.
    stop: Option<SystemTime>,
}

impl Supervisor<'_> {
    fn live(&mut self, signals: &Signals) -> Result<()> {
        loop {
            match decide::next(&self.pod.pod.spec, &self.records, self.stop.is_some()) {
                Next::Finish => return Ok(()),
                Next::Start(names) => {
                    for name in names {
                        self.start(&name)?;
                    }
                    self.observe()?;
                }
                Next::Wait => self.wait(signals)?,
            }
        }
    }

    fn start(&mut self, name: &str) -> Result<()> {
        let container = self
            .pod
            .pod
            .spec
            .all_containers()
            .find(|it| it.name == name);
        let container = container.with_context(|| format!("the pod has no container {name}"))?;
        let mut record = ContainerRecord {
            name: name.to_owned(),
            created_at: Some(Timestamp::from(SystemTime::now())),
            ..ContainerRecord::default()
        };
        let shared = Shared {
            entry: self.entry,
            setting: self.setting,
            pause: self.sandbox.launched.pid,
            images: &self.images,
        };
        match instance::start(&shared, container, &mut record) {
            Ok(running) => self.running.push(running),
            Err(error) => {
                record.finished_at = Some(Timestamp::from(SystemTime::now()));
                record.start_error = Some(format!("{error:#}"));
            }
        }
        self.entry.write_record(&record)?;
        self.records.push(record);
        Ok(())
    }

    /// Waits for an end, output, a signal or the deadline, and deals with it.
    fn wait(&mut self, signals: &Signals) -> Result<()> {
        let ready = self.poll(signals)?;
        let is_ready = |fd: BorrowedFd<'_>| ready.contains(&fd.as_raw_fd());
        for running in &mut self.running {
            running.copy_output(is_ready);
        }
        while let Some(signal) = signals.read() {
            if matches!(signal, libc::SIGTERM | libc::SIGINT) {
                self.ask_to_stop()?;
            }
        }
        if self
            .stop
            .is_some_and(|deadline| SystemTime::now() >= deadline)
        {
            self.running.iter().for_each(Running::kill);
        }
        if container::try_wait(&self.sandbox.launched)?.is_some() {
            self.running.iter().for_each(Running::kill);
            self.stop.get_or_insert(SystemTime::now());
        }
        self.bury()
    }

    fn poll(&self, signals: &Signals) -> Result<Vec<i32>> {
        let mut fds = vec![
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.sandbox.launched.pidfd.as_fd(), PollFlags::POLLIN),
        ];
        let containers = self.running.iter().flat_map(Running::descriptors);
        fds.extend(containers.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let timeout = self.stop.map_or(PollTimeout::NONE, |deadline| {
            let left = deadline
                .duration_since(SystemTime::now())
                .unwrap_or(Duration::ZERO);
            // Again and again after the deadline: a process in a system call dies late.
            let milliseconds = left.as_millis().clamp(100, 60_000);
            PollTimeout::from(u16::try_from(milliseconds).unwrap_or(60_000))
        });
        match nix::poll::poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => bail!("wait for containers: {errno}"),
        }
        let ready = fds
            .iter()
            .filter(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        Ok(ready.map(|fd| fd.as_fd().as_raw_fd()).collect())
    }

    /// The deadline is in the pod's file: whoever asked has written it there before the signal.
    fn ask_to_stop(&mut self) -> Result<()> {
        let pod = self.entry.pod()?;
        let grace = self.pod.pod.spec.termination_grace_period_seconds;
        let deadline = match pod.as_ref().and_then(|pod| pod.deletion) {
            Some(deletion) => {
                SystemTime::UNIX_EPOCH + Duration::from_secs(deletion.deadline.unix())
            }
            None => SystemTime::now() + Duration::from_secs(grace),
        };
        // A second request can only make it sooner.
        if self.stop.is_none_or(|before| deadline < before) {
            let first = self.stop.is_none();
            self.stop = Some(deadline);
            if first {
                for running in &self.running {
                    let _ = running.stop(self.entry);
                }
            }
        }
        Ok(())
    }

    fn bury(&mut self) -> Result<()> {
        let mut index = 0;
        while index < self.running.len() {
            let Some(exit) = self.running[index].ended()? else {
                index += 1;
                continue;
            };
            let running = self.running.swap_remove(index);
            let record = self
                .records
                .iter_mut()
                .rev()
                .find(|record| record.name == running.name);
            let record = record.context("a container without a record")?;
            running.bury(self.entry, exit, record)?;
            self.observe()?;
        }
        Ok(())
    }

    /// Writes the status that follows from the facts.
    fn observe(&mut self) -> Result<()> {
        let status = observe(
            self.pod,
            &self.records,
            true,
            self.status.as_ref(),
            self.setting.facts,
        );
        self.entry.write_status(&status)?;
        self.status = Some(status);
        Ok(())
    }

    /// All containers have ended, or something went wrong: everything but the records goes.
    fn end(mut self, hierarchy: &Hierarchy) -> Result<()> {
        for running in self.running.drain(..) {
            running.kill();
        }
        let _ = container::delete(&self.entry.containers(), &self.sandbox.id, true);
        remove_sandbox(self.entry, hierarchy, self.setting.cgroup);
        let status = observe(
            self.pod,
            &self.records,
            false,
            self.status.as_ref(),
            self.setting.facts,
        );
        self.entry.write_status(&status)?;
        crate::files::remove_tree(&self.entry.running("bundles"))
    }
}

/// The status now.
pub fn observe(
    pod: &StoredPod,
    records: &[ContainerRecord],
    ready: bool,
    previous: Option<&PodStatus>,
    facts: &Facts,
) -> PodStatus {
    status::observe(&Observation {
        pod,
        records,
        sandbox: status::Sandbox {
            ready,
            host_ips: facts.host_ips.clone(),
            pod_ips: facts.pod_ips.clone(),
        },
        failure: None,
        previous,
        now: Timestamp::from(SystemTime::now()),
    })
}
