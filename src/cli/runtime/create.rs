//! `create` and `run`.

use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::Context;
use crate::cli::args::Matches;
use crate::container::{self, CreateRequest, foreground};
use crate::error::OrFailure;
use crate::files::{Lasts, replace};
use crate::launch::Launched;

pub(super) fn create(context: &mut Context, matches: &Matches) -> Result<i32> {
    let request = request(matches)?;
    let socket = console_socket(matches)?;
    bring_up(context, matches, request, socket.as_ref())?;
    Ok(0)
}

pub(super) fn run(context: &mut Context, matches: &Matches) -> Result<i32> {
    let mut request = request(matches)?;
    let (id, detach) = (request.id.clone(), matches.has("detach"));
    let socket = console_socket(matches)?;
    if !detach {
        request.takes_terminal |= wants_terminal(&request)?;
        ensure!(
            !request.takes_terminal || socket.is_some() || io::stdin().is_terminal(),
            "process.terminal is true, but standard input is no terminal"
        );
    }
    let signals = if detach {
        None
    } else {
        Some(foreground::Signals::block()?)
    };
    if !detach && !matches.has("no-subreaper") {
        foreground::adopt_orphans()?;
    }
    let launched = bring_up(context, matches, request, socket.as_ref())?;
    let mut warnings = Vec::new();
    let started = container::start(&context.store, &id, &mut warnings);
    context.warn(warnings);
    if let Err(error) = started {
        container::delete(&context.store, &id, true)?;
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(0) };
    let code = foreground::wait(&launched, &signals)?;
    if !matches.has("keep") {
        container::delete(&context.store, &id, true)?;
    }
    Ok(code)
}

fn wants_terminal(request: &CreateRequest) -> Result<bool> {
    let spec = crate::spec::wire::read(&request.config, &mut Vec::new());
    let spec = spec.with_context(|| format!("{}/config.json", request.bundle.display()))?;
    Ok(spec
        .process()
        .as_ref()
        .and_then(|process| process.terminal())
        .unwrap_or(false))
}

/// Creates, gives the terminal away, writes the pid file; undoes all when one of them fails.
fn bring_up(
    context: &mut Context,
    matches: &Matches,
    request: CreateRequest,
    socket: Option<&UnixStream>,
) -> Result<Launched> {
    let id = request.id.clone();
    let mut warnings = Vec::new();
    let created = container::create(&context.store, request, &mut warnings);
    context.warn(warnings);
    let mut launched = created?;
    let given = hand_over(matches, &mut launched, socket);
    if let Err(error) = given {
        container::delete(&context.store, &id, true)?;
        return Err(error);
    }
    Ok(launched)
}

pub(super) fn hand_over(
    matches: &Matches,
    launched: &mut Launched,
    socket: Option<&UnixStream>,
) -> Result<()> {
    if let Some(socket) = socket {
        let console: OwnedFd = launched.console.take().context("there is no terminal")?;
        foreground::send_console(socket, &console)?;
    }
    write_pid_file(matches, launched.pid)
}

fn write_pid_file(matches: &Matches, pid: i32) -> Result<()> {
    crate::fault::parent_step("write the pid file")?;
    match matches.get("pid-file") {
        Some(path) => replace(
            Path::new(path),
            pid.to_string().as_bytes(),
            Lasts::UntilShutdown,
        ),
        None => Ok(()),
    }
}

pub(super) fn console_socket(matches: &Matches) -> Result<Option<UnixStream>> {
    let Some(path) = matches.get("console-socket") else {
        return Ok(None);
    };
    let path = Path::new(path);
    Ok(Some(
        UnixStream::connect(path).or_failure(|| format!("connect to {}", path.display()))?,
    ))
}

pub(super) fn preserve_fds(matches: &Matches) -> Result<u32> {
    let Some(text) = matches.text("preserve-fds")? else {
        return Ok(0);
    };
    let count: u32 = text
        .parse()
        .with_context(|| format!("--preserve-fds: `{text}` is not a number"))?;
    for number in 3..count.saturating_add(3) {
        if !Path::new(&format!("/proc/self/fd/{number}")).exists() {
            bail!("--preserve-fds {count}: descriptor {number} is not open");
        }
    }
    Ok(count)
}

pub(super) fn request(matches: &Matches) -> Result<CreateRequest> {
    let id = matches.operand(0, "ID")?;
    let bundle = matches.get("bundle").map_or(Path::new("."), Path::new);
    let mut request = CreateRequest::of_bundle(id, bundle)?;
    request.keep_keyring = matches.has("no-new-keyring");
    request.preserve_fds = preserve_fds(matches)?;
    request.takes_terminal = matches.get("console-socket").is_some();
    Ok(request)
}
