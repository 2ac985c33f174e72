//! Capability sets of the calling thread: capset(2) with all sets in one call, the bounding and
//! the ambient set through prctl(2).

use nix::errno::Errno;

use super::process::prctl;
use super::{Result, syscall};

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets effective, permitted and inheritable, each a mask with bit N for capability N.
///
/// # Errors
/// As capset(2).
pub fn set(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let low = |mask: u64| u32::try_from(mask & 0xffff_ffff).unwrap_or(0);
    let high = |mask: u64| low(mask >> 32);
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let data = [
        Data {
            effective: low(effective),
            permitted: low(permitted),
            inheritable: low(inheritable),
        },
        Data {
            effective: high(effective),
            permitted: high(permitted),
            inheritable: high(inheritable),
        },
    ];
    syscall!(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()).map(drop)
}

/// The permitted set of the calling thread.
///
/// # Errors
/// As capget(2).
pub fn permitted() -> Result<u64> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    syscall!(
        libc::SYS_capget,
        std::ptr::from_mut(&mut header),
        data.as_mut_ptr()
    )?;
    let [low, high] = data;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

/// Drops every capability that is not in `keep` from the bounding set, up to the last that the
/// kernel knows.
///
/// # Errors
/// As prctl(2); EPERM without CAP_SETPCAP.
pub fn limit_bounding(keep: u64) -> Result<()> {
    for capability in 0..64_u32 {
        if keep & (1 << capability) == 0 {
            match prctl(libc::PR_CAPBSET_DROP, capability.into(), 0) {
                // The first number that the kernel does not know.
                Err(Errno::EINVAL) => break,
                other => other?,
            }
        }
    }
    Ok(())
}

/// Keeps the permitted set over a change of the user id, or not (`PR_SET_KEEPCAPS`).
///
/// # Errors
/// As prctl(2).
pub fn keep_over_setuid(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0)
}

/// Empties the ambient set.
///
/// # Errors
/// As prctl(2).
pub fn clear_ambient() -> Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL),
        0,
    )
}

/// Adds one capability to the ambient set.
///
/// # Errors
/// As prctl(2); EPERM when it is not both permitted and inheritable.
pub fn raise_ambient(capability: u32) -> Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        ambient(libc::PR_CAP_AMBIENT_RAISE),
        capability.into(),
    )
}

fn ambient(command: libc::c_int) -> libc::c_ulong {
    libc::c_ulong::from(command.cast_unsigned())
}
