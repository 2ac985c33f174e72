//! Namespaces and id mappings (config-linux.md, Namespaces and User namespace mappings).

use std::ffi::CString;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::text::c_path;

/// A kind of namespace (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the kernel's")]
pub enum Kind {
    User,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

impl Kind {
    /// All kinds, in the order in which new ones are told.
    pub const ALL: [Kind; 8] = [
        Kind::User,
        Kind::Mount,
        Kind::Pid,
        Kind::Network,
        Kind::Ipc,
        Kind::Uts,
        Kind::Cgroup,
        Kind::Time,
    ];

    /// Its `CLONE_NEW*` flag.
    pub const fn flag(self) -> u64 {
        match self {
            Kind::User => 0x1000_0000,
            Kind::Mount => 0x0002_0000,
            Kind::Pid => 0x2000_0000,
            Kind::Network => 0x4000_0000,
            Kind::Ipc => 0x0800_0000,
            Kind::Uts => 0x0400_0000,
            Kind::Cgroup => 0x0200_0000,
            Kind::Time => 0x0000_0080,
        }
    }

    /// runtime-spec's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Mount => "mount",
            Kind::Pid => "pid",
            Kind::Network => "network",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
        }
    }

    /// The name of its file in /proc/PID/ns.
    pub const fn file(self) -> &'static str {
        match self {
            Kind::Mount => "mnt",
            Kind::Network => "net",
            other => other.word(),
        }
    }
}

impl From<LinuxNamespaceType> for Kind {
    fn from(kind: LinuxNamespaceType) -> Self {
        match kind {
            LinuxNamespaceType::Mount => Kind::Mount,
            LinuxNamespaceType::Cgroup => Kind::Cgroup,
            LinuxNamespaceType::Uts => Kind::Uts,
            LinuxNamespaceType::Ipc => Kind::Ipc,
            LinuxNamespaceType::User => Kind::User,
            LinuxNamespaceType::Pid => Kind::Pid,
            LinuxNamespaceType::Network => Kind::Network,
            LinuxNamespaceType::Time => Kind::Time,
        }
    }
}

/// Where a container's namespace of some kind comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    /// The caller's.
    Host,
    /// Made for this container.
    New,
    /// Joined: a path on the host.
    Path(CString),
}

/// One line of a uid_map or gid_map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdMapping {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Both maps of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdMaps {
    /// Lines of uid_map.
    pub uids: Vec<IdMapping>,
    /// Lines of gid_map.
    pub gids: Vec<IdMapping>,
}

impl IdMaps {
    /// The maps of two lists of the configuration; both or none.
    ///
    /// # Errors
    /// When one is missing, a line is empty or too long, or lines overlap.
    pub fn new(
        what: &str,
        uids: Option<&[LinuxIdMapping]>,
        gids: Option<&[LinuxIdMapping]>,
    ) -> Result<Option<Self>> {
        let (uids, gids) = (uids.unwrap_or_default(), gids.unwrap_or_default());
        if uids.is_empty() && gids.is_empty() {
            return Ok(None);
        }
        ensure!(
            !uids.is_empty() && !gids.is_empty(),
            "{what}: uidMappings and gidMappings go together; one of them is empty"
        );
        let maps = Self {
            uids: lines(uids).with_context(|| format!("{what}: uidMappings"))?,
            gids: lines(gids).with_context(|| format!("{what}: gidMappings"))?,
        };
        Ok(Some(maps))
    }
}

fn lines(list: &[LinuxIdMapping]) -> Result<Vec<IdMapping>> {
    let lines: Vec<_> = list
        .iter()
        .map(|line| IdMapping {
            inside: line.container_id(),
            outside: line.host_id(),
            count: line.size(),
        })
        .collect();
    ensure!(
        lines.len() <= 340,
        "more than 340 lines (user_namespaces(7))"
    );
    for line in &lines {
        ensure!(line.count > 0, "a line has size 0");
        let fits = |start: u32| {
            start
                .checked_add(line.count - 1)
                .is_some_and(|last| last < u32::MAX)
        };
        ensure!(
            fits(line.inside) && fits(line.outside),
            "a line goes beyond the last id, 4294967294"
        );
    }
    let overlap = |first: u32, count: u32, other: u32| {
        u64::from(other) >= u64::from(first)
            && u64::from(other) < u64::from(first) + u64::from(count)
    };
    for (index, line) in lines.iter().enumerate() {
        for (other_index, other) in lines.iter().enumerate() {
            if index != other_index
                && (overlap(line.inside, line.count, other.inside)
                    || overlap(line.outside, line.count, other.outside))
            {
                bail!("two lines overlap");
            }
        }
    }
    Ok(lines)
}

/// An offset of a clock in a time namespace (time_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: &'static str,
    /// Whole seconds, may be negative.
    pub seconds: i64,
    /// Less than 10^9.
    pub nanoseconds: u32,
}

/// All namespaces of a container.
#[derive(Debug, Clone)]
pub struct Namespaces {
    all: [Namespace; 8],
    /// The maps of a new user namespace, or what a joined one must have.
    pub maps: Option<IdMaps>,
    /// Of a new time namespace.
    pub time_offsets: Vec<TimeOffset>,
}

