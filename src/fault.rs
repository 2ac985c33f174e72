//! Injected failures, for the test that fails every step in turn.
//!
//! Only with the feature `fault-injection`, which no release has: then `SEEDPOD_FAULT=child:N` fails
//! the child's operation N and `SEEDPOD_FAULT=parent:N` the parent's Nth step, with EIO. Without the
//! feature nothing is read, and the calls compile to nothing.

use crate::error::Failure;

#[cfg(feature = "fault-injection")]
fn wanted(who: &str) -> Option<usize> {
    let text = std::env::var("SEEDPOD_FAULT").ok()?;
    text.strip_prefix(who)?.strip_prefix(':')?.parse().ok()
}

/// The operation of the child that is to fail.
#[cfg(feature = "fault-injection")]
pub fn child_step() -> Option<usize> {
    wanted("child")
}

/// Counts the parent's steps, and fails the wanted one.
///
/// # Errors
/// The injected one.
#[cfg(feature = "fault-injection")]
pub fn parent_step(what: &str) -> Result<(), Failure> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    if wanted("parent") == Some(number) {
        return Err(Failure::new(
            format!("{what} (injected at step {number})"),
            nix::errno::Errno::EIO,
        ));
    }
    Ok(())
}

/// Nothing fails.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn child_step() -> Option<usize> {
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
