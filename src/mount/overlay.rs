//! Root file systems: an overlay over an image's layers (kernel's
//! Documentation/filesystems/overlayfs.rst).
//!
//! In a user namespace the lower layers are id-mapped, so one unpacked layer serves every range of
//! ids. The upper layer is not: the overlay itself works in it as the host's root, whose id no pod
//! maps; it belongs to the pod's own range on the disk instead.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{change, copy, idmap, idmap_namespace, path};
use crate::error::OrFailure;
use crate::spec::mounts::Attributes;
use crate::spec::namespaces::IdMaps;
use crate::sys;
use crate::sys::mount::attr;

/// What an overlay is made of.
#[derive(Debug)]
pub struct Overlay<'a> {
    /// Directories, the top-most first; may be empty.
    pub layers: &'a [PathBuf],
    /// Holds the upper layer and what overlayfs needs beside it; made where it is missing.
    pub writable: &'a Path,
    /// Where it is mounted; made where it is missing.
    pub target: &'a Path,
    /// Of the pod's user namespace, when it has one.
    pub maps: Option<&'a IdMaps>,
}

/// Mounts an overlay. Helper mounts are gone when it returns.
///
/// # Errors
/// One that names the path and the errno.
pub fn mount(overlay: &Overlay<'_>) -> Result<()> {
    let (upper, work) = (
        overlay.writable.join("upper"),
        overlay.writable.join("work"),
    );
    for directory in [&upper, &work, &overlay.target.to_path_buf()] {
        fs::create_dir_all(directory)
            .or_failure(|| format!("make directory {}", directory.display()))?;
    }
    let root = root_of(overlay.maps)?;
    dress(&upper, overlay.layers.first(), root)?;
    // The options of a mount are one page long, too short for many long paths: layers get short
    // names in one directory, which is where the kernel starts to look.
    let layers = overlay.writable.join("layers");
    fs::create_dir_all(&layers).or_failure(|| format!("make directory {}", layers.display()))?;
    let mut names = Vec::new();
    let mounted = attach_layers(overlay, &layers, &mut names).and_then(|()| {
        let lower = if names.is_empty() {
            vec!["none".to_owned()]
        } else {
            names.clone()
        };
        mount_in(&layers, &lower, overlay.target)
    });
    for name in &names {
        let place = layers.join(name);
        let _ = sys::mount::unmount(&path(&place)?, libc::MNT_DETACH);
        // Never with what is in it: a copy that is still mounted is the image itself.
        let _ = fs::remove_dir(&place);
    }
    let _ = fs::remove_dir(layers.join("none"));
    let _ = fs::remove_dir(&layers);
    mounted
}

/// Unmounts an overlay, also one that is in use.
///
/// # Errors
/// As umount2(2).
pub fn unmount(target: &Path) -> Result<()> {
    let target = path(target)?;
    Ok(sys::mount::unmount(&target, libc::MNT_DETACH)
        .or_failure(|| format!("unmount {}", target.to_string_lossy()))?)
}

/// The host's ids of the container's root.
fn root_of(maps: Option<&IdMaps>) -> Result<(u32, u32)> {
    let Some(maps) = maps else { return Ok((0, 0)) };
    let first = |lines: &[crate::spec::namespaces::IdMapping]| {
        lines
            .iter()
            .find(|line| line.inside == 0)
            .map(|line| line.outside)
    };
    let ids = first(&maps.uids).zip(first(&maps.gids));
    ids.context("the user namespace does not map id 0")
}

/// A container's `/` takes mode and owner from the upper directory: they are to be the image's.
fn dress(upper: &Path, top: Option<&PathBuf>, (uid, gid): (u32, u32)) -> Result<()> {
    let what = || format!("dress {}", upper.display());
    let (mode, owner, group) = match top {
        Some(layer) => {
            let it = fs::metadata(layer).or_failure(|| format!("layer {}", layer.display()))?;
            (it.mode() & 0o7777, it.uid(), it.gid())
        }
        None => (0o755, 0, 0),
    };
    let (uid, gid) = (uid.saturating_add(owner), gid.saturating_add(group));
    std::os::unix::fs::chown(upper, Some(uid), Some(gid)).or_failure(what)?;
    Ok(fs::set_permissions(upper, fs::Permissions::from_mode(mode)).or_failure(what)?)
}

fn attach_layers(overlay: &Overlay<'_>, directory: &Path, names: &mut Vec<String>) -> Result<()> {
    let userns = overlay.maps.map(idmap_namespace).transpose()?;
    if overlay.layers.is_empty() {
        // An image without layers still needs a lower directory.
        let none = directory.join("none");
        fs::create_dir_all(&none).or_failure(|| format!("make directory {}", none.display()))?;
    }
    for (index, layer) in overlay.layers.iter().enumerate() {
        let what = format!("image layer {}", layer.display());
        let tree = copy(&what, &path(layer)?, false)?;
        if let Some(userns) = &userns {
            idmap(&what, tree.as_fd(), userns.as_fd(), false)?;
        }
        let read_only = Attributes {
            set: attr::RDONLY,
            clear: 0,
        };
        change(&what, tree.as_fd(), read_only, false)?;
        let place = directory.join(index.to_string());
        fs::create_dir_all(&place).or_failure(|| format!("make directory {}", place.display()))?;
        sys::mount::attach_at(tree.as_fd(), &path(&place)?).or_failure(|| what)?;
        names.push(index.to_string());
    }
    Ok(())
}

fn mount_in(directory: &Path, lower: &[String], target: &Path) -> Result<()> {
    let what = || format!("mount overlay at {}", target.display());
    let options = format!(
        "lowerdir={},upperdir=../upper,workdir=../work",
        lower.join(":")
    );
    ensure!(
        options.len() < 4096,
        "{}: too many layers: {}",
        what(),
        lower.len()
    );
    let options = std::ffi::CString::new(options)?;
    let target = path(target)?;
    let before = std::env::current_dir().or_failure(|| "find the current directory")?;
    std::env::set_current_dir(directory).or_failure(|| format!("enter {}", directory.display()))?;
    let mounted = sys::mount::mount(c"overlay", &target, c"overlay", &options).or_failure(what);
    std::env::set_current_dir(&before).or_failure(|| format!("enter {}", before.display()))?;
    Ok(mounted?)
}