impl Namespaces {
    /// From `linux.namespaces` and what belongs to them.
    ///
    /// # Errors
    /// When a kind stands twice, a path is relative, no mount namespace is asked for, or mappings
    /// and offsets have no namespace that they could be for.
    pub fn new(linux: &Linux) -> Result<Self> {
        let mut all = [const { Namespace::Host }; 8];
        for namespace in linux.namespaces().iter().flatten() {
            let kind = Kind::from(namespace.typ());
            let what = format!("linux.namespaces: {}", kind.word());
            let place = &mut all[kind as usize];
            ensure!(*place == Namespace::Host, "{what}: stands there twice");
            *place = match namespace.path() {
                None => Namespace::New,
                Some(path) if path.as_os_str().is_empty() => Namespace::New,
                Some(path) => {
                    ensure!(
                        path.is_absolute(),
                        "{what}: path `{}` is not absolute",
                        path.display()
                    );
                    Namespace::Path(c_path(&what, path)?)
                }
            };
        }
        let namespaces = Self {
            maps: IdMaps::new(
                "linux",
                linux.uid_mappings().as_deref(),
                linux.gid_mappings().as_deref(),
            )?,
            time_offsets: time_offsets(linux)?,
            all,
        };
        namespaces.check()?;
        Ok(namespaces)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            *self.get(Kind::Mount) == Namespace::New,
            "linux.namespaces: a new mount namespace is needed: without one, the container's mounts \
             would be the host's"
        );
        match (self.get(Kind::User), &self.maps) {
            (Namespace::Host, Some(_)) => bail!("linux.uidMappings: there is no user namespace"),
            (Namespace::New, None) => {
                bail!("linux.uidMappings: a new user namespace needs uidMappings and gidMappings")
            }
            _ => {}
        }
        ensure!(
            self.time_offsets.is_empty() || *self.get(Kind::Time) == Namespace::New,
            "linux.timeOffsets: needs a new time namespace"
        );
        Ok(())
    }

    /// The one of this kind.
    pub fn get(&self, kind: Kind) -> &Namespace {
        &self.all[kind as usize]
    }

    /// Whether the container has a user namespace other than the caller's.
    pub fn has_user(&self) -> bool {
        *self.get(Kind::User) != Namespace::Host
    }

    /// The kinds that are made new.
    pub fn new_kinds(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL
            .into_iter()
            .filter(|kind| *self.get(*kind) == Namespace::New)
    }

    /// The kinds that are joined, with their paths.
    pub fn joined(&self) -> impl Iterator<Item = (Kind, &CString)> {
        Kind::ALL
            .into_iter()
            .filter_map(|kind| match self.get(kind) {
                Namespace::Path(path) => Some((kind, path)),
                _ => None,
            })
    }
}

fn time_offsets(linux: &Linux) -> Result<Vec<TimeOffset>> {
    let mut sorted: Vec<_> = linux.time_offsets().iter().flatten().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut result = Vec::new();
    for (name, offset) in sorted {
        let clock = match name.as_str() {
            "monotonic" => "monotonic",
            "boottime" => "boottime",
            other => bail!("linux.timeOffsets: `{other}` is neither monotonic nor boottime"),
        };
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        ensure!(
            nanoseconds < 1_000_000_000,
            "linux.timeOffsets.{name}: nanosecs is a second or more"
        );
        result.push(TimeOffset {
            clock,
            seconds: offset.secs().unwrap_or(0),
            nanoseconds,
        });
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(text: &str) -> Result<Namespaces> {
        Namespaces::new(&serde_json::from_str(text).unwrap())
    }

    fn error(text: &str) -> String {
        format!("{:#}", namespaces(text).unwrap_err())
    }

    #[test]
    fn new_joined_and_host_are_told_apart() {
        let it = namespaces(r#"{"namespaces":[{"type":"mount"},{"type":"network","path":"/a"}]}"#)
            .unwrap();
        assert_eq!(*it.get(Kind::Mount), Namespace::New);
        assert_eq!(*it.get(Kind::Network), Namespace::Path(c"/a".to_owned()));
        assert_eq!(*it.get(Kind::Pid), Namespace::Host);
    }

    #[test]
    fn duplicate_kind_is_refused() {
        assert!(
            error(r#"{"namespaces":[{"type":"mount"},{"type":"mount"}]}"#)
                .contains("mount: stands there twice")
        );
    }

    #[test]
    fn relative_path_is_refused() {
        assert!(
            error(r#"{"namespaces":[{"type":"pid","path":"a"}]}"#).contains("`a` is not absolute")
        );
    }

    #[test]
    fn user_namespace_needs_both_maps() {
        let text = r#"{"namespaces":[{"type":"mount"},{"type":"user"}],
            "uidMappings":[{"containerID":0,"hostID":1,"size":1}]}"#;
        assert!(error(text).contains("go together"));
        assert!(
            error(r#"{"namespaces":[{"type":"mount"},{"type":"user"}]}"#)
                .contains("needs uidMappings")
        );
    }

    #[test]
    fn bad_map_lines_are_refused() {
        for (lines, part) in [
            (r#"[{"containerID":0,"hostID":1,"size":0}]"#, "size 0"),
            (
                r#"[{"containerID":0,"hostID":4294967295,"size":1}]"#,
                "beyond the last id",
            ),
            (
                r#"[{"containerID":0,"hostID":1,"size":5},{"containerID":4,"hostID":10,"size":1}]"#,
                "overlap",
            ),
        ] {
            let text = format!(
                r#"{{"namespaces":[{{"type":"mount"}},{{"type":"user"}}],"uidMappings":{lines},"gidMappings":{lines}}}"#
            );
            assert!(error(&text).contains(part), "{lines}");
        }
    }

    #[test]
    fn time_offsets_need_a_new_time_namespace() {
        let text = r#"{"namespaces":[{"type":"mount"},{"type":"time","path":"/a"}],
            "timeOffsets":{"monotonic":{"secs":1}}}"#;
        assert!(error(text).contains("needs a new time namespace"));
    }
}
