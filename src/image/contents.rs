//! What an archive holds: images that fit this machine, with their names and layers.
//!
//! Reads the two kinds, OCI image layouts (image-spec image-layout.md) and docker archives
//! (`manifest.json`), into one type. Every blob that is read here is checked against its digest
//! and size; layers are only found, and are checked when they are unpacked.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::platform::{architecture, fitness};
use super::source::Source;
use super::wire::{self, Configuration, Descriptor, Document, Manifest, Platform};
use super::{Digest, Reference};

const DOCUMENT_MAX: u64 = 4 << 20;
const CONFIGURATION_MAX: u64 = 8 << 20;
/// How deep an index in an index is followed, and how many descriptors in all.
const DEPTH_MAX: u32 = 4;
const DESCRIPTORS_MAX: usize = 4096;
/// The most layers that overlayfs stacks: OVL_MAX_STACK.
const LAYERS_MAX: usize = 500;

/// A document with its digest.
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

/// A layer in the archive.
pub(super) struct Layer {
    /// The digest of the uncompressed tar.
    pub(super) diff_id: Digest,
    /// Where it is in the archive.
    pub(super) member: String,
    /// The digest and size of the bytes as they are in the archive, where they are declared.
    pub(super) stored: Option<(Digest, u64)>,
}

/// An image in the archive.
pub(super) struct Candidate {
    /// Its full names.
    pub(super) names: Vec<Reference>,
    /// A tag without a repository: all that the layout specification asks for.
    pub(super) tag: Option<String>,
    pub(super) manifest: Option<Blob>,
    /// The index that the manifest was chosen from.
    pub(super) index: Option<Digest>,
    pub(super) config: Blob,
    pub(super) layers: Vec<Layer>,
}

/// Finds the images of an archive, by what is in it.
pub(super) fn read(source: &Source) -> Result<Vec<Candidate>> {
    let index = source.read("index.json", DOCUMENT_MAX)?;
    let layout = source.read("oci-layout", DOCUMENT_MAX)?;
    let docker = source.read("manifest.json", DOCUMENT_MAX)?;
    match (index, layout, docker) {
        (Some(index), Some(layout), docker) => {
            check_layout(&layout)?;
            let images = oci(source, &index)?;
            // Some builders write both kinds into one archive, and the names only into one.
            match docker {
                Some(docker) if images.iter().all(|image| image.names.is_empty()) => {
                    docker_archive(source, &docker)
                }
                _ => Ok(images),
            }
        }
        (_, None, Some(docker)) => docker_archive(source, &docker),
        (Some(_), None, None) => bail!("it has an index.json and no oci-layout file"),
        (None, Some(_), _) => bail!("it is an OCI image layout without index.json"),
        (None, None, None) => bail!(
            "it is neither an OCI image layout (oci-layout, index.json) nor a docker archive (manifest.json)"
        ),
    }
}

fn check_layout(bytes: &[u8]) -> Result<()> {
    let layout: serde_json::Value = serde_json::from_slice(bytes).context("oci-layout")?;
    let version = layout.get("imageLayoutVersion").and_then(|v| v.as_str());
    ensure!(
        version.is_some_and(|version| version.starts_with("1.")),
        "oci-layout: image layout version {version:?} is not known"
    );
    Ok(())
}

/// An image manifest that an index leads to.
struct Choice {
    descriptor: Descriptor,
    index: Option<Digest>,
    bytes: Vec<u8>,
    manifest: Manifest,
    platform: Platform,
}

