//! Unpacking honest layers, and every attack on the way there.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::open;
use tar::EntryType;

use super::super::testing::{Tar, gnu_tar, pax_record, root_or_skip};
use super::*;
use crate::sys::xattr::fgetxattr;

/// A directory with a layer in it, a secret beside it, and trash.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["layer", "trash", "outside"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("outside/secret"), b"secret").unwrap();
        Self { dir }
    }

    fn outside(&self) -> String {
        self.dir.path().join("outside").display().to_string()
    }

    fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.layer().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    fn unpack(&self, tar: Tar) -> Result<Unpacked> {
        self.unpack_bytes(&tar.finish())
    }

    fn unpack_bytes(&self, bytes: &[u8]) -> Result<Unpacked> {
        let layer = open(&self.layer(), DIRECTORY, Mode::empty()).unwrap();
        let trash = Trash::open(&self.dir.path().join("trash")).unwrap();
        let limits = Limits {
            layer_entries: 1000,
            ..Limits::default()
        };
        let result = unpack(bytes, layer, &trash, &limits);
        self.assert_nothing_else_was_touched();
        result
    }

    /// What every test of this file ends with: the neighbours are as they were.
    fn assert_nothing_else_was_touched(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(self.dir.path()), ["layer", "outside", "trash"]);
        assert_eq!(names(&self.dir.path().join("outside")), ["secret"]);
        assert!(names(&self.dir.path().join("trash")).is_empty());
        let secret = self.dir.path().join("outside/secret");
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
        let metadata = fs::metadata(&secret).unwrap();
        assert_eq!((metadata.nlink(), metadata.mode() & 0o7777), (1, 0o644));
    }
}

fn why(result: Result<Unpacked>) -> String {
    format!("{:#}", result.unwrap_err())
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == 0)
}

fn attribute(fd: impl AsFd, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    let mut value = vec![0; 64];
    let length = fgetxattr(fd, name, &mut value).unwrap()?;
    value.truncate(length);
    Some(value)
}

fn is_opaque(path: &Path) -> bool {
    let directory = open(path, DIRECTORY, Mode::empty()).unwrap();
    attribute(&directory, OPAQUE_XATTR).as_deref() == Some(b"y")
}

#[test]
fn metadata_is_applied() {
    if !root_or_skip("metadata_is_applied") {
        return;
    }
    let place = Place::new();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::new()
        .entry(EntryType::Directory, "./", "", b"", |h| h.set_mode(0o711))
        .entry(EntryType::Directory, "tmp/", "", b"", |h| {
            h.set_mode(0o1777)
        })
        .entry(EntryType::Regular, "tmp/su", "", b"su", |h| {
            h.set_mode(0o4755);
            h.set_uid(1000);
            h.set_gid(2000);
        })
        .pax(
            &[
                pax_record(b"SCHILY.xattr.security.capability", capability),
                pax_record(b"mtime", b"1600000000.25"),
            ]
            .concat(),
        )
        .file("tmp/ping", b"ping")
        .entry(EntryType::Fifo, "fifo", "", b"", |h| h.set_mode(0o620))
        .entry(EntryType::Char, "null", "", b"", |h| {
            h.set_device_major(1).unwrap();
            h.set_device_minor(3).unwrap();
            h.set_mode(0o666);
        })
        .entry(EntryType::Symlink, "link", "/tmp/su", b"", |h| h.set_uid(7))
        .hard_link("su2", "tmp/su");
    place.unpack(tar).unwrap();
    let stat = |name: &str| fs::symlink_metadata(place.at(name)).unwrap();
    assert_eq!(stat(".").mode() & 0o7777, 0o711);
    assert_eq!(stat("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(stat("tmp").mtime(), 1_700_000_000);
    let su = stat("tmp/su");
    assert_eq!(
        (su.mode() & 0o7777, su.uid(), su.gid()),
        (0o4755, 1000, 2000)
    );
    assert_eq!((su.nlink(), su.mtime()), (2, 1_700_000_000));
    assert_eq!(su.ino(), stat("su2").ino());
    let ping = File::open(place.at("tmp/ping")).unwrap();
    assert_eq!(
        attribute(&ping, c"security.capability").unwrap(),
        capability
    );
    let time = stat("tmp/ping");
    assert_eq!(
        (time.mtime(), time.mtime_nsec()),
        (1_600_000_000, 250_000_000)
    );
    assert!(stat("fifo").file_type().is_fifo());
    assert_eq!(stat("fifo").mode() & 0o7777, 0o620);
    assert_eq!(
        (stat("null").rdev(), stat("null").mode() & 0o7777),
        (makedev(1, 3), 0o666)
    );
    assert_eq!(
        (stat("link").uid(), stat("link").mtime()),
        (7, 1_700_000_000)
    );
    assert_eq!(
        fs::read_link(place.at("link")).unwrap(),
        Path::new("/tmp/su")
    );
}

#[test]
fn whiteouts_become_overlayfs_marks() {
    if !root_or_skip("whiteouts_become_overlayfs_marks") {
        return;
    }
    let place = Place::new();
    let tar = Tar::new()
        .file("etc/.wh.gone", b"")
        .dir("var")
        .file("var/.wh..wh..opq", b"")
        .file("var/new", b"x")
        .file("missing/.wh..wh..opq", b"")
        .file(".wh..wh.plnk/1.2", b"x")
        .file("both", b"x")
        .file(".wh.both", b"")
        .file(".wh.again", b"")
        .dir("again")
        .dir("kept")
        .file("kept/f", b"x")
        .file(".wh.kept", b"");
    let unpacked = place.unpack(tar).unwrap();
    assert!(!unpacked.opaque_root);
    assert!(is_whiteout(&place.at("etc/gone")));
    assert!(is_opaque(&place.at("var")) && is_opaque(&place.at("missing")));
    assert_eq!(
        place.read("both"),
        "x",
        "a whiteout is for lower layers only"
    );
    assert!(is_opaque(&place.at("again")) && is_opaque(&place.at("kept")));
    assert_eq!(place.read("kept/f"), "x");
    assert!(!place.at(".wh..wh.plnk").exists());
    let tar = Tar::new().file(".wh..wh..opq", b"");
    assert!(Place::new().unpack(tar).unwrap().opaque_root);
}

#[test]
fn attack_whiteout_that_names_no_file() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        let error = why(Place::new().unpack(Tar::new().file(name, b"")));
        assert!(error.contains("whiteout names no file"), "{name}: {error}");
    }
}

