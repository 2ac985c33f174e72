//! Paths that cannot leave a directory.
//!
//! A name from an archive is split into plain components first (`..` is an error), then its parent
//! is resolved by the kernel with openat2(2) `RESOLVE_IN_ROOT`: a symlink that the layer itself
//! made, absolute or with `..`, stays inside the layer, as it would in the running container. The
//! last component is never resolved: callers act on it relative to the parent's descriptor.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};

use crate::error::{Failure, OrFailure};

/// How often a resolution is tried again that the kernel could not finish because something on
/// the machine was renamed meanwhile: openat2(2), EAGAIN.
const RESOLVE_TRIES: u32 = 128;

/// A path of plain components: none is empty, `.` or `..`, and none has a slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Inside(Vec<OsString>);

impl Inside {
    /// Takes a name from an archive; a leading slash means the layer's root.
    pub(super) fn new(name: &[u8]) -> Result<Self> {
        let mut components = Vec::new();
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => bail!("the path has a `..` component, which no layer needs"),
                component if component.contains(&0) => bail!("the path has a zero byte"),
                component => components.push(OsString::from_vec(component.to_vec())),
            }
        }
        Ok(Self(components))
    }

    /// The parent's components and the last one; `None` for the root itself.
    pub(super) fn split(&self) -> Option<(&[OsString], &OsStr)> {
        let (last, parents) = self.0.split_last()?;
        Some((parents, last))
    }

    /// Whether a component satisfies the condition.
    pub(super) fn any(&self, condition: impl Fn(&[u8]) -> bool) -> bool {
        self.0
            .iter()
            .any(|component| condition(component.as_bytes()))
    }
}

impl std::fmt::Display for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.join(OsStr::new("/")).display())
    }
}

/// The directory that nothing leaves.
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// The root's own descriptor.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Opens a directory for use as a parent.
    pub(super) fn directory(&self, components: &[OsString]) -> Result<OwnedFd, Failure> {
        let path = join(components);
        resolve(
            &self.0,
            Path::new(&path),
            OFlag::O_PATH | OFlag::O_DIRECTORY,
        )
        .or_failure(|| format!("open directory {}", path.display()))
    }

    /// The same, making the directories that are missing, mode 0755 and owned by the caller.
    pub(super) fn make_directory(&self, components: &[OsString]) -> Result<OwnedFd, Failure> {
        match self.directory(components) {
            Err(failure) if failure.errno == Errno::ENOENT => {}
            found => return found,
        }
        let mut parent = self.directory(&[])?;
        for count in 1..=components.len() {
            let Some((path, name)) = components.get(..count).and_then(|path| {
                let name = path.last()?;
                Some((path, name))
            }) else {
                break;
            };
            parent = match self.directory(path) {
                Err(failure) if failure.errno == Errno::ENOENT => {
                    make_missing(&parent, name, path)?;
                    self.directory(path)?
                }
                found => found?,
            };
        }
        Ok(parent)
    }
}

fn make_missing(parent: &OwnedFd, name: &OsStr, path: &[OsString]) -> Result<(), Failure> {
    let what = || format!("make directory {}", join(path).display());
    mkdirat(parent, name, Mode::from_bits_truncate(0o755)).map_err(|errno| {
        let failure = Failure::new(what(), errno);
        match errno {
            // It did not exist when it was resolved, so it is a name that leads nowhere.
            Errno::EEXIST => {
                failure.hint("it is a symlink to something that the layer does not have")
            }
            _ => failure,
        }
    })?;
    // The mode that mkdirat(2) gave depends on the caller's umask. The name is a directory that
    // was made just now in a tree that nobody else sees, so following it is harmless.
    fchmodat(
        parent,
        name,
        Mode::from_bits_truncate(0o755),
        FchmodatFlags::FollowSymlink,
    )
    .or_failure(what)
}

fn join(components: &[OsString]) -> OsString {
    if components.is_empty() {
        return OsString::from(".");
    }
    components.join(OsStr::new("/"))
}

/// Opens an existing path below a directory as if the directory were `/`.
pub(super) fn resolve(root: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let mut last = Errno::EAGAIN;
    for _ in 0..RESOLVE_TRIES {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_IN_ROOT
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
        match openat2(root.as_fd(), path, how) {
            Err(errno @ (Errno::EAGAIN | Errno::EINTR)) => last = errno,
            done => return done,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::open;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root(path: &Path) -> Root {
        Root::new(open(path, OFlag::O_DIRECTORY | OFlag::O_RDONLY, Mode::empty()).unwrap())
    }

    fn inside(name: &str) -> Inside {
        Inside::new(name.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_split_and_dots_and_slashes_vanish() {
        assert_eq!(inside("/a//./b/"), inside("a/b"));
        assert_eq!(inside("./").split(), None);
        for bad in [&b".."[..], b"a/../b", b"../a", b"a/..", b"a\0b"] {
            assert!(Inside::new(bad).is_err());
        }
        assert!(Inside::new(b"..a/b..").is_ok());
    }

    #[test]
    fn symlinked_parent_resolves_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("layer");
        fs::create_dir_all(layer.join("etc")).unwrap();
        symlink("/etc", layer.join("absolute")).unwrap();
        symlink("../../../../etc", layer.join("dots")).unwrap();
        let root = root(&layer);
        for name in ["absolute", "dots"] {
            let parent = root.make_directory(&inside(name).0).unwrap();
            mkdirat(&parent, name, Mode::S_IRWXU).unwrap();
            assert!(layer.join("etc").join(name).is_dir(), "{name}");
        }
    }

    #[test]
    fn missing_parents_are_made_whatever_the_umask() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        root(dir.path()).make_directory(&inside("a/b").0).unwrap();
        for name in ["a", "a/b"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o7777, 0o755);
        }
    }

    #[test]
    fn parent_that_is_a_symlink_to_nothing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/run", dir.path().join("run-link")).unwrap();
        let error = root(dir.path())
            .make_directory(&inside("run-link/x").0)
            .unwrap_err();
        assert!(
            error.to_string().contains("symlink to something"),
            "{error}"
        );
        assert!(!dir.path().join("run").exists());
    }
}
