//! `pod.json`: a pod as it is kept on disk, from its admission until it is gone.
//!
//! The file is written by whoever admits the pod; reading it back refuses a format that this version
//! does not know, rather than guess.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Pod;
use crate::pod::time::Timestamp;

/// The format of `pod.json` that this version writes.
pub const FORMAT: u32 = 1;

/// A pod that was admitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredPod {
    /// The format of the file.
    pub format: u32,
    /// The pod's unique id.
    pub uid: String,
    /// When it was admitted.
    pub created: Timestamp,
    /// The number of the specification, from 1.
    pub generation: u64,
    /// The machine's name.
    pub node_name: String,
    /// When and how it is to be gone, once that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// What it is.
    #[serde(flatten)]
    pub pod: Pod,
}

/// A deletion that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// When every container is to be gone. It is absolute, so that a new supervisor cannot extend it.
    pub deadline: Timestamp,
    /// The seconds that were given.
    pub grace_seconds: u64,
}

impl StoredPod {
    /// A pod that is admitted now.
    pub fn new(pod: Pod, uid: String, node_name: String, now: Timestamp) -> Self {
        Self {
            format: FORMAT,
            uid,
            created: now,
            generation: 1,
            node_name,
            deletion: None,
            pod,
        }
    }

    /// From the text of `pod.json`.
    ///
    /// # Errors
    /// What is not such a file, or is in a format of another version.
    pub fn from_json(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let probe: Probe = serde_json::from_str(text).context("no stored pod")?;
        if probe.format != FORMAT {
            bail!(
                "stored pod has format {}, this version reads format {FORMAT}",
                probe.format
            );
        }
        serde_json::from_str(text).context("stored pod")
    }

    /// The text of `pod.json`.
    ///
    /// # Errors
    /// None that is known; a map with keys that are no text would be one.
    pub fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).context("stored pod")?;
        text.push('\n');
        Ok(text)
    }
}
