//! Containers: their life cycle (runtime-spec runtime.md), over a directory of state files.
//!
//! No daemon and no memory between calls: what a container is stands in its state directory, in its
//! cgroup and in its first process. Used by `seedpod`'s commands and by `pod`.

pub mod exec;
pub mod foreground;
pub mod process;
pub mod sandbox;
pub mod seal;
pub mod store;

pub use crate::sys::process::Exit;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::Spec;

use crate::cgroup::{Cgroup, Hierarchy};
use crate::error::OrFailure;
use crate::launch::{self, Given, Launched};
use crate::plan::{self, Plan};
use crate::spec::{self, wire};
use crate::sys;
use process::ProcessId;
use store::{Entry, State, Store};

const START_SOCKET: &str = "start.sock";
const CONFIG: &str = "config.json";

/// runtime-spec's statuses, and `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// As `state` prints it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// What `create` needs.
#[derive(Default)]
pub struct CreateRequest {
    /// The container's id.
    pub id: String,
    /// On the host; relative paths of the configuration start here.
    pub bundle: PathBuf,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// Descriptors: standard streams, the pause program.
    pub given: Vec<Given>,
    /// The container is a pod's sandbox: an empty root, and the given program.
    pub sandbox: bool,
    /// No new session keyring.
    pub keep_keyring: bool,
    /// Descriptors 3 to 3 + this stay open.
    pub preserve_fds: u32,
    /// Somebody takes the terminal: the console socket, or the foreground.
    pub takes_terminal: bool,
}

impl CreateRequest {
    /// Reads a bundle's config.json.
    ///
    /// # Errors
    /// When the bundle or the file cannot be read.
    pub fn of_bundle(id: &str, bundle: &Path) -> Result<Self> {
        let bundle =
            fs::canonicalize(bundle).or_failure(|| format!("bundle {}", bundle.display()))?;
        let path = bundle.join(CONFIG);
        let config = fs::read(&path).or_failure(|| format!("read {}", path.display()))?;
        Ok(Self {
            id: id.to_owned(),
            bundle,
            config,
            ..Self::default()
        })
    }

    /// The meaning and the plan, without doing anything: `explain`.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub fn plan(&self, warnings: &mut Vec<String>) -> Result<(Spec, spec::Container, Plan)> {
        self.plan_as(&self.decided(), warnings)
    }

    /// What is decided here besides the configuration.
    fn decided(&self) -> plan::create::Request {
        plan::create::Request {
            id: self.id.clone(),
            own_streams: self
                .given
                .iter()
                .any(|(name, _)| *name == "standard output"),
            sandbox: self.sandbox,
            keep_keyring: self.keep_keyring,
            preserve_fds: self.preserve_fds,
        }
    }

    fn plan_as(
        &self,
        decided: &plan::create::Request,
        warnings: &mut Vec<String>,
    ) -> Result<(Spec, spec::Container, Plan)> {
        let path = self.bundle.join(CONFIG);
        let wire =
            wire::read(&self.config, warnings).with_context(|| path.display().to_string())?;
        let container = spec::Container::new(&wire, &self.bundle, warnings)
            .with_context(|| path.display().to_string())?;
        let plan = plan::create::plan(&container, decided, warnings)
            .with_context(|| path.display().to_string())?;
        Ok((wire, container, plan))
    }
}

/// Makes a container: everything of the configuration but its program (runtime.md, Create).
///
/// # Errors
/// One; nothing is left of the attempt.
pub fn create(
    store: &Store,
    request: CreateRequest,
    warnings: &mut Vec<String>,
) -> Result<Launched> {
    let (wire, container, plan) = request.plan(warnings)?;
    let terminal = container.process.terminal;
    ensure!(
        terminal || !request.takes_terminal,
        "a console socket was given, but process.terminal is false"
    );
    ensure!(
        !terminal || request.takes_terminal,
        "process.terminal is true: a console socket is needed (--console-socket)"
    );
    if !request.sandbox {
        let root = &container.root.path;
        ensure!(
            root.is_dir(),
            "root file system {} is not a directory that exists",
            root.display()
        );
    }
    let mut state = State::new(&request.id, ProcessId::none()?);
    state.request = request.decided();
    wire.version().clone_into(&mut state.oci_version);
    state.bundle.clone_from(&request.bundle);
    state.rootfs.clone_from(&container.root.path);
    state.annotations.clone_from(&container.annotations);
    let cgroup = plan.cgroup.as_ref().context("the plan has no cgroup")?;
    state.cgroup = Hierarchy::find()?.directory(&cgroup.path);
    let entry = store.make(&request.id)?;
    let launched = make(&entry, &mut state, &plan, request, warnings);
    if launched.is_err() {
        // What cannot be removed now is found by `delete`.
        let _ = entry.remove();
    }
    launched
}

