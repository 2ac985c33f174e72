//! A pod's volumes, on the host's side: directories on disk, and tmpfs in the supervisor's own mount
//! namespace, where nobody else sees them and from which they are gone when the pod is.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Result;

use super::config::Bind;
use super::quantity::Quantity;
use super::resources;
use super::spec::{Container, Medium, PodSpec, VolumeSource};
use super::store::Entry;
use crate::error::OrFailure;
use crate::files;
use crate::mount;
use crate::spec::namespaces::IdMaps;
use crate::spec::text::{c_path, c_string};

/// /dev/shm of a pod, as Kubernetes' runtimes make it.
const SHM_BYTES: u64 = 64 << 20;

/// Makes all volumes of a pod, and its /dev/shm.
///
/// # Errors
/// As mkdir(2) and mount(2).
pub fn make(entry: &Entry, spec: &PodSpec, maps: Option<&IdMaps>) -> Result<()> {
    for volume in &spec.volumes {
        let VolumeSource::EmptyDir { medium, size_limit } = &volume.source;
        let directory = place(entry, *medium, &volume.name);
        files::make_directory(&directory)?;
        match medium {
            // Any user of any container may write (kubernetes emptyDir).
            Medium::Disk => open_to_all(&directory)?,
            Medium::Memory => {
                let size = memory_size(spec, *size_limit).map(|it| it.to_string());
                let size = size.map(|it| c_string("sizeLimit", &it)).transpose()?;
                let mut settings = vec![(c"mode", c"0777")];
                settings.extend(size.as_ref().map(|it| (c"size", it.as_c_str())));
                let name = c_string("volume", &volume.name)?;
                mount::tmpfs(&name, &directory, &settings, mount::NOSUID | mount::NODEV)?;
            }
        }
    }
    if !spec.host_ipc {
        make_shm(entry, maps)?;
    }
    match maps {
        Some(maps) => try_idmaps(entry, spec, maps),
        None => Ok(()),
    }
}

/// What cannot be id-mapped here is an error of the pod, and not only of the containers that mount
/// it.
fn try_idmaps(entry: &Entry, spec: &PodSpec, maps: &IdMaps) -> Result<()> {
    if spec.volumes.is_empty() {
        return Ok(());
    }
    let userns = mount::idmap_namespace(maps)?;
    for volume in &spec.volumes {
        let VolumeSource::EmptyDir { medium, .. } = &volume.source;
        let what = format!("volume {}", volume.name);
        let path = c_path(&what, &place(entry, *medium, &volume.name))?;
        let tree = mount::copy(&what, &path, false)?;
        mount::idmap(&what, tree.as_fd(), userns.as_fd(), false)?;
    }
    Ok(())
}

/// What is written to memory counts for the pod's own limit, which bounds it, too. Without either it
/// is the kernel's default, half of the machine's memory.
fn memory_size(spec: &PodSpec, size_limit: Option<Quantity>) -> Option<u64> {
    let own = size_limit.map(Quantity::value);
    let pod = resources::pod_limits(spec).memory_max;
    own.into_iter().chain(pod).min()
}

fn open_to_all(directory: &PathBuf) -> Result<()> {
    let mode = std::fs::Permissions::from_mode(0o777);
    let set = std::fs::set_permissions(directory, mode);
    Ok(set.or_failure(|| format!("set the mode of {}", directory.display()))?)
}

fn make_shm(entry: &Entry, maps: Option<&IdMaps>) -> Result<()> {
    let directory = entry.running("shm");
    files::make_directory(&directory)?;
    // Owned by the pod's root; what is in it belongs to whoever makes it.
    let owner = maps
        .and_then(|maps| maps.uids.first())
        .map_or(0, |line| line.outside)
        .to_string();
    let (owner, size) = (
        c_string("uid", &owner)?,
        c_string("size", &SHM_BYTES.to_string())?,
    );
    let settings = [
        (c"mode", c"1777"),
        (c"size", size.as_c_str()),
        (c"uid", owner.as_c_str()),
        (c"gid", owner.as_c_str()),
    ];
    Ok(mount::tmpfs(
        c"shm",
        &directory,
        &settings,
        mount::NOSUID | mount::NODEV | mount::NOEXEC,
    )?)
}

fn place(entry: &Entry, medium: Medium, name: &str) -> PathBuf {
    match medium {
        Medium::Disk => entry.kept("volumes").join(name),
        Medium::Memory => entry.running("volumes").join(name),
    }
}

/// What of it one container mounts.
pub fn binds(entry: &Entry, spec: &PodSpec, container: &Container) -> Vec<Bind> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut binds = Vec::new();
    let shm = if spec.host_ipc {
        PathBuf::from("/dev/shm")
    } else {
        entry.running("shm")
    };
    binds.push(Bind {
        source: text(shm),
        target: "/dev/shm".to_owned(),
        readonly: false,
        idmapped: false,
        options: vec!["nosuid", "nodev", "noexec"],
    });
    for mount in &container.volume_mounts {
        let Some(volume) = spec.volume(&mount.name) else {
            continue;
        };
        let VolumeSource::EmptyDir { medium, .. } = &volume.source;
        binds.push(Bind {
            source: text(place(entry, *medium, &volume.name)),
            target: mount.mount_path.clone(),
            readonly: mount.read_only,
            idmapped: true,
            options: Vec::new(),
        });
    }
    binds
}
