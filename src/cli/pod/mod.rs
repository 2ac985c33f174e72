//! `podctl`'s commands: arguments, one library call, print. kubectl's words wherever it has them.

mod apply;
mod delete;
mod exec;
mod get;
pub mod image;
mod logs;

use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::container::seal;
use crate::pod::spec::StoredPod;
use crate::pod::store::{Entry, Store};
use crate::pod::supervisor;

/// Run Kubernetes pods on this machine, without a cluster.
#[derive(Debug, Parser)]
#[command(name = "podctl", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    /// Pods, volumes, logs and images
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/var/lib/seedpod",
        help_heading = "Directories"
    )]
    root: PathBuf,
    /// What ends with the boot: supervisors, container state, mount points
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/run/podctl",
        help_heading = "Directories"
    )]
    state: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  podctl image load busybox.tar
  podctl apply -f pod.yaml
  podctl get pods -o wide
  podctl logs web -c nginx
  podctl exec -it web -- sh
  podctl delete pod web";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the pods of a manifest
    Apply(apply::Apply),
    /// Show pods
    Get(get::Get),
    /// Print a container's log
    Logs(logs::Logs),
    /// Run a command in a container
    Exec(exec::Exec),
    /// Stop pods and remove them
    Delete(delete::Delete),
    /// Load, list and remove images
    Image {
        #[command(subcommand)]
        command: image::ImageCommand,
    },
    /// The supervisor of one pod; `apply` starts it
    #[command(hide = true)]
    Supervise { uid: String },
}

/// The whole program: parses, dispatches, prints the one error. Returns the exit code.
pub fn main() -> i32 {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            eprintln!("{}", one_line(&error.to_string()));
            return 1;
        }
        Err(help) => {
            let _ = help.print();
            return 0;
        }
    };
    let store = Store::new(&arguments.root, &arguments.state);
    let enters = matches!(
        arguments.command,
        Command::Supervise { .. } | Command::Exec(_)
    );
    if enters && let Err(error) = seal::read_only_program() {
        eprintln!("error: {error:#}");
        return 1;
    }
    let result = match arguments.command {
        Command::Apply(it) => apply::run(&it, &store),
        Command::Get(it) => get::run(&it, &store),
        Command::Logs(it) => logs::run(&it, &store),
        Command::Exec(it) => exec::run(&it, &store),
        Command::Delete(it) => delete::run(&it, &store),
        Command::Image { command } => image::run(&command, &store.images()).map(|()| 0),
        Command::Supervise { uid } => supervise(&store, &uid),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        1
    })
}

/// What is wrong with a command line, without the usage that clap adds.
fn one_line(text: &str) -> String {
    let what = text.split("\n\nUsage:").next().unwrap_or(text);
    let what = what
        .split("\n\nFor more information")
        .next()
        .unwrap_or(what);
    let words: Vec<&str> = what.split_whitespace().collect();
    format!("{} (see --help)", words.join(" "))
}

fn supervise(store: &Store, uid: &str) -> Result<i32> {
    nix::unistd::setsid().context("setsid")?;
    // Taken away from standard output, which whoever waits on the pipe must see end.
    let pipe = std::io::stdout().lock();
    let reports = pipe.as_fd().try_clone_to_owned().context("dup")?;
    let null = crate::pod::instance::null(true)?;
    nix::unistd::dup2_stdout(&null).context("dup2")?;
    drop(pipe);
    supervisor::run(store, uid, std::fs::File::from(reports)).map(|()| 0)
}

/// Writes to standard output; a reader that has gone away is no error.
fn out(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A pod by name, as it is written: `NAME` or `pod/NAME`.
fn find(store: &Store, namespace: &str, name: &str) -> Result<(Entry, StoredPod)> {
    let found = find_any(store, namespace, name)?;
    found.with_context(|| format!("pods \"{}\" not found", plain(name)))
}

/// The same; none when there is no such pod.
fn find_any(store: &Store, namespace: &str, name: &str) -> Result<Option<(Entry, StoredPod)>> {
    let Some(entry) = store.find(namespace, plain(name))? else {
        return Ok(None);
    };
    Ok(entry.pod()?.map(|pod| (entry, pod)))
}

fn plain(name: &str) -> &str {
    let prefixes = ["pod/", "pods/", "po/"];
    let plain = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
    plain.unwrap_or(name)
}

/// The container that is meant: the named one, or the only one; with several, the first, and a word
/// about it, as kubectl does.
fn container_of(pod: &StoredPod, name: Option<&str>) -> Result<String> {
    let spec = &pod.pod.spec;
    let names: Vec<&str> = spec.containers.iter().map(|it| it.name.as_str()).collect();
    let inits = spec
        .init_containers
        .iter()
        .map(|it| format!("{} (init)", it.name));
    let all = names
        .iter()
        .map(|name| (*name).to_owned())
        .chain(inits)
        .collect::<Vec<_>>()
        .join(", ");
    match name {
        Some(name) if spec.all_containers().any(|it| it.name == name) => Ok(name.to_owned()),
        Some(name) => bail!(
            "container {name} is not valid for pod {}; it has: {all}",
            pod.pod.metadata.name
        ),
        None => {
            let first = names.first().context("the pod has no container")?;
            if names.len() > 1 || !spec.init_containers.is_empty() {
                eprintln!("Defaulted container \"{first}\" out of: {all}");
            }
            Ok((*first).to_owned())
        }
    }
}
