//! Device nodes (config-linux.md, Devices and Default Devices).

use std::ffi::CString;

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::{Linux, LinuxDeviceType};

use super::text::container_path;

/// What kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum NodeKind {
    Char,
    Block,
    Fifo,
}

impl NodeKind {
    /// Its `S_IF*` bits.
    pub const fn mode(self) -> u32 {
        match self {
            NodeKind::Char => libc::S_IFCHR,
            NodeKind::Block => libc::S_IFBLK,
            NodeKind::Fifo => libc::S_IFIFO,
        }
    }

    /// The letter that ls(1) shows.
    pub const fn letter(self) -> char {
        match self {
            NodeKind::Char => 'c',
            NodeKind::Block => 'b',
            NodeKind::Fifo => 'p',
        }
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Device {
    /// In the container, cleaned.
    pub path: CString,
    pub kind: NodeKind,
    pub major: u32,
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Device {
    /// The number as mknod(2) takes it.
    pub fn number(&self) -> u64 {
        if self.kind == NodeKind::Fifo {
            0
        } else {
            libc::makedev(self.major, self.minor)
        }
    }
}

const DEFAULT: [(&std::ffi::CStr, u32, u32); 6] = [
    (c"/dev/null", 1, 3),
    (c"/dev/zero", 1, 5),
    (c"/dev/full", 1, 7),
    (c"/dev/random", 1, 8),
    (c"/dev/urandom", 1, 9),
    (c"/dev/tty", 5, 0),
];

/// The default nodes, each replaced by the configuration's where it names the same path, then the
/// others of the configuration.
///
/// # Errors
/// For a path outside of an absolute tree, a number out of range, or a path that stands there twice.
pub fn all(linux: &Linux) -> Result<Vec<Device>> {
    let mut result: Vec<Device> = Vec::new();
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        let what = || format!("linux.devices[{index}]: {}", device.path().display());
        ensure!(
            device.path().is_absolute(),
            "{}: not an absolute path",
            what()
        );
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => NodeKind::Char,
            LinuxDeviceType::B => NodeKind::Block,
            LinuxDeviceType::P => NodeKind::Fifo,
            LinuxDeviceType::A => anyhow::bail!("{}: type `a` is only for device rules", what()),
        };
        let number = |number: i64, bits: u32, name: &str| {
            let number = u32::try_from(number)
                .ok()
                .filter(|number| *number < 1 << bits);
            number.with_context(|| format!("{}: {name} is out of range", what()))
        };
        let path = container_path("path", device.path()).with_context(what)?;
        ensure!(
            !result.iter().any(|other| other.path == path),
            "{}: stands there twice",
            what()
        );
        result.push(Device {
            path,
            kind,
            major: if kind == NodeKind::Fifo {
                0
            } else {
                number(device.major(), 12, "major")?
            },
            minor: if kind == NodeKind::Fifo {
                0
            } else {
                number(device.minor(), 20, "minor")?
            },
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    let default = DEFAULT
        .iter()
        .filter(|(path, ..)| !result.iter().any(|it| it.path.as_c_str() == *path));
    let mut all: Vec<Device> = default
        .map(|&(path, major, minor)| Device {
            path: path.to_owned(),
            kind: NodeKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    all.append(&mut result);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(text: &str) -> Result<Vec<Device>> {
        all(&serde_json::from_str(&format!(r#"{{"devices":{text}}}"#)).unwrap())
    }

    #[test]
    fn default_nodes_are_there_and_the_configuration_wins() {
        let it = devices(r#"[{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":384}]"#)
            .unwrap();
        assert_eq!(it.len(), 6);
        assert_eq!(
            it.iter()
                .filter(|device| device.path.as_c_str() == c"/dev/null")
                .count(),
            1
        );
        assert_eq!(it.last().unwrap().mode, 0o600);
    }

    #[test]
    fn wrong_nodes_are_refused() {
        for (text, part) in [
            (
                r#"[{"path":"null","type":"c","major":1,"minor":3}]"#,
                "absolute",
            ),
            (
                r#"[{"path":"/dev/a","type":"c","major":-1,"minor":3}]"#,
                "major is out of range",
            ),
            (
                r#"[{"path":"/dev/a","type":"a","major":1,"minor":3}]"#,
                "only for device rules",
            ),
            (
                r#"[{"path":"/dev/a","type":"p","major":0,"minor":0},{"path":"/dev//a","type":"p","major":0,"minor":0}]"#,
                "twice",
            ),
        ] {
            let error = format!("{:#}", devices(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
