//! Mounts and their options (runtime-spec config.md, Mounts; mount(8), mount_setattr(2)).
//!
//! One table gives every option its effect; what it does not know goes to the file system as data.

use std::ffi::CString;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{Mount as WireMount, Spec};

use super::namespaces::{IdMaps, Namespaces};
use super::text::{c_path, c_string, container_path};
use crate::sys::mount::attr as bit;

/// How mount events spread (mount_namespaces(7)), and whether also below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub flag: u64,
    /// The whole tree.
    pub recursive: bool,
}

impl Propagation {
    /// From `shared`, `rslave` and so on.
    pub fn from_word(word: &str) -> Option<Self> {
        let (recursive, plain) = match word.strip_prefix('r') {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        let flag = match plain {
            "shared" => 1 << 20,
            "slave" => 1 << 19,
            "private" => 1 << 18,
            "unbindable" => 1 << 17,
            _ => return None,
        };
        Some(Self { flag, recursive })
    }

    /// The word that it came from.
    pub fn word(self) -> &'static str {
        match (self.flag >> 17, self.recursive) {
            (8, false) => "shared",
            (8, true) => "rshared",
            (4, false) => "slave",
            (4, true) => "rslave",
            (2, false) => "private",
            (2, true) => "rprivate",
            (_, false) => "unbindable",
            (_, true) => "runbindable",
        }
    }
}

/// Mount attributes to set and to clear, as `MOUNT_ATTR_*` bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// To set.
    pub set: u64,
    /// To clear; access time modes are cleared as one mask before one is set.
    pub clear: u64,
}

impl Attributes {
    fn apply(&mut self, set: u64, clear: u64) {
        self.set = (self.set & !clear) | set;
        self.clear = (self.clear & !set) | clear;
    }

