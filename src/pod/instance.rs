//! One instance of a container, from its root file system to its last line of output.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::config::{self, Bind, Instance, Setting};
use super::logs::{Stream, Writer};
use super::spec::{Container, security};
use super::status::ContainerRecord;
use super::store::Entry;
use super::time::Timestamp;
use super::{machine, resources, user, volumes};
use crate::cgroup::Cgroup;
use crate::container::{self, CreateRequest, Exit, View};
use crate::error::OrFailure;
use crate::files::{self, Lasts};
use crate::image;
use crate::launch::{Given, Launched};
use crate::mount::overlay::{self, Overlay};

/// Milliseconds that a killed process has to end.
const END_WAIT: u16 = 10_000;

/// /proc/sys/fs/pipe-max-size, unless it was raised (pipe(7)).
const PIPE_MOST: usize = 1 << 20;

/// A container that runs.
#[derive(Debug)]
pub struct Running {
    /// Of the container in the pod.
    pub name: String,
    /// Of this instance.
    pub id: String,
    /// Its first process.
    pub launched: Launched,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    streams: Vec<(Stream, OwnedFd)>,
    log: Writer,
    cgroup: Option<Cgroup>,
    rootfs: PathBuf,
    // Kept open, never written: a program that reads it waits, as it does under Kubernetes.
    _stdin: Option<OwnedFd>,
    _image: image::InUse,
}

/// What all containers of the pod have in common.
pub struct Shared<'a> {
    /// The pod's directories.
    pub entry: &'a Entry,
    /// For the configuration.
    pub setting: &'a Setting<'a>,
    /// The sandbox's first process.
    pub pause: i32,
    /// The images.
    pub images: &'a image::Store,
}

/// Starts a container. The record is filled as far as it went.
///
/// # Errors
/// When the container could not be made or started; nothing of it is left but its writable layer.
pub fn start(shared: &Shared<'_>, it: &Container, record: &mut ContainerRecord) -> Result<Running> {
    let id = machine::random_hex(32)?;
    record.container_id = Some(id.clone());
    let (image, in_use) = shared.images.acquire(&it.image)?;
    record.image_id = Some(image.id.to_string());
    // Everything that can fail comes before the program runs.
    let log = Writer::open(&log_path(shared.entry, &it.name, record.restart_count))?;
    let rootfs = shared.entry.running("rootfs").join(&it.name);
    let writable = shared.entry.kept("containers").join(&it.name);
    overlay::mount(&Overlay {
        layers: &image.layers,
        writable: &writable,
        target: &rootfs,
        maps: shared.setting.maps,
    })?;
    let started = run(shared, it, &image, &id, &rootfs);
    let Parts {
        launched,
        streams,
        stdin,
        cgroup,
    } = match started {
        Ok(parts) => parts,
        Err(error) => {
            let _ = container::delete(&shared.entry.containers(), &id, true);
            let _ = overlay::unmount(&rootfs);
            return Err(error);
        }
    };
    record.started_at = Some(Timestamp::from(SystemTime::now()));
    let stop_signal = image.config.stop_signal.as_deref().and_then(signal_number);
    Ok(Running {
        name: it.name.clone(),
        id,
        launched,
        stop_signal: stop_signal.unwrap_or(libc::SIGTERM),
        streams,
        log,
        cgroup,
        rootfs,
        _stdin: stdin,
        _image: in_use,
    })
}

/// Where an instance's log is.
pub fn log_path(entry: &Entry, name: &str, restart_count: u32) -> PathBuf {
    entry
        .kept("logs")
        .join(name)
        .join(format!("{restart_count}.log"))
}

fn signal_number(text: &str) -> Option<i32> {
    use std::str::FromStr;
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let named = || {
        nix::sys::signal::Signal::from_str(&format!("SIG{name}"))
            .ok()
            .map(|it| it as i32)
    };
    text.parse().ok().or_else(named)
}

