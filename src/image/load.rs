//! Loading an archive: find its images, prove and unpack their layers, then write the names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::open;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, syncfs};

use super::compress::Decoder;
use super::contents::{self, Candidate, Layer};
use super::digest::HashingReader;
use super::source::Source;
use super::store::{LayerRecord, Record};
use super::trash::DIRECTORY;
use super::unpack::{Unpacked, unpack};
use super::write::{Writer, make_directory, make_parent, rename};
use super::{Digest, Event, Reference, Report, Store};
use crate::error::OrFailure;

/// How many bytes of a layer are read between two events.
const STEP: u64 = 1 << 20;

/// One image that [`Store::load`] loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The canonical name.
    pub name: String,
    /// The image id.
    pub id: Digest,
    /// How many layers it has.
    pub layers: usize,
    /// The bytes of all files in all layers.
    pub bytes: u64,
    /// False if the name led to this very image before.
    pub changed: bool,
}

impl Store {
    /// Loads every image of an archive that has a name and fits this machine.
    ///
    /// The archive is an OCI image layout (a directory, or a tar of one) or a docker archive, and
    /// a tar may be compressed with gzip or zstd; which it is, is found by content. `name` replaces
    /// the name of the only image in the archive. The images that a name led to before are deleted
    /// if nothing else needs them.
    ///
    /// # Errors
    /// An archive that is damaged, exceeds [`super::Limits`], has no image for this machine, or
    /// none with a name. The store is then as it was.
    pub fn load(
        &self,
        path: &Path,
        name: Option<&Reference>,
        report: Report<'_>,
    ) -> Result<Vec<Loaded>> {
        ensure!(
            geteuid().is_root(),
            "loading an image needs root: it makes files of other owners, devices and overlayfs marks"
        );
        let mut writer = self.writer()?;
        let loaded = writer.load(path, name, report);
        if loaded.is_err() {
            // What a load that failed brought in leads nowhere. Should deleting it fail too, the
            // next writer does it; the first error is the one to tell.
            let _ = writer.undo();
        }
        loaded.with_context(|| format!("image archive {}", path.display()))
    }
}

