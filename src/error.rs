//! The one kind of kernel failure: what was tried, on which path, the errno by name, a hint.
//!
//! Everything else is plain `anyhow` context. A `Failure` is made where the system call is made (or
//! where the plan's step is known) and is printed once, at the top of the program.

use std::fmt;

use nix::errno::Errno;

/// A system call that failed, worded for the person who reads it.
///
/// Prints as `mount proc at /proc: EPERM: not permitted`, or with the hint in place of the
/// errno's own words where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was tried, on what: `mount proc at /proc`.
    pub what: String,
    /// The kernel's answer.
    pub errno: Errno,
    /// What to do, or why it happened; only where it is true.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(what: impl Into<String>, errno: Errno) -> Self {
        Self {
            what: what.into(),
            errno,
            hint: None,
        }
    }

    /// The same failure with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.what, errno_name(self.errno))?;
        match &self.hint {
            Some(hint) => f.write_str(hint),
            None => f.write_str(words(self.errno)),
        }
    }
}

impl std::error::Error for Failure {}

/// Adds "what was tried" to a bare errno.
pub trait OrFailure<T> {
    /// Turns the errno into a [`Failure`] whose `what` is made only on failure.
    ///
    /// # Errors
    /// The failure itself.
    fn or_failure<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, Failure>;
}

impl<T> OrFailure<T> for Result<T, Errno> {
    fn or_failure<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(what(), errno))
    }
}

impl<T> OrFailure<T> for std::io::Result<T> {
    fn or_failure<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            Failure::new(what(), errno)
        })
    }
}

/// The errno's symbolic name, as in errno(3).
pub fn errno_name(errno: Errno) -> String {
    format!("{errno:?}")
}

/// The errno in a few plain words.
///
/// Not strerror(3)'s for ENOENT, EACCES and EPERM: podman searches error texts for "no such file or
/// directory" and "operation not permitted" and takes them for a missing or unusable program.
pub fn words(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "it does not exist",
        Errno::EPERM => "the kernel does not allow it",
        Errno::EACCES => "access is denied",
        other => other.desc(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_what_errno_and_words() {
        let failure = Failure::new("mount proc at /proc", Errno::EPERM);
        assert_eq!(
            failure.to_string(),
            "mount proc at /proc: EPERM: the kernel does not allow it"
        );
    }

    #[test]
    fn hint_takes_the_place_of_the_words() {
        let failure = Failure::new("mount proc at /proc", Errno::EPERM).hint("try another kernel");
        assert_eq!(
            failure.to_string(),
            "mount proc at /proc: EPERM: try another kernel"
        );
    }

    #[test]
    fn words_do_not_read_like_a_missing_program_to_podman() {
        for errno in [Errno::ENOENT, Errno::EPERM, Errno::EACCES] {
            let text = words(errno).to_lowercase();
            for bad in [
                "no such file or directory",
                "permission denied",
                "operation not permitted",
            ] {
                assert!(!text.contains(bad), "{errno:?}: {text}");
            }
        }
    }
}
