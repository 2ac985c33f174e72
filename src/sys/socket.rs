//! Messages with at most one descriptor over Unix sockets, without allocating (unix(7)).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::open::own;
use super::{Result, syscall};

// Room for one header and one descriptor, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control {
    header: libc::cmsghdr,
    fd: RawFd,
    padding: u32,
}

/// A connected pair of `SOCK_SEQPACKET` sockets, close-on-exec.
///
/// # Errors
/// As socketpair(2).
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut pair = [-1 as RawFd; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    syscall!(
        libc::SYS_socketpair,
        libc::AF_UNIX,
        kind,
        0,
        pair.as_mut_ptr()
    )?;
    let [first, second] = pair;
    Ok((own(first.into()), own(second.into())))
}

/// accept4(2), close-on-exec.
///
/// # Errors
/// As accept(2).
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    let null = std::ptr::null_mut::<libc::sockaddr>();
    let fd = listener.as_raw_fd();
    loop {
        match syscall!(libc::SYS_accept4, fd, null, null, libc::SOCK_CLOEXEC) {
            Err(Errno::EINTR) => {}
            other => return other.map(own),
        }
    }
}

/// sendmsg(2) of one message, with a descriptor when given. A peer that is gone is EPIPE, never a
/// signal.
///
/// # Errors
/// As sendmsg(2).
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain data for which all zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = std::ptr::from_mut(&mut part);
    message.msg_iovlen = 1;
    let mut control = fd.map(one_descriptor);
    if let Some(control) = control.as_mut() {
        message.msg_control = std::ptr::from_mut(control).cast();
        message.msg_controllen = size_of::<Control>() as _;
    }
    loop {
        let pointer = std::ptr::from_ref(&message);
        match syscall!(
            libc::SYS_sendmsg,
            socket.as_raw_fd(),
            pointer,
            libc::MSG_NOSIGNAL
        ) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

fn one_descriptor(fd: BorrowedFd<'_>) -> Control {
    // SAFETY: cmsghdr is plain data for which all zero is valid (musl's has padding fields).
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<RawFd>()) as _;
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    Control {
        header,
        fd: fd.as_raw_fd(),
        padding: 0,
    }
}

/// recvmsg(2) of one message into `buffer`: its length (0 at the end of the stream) and the
/// descriptor that came with it.
///
/// # Errors
/// As recvmsg(2).
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr and Control are plain data for which all zero is valid.
    let (mut message, mut control): (libc::msghdr, Control) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    message.msg_iov = std::ptr::from_mut(&mut part);
    message.msg_iovlen = 1;
    message.msg_control = std::ptr::from_mut(&mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    let number = socket.as_raw_fd();
    let length = loop {
        let pointer = std::ptr::from_mut(&mut message);
        match syscall!(libc::SYS_recvmsg, number, pointer, libc::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    #[allow(
        clippy::unnecessary_cast,
        reason = "the type differs between C libraries"
    )]
    let came = message.msg_controllen as usize >= size_of::<libc::cmsghdr>() + size_of::<RawFd>()
        && control.header.cmsg_level == libc::SOL_SOCKET
        && control.header.cmsg_type == libc::SCM_RIGHTS;
    // SAFETY: the kernel has just installed this descriptor for us, as the header says.
    let fd = came.then(|| unsafe { OwnedFd::from_raw_fd(control.fd) });
    Ok((usize::try_from(length).unwrap_or(0), fd))
}
