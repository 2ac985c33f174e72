//! The JSON documents of images as they are written: image-spec, and docker's `manifest.json`.
//!
//! Not oci-spec's types: what builders write has `null` where the specification has objects, and
//! a document must be looked at before it is known to be an index or a manifest. Unknown fields
//! are ignored here; blobs are stored byte for byte.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::Digest;

/// image-spec descriptor.md.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
}

impl Descriptor {
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        let value = self.annotations.as_ref()?.get(name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }
}

/// What an image runs on: `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{variant}"),
        }
    }
}

/// image-spec manifest.md; docker's schema 2 has the same shape.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What a descriptor in an index leads to.
#[derive(Debug)]
pub(super) enum Document {
    /// image-spec image-index.md; docker's manifest list has the same shape.
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Whether a descriptor of this media type may lead to an image.
pub(super) fn is_image_type(media_type: &str) -> bool {
    media_type.is_empty()
        || INDEX_TYPES.contains(&media_type)
        || MANIFEST_TYPES.contains(&media_type)
}

/// Whether a layer of this media type is a tar, perhaps compressed.
pub(super) fn is_layer_type(media_type: &str) -> bool {
    let Some(tar) = media_type
        .strip_prefix("application/vnd.oci.image.layer.")
        .map(|rest| rest.strip_prefix("nondistributable.").unwrap_or(rest))
        .and_then(|rest| rest.strip_prefix("v1."))
        .or_else(|| media_type.strip_prefix("application/vnd.docker.image.rootfs.diff."))
        .or_else(|| media_type.strip_prefix("application/vnd.docker.image.rootfs.foreign.diff."))
    else {
        return false;
    };
    matches!(
        tar,
        "tar" | "tar+gzip" | "tar+zstd" | "tar.gzip" | "tar.zstd"
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyDocument {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// Reads an index or a manifest; `expected` is the media type in the descriptor that led here.
///
/// A document that can be read as both is refused: two programs would take it for two different
/// images under one digest (CVE-2021-41190).
pub(super) fn document(bytes: &[u8], expected: &str) -> Result<Document> {
    let any: AnyDocument = serde_json::from_slice(bytes)?;
    ensure!(
        any.schema_version == 2,
        "schemaVersion is {}, and only 2 is known",
        any.schema_version
    );
    let document = match (any.manifests, any.config, any.layers) {
        (Some(manifests), None, None) => Document::Index(manifests),
        (None, Some(config), layers) => Document::Manifest(Manifest {
            config,
            layers: layers.unwrap_or_default(),
        }),
        (None, None, _) => bail!("it is neither an index nor a manifest"),
        (Some(_), _, _) => bail!("it is an index and a manifest at once"),
    };
    let types = match document {
        Document::Index(_) => INDEX_TYPES,
        Document::Manifest(_) => MANIFEST_TYPES,
    };
    for said in [expected, any.media_type.as_deref().unwrap_or_default()] {
        ensure!(
            said.is_empty() || types.contains(&said),
            "its content is not of its media type {said}"
        );
    }
    Ok(document)
}

/// image-spec config.md.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Configuration {
    #[serde(default)]
    pub(super) created: Option<String>,
    #[serde(flatten)]
    pub(super) platform: Platform,
    #[serde(default)]
    pub(super) config: Option<Execution>,
    pub(super) rootfs: RootFs,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub(super) diff_ids: Option<Vec<Digest>>,
}

/// The `config` object of a configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Execution {
    #[serde(default)]
    pub(super) entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub(super) cmd: Option<Vec<String>>,
    #[serde(default)]
    pub(super) env: Option<Vec<String>>,
    #[serde(default)]
    pub(super) working_dir: Option<String>,
    #[serde(default)]
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) stop_signal: Option<String>,
    #[serde(default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    pub(super) volumes: Option<BTreeMap<String, serde_json::Value>>,
}

/// Reads an image's configuration.
pub(super) fn configuration(bytes: &[u8]) -> Result<Configuration> {
    serde_json::from_slice(bytes).context("the image's configuration")
}

/// One image in the `manifest.json` of a docker archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTOR: &str = r#"{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

    fn try_document(body: &str, expected: &str) -> Result<Document> {
        let text = format!(r#"{{"schemaVersion":2,{}}}"#, body.replace('@', DESCRIPTOR));
        document(text.as_bytes(), expected)
    }

    #[test]
    fn document_is_known_by_its_content() {
        assert!(matches!(
            try_document(r#""manifests":[@]"#, "").unwrap(),
            Document::Index(entries) if entries.len() == 1
        ));
        assert!(matches!(
            try_document(r#""config":@,"layers":null"#, MANIFEST_TYPES[1]).unwrap(),
            Document::Manifest(_)
        ));
    }

    #[test]
    fn document_that_is_two_things_is_refused() {
        assert!(try_document(r#""config":@,"layers":[],"manifests":[]"#, "").is_err());
        assert!(try_document(r#""manifests":[@]"#, MANIFEST_TYPES[0]).is_err());
        let body = format!(r#""mediaType":"{}","config":@"#, INDEX_TYPES[0]);
        assert!(try_document(&body, "").is_err());
        assert!(try_document(r#""x":1"#, "").is_err());
    }

    #[test]
    fn layer_types_that_are_not_tars_are_known() {
        for good in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert!(is_layer_type(good), "{good}");
        }
        for bad in [
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.oci.empty.v1+json",
            "text/plain",
        ] {
            assert!(!is_layer_type(bad), "{bad}");
        }
    }
}
