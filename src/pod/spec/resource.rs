//! The names of resources, and requests and limits by name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::pod::quantity::Quantity;

/// A resource that a container can request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ResourceName {
    /// Processor time, in cores.
    Cpu,
    /// Space of the container's own files and logs, in bytes.
    EphemeralStorage,
    /// Huge pages of this size in bytes; the amount is in bytes as well.
    HugePages(u64),
    /// Memory, in bytes.
    Memory,
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Memory => f.write_str("memory"),
            Self::EphemeralStorage => f.write_str("ephemeral-storage"),
            Self::HugePages(size) => write!(f, "hugepages-{}", Quantity::from_bytes(*size)),
        }
    }
}

impl FromStr for ResourceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "memory" => Ok(Self::Memory),
            "ephemeral-storage" => Ok(Self::EphemeralStorage),
            _ => text
                .strip_prefix("hugepages-")
                .and_then(|size| size.parse::<Quantity>().ok())
                .map(Quantity::value)
                .filter(|size| size.is_power_of_two() && *size > 1)
                .map(Self::HugePages)
                .ok_or_else(|| {
                    format!(
                        "\"{text}\" is not a resource of this machine: use cpu, memory, \
                         ephemeral-storage or hugepages-<size>"
                    )
                }),
        }
    }
}

impl TryFrom<String> for ResourceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ResourceName> for String {
    fn from(name: ResourceName) -> Self {
        name.to_string()
    }
}

/// Requests and limits; a limit without a request has already become the request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// The most that may be used.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<ResourceName, Quantity>,
    /// What is sure to be there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<ResourceName, Quantity>,
}

impl Resources {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.requests.is_empty()
    }

    /// The limit, where there is one. Kubernetes takes a limit of nothing as none.
    pub fn limit(&self, name: ResourceName) -> Option<Quantity> {
        self.limits.get(&name).copied().filter(|q| !q.is_zero())
    }

    /// The request; nothing where there is none.
    pub fn request(&self, name: ResourceName) -> Quantity {
        self.requests.get(&name).copied().unwrap_or(Quantity::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for text in [
            "cpu",
            "memory",
            "ephemeral-storage",
            "hugepages-2Mi",
            "hugepages-1Gi",
        ] {
            assert_eq!(text.parse::<ResourceName>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "CPU",
            "hugepages-",
            "hugepages-3Mi",
            "hugepages-0",
            "example.com/gpu",
        ] {
            assert!(text.parse::<ResourceName>().is_err(), "{text}");
        }
    }
}
