//! What a child and its parent, or a starter, tell each other: one fixed record a message.
//!
//! docs/architecture.md has the table of messages. Made and sent without allocating.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sys;

/// Bytes of text that fit into a record.
pub const TEXT: usize = 208;
const SIZE: usize = 16 + TEXT;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Stage to parent: the child's pid is in the shared page.
    Cloned = 1,
    /// Parent to child.
    Go = 2,
    /// Child to parent, with the master side of a terminal.
    Console = 3,
    /// An optional step did not apply.
    Warning = 4,
    /// Everything but the process itself is applied.
    Ready = 5,
    /// The step failed.
    Failed = 6,
}

/// Why a step failed, where the errno does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// The errno says it.
    None = 0,
    /// The record's text says it: the kernel's own words about a file system.
    Text = 1,
    /// A directory on the way to the target could not be made.
    MakeParent = 2,
    /// The target could not be opened or made.
    OpenTarget = 3,
    /// The target or something on the way to it is a symbolic link.
    Symlink = 4,
    /// The source is a file and the target a directory, or the reverse.
    FileAndDirectory = 5,
    /// Something else stands there already.
    Different = 6,
    /// The joined user namespace has other maps than the configuration.
    OtherMaps = 7,
    /// The working directory is outside the container's root.
    OutsideRoot = 8,
    /// It is no terminal multiplexer of a devpts.
    NotDevpts = 9,
    /// The plan names a slot that nothing filled.
    EmptySlot = 10,
}

impl Detail {
    const ALL: [Detail; 11] = [
        Detail::None,
        Detail::Text,
        Detail::MakeParent,
        Detail::OpenTarget,
        Detail::Symlink,
        Detail::FileAndDirectory,
        Detail::Different,
        Detail::OtherMaps,
        Detail::OutsideRoot,
        Detail::NotDevpts,
        Detail::EmptySlot,
    ];
}

/// One message.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// What it says.
    pub kind: Kind,
    /// Index into the plan's operations.
    pub step: u32,
    /// The kernel's answer, for `Warning` and `Failed`.
    pub errno: i32,
    /// Why, for `Failed`.
    pub detail: Detail,
    /// Ends at the first NUL.
    pub text: [u8; TEXT],
}

impl Record {
    /// A record that says only this.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            step: 0,
            errno: 0,
            detail: Detail::None,
            text: [0; TEXT],
        }
    }

    /// The errno.
    pub fn errno(&self) -> Errno {
        Errno::from_raw(self.errno)
    }

    /// The text up to its first NUL.
    pub fn text(&self) -> &[u8] {
        self.text
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
    }

    /// Sends it, with a descriptor when given.
    ///
    /// # Errors
    /// As sendmsg(2); EPIPE when the other side is gone.
    pub fn send(&self, socket: BorrowedFd<'_>, fd: Option<BorrowedFd<'_>>) -> sys::Result<()> {
        let mut bytes = [0_u8; SIZE];
        let numbers = [
            self.kind as u32,
            self.step,
            self.errno.cast_unsigned(),
            self.detail as u32,
        ];
        let head = numbers.iter().flat_map(|number| number.to_ne_bytes());
        for (to, from) in bytes.iter_mut().zip(head.chain(self.text)) {
            *to = from;
        }
        sys::socket::send(socket, &bytes, fd)
    }

    /// Receives one; `None` at the end of the stream.
    ///
    /// # Errors
    /// As recvmsg(2): ECONNRESET when the other side ended with something of ours unread, or never
    /// took the connection; EBADMSG when it is no record.
    pub fn receive(socket: BorrowedFd<'_>) -> sys::Result<Option<(Self, Option<OwnedFd>)>> {
        let mut bytes = [0_u8; SIZE];
        let (length, fd) = sys::socket::receive(socket, &mut bytes)?;
        if length == 0 {
            return Ok(None);
        }
        let number = |index: usize| {
            let mut word = [0_u8; 4];
            for (to, from) in word
                .iter_mut()
                .zip(bytes.iter().skip(index.saturating_mul(4)))
            {
                *to = *from;
            }
            u32::from_ne_bytes(word)
        };
        let kind = [
            Kind::Cloned,
            Kind::Go,
            Kind::Console,
            Kind::Warning,
            Kind::Ready,
            Kind::Failed,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == number(0));
        let detail = Detail::ALL
            .into_iter()
            .find(|detail| *detail as u32 == number(3));
        let (Some(kind), Some(detail), SIZE) = (kind, detail, length) else {
            return Err(Errno::EBADMSG);
        };
        let mut text = [0; TEXT];
        for (to, from) in text.iter_mut().zip(bytes.iter().skip(16)) {
            *to = *from;
        }
        let errno = number(2).cast_signed();
        Ok(Some((
            Self {
                kind,
                step: number(1),
                errno,
                detail,
                text,
            },
            fd,
        )))
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn record_comes_back_as_it_was_sent() {
        let (a, b) = sys::socket::seqpacket_pair().unwrap();
        let mut record = Record::new(Kind::Failed);
        record.step = 7;
        record.errno = libc::EPERM;
        record.detail = Detail::Symlink;
        record.text[..2].copy_from_slice(b"hi");
        record.send(a.as_fd(), Some(a.as_fd())).unwrap();
        let (back, fd) = Record::receive(b.as_fd()).unwrap().unwrap();
        assert_eq!(
            (back.kind, back.step, back.errno(), back.detail),
            (Kind::Failed, 7, Errno::EPERM, Detail::Symlink)
        );
        assert_eq!(back.text(), b"hi");
        assert!(fd.is_some());
        drop(fd);
        drop(a);
        assert!(Record::receive(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn garbage_is_not_a_record() {
        let (a, b) = sys::socket::seqpacket_pair().unwrap();
        sys::socket::send(a.as_fd(), b"hello", None).unwrap();
        assert_eq!(Record::receive(b.as_fd()).unwrap_err(), Errno::EBADMSG);
    }
}
