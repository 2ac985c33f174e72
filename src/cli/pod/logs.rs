//! `podctl logs`.

use std::io::{BufWriter, Write};

use anyhow::{Result, bail};
use clap::Args;

use super::{container_of, find};
use crate::pod::instance::log_path;
use crate::pod::logs::print;
use crate::pod::store::Store;

/// `podctl logs`.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The pod
    pod: String,
    /// The container; default: the only one, or the first
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// The logs of all containers, one after the other
    #[arg(long, conflicts_with = "container")]
    all_containers: bool,
    /// Each line begins with its time
    #[arg(long)]
    timestamps: bool,
    /// The namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
}

pub(super) fn run(arguments: &Logs, store: &Store) -> Result<i32> {
    let (entry, pod) = find(store, &arguments.namespace, &arguments.pod)?;
    let names: Vec<String> = if arguments.all_containers {
        pod.pod
            .spec
            .all_containers()
            .map(|it| it.name.clone())
            .collect()
    } else {
        vec![container_of(&pod, arguments.container.as_deref())?]
    };
    let records = entry.records()?;
    let mut out = BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    for name in names {
        let last = records
            .iter()
            .filter(|it| it.name == name)
            .map(|it| it.restart_count)
            .max();
        let path = log_path(&entry, &name, last.unwrap_or(0));
        if last.is_none() || !path.exists() {
            if arguments.all_containers {
                continue;
            }
            bail!(
                "container \"{name}\" in pod \"{}\" has not started yet",
                pod.pod.metadata.name
            );
        }
        let printed = print(&path, arguments.timestamps, &mut out);
        match printed.and_then(|()| Ok(out.flush()?)) {
            Err(error) if is_broken_pipe(&error) => return Ok(0),
            other => other?,
        }
    }
    Ok(0)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
