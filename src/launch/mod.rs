//! The parent's side of a plan: opens what it names, clones, grants, and speaks the protocol.
//!
//! Whatever fails, everything is undone before the error returns: the child is killed and reaped,
//! the cgroup removed, descriptors closed. What a container is and where its state lies is
//! `container`'s business; this only makes processes.

mod open;
mod words;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

use crate::cgroup::{Cgroup, Hierarchy, Made};
use crate::child::Child;
use crate::child::record::{Kind, Record};
use crate::error::OrFailure;
use crate::plan::op::Slot;
use crate::plan::{Grant, Plan};
use crate::sys;
use crate::sys::process::Exit;
use crate::sys::shared::SharedPage;

/// A descriptor that the caller gives, by the name that the plan has for it.
pub type Given = (&'static str, OwnedFd);

/// A process that was made and has reached `Ready` (create) or its program (exec).
#[derive(Debug)]
pub struct Launched {
    /// In our pid namespace.
    pub pid: i32,
    /// Refers to it for good.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, when it has one.
    pub console: Option<OwnedFd>,
}

/// Executes a plan. `on_clone` is called as soon as the process is there and before it may do
/// anything: to record it.
///
/// # Errors
/// One that names the step and its errno; nothing is left of the attempt.
pub fn launch(
    plan: &Plan,
    given: Vec<Given>,
    join: Option<&Cgroup>,
    warnings: &mut Vec<String>,
    on_clone: impl FnOnce(&sys::clone::Child) -> Result<()>,
) -> Result<Launched> {
    let made = match &plan.cgroup {
        Some(cgroup) => Some(Hierarchy::find()?.make(cgroup, warnings)?),
        None => None,
    };
    let cgroup = made.as_ref().map(|made| &made.cgroup).or(join);
    crate::fault::parent_step("open the cgroup")?;
    let directory = cgroup.map(Cgroup::open).transpose()?;
    let mut slots = open::all(plan, given, cgroup)?;
    crate::fault::parent_step("map a shared page")?;
    let page = SharedPage::new().or_failure(|| "map a shared page")?;
    let (ours, theirs) = sys::socket::seqpacket_pair().or_failure(|| "make a socket pair")?;
    let mut strings = plan.strings.clone();
    let foreign = foreign(plan, &slots, &theirs);
    let mut child = Child::new(&plan.ops, &mut strings, &mut slots, &page, theirs);
    child.foreign = &foreign;
    child.injected = crate::fault::child_step();
    let cloned = {
        let _around = around(&child, plan.join_pid, plan.new_time.as_deref())?;
        crate::fault::parent_step("clone")?;
        let directory = directory.as_ref().map(AsFd::as_fd);
        sys::clone::clone_child(plan.clone_flags, directory, &mut child, Child::run)
            .map_err(|errno| words::clone(plan, errno))?
    };
    // Our copy of the child's end: without it, the end of the child is the end of the stream.
    child.socket = None;
    let guard = Guard {
        child: Some(cloned),
        made,
    };
    let parent = Parent {
        ops: plan,
        socket: ours,
        page: &page,
    };
    let result = parent.bring_up(guard, warnings, on_clone);
    slots.clear();
    result
}

/// Ranges of descriptors that the child has no use for: all but the standard streams, those that stay
/// open for the program, the slots and its end of the pair.
fn foreign(plan: &Plan, slots: &[Option<OwnedFd>], theirs: &OwnedFd) -> Vec<(u32, u32)> {
    use crate::plan::op::Op;
    let preserved = plan.ops.iter().find_map(|op| match op {
        Op::CloseOnExec { first } => Some(*first),
        _ => None,
    });
    let kept = slots.iter().flatten().chain([theirs]);
    let kept = kept.filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok());
    between(preserved.unwrap_or(3), kept.collect())
}

/// The ranges from `first` on without the numbers of `kept`.
fn between(first: u32, mut kept: Vec<u32>) -> Vec<(u32, u32)> {
    kept.sort_unstable();
    let mut ranges = Vec::new();
    let mut next = first;
    for number in kept.into_iter().filter(|number| *number >= first) {
        if number > next {
            ranges.push((next, number - 1));
        }
        next = number + 1;
    }
    ranges.push((next, u32::MAX));
    ranges
}

/// Kills and reaps the child, and then removes its cgroup, unless all went well.
struct Guard {
    child: Option<sys::clone::Child>,
    made: Option<Made>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = sys::process::pidfd_signal(child.pidfd.as_fd(), libc::SIGKILL);
            let _ = sys::process::wait_pidfd(child.pidfd.as_fd(), true);
        }
        self.made.take();
    }
}