#[test]
fn attack_dot_dot_in_a_name() {
    for name in ["../outside/secret", "a/../../outside/secret", ".."] {
        let place = Place::new();
        let error = why(place.unpack(Tar::new().file(name, b"x")));
        assert!(error.contains("`..`"), "{error}");
    }
}

#[test]
fn attack_absolute_name_lands_inside() {
    if !root_or_skip("attack_absolute_name_lands_inside") {
        return;
    }
    let place = Place::new();
    let name = format!("{}/secret", place.outside());
    place.unpack(Tar::new().file(&name, b"x")).unwrap();
    assert_eq!(place.read(&name[1..]), "x");
}

#[test]
fn attack_symlink_in_a_parent_points_outside() {
    if !root_or_skip("attack_symlink_in_a_parent_points_outside") {
        return;
    }
    for target in ["../outside", "../../../../../../../.."] {
        let place = Place::new();
        let tar = Tar::new()
            .dir("outside")
            .symlink("link", target)
            .file("link/secret", b"x");
        // Inside the layer's root, `..` of the root is the root.
        place.unpack(tar).unwrap();
        assert!(place.at("outside/secret").exists() || place.at("secret").exists());
    }
    let place = Place::new();
    let tar = Tar::new()
        .symlink("link", &place.outside())
        .file("link/secret", b"x");
    let error = why(place.unpack(tar));
    assert!(error.contains("symlink to something"), "{error}");
}

#[test]
fn attack_magic_link_in_a_parent() {
    let place = Place::new();
    let tar = Tar::new()
        .symlink("link", "/proc/self/root")
        .file("link/secret", b"x");
    assert!(place.unpack(tar).is_err());
}

#[test]
fn attack_file_over_a_symlink_does_not_write_through_it() {
    if !root_or_skip("attack_file_over_a_symlink_does_not_write_through_it") {
        return;
    }
    let place = Place::new();
    let target = format!("{}/secret", place.outside());
    let tar = Tar::new().symlink("f", &target).file("f", b"mine");
    place.unpack(tar).unwrap();
    assert_eq!(place.read("f"), "mine");
}

#[test]
fn attack_directory_replaced_by_a_symlink_and_written_through() {
    if !root_or_skip("attack_directory_replaced_by_a_symlink_and_written_through") {
        return;
    }
    let place = Place::new();
    let tar = Tar::new()
        .dir("d")
        .file("d/inner", b"x")
        .symlink("d", &place.outside())
        .file("d/secret", b"x");
    assert!(place.unpack(tar).is_err());
    let place = Place::new();
    let tar = Tar::new()
        .dir("d")
        .symlink("d", "../outside")
        .entry(EntryType::Directory, "d", "", b"", |h| h.set_mode(0o700))
        .file("d/secret", b"x");
    place.unpack(tar).unwrap();
    assert_eq!(place.read("d/secret"), "x");
}

