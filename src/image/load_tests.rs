//! Loading each kind of archive, and archives that are damaged or lie.

use std::path::PathBuf;

use serde_json::json;

use super::super::testing::{
    Layout, Tar, TestImage, for_platform, gzip, named, root_or_skip, zstd,
};
use super::super::{Image, Limits};
use super::*;

type Pack = fn(&[u8]) -> Vec<u8>;

const NAME: &str = "docker.io/library/test:1";

struct Place {
    dir: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            store: Store::open(dir.path().join("images")),
            dir,
        }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join("archive");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn load_bytes(&self, bytes: &[u8], name: Option<&str>) -> Result<Vec<Loaded>> {
        let name = name.map(|name| name.parse().unwrap());
        let result = self
            .store
            .load(&self.file(bytes), name.as_ref(), &mut |_| {});
        // Whatever happened, nothing is left half done.
        assert_eq!(fs::read_dir(self.store.tmp()).unwrap().count(), 0);
        result
    }

    fn load(&self, layout: &Layout) -> Result<Vec<Loaded>> {
        self.load_bytes(&layout.tar(), None)
    }

    fn why(&self, layout: &Layout, name: Option<&str>) -> String {
        let error = format!("{:#}", self.load_bytes(&layout.tar(), name).unwrap_err());
        assert!(self.store.list().unwrap().is_empty());
        for kind in ["layers", "blobs"] {
            let path = self.store.root().join(kind).join("sha256");
            assert!(fs::read_dir(path).map_or(0, Iterator::count) == 0, "{kind}");
        }
        error
    }
}

fn two_layers() -> [Vec<u8>; 2] {
    [
        Tar::new().dir("d").file("d/low", b"low").finish(),
        Tar::new().file("high", b"high").finish(),
    ]
}

