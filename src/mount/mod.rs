//! Mounts on the host's side: detached copies, id-mapped ones, new file systems, overlays.
//!
//! What `launch` opens for a container and what `pod` prepares for its volumes and root file systems
//! are the same few steps; they stand here once. Paths are the host's. Mounts inside a container
//! are `child`'s.

pub mod overlay;

pub use crate::sys::mount::attr::{NODEV, NOEXEC, NOSUID};

use std::convert::Infallible;
use std::ffi::CStr;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Failure, OrFailure};
use crate::spec::mounts::{Attributes, Propagation};
use crate::spec::namespaces::{IdMapping, IdMaps, Kind};
use crate::spec::text::c_path;
use crate::sys::mount::{MountAttr, Setting, attr};
use crate::sys::{self, At, EMPTY};

/// A detached copy of the mount at `path`, with everything below it when `recursive`. `what` begins
/// the error.
///
/// # Errors
/// As open_tree(2).
pub fn copy(what: &str, path: &CStr, recursive: bool) -> Result<OwnedFd, Failure> {
    sys::mount::clone_tree(At::Cwd, path, recursive)
        .or_failure(|| what)
        .map_err(|failure| match failure.errno {
            Errno::ENOENT => failure.hint("the source does not exist"),
            Errno::EINVAL => failure.hint(
                "the source is in another mount namespace, or has mounts below it that may not be \
                 left behind (rbind takes them along)",
            ),
            _ => failure,
        })
}

/// Changes the attributes of a detached mount.
///
/// # Errors
/// As mount_setattr(2).
pub fn change(
    what: &str,
    tree: BorrowedFd<'_>,
    attributes: Attributes,
    recursive: bool,
) -> Result<(), Failure> {
    if attributes.is_empty() {
        return Ok(());
    }
    let change = MountAttr {
        set: attributes.set,
        clear: attributes.clear,
        ..MountAttr::default()
    };
    sys::mount::set_attr(At::Fd(tree), EMPTY, &change, recursive).or_failure(|| what)
}

/// Changes the propagation of a detached mount.
///
/// # Errors
/// As mount_setattr(2).
pub fn propagate(what: &str, tree: BorrowedFd<'_>, how: Propagation) -> Result<(), Failure> {
    let change = MountAttr {
        propagation: how.flag,
        ..MountAttr::default()
    };
    sys::mount::set_attr(At::Fd(tree), EMPTY, &change, how.recursive).or_failure(|| what)
}

/// Maps the ids of a detached mount by a user namespace.
///
/// # Errors
/// As mount_setattr(2); EINVAL names the file system and the kernel.
pub fn idmap(
    what: &str,
    tree: BorrowedFd<'_>,
    userns: BorrowedFd<'_>,
    recursive: bool,
) -> Result<(), Failure> {
    let change = MountAttr {
        set: attr::IDMAP,
        userns_fd: u64::from(userns.as_raw_fd().cast_unsigned()),
        ..MountAttr::default()
    };
    sys::mount::set_attr(At::Fd(tree), EMPTY, &change, recursive)
        .or_failure(|| what)
        .map_err(|failure| why_no_idmap(failure, tree))
}

