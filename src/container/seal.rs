//! Our own program, where a container could reach it.
//!
//! A process that enters a container still has the host's program as /proc/PID/exe, and a program
//! that begins with `#!/proc/self/exe` executes it there: root of a container without a user
//! namespace could then open it for writing, and change it for the next caller (CVE-2019-5736). So
//! before anything of a container is touched, we execute ourselves again from a copy of our mount
//! that is read-only, belongs to no namespace, and that nobody can change back.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use anyhow::Result;

use crate::error::{Failure, OrFailure};
use crate::sys::mount::{MountAttr, attr};
use crate::sys::process::ExecStrings;
use crate::sys::{self, At, EMPTY};

/// Makes sure that this process runs from a read-only mount; it starts again if it does not. Only
/// root could write the program, so for others there is nothing to do.
///
/// # Errors
/// As open_tree(2), mount_setattr(2) and execveat(2).
pub fn read_only_program() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let what = || "make a read-only view of our own program";
    let own = c"/proc/self/exe";
    let file = sys::open::openat2(At::Cwd, own, libc::O_PATH, 0, 0).or_failure(what)?;
    let place = nix::sys::statvfs::fstatvfs(&file).or_failure(what)?;
    if place
        .flags()
        .contains(nix::sys::statvfs::FsFlags::ST_RDONLY)
    {
        return Ok(());
    }
    let tree = sys::mount::clone_tree(At::Fd(file.as_fd()), EMPTY, false).or_failure(what)?;
    let read_only = MountAttr {
        set: attr::RDONLY,
        propagation: 1 << 18,
        ..MountAttr::default()
    };
    sys::mount::set_attr(At::Fd(tree.as_fd()), EMPTY, &read_only, false).or_failure(what)?;
    let strings = |list: Vec<std::ffi::OsString>| {
        let list = list.into_iter().map(|word| CString::new(word.into_vec()));
        list.collect::<Result<Vec<_>, _>>()
            .map(|list| ExecStrings::new(list, false))
    };
    let args = strings(std::env::args_os().collect())?;
    let env = std::env::vars_os().map(|(name, value)| {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        entry
    });
    let env = strings(env.collect())?;
    let errno = sys::process::exec_fd(tree.as_fd(), &args, &env);
    Err(Failure::new(what(), errno).into())
}