#[test]
fn attack_directory_entry_over_a_symlink_does_not_change_the_target() {
    if !root_or_skip("attack_directory_entry_over_a_symlink_does_not_change_the_target") {
        return;
    }
    let place = Place::new();
    let before = fs::metadata(place.outside()).unwrap();
    let tar =
        Tar::new()
            .symlink("d", &place.outside())
            .entry(EntryType::Directory, "d", "", b"", |h| {
                h.set_mode(0);
                h.set_uid(12345);
            });
    place.unpack(tar).unwrap();
    let after = fs::metadata(place.outside()).unwrap();
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
    assert!(place.at("d").is_dir());
}

#[test]
fn attack_directory_time_after_replacement_by_a_symlink() {
    if !root_or_skip("attack_directory_time_after_replacement_by_a_symlink") {
        return;
    }
    let place = Place::new();
    let before = fs::metadata(place.outside()).unwrap().mtime();
    let tar = Tar::new().dir("a/d").symlink("a/d", &place.outside());
    place.unpack(tar).unwrap();
    let place2 = Place::new();
    let tar = Tar::new().dir("a/d").symlink("a", &place2.outside());
    place2.unpack(tar).unwrap();
    assert_eq!(fs::metadata(place.outside()).unwrap().mtime(), before);
}

#[test]
fn attack_hard_link_to_outside() {
    if !root_or_skip("attack_hard_link_to_outside") {
        return;
    }
    let place = Place::new();
    for target in [
        "../outside/secret".to_owned(),
        format!("{}/secret", place.outside()),
    ] {
        let tar = Tar::new().hard_link("h", &target).file("h", b"x");
        assert!(place.unpack(tar).is_err(), "{target}");
    }
    let tar = Tar::new()
        .symlink("link", &place.outside())
        .hard_link("h", "link/secret");
    let error = why(place.unpack(tar));
    assert!(error.contains("not in this layer before it"), "{error}");
}

#[test]
fn attack_hard_link_to_a_symlink_and_writing_through_it() {
    if !root_or_skip("attack_hard_link_to_a_symlink_and_writing_through_it") {
        return;
    }
    let place = Place::new();
    let target = format!("{}/secret", place.outside());
    let tar = Tar::new().symlink("s", &target).hard_link("h", "s").entry(
        EntryType::Regular,
        "h",
        "",
        b"x",
        |h| h.set_mode(0o777),
    );
    place.unpack(tar).unwrap();
    assert_eq!(place.read("h"), "x");
    assert!(fs::symlink_metadata(place.at("s")).unwrap().is_symlink());
}

#[test]
fn attack_hard_link_to_itself_or_to_a_directory() {
    if !root_or_skip("attack_hard_link_to_itself_or_to_a_directory") {
        return;
    }
    let place = Place::new();
    let tar = Tar::new().file("f", b"x").hard_link("f", "./f");
    place.unpack(tar).unwrap();
    assert_eq!(place.read("f"), "x");
    let tar = Tar::new().dir("d").hard_link("h", "d");
    assert!(why(place.unpack(tar)).contains("EPERM"));
}

#[test]
fn duplicate_entries_leave_the_last() {
    if !root_or_skip("duplicate_entries_leave_the_last") {
        return;
    }
    let place = Place::new();
    let tar = Tar::new()
        .file("a", b"1")
        .file("a", b"2")
        .dir("d")
        .file("d/deep/er/f", b"x")
        .file("d", b"file now")
        .file("e", b"x")
        .dir("e")
        .file("e/f", b"x")
        .dir("e");
    place.unpack(tar).unwrap();
    assert_eq!(place.read("a"), "2");
    assert_eq!(place.read("d"), "file now");
    assert_eq!(
        place.read("e/f"),
        "x",
        "a directory entry keeps the content"
    );
}

#[test]
fn attack_file_as_a_parent() {
    if !root_or_skip("attack_file_as_a_parent") {
        return;
    }
    let tar = Tar::new().file("f", b"x").file("f/g", b"x");
    assert!(why(Place::new().unpack(tar)).contains("ENOTDIR"));
}

#[test]
fn attack_device_bomb_is_bounded_by_the_entry_limit() {
    let mut tar = Tar::new();
    for number in 0..1001 {
        tar = tar.entry(EntryType::Fifo, &format!("n{number}"), "", b"", |_| {});
    }
    if root_or_skip("attack_device_bomb_is_bounded_by_the_entry_limit") {
        let error = why(Place::new().unpack(tar));
        assert!(error.contains("more than 1000 entries"), "{error}");
    }
}

