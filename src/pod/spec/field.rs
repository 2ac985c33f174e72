//! The downward API: fields of a pod, and requests and limits, that an environment can refer to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::resource::ResourceName;

/// A field of the pod (`metadata.name`, `status.podIP`, ...).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[allow(missing_docs)]
pub enum FieldPath {
    Name,
    Namespace,
    Uid,
    Label(String),
    Annotation(String),
    NodeName,
    ServiceAccountName,
    HostIp,
    HostIps,
    PodIp,
    PodIps,
}

const PLAIN: [(&str, FieldPath); 9] = [
    ("metadata.name", FieldPath::Name),
    ("metadata.namespace", FieldPath::Namespace),
    ("metadata.uid", FieldPath::Uid),
    ("spec.nodeName", FieldPath::NodeName),
    ("spec.serviceAccountName", FieldPath::ServiceAccountName),
    ("status.hostIP", FieldPath::HostIp),
    ("status.hostIPs", FieldPath::HostIps),
    ("status.podIP", FieldPath::PodIp),
    ("status.podIPs", FieldPath::PodIps),
];

impl FromStr for FieldPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, path)) = PLAIN.iter().find(|(name, _)| *name == text) {
            return Ok(path.clone());
        }
        if let Some(key) = subscript(text, "metadata.labels") {
            return Ok(Self::Label(key));
        }
        if let Some(key) = subscript(text, "metadata.annotations") {
            return Ok(Self::Annotation(key));
        }
        let known: Vec<_> = PLAIN.iter().map(|(name, _)| *name).collect();
        Err(format!(
            "\"{text}\" is not a field that a variable can have: use {}, metadata.labels['key'] or \
             metadata.annotations['key']",
            known.join(", ")
        ))
    }
}

fn subscript(text: &str, map: &str) -> Option<String> {
    let key = text
        .strip_prefix(map)?
        .strip_prefix("['")?
        .strip_suffix("']")?;
    (!key.is_empty()).then(|| key.to_owned())
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(key) => write!(f, "metadata.labels['{key}']"),
            Self::Annotation(key) => write!(f, "metadata.annotations['{key}']"),
            plain => {
                let name = PLAIN.iter().find(|(_, path)| path == plain);
                f.write_str(name.map_or("", |(name, _)| name))
            }
        }
    }
}

impl TryFrom<String> for FieldPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<FieldPath> for String {
    fn from(path: FieldPath) -> Self {
        path.to_string()
    }
}

/// A request or limit (`limits.cpu`, `requests.memory`, ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ResourceField {
    /// A limit, or else a request.
    pub limit: bool,
    /// Of what.
    pub name: ResourceName,
}

impl FromStr for ResourceField {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" is not limits.<resource> or requests.<resource> with cpu, memory, \
                 ephemeral-storage or hugepages-<size>"
            )
        };
        let (list, name) = text.split_once('.').ok_or_else(wrong)?;
        let limit = match list {
            "limits" => true,
            "requests" => false,
            _ => return Err(wrong()),
        };
        let name = name.parse().map_err(|_| wrong())?;
        Ok(Self { limit, name })
    }
}

impl fmt::Display for ResourceField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = if self.limit { "limits" } else { "requests" };
        write!(f, "{list}.{}", self.name)
    }
}

impl TryFrom<String> for ResourceField {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ResourceField> for String {
    fn from(field: ResourceField) -> Self {
        field.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_written() {
        for (text, _) in PLAIN {
            assert_eq!(text.parse::<FieldPath>().unwrap().to_string(), text);
        }
        for text in ["metadata.labels['app']", "metadata.annotations['a.b/c']"] {
            assert_eq!(text.parse::<FieldPath>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "metadata",
            "metadata.labels",
            "metadata.labels['']",
            "spec.x",
            "metadata.labels['",
        ] {
            assert!(text.parse::<FieldPath>().is_err(), "{text}");
        }
        for text in ["limits.cpu", "requests.hugepages-2Mi"] {
            assert_eq!(text.parse::<ResourceField>().unwrap().to_string(), text);
        }
        for text in ["", "cpu", "limits.", "limit.cpu", "limits.gpu"] {
            assert!(text.parse::<ResourceField>().is_err(), "{text}");
        }
    }
}