    /// Nothing to do.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// An id-mapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idmap {
    /// Its own maps, or the container's when there are none.
    pub maps: Option<IdMaps>,
    /// The whole tree.
    pub recursive: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A directory or file of the host.
    Bind {
        /// On the host, absolute.
        source: CString,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A new file system.
    New {
        /// As in /proc/filesystems.
        fstype: CString,
        /// Shown in /proc/mounts; for most types only a word.
        source: CString,
        /// Settings of the file system.
        settings: Vec<(CString, Option<CString>)>,
    },
    /// The container's cgroup.
    Cgroup,
    /// Only the attributes of what is mounted there already.
    Remount,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// In the container, cleaned.
    pub target: CString,
    /// What goes there.
    pub what: What,
    /// Of this mount.
    pub attributes: Attributes,
    /// Of this mount and all below it.
    pub recursive_attributes: Attributes,
    /// Asked for, else private.
    pub propagation: Option<Propagation>,
    /// Id-mapped.
    pub idmap: Option<Idmap>,
}

enum Effect {
    Attr { set: u64, clear: u64 },
    Recursive { set: u64, clear: u64 },
    Superblock(&'static str),
    Bind { recursive: bool },
    Remount,
    Idmap { recursive: bool },
    NotDone,
    Nothing,
}

/// Every option that is not data, and what it does. `docs` and `features` read the names from here.
const OPTIONS: &[(&str, Effect)] = {
    use Effect::{Attr, Bind, Idmap, NotDone, Nothing, Recursive, Remount, Superblock};
    &[
        ("acl", Superblock("acl")),
        ("async", Nothing),
        (
            "atime",
            Attr {
                set: 0,
                clear: bit::ATIME,
            },
        ),
        ("bind", Bind { recursive: false }),
        ("defaults", Nothing),
        (
            "dev",
            Attr {
                set: 0,
                clear: bit::NODEV,
            },
        ),
        (
            "diratime",
            Attr {
                set: 0,
                clear: bit::NODIRATIME,
            },
        ),
        ("dirsync", Superblock("dirsync")),
        (
            "exec",
            Attr {
                set: 0,
                clear: bit::NOEXEC,
            },
        ),
        ("idmap", Idmap { recursive: false }),
        ("iversion", Superblock("iversion")),
        ("lazytime", Superblock("lazytime")),
        ("loud", Nothing),
        ("mand", Superblock("mand")),
        (
            "noatime",
            Attr {
                set: bit::NOATIME,
                clear: bit::ATIME,
            },
        ),
        (
            "nodev",
            Attr {
                set: bit::NODEV,
                clear: 0,
            },
        ),
        (
            "nodiratime",
            Attr {
                set: bit::NODIRATIME,
                clear: 0,
            },
        ),
        (
            "noexec",
            Attr {
                set: bit::NOEXEC,
                clear: 0,
            },
        ),
        ("noiversion", Nothing),
        ("nolazytime", Nothing),
        ("nomand", Nothing),
        (
            "norelatime",
            Attr {
                set: 0,
                clear: bit::ATIME,
            },
        ),
        (
            "nostrictatime",
            Attr {
                set: 0,
                clear: bit::ATIME,
            },
        ),
        (
            "nosuid",
            Attr {
                set: bit::NOSUID,
                clear: 0,
            },
        ),
        (
            "nosymfollow",
            Attr {
                set: bit::NOSYMFOLLOW,
                clear: 0,
            },
        ),
        (
            "ratime",
            Recursive {
                set: 0,
                clear: bit::ATIME,
            },
        ),
        ("rbind", Bind { recursive: true }),
        (
            "rdev",
            Recursive {
                set: 0,
                clear: bit::NODEV,
            },
        ),
        (
            "rdiratime",
            Recursive {
                set: 0,
                clear: bit::NODIRATIME,
            },
        ),
        (
            "relatime",
            Attr {
                set: 0,
                clear: bit::ATIME,
            },
        ),
        ("remount", Remount),
        (
            "rexec",
            Recursive {
                set: 0,
                clear: bit::NOEXEC,
            },
        ),
        ("ridmap", Idmap { recursive: true }),
        (
            "rnoatime",
            Recursive {
                set: bit::NOATIME,
                clear: bit::ATIME,
            },
        ),
        (
            "rnodev",
            Recursive {
                set: bit::NODEV,
                clear: 0,
            },
        ),
        (
            "rnodiratime",
            Recursive {
                set: bit::NODIRATIME,
                clear: 0,
            },
        ),
        (
            "rnoexec",
            Recursive {
                set: bit::NOEXEC,
                clear: 0,
            },
        ),
        (
            "rnorelatime",
            Recursive {
                set: 0,
                clear: bit::ATIME,
            },
        ),
        (
            "rnostrictatime",
            Recursive {
                set: 0,
                clear: bit::ATIME,
            },
        ),
        (
            "rnosuid",
            Recursive {
                set: bit::NOSUID,
                clear: 0,
            },
        ),
        (
            "rnosymfollow",
            Recursive {
                set: bit::NOSYMFOLLOW,
                clear: 0,
            },
        ),
        (
            "ro",
            Attr {
                set: bit::RDONLY,
                clear: 0,
            },
        ),
        (
            "rrelatime",
            Recursive {
                set: 0,
                clear: bit::ATIME,
            },
        ),
        (
            "rro",
            Recursive {
                set: bit::RDONLY,
                clear: 0,
            },
        ),
        (
            "rrw",
            Recursive {
                set: 0,
                clear: bit::RDONLY,
            },
        ),
        (
            "rstrictatime",
            Recursive {
                set: bit::STRICTATIME,
                clear: bit::ATIME,
            },
        ),
        (
            "rsuid",
            Recursive {
                set: 0,
                clear: bit::NOSUID,
            },
        ),
        (
            "rsymfollow",
            Recursive {
                set: 0,
                clear: bit::NOSYMFOLLOW,
            },
        ),
        (
            "rw",
            Attr {
                set: 0,
                clear: bit::RDONLY,
            },
        ),
        ("silent", Nothing),
        (
            "strictatime",
            Attr {
                set: bit::STRICTATIME,
                clear: bit::ATIME,
            },
        ),
        (
            "suid",
            Attr {
                set: 0,
                clear: bit::NOSUID,
            },
        ),
        (
            "symfollow",
            Attr {
                set: 0,
                clear: bit::NOSYMFOLLOW,
            },
        ),
        ("sync", Superblock("sync")),
        ("tmpcopyup", NotDone),
    ]
};

/// The words for propagation, which are options too.
const PROPAGATIONS: [&str; 8] = [
    "private",
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
    "shared",
    "slave",
    "unbindable",
];

/// The names of all options that are understood, sorted.
pub fn option_names() -> Vec<&'static str> {
    let done = OPTIONS
        .iter()
        .filter(|(_, effect)| !matches!(effect, Effect::NotDone));
    let mut names: Vec<_> = done.map(|(name, _)| *name).chain(PROPAGATIONS).collect();
    names.sort_unstable();
    names
}

/// All mounts of a configuration.
///
/// # Errors
/// One that names the mount by its number and destination.
pub fn all(spec: &Spec, bundle: &Path, namespaces: &Namespaces) -> Result<Vec<Mount>> {
    let wire = spec.mounts().as_deref().unwrap_or_default();
    wire.iter()
        .enumerate()
        .map(|(index, mount)| {
            one(mount, bundle, namespaces)
                .with_context(|| format!("mounts[{index}]: {}", mount.destination().display()))
        })
        .collect()
}

/// The options of one mount, sorted by what they do.
#[derive(Default)]
struct Options {
    attributes: Attributes,
    recursive_attributes: Attributes,
    propagation: Option<Propagation>,
    bind: Option<bool>,
    remount: bool,
    idmap: Option<bool>,
    settings: Vec<(CString, Option<CString>)>,
}

impl Options {
    fn read(words: &[String]) -> Result<Self> {
        let mut options = Self::default();
        for word in words.iter().filter(|word| !word.is_empty()) {
            options.add(word)?;
        }
        Ok(options)
    }

