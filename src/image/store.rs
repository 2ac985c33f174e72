//! The store as readers see it: names, images, and the locks that keep layers in place.
//!
//! `index.json` is replaced as a whole, so a reader sees the store before a change or after it and
//! needs no lock. What a name leads to is immutable. A container that uses layers holds a shared
//! lock on each; a writer deletes a layer only under the exclusive lock.
//!
//! Not here: changing the store (`write`, `load`).

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Digest, Image, Limits, NotInStore, Reference, wire};
use crate::error::OrFailure;

/// The number in `index.json`; a store of another number is not touched.
pub(super) const FORMAT: u32 = 1;
pub(super) const INDEX: &str = "index.json";
const LAYER: &str = "layer.json";

/// A directory of images.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) root: PathBuf,
    pub(super) limits: Limits,
}

/// `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) format: u32,
    /// By canonical name.
    pub(super) images: BTreeMap<String, Record>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            format: FORMAT,
            images: BTreeMap::new(),
        }
    }
}

/// One name in `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The configuration's digest.
    pub(super) id: Digest,
    pub(super) manifest: Option<Digest>,
    /// The index that the manifest was chosen from: a name may be pinned to its digest.
    pub(super) index: Option<Digest>,
    /// The lowest first.
    pub(super) layers: Vec<Digest>,
    pub(super) bytes: u64,
    /// RFC 3339.
    pub(super) loaded: String,
}

impl Record {
    /// Whether a reference that is pinned to `digest` means this image.
    pub(super) fn is_pinned_by(&self, digest: &Digest) -> bool {
        self.manifest.as_ref() == Some(digest) || self.index.as_ref() == Some(digest)
    }
}

/// `layer.json`, beside a layer's tree.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) diff_id: Digest,
    pub(super) bytes: u64,
    pub(super) opaque_root: bool,
}

/// Layers that stay in the store as long as this value lives.
///
/// These are flock(2) locks of open files: they survive a fork, end when the last copy of the
/// descriptors is closed, and so end with the process however it dies. The descriptors are
/// close-on-exec.
#[derive(Debug)]
pub struct InUse {
    _locks: Vec<File>,
}

