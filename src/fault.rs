//! Injected failures and stops, for the tests that fail, or kill, every step in turn.
//!
//! Only with the feature `fault-injection`, which no release has: then `SEEDPOD_FAULT=child:N` fails
//! the child's operation N and `SEEDPOD_FAULT=parent:N` the parent's Nth step, with EIO;
//! `SEEDPOD_PAUSE=child:N` lets the child sleep at its operation N for ever, and `SEEDPOD_PAUSE=parent:N`
//! stops the parent at its Nth step by SIGSTOP. Without the feature nothing is read, and the calls
//! compile to nothing.

use crate::error::Failure;

/// What happens to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injected {
    /// The operation with this number fails.
    Fail(usize),
    /// Before the operation with this number it sleeps until it is killed.
    Sleep(usize),
}

#[cfg(feature = "fault-injection")]
fn wanted(variable: &str, who: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    text.strip_prefix(who)?.strip_prefix(':')?.parse().ok()
}

/// What is to happen to the child.
#[cfg(feature = "fault-injection")]
pub fn child_step() -> Option<Injected> {
    let fail = wanted("SEEDPOD_FAULT", "child").map(Injected::Fail);
    fail.or_else(|| wanted("SEEDPOD_PAUSE", "child").map(Injected::Sleep))
}

/// Counts the parent's steps; fails, or stops at, the wanted one.
///
/// # Errors
/// The injected one.
#[cfg(feature = "fault-injection")]
pub fn parent_step(what: &str) -> Result<(), Failure> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    if wanted("SEEDPOD_PAUSE", "parent") == Some(number) {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
    }
    if wanted("SEEDPOD_FAULT", "parent") == Some(number) {
        return Err(Failure::new(
            format!("{what} (injected at step {number})"),
            nix::errno::Errno::EIO,
        ));
    }
    Ok(())
}

/// Nothing happens.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn child_step() -> Option<Injected> {
    None
}

/// Nothing fails.
///
/// # Errors
/// None.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn parent_step(_what: &str) -> Result<(), Failure> {
    Ok(())
}
