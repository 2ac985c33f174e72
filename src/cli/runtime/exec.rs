//! `exec`.

use std::io::{self, IsTerminal};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use oci_spec::runtime::Process as WireProcess;

use super::Context;
use super::create::{console_socket, hand_over, preserve_fds};
use crate::cli::args::Matches;
use crate::container::exec::{ExecRequest, configuration, exec as execute, process_of};
use crate::container::{View, foreground};
use crate::error::OrFailure;
use crate::spec::process::{self, Process};
use crate::spec::text::c_string;

pub(super) fn exec(context: &mut Context, matches: &Matches) -> Result<i32> {
    let mut view = View::of(&context.store, matches.operand(0, "ID")?)?;
    let (base, container) = configuration(&view)?;
    let mut warnings = Vec::new();
    let process = match matches.get("process") {
        Some(file) => {
            let path = Path::new(file);
            let bytes = std::fs::read(path).or_failure(|| format!("read {}", path.display()))?;
            process_of(&bytes, &mut warnings).with_context(|| path.display().to_string())?
        }
        None => from_flags(&base, matches, &mut warnings)?,
    };
    let socket = console_socket(matches)?;
    let detach = matches.has("detach");
    ensure!(
        process.terminal || socket.is_none(),
        "a console socket was given, but the process has no terminal"
    );
    if process.terminal && socket.is_none() {
        ensure!(
            !detach,
            "a detached process with a terminal needs --console-socket"
        );
        ensure!(
            io::stdin().is_terminal(),
            "a terminal is wanted, but standard input is none"
        );
    }
    let request = ExecRequest {
        process,
        given: Vec::new(),
        preserve_fds: preserve_fds(matches)?,
        ignore_paused: matches.has("ignore-paused"),
    };
    let signals = if detach {
        None
    } else {
        Some(foreground::Signals::block()?)
    };
    let launched = execute(&mut view, &container, request, &mut warnings);
    context.warn(warnings);
    let mut launched = launched?;
    if let Err(error) = hand_over(matches, &mut launched, socket.as_ref()) {
        // Whoever asked does not know of the process: it must not stay.
        foreground::stop(&launched);
        return Err(error);
    }
    match signals {
        Some(signals) => foreground::wait(&launched, &signals),
        None => Ok(0),
    }
}

/// The container's own process, with what the flags change.
fn from_flags(
    base: &WireProcess,
    matches: &Matches,
    warnings: &mut Vec<String>,
) -> Result<Process> {
    let mut process = Process::new(base, warnings)?;
    ensure!(
        matches.operands.len() > 1,
        "COMMAND is missing; see `seedpod exec --help`"
    );
    let command = &matches.operands[1..];
    process.args = command
        .iter()
        .map(|word| c_string("COMMAND", word.to_str().context("COMMAND: not UTF-8")?))
        .collect::<Result<_>>()?;
    process.terminal = matches.has("tty");
    let mut entries = base.env().clone().unwrap_or_default();
    entries.extend(matches.texts("env")?.into_iter().map(str::to_owned));
    process.env = process::environment(&entries)?;
    process.wants_home = !process
        .env
        .iter()
        .any(|entry| entry.as_bytes().starts_with(b"HOME="));
    if let Some(text) = matches.text("user")? {
        let (uid, gid) = process::parse_user(text)?;
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    for text in matches.texts("additional-gids")? {
        let (gid, more) = process::parse_user(text).with_context(|| "--additional-gids")?;
        ensure!(
            more.is_none(),
            "--additional-gids: `{text}` is not a number"
        );
        process.user.groups.push(gid);
    }
    if let Some(text) = matches.text("cwd")? {
        process.cwd = process::parse_cwd(text)?;
    }
    process.no_new_privileges |= matches.has("no-new-privs");
    for text in matches.texts("cap")? {
        let capability = serde_json::from_value(serde_json::Value::String(text.to_owned()))
            .ok()
            .with_context(|| format!("--cap: unknown capability `{text}`"))?;
        let bit = 1 << process::number(capability)?;
        // Not inheritable: execve(2) of any file would pass it on (CVE-2022-29162).
        process.capabilities.bounding |= bit;
        process.capabilities.permitted |= bit;
        process.capabilities.effective |= bit;
    }
    // Of the container's first process, not of every later one.
    process.oom_score_adj = None;
    Ok(process)
}
