//! Strings and paths of a configuration, on their way to the kernel.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use anyhow::{Result, bail};

/// A string for the kernel.
///
/// # Errors
/// When it has a NUL byte; `what` names the property.
pub fn c_string(what: &str, text: &str) -> Result<CString> {
    match CString::new(text) {
        Ok(string) => Ok(string),
        Err(_) => bail!("{what}: has a NUL byte"),
    }
}

/// A path for the kernel, as it is.
///
/// # Errors
/// When it has a NUL byte; `what` names the property.
pub fn c_path(what: &str, path: &Path) -> Result<CString> {
    match CString::new(path.as_os_str().as_bytes()) {
        Ok(string) => Ok(string),
        Err(_) => bail!("{what}: has a NUL byte"),
    }
}

/// A path in the container: absolute (a relative one starts at `/`), without `.`, `..` and double
/// slashes. `..` is taken as text, as runtime-spec's mounts are; symbolic links are met only later,
/// when the path is opened inside the container's root.
///
/// # Errors
/// When it has a NUL byte; `what` names the property.
pub fn container_path(what: &str, path: &Path) -> Result<CString> {
    let mut clean = OsString::new();
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    for part in parts {
        clean.push("/");
        clean.push(part);
    }
    if clean.is_empty() {
        clean.push("/");
    }
    match CString::new(clean.into_vec()) {
        Ok(string) => Ok(string),
        Err(_) => bail!("{what}: has a NUL byte"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_paths_are_cleaned() {
        for (path, clean) in [
            ("/a//b/./c/", c"/a/b/c"),
            ("a", c"/a"),
            ("/a/../../b", c"/b"),
            ("", c"/"),
            ("/..", c"/"),
        ] {
            assert_eq!(
                container_path("x", Path::new(path)).unwrap().as_c_str(),
                clean
            );
        }
    }

    #[test]
    fn nul_is_an_error_that_names_the_property() {
        assert_eq!(
            c_string("process.cwd", "a\0b").unwrap_err().to_string(),
            "process.cwd: has a NUL byte"
        );
    }
}
