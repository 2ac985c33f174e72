//! Bounded waits: a condition comes true within its time, or the test fails with its name.

use std::time::{Duration, Instant};

/// Waits until the condition holds; panics with `what` after ten seconds (stretched where the
/// kernel is slow).
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10 * crate::runner::time_factor());
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}
