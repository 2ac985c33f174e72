//! The image store: images from archives, unpacked as lower layers for overlayfs.
//!
//! [`Store::load`] reads an OCI image layout or a docker archive, proves every byte by its digest,
//! and unpacks the layers. [`Store::resolve`] gives a name's configuration and layer directories;
//! [`Store::hold`] keeps them from being deleted while a container uses them. docs/images.md has
//! the layout on disk.
//!
//! Not here: registries (nothing is pulled), mounting (the caller stacks the layers), and building.

mod beneath;
mod compress;
mod contents;
mod digest;
mod load;
mod pax;
mod platform;
mod reference;
mod source;
mod store;
mod tarball;
mod trash;
mod unpack;
mod wire;
mod write;

#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub use digest::{Algorithm, Digest};
pub use load::Loaded;
pub use reference::Reference;
pub use store::{InUse, Store};
pub use trash::remove_tree;
pub use write::Removed;

/// An image in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The canonical name: `docker.io/library/busybox:latest`.
    pub name: String,
    /// The image id: the digest of the configuration.
    pub id: Digest,
    /// The digest of the manifest; absent for an image from a docker archive, which has none.
    pub manifest: Option<Digest>,
    /// What a container of this image runs by default.
    pub config: ImageConfig,
    /// The directories to stack, the top-most first, as overlayfs's `lowerdir` has them. Empty for
    /// an image without layers.
    pub layers: Vec<PathBuf>,
    /// The diff ids of all layers, the lowest first, as in the image's configuration.
    pub layer_ids: Vec<Digest>,
    /// When the image was built, where it says so.
    pub created: Option<SystemTime>,
    /// When this name was loaded.
    pub loaded: Option<SystemTime>,
    /// The bytes of all files in all layers.
    pub bytes: u64,
}

/// What a container runs, unless the pod says otherwise: image-spec config.md, `config`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The command; `Cmd` gives its arguments, or is the command if this is empty.
    pub entrypoint: Vec<String>,
    /// The arguments.
    pub cmd: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// Absolute, or empty for `/`.
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, `uid:gid`, ..., or empty for root.
    pub user: String,
    /// The signal that stops the container, by name or number.
    pub stop_signal: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `80/tcp` each.
    pub exposed_ports: Vec<String>,
    /// Paths that are to be volumes.
    pub volumes: Vec<String>,
}

impl From<wire::Execution> for ImageConfig {
    fn from(wire: wire::Execution) -> Self {
        Self {
            entrypoint: wire.entrypoint.unwrap_or_default(),
            cmd: wire.cmd.unwrap_or_default(),
            env: wire.env.unwrap_or_default(),
            working_dir: wire.working_dir.unwrap_or_default(),
            user: wire.user.unwrap_or_default(),
            stop_signal: wire.stop_signal.filter(|signal| !signal.is_empty()),
            labels: wire.labels.unwrap_or_default(),
            exposed_ports: wire.exposed_ports.unwrap_or_default().into_keys().collect(),
            volumes: wire.volumes.unwrap_or_default().into_keys().collect(),
        }
    }
}

/// The bounds of what an archive may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most bytes that one layer's tar has when it is decompressed.
    pub layer_bytes: u64,
    /// The most entries of one layer.
    pub layer_entries: u64,
    /// The most bytes that a compressed archive has when it is decompressed.
    pub archive_bytes: u64,
    /// How long a writer waits for another one.
    pub lock_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes: 64 << 30,
            layer_entries: 4 << 20,
            archive_bytes: 128 << 30,
            lock_wait: Duration::from_secs(300),
        }
    }
}

/// What [`Store::load`] is doing.
#[derive(Debug)]
pub enum Event<'a> {
    /// A compressed archive is being decompressed: the bytes so far.
    Expanding {
        /// Decompressed bytes.
        bytes: u64,
    },
    /// A layer is being unpacked.
    Unpacking {
        /// Which layer.
        diff_id: &'a Digest,
        /// Its place in the image, from 1.
        number: usize,
        /// How many layers the image has.
        count: usize,
        /// The bytes read from the archive.
        bytes: u64,
        /// How many there are.
        total: u64,
    },
    /// A layer is in the store: it was there, or was just unpacked.
    Layer {
        /// Which layer.
        diff_id: &'a Digest,
        /// Whether it was there before.
        present: bool,
    },
    /// Everything is in place and the names are about to be written.
    Committing,
    /// Something in a layer could not be kept.
    Warning(String),
}

/// Where events go.
pub type Report<'a> = &'a mut dyn FnMut(&Event<'_>);

/// The error of a name that the store does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotInStore {
    /// The canonical name.
    pub name: String,
}

impl fmt::Display for NotInStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "image {} is not in the store: load it with \"podctl image load FILE\"",
            self.name
        )
    }
}

impl std::error::Error for NotInStore {}
