//! `podctl get`.

use std::time::SystemTime;

use anyhow::{Result, ensure};
use clap::Args;

use super::{find, out};
use crate::pod::look::look;
use crate::pod::print::{self, Options, Output};
use crate::pod::store::{Entry, Store};
use crate::pod::time::Timestamp;

/// `podctl get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// What to show: `pods`
    kind: String,
    /// Only these pods
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// wide, yaml, json or name
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
    /// The namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Pods of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// No first line with titles
    #[arg(long)]
    no_headers: bool,
}

pub(super) fn run(arguments: &Get, store: &Store) -> Result<i32> {
    let (kind, mut names) = match arguments.kind.split_once('/') {
        Some((kind, name)) => (kind, vec![name.to_owned()]),
        None => (arguments.kind.as_str(), Vec::new()),
    };
    ensure!(
        ["pod", "pods", "po"].contains(&kind),
        "the server doesn't have a resource type \"{kind}\"; podctl knows pods"
    );
    names.extend(arguments.names.iter().cloned());
    let mut entries: Vec<Entry> = Vec::new();
    for name in &names {
        entries.push(find(store, &arguments.namespace, name)?.0);
    }
    if names.is_empty() {
        entries = store.entries()?;
    }
    let now = Timestamp::from(SystemTime::now());
    let mut pods = Vec::new();
    for entry in entries {
        // A directory without a pod is being made, or was left by a command that was killed.
        let Some((pod, status)) = look(&entry)? else {
            continue;
        };
        let in_namespace =
            arguments.all_namespaces || pod.pod.metadata.namespace == arguments.namespace;
        if !names.is_empty() || in_namespace {
            pods.push((pod, status));
        }
    }
    let key = |pod: &crate::pod::spec::StoredPod| {
        (
            pod.pod.metadata.namespace.clone(),
            pod.pod.metadata.name.clone(),
        )
    };
    pods.sort_by_key(|(pod, _)| key(pod));
    let output = arguments.output.unwrap_or_default();
    if pods.is_empty() && matches!(output, Output::Table | Output::Wide) {
        if arguments.all_namespaces {
            eprintln!("No resources found");
        } else {
            eprintln!("No resources found in {} namespace.", arguments.namespace);
        }
        return Ok(0);
    }
    let list: Vec<_> = pods.iter().map(|(pod, status)| (pod, status)).collect();
    let options = Options {
        output,
        namespaces: arguments.all_namespaces,
        no_headers: arguments.no_headers,
        single: names.len() == 1,
    };
    out(&print::pods(&list, options, now)?)?;
    Ok(0)
}