#[test]
fn attack_huge_size() {
    if !root_or_skip("attack_huge_size") {
        return;
    }
    for size in [1 << 40, u64::MAX, u64::MAX - 511] {
        let place = Place::new();
        let tar = Tar::new().entry(EntryType::Regular, "f", "", b"x", |h| h.set_size(size));
        assert!(place.unpack(tar).is_err(), "{size}");
    }
    let record = pax_record(b"size", u64::MAX.to_string().as_bytes());
    let tar = Tar::new().pax(&record).file("f", b"x");
    let error = why(Place::new().unpack(tar));
    assert!(error.contains("ends in the middle"), "{error}");
}

#[test]
fn attack_overlay_attributes_are_refused() {
    if !root_or_skip("attack_overlay_attributes_are_refused") {
        return;
    }
    for name in ["trusted.overlay.redirect", "user.overlay.opaque"] {
        let record = pax_record(format!("SCHILY.xattr.{name}").as_bytes(), b"/../..");
        let error = why(Place::new().unpack(Tar::new().pax(&record).dir("d")));
        assert!(error.contains("overlayfs would obey"), "{error}");
    }
    let record = pax_record(b"SCHILY.xattr.security.selinux", b"x");
    let unpacked = Place::new().unpack(Tar::new().pax(&record).file("f", b"x"));
    assert_eq!(unpacked.unwrap().warnings.len(), 1);
}

#[test]
fn attack_unknown_entry_types_are_errors() {
    let tar = Tar::new().entry(EntryType::new(b'Z'), "f", "", b"", |_| {});
    assert!(why(Place::new().unpack(tar)).contains("'Z' is not known"));
}

#[test]
fn deep_chain_of_symlinked_directories_is_deleted_again() {
    if !root_or_skip("deep_chain_of_symlinked_directories_is_deleted_again") {
        return;
    }
    let deep = ["d"; 40].join("/");
    let mut tar = Tar::new().dir("top");
    let mut from = "top".to_owned();
    for number in 0..20 {
        let link = format!("l{number}");
        tar = tar
            .dir(&format!("{from}/{deep}"))
            .symlink(&link, &format!("{from}/{deep}"));
        from = link;
    }
    let place = Place::new();
    place.unpack(tar.file("top", b"x")).unwrap();
    assert_eq!(place.read("top"), "x");
}

#[test]
fn sparse_and_long_names_by_gnu_tar_are_unpacked() {
    if !root_or_skip("sparse_and_long_names_by_gnu_tar_are_unpacked") {
        return;
    }
    let long = "n".repeat(200);
    let source = tempfile::tempdir().unwrap();
    let file = File::create(source.path().join(&long)).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"end", (1 << 40) - 3).unwrap();
    fs::hard_link(source.path().join(&long), source.path().join("h")).unwrap();
    for format in ["gnu", "posix"] {
        let place = Place::new();
        let bytes = gnu_tar(source.path(), &["--format", format, "-S", &long, "h"]);
        place.unpack_bytes(&bytes).unwrap();
        let metadata = fs::metadata(place.at("h")).unwrap();
        assert_eq!((metadata.len(), metadata.nlink()), (1 << 40, 2));
        assert!(metadata.blocks() < 100, "the hole is a hole");
        let mut end = [0; 3];
        let unpacked = File::open(place.at(&long)).unwrap();
        unpacked.read_exact_at(&mut end, (1 << 40) - 3).unwrap();
        assert_eq!(&end, b"end");
    }
}

#[test]
fn setuid_survives_and_permissions_do_not_depend_on_the_umask() {
    if !root_or_skip("setuid_survives_and_permissions_do_not_depend_on_the_umask") {
        return;
    }
    let place = Place::new();
    let tar = Tar::new().entry(EntryType::Regular, "f", "", b"", |h| h.set_mode(0o6777));
    place.unpack(tar).unwrap();
    let mode = fs::metadata(place.at("f")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o6777);
}

#[test]
fn root_that_has_no_entry_can_be_entered_by_everybody() {
    if !root_or_skip("root_that_has_no_entry_can_be_entered_by_everybody") {
        return;
    }
    let place = Place::new();
    fs::set_permissions(place.layer(), fs::Permissions::from_mode(0o700)).unwrap();
    place.unpack(Tar::new().file("f", b"x")).unwrap();
    assert_eq!(fs::metadata(place.layer()).unwrap().mode() & 0o7777, 0o755);
}
