//! Who a container's process is: names of the image become numbers, from the image's own files.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::config::User;
use super::spec::security::Effective;
use crate::error::OrFailure;

/// The user of a container: the manifest's numbers first, then the image's `USER`.
///
/// # Errors
/// When the image names a user or group that its files do not have.
pub fn find(rootfs: &Path, image_user: &str, security: &Effective) -> Result<User> {
    let files = Files::read(rootfs)?;
    let (name, group) = match image_user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (image_user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let mut user = match security.user {
        Some(uid) => files.by_uid(uid),
        None => files.user(name)?,
    };
    if security.user.is_none()
        && let Some(group) = group.filter(|group| !group.is_empty())
    {
        user.gid = files.group(group)?;
    }
    if let Some(gid) = security.group {
        user.gid = gid;
    }
    for gid in &security.supplemental_groups {
        if !user.groups.contains(gid) {
            user.groups.push(*gid);
        }
    }
    Ok(user)
}

/// The text of /etc/passwd and /etc/group of an image; missing ones are empty.
struct Files {
    passwd: String,
    group: String,
}

impl Files {
    fn read(rootfs: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(rootfs, flags, Mode::empty())
            .or_failure(|| format!("open {}", rootfs.display()))?;
        Ok(Self {
            passwd: read(&root, "etc/passwd"),
            group: read(&root, "etc/group"),
        })
    }

    fn line(text: &str, field: usize, wanted: &str) -> Option<Vec<String>> {
        let lines = text
            .lines()
            .map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
        lines
            .into_iter()
            .find(|fields| fields.get(field).is_some_and(|it| it == wanted))
    }

    fn by_uid(&self, uid: u32) -> User {
        let fields = Self::line(&self.passwd, 2, &uid.to_string());
        let Some(fields) = fields else {
            return User {
                uid,
                ..User::default()
            };
        };
        let gid = fields.get(3).and_then(|it| it.parse().ok()).unwrap_or(0);
        let groups = fields
            .first()
            .map(|name| self.groups_of(name))
            .unwrap_or_default();
        User { uid, gid, groups }
    }

    fn user(&self, name: &str) -> Result<User> {
        if let Ok(uid) = name.parse() {
            return Ok(self.by_uid(uid));
        }
        let fields = Self::line(&self.passwd, 0, name);
        let fields =
            fields.with_context(|| format!("the image's /etc/passwd has no user {name}"))?;
        match fields.get(2).and_then(|it| it.parse().ok()) {
            Some(uid) => Ok(self.by_uid(uid)),
            None => bail!("the image's /etc/passwd has no number for user {name}"),
        }
    }

    fn group(&self, name: &str) -> Result<u32> {
        if let Ok(gid) = name.parse() {
            return Ok(gid);
        }
        let gid = Self::line(&self.group, 0, name).and_then(|fields| fields.get(2)?.parse().ok());
        gid.with_context(|| format!("the image's /etc/group has no group {name}"))
    }

    fn groups_of(&self, name: &str) -> Vec<u32> {
        let lines = self
            .group
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        lines
            .filter(|fields| {
                fields
                    .get(3)
                    .is_some_and(|list| list.split(',').any(|it| it == name))
            })
            .filter_map(|fields| fields.get(2)?.parse().ok())
            .collect()
    }
}

/// A regular file of the image, of at most a megabyte; links lead nowhere but into the image. What
/// stands there is looked at before it is opened: to open a device node is to use the device.
fn read(root: &OwnedFd, path: &str) -> String {
    use std::io::Read;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let Ok(fd) = openat2(root, path, how) else {
        return String::new();
    };
    let place = std::fs::File::from(fd);
    let mut bytes = Vec::new();
    if place.metadata().is_ok_and(|it| it.is_file())
        && let Ok(file) = std::fs::File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
    {
        let _ = file.take(1 << 20).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::spec::{Capabilities, ProcMount, SeccompProfile};

    fn effective(user: Option<u32>, group: Option<u32>) -> Effective {
        Effective {
            user,
            group,
            supplemental_groups: vec![77],
            non_root: false,
            capabilities: Capabilities::default(),
            privileged: false,
            no_new_privileges: false,
            read_only_root: false,
            seccomp: SeccompProfile::Unconfined,
            proc_mount: ProcMount::Default,
        }
    }

    fn user(
        image_user: &str,
        user: Option<u32>,
        group: Option<u32>,
    ) -> Result<(u32, u32, Vec<u32>)> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        std::fs::write(
            directory.path().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\napp:x:10:20::/:\n",
        )
        .unwrap();
        std::fs::write(
            directory.path().join("etc/group"),
            "root:x:0:\nweb:x:30:app,other\n",
        )
        .unwrap();
        let it = find(directory.path(), image_user, &effective(user, group))?;
        Ok((it.uid, it.gid, it.groups))
    }

    #[test]
    fn users_come_from_manifest_and_image() {
        let table = [
            ("", None, None, (0, 0, vec![77])),
            ("app", None, None, (10, 20, vec![30, 77])),
            ("app:web", None, None, (10, 30, vec![30, 77])),
            ("10:5", None, None, (10, 5, vec![30, 77])),
            ("99", None, None, (99, 0, vec![77])),
            ("app", Some(0), None, (0, 0, vec![77])),
            ("app", None, Some(9), (10, 9, vec![30, 77])),
        ];
        for (image_user, uid, gid, expected) in table {
            assert_eq!(
                user(image_user, uid, gid).unwrap(),
                expected,
                "{image_user}"
            );
        }
        assert!(
            user("nobody", None, None)
                .unwrap_err()
                .to_string()
                .contains("no user nobody")
        );
    }

    #[test]
    fn passwd_that_is_a_link_to_the_host_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("etc/passwd")).unwrap();
        assert!(find(directory.path(), "root", &effective(None, None)).is_err());
    }
}
