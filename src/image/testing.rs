//! What the tests of this part share: archives made to order.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::Digest;

/// True as root; otherwise says which test is skipped.
pub(super) fn root_or_skip(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: {test}: unpacking layers needs root");
    }
    root
}

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

/// An archive by GNU tar, for what only it writes.
pub(super) fn gnu_tar(dir: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .arg("-C")
        .arg(dir)
        .args(["-cf", "-"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

pub(super) fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = [b" ", key, b"=", value, b"\n"].concat();
    let length = (body.len()..)
        .find(|length| body.len() + length.to_string().len() == *length)
        .unwrap();
    [length.to_string().as_bytes(), &body].concat()
}

/// A tar written block by block, so that it can say what no honest program writes.
#[derive(Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn entry(
        mut self,
        kind: EntryType,
        name: &str,
        link: &str,
        data: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory {
            0o755
        } else {
            0o644
        });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, "", data, |_| {})
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", b"", |_| {})
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, b"", |_| {})
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, b"", |_| {})
    }

    pub(super) fn pax(self, records: &[u8]) -> Self {
        self.entry(EntryType::XHeader, "pax", "", records, |_| {})
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A file in an archive, and archives of them.
#[derive(Default, Clone)]
pub(super) struct Layout(pub(super) Vec<(String, Vec<u8>)>);

/// The parts of an image to be written.
pub(super) struct TestImage<'a> {
    pub(super) architecture: &'a str,
    /// Uncompressed tars, the lowest first.
    pub(super) layers: &'a [Vec<u8>],
    pub(super) compress: fn(&[u8]) -> Vec<u8>,
}

impl Default for TestImage<'_> {
    fn default() -> Self {
        Self {
            architecture: super::platform::architecture(),
            layers: &[],
            compress: <[u8]>::to_vec,
        }
    }
}

impl TestImage<'_> {
    pub(super) fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|l| Digest::of(l)).collect();
        serde_json::to_vec(&json!({
            "created": "2024-02-03T04:05:06.789Z",
            "architecture": self.architecture,
            "os": "linux",
            "config": {
                "Cmd": ["sh"], "Entrypoint": null, "Env": ["A=b"], "User": "1:2",
                "WorkingDir": "/w", "StopSignal": "SIGINT", "Labels": {"l": "v"},
                "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))
        .unwrap()
    }
}

impl Layout {
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) {
        self.0.push((name.to_owned(), bytes.to_vec()));
    }

    /// Changes a member.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let member = self.0.iter_mut().find(|member| member.0 == name);
        change(&mut member.unwrap().1);
    }

    /// Adds a blob; its descriptor.
    pub(super) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.add(&format!("blobs/sha256/{}", digest.hex()), bytes);
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Adds an image's blobs; its manifest's descriptor.
    pub(super) fn image(&mut self, image: &TestImage) -> Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", &image.config());
        let layers: Vec<_> = image
            .layers
            .iter()
            .map(|layer| {
                let stored = (image.compress)(layer);
                self.blob("application/vnd.oci.image.layer.v1.tar", &stored)
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let bytes = serde_json::to_vec(&manifest).unwrap();
        self.blob("application/vnd.oci.image.manifest.v1+json", &bytes)
    }

    /// Adds an index blob; its descriptor.
    pub(super) fn index(&mut self, entries: &[Value]) -> Value {
        let bytes = index_json(entries);
        self.blob("application/vnd.oci.image.index.v1+json", &bytes)
    }

    /// The layout's own files.
    pub(super) fn finish(mut self, entries: &[Value]) -> Self {
        self.add("index.json", &index_json(entries));
        self.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        self
    }

    /// One named image.
    pub(super) fn oci(name: &str, image: &TestImage) -> Self {
        let mut layout = Self::default();
        let entry = named(layout.image(image), name);
        layout.finish(&[entry])
    }

    /// The same as `docker save` writes it.
    pub(super) fn docker(names: &[&str], image: &TestImage) -> Self {
        let mut archive = Self::default();
        let config = image.config();
        let config_name = format!("{}.json", Digest::of(&config).hex());
        archive.add(&config_name, &config);
        let mut layers = Vec::new();
        for (number, layer) in image.layers.iter().enumerate() {
            let name = format!("{number}/layer.tar");
            archive.add(&name, &(image.compress)(layer));
            layers.push(name);
        }
        let manifest = json!([{"Config": config_name, "RepoTags": names, "Layers": layers}]);
        archive.add("manifest.json", &serde_json::to_vec(&manifest).unwrap());
        archive
    }

    pub(super) fn tar(&self) -> Vec<u8> {
        self.0
            .iter()
            .fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes))
            .finish()
    }

    pub(super) fn write_directory(&self, directory: &Path) {
        for (name, bytes) in &self.0 {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

/// A descriptor with a name.
pub(super) fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

/// A descriptor with a platform.
pub(super) fn for_platform(mut descriptor: Value, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
    descriptor
}

fn index_json(entries: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": entries})).unwrap()
}