fn check(image: &Image) {
    assert_eq!(image.name, NAME);
    assert_eq!(image.config.cmd, ["sh"]);
    assert!(image.config.entrypoint.is_empty());
    assert_eq!(image.config.env, ["A=b"]);
    assert_eq!(image.config.user, "1:2");
    assert_eq!(image.config.working_dir, "/w");
    assert_eq!(image.config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(image.config.labels["l"], "v");
    assert_eq!(image.config.exposed_ports, ["80/tcp"]);
    assert_eq!(image.config.volumes, ["/data"]);
    assert!(image.created.is_some() && image.loaded.is_some());
    assert_eq!(image.bytes, 7);
    assert_eq!(image.layers.len(), 2, "the top-most first");
    assert_eq!(fs::read(image.layers[0].join("high")).unwrap(), b"high");
    assert_eq!(fs::read(image.layers[1].join("d/low")).unwrap(), b"low");
}

#[test]
fn each_kind_of_archive_and_each_compression_is_loaded() {
    if !root_or_skip("each_kind_of_archive_and_each_compression_is_loaded") {
        return;
    }
    let layers = two_layers();
    let packs: [Pack; 3] = [<[u8]>::to_vec, gzip, zstd];
    for compress in packs {
        let image = TestImage {
            layers: &layers,
            compress,
            ..TestImage::default()
        };
        let oci = Layout::oci(NAME, &image);
        let docker = Layout::docker(&[NAME], &image);
        for archive in [&oci, &docker] {
            for outer in packs {
                let place = Place::new();
                let loaded = place.load_bytes(&outer(&archive.tar()), None).unwrap();
                assert_eq!((loaded.len(), loaded[0].layers), (1, 2));
                assert!(loaded[0].changed);
                check(&place.store.resolve("test:1").unwrap());
            }
        }
        let place = Place::new();
        let directory = place.dir.path().join("layout");
        oci.write_directory(&directory);
        place.store.load(&directory, None, &mut |_| {}).unwrap();
        check(&place.store.resolve("test:1").unwrap());
    }
}

#[test]
fn archive_from_a_pipe_is_loaded() {
    if !root_or_skip("archive_from_a_pipe_is_loaded") {
        return;
    }
    let place = Place::new();
    let layers = two_layers();
    let image = TestImage {
        layers: &layers,
        ..TestImage::default()
    };
    let bytes = Layout::oci(NAME, &image).tar();
    let fifo = place.dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let writer = {
        let fifo = fifo.clone();
        std::thread::spawn(move || fs::write(fifo, bytes).unwrap())
    };
    place.store.load(&fifo, None, &mut |_| {}).unwrap();
    writer.join().unwrap();
    check(&place.store.resolve("test:1").unwrap());
}

#[test]
fn damaged_blobs_are_found_by_their_digests() {
    if !root_or_skip("damaged_blobs_are_found_by_their_digests") {
        return;
    }
    let layers = two_layers();
    let image = TestImage {
        layers: &layers,
        compress: gzip,
        ..TestImage::default()
    };
    let whole = Layout::oci(NAME, &image);
    for (number, (name, _)) in whole.0.iter().enumerate() {
        if !name.starts_with("blobs/") {
            continue;
        }
        let mut layout = whole.clone();
        layout.change(name, |bytes| bytes[20] ^= 1);
        let error = Place::new().why(&layout, None);
        assert!(error.contains("is damaged"), "{number}: {error}");
        layout.change(name, |bytes| bytes.push(0));
        let error = Place::new().why(&layout, None);
        assert!(error.contains("its descriptor says"), "{number}: {error}");
        layout.0.remove(number);
        let error = Place::new().why(&layout, None);
        assert!(error.contains("not in the archive"), "{number}: {error}");
    }
    let mut docker = Layout::docker(&[NAME], &image);
    docker.change("1/layer.tar", |bytes| {
        *bytes = Tar::new().file("high", b"HIGH").finish();
    });
    let error = Place::new().why(&docker, None);
    assert!(error.contains("uncompressed content has"), "{error}");
    let config = docker.0[0].0.clone();
    docker.change(&config, |bytes| bytes.push(b' '));
    let error = Place::new().why(&docker, None);
    assert!(error.contains("is damaged"), "{error}");
}

#[test]
fn layer_that_is_not_what_the_configuration_says_is_refused() {
    if !root_or_skip("layer_that_is_not_what_the_configuration_says_is_refused") {
        return;
    }
    // Every descriptor is right, and the diff id is another layer's.
    let layers = two_layers();
    let honest = TestImage {
        layers: &layers[..1],
        ..TestImage::default()
    };
    let mut layout = Layout::default();
    let config = layout.blob("application/vnd.oci.image.config.v1+json", &honest.config());
    let layer = layout.blob("application/vnd.oci.image.layer.v1.tar", &layers[1]);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let entry = layout.blob("", &serde_json::to_vec(&manifest).unwrap());
    let layout = layout.finish(&[named(entry, NAME)]);
    let error = Place::new().why(&layout, None);
    assert!(error.contains("uncompressed content has"), "{error}");
}

#[test]
fn truncated_gzip_layer_with_the_right_digest_is_refused() {
    if !root_or_skip("truncated_gzip_layer_with_the_right_digest_is_refused") {
        return;
    }
    let layers = two_layers();
    let half = |bytes: &[u8]| {
        let mut packed = gzip(bytes);
        packed.truncate(packed.len() / 2);
        packed
    };
    let image = TestImage {
        layers: &layers,
        compress: half,
        ..TestImage::default()
    };
    for layout in [Layout::oci(NAME, &image), Layout::docker(&[NAME], &image)] {
        let error = Place::new().why(&layout, None);
        assert!(error.contains("gzip stream is truncated"), "{error}");
    }
}

#[test]
fn layer_that_expands_without_end_is_stopped() {
    if !root_or_skip("layer_that_expands_without_end_is_stopped") {
        return;
    }
    let bomb = [Tar::new().file("zeros", &vec![0; 8 << 20]).finish()];
    let image = TestImage {
        layers: &bomb,
        compress: gzip,
        ..TestImage::default()
    };
    let mut place = Place::new();
    place.store = place.store.with_limits(Limits {
        layer_bytes: 1 << 20,
        ..Limits::default()
    });
    let error = place.why(&Layout::oci(NAME, &image), None);
    assert!(error.contains("limit of 1048576 bytes"), "{error}");
}

#[test]
fn names_come_from_the_archive_or_from_the_caller() {
    if !root_or_skip("names_come_from_the_archive_or_from_the_caller") {
        return;
    }
    let image = TestImage::default();
    let tag_only = Layout::oci("1.36", &image);
    let error = Place::new().why(&tag_only, None);
    assert!(
        error.ends_with("only by the tag \"1.36\": add --name REPOSITORY:1.36"),
        "{error}"
    );
    let nameless = Layout::docker(&[], &image);
    let error = Place::new().why(&nameless, None);
    assert!(error.contains("does not name its image"), "{error}");
    for layout in [&tag_only, &nameless, &Layout::oci("a:1", &image)] {
        let place = Place::new();
        let loaded = place.load_bytes(&layout.tar(), Some("b")).unwrap();
        assert_eq!(loaded[0].name, "docker.io/library/b:latest");
        assert_eq!(place.store.list().unwrap().len(), 1);
    }
    let place = Place::new();
    let both = Layout::docker(&["a:1", "quay.io/b/c:2"], &image);
    place.load(&both).unwrap();
    let names: Vec<_> = place.store.list().unwrap();
    assert_eq!(names[0].name, "docker.io/library/a:1");
    assert_eq!(names[1].name, "quay.io/b/c:2");
    assert_eq!(names[0].id, names[1].id);
}

#[test]
fn archive_of_several_images_loads_them_all_and_takes_no_name() {
    if !root_or_skip("archive_of_several_images_loads_them_all_and_takes_no_name") {
        return;
    }
    let layers = two_layers();
    let mut layout = Layout::default();
    let mut entries = Vec::new();
    for (number, name) in ["one:1", "two:2"].into_iter().enumerate() {
        let image = TestImage {
            layers: &layers[..=number],
            ..TestImage::default()
        };
        let mut entry = named(layout.image(&image), &name[4..]);
        entry["annotations"]["io.containerd.image.name"] = json!(name);
        entries.push(entry);
    }
    let layout = layout.finish(&entries);
    let error = Place::new().why(&layout, Some("x"));
    assert!(error.contains("has 2 images"), "{error}");
    let place = Place::new();
    assert_eq!(place.load(&layout).unwrap().len(), 2);
    let (one, two) = (
        place.store.resolve("one:1").unwrap(),
        place.store.resolve("two:2").unwrap(),
    );
    assert_eq!(
        one.layers[0], two.layers[1],
        "the shared layer is there once"
    );
}

#[test]
fn image_for_this_machine_is_chosen_from_an_index() {
    if !root_or_skip("image_for_this_machine_is_chosen_from_an_index") {
        return;
    }
    let here = super::super::platform::architecture();
    let layers = two_layers();
    let image = TestImage {
        layers: &layers,
        ..TestImage::default()
    };
    let foreign = |layout: &mut Layout, architecture| {
        let image = TestImage {
            architecture,
            ..TestImage::default()
        };
        for_platform(layout.image(&image), architecture)
    };
    for nested in [true, false] {
        let mut layout = Layout::default();
        let mine = layout.image(&image);
        let manifest = mine["digest"].as_str().unwrap().to_owned();
        let mut attestation = foreign(&mut layout, "unknown");
        attestation["platform"]["os"] = json!("unknown");
        let mut entries = vec![
            foreign(&mut layout, "s390x"),
            attestation,
            for_platform(mine, here),
            foreign(&mut layout, "mips64le"),
        ];
        let mut index = None;
        if nested {
            let descriptor = layout.index(&entries);
            index = Some(descriptor["digest"].as_str().unwrap().to_owned());
            entries = vec![named(descriptor, NAME)];
        } else {
            entries = entries.into_iter().map(|e| named(e, NAME)).collect();
        }
        let place = Place::new();
        place.load(&layout.finish(&entries)).unwrap();
        check(&place.store.resolve("test:1").unwrap());
        for digest in index.iter().chain([&manifest]) {
            let pinned = format!("test@{digest}");
            assert_eq!(place.store.resolve(&pinned).unwrap().name, NAME);
            let other = format!("other@{digest}");
            assert!(place.store.resolve(&other).is_err());
        }
    }
    let mut layout = Layout::default();
    let entries = [
        foreign(&mut layout, "s390x"),
        foreign(&mut layout, "mips64le"),
    ];
    let index = layout.index(&entries);
    let error = Place::new().why(&layout.finish(&[named(index, NAME)]), None);
    assert!(
        error.ends_with(&format!(
            "no image for linux/{here}, only linux/mips64le, linux/s390x"
        )),
        "{error}"
    );
    let other = TestImage {
        architecture: "s390x",
        ..TestImage::default()
    };
    let error = Place::new().why(&Layout::docker(&[NAME], &other), None);
    assert!(error.ends_with("only linux/s390x"), "{error}");
}

#[test]
fn images_that_nothing_tells_apart_are_refused() {
    if !root_or_skip("images_that_nothing_tells_apart_are_refused") {
        return;
    }
    let layers = two_layers();
    let mut layout = Layout::default();
    let entries: Vec<_> = [1, 2]
        .into_iter()
        .map(|count| {
            layout.image(&TestImage {
                layers: &layers[..count],
                ..TestImage::default()
            })
        })
        .collect();
    let error = Place::new().why(&layout.finish(&entries), Some("x"));
    assert!(error.contains("nothing tells them apart"), "{error}");
}

#[test]
fn name_with_a_digest_must_be_the_images() {
    if !root_or_skip("name_with_a_digest_must_be_the_images") {
        return;
    }
    let mut layout = Layout::default();
    let entry = layout.image(&TestImage::default());
    let digest = entry["digest"].as_str().unwrap().to_owned();
    let layout = layout.finish(&[entry]);
    let good = format!("x@{digest}");
    let place = Place::new();
    place.load_bytes(&layout.tar(), Some(&good)).unwrap();
    assert!(place.store.resolve(&good).is_ok());
    let bad = format!("x@{}", Digest::of(b"other"));
    let error = Place::new().why(&layout, Some(&bad));
    assert!(error.contains("is not this image's"), "{error}");
}

#[test]
fn things_that_are_not_images_are_refused() {
    if !root_or_skip("things_that_are_not_images_are_refused") {
        return;
    }
    let place = Place::new();
    let why = |bytes: &[u8]| format!("{:#}", place.load_bytes(bytes, None).unwrap_err());
    assert!(why(b"").contains("neither an OCI image layout"));
    assert!(why(&[7; 2000]).contains("neither a directory nor a tar"));
    assert!(why(&Tar::new().file("a", b"x").finish()).contains("neither an OCI image"));
    let mut layout = Layout::oci(NAME, &TestImage::default());
    layout.change("oci-layout", |bytes| {
        *bytes = br#"{"imageLayoutVersion":"2.0"}"#.to_vec()
    });
    assert!(why(&layout.tar()).contains("is not known"));
    let error = place
        .store
        .load(Path::new("/nonexistent"), None, &mut |_| {});
    let error = format!("{:#}", error.unwrap_err());
    assert!(
        error.contains("open image archive /nonexistent: ENOENT"),
        "{error}"
    );
}

#[test]
fn busybox_script_makes_an_image_that_runs() {
    if !root_or_skip("busybox_script_makes_an_image_that_runs") {
        return;
    }
    if !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: busybox_script_makes_an_image_that_runs: no /bin/busybox");
        return;
    }
    let place = Place::new();
    let out = place.dir.path().join("busybox.tar");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/busybox-image.sh");
    let status = std::process::Command::new(script).arg(&out).status();
    assert!(status.unwrap().success());
    place.store.load(&out, None, &mut |_| {}).unwrap();
    let image = place.store.resolve("busybox").unwrap();
    assert_eq!(image.name, "docker.io/library/busybox:latest");
    assert_eq!(image.config.cmd, ["sh"]);
    let output = std::process::Command::new("chroot")
        .arg(&image.layers[0])
        .args(["/bin/sh", "-c", "id -un; stat -c %a /tmp"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "root\n1777\n");
}
