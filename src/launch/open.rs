//! Fills the slots of a plan: the only place where paths of the host are opened for a container.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use super::Given;
use crate::cgroup::Cgroup;
use crate::error::OrFailure;
use crate::mount;
use crate::plan::Plan;
use crate::plan::op::{Open, Slot, Tree, show};
use crate::spec::namespaces::Kind;
use crate::sys::mount::MountAttr;
use crate::sys::{self, At, EMPTY};
use anyhow::{Context, Result, bail, ensure};

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
            Open::IdmapNamespace { maps, slot } => (*slot, mount::idmap_namespace(maps)?),
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

fn tree(tree: &Tree, slots: &[Option<OwnedFd>]) -> Result<OwnedFd> {
    let what = format!("{} from {}", tree.purpose, show(&tree.path));
    let fd = mount::copy(&what, &tree.path, tree.recursive)?;
    if let Some((Slot(slot), recursive)) = tree.idmap {
        let userns = slots
            .get(slot)
            .and_then(Option::as_ref)
            .context("the plan has no idmap slot")?;
        mount::idmap(&what, fd.as_fd(), userns.as_fd(), recursive)?;
    }
    mount::change(&what, fd.as_fd(), tree.recursive_attributes, true)?;
    mount::change(&what, fd.as_fd(), tree.attributes, false)?;
    mount::propagate(&what, fd.as_fd(), tree.propagation)?;
    Ok(fd)
}

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