    fn add(&mut self, word: &str) -> Result<()> {
        if let Some(propagation) = Propagation::from_word(word) {
            self.propagation = Some(propagation);
            return Ok(());
        }
        let Ok(index) = OPTIONS.binary_search_by_key(&word, |(name, _)| *name) else {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(c_string("options", value)?)),
                None => (word, None),
            };
            self.settings.push((c_string("options", key)?, value));
            return Ok(());
        };
        match OPTIONS[index].1 {
            Effect::Attr { set, clear } => self.attributes.apply(set, clear),
            Effect::Recursive { set, clear } => self.recursive_attributes.apply(set, clear),
            Effect::Superblock(name) => self.settings.push((c_string("options", name)?, None)),
            Effect::Bind { recursive } => self.bind = Some(recursive || self.bind == Some(true)),
            Effect::Remount => self.remount = true,
            Effect::Idmap { recursive } => self.idmap = Some(recursive || self.idmap == Some(true)),
            Effect::NotDone => bail!("option `{word}`: not supported by this version of seedpod"),
            Effect::Nothing => {}
        }
        Ok(())
    }
}

fn one(mount: &WireMount, bundle: &Path, namespaces: &Namespaces) -> Result<Mount> {
    let target = container_path("destination", mount.destination())?;
    ensure!(
        target.as_bytes() != b"/",
        "the destination is the root itself"
    );
    let options = Options::read(mount.options().as_deref().unwrap_or_default())?;
    let fstype = mount.typ().as_deref().unwrap_or_default();
    let what = what(mount, fstype, &options, bundle)?;
    let maps = IdMaps::new(
        "",
        mount.uid_mappings().as_deref(),
        mount.gid_mappings().as_deref(),
    )?;
    let idmap = match (options.idmap, maps) {
        (None, None) => None,
        (Some(_), None) if !namespaces.has_user() => {
            bail!("option `idmap`: there are neither uidMappings nor a user namespace")
        }
        // Mappings alone mean `idmap`: containerd sends them without the option.
        (option, maps) => Some(Idmap {
            maps,
            recursive: option.unwrap_or(false),
        }),
    };
    ensure!(
        idmap.is_none() || matches!(what, What::Bind { .. }),
        "idmap: only bind mounts can be id-mapped by this version of seedpod"
    );
    Ok(Mount {
        target,
        what,
        attributes: options.attributes,
        recursive_attributes: options.recursive_attributes,
        propagation: options.propagation,
        idmap,
    })
}