struct Parts {
    launched: Launched,
    streams: Vec<(Stream, OwnedFd)>,
    stdin: Option<OwnedFd>,
    cgroup: Option<Cgroup>,
}

fn run(
    shared: &Shared<'_>,
    it: &Container,
    image: &image::Image,
    id: &str,
    rootfs: &std::path::Path,
) -> Result<Parts> {
    let spec = &shared.setting.pod.spec;
    let security = security::effective(shared.setting.pod, it);
    if let Some(reason) = security.refuses_root(&image.config.user) {
        bail!("{reason}");
    }
    let memory = shared.setting.facts.allocatable_memory;
    let wanted = resources::oom_score_adj(spec, it, memory);
    let binds: Vec<Bind> = volumes::binds(shared.entry, spec, it);
    let config = config::container(
        shared.setting,
        &Instance {
            container: it,
            id,
            image: &image.config,
            security: &security,
            available: &machine::capabilities(shared.setting.maps.is_some())?,
            user: &user::find(rootfs, &image.config.user, &security)?,
            rootfs: rootfs
                .to_str()
                .context("the path of the root file system is not UTF-8")?,
            binds: &binds,
            pause: shared.pause,
            oom_score_adj: wanted.max(machine::lowest_oom_score_adj()),
            limits: &resources::container_limits(spec, it),
        },
    )?;
    let (given, streams, stdin) = streams(it)?;
    let mut launched = create(shared.entry, id, &it.name, &config, given, it.tty)?;
    let containers = shared.entry.containers();
    let cgroup = View::of(&containers, id)?.cgroup();
    container::start(&containers, id, &mut Vec::new())?;
    let streams = match launched.console.take() {
        Some(console) => {
            no_wait(&console)?;
            vec![(Stream::Stdout, console)]
        }
        None => streams,
    };
    Ok(Parts {
        launched,
        streams,
        stdin,
        cgroup,
    })
}

/// Creates a container of the pod from a configuration, whose copy goes into a bundle of its own.
///
/// # Errors
/// As [`container::create`].
pub fn create(
    entry: &Entry,
    id: &str,
    name: &str,
    config: &serde_json::Value,
    given: Vec<Given>,
    terminal: bool,
) -> Result<Launched> {
    let bundle = entry.running("bundles").join(name);
    files::make_directory(&bundle)?;
    let config = serde_json::to_vec_pretty(config)?;
    files::replace(&bundle.join("config.json"), &config, Lasts::UntilShutdown)?;
    let sandbox = given.iter().any(|(name, _)| *name == "pause program");
    let request = CreateRequest {
        id: id.to_owned(),
        bundle,
        config,
        given,
        sandbox,
        takes_terminal: terminal,
        ..CreateRequest::default()
    };
    container::create(&entry.containers(), request, &mut Vec::new())
}

/// Standard streams for a container, and our ends of them.
#[allow(
    clippy::type_complexity,
    reason = "three lists that are taken apart at once"
)]
fn streams(it: &Container) -> Result<(Vec<Given>, Vec<(Stream, OwnedFd)>, Option<OwnedFd>)> {
    if it.tty {
        return Ok((Vec::new(), Vec::new(), None));
    }
    let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).or_failure(|| "make a pipe");
    let (input, kept) = if it.stdin {
        let (read, write) = pipe()?;
        (read, Some(write))
    } else {
        (null(false)?, None)
    };
    let ((out, their_out), (err, their_err)) = (pipe()?, pipe()?);
    no_wait(&out)?;
    no_wait(&err)?;
    let given = vec![
        ("standard input", input),
        ("standard output", their_out),
        ("standard error", their_err),
    ];
    Ok((
        given,
        vec![(Stream::Stdout, out), (Stream::Stderr, err)],
        kept,
    ))
}

/// A container can read its own pipe (/proc/self/fd/1), so what was readable may be gone when we
/// come to it: reading must never wait.
fn no_wait(fd: &OwnedFd) -> Result<()> {
    let set = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    set.map(drop).or_failure(|| "set O_NONBLOCK")?;
    Ok(())
}