/// What the parent changes about itself for the time of the clone.
struct Around {
    back: Vec<(OwnedFd, u64)>,
}

impl Drop for Around {
    fn drop(&mut self) {
        for (fd, flag) in &self.back {
            let _ = sys::ns::setns(fd.as_fd(), *flag);
        }
    }
}

fn around(
    child: &Child<'_>,
    join_pid: Option<Slot>,
    new_time: Option<&[crate::spec::namespaces::TimeOffset]>,
) -> Result<Around> {
    use crate::spec::namespaces::Kind as Namespace;
    let mut around = Around { back: Vec::new() };
    let own = |kind: Namespace| -> Result<OwnedFd> {
        let path = format!("/proc/self/ns/{}", kind.file());
        Ok(fs::File::open(&path)
            .or_failure(|| format!("open {path}"))?
            .into())
    };
    if let Some(slot) = join_pid {
        crate::fault::parent_step("join the pid namespace for children")?;
        let flag = Namespace::Pid.flag();
        around.back.push((own(Namespace::Pid)?, flag));
        let fd = child
            .slots
            .get(slot.0)
            .and_then(Option::as_ref)
            .context("the plan has no pid slot")?;
        sys::ns::setns(fd.as_fd(), flag).or_failure(|| "join the pid namespace for children")?;
    }
    if let Some(offsets) = new_time {
        let flag = Namespace::Time.flag();
        around.back.push((own(Namespace::Time)?, flag));
        sys::ns::unshare(flag).or_failure(|| "make a time namespace for children")?;
        crate::fault::parent_step("write time offsets")?;
        let lines: Vec<_> = offsets
            .iter()
            .map(|it| format!("{} {} {}\n", it.clock, it.seconds, it.nanoseconds))
            .collect();
        if !lines.is_empty() {
            fs::write("/proc/self/timens_offsets", lines.concat())
                .or_failure(|| "write /proc/self/timens_offsets")?;
        }
    }
    Ok(around)
}

struct Parent<'a> {
    ops: &'a Plan,
    socket: OwnedFd,
    page: &'a SharedPage,
}

impl Parent<'_> {
    fn bring_up(
        &self,
        mut guard: Guard,
        warnings: &mut Vec<String>,
        on_clone: impl FnOnce(&sys::clone::Child) -> Result<()>,
    ) -> Result<Launched> {
        if self.ops.has_stage() {
            self.replace_stage(&mut guard)?;
        }
        let child = guard.child.as_ref().context("no child")?;
        crate::fault::parent_step("record the process")?;
        on_clone(child)?;
        grant(&self.ops.grant, child.pid)?;
        crate::fault::parent_step("go")?;
        // A child that is dead already is explained below, by the end of the stream.
        let _ = Record::new(Kind::Go).send(self.socket.as_fd(), None);
        let console = self.listen(child, warnings)?;
        crate::fault::parent_step("ready")?;
        let child = guard.child.take().context("no child")?;
        if let Some(made) = guard.made.take() {
            made.keep();
        }
        Ok(Launched {
            pid: child.pid,
            pidfd: child.pidfd,
            console,
        })
    }

    /// The stage has made the child as its sibling: from here on the child is our child.
    fn replace_stage(&self, guard: &mut Guard) -> Result<()> {
        let stage = guard.child.as_ref().context("no stage")?;
        match hear(&self.socket).or_failure(|| "hear from the stage")? {
            Some((record, _)) if record.kind == Kind::Cloned => {}
            Some((record, _)) => bail!(words::failed(self.ops, &record)),
            None => bail!(self.died(stage)),
        }
        // It is our child and not yet reaped, so its pid cannot have become another's.
        let pid = self.page.pid();
        let opened = crate::fault::parent_step("open a pidfd of the child").and_then(|()| {
            sys::process::pidfd_open(pid).or_failure(|| "open a pidfd of the child")
        });
        let pidfd = match opened {
            Ok(pidfd) => pidfd,
            Err(failure) => {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
                let _ = sys::process::wait_pid(pid);
                return Err(failure.into());
            }
        };
        let stage = guard.child.replace(sys::clone::Child { pid, pidfd });
        if let Some(stage) = stage {
            sys::process::wait_pidfd(stage.pidfd.as_fd(), true)
                .or_failure(|| "wait for the stage")?;
        }
        Ok(())
    }

    fn listen(
        &self,
        child: &sys::clone::Child,
        warnings: &mut Vec<String>,
    ) -> Result<Option<OwnedFd>> {
        let mut console = None;
        loop {
            match hear(&self.socket).or_failure(|| "hear from the child")? {
                Some((record, fd)) => match record.kind {
                    Kind::Console => console = fd,
                    Kind::Warning => warnings.push(words::failed(self.ops, &record).to_string()),
                    Kind::Ready => return Ok(console),
                    Kind::Failed => bail!(words::failed(self.ops, &record)),
                    Kind::Cloned | Kind::Go => bail!("the child spoke out of turn"),
                },
                // A plan without `Ready` ends in execve, which closes the stream.
                None if self.executed() => return Ok(console),
                None => bail!(self.died(child)),
            }
        }
    }

    fn executed(&self) -> bool {
        use crate::plan::op::Op;
        let last = self.ops.ops.len() - 1;
        let waits = self.ops.ops.iter().any(|op| matches!(op, Op::Ready));
        !waits && usize::try_from(self.page.step()) == Ok(last)
    }

    fn died(&self, child: &sys::clone::Child) -> anyhow::Error {
        let how = match sys::process::wait_pidfd(child.pidfd.as_fd(), true) {
            Ok(Some(Exit::Signal(signal))) => format!("was killed by signal {signal}"),
            Ok(Some(Exit::Code(code))) => format!("ended with code {code}"),
            _ => "ended".to_owned(),
        };
        let step = usize::try_from(self.page.step()).unwrap_or(0);
        let at = self
            .ops
            .ops
            .get(step)
            .map(ToString::to_string)
            .unwrap_or_default();
        anyhow::anyhow!("the container's first process {how} at the step: {at}")
    }
}

