//! A pod's volumes, on the host's side: directories on disk, and tmpfs in the supervisor's own mount
//! namespace, where nobody else sees them and from which they are gone when the pod is.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Result;

use super::config::Bind;
use super::spec::{Container, Medium, PodSpec, VolumeSource};
use super::store::Entry;
use crate::error::OrFailure;
use crate::files;
use crate::mount;
use crate::spec::namespaces::IdMaps;
use crate::spec::text::c_string;

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
                let mode = (c"mode", c"0777".to_owned());
                let size = size_limit.map(|it| it.value().to_string());
                let size = size.map(|it| c_string("sizeLimit", &it)).transpose()?;
                let mut settings = vec![(mode.0, mode.1.as_c_str())];
                settings.extend(size.as_ref().map(|it| (c"size", it.as_c_str())));
                mount::tmpfs(&directory, &settings, mount::NOSUID | mount::NODEV)?;
            }
        }
    }
    if !spec.host_ipc {
        make_shm(entry, maps)?;
    }
    Ok(())
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
