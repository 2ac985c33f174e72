//! Pseudoterminals (ioctl_tty(2)).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::open::own;
use super::{Result, syscall};

const TIOCSPTLCK: libc::c_ulong = 0x4004_5431;
const TIOCGPTPEER: libc::c_ulong = 0x5441;

/// Unlocks a pty master and opens its other side by TIOCGPTPEER: no path in which another file
/// could be put.
///
/// # Errors
/// As ioctl(2).
pub fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    let pointer = std::ptr::from_ref(&unlock);
    syscall!(libc::SYS_ioctl, master.as_raw_fd(), TIOCSPTLCK, pointer)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    syscall!(libc::SYS_ioctl, master.as_raw_fd(), TIOCGPTPEER, flags).map(own)
}

/// Makes the terminal the controlling one of this session.
///
/// # Errors
/// As ioctl_tty(2).
pub fn make_controlling(terminal: BorrowedFd<'_>) -> Result<()> {
    syscall!(libc::SYS_ioctl, terminal.as_raw_fd(), libc::TIOCSCTTY, 0).map(drop)
}

/// Sets the size in characters.
///
/// # Errors
/// As ioctl_tty(2).
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pointer = std::ptr::from_ref(&size);
    syscall!(
        libc::SYS_ioctl,
        terminal.as_raw_fd(),
        libc::TIOCSWINSZ,
        pointer
    )
    .map(drop)
}

/// The size of a terminal in characters: rows and columns.
///
/// # Errors
/// ENOTTY when it is no terminal.
pub fn size(terminal: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pointer = std::ptr::from_mut(&mut size);
    syscall!(
        libc::SYS_ioctl,
        terminal.as_raw_fd(),
        libc::TIOCGWINSZ,
        pointer
    )?;
    Ok((size.ws_row, size.ws_col))
}