fn oci(source: &Source, index: &[u8]) -> Result<Vec<Candidate>> {
    let Document::Index(entries) = wire::document(index, "").context("index.json")? else {
        bail!("index.json is a manifest and not an index");
    };
    // Entries of one name are one image for several platforms.
    let mut groups: BTreeMap<Option<String>, Vec<Descriptor>> = BTreeMap::new();
    for entry in entries {
        let name = entry
            .annotation("io.containerd.image.name")
            .or_else(|| entry.annotation("org.opencontainers.image.ref.name"))
            .map(str::to_owned);
        groups.entry(name).or_default().push(entry);
    }
    let mut candidates = Vec::new();
    for (name, entries) in groups {
        let choice = choose(source, entries)
            .with_context(|| format!("image {}", name.as_deref().unwrap_or("without a name")))?;
        let mut candidate = oci_image(source, choice)?;
        match name {
            Some(name) if name.contains(['/', ':', '@']) => {
                candidate.names.push(name.parse()?);
            }
            tag => candidate.tag = tag,
        }
        candidates.push(candidate);
    }
    ensure!(!candidates.is_empty(), "index.json has no image");
    Ok(candidates)
}

/// What the entries of one name lead to.
#[derive(Default)]
struct Found {
    choices: Vec<Choice>,
    /// Platforms that are not this machine's.
    others: Vec<String>,
    descriptors: usize,
}

/// The image for this machine among the entries of one name.
fn choose(source: &Source, entries: Vec<Descriptor>) -> Result<Choice> {
    let mut found = Found::default();
    for entry in entries {
        collect(source, entry, None, 0, &mut found)?;
    }
    let Found {
        mut choices,
        mut others,
        ..
    } = found;
    let Some(best) = choices.iter().filter_map(|c| fitness(&c.platform)).max() else {
        others.sort();
        others.dedup();
        let others = match others.as_slice() {
            [] => "none at all".to_owned(),
            others => others.join(", "),
        };
        bail!(
            "the archive has no image for linux/{}, only {others}",
            architecture()
        );
    };
    choices.retain(|choice| fitness(&choice.platform) == Some(best));
    choices.dedup_by(|a, b| a.descriptor.digest == b.descriptor.digest);
    ensure!(
        choices.len() < 2,
        "the archive has {} images for this platform and nothing tells them apart",
        choices.len()
    );
    choices.pop().context("no image was chosen")
}

fn collect(
    source: &Source,
    descriptor: Descriptor,
    index: Option<&Digest>,
    depth: u32,
    found: &mut Found,
) -> Result<()> {
    ensure!(depth < DEPTH_MAX, "indexes are nested too deeply");
    found.descriptors += 1;
    ensure!(
        found.descriptors <= DESCRIPTORS_MAX,
        "there are more than {DESCRIPTORS_MAX} entries"
    );
    if !wire::is_image_type(&descriptor.media_type) {
        return Ok(());
    }
    let declared = descriptor.platform.clone();
    let declared = declared.filter(|platform| !platform.architecture.is_empty());
    // The blobs of other platforms may be left out of an archive, so they are not looked at.
    if let Some(platform) = &declared
        && fitness(platform).is_none()
    {
        found.other(platform);
        return Ok(());
    }
    let bytes = blob(source, &descriptor, DOCUMENT_MAX)?;
    let document = wire::document(&bytes, &descriptor.media_type)
        .with_context(|| format!("blob {}", descriptor.digest))?;
    let manifest = match document {
        Document::Manifest(manifest) => manifest,
        Document::Index(entries) => {
            for entry in entries {
                collect(source, entry, Some(&descriptor.digest), depth + 1, found)?;
            }
            return Ok(());
        }
    };
    let platform = match declared {
        Some(platform) => platform,
        None => {
            let bytes = blob(source, &manifest.config, CONFIGURATION_MAX)?;
            wire::configuration(&bytes)?.platform
        }
    };
    if fitness(&platform).is_none() {
        found.other(&platform);
        return Ok(());
    }
    found.choices.push(Choice {
        index: index.cloned(),
        bytes,
        descriptor,
        manifest,
        platform,
    });
    Ok(())
}

impl Found {
    /// Notes a platform; build records pass as the platform `unknown`.
    fn other(&mut self, platform: &Platform) {
        if platform.os != "unknown" {
            self.others.push(platform.to_string());
        }
    }
}

