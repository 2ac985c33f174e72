//! clone3(2), and the process that begins in its child.

use std::convert::Infallible;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::open::own;
use super::{Result, syscall};

#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A child process: its pid in our pid namespace, and a pidfd.
#[derive(Debug)]
pub struct Child {
    /// As seen from here.
    pub pid: libc::pid_t,
    /// Refers to this process only, also after its end.
    pub pidfd: OwnedFd,
}

/// Makes a child process with the namespaces of `flags` (`CLONE_NEW*`), born in `cgroup` when
/// given. The child runs `entry` on its own copy of the memory and never returns.
///
/// `entry` must not allocate, lock or panic: another thread of this process may have held the
/// allocator's lock, and its copy stays locked for ever. That is the caller's to keep; the lints
/// of `child` and a test with an aborting allocator hold it.
///
/// # Errors
/// As clone3(2).
pub fn clone_child<T: ?Sized>(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    state: &mut T,
    entry: fn(&mut T) -> Infallible,
) -> Result<Child> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    let pid = clone3(&args)?;
    if pid == 0 {
        entry(state);
    }
    Ok(Child {
        pid: libc::pid_t::try_from(pid).unwrap_or(-1),
        pidfd: own(pidfd.into()),
    })
}

/// From a child: makes a sibling (`CLONE_PARENT`), whose parent is our parent. Returns its pid as
/// seen from here to the caller; the sibling runs `entry`.
///
/// # Errors
/// As clone3(2).
pub fn clone_sibling<T: ?Sized>(
    flags: u64,
    state: &mut T,
    entry: fn(&mut T) -> Infallible,
) -> Result<libc::pid_t> {
    // The exit signal is the caller's own with CLONE_PARENT, and must be given as 0.
    let args = CloneArgs {
        flags: flags | CLONE_PARENT,
        ..CloneArgs::default()
    };
    let pid = clone3(&args)?;
    if pid == 0 {
        entry(state);
    }
    Ok(libc::pid_t::try_from(pid).unwrap_or(-1))
}

fn clone3(args: &CloneArgs) -> Result<libc::c_long> {
    // Without CLONE_VM and without a stack this is fork(2): the child has its own copy of the
    // stack, so returning twice from here is sound in both processes.
    syscall!(
        libc::SYS_clone3,
        std::ptr::from_ref(args),
        size_of::<CloneArgs>()
    )
}