/// The next record; `None` when the other side has ended, with `Go` read or unread.
fn hear(socket: &OwnedFd) -> sys::Result<Option<(Record, Option<OwnedFd>)>> {
    match Record::receive(socket.as_fd()) {
        // `Go` was not read. What the other side said before its end is still there.
        Err(Errno::ECONNRESET) => match Record::receive(socket.as_fd()) {
            Err(Errno::ECONNRESET) => Ok(None),
            other => other,
        },
        other => other,
    }
}

/// What only the parent's credentials can do for the child.
fn grant(grant: &Grant, pid: i32) -> Result<()> {
    if let Some(maps) = &grant.maps {
        crate::fault::parent_step("id maps")?;
        crate::mount::write_map(pid, "uid_map", &maps.uids)?;
        crate::mount::write_map(pid, "gid_map", &maps.gids)?;
    }
    if let Some(score) = grant.oom_score_adj {
        crate::fault::parent_step("oom_score_adj")?;
        let path = format!("/proc/{pid}/oom_score_adj");
        fs::write(&path, score.to_string())
            .or_failure(|| format!("write {score} to {path}"))
            .map_err(|failure| match failure.errno {
                Errno::EACCES | Errno::EPERM => failure.hint("lowering it needs CAP_SYS_RESOURCE"),
                _ => failure,
            })?;
    }
    for limit in &grant.rlimits {
        crate::fault::parent_step("rlimit")?;
        sys::process::raise_hard_limit(pid, limit.resource, limit.hard)
            .or_failure(|| {
                format!(
                    "raise hard limit RLIMIT_{} to {}",
                    limit.name.to_uppercase(),
                    limit.hard
                )
            })
            .map_err(|failure| match failure.errno {
                Errno::EPERM => failure.hint("raising a hard limit needs CAP_SYS_RESOURCE"),
                _ => failure,
            })?;
    }
    Ok(())
}

/// Waits on a connection to a container's start socket until its program runs. `plan` is made only
/// when there is something to explain.
///
/// # Errors
/// What the container's process reports: it could not be executed.
pub fn start(plan: impl Fn() -> Result<Plan>, connection: &OwnedFd) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    loop {
        let heard = Record::receive(connection.as_fd());
        if heard
            .as_ref()
            .is_err_and(|errno| *errno == Errno::ECONNRESET)
        {
            bail!("the container's first process ended before it was started");
        }
        match heard.or_failure(|| "hear from the container")? {
            None => return Ok(warnings),
            Some((record, _)) if record.kind == Kind::Warning => {
                warnings.push(words::failed(&plan()?, &record).to_string());
            }
            Some((record, _)) => bail!(words::failed(&plan()?, &record)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_between_what_is_kept_is_closed() {
        assert_eq!(between(3, vec![]), [(3, u32::MAX)]);
        assert_eq!(between(3, vec![3, 4, 7]), [(5, 6), (8, u32::MAX)]);
        assert_eq!(between(5, vec![9, 1, 6]), [(5, 5), (7, 8), (10, u32::MAX)]);
    }
}
