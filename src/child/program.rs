//! The verbs around the program: its directory, its home, where it is, and execve.

use std::ffi::CStr;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::paths::Buffer;
use super::record::Detail;
use super::{Child, Fault, Result};
use crate::plan::op::{Program, Strings};
use crate::sys;

/// execvp(3)'s, for an environment without PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Child<'_> {
    pub(super) fn change_directory(&mut self, path: &CStr) -> Result<()> {
        let directory = self.open(path, libc::O_PATH | libc::O_DIRECTORY)?;
        sys::mount::fchdir(directory.as_fd())?;
        // The kernel says "(unreachable)" of a directory outside the root (CVE-2024-21626).
        let mut buffer = [0_u8; 4096];
        sys::mount::getcwd(&mut buffer)?;
        if buffer.first() == Some(&b'/') {
            return Ok(());
        }
        Err(Fault {
            errno: Errno::EXDEV,
            detail: Detail::OutsideRoot,
        })
    }

    /// HOME from the container's /etc/passwd, `/` where the user is not in it.
    pub(super) fn find_home(&mut self, uid: u32) -> Result<()> {
        let mut home = Buffer::<1024>::new();
        // Not blocking: it may be a FIFO.
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        if let Ok(file) = self.open(c"/etc/passwd", flags) {
            let mode = sys::open::fstat(file.as_fd())?.st_mode;
            if mode & libc::S_IFMT == libc::S_IFREG {
                search_passwd(file.as_fd(), uid, &mut home)?;
            }
        }
        let home = if home.bytes().is_empty() {
            b"/"
        } else {
            home.bytes()
        };
        if !self.strings.env.write_reserved(&[b"HOME=", home]) {
            self.strings.env.write_reserved(&[b"HOME=/"]);
        }
        Ok(())
    }

    pub(super) fn check_program(&mut self) -> Result<()> {
        let found = candidates(self.strings, |path| sys::process::executable(path).err());
        found.map_err(Fault::from)
    }

    pub(super) fn execute_program(&mut self, program: &Program) -> Result<()> {
        let strings = &*self.strings;
        match program {
            Program::File(slot) => {
                let file = self.fd(*slot)?;
                Err(sys::process::exec_fd(file, &strings.args, &strings.env).into())
            }
            Program::Args => {
                let execute =
                    |path: &CStr| Some(sys::process::exec(path, &strings.args, &strings.env));
                candidates(strings, execute).map_err(Fault::from)
            }
        }
    }
}

/// Tries the program's possible paths, as execvp(3) does, until `attempt` returns `None`.
fn candidates(
    strings: &Strings,
    mut attempt: impl FnMut(&CStr) -> Option<Errno>,
) -> std::result::Result<(), Errno> {
    let Some(name) = strings.args.strings().first() else {
        return Err(Errno::ENOENT);
    };
    if name.to_bytes().contains(&b'/') {
        return attempt(name).map_or(Ok(()), Err);
    }
    let mut entries = strings.env.strings().iter();
    let path = entries.find(|entry| entry.to_bytes().starts_with(b"PATH="));
    let path = path
        .and_then(|entry| entry.to_bytes().get(5..))
        .unwrap_or(DEFAULT_PATH);
    let mut answer = Errno::ENOENT;
    let mut buffer = Buffer::<4096>::new();
    for directory in path.split(|byte| *byte == b':') {
        buffer.clear();
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let whole = buffer
            .push(directory)
            .and_then(|()| buffer.push(b"/"))
            .and_then(|()| buffer.push(name.to_bytes()));
        let Some(candidate) = whole.and_then(|()| buffer.as_cstr()) else {
            continue;
        };
        match attempt(candidate) {
            None => return Ok(()),
            Some(Errno::ENOENT | Errno::ENOTDIR) => {}
            // There is one, but not for us; a later directory may have a better one.
            Some(Errno::EACCES) => answer = Errno::EACCES,
            Some(errno) => return Err(errno),
        }
    }
    Err(answer)
}