fn make(
    entry: &Entry,
    state: &mut State,
    plan: &Plan,
    request: CreateRequest,
    warnings: &mut Vec<String>,
) -> Result<Launched> {
    // Before anything is made, so that a killed `create` can be cleaned up from it.
    crate::fault::parent_step("write state")?;
    entry.write(CONFIG, &request.config)?;
    entry.write_state(state)?;
    crate::fault::parent_step("make the start socket")?;
    let mut given = request.given;
    given.push(("start socket", listen(entry)?));
    let on_clone = |child: &sys::clone::Child| {
        state.process = ProcessId::of(child.pid)?;
        crate::fault::parent_step("write state")?;
        entry.write_state(state)
    };
    let launched = launch::launch(plan, given, None, warnings, on_clone)?;
    state.ready = true;
    let written = crate::fault::parent_step("write state");
    let written = written.map_err(anyhow::Error::from);
    if let Err(error) = written.and_then(|()| entry.write_state(state)) {
        let _ = Cgroup::at(&state.cgroup).remove();
        let _ = sys::process::wait_pidfd(launched.pidfd.as_fd(), true);
        return Err(error);
    }
    Ok(launched)
}

/// Binds the start socket. The path goes through a descriptor: socket paths are short (unix(7)).
fn listen(entry: &Entry) -> Result<OwnedFd> {
    let directory = fs::File::open(entry.directory())
        .or_failure(|| format!("open {}", entry.directory().display()))?;
    let path = format!("/proc/self/fd/{}/{START_SOCKET}", directory.as_raw_fd());
    let listener = UnixListener::bind(path)
        .or_failure(|| format!("make socket {}", entry.path(START_SOCKET).display()))?;
    Ok(listener.into())
}

/// Lets a created container run its program, and returns when it does (runtime.md, Start).
///
/// # Errors
/// When it is not created, was started before, or the program cannot be executed.
pub fn start(store: &Store, id: &str, warnings: &mut Vec<String>) -> Result<()> {
    let mut entry = store.entry(id)?;
    entry.lock()?;
    let view = View::new(entry)?;
    ensure!(
        view.status == Status::Created,
        "cannot start container {id}: it is {}, not created",
        view.status.word()
    );
    let path = view.entry.path(START_SOCKET);
    let socket = spec::text::c_path("state directory", &path)?;
    let socket = sys::open::openat2(sys::At::Cwd, &socket, libc::O_PATH, 0, 0)
        .or_failure(|| format!("open {}", path.display()))?;
    crate::fault::parent_step("start")?;
    // Started from here on, whatever becomes of it: the name goes first, so that nothing that runs
    // can be taken for something that waits.
    remove_socket(&view.entry)?;
    let connection = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))
        .or_failure(|| format!("connect to {}", path.display()))?;
    warnings.extend(launch::start(|| view.plan(), &connection.into())?);
    Ok(())
}

fn remove_socket(entry: &Entry) -> Result<()> {
    let path = entry.path(START_SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => Ok(other.or_failure(|| format!("remove {}", path.display()))?),
    }
}

/// A container as it is now.
#[derive(Debug)]
pub struct View {
    /// Its directory.
    pub entry: Entry,
    /// What state.json says; `None` after a `create` that was killed early.
    pub state: Option<State>,
    /// As of now.
    pub status: Status,
    /// Its first process, while it lives.
    pub pidfd: Option<OwnedFd>,
}

impl View {
    /// Looks at a container.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn new(entry: Entry) -> Result<Self> {
        let state = entry.state()?;
        let pidfd = match &state {
            Some(state) => state.process.open()?,
            None => None,
        };
        let status = match (&state, &pidfd) {
            (Some(state), Some(_)) if state.ready => alive(&entry, state),
            (_, Some(_)) => Status::Creating,
            // Its maker is still at work, or was killed.
            (Some(state), None) if state.process.pid != 0 => Status::Stopped,
            _ if entry.is_locked() => Status::Creating,
            _ => Status::Stopped,
        };
        Ok(Self {
            entry,
            state,
            status,
            pidfd,
        })
    }

    /// As [`View::new`], by id.
    ///
    /// # Errors
    /// When there is none, or its state cannot be read.
    pub fn of(store: &Store, id: &str) -> Result<Self> {
        Self::new(store.entry(id)?)
    }

    /// The pid of the first process, 0 when it has ended.
    pub fn pid(&self) -> i32 {
        match (&self.state, &self.pidfd) {
            (Some(state), Some(_)) => state.process.pid,
            _ => 0,
        }
    }

    /// The cgroup, when it is known.
    pub fn cgroup(&self) -> Option<Cgroup> {
        let state = self
            .state
            .as_ref()
            .filter(|state| !state.cgroup.as_os_str().is_empty())?;
        Some(Cgroup::at(&state.cgroup))
    }

    /// The configuration as it was at `create`.
    ///
    /// # Errors
    /// When the copy cannot be read.
    pub fn config(&self) -> Result<CreateRequest> {
        let path = self.entry.path(CONFIG);
        let config = fs::read(&path).or_failure(|| format!("read {}", path.display()))?;
        let bundle = self
            .state
            .as_ref()
            .map(|state| state.bundle.clone())
            .unwrap_or_default();
        Ok(CreateRequest {
            id: self.entry.id.clone(),
            bundle,
            config,
            ..CreateRequest::default()
        })
    }

    /// The plan that it was made by.
    fn plan(&self) -> Result<Plan> {
        let state = self.state.as_ref().context("the container has no state")?;
        Ok(self.config()?.plan_as(&state.request, &mut Vec::new())?.2)
    }
}

