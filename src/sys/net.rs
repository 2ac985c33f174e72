//! The one network call that every new network namespace needs: `lo` up (netdevice(7)).

use std::os::fd::AsRawFd;

use super::open::own;
use super::{Result, syscall};

#[repr(C)]
struct FlagsRequest {
    name: [u8; 16],
    flags: libc::c_short,
    padding: [u8; 22],
}

/// Sets `lo` of the current network namespace up; 127.0.0.1 and ::1 come with it.
///
/// # Errors
/// As socket(2) and netdevice(7); EPERM without CAP_NET_ADMIN over the namespace.
pub fn loopback_up() -> Result<()> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let socket = own(syscall!(libc::SYS_socket, libc::AF_INET, kind, 0)?);
    let mut request = FlagsRequest {
        name: [0; 16],
        flags: 0,
        padding: [0; 22],
    };
    for (to, from) in request.name.iter_mut().zip(b"lo") {
        *to = *from;
    }
    let pointer = std::ptr::from_mut(&mut request);
    syscall!(
        libc::SYS_ioctl,
        socket.as_raw_fd(),
        libc::SIOCGIFFLAGS,
        pointer
    )?;
    let up = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    request.flags |= up;
    let pointer = std::ptr::from_mut(&mut request);
    syscall!(
        libc::SYS_ioctl,
        socket.as_raw_fd(),
        libc::SIOCSIFFLAGS,
        pointer
    )
    .map(drop)
}
