//! Fills the slots of a plan: the only place where paths of the host are opened for a container.

use std::convert::Infallible;
use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;

use super::Given;
use crate::cgroup::Cgroup;
use crate::error::{Failure, OrFailure};
use crate::plan::Plan;
use crate::plan::op::{Open, Slot, Tree, show};
use crate::spec::namespaces::{IdMaps, Kind};
use crate::sys::mount::{MountAttr, attr};
use crate::sys::{self, At, EMPTY};

const PROC: i64 = 0x9fa0;

/// Opens everything, in order.
pub(super) fn all(
    plan: &Plan,
    mut given: Vec<Given>,
    cgroup: Option<&Cgroup>,
) -> Result<Vec<Option<OwnedFd>>> {
    let mut slots: Vec<Option<OwnedFd>> = Vec::new();
    slots.resize_with(plan.slots, || None);
    for open in &plan.open {
        crate::fault::parent_step("open")?;
        let (slot, fd) = match open {
            Open::Proc { slot } => (*slot, proc()?),
            Open::Namespace { path, kind, slot } => (*slot, namespace(path, *kind)?),
            Open::IdmapNamespace { maps, slot } => (*slot, idmap_namespace(maps)?),
            Open::Tree(it) => (it.slot, tree(it, &slots)?),
            Open::Node {
                path,
                kind,
                number,
                slot,
            } => (
                *slot,
                node(path, kind.mode(), *number).with_context(|| open.to_string())?,
            ),
            Open::CgroupTree { attributes, slot } => (
                *slot,
                cgroup_tree(cgroup.context("no cgroup")?, *attributes)?,
            ),
            Open::Given { name, slot } => {
                let index = given.iter().position(|(other, _)| other == name);
                let index = index.with_context(|| format!("the caller gave no {name}"))?;
                (*slot, given.swap_remove(index).1)
            }
        };
        let place = slots
            .get_mut(slot.0)
            .context("the plan has a slot too few")?;
        *place = Some(fd);
    }
    Ok(slots)
}

/// The host's procfs: not something that was mounted over /proc.
fn proc() -> Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let fd = sys::open::openat2(At::Cwd, c"/proc", flags, 0, 0).or_failure(|| "open /proc")?;
    let magic = sys::open::fs_magic(fd.as_fd()).or_failure(|| "look at /proc")?;
    let root = sys::open::fstat(fd.as_fd())
        .or_failure(|| "look at /proc")?
        .st_ino;
    ensure!(
        magic == PROC && root == 1,
        "/proc is not a procfs; seedpod needs one there"
    );
    Ok(fd)
}

fn namespace(path: &CStr, kind: Kind) -> Result<OwnedFd> {
    let what = || format!("open {} namespace {}", kind.word(), show(path));
    let fd = sys::open::openat2(At::Cwd, path, libc::O_RDONLY, 0, 0).or_failure(what)?;
    match sys::ns::kind(fd.as_fd()) {
        Ok(flag) if flag == kind.flag() => Ok(fd),
        Ok(flag) => {
            let other = Kind::ALL.into_iter().find(|other| other.flag() == flag);
            let other = other.map_or("unknown", Kind::word);
            bail!("{}: it is a {other} namespace", what())
        }
        Err(_) => bail!(
            "{}: it is no namespace file (/proc/PID/ns/{})",
            what(),
            kind.file()
        ),
    }
}

/// A user namespace with the given maps, held by its descriptor alone.
fn idmap_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    struct Holder {
        socket: Option<OwnedFd>,
    }
    fn hold(holder: &mut Holder) -> Infallible {
        let mut byte = [0_u8; 1];
        if let Some(socket) = &holder.socket {
            let _ = sys::open::read(socket.as_fd(), &mut byte);
        }
        sys::process::exit_now(0)
    }
    let (ours, theirs) = sys::socket::seqpacket_pair().or_failure(|| "make a socket pair")?;
    let mut holder = Holder {
        socket: Some(theirs),
    };
    let child = sys::clone::clone_child(Kind::User.flag(), None, &mut holder, hold)
        .or_failure(|| "make a user namespace for id-mapped mounts")?;
    drop(holder);
    let made = super::write_map(child.pid, "uid_map", &maps.uids)
        .and_then(|()| super::write_map(child.pid, "gid_map", &maps.gids))
        .and_then(|()| {
            let path = format!("/proc/{}/ns/user", child.pid);
            fs::File::open(&path).or_failure(|| format!("open {path}"))
        });
    // In the child the other copy of our end keeps it waiting, so it is told by a signal.
    let _ = sys::process::pidfd_signal(child.pidfd.as_fd(), libc::SIGKILL);
    let _ = sys::process::wait_pidfd(child.pidfd.as_fd(), true);
    drop(ours);
    Ok(made?.into())
}

