//! Which process a container's state speaks of: pids are reused, and boots end.

use std::fs;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::error::OrFailure;
use crate::sys;

/// A process as a file can keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// In the runtime's pid namespace; 0 for none.
    pub pid: i32,
    /// In clock ticks since boot: field 22 of /proc/PID/stat (proc_pid_stat(5)).
    pub start_time: u64,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
}

impl ProcessId {
    /// No process yet, in this boot.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn none() -> Result<Self> {
        Ok(Self {
            pid: 0,
            start_time: 0,
            boot_id: boot_id()?,
        })
    }

    /// A process that exists and cannot go away meanwhile (our child).
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn of(pid: i32) -> Result<Self> {
        let (start_time, _) = stat(pid).with_context(|| format!("read /proc/{pid}/stat"))?;
        Ok(Self {
            pid,
            start_time,
            boot_id: boot_id()?,
        })
    }

    /// A pidfd of the process, if it is still that process and has not ended.
    ///
    /// # Errors
    /// When /proc cannot be read, or no descriptor is left.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        if self.pid == 0 || boot_id()? != self.boot_id {
            return Ok(None);
        }
        let pidfd = match sys::process::pidfd_open(self.pid) {
            // EINVAL: it has ended, and its number still names a session or a group of others.
            Err(nix::errno::Errno::ESRCH | nix::errno::Errno::EINVAL) => return Ok(None),
            other => other.or_failure(|| format!("open a pidfd of process {}", self.pid))?,
        };
        // Looked at after the pidfd is there: what it says is of the process that the pidfd holds,
        // or of none.
        Ok(match stat(self.pid) {
            Some((start_time, state))
                if start_time == self.start_time && !matches!(state, 'Z' | 'X') =>
            {
                Some(pidfd)
            }
            _ => None,
        })
    }
}

/// Sends a signal to a process; one that has ended needs none.
///
/// # Errors
/// As pidfd_send_signal(2).
pub fn signal(pidfd: &OwnedFd, signal: i32) -> Result<()> {
    use std::os::fd::AsFd;
    match sys::process::pidfd_signal(pidfd.as_fd(), signal) {
        Err(nix::errno::Errno::ESRCH) => Ok(()),
        other => Ok(other.or_failure(|| format!("send signal {signal} to a process"))?),
    }
}

/// The identity of this boot of the machine.
///
/// # Errors
/// When /proc cannot be read.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path)
        .or_failure(|| format!("read {path}"))?
        .trim()
        .to_owned())
}

/// Start time and state letter. The name of the program may hold spaces and brackets, so fields
/// are counted from the last `)`.
fn stat(pid: i32) -> Option<(u64, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((start_time, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_found_again() {
        let me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.open().unwrap().is_some());
    }

    #[test]
    fn other_start_time_is_another_process() {
        let mut me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        me.start_time += 1;
        assert!(me.open().unwrap().is_none());
    }

    #[test]
    fn process_of_another_boot_is_gone() {
        let mut me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        me.boot_id = "another".into();
        assert!(me.open().unwrap().is_none());
    }
}