impl Store {
    /// The store in a directory, which is made by the first load.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            limits: Limits::default(),
        }
    }

    /// The same store with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The image of a reference as a person or a manifest writes it, or of an id `sha256:HEX`.
    ///
    /// A reference with a digest means the image of that repository whose manifest, or the index
    /// it was chosen from, has the digest; the tag beside it is not looked at, as in kubernetes.
    ///
    /// # Errors
    /// [`NotInStore`] as the source; an invalid reference; a store that is damaged or newer.
    pub fn resolve(&self, reference: &str) -> Result<Image> {
        // A remove between reading the names and reading a blob looks like damage: look again.
        self.try_resolve(reference)
            .or_else(|_| self.try_resolve(reference))
    }

    fn try_resolve(&self, reference: &str) -> Result<Image> {
        let index = self.index()?;
        let name = find(&index, reference)?;
        match index.images.get(&name) {
            Some(record) => self.image(name, record),
            None => Err(NotInStore { name }.into()),
        }
    }

    /// All images, sorted by name.
    ///
    /// # Errors
    /// A store that is damaged or newer.
    pub fn list(&self) -> Result<Vec<Image>> {
        let index = self.index()?;
        let mut images = Vec::new();
        for (name, record) in &index.images {
            match self.image(name.clone(), record) {
                Ok(image) => images.push(image),
                Err(error) if self.index()?.images.get(name) == Some(record) => return Err(error),
                // It was removed meanwhile.
                Err(_) => {}
            }
        }
        Ok(images)
    }

    /// Keeps an image's layers in the store, whatever becomes of its name.
    ///
    /// # Errors
    /// The image was removed since it was resolved.
    pub fn hold(&self, image: &Image) -> Result<InUse> {
        let mut ids: Vec<_> = image.layer_ids.iter().collect();
        ids.sort();
        ids.dedup();
        let locks = ids.into_iter().map(|id| {
            self.hold_layer(id)
                .with_context(|| format!("image {}: layer {id}", image.name))
        });
        Ok(InUse {
            _locks: locks.collect::<Result<_>>()?,
        })
    }

    /// Resolves and holds in one.
    ///
    /// # Errors
    /// Those of [`Store::resolve`].
    pub fn acquire(&self, reference: &str) -> Result<(Image, InUse)> {
        let image = self.resolve(reference)?;
        match self.hold(&image) {
            Ok(in_use) => Ok((image, in_use)),
            // Removed, or replaced by a new load, since the line before the last.
            Err(_) => {
                let image = self.resolve(reference)?;
                let in_use = self.hold(&image)?;
                Ok((image, in_use))
            }
        }
    }

    fn hold_layer(&self, id: &Digest) -> Result<File> {
        let path = self.layer(id).join("lock");
        // A writer has the exclusive lock only while it moves a layer away.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let file = File::open(&path).or_failure(|| format!("open {}", path.display()))?;
            match file.try_lock_shared() {
                Ok(()) => {
                    // Another layer of the same id may have come to this place meanwhile.
                    let here =
                        fs::metadata(&path).or_failure(|| format!("look at {}", path.display()))?;
                    if here.ino() == file.metadata()?.ino() {
                        return Ok(file);
                    }
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
                Err(TryLockError::Error(error)) => {
                    Err(error).or_failure(|| format!("lock {}", path.display()))?;
                }
            }
            ensure!(Instant::now() < deadline, "it is being deleted");
        }
    }

    /// Reads `index.json`; an empty store has none.
    pub(super) fn index(&self) -> Result<Index> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let path = self.root.join(INDEX);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Index::default()),
            Err(error) => Err(error).or_failure(|| format!("read {}", path.display()))?,
        };
        let at = || path.display().to_string();
        let Format { format } = serde_json::from_slice(&bytes).with_context(at)?;
        if format != FORMAT {
            bail!(
                "{}: the store has format {format}, and this program knows format {FORMAT}",
                path.display()
            );
        }
        serde_json::from_slice(&bytes).with_context(at)
    }

    /// A layer's directory: `root/` is the tree, beside it are `layer.json` and `lock`.
    pub(super) fn layer(&self, id: &Digest) -> PathBuf {
        let layers = self.root.join("layers");
        layers.join(id.algorithm().name()).join(id.hex())
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        let blobs = self.root.join("blobs");
        blobs.join(digest.algorithm().name()).join(digest.hex())
    }

    /// `layer.json`; `None` if the layer is not in the store.
    pub(super) fn layer_record(&self, id: &Digest) -> Result<Option<LayerRecord>> {
        let path = self.layer(id).join(LAYER);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?,
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).or_failure(|| format!("read {}", path.display()))?,
        }
    }

    fn image(&self, name: String, record: &Record) -> Result<Image> {
        let path = self.blob(&record.id);
        let bytes = fs::read(&path).or_failure(|| format!("read {}", path.display()))?;
        ensure!(
            record.id.matches(&bytes),
            "{} is damaged: its content has another digest",
            path.display()
        );
        let configuration = wire::configuration(&bytes)?;
        Ok(Image {
            name,
            id: record.id.clone(),
            manifest: record.manifest.clone(),
            config: configuration.config.unwrap_or_default().into(),
            layers: self.stack(&record.layers)?,
            layer_ids: record.layers.clone(),
            created: configuration.created.as_deref().and_then(time),
            loaded: time(&record.loaded),
            bytes: record.bytes,
        })
    }

    /// The directories that overlayfs stacks, the top-most first.
    ///
    /// A layer that comes twice is stacked once, at its higher place: what the lower copy does is
    /// done again by the higher one, and overlayfs refuses the same directory twice. Below a layer
    /// whose root is opaque nothing shows.
    fn stack(&self, layers: &[Digest]) -> Result<Vec<PathBuf>> {
        let mut stacked: Vec<&Digest> = Vec::new();
        for id in layers.iter().rev() {
            if stacked.contains(&id) {
                continue;
            }
            let record = self
                .layer_record(id)?
                .with_context(|| format!("layer {id} is missing in {}", self.root.display()))?;
            stacked.push(id);
            if record.opaque_root {
                break;
            }
        }
        let root = |id: &&Digest| self.layer(id).join("root");
        Ok(stacked.iter().map(root).collect())
    }
}

/// The key in the index that a reference or an id means; the canonical name if there is none.
pub(super) fn find(index: &Index, text: &str) -> Result<String> {
    if let Ok(id) = text.parse::<Digest>() {
        let mut named = index.images.iter().filter(|(_, record)| record.id == id);
        let name = named.next().map(|(name, _)| name.clone());
        return Ok(name.unwrap_or_else(|| id.to_string()));
    }
    let reference: Reference = text.parse()?;
    let exact = reference.to_string();
    if index.images.contains_key(&exact) {
        return Ok(exact);
    }
    if let Some(digest) = reference.digest() {
        let pinned = index.images.iter().find(|(name, record)| {
            record.is_pinned_by(digest)
                && name
                    .parse::<Reference>()
                    .is_ok_and(|named| named.name() == reference.name())
        });
        if let Some((name, _)) = pinned {
            return Ok(name.clone());
        }
    }
    Ok(exact)
}

fn time(text: &str) -> Option<SystemTime> {
    // Docker writes the year 1 for "never"; that, and an offset other than Z, give no time.
    humantime::parse_rfc3339_weak(text).ok()
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
