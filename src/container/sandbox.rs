//! The pause program: its bytes, as an open file that can be executed and not be changed.

use std::os::fd::OwnedFd;

use anyhow::Result;

use crate::error::OrFailure;
use crate::sys;

/// Built by build.rs from src/pause/main.rs.
static PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// A sealed memfd with the pause program.
///
/// # Errors
/// As memfd_create(2).
pub fn pause_program() -> Result<OwnedFd> {
    Ok(sys::open::sealed_memfd(c"pause", PAUSE)
        .or_failure(|| "make a memfd for the pause program")?)
}
