//! `podctl exec`.

use std::io::IsTerminal;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::{container_of, find};
use crate::container::View;
use crate::container::exec::{ExecRequest, configuration, exec};
use crate::container::foreground::{self, Signals};
use crate::pod::instance::null;
use crate::pod::store::Store;
use crate::spec::process::Process;
use crate::spec::text::c_string;

/// `podctl exec`.
#[derive(Debug, Args)]
#[command(override_usage = "podctl exec POD [-c NAME] [-i] [-t] -- COMMAND [ARGUMENT...]")]
pub(super) struct Exec {
    /// The pod
    #[arg(value_name = "POD", required = true)]
    words: Vec<String>,
    /// The container; default: the only one, or the first
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Pass standard input
    #[arg(short = 'i', long)]
    stdin: bool,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// The namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// The program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn run(arguments: &Exec, store: &Store) -> Result<i32> {
    let (pod, rest) = arguments.words.split_first().context("name the pod")?;
    if !rest.is_empty() {
        bail!(
            "the command stands behind --: podctl exec {pod} -- {}",
            rest.join(" ")
        );
    }
    ensure!(
        !arguments.command.is_empty(),
        "name the command: podctl exec {pod} -- COMMAND"
    );
    let (entry, pod) = find(store, &arguments.namespace, pod)?;
    let name = container_of(&pod, arguments.container.as_deref())?;
    let records = entry.records()?;
    let record = records
        .iter()
        .filter(|it| it.name == name)
        .max_by_key(|it| it.restart_count);
    let running = record
        .filter(|it| it.terminated().is_none())
        .and_then(|it| it.container_id.clone());
    // A record may be older than the end of its container, when the supervisor was killed.
    let view = running.and_then(|id| View::of(&entry.containers(), &id).ok());
    let Some(mut view) = view.filter(|view| view.pidfd.is_some()) else {
        bail!(
            "container {name} of pod {} does not run",
            pod.pod.metadata.name
        );
    };
    let (base, container) = configuration(&view)?;
    let mut process = Process::new(&base, &mut Vec::new())?;
    process.args = arguments
        .command
        .iter()
        .map(|word| c_string("COMMAND", word))
        .collect::<Result<_>>()?;
    process.terminal = arguments.tty && std::io::stdin().is_terminal();
    if arguments.tty && !process.terminal {
        eprintln!("Unable to use a TTY - input is not a terminal");
    }
    // Of the container's first process, which set it; a later one inherits ours.
    process.oom_score_adj = None;
    let mut given = Vec::new();
    if !arguments.stdin && !process.terminal {
        let ours = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().context("dup");
        use std::os::fd::AsFd;
        given.push(("standard input", null(false)?));
        given.push(("standard output", ours(std::io::stdout().as_fd())?));
        given.push(("standard error", ours(std::io::stderr().as_fd())?));
    }
    ensure!(
        arguments.stdin || !process.terminal,
        "--tty needs --stdin (-it)"
    );
    let signals = Signals::block()?;
    let request = ExecRequest {
        process,
        given,
        ..ExecRequest::default()
    };
    let mut warnings = Vec::new();
    let launched = exec(&mut view, &container, request, &mut warnings);
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    foreground::wait(&launched?, &signals)
}
