//! `ps`: the output of ps(1), with the container's processes only.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, out};
use crate::cli::args::Matches;
use crate::container::View;
use crate::error::OrFailure;

pub(super) fn ps(context: &mut Context, matches: &Matches) -> Result<i32> {
    let view = View::of(&context.store, matches.operand(0, "ID")?)?;
    let pids = view
        .cgroup()
        .map(|cgroup| cgroup.all_pids())
        .unwrap_or_default();
    match matches.text("format")? {
        Some("json") => out(&format!("{}\n", serde_json::to_string(&pids)?))?,
        None | Some("table") => out(&table(&pids, matches)?)?,
        Some(other) => bail!("--format: `{other}` is neither table nor json"),
    }
    Ok(0)
}

fn table(pids: &[i32], matches: &Matches) -> Result<String> {
    let mut command = Command::new("ps");
    match matches.operands.get(1..) {
        Some(flags) if !flags.is_empty() => command.args(flags),
        _ => command.arg("-ef"),
    };
    let output = command.output().or_failure(|| "run ps")?;
    ensure!(
        output.status.success(),
        "ps: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().context("ps printed nothing")?;
    let column = head.split_whitespace().position(|title| title == "PID");
    let column = column.context("ps printed no PID column; add pid to its -o")?;
    let ours = lines.filter(|line| {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    });
    Ok(std::iter::once(head)
        .chain(ours)
        .map(|line| format!("{line}\n"))
        .collect())
}