fn oci_image(source: &Source, choice: Choice) -> Result<Candidate> {
    let Choice {
        descriptor,
        index,
        bytes,
        manifest,
        ..
    } = choice;
    let config = blob(source, &manifest.config, CONFIGURATION_MAX)?;
    let configuration = check_platform(wire::configuration(&config)?)?;
    let diff_ids = diff_ids(&configuration, manifest.layers.len())?;
    let layers = manifest
        .layers
        .into_iter()
        .zip(diff_ids)
        .map(|(layer, diff_id)| {
            ensure!(
                layer.media_type.is_empty() || wire::is_layer_type(&layer.media_type),
                "layer {} has the media type {}, which is not a layer that can be unpacked",
                layer.digest,
                layer.media_type
            );
            Ok(Layer {
                diff_id,
                member: blob_path(&layer.digest),
                stored: Some((layer.digest, layer.size)),
            })
        });
    Ok(Candidate {
        names: Vec::new(),
        tag: None,
        layers: layers.collect::<Result<_>>()?,
        manifest: Some(Blob {
            digest: descriptor.digest,
            bytes,
        }),
        index,
        config: Blob {
            digest: manifest.config.digest,
            bytes: config,
        },
    })
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// Reads a blob and proves it.
fn blob(source: &Source, descriptor: &Descriptor, max: u64) -> Result<Vec<u8>> {
    let digest = &descriptor.digest;
    let bytes = source
        .read(&blob_path(digest), max)?
        .with_context(|| format!("blob {digest} is not in the archive"))?;
    ensure!(
        bytes.len() as u64 == descriptor.size,
        "blob {digest} has {} bytes, and its descriptor says {}",
        bytes.len(),
        descriptor.size
    );
    ensure!(
        digest.matches(&bytes),
        "blob {digest} is damaged: its content has another digest"
    );
    Ok(bytes)
}

fn diff_ids(configuration: &Configuration, layers: usize) -> Result<Vec<Digest>> {
    let diff_ids = configuration.rootfs.diff_ids.clone().unwrap_or_default();
    ensure!(
        diff_ids.len() == layers,
        "the image has {layers} layers, and its configuration names {}",
        diff_ids.len()
    );
    ensure!(
        layers <= LAYERS_MAX,
        "the image has {layers} layers, and overlayfs stacks {LAYERS_MAX}"
    );
    Ok(diff_ids)
}

fn check_platform(configuration: Configuration) -> Result<Configuration> {
    ensure!(
        fitness(&configuration.platform).is_some(),
        "the archive has no image for linux/{}, only {}",
        architecture(),
        configuration.platform
    );
    Ok(configuration)
}

fn docker_archive(source: &Source, manifest: &[u8]) -> Result<Vec<Candidate>> {
    let images: Vec<wire::DockerImage> =
        serde_json::from_slice(manifest).context("manifest.json")?;
    ensure!(!images.is_empty(), "manifest.json has no image");
    images
        .into_iter()
        .map(|image| docker_image(source, image))
        .collect()
}

fn docker_image(source: &Source, image: wire::DockerImage) -> Result<Candidate> {
    let member = &image.config;
    let bytes = source
        .read(member, CONFIGURATION_MAX)?
        .with_context(|| format!("configuration {member:?} is not in the archive"))?;
    let digest = Digest::of(&bytes);
    // Its name is its digest, in both forms that docker has written.
    let name = member.rsplit('/').next().unwrap_or(member);
    let name = name.strip_suffix(".json").unwrap_or(name);
    let named = format!("sha256:{name}").parse::<Digest>();
    ensure!(
        named.is_err() || named.is_ok_and(|named| named == digest),
        "configuration {member:?} is damaged: its content has the digest {digest}"
    );
    let configuration = check_platform(wire::configuration(&bytes)?)?;
    let members = image.layers.unwrap_or_default();
    let diff_ids = diff_ids(&configuration, members.len())?;
    let layers = members
        .into_iter()
        .zip(diff_ids)
        .map(|(member, diff_id)| Layer {
            stored: None,
            diff_id,
            member,
        });
    let names = image.repo_tags.unwrap_or_default();
    Ok(Candidate {
        names: names
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_>>()?,
        tag: None,
        manifest: None,
        index: None,
        layers: layers.collect(),
        config: Blob { digest, bytes },
    })
}
