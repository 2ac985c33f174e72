//! The verbs for a terminal: the container's own devpts, by descriptor from end to end.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::record::{Detail, Kind, Record};
use super::{Child, Fault, Result};
use crate::plan::op::Slot;
use crate::sys::{self, EMPTY};

const DEVPTS: i64 = 0x1cd1;

impl Child<'_> {
    /// Opens a new terminal and gives its master side to the parent.
    pub(super) fn open_terminal(
        &mut self,
        slot: Slot,
        size: Option<(u16, u16)>,
        uid: u32,
    ) -> Result<()> {
        let flags = libc::O_RDWR | libc::O_NOCTTY;
        let missing = |fault: Fault| match fault.errno {
            Errno::ENOENT | Errno::ENOTDIR => Fault {
                detail: Detail::NotDevpts,
                ..fault
            },
            _ => fault,
        };
        let master = self.open(c"/dev/pts/ptmx", flags).map_err(missing)?;
        let node = sys::open::fstat(master.as_fd())?;
        if sys::open::fs_magic(master.as_fd())? != DEVPTS || node.st_rdev != libc::makedev(5, 2) {
            return Err(Fault {
                errno: Errno::ENOTTY,
                detail: Detail::NotDevpts,
            });
        }
        let peer = sys::tty::open_peer(master.as_fd())?;
        if let Some((rows, columns)) = size {
            sys::tty::set_size(peer.as_fd(), rows, columns)?;
        }
        // The group stays devpts' own: tty's may have no id in the user namespace.
        sys::open::fchownat(peer.as_fd(), EMPTY, uid, u32::MAX)?;
        let socket = self.socket.as_ref().ok_or(Errno::EBADF)?;
        Record::new(Kind::Console).send(socket.as_fd(), Some(master.as_fd()))?;
        self.fill(slot, peer)
    }

    pub(super) fn use_terminal(&mut self, slot: Slot) -> Result<()> {
        let terminal = self.fd(slot)?;
        sys::tty::make_controlling(terminal)?;
        for number in 0..3 {
            sys::open::dup_onto(terminal, number)?;
        }
        Ok(())
    }
}