/// Finds `name:password:UID:gid:comment:HOME:shell`; lines that are longer than the buffer are
/// passed over.
fn search_passwd(
    file: std::os::fd::BorrowedFd<'_>,
    uid: u32,
    home: &mut Buffer<1024>,
) -> Result<()> {
    let mut line = Buffer::<1024>::new();
    let mut whole = true;
    let mut chunk = [0_u8; 4096];
    // A megabyte is enough for any passwd; a container can make it endless.
    for _ in 0..256 {
        let length = sys::open::read(file, &mut chunk)?;
        for byte in chunk.get(..length).unwrap_or_default() {
            if *byte != b'\n' {
                whole &= line.push(std::slice::from_ref(byte)).is_some();
                continue;
            }
            if whole && take_home(line.bytes(), uid, home) {
                return Ok(());
            }
            line.clear();
            whole = true;
        }
        if length == 0 {
            break;
        }
    }
    if whole {
        take_home(line.bytes(), uid, home);
    }
    Ok(())
}

fn take_home(line: &[u8], uid: u32, home: &mut Buffer<1024>) -> bool {
    let mut fields = line.split(|byte| *byte == b':');
    let number = fields
        .nth(2)
        .and_then(|field| std::str::from_utf8(field).ok());
    if number.and_then(|number| number.parse::<u32>().ok()) != Some(uid) {
        return false;
    }
    // After uid come gid, comment, home.
    let Some(field) = fields.nth(2) else {
        return false;
    };
    home.push(field).is_some()
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]
mod tests {
    use super::*;
    use crate::sys::process::ExecStrings;

    fn strings(name: &str, path: &str) -> Strings {
        let c = |text: &str| std::ffi::CString::new(text).unwrap();
        Strings {
            args: ExecStrings::new(vec![c(name)], false),
            env: ExecStrings::new(vec![c(&format!("PATH={path}"))], true),
        }
    }

    fn tried(
        name: &str,
        path: &str,
        answers: &[Errno],
    ) -> (Vec<String>, std::result::Result<(), Errno>) {
        let mut list = Vec::new();
        let result = candidates(&strings(name, path), |candidate| {
            list.push(candidate.to_string_lossy().into_owned());
            answers.get(list.len() - 1).copied()
        });
        (list, result)
    }

    #[test]
    fn program_is_looked_up_in_path_in_order() {
        let (list, result) = tried("sh", "/a:/b::/c", &[Errno::ENOENT, Errno::ENOTDIR]);
        assert_eq!(list, ["/a/sh", "/b/sh", "./sh"]);
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn name_with_a_slash_is_not_looked_up() {
        let (list, result) = tried("bin/sh", "/a", &[Errno::ENOENT]);
        assert_eq!(list, ["bin/sh"]);
        assert_eq!(result, Err(Errno::ENOENT));
    }

    #[test]
    fn program_that_may_not_be_executed_is_remembered() {
        let (_, result) = tried("sh", "/a:/b", &[Errno::EACCES, Errno::ENOENT]);
        assert_eq!(result, Err(Errno::EACCES));
    }

    #[test]
    fn home_is_the_sixth_field_of_the_user() {
        let mut home = Buffer::<1024>::new();
        assert!(!take_home(b"root:x:0:0:root:/root:/bin/sh", 5, &mut home));
        assert!(take_home(b"games:x:5:60::/usr/games:/bin/sh", 5, &mut home));
        assert_eq!(home.bytes(), b"/usr/games");
        assert!(!take_home(b"short:x:5", 5, &mut home));
    }

    #[test]
    fn reserved_string_is_bounded_and_ends() {
        let mut it = strings("a", "/");
        assert!(it.env.write_reserved(&[b"HOME=", b"/root"]));
        assert!(!it.env.write_reserved(&[&[b'a'; 2000]]));
        assert!(!it.env.write_reserved(&[b"a\0b"]));
    }
}
