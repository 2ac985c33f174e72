//! `podctl delete`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::apply::read;
use super::{find_any, out, plain};
use crate::pod::delete::delete;
use crate::pod::store::Store;

/// `podctl delete`.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// `pod NAME...`
    #[arg(value_name = "KIND NAME", required_unless_present = "files")]
    words: Vec<String>,
    /// The pods of this manifest; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Seconds that containers have to stop, in place of the pod's own
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u64>,
    /// No error for a pod that is not there
    #[arg(long)]
    ignore_not_found: bool,
    /// The namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
}

pub(super) fn run(arguments: &Delete, store: &Store) -> Result<i32> {
    let mut wanted: Vec<(String, String)> = Vec::new();
    for file in &arguments.files {
        for pod in read(file)? {
            wanted.push((pod.metadata.namespace, pod.metadata.name));
        }
    }
    let words = arguments.words.iter().map(String::as_str);
    let (slashed, plain): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains('/'));
    let mut plain = plain.into_iter();
    if let Some(kind) = plain.next() {
        ensure!(
            ["pod", "pods", "po"].contains(&kind),
            "the server doesn't have a resource type \"{kind}\"; podctl knows pods"
        );
        ensure!(plain.len() > 0, "name the pods: podctl delete pod NAME");
    }
    let names = slashed.into_iter().chain(plain);
    wanted.extend(names.map(|name| (arguments.namespace.clone(), name.to_owned())));
    let mut code = 0;
    for (namespace, name) in wanted {
        if let Err(error) = delete_one(arguments, store, &namespace, &name) {
            // The others still go.
            eprintln!("error: {error:#}");
            code = 1;
        }
    }
    Ok(code)
}

fn delete_one(arguments: &Delete, store: &Store, namespace: &str, name: &str) -> Result<()> {
    let Some((entry, pod)) = find_any(store, namespace, name)? else {
        ensure!(
            arguments.ignore_not_found,
            "pods \"{}\" not found",
            plain(name)
        );
        return Ok(());
    };
    let name = &pod.pod.metadata.name;
    delete(store, &entry, arguments.grace_period).with_context(|| format!("pod {name}"))?;
    out(&format!("pod \"{name}\" deleted\n"))
}
