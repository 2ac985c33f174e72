//! The verbs for ids and capabilities.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::paths::open_proc;
use super::record::Detail;
use super::{Child, Fault, Result};
use crate::plan::op::Slot;
use crate::spec::namespaces::{IdMapping, IdMaps};
use crate::sys;

/// Root of the user namespace: what is made from here on belongs to it.
pub(super) fn become_root() -> Result<()> {
    set_groups(&[])?;
    sys::ids::set_gid(0)?;
    Ok(sys::ids::set_uid(0)?)
}

/// An empty list where setgroups(2) is denied is what there is already: such a namespace was made
/// without privilege, and has no other groups.
pub(super) fn set_groups(groups: &[u32]) -> Result<()> {
    match sys::ids::set_groups(groups) {
        Err(Errno::EPERM) if groups.is_empty() => Ok(()),
        other => Ok(other?),
    }
}

/// Changes the user id and keeps the permitted capabilities: which of them stay is a later step.
pub(super) fn set_uid(uid: u32) -> Result<()> {
    sys::caps::keep_over_setuid(true)?;
    sys::ids::set_uid(uid)?;
    Ok(sys::caps::keep_over_setuid(false)?)
}

/// After a change of the user id permitted capabilities are not effective; loading a filter needs
/// one of them.
pub(super) fn raise_permitted() -> Result<()> {
    let permitted = sys::caps::permitted()?;
    Ok(sys::caps::set(permitted, permitted, 0)?)
}

impl Child<'_> {
    pub(super) fn set_ambient(&mut self, ambient: u64) -> Result<()> {
        sys::caps::clear_ambient()?;
        for capability in 0..64_u32 {
            if ambient & (1 << capability) != 0
                && let Err(errno) = sys::caps::raise_ambient(capability)
            {
                self.warn(errno);
            }
        }
        Ok(())
    }

    /// Compares the maps of the user namespace that was joined with the configuration's.
    pub(super) fn check_id_maps(&mut self, proc: Slot, maps: &IdMaps) -> Result<()> {
        for (file, lines) in [(c"self/uid_map", &maps.uids), (c"self/gid_map", &maps.gids)] {
            let file = open_proc(self.fd(proc)?, file, libc::O_RDONLY)?;
            // A map has at most 340 lines of at most 33 characters.
            let mut bytes = [0_u8; 12288];
            let length = sys::open::read(file.as_fd(), &mut bytes)?;
            let text = bytes.get(..length).unwrap_or_default();
            if !same(text, lines) {
                return Err(Fault {
                    errno: Errno::EINVAL,
                    detail: Detail::OtherMaps,
                });
            }
        }
        Ok(())
    }
}

fn same(text: &[u8], lines: &[IdMapping]) -> bool {
    let mut found = 0_usize;
    for line in text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let mut numbers = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .map(|word| {
                std::str::from_utf8(word)
                    .ok()
                    .and_then(|word| word.parse::<u32>().ok())
            });
        let mut number = || numbers.next().flatten();
        let (Some(inside), Some(outside), Some(count)) = (number(), number(), number()) else {
            return false;
        };
        if !lines.contains(&IdMapping {
            inside,
            outside,
            count,
        }) {
            return false;
        }
        found = found.saturating_add(1);
    }
    found == lines.len()
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_compared_in_any_order_and_whole() {
        let line = |inside, outside, count| IdMapping {
            inside,
            outside,
            count,
        };
        let lines = [line(0, 65536, 10), line(10, 5, 1)];
        assert!(same(b"         0      65536         10\n 10 5 1\n", &lines));
        assert!(same(b"10 5 1\n0 65536 10\n", &lines));
        assert!(!same(b"0 65536 10\n", &lines));
        assert!(!same(b"0 65536 10\n10 5 2\n", &lines));
        assert!(!same(b"garbage\n", &lines));
    }
}
