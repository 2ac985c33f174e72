//! seccomp(2).

use seccompiler::sock_filter;

use super::{Result, syscall};

#[repr(C)]
struct FilterProgram {
    length: u16,
    filter: *const sock_filter,
}

/// Loads a filter for the calling thread. Returns the listener's descriptor number where the flags
/// ask for one, else 0.
///
/// # Errors
/// As seccomp(2); EACCES without both CAP_SYS_ADMIN and no_new_privs.
pub fn load(program: &[sock_filter], flags: u32) -> Result<i64> {
    const SET_MODE_FILTER: u32 = 1;
    let length = u16::try_from(program.len()).map_err(|_| nix::errno::Errno::E2BIG)?;
    let program = FilterProgram {
        length,
        filter: program.as_ptr(),
    };
    syscall!(
        libc::SYS_seccomp,
        SET_MODE_FILTER,
        flags,
        std::ptr::from_ref(&program)
    )
}
