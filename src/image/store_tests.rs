//! The store over time: reloading, sharing, removing, holding, and dying in the middle.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::super::testing::{Layout, Tar, TestImage, root_or_skip};
use super::super::{Event, Loaded};
use super::*;

fn layer(content: &str) -> Vec<u8> {
    Tar::new().file(content, content.as_bytes()).finish()
}

fn load(store: &Store, name: &str, layers: &[&str]) -> Vec<Loaded> {
    try_load(store, name, layers, &mut |_| {}).unwrap()
}

fn try_load(
    store: &Store,
    name: &str,
    layers: &[&str],
    report: super::super::Report<'_>,
) -> Result<Vec<Loaded>> {
    let layers: Vec<_> = layers.iter().map(|content| layer(content)).collect();
    let image = TestImage {
        layers: &layers,
        ..TestImage::default()
    };
    let archive = tempfile::NamedTempFile::new().unwrap();
    fs::write(archive.path(), Layout::oci(name, &image).tar()).unwrap();
    store.load(archive.path(), None, report)
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("images"));
    (dir, store)
}

/// Every file of the store with its content and times, but for the lock.
fn snapshot(store: &Store) -> Vec<String> {
    let output = Command::new("find")
        .arg(store.root())
        .args(["-type", "f", "-printf", "%P %i %s %T@ %C@\n"])
        .output()
        .unwrap();
    let mut lines: Vec<_> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

fn has_layer(store: &Store, content: &str) -> bool {
    store.layer(&Digest::of(&layer(content))).exists()
}

fn blobs(store: &Store) -> usize {
    fs::read_dir(store.root().join("blobs/sha256"))
        .unwrap()
        .count()
}

#[test]
fn empty_store_lists_nothing_and_is_not_made_by_reading() {
    let (_dir, store) = store();
    assert!(store.list().unwrap().is_empty());
    let error = store.resolve("x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "image docker.io/library/x:latest is not in the store: load it with \"podctl image load FILE\""
    );
    assert!(error.is::<NotInStore>());
    assert!(store.remove("x").unwrap_err().is::<NotInStore>());
    assert!(!store.root().exists());
}

#[test]
fn loading_the_same_image_again_changes_nothing() {
    if !root_or_skip("loading_the_same_image_again_changes_nothing") {
        return;
    }
    let (_dir, store) = store();
    assert!(load(&store, "a:1", &["x", "y"])[0].changed);
    let before = snapshot(&store);
    assert!(!load(&store, "a:1", &["x", "y"])[0].changed);
    assert_eq!(snapshot(&store), before);
    assert!(load(&store, "b:1", &["x", "y"])[0].changed, "another name");
}

#[test]
fn removal_keeps_what_another_image_shares() {
    if !root_or_skip("removal_keeps_what_another_image_shares") {
        return;
    }
    let (_dir, store) = store();
    load(&store, "a:1", &["shared", "a"]);
    load(&store, "b:1", &["shared", "b"]);
    let removed = store.remove("a:1").unwrap();
    assert_eq!((removed.layers_deleted, removed.layers_in_use), (1, 0));
    assert!(has_layer(&store, "shared") && has_layer(&store, "b"));
    assert!(!has_layer(&store, "a"));
    assert_eq!(blobs(&store), 2);
    let b = store.resolve("b:1").unwrap();
    assert_eq!(fs::read(b.layers[1].join("shared")).unwrap(), b"shared");
    assert!(store.resolve("a:1").unwrap_err().is::<NotInStore>());
    assert_eq!(store.remove("b:1").unwrap().layers_deleted, 2);
    assert_eq!(blobs(&store), 0);
}

#[test]
fn name_that_moves_to_another_image_drops_the_old_one() {
    if !root_or_skip("name_that_moves_to_another_image_drops_the_old_one") {
        return;
    }
    let (_dir, store) = store();
    load(&store, "a:1", &["old"]);
    assert!(load(&store, "a:1", &["new"])[0].changed);
    assert!(has_layer(&store, "new") && !has_layer(&store, "old"));
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn image_is_found_and_removed_by_its_id() {
    if !root_or_skip("image_is_found_and_removed_by_its_id") {
        return;
    }
    let (_dir, store) = store();
    let id = load(&store, "a:1", &["x"])[0].id.to_string();
    assert_eq!(store.resolve(&id).unwrap().name, "docker.io/library/a:1");
    load(&store, "b:1", &["x"]);
    let error = store.remove(&id).unwrap_err().to_string();
    assert!(error.contains("has several names"), "{error}");
    store.remove("a:1").unwrap();
    assert_eq!(store.remove(&id).unwrap().name, "docker.io/library/b:1");
}

#[test]
fn layers_that_are_held_stay_until_they_are_let_go() {
    if !root_or_skip("layers_that_are_held_stay_until_they_are_let_go") {
        return;
    }
    let (_dir, store) = store();
    load(&store, "a:1", &["x", "y"]);
    let (image, in_use) = store.acquire("a:1").unwrap();
    let again = store.hold(&image).unwrap();
    drop(again);
    let removed = store.remove("a:1").unwrap();
    assert_eq!((removed.layers_deleted, removed.layers_in_use), (0, 2));
    assert_eq!(fs::read(image.layers[0].join("y")).unwrap(), b"y");
    assert!(store.resolve("a:1").is_err());
    // A load of something else does not touch them; a load of the same finds them.
    load(&store, "b:1", &["x"]);
    drop(in_use);
    load(&store, "c:1", &["z"]);
    assert!(has_layer(&store, "x") && !has_layer(&store, "y"));
    let error = format!("{:#}", store.hold(&image).unwrap_err());
    assert!(error.contains("ENOENT"), "{error}");
}

#[test]
fn layer_that_comes_twice_is_stacked_once_at_its_higher_place() {
    if !root_or_skip("layer_that_comes_twice_is_stacked_once_at_its_higher_place") {
        return;
    }
    let (_dir, store) = store();
    load(&store, "a:1", &["x", "y", "x"]);
    let image = store.resolve("a:1").unwrap();
    assert_eq!((image.layer_ids.len(), image.layers.len()), (3, 2));
    assert!(image.layers[0].join("x").exists() && image.layers[1].join("y").exists());
    assert_eq!(image.bytes, 2);
}

#[test]
fn nothing_is_stacked_below_an_opaque_root() {
    if !root_or_skip("nothing_is_stacked_below_an_opaque_root") {
        return;
    }
    let (_dir, store) = store();
    load(&store, "a:1", &["x", ".wh..wh..opq", "y"]);
    let image = store.resolve("a:1").unwrap();
    assert_eq!((image.layer_ids.len(), image.layers.len()), (3, 2));
}

#[test]
fn image_without_layers_is_an_image() {
    if !root_or_skip("image_without_layers_is_an_image") {
        return;
    }
    let (_dir, store) = store();
    load(&store, "a:1", &[]);
    let (image, _in_use) = store.acquire("a:1").unwrap();
    assert!(image.layers.is_empty());
}

#[test]
fn second_writer_waits_and_then_gives_up() {
    if !root_or_skip("second_writer_waits_and_then_gives_up") {
        return;
    }
    let (_dir, store) = store();
    load(&store, "a:1", &["x"]);
    let impatient = store.clone().with_limits(Limits {
        lock_wait: Duration::from_millis(50),
        ..Limits::default()
    });
    let writer = store.writer().unwrap();
    let error = impatient.remove("a:1").unwrap_err().to_string();
    assert!(error.contains("another command"), "{error}");
    assert!(impatient.resolve("a:1").is_ok(), "readers do not wait");
    drop(writer);
    impatient.remove("a:1").unwrap();
}

#[test]
fn store_of_another_format_is_not_touched() {
    let (_dir, store) = store();
    fs::create_dir_all(store.root()).unwrap();
    let index = store.root().join(INDEX);
    fs::write(&index, br#"{"format":2,"something":"else"}"#).unwrap();
    for error in [
        store.list().unwrap_err(),
        store.resolve("x").unwrap_err(),
        store.remove("x").unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("the store has format 2"), "{error}");
    }
}

#[test]
fn damaged_configuration_in_the_store_is_found() {
    if !root_or_skip("damaged_configuration_in_the_store_is_found") {
        return;
    }
    let (_dir, store) = store();
    let loaded = load(&store, "a:1", &["x"]);
    fs::write(store.blob(&loaded[0].id), b"{}").unwrap();
    let error = store.resolve("a:1").unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
    assert!(
        !load(&store, "a:1", &["x"])[0].changed,
        "loading repairs it"
    );
    store.resolve("a:1").unwrap();
}

#[test]
fn whiteouts_hide_lower_files_in_a_real_overlay() {
    if !root_or_skip("whiteouts_hide_lower_files_in_a_real_overlay") {
        return;
    }
    let (dir, store) = store();
    let layers = [
        Tar::new()
            .dir("d")
            .file("d/gone", b"x")
            .file("d/kept", b"x")
            .dir("o")
            .file("o/hidden", b"x")
            .dir("re")
            .file("re/old", b"x")
            .finish(),
        Tar::new()
            .dir("d")
            .file("d/.wh.gone", b"")
            .file("o/.wh..wh..opq", b"")
            .file("o/new", b"x")
            .file(".wh.re", b"")
            .dir("re")
            .file("re/new", b"x")
            .finish(),
    ];
    let image = TestImage {
        layers: &layers,
        ..TestImage::default()
    };
    let archive = dir.path().join("archive");
    fs::write(&archive, Layout::docker(&["a:1"], &image).tar()).unwrap();
    store.load(&archive, None, &mut |_| {}).unwrap();
    let image = store.resolve("a:1").unwrap();
    let [top, low] = &image.layers[..] else {
        panic!("{:?}", image.layers);
    };
    let script = r#"mkdir "$3" && mount -t overlay overlay -o "lowerdir=$1:$2" "$3" && cd "$3" && find . -type f | sort"#;
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([top, low, &dir.path().join("merged")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if text.is_empty() {
        eprintln!("skipped: no overlay mount here: {output:?}");
        return;
    }
    assert_eq!(text, "./d/kept\n./o/new\n./re/new\n");
}

/// Run by the test below in a process of its own, which it kills at the given event.
#[test]
fn child_of_the_crash_test() {
    let (Ok(root), Ok(at)) = (
        std::env::var("SEEDPOD_TEST_STORE"),
        std::env::var("SEEDPOD_TEST_KILL_AT"),
    ) else {
        return;
    };
    let mut left: usize = at.parse().unwrap();
    let mut tick = move |_: &Event<'_>| {
        if left == 0 {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        left -= 1;
    };
    try_load(&Store::open(root), "a:1", &["shared", "new"], &mut tick).unwrap();
}

#[test]
fn load_that_is_killed_at_any_event_leaves_a_usable_store() {
    if !root_or_skip("load_that_is_killed_at_any_event_leaves_a_usable_store") {
        return;
    }
    let mut killed = 0;
    for at in 0.. {
        let (_dir, store) = store();
        load(&store, "a:1", &["shared", "old"]);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "image::store::tests::child_of_the_crash_test"])
            .env("SEEDPOD_TEST_STORE", store.root())
            .env("SEEDPOD_TEST_KILL_AT", at.to_string())
            .output()
            .unwrap()
            .status;
        if status.success() {
            assert_eq!(store.resolve("a:1").unwrap().layers.len(), 2);
            assert!(has_layer(&store, "new") && !has_layer(&store, "old"));
            break;
        }
        assert_eq!(status.signal(), Some(libc::SIGKILL), "event {at}");
        killed += 1;
        // The old image is whole, and the next writer finishes and clears up.
        let old = store.resolve("a:1").unwrap();
        assert_eq!(fs::read(old.layers[0].join("old")).unwrap(), b"old");
        load(&store, "a:1", &["shared", "new"]);
        let new = store.resolve("a:1").unwrap();
        assert_eq!(fs::read(new.layers[0].join("new")).unwrap(), b"new");
        assert!(!has_layer(&store, "old"));
        assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
        assert_eq!(blobs(&store), 2);
    }
    assert!(killed >= 4, "only {killed} events");
}

#[test]
fn crash_between_the_commit_and_the_sweep_leaves_only_garbage() {
    if !root_or_skip("crash_between_the_commit_and_the_sweep_leaves_only_garbage") {
        return;
    }
    let (_dir, store) = store();
    load(&store, "a:1", &["x"]);
    load(&store, "b:1", &["y"]);
    let mut writer = store.writer().unwrap();
    writer.index.images.remove("docker.io/library/a:1").unwrap();
    writer.commit().unwrap();
    fs::create_dir_all(store.tmp().join("layer/root/deep")).unwrap();
    drop(writer);
    assert!(has_layer(&store, "x"));
    assert_eq!(store.list().unwrap().len(), 1);
    load(&store, "c:1", &["z"]);
    assert!(!has_layer(&store, "x") && has_layer(&store, "y"));
    assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
}