/// /dev/null.
///
/// # Errors
/// As open(2).
pub fn null(write: bool) -> Result<OwnedFd> {
    let mut options = fs::OpenOptions::new();
    let opened = options.read(!write).write(write).open("/dev/null");
    Ok(opened.or_failure(|| "open /dev/null")?.into())
}

impl Running {
    /// What to wait for: its end, and its output.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let streams = self.streams.iter().map(|(_, fd)| fd.as_fd());
        std::iter::once(self.launched.pidfd.as_fd()).chain(streams)
    }

    /// Copies what it has written into its log; streams that have ended are dropped. Reads each
    /// stream once, so it never waits on one that was ready.
    pub fn copy_output(&mut self, ready: impl Fn(BorrowedFd<'_>) -> bool) {
        let mut buffer = vec![0; 64 * 1024];
        let log = &mut self.log;
        self.streams.retain(|(stream, fd)| {
            if !ready(fd.as_fd()) {
                return true;
            }
            match nix::unistd::read(fd, &mut buffer) {
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => true,
                // A terminal whose last user is gone answers EIO.
                Ok(0) | Err(_) => false,
                Ok(count) => {
                    // A full disk must not stop the container.
                    let _ = log.add(*stream, &buffer[..count], SystemTime::now());
                    true
                }
            }
        });
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// As waitid(2).
    pub fn ended(&self) -> Result<Option<Exit>> {
        container::try_wait(&self.launched)
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// When it does not run any more.
    pub fn stop(&self, entry: &Entry) -> Result<()> {
        container::kill(&entry.containers(), &self.id, self.stop_signal, false)
    }

    /// Ends it with all its processes.
    pub fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.kill();
        }
    }

    /// After its end: its log is completed, the facts go into the record, then its remains go. The
    /// cgroup is looked at before it is removed, for it knows whether memory ran out; the log is
    /// complete before anybody can read that the container has ended.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn bury(mut self, entry: &Entry, exit: Exit, record: &mut ContainerRecord) -> Result<()> {
        record.finished_at = Some(Timestamp::from(SystemTime::now()));
        record.exit_code = Some(exit.code());
        if let Exit::Signal(signal) = exit {
            record.signal = Some(signal);
        }
        let killed = self
            .cgroup
            .as_ref()
            .and_then(|it| it.read_key("memory.events", "oom_kill"));
        record.oom_killed = killed.unwrap_or(0) > 0;
        // In a shared pid namespace others of it may live.
        self.kill();
        self.drain();
        let written = entry.write_record(record);
        let deleted = container::delete(&entry.containers(), &self.id, true);
        let unmounted = overlay::unmount(&self.rootfs);
        written.and(deleted).and(unmounted)
    }

    /// Kills it, waits for its end, and buries it.
    ///
    /// # Errors
    /// When it does not end, or something of it cannot be removed.
    pub fn end(self, entry: &Entry, record: &mut ContainerRecord) -> Result<()> {
        self.kill();
        let mut fds = [PollFd::new(self.launched.pidfd.as_fd(), PollFlags::POLLIN)];
        let _ = nix::poll::poll(&mut fds, PollTimeout::from(END_WAIT));
        match self.ended()? {
            Some(exit) => self.bury(entry, exit, record),
            None => bail!("container {} was killed and does not end", self.name),
        }
    }

    /// What is still in the pipes. Its own processes are gone, but another container of the pod may
    /// have the pipe open and fill it for ever: no more is read than a pipe can hold.
    fn drain(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        for (stream, fd) in self.streams.drain(..) {
            for _ in 0..PIPE_MOST / buffer.len() {
                match nix::unistd::read(&fd, &mut buffer) {
                    Err(nix::errno::Errno::EINTR) => {}
                    // The end, or where reading would wait.
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        let _ = self.log.add(stream, &buffer[..count], SystemTime::now());
                    }
                }
            }
        }
        let _ = self.log.finish(SystemTime::now());
    }
}
