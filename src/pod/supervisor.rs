//! The supervisor: one process per pod, which makes the sandbox and the containers and stays until
//! the pod has come to its end.
//!
//! What to do next is [`decide`]'s, from the records alone; this does it, waits, and writes down what
//! happened. It has a mount namespace of its own, so that the pod's mounts are gone when it is.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::{Deserialize, Serialize};

use super::config::Setting;
use super::decide::{self, Next};
use super::instance::{self, Running, Shared};
use super::sandbox::{self, Sandbox, cgroup_path};
use super::spec::StoredPod;
use super::status::{self, ContainerRecord, Failure, Observation, Phase, PodStatus};
use super::store::{Entry, Store};
use super::time::Timestamp;
use super::{machine, userns};
use crate::cgroup::Hierarchy;
use crate::container;
use crate::container::foreground::Signals;
use crate::container::process::ProcessId;
use crate::mount;

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
/// When the sandbox cannot be made, which is reported, too; when the pod had to be ended because
/// something of it could not be done, which its status says, too.
pub fn run(store: &Store, uid: &str, mut reports: impl Write) -> Result<()> {
    let signals = Signals::block()?;
    let entry = store.entry(uid);
    let made = begin(&entry).and_then(|pod| {
        let facts = machine::facts(uid, store.root())?;
        mount::private_namespace()?;
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
    for warning in sandbox::warnings(&setting) {
        report(&mut reports, &Report::Warning(warning));
    }
    let made = sandbox::make(&entry, &setting, &hierarchy, maps.as_ref());
    let sandbox = match made {
        Ok(sandbox) => sandbox,
        Err(error) => {
            // What cannot be removed now is found by whoever started us.
            let _ = sandbox::remove(&entry, &hierarchy, &cgroup);
            return refuse(&mut reports, error);
        }
    };
    let mut supervisor = Supervisor {
        entry: &entry,
        pod: &pod,
        setting: &setting,
        images: store.images(),
        sandbox,
        sandbox_ended: false,
        records: Vec::new(),
        running: Vec::new(),
        status: None,
        failure: None,
        stop: None,
    };
    if let Err(error) = supervisor.observe() {
        let _ = sandbox::remove(&entry, &hierarchy, &cgroup);
        return refuse(&mut reports, error);
    }
    report(&mut reports, &Report::Ready);
    drop(reports);
    let lived = supervisor.live(&signals);
    let ended = supervisor.end(lived.as_ref().err(), &hierarchy);
    lived.and(ended)
}

/// Becomes the pod's supervisor, unless the pod is to go already.
fn begin(entry: &Entry) -> Result<StoredPod> {
    let lock = entry.lock()?;
    let pod = entry.pod()?.filter(|pod| pod.deletion.is_none());
    let (Some(pod), Some(_)) = (pod, lock) else {
        bail!("it was deleted before it began");
    };
    ensure!(!entry.was_begun(), "it has a supervisor, or had one");
    let me = i32::try_from(std::process::id()).context("pid")?;
    entry.write_supervisor(&ProcessId::of(me)?)?;
    Ok(pod)
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

struct Supervisor<'a> {
    entry: &'a Entry,
    pod: &'a StoredPod,
    setting: &'a Setting<'a>,
    images: crate::image::Store,
    sandbox: Sandbox,
    sandbox_ended: bool,
    records: Vec<ContainerRecord>,
    running: Vec<Running>,
    status: Option<PodStatus>,
    /// Why the pod is ended, where it is not its containers' doing.
    failure: Option<Failure>,
    /// When the containers are killed, once they were asked to stop.
    stop: Option<SystemTime>,
}

impl Supervisor<'_> {
    fn live(&mut self, signals: &Signals) -> Result<()> {
        loop {
            self.heed(signals);
            match decide::next(&self.pod.pod.spec, &self.records, self.stop.is_some()) {
                Next::Finish => return Ok(()),
                Next::Start(names) => self.start_all(&names, signals)?,
                Next::Wait => self.wait(signals)?,
            }
        }
    }

    /// Starts containers, as long as nobody asks the pod to stop.
    fn start_all(&mut self, names: &[String], signals: &Signals) -> Result<()> {
        for name in names {
            self.heed(signals);
            if self.stop.is_some() {
                break;
            }
            self.start(name)?;
        }
        self.observe()
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
        let written = self.entry.write_record(&record);
        self.records.push(record);
        written
    }

    /// Waits for an end, output, a signal or the deadline, and deals with it.
    fn wait(&mut self, signals: &Signals) -> Result<()> {
        let ready = self.poll(signals)?;
        let is_ready = |fd: BorrowedFd<'_>| ready.contains(&fd.as_raw_fd());
        for running in &mut self.running {
            running.copy_output(is_ready);
        }
        self.heed(signals);
        if self
            .stop
            .is_some_and(|deadline| SystemTime::now() >= deadline)
        {
            self.running.iter().for_each(Running::kill);
        }
        if !self.sandbox_ended && container::try_wait(&self.sandbox.launched)?.is_some() {
            self.sandbox_ended = true;
            self.fail(
                "SandboxLost",
                "the pod's pause process was killed".to_owned(),
            );
            self.stop = Some(SystemTime::now());
            self.running.iter().for_each(Running::kill);
        }
        self.bury()
    }

    fn fail(&mut self, reason: &str, message: String) {
        self.failure.get_or_insert(Failure {
            phase: Phase::Failed,
            reason: reason.to_owned(),
            message,
        });
    }

    /// Takes the signals that have come.
    fn heed(&mut self, signals: &Signals) {
        while let Some(signal) = signals.read() {
            if matches!(signal, libc::SIGTERM | libc::SIGINT) {
                self.ask_to_stop();
            }
        }
    }

    fn poll(&self, signals: &Signals) -> Result<Vec<i32>> {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if !self.sandbox_ended {
            let pause = self.sandbox.launched.pidfd.as_fd();
            fds.push(PollFd::new(pause, PollFlags::POLLIN));
        }
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
    fn ask_to_stop(&mut self) {
        let pod = self.entry.pod().ok().flatten();
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
                    // One that has just ended needs no signal.
                    let _ = running.stop(self.entry);
                }
            }
        }
    }

    fn bury(&mut self) -> Result<()> {
        let mut index = 0;
        while index < self.running.len() {
            let Some(exit) = self.running[index].ended()? else {
                index += 1;
                continue;
            };
            let running = self.running.swap_remove(index);
            let record = record_of(&mut self.records, &running.name)?;
            running.bury(self.entry, exit, record)?;
            self.observe()?;
        }
        Ok(())
    }

    /// Writes the status that follows from the facts.
    fn observe(&mut self) -> Result<()> {
        let status = self.seen(true);
        self.entry.write_status(&status)?;
        self.status = Some(status);
        Ok(())
    }

    fn seen(&self, ready: bool) -> PodStatus {
        observe(
            self.pod,
            &self.records,
            ready,
            self.failure.clone(),
            self.status.as_ref(),
            &self.setting.facts.host_ips,
        )
    }

    /// All containers have ended, or something went wrong: everything but the records goes. Whatever
    /// fails, the rest is still done.
    fn end(mut self, error: Option<&anyhow::Error>, hierarchy: &Hierarchy) -> Result<()> {
        if let Some(error) = error {
            self.fail("SupervisorError", format!("{error:#}"));
        }
        let mut result = Ok(());
        for running in self.running.drain(..) {
            let record = record_of(&mut self.records, &running.name);
            let ended = record.and_then(|record| running.end(self.entry, record));
            result = result.and(ended);
        }
        let removed = sandbox::remove(self.entry, hierarchy, self.setting.cgroup);
        result = result.and(removed);
        // The pause process was our child: nobody else would bury it before we end.
        let _ = container::try_wait(&self.sandbox.launched);
        if let Err(error) = &result {
            self.fail("SupervisorError", format!("{error:#}"));
        }
        result = result.and(self.entry.write_status(&self.seen(false)));
        result.and(crate::files::remove_tree(&self.entry.running("bundles")))
    }
}

fn record_of<'a>(
    records: &'a mut [ContainerRecord],
    name: &str,
) -> Result<&'a mut ContainerRecord> {
    let record = records.iter_mut().rev().find(|record| record.name == name);
    record.with_context(|| format!("container {name} has no record"))
}

/// The status now.
pub fn observe(
    pod: &StoredPod,
    records: &[ContainerRecord],
    ready: bool,
    failure: Option<Failure>,
    previous: Option<&PodStatus>,
    host_ips: &[String],
) -> PodStatus {
    status::observe(&Observation {
        pod,
        records,
        sandbox: status::Sandbox {
            ready,
            host_ips: host_ips.to_vec(),
            pod_ips: Vec::new(),
        },
        failure,
        previous,
        now: Timestamp::from(SystemTime::now()),
    })
}