fn alive(entry: &Entry, state: &State) -> Status {
    if entry.path(START_SOCKET).exists() {
        return Status::Created;
    }
    match Cgroup::at(&state.cgroup).read("cgroup.freeze").as_deref() {
        Some("1") => Status::Paused,
        _ => Status::Running,
    }
}

/// How a launched process ended, if it has; it is reaped.
///
/// # Errors
/// As waitid(2).
pub fn try_wait(launched: &Launched) -> Result<Option<Exit>> {
    let ended = sys::process::wait_pidfd(launched.pidfd.as_fd(), false);
    Ok(ended.or_failure(|| format!("wait for process {}", launched.pid))?)
}

/// Sends a signal to the first process, or to all in the cgroup (runtime.md, Kill).
///
/// # Errors
/// With `container not running` when it is not; `does not exist` when there is none.
pub fn kill(store: &Store, id: &str, signal: i32, all: bool) -> Result<()> {
    let view = View::of(store, id)?;
    if all {
        return kill_all(&view, signal);
    }
    let what = || format!("send signal {signal} to container {id}");
    match (view.status, &view.pidfd) {
        (Status::Created | Status::Running | Status::Paused, Some(pidfd)) => {
            match sys::process::pidfd_signal(pidfd.as_fd(), signal) {
                Err(nix::errno::Errno::ESRCH) => bail!("container not running"),
                other => Ok(other.or_failure(what)?),
            }
        }
        _ => bail!("container not running"),
    }
}

fn kill_all(view: &View, signal: i32) -> Result<()> {
    let Some(cgroup) = view.cgroup() else {
        bail!("container not running")
    };
    if signal == libc::SIGKILL {
        return cgroup.kill();
    }
    for pid in cgroup.all_pids() {
        // Those that have ended meanwhile need no signal.
        if let Ok(pidfd) = sys::process::pidfd_open(pid) {
            let _ = sys::process::pidfd_signal(pidfd.as_fd(), signal);
        }
    }
    Ok(())
}

/// Stops all processes of a container, or lets them go on.
///
/// # Errors
/// When it does not run, or is not paused.
pub fn pause(store: &Store, id: &str, paused: bool) -> Result<()> {
    let view = View::of(store, id)?;
    match (paused, view.status) {
        (true, Status::Created | Status::Running) | (false, Status::Paused) => {}
        (true, status) => bail!("cannot pause container {id}: it is {}", status.word()),
        (false, status) => bail!(
            "cannot resume container {id}: it is {}, not paused",
            status.word()
        ),
    }
    view.cgroup()
        .context("the container has no cgroup")?
        .freeze(paused)
}

/// Removes a container with all that is left of it (runtime.md, Delete).
///
/// # Errors
/// When it is not stopped and `force` is false, or its processes do not end.
pub fn delete(store: &Store, id: &str, force: bool) -> Result<()> {
    let mut entry = match store.entry(id) {
        Err(_) if force && !store.root().join(id).exists() => return Ok(()),
        other => other?,
    };
    let view = View::new(store.entry(id)?)?;
    let check = |status: Status| {
        ensure!(
            force || matches!(status, Status::Stopped | Status::Created),
            "cannot delete container {id} that is not stopped: it is {}",
            status.word()
        );
        Ok(())
    };
    check(view.status)?;
    if view.status == Status::Creating
        && let Some(pidfd) = &view.pidfd
    {
        // Its maker sees the end of it, undoes everything and lets go of the lock.
        let _ = sys::process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
    }
    match entry.lock() {
        // The maker has removed it.
        Err(_) if force && !entry.directory().exists() => return Ok(()),
        other => other?,
    }
    // Once more: who held the lock may have made or started the container meanwhile.
    let view = View::new(store.entry(id)?)?;
    if view.pidfd.is_some() {
        check(view.status)?;
    }
    if let Some(pidfd) = &view.pidfd {
        let _ = sys::process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        wait_end(&view, pidfd)?;
    }
    if let Some(cgroup) = view.cgroup() {
        crate::fault::parent_step("remove the cgroup")?;
        cgroup.remove()?;
    }
    crate::fault::parent_step("remove state")?;
    entry.remove()
}

/// Waits for the end of a process that was killed: it can be read from its pidfd.
fn wait_end(view: &View, pidfd: &OwnedFd) -> Result<()> {
    let seconds = 10;
    let fds = [pidfd.as_fd(), pidfd.as_fd()];
    let ended =
        sys::process::wait_readable(fds, seconds * 1000).or_failure(|| "wait for a process")?;
    ensure!(
        ended.is_some(),
        "process {} of container {} was killed and does not end within {seconds} s; look for state D in \
         /proc/{0}/status",
        view.pid(),
        view.entry.id
    );
    Ok(())
}