fn why_no_idmap(failure: Failure, tree: BorrowedFd<'_>) -> Failure {
    let kernel = nix::sys::utsname::uname()
        .map(|it| it.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let magic = sys::open::fs_magic(tree).unwrap_or(0);
    let name = FILE_SYSTEMS
        .iter()
        .find(|(number, _)| *number == magic)
        .map(|(_, name)| *name);
    let name = name.map_or_else(|| format!("with magic {magic:#x}"), str::to_owned);
    match failure.errno {
        Errno::EINVAL => failure.hint(format!(
            "file system {name} does not support id-mapped mounts on kernel {kernel}"
        )),
        Errno::EPERM => {
            failure.hint("the mount is id-mapped already, or belongs to another user namespace")
        }
        _ => failure,
    }
}

/// `f_type` of statfs(2).
const FILE_SYSTEMS: [(i64, &str); 14] = [
    (0xef53, "ext4"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlay"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x00c0_ffee, "hostfs"),
    (0xe0f5_e1e2, "erofs"),
    (0x7371_7368, "squashfs"),
];

/// A user namespace with the given maps, held by its descriptor alone.
///
/// # Errors
/// As clone3(2) and write(2) of the maps.
pub fn idmap_namespace(maps: &IdMaps) -> Result<OwnedFd, Failure> {
    struct Holder {
        socket: OwnedFd,
    }
    fn hold(holder: &mut Holder) -> Infallible {
        // Nothing of the parent's: a copy of its end would hide its death, a copy of a lock hold it.
        let kept = holder.socket.as_raw_fd().cast_unsigned();
        if kept > 0 {
            let _ = sys::open::close_between(0, kept.saturating_sub(1));
        }
        let _ = sys::open::close_between(kept.saturating_add(1), u32::MAX);
        let mut byte = [0_u8; 1];
        let _ = sys::open::read(holder.socket.as_fd(), &mut byte);
        sys::process::exit_now(0)
    }
    let (ours, theirs) = sys::socket::seqpacket_pair().or_failure(|| "make a socket pair")?;
    let mut holder = Holder { socket: theirs };
    let child = sys::clone::clone_child(Kind::User.flag(), None, &mut holder, hold)
        .or_failure(|| "make a user namespace for id-mapped mounts")?;
    let made = crate::fault::parent_step("id maps of a mount")
        .and_then(|()| write_map(child.pid, "uid_map", &maps.uids))
        .and_then(|()| write_map(child.pid, "gid_map", &maps.gids))
        .and_then(|()| {
            let path = format!("/proc/{}/ns/user", child.pid);
            fs::File::open(&path).or_failure(|| format!("open {path}"))
        });
    let _ = sys::process::pidfd_signal(child.pidfd.as_fd(), libc::SIGKILL);
    let _ = sys::process::wait_pidfd(child.pidfd.as_fd(), true);
    drop(ours);
    Ok(made?.into())
}

/// Writes a uid_map or gid_map (user_namespaces(7)).
///
/// # Errors
/// As write(2); EPERM when it is written already, or the ids are not ours to give.
pub fn write_map(pid: i32, file: &str, lines: &[IdMapping]) -> Result<(), Failure> {
    let text: Vec<_> = lines
        .iter()
        .map(|it| format!("{} {} {}\n", it.inside, it.outside, it.count))
        .collect();
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, text.concat())
        .or_failure(|| format!("write `{}` to {path}", text.concat().trim_end()))
}

/// A mount namespace of our own, whose mounts nobody else sees; new mounts of the host still arrive.
///
/// # Errors
/// As unshare(2) and mount(2).
pub fn private_namespace() -> Result<(), Failure> {
    sys::ns::unshare(Kind::Mount.flag()).or_failure(|| "make a mount namespace")?;
    sys::mount::propagate_root(libc::MS_SLAVE).or_failure(|| "make the mounts slaves of the host's")
}

/// Unmounts everything that is mounted on or below these directories, in our mount namespace.
///
/// # Errors
/// When /proc/self/mountinfo cannot be read; as umount2(2).
pub fn unmount_below(directories: &[&Path]) -> Result<(), Failure> {
    let table = fs::read("/proc/self/mountinfo").or_failure(|| "read /proc/self/mountinfo")?;
    let points: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(mount_point)
        .filter(|point| directories.iter().any(|it| point.starts_with(it)))
        .collect();
    // The last mounted is on top.
    for point in points.iter().rev() {
        let target = path(point)?;
        sys::mount::unmount(&target, libc::MNT_DETACH)
            .or_failure(|| format!("unmount {}", point.display()))?;
    }
    Ok(())
}

/// White space and backslashes are octal numbers there (proc_pid_mountinfo(5)).
fn mount_point(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..3).filter(|_| *first == b'\\');
        let number =
            digits.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 8).ok());
        match number {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Mounts a new tmpfs on a directory. `name` is what the mount table calls it.
///
/// # Errors
/// As fsopen(2), fsconfig(2), fsmount(2) and move_mount(2).
pub fn tmpfs(
    name: &CStr,
    directory: &Path,
    settings: &[(&CStr, &CStr)],
    attributes: u64,
) -> Result<(), Failure> {
    let what = || format!("mount tmpfs at {}", directory.display());
    let target = path(directory)?;
    let fs = sys::mount::fsopen(c"tmpfs").or_failure(what)?;
    for (key, value) in [(c"source", name)].iter().chain(settings) {
        sys::mount::fsconfig(fs.as_fd(), Setting::Text(key, value)).or_failure(what)?;
    }
    sys::mount::fscreate(fs.as_fd()).or_failure(what)?;
    let tree = sys::mount::fsmount(fs.as_fd(), attributes).or_failure(what)?;
    sys::mount::attach_at(tree.as_fd(), &target).or_failure(what)
}

fn path(path: &Path) -> Result<std::ffi::CString, Failure> {
    c_path("path", path).map_err(|_| Failure::new(path.display().to_string(), Errno::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_white_space_are_read() {
        assert_eq!(mount_point(b"/a\\040b\\134c\\9"), Path::new("/a b\\c\\9"));
    }
}