fn what(mount: &WireMount, fstype: &str, options: &Options, bundle: &Path) -> Result<What> {
    if options.remount {
        return Ok(What::Remount);
    }
    if options.bind.is_some() || fstype == "bind" {
        let source = mount
            .source()
            .as_deref()
            .filter(|source| !source.as_os_str().is_empty());
        let source = source.context("source: missing in a bind mount")?;
        if let Some((key, _)) = options.settings.first() {
            let key = key.to_string_lossy();
            bail!("option `{key}`: not an option of bind mounts");
        }
        let source = c_path("source", &bundle.join(source))?;
        return Ok(What::Bind {
            source,
            recursive: options.bind == Some(true),
        });
    }
    match fstype {
        "" => bail!("type: missing, and it is no bind mount"),
        "cgroup" | "cgroup2" => Ok(What::Cgroup),
        fstype => {
            let source = mount.source().as_deref().unwrap_or(Path::new(fstype));
            Ok(What::New {
                fstype: c_string("type", fstype)?,
                source: c_path("source", source)?,
                settings: options.settings.clone(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(text: &str) -> Result<Mount> {
        let linux: oci_spec::runtime::Linux =
            serde_json::from_str(r#"{"namespaces":[{"type":"mount"}]}"#).unwrap();
        let wire: WireMount = serde_json::from_str(text).unwrap();
        one(
            &wire,
            Path::new("/bundle"),
            &Namespaces::new(&linux).unwrap(),
        )
    }

    #[test]
    fn option_table_is_sorted_for_the_search() {
        assert!(OPTIONS.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn later_options_win() {
        let it = mount(
            r#"{"destination":"/a","type":"tmpfs","options":["ro","rw","noatime","strictatime"]}"#,
        )
        .unwrap();
        assert_eq!(it.attributes.set, bit::STRICTATIME);
        assert_eq!(it.attributes.clear & bit::RDONLY, bit::RDONLY);
    }

    #[test]
    fn data_options_go_to_the_file_system() {
        let it = mount(r#"{"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","mode=1777","size=64k","huge"]}"#).unwrap();
        let What::New { settings, .. } = it.what else {
            panic!()
        };
        assert_eq!(settings.len(), 3);
        assert_eq!(settings[0], (c"mode".to_owned(), Some(c"1777".to_owned())));
        assert_eq!(settings[2], (c"huge".to_owned(), None));
    }

    #[test]
    fn relative_bind_source_starts_at_the_bundle() {
        let it = mount(r#"{"destination":"/a","source":"data","options":["rbind"]}"#).unwrap();
        assert_eq!(
            it.what,
            What::Bind {
                source: c"/bundle/data".to_owned(),
                recursive: true
            }
        );
    }

    #[test]
    fn mappings_alone_mean_idmap() {
        let it = mount(
            r#"{"destination":"/a","source":"/b","options":["bind"],
            "uidMappings":[{"containerID":0,"hostID":65536,"size":10}],
            "gidMappings":[{"containerID":0,"hostID":65536,"size":10}]}"#,
        )
        .unwrap();
        assert!(!it.idmap.unwrap().recursive);
    }

    #[test]
    fn wrong_mounts_are_refused() {
        for (text, part) in [
            (r#"{"destination":"/","type":"tmpfs"}"#, "root itself"),
            (r#"{"destination":"/a"}"#, "type: missing"),
            (
                r#"{"destination":"/a","options":["bind"]}"#,
                "source: missing",
            ),
            (
                r#"{"destination":"/a","source":"/b","options":["bind","idmap"]}"#,
                "neither uidMappings",
            ),
            (
                r#"{"destination":"/a","source":"/b","options":["bind","mode=1"]}"#,
                "not an option of bind",
            ),
            (
                r#"{"destination":"/a","type":"tmpfs","options":["tmpcopyup"]}"#,
                "not supported by this version",
            ),
        ] {
            let error = format!("{:#}", mount(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