fn tree(tree: &Tree, slots: &[Option<OwnedFd>]) -> Result<OwnedFd> {
    let what = || format!("{} from {}", tree.purpose, show(&tree.path));
    let fd = sys::mount::clone_tree(At::Cwd, &tree.path, tree.recursive)
        .or_failure(what)
        .map_err(|failure| match failure.errno {
            Errno::ENOENT => failure.hint("the source does not exist"),
            Errno::EINVAL => failure.hint(
                "the source is in another mount namespace, or has mounts below it that may not be \
                 left behind (rbind takes them along)",
            ),
            _ => failure,
        })?;
    if let Some((Slot(slot), recursive)) = tree.idmap {
        let userns = slots
            .get(slot)
            .and_then(Option::as_ref)
            .context("the plan has no idmap slot")?;
        idmap(fd.as_fd(), userns.as_fd(), recursive)
            .or_failure(what)
            .map_err(|failure| {
                let place = fd.as_fd();
                words_of_idmap(failure, place)
            })?;
    }
    let change = |attributes: crate::spec::mounts::Attributes, recursive: bool| {
        if attributes.is_empty() {
            return Ok(());
        }
        let it = MountAttr {
            set: attributes.set,
            clear: attributes.clear,
            ..MountAttr::default()
        };
        sys::mount::set_attr(At::Fd(fd.as_fd()), EMPTY, &it, recursive).or_failure(what)
    };
    change(tree.recursive_attributes, true)?;
    change(tree.attributes, false)?;
    let propagation = MountAttr {
        propagation: tree.propagation.flag,
        ..MountAttr::default()
    };
    sys::mount::set_attr(
        At::Fd(fd.as_fd()),
        EMPTY,
        &propagation,
        tree.propagation.recursive,
    )
    .or_failure(what)?;
    Ok(fd)
}

fn idmap(tree: BorrowedFd<'_>, userns: BorrowedFd<'_>, recursive: bool) -> sys::Result<()> {
    use std::os::fd::AsRawFd;
    let change = MountAttr {
        set: attr::IDMAP,
        userns_fd: u64::from(userns.as_raw_fd().cast_unsigned()),
        ..MountAttr::default()
    };
    sys::mount::set_attr(At::Fd(tree), EMPTY, &change, recursive)
}

fn words_of_idmap(failure: Failure, tree: BorrowedFd<'_>) -> Failure {
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

fn node(path: &CStr, kind: u32, number: u64) -> Result<OwnedFd> {
    let opened = sys::open::openat2(At::Cwd, path, libc::O_PATH, 0, 0)
        .and_then(|fd| sys::open::fstat(fd.as_fd()).map(|stat| (fd, stat)));
    let (fd, stat) = opened.or_failure(|| format!("device {}", show(path)))?;
    ensure!(
        stat.st_mode & libc::S_IFMT == kind && (kind == libc::S_IFIFO || stat.st_rdev == number),
        "device {}: on the host it is another device, and a user namespace cannot make one",
        show(path)
    );
    Ok(sys::mount::clone_tree(At::Fd(fd.as_fd()), EMPTY, false)
        .or_failure(|| format!("device {}", show(path)))?)
}

fn cgroup_tree(cgroup: &Cgroup, attributes: u64) -> Result<OwnedFd> {
    let what = || format!("copy the mount of {}", cgroup.directory().display());
    let directory = cgroup.open()?;
    let tree = sys::mount::clone_tree(At::Fd(directory.as_fd()), EMPTY, true).or_failure(what)?;
    let change = MountAttr {
        set: attributes,
        propagation: 1 << 18,
        ..MountAttr::default()
    };
    sys::mount::set_attr(At::Fd(tree.as_fd()), EMPTY, &change, true).or_failure(what)?;
    Ok(tree)
}
