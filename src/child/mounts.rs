//! The verbs for file systems: made detached, attached to a target that was opened inside the
//! container's root.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::paths::Missing;
use super::record::{Detail, TEXT};
use super::{Because, Child, Fault, Result};
use crate::plan::op::{NewFileSystem, Slot};
use crate::spec::mounts::{Attributes, Propagation};
use crate::sys::mount::{self, MountAttr, Setting, attr};
use crate::sys::{At, EMPTY, open};

impl Child<'_> {
    pub(super) fn new_file_system(&mut self, new: &NewFileSystem) -> Result<()> {
        let fs = mount::fsopen(&new.fstype)?;
        let made = configure(fs.as_fd(), new);
        let made = made.and_then(|()| mount::fsmount(fs.as_fd(), new.attributes));
        match made {
            Ok(tree) => self.fill(new.slot, tree),
            Err(errno) => {
                let detail = self.kernel_text(fs.as_fd());
                Err(Fault { errno, detail })
            }
        }
    }

    /// Keeps the kernel's last words about a file system: "e tmpfs: Unknown parameter 'x'".
    fn kernel_text(&mut self, fs: BorrowedFd<'_>) -> Detail {
        let mut text = [0_u8; TEXT];
        let room = text.len().saturating_sub(1);
        for _ in 0..8 {
            let mut message = [0_u8; TEXT];
            let Some(place) = message.get_mut(..room) else {
                break;
            };
            match mount::fsmessage(fs, place) {
                Ok(length) if length > 2 => {
                    text = [0; TEXT];
                    // Without its level ("e ", "w ", "i ").
                    for (to, from) in text.iter_mut().zip(message.iter().skip(2)) {
                        *to = *from;
                    }
                    self.work.text = Some(text);
                }
                _ => break,
            }
        }
        if self.work.text.is_some() {
            Detail::Text
        } else {
            Detail::None
        }
    }

    /// The root goes on top of the host's `/`: the one place that can be named without walking a
    /// path that the container's user may not be allowed to walk.
    pub(super) fn attach_root(&mut self, slot: Slot) -> Result<()> {
        let tree = self.fd(slot)?;
        mount::attach_at(tree, c"/")?;
        Ok(mount::fchdir(tree)?)
    }

    pub(super) fn detach_host(&mut self) -> Result<()> {
        // After pivot_root(".", ".") the old root is what is mounted at ".".
        mount::unmount(c".", libc::MNT_DETACH)?;
        mount::chdir(c"/")?;
        self.root().map(drop)
    }

    pub(super) fn attach(&mut self, slot: Slot, target: &CStr, ordinary: bool) -> Result<()> {
        let directory = is_directory(self.fd(slot)?)?;
        let target = if ordinary {
            self.ordinary_directory(target)?
        } else {
            self.target(
                target,
                if directory {
                    Missing::Directory
                } else {
                    Missing::File
                },
            )?
        };
        if is_directory(target.as_fd())? != directory {
            return Err(Fault {
                errno: Errno::ENOTDIR,
                detail: Detail::FileAndDirectory,
            });
        }
        Ok(mount::attach(self.fd(slot)?, target.as_fd())?)
    }

    pub(super) fn set_propagation(
        &mut self,
        target: &CStr,
        propagation: Propagation,
    ) -> Result<()> {
        let change = MountAttr {
            propagation: propagation.flag,
            ..MountAttr::default()
        };
        self.change(target, &change, propagation.recursive)
    }

    pub(super) fn set_attributes(
        &mut self,
        target: &CStr,
        attributes: Attributes,
        recursive: bool,
    ) -> Result<()> {
        let change = MountAttr {
            set: attributes.set,
            clear: attributes.clear,
            ..MountAttr::default()
        };
        self.change(target, &change, recursive)
    }

    fn change(&mut self, target: &CStr, change: &MountAttr, recursive: bool) -> Result<()> {
        let target = self.open(target, libc::O_PATH)?;
        Ok(mount::set_attr(
            At::Fd(target.as_fd()),
            EMPTY,
            change,
            recursive,
        )?)
    }

    /// A file is masked by the null device, a directory by the one empty tmpfs; what is not there
    /// needs no mask.
    pub(super) fn mask_path(&mut self, path: &CStr, null: Slot, empty: Slot) -> Result<()> {
        let Some(target) = self.open_unless_missing(path)? else {
            return Ok(());
        };
        let directory = is_directory(target.as_fd())?;
        let (slot, attached) = if directory {
            (empty, self.work.empty_attached)
        } else {
            (null, self.work.null_attached)
        };
        if attached {
            let copy = mount::clone_tree(At::Fd(self.fd(slot)?), EMPTY, false)?;
            mount::attach(copy.as_fd(), target.as_fd())?;
        } else {
            // A detached mount can be copied only by newer kernels; once it is attached, by all.
            mount::attach(self.fd(slot)?, target.as_fd())?;
        }
        if directory {
            self.work.empty_attached = true;
        } else {
            self.work.null_attached = true;
        }
        Ok(())
    }

    pub(super) fn readonly_path(&mut self, path: &CStr) -> Result<()> {
        let Some(target) = self.open_unless_missing(path)? else {
            return Ok(());
        };
        let copy = mount::clone_tree(At::Fd(target.as_fd()), EMPTY, true)?;
        let change = MountAttr {
            set: attr::RDONLY,
            ..MountAttr::default()
        };
        mount::set_attr(At::Fd(copy.as_fd()), EMPTY, &change, true)?;
        Ok(mount::attach(copy.as_fd(), target.as_fd())?)
    }

    fn open_unless_missing(&mut self, path: &CStr) -> Result<Option<OwnedFd>> {
        match self.open(path, libc::O_PATH) {
            Ok(target) => Ok(Some(target)),
            Err(Fault {
                errno: Errno::ENOENT | Errno::ENOTDIR,
                ..
            }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    pub(super) fn attach_console(&mut self, slot: Slot) -> Result<()> {
        // From the descriptor of the terminal itself: no path in which another file could stand.
        let tree = mount::clone_tree(At::Fd(self.fd(slot)?), EMPTY, false)?;
        let target = self.target(c"/dev/console", Missing::File)?;
        Ok(mount::attach(tree.as_fd(), target.as_fd())?)
    }
}

fn configure(fs: BorrowedFd<'_>, new: &NewFileSystem) -> crate::sys::Result<()> {
    mount::fsconfig(fs, Setting::Text(c"source", &new.source))?;
    for (key, value) in &new.settings {
        let setting = match value {
            Some(value) => Setting::Text(key, value),
            None => Setting::Flag(key),
        };
        mount::fsconfig(fs, setting)?;
    }
    mount::fscreate(fs)
}

fn is_directory(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = open::fstat(fd).because(Detail::OpenTarget)?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}
