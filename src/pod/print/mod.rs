//! What `podctl get` prints: a table, or whole objects as YAML, JSON or names.
//!
//! `row` decides what stands in the columns, `table` lines them up, `yaml` writes objects,
//! [`age`] writes durations. Texts are returned, never printed.

pub mod age;
mod row;
mod table;
mod yaml;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

pub use row::{Row, row};
pub use table::lined_up;
pub use yaml::to_yaml;

use crate::pod::spec::StoredPod;
use crate::pod::status::PodStatus;
use crate::pod::time::Timestamp;

/// A form of output (`-o`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// The table.
    #[default]
    Table,
    /// The table with further columns.
    Wide,
    /// Objects as YAML.
    Yaml,
    /// Objects as JSON.
    Json,
    /// `pod/NAME`, one a line.
    Name,
}

impl FromStr for Output {
    type Err = UnknownOutput;

    fn from_str(text: &str) -> Result<Self, UnknownOutput> {
        match text {
            "wide" => Ok(Self::Wide),
            "yaml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            "name" => Ok(Self::Name),
            other => Err(UnknownOutput(other.to_owned())),
        }
    }
}

/// A form of output that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownOutput(String);

impl fmt::Display for UnknownOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "output \"{}\" is not one of wide, yaml, json, name",
            self.0
        )
    }
}

impl std::error::Error for UnknownOutput {}

/// How a list of pods is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The form.
    pub output: Output,
    /// Whether the table begins with the namespace.
    pub namespaces: bool,
    /// Whether the table has no first line with titles.
    pub no_headers: bool,
    /// Whether one pod was asked for by name: an object by itself, not a list of one.
    pub single: bool,
}

/// The text for these pods, ending with a line's end.
///
/// # Errors
/// An object that cannot be written, which no pod is.
pub fn pods(list: &[(&StoredPod, &PodStatus)], options: Options, now: Timestamp) -> Result<String> {
    match options.output {
        Output::Table | Output::Wide => Ok(pods_table(list, options, now)),
        Output::Name => Ok(list
            .iter()
            .map(|(pod, _)| format!("pod/{}\n", pod.pod.metadata.name))
            .collect()),
        Output::Yaml => Ok(to_yaml(&objects(list, options.single)?)),
        Output::Json => to_json(&objects(list, options.single)?),
    }
}

fn pods_table(list: &[(&StoredPod, &PodStatus)], options: Options, now: Timestamp) -> String {
    let wide = options.output == Output::Wide;
    let mut titles = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    if options.namespaces {
        titles.insert(0, "NAMESPACE");
    }
    if wide {
        titles.extend(["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]);
    }
    let mut lines: Vec<Vec<String>> = Vec::new();
    if !options.no_headers {
        lines.push(titles.into_iter().map(str::to_owned).collect());
    }
    for (pod, status) in list {
        let Row {
            name,
            namespace,
            ready,
            status,
            restarts,
            age,
            ip,
            node,
        } = row(pod, status, now);
        let mut cells = vec![name, ready, status, restarts, age];
        if options.namespaces {
            cells.insert(0, namespace);
        }
        if wide {
            cells.extend([ip, node, "<none>".to_owned(), "<none>".to_owned()]);
        }
        lines.push(cells);
    }
    lined_up(&lines)
}

fn objects(list: &[(&StoredPod, &PodStatus)], single: bool) -> Result<Value> {
    if let ([(pod, status)], true) = (list, single) {
        return object(pod, status);
    }
    let items = list
        .iter()
        .map(|(pod, status)| object(pod, status))
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "apiVersion": "v1",
        "items": items,
        "kind": "List",
        "metadata": { "resourceVersion": "" },
    }))
}

/// The whole object of a pod, as an API server would give it.
///
/// # Errors
/// None that is known.
pub fn object(pod: &StoredPod, status: &PodStatus) -> Result<Value> {
    let mut metadata = serde_json::to_value(&pod.pod.metadata).context("metadata")?;
    let mut set = |key: &str, value: Value| {
        if let Value::Object(map) = &mut metadata {
            map.insert(key.to_owned(), value);
        }
    };
    set("uid", json!(pod.uid));
    set("creationTimestamp", json!(pod.created));
    set("generation", json!(pod.generation));
    if let Some(deletion) = &pod.deletion {
        set("deletionTimestamp", json!(deletion.deadline));
        set("deletionGracePeriodSeconds", json!(deletion.grace_seconds));
    }
    let mut spec = serde_json::to_value(&pod.pod.spec).context("spec")?;
    if let Value::Object(map) = &mut spec {
        map.insert("nodeName".to_owned(), json!(pod.node_name));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }))
}

/// JSON with the indentation of kubectl.
fn to_json(value: &Value) -> Result<String> {
    let mut bytes = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, format);
    value.serialize(&mut writer).context("object")?;
    bytes.push(b'\n');
    String::from_utf8(bytes).context("object")
}

#[cfg(test)]
mod tests;
