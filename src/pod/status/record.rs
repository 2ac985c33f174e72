//! What one instance of a container left: facts, written as they happen.
//!
//! A record is written before the thing it is about is taken away (the exit before the control group
//! is removed), so that a status can always be made again from the records alone.

use serde::{Deserialize, Serialize};

use super::types::TerminatedState;
use crate::pod::time::Timestamp;

/// The exit code of a container that could not be started.
const START_ERROR: i32 = 128;
/// The exit code that a container is given when it is gone and nobody saw its end.
const LOST: i32 = 137;

/// One instance of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerRecord {
    /// The container's name in the pod.
    pub name: String,
    /// How many instances there were before this one.
    pub restart_count: u32,
    /// The instance's id, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// The image's digest, once it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Why it is not made yet, or not started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// When its program was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Its exit code, when it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed it, or a process of it, for want of memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
    /// Why it could not be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_error: Option<String>,
    /// Whether it is gone without anyone having seen its end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// A reason of its end that is none of the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its last words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Why a container is not there yet (`ErrImageNeverPull`, `CreateContainerConfigError`, ...).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// In one word.
    pub reason: String,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl ContainerRecord {
    /// The id as a status has it.
    pub fn container_uri(&self) -> String {
        self.container_id
            .as_ref()
            .map(|id| format!("seedpod://{id}"))
            .unwrap_or_default()
    }

    /// How it ended, if it ended.
    pub fn terminated(&self) -> Option<TerminatedState> {
        let (exit_code, reason, message) = if let Some(error) = &self.start_error {
            (START_ERROR, "StartError", Some(error.clone()))
        } else if self.lost {
            let text = "the container is gone and its end was not seen";
            (LOST, "ContainerStatusUnknown", Some(text.to_owned()))
        } else if self.exit_code.is_some() || self.signal.is_some() {
            let code = match (self.signal, self.exit_code) {
                (Some(signal), _) => 128_i32.saturating_add(signal),
                (None, Some(code)) => code,
                (None, None) => 0,
            };
            // A container that lived on after the kernel killed a process of it, and then ended in
            // its own way, was not ended by the kernel.
            let reason = if self.oom_killed && code == 137 {
                "OOMKilled"
            } else if code == 0 {
                "Completed"
            } else {
                "Error"
            };
            (code, reason, None)
        } else {
            return None;
        };
        Some(TerminatedState {
            container_id: self.container_uri(),
            exit_code,
            finished_at: self.finished_at,
            message: self.message.clone().or(message),
            reason: self.reason.clone().unwrap_or_else(|| reason.to_owned()),
            started_at: self.started_at,
        })
    }
}