impl Writer<'_> {
    fn load(
        &mut self,
        path: &Path,
        name: Option<&Reference>,
        report: Report<'_>,
    ) -> Result<Vec<Loaded>> {
        let source = Source::open(path, &self.store.tmp(), &self.store.limits, report)?;
        let mut candidates = contents::read(&source)?;
        name_candidates(&mut candidates, name)?;
        let mut loaded = Vec::new();
        let before = self.index.clone();
        for candidate in &candidates {
            for layer in 0..candidate.layers.len() {
                self.layer(&source, candidate, layer, report)?;
            }
            self.put_blob(&candidate.config.digest, &candidate.config.bytes)?;
            if let Some(manifest) = &candidate.manifest {
                self.put_blob(&manifest.digest, &manifest.bytes)?;
            }
            for name in &candidate.names {
                loaded.push(self.record(name, candidate)?);
            }
        }
        report(&Event::Committing);
        if self.index != before {
            self.commit()?;
        }
        self.sweep()?;
        Ok(loaded)
    }

    fn record(&mut self, name: &Reference, candidate: &Candidate) -> Result<Loaded> {
        let layers: Vec<_> = candidate.layers.iter().map(|l| l.diff_id.clone()).collect();
        let mut record = Record {
            id: candidate.config.digest.clone(),
            manifest: candidate.manifest.as_ref().map(|m| m.digest.clone()),
            index: candidate.index.clone(),
            bytes: self.bytes(&layers)?,
            loaded: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            layers,
        };
        if let Some(digest) = name.digest() {
            ensure!(
                record.is_pinned_by(digest),
                "the name {name} has a digest that is not this image's"
            );
        }
        let name = name.to_string();
        let old = self.index.images.get(&name);
        if let Some(old) = old {
            // The same image again keeps its time, so that nothing changes.
            let now = std::mem::replace(&mut record.loaded, old.loaded.clone());
            if record != *old {
                record.loaded = now;
            }
        }
        let loaded = Loaded {
            id: record.id.clone(),
            layers: record.layers.len(),
            bytes: record.bytes,
            changed: old != Some(&record),
            name: name.clone(),
        };
        self.index.images.insert(name, record);
        Ok(loaded)
    }

    /// Brings one layer into the store, unless it is there.
    fn layer(
        &self,
        source: &Source,
        image: &Candidate,
        at: usize,
        report: Report<'_>,
    ) -> Result<()> {
        let Some(layer) = image.layers.get(at) else {
            return Ok(());
        };
        let diff_id = &layer.diff_id;
        // A directory has its place in `layers/` only when it is complete.
        let present = self.store.layer_record(diff_id)?.is_some();
        if !present {
            let place = (at + 1, image.layers.len());
            self.unpack_layer(source, layer, place, report)
                .with_context(|| format!("layer {diff_id}"))?;
        }
        report(&Event::Layer { diff_id, present });
        Ok(())
    }

    fn unpack_layer(
        &self,
        source: &Source,
        layer: &Layer,
        (number, count): (usize, usize),
        report: Report<'_>,
    ) -> Result<()> {
        let (reader, total) = source
            .member(&layer.member)?
            .with_context(|| format!("{:?} is not in the archive", layer.member))?;
        if let Some((digest, size)) = &layer.stored {
            ensure!(
                total == *size,
                "blob {digest} has {total} bytes, and its descriptor says {size}"
            );
        }
        let directory = self.store.tmp().join("layer");
        let root = directory.join("root");
        make_directory(&root)?;
        let mut bytes = 0;
        let mut reported = None;
        let reader = Watched {
            inner: reader,
            watch: |more| {
                bytes += more;
                if reported.is_none_or(|at| bytes - at >= STEP) {
                    reported = Some(bytes);
                    report(&Event::Unpacking {
                        diff_id: &layer.diff_id,
                        number,
                        count,
                        bytes,
                        total,
                    });
                }
            },
        };
        let unpacked = self.prove_and_unpack(reader, total, layer, &root)?;
        for warning in &unpacked.warnings {
            report(&Event::Warning(format!(
                "layer {}: {warning}",
                layer.diff_id
            )));
        }
        let record = LayerRecord {
            diff_id: layer.diff_id.clone(),
            bytes: unpacked.bytes,
            opaque_root: unpacked.opaque_root,
        };
        self.place_layer(&directory, &record)
    }

    /// Unpacks a layer; an error if a digest is not what was declared.
    fn prove_and_unpack(
        &self,
        reader: impl Read,
        total: u64,
        layer: &Layer,
        root: &Path,
    ) -> Result<Unpacked> {
        let limits = &self.store.limits;
        let diff_id = &layer.diff_id;
        let algorithm = layer
            .stored
            .as_ref()
            .map_or(diff_id, |(d, _)| d)
            .algorithm();
        let mut stored = HashingReader::new(reader, algorithm, total);
        let mut unpack_stream = || -> Result<_> {
            let decoder = Decoder::new(&mut stored)?;
            let mut tar = HashingReader::new(decoder, diff_id.algorithm(), limits.layer_bytes);
            let fd = open(root, DIRECTORY, Mode::empty())
                .or_failure(|| format!("open {}", root.display()))?;
            let unpacked = unpack(&mut tar, fd, &self.trash, limits)?;
            tar.drain()?;
            Ok((unpacked, tar.finish().0))
        };
        let result = unpack_stream();
        stored.drain()?;
        // A damaged blob breaks unpacking in some way or other: its digest is the better reason.
        if let Some((declared, _)) = &layer.stored
            && stored.finish().0 != *declared
        {
            bail!("blob {declared} is damaged: its content has another digest");
        }
        let (unpacked, found) = result?;
        ensure!(
            found == *diff_id,
            "it is damaged: its uncompressed content has the digest {found}"
        );
        Ok(unpacked)
    }

    /// Moves a complete layer to its place.
    fn place_layer(&self, directory: &Path, record: &LayerRecord) -> Result<()> {
        let what = || format!("write {}", directory.display());
        fs::write(directory.join("layer.json"), serde_json::to_vec(record)?).or_failure(what)?;
        File::create(directory.join("lock")).or_failure(what)?;
        // One call for thousands of files; rename makes them visible only after it.
        let fd = File::open(directory).or_failure(what)?;
        syncfs(&fd).or_failure(what)?;
        let target = self.store.layer(&record.diff_id);
        make_parent(&target)?;
        rename(directory, &target)
    }
}

/// Gives every image its names: those of the archive, or the one the caller wants.
fn name_candidates(candidates: &mut [Candidate], name: Option<&Reference>) -> Result<()> {
    match (name, &mut *candidates) {
        (None, candidates) => {
            for candidate in candidates.iter() {
                if !candidate.names.is_empty() {
                    continue;
                }
                match &candidate.tag {
                    Some(tag) => bail!(
                        "the archive names its image only by the tag {tag:?}: add --name REPOSITORY:{tag}"
                    ),
                    None => bail!("the archive does not name its image: add --name REPOSITORY:TAG"),
                }
            }
        }
        (Some(name), [only]) => only.names = vec![name.clone()],
        (Some(_), many) => bail!(
            "the archive has {} images, and --name names only one",
            many.len()
        ),
    }
    Ok(())
}

/// Tells how many bytes pass.
struct Watched<R, F> {
    inner: R,
    watch: F,
}

impl<R: Read, F: FnMut(u64)> Read for Watched<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.watch)(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
