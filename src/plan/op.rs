//! The whole vocabulary of a plan, on one page.
//!
//! [`Open`] is what the parent does before the child exists, [`Op`] what the child does, in order.
//! Each operation is one thing that can succeed or fail as a whole; how it is done is in `launch`
//! and `child`. `Display` of both is what `explain` prints and what an error begins with.

use std::ffi::CString;
use std::fmt;

use crate::spec::devices::NodeKind;
use crate::spec::mounts::{Attributes, Propagation};
use crate::spec::namespaces::{IdMaps, Kind};
use crate::spec::process::Rlimit;
use crate::sys::process::ExecStrings;

/// A numbered place for one descriptor, filled by the parent or by an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(pub usize);

/// Opened by the parent, on the host, before the child exists.
#[derive(Debug, Clone)]
pub enum Open {
    /// /proc of the host, checked to be procfs: the child's way to its own settings.
    Proc {
        /// Where it goes.
        slot: Slot,
    },
    /// A namespace file, checked to be of that kind.
    Namespace {
        /// On the host.
        path: CString,
        /// Which it must be.
        kind: Kind,
        /// Where it goes.
        slot: Slot,
    },
    /// A user namespace that has these maps and nothing else: for an id-mapped mount.
    IdmapNamespace {
        /// Its maps.
        maps: IdMaps,
        /// Where it goes.
        slot: Slot,
    },
    /// A detached copy of a mount of the host.
    Tree(Tree),
    /// A device node of the host, checked, as a detached mount.
    Node {
        /// On the host.
        path: CString,
        /// Which it must be.
        kind: NodeKind,
        /// Its number.
        number: u64,
        /// Where it goes.
        slot: Slot,
    },
    /// The container's cgroup directory, as a detached mount.
    CgroupTree {
        /// Of the mount.
        attributes: u64,
        /// Where it goes.
        slot: Slot,
    },
    /// Given by the caller: a standard stream, the start socket, a program in memory.
    Given {
        /// What it is.
        name: &'static str,
        /// Where it goes.
        slot: Slot,
    },
}

/// A detached copy of a mount of the host.
#[derive(Debug, Clone)]
pub struct Tree {
    /// What for, as an error says it: `root file system`, `bind mount for /data`.
    pub purpose: String,
    /// On the host.
    pub path: CString,
    /// With the mounts below it.
    pub recursive: bool,
    /// Of the mount itself.
    pub attributes: Attributes,
    /// Of the mount and all below it.
    pub recursive_attributes: Attributes,
    /// Always set: what is not asked for is private.
    pub propagation: Propagation,
    /// The user namespace of an id-mapped mount, and whether the whole tree is mapped.
    pub idmap: Option<(Slot, bool)>,
    /// Where it goes.
    pub slot: Slot,
}

/// The program that the last operation executes.
#[derive(Debug, Clone)]
pub enum Program {
    /// The first argument, looked up in the container as execvp(3) does.
    Args,
    /// An open file.
    File(Slot),
}

/// One operation of the child.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "Display says what each one does")]
pub enum Op {
    JoinNamespace {
        slot: Slot,
        kind: Kind,
    },
    JoinRemaining,
    CheckIdMaps {
        proc: Slot,
        maps: IdMaps,
    },
    JoinProcess {
        slot: Slot,
        flags: u64,
    },
    BecomeRoot,
    Unshare {
        flags: u64,
    },
    CloneChild {
        flags: u64,
    },
    AwaitGo,
    NewSession,
    JoinKeyring {
        name: CString,
    },
    LoopbackUp,
    Hostname {
        name: CString,
    },
    Domainname {
        name: CString,
    },
    MakeMountsPrivate,
    NewFileSystem(NewFileSystem),
    AttachRoot {
        slot: Slot,
    },
    PivotRoot,
    DetachHost,
    Attach {
        slot: Slot,
        target: CString,
        ordinary: bool,
    },
    SetPropagation {
        target: CString,
        propagation: Propagation,
    },
    SetAttributes {
        target: CString,
        attributes: Attributes,
        recursive: bool,
    },
    MakeNode {
        path: CString,
        kind: NodeKind,
        number: u64,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    MakeSymlink {
        path: CString,
        target: CString,
    },
    OpenTerminal {
        slot: Slot,
        size: Option<(u16, u16)>,
        uid: u32,
    },
    AttachConsole {
        slot: Slot,
    },
    UseTerminal {
        slot: Slot,
    },
    UseStream {
        slot: Slot,
        number: i32,
    },
    SetSysctl {
        proc: Slot,
        file: CString,
        value: CString,
    },
    MaskPath {
        path: CString,
        null: Slot,
        empty: Slot,
    },
    ReadonlyPath {
        path: CString,
    },
    MakeDirectory {
        path: CString,
    },
    FindHome {
        uid: u32,
    },
    CheckProgram,
    Ready,
    AwaitStart {
        slot: Slot,
    },
    Personality {
        persona: u32,
    },
    ChangeDirectory {
        path: CString,
    },
    SetRlimit(Rlimit),
    LimitBounding {
        keep: u64,
    },
    SetGroups {
        groups: Vec<u32>,
    },
    SetGid {
        gid: u32,
    },
    SetUid {
        uid: u32,
    },
    SetUmask {
        mask: u32,
    },
    RaisePermitted,
    SetCapabilities {
        effective: u64,
        permitted: u64,
        inheritable: u64,
    },
    SetAmbient {
        ambient: u64,
    },
    NoNewPrivileges,
    CloseOnExec {
        first: u32,
    },
    ResetSignals,
    LoadSeccomp {
        program: Vec<crate::seccomp::sock_filter>,
        flags: u32,
    },
    Execute(Program),
}

/// A new file system, made as a detached mount.
#[derive(Debug, Clone)]
pub struct NewFileSystem {
    /// As in /proc/filesystems.
    pub fstype: CString,
    /// Shown in /proc/mounts.
    pub source: CString,
    /// Keys, with values or without.
    pub settings: Vec<(CString, Option<CString>)>,
    /// `MOUNT_ATTR_*`.
    pub attributes: u64,
    /// What for: the target in the container.
    pub purpose: String,
    /// Where it goes.
    pub slot: Slot,
}

/// What the operations say besides their own fields.
#[derive(Debug, Clone)]
pub struct Strings {
    /// argv of the program.
    pub args: ExecStrings,
    /// Its environment.
    pub env: ExecStrings,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A C string as text.
pub fn show(text: &std::ffi::CStr) -> std::borrow::Cow<'_, str> {
    text.to_string_lossy()
}

/// The names of `CLONE_NEW*` bits, separated by commas.
pub fn kinds(flags: u64) -> String {
    let names: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|kind| flags & kind.flag() != 0)
        .map(Kind::word)
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn attribute_words(attributes: Attributes) -> String {
    const NAMES: [(u64, &str, &str); 8] = [
        (0x1, "ro", "rw"),
        (0x2, "nosuid", "suid"),
        (0x4, "nodev", "dev"),
        (0x8, "noexec", "exec"),
        (0x10, "noatime", ""),
        (0x20, "strictatime", ""),
        (0x80, "nodiratime", "diratime"),
        (0x20_0000, "nosymfollow", "symfollow"),
    ];
    let mut words = Vec::new();
    for (bit, set, clear) in NAMES {
        if attributes.set & bit != 0 {
            words.push(set);
        } else if attributes.clear & bit != 0 && !clear.is_empty() {
            words.push(clear);
        }
    }
    words.join(",")
}

fn capability_words(mask: u64) -> String {
    match mask {
        0 => "none".to_owned(),
        u64::MAX => "all".to_owned(),
        mask => {
            let names: Vec<_> = (0..64)
                .filter(|number| mask & (1 << number) != 0)
                .map(|number| crate::spec::process::name_of(number).replace("CAP_", ""))
                .collect();
            names.join(" ")
        }
    }
}

fn map_words(maps: &IdMaps) -> String {
    let lines = |list: &[crate::spec::namespaces::IdMapping]| {
        let words: Vec<_> = list
            .iter()
            .map(|it| format!("{}:{}:{}", it.inside, it.outside, it.count))
            .collect();
        words.join(" ")
    };
    format!("uids {} gids {}", lines(&maps.uids), lines(&maps.gids))
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Open::Proc { slot } => write!(f, "open /proc -> {slot}"),
            Open::Namespace { path, kind, slot } => {
                write!(f, "open {} namespace {} -> {slot}", kind.word(), show(path))
            }
            Open::IdmapNamespace { maps, slot } => {
                write!(
                    f,
                    "make a user namespace for id-mapped mounts: {} -> {slot}",
                    map_words(maps)
                )
            }
            Open::Tree(tree) => write!(f, "{tree}"),
            Open::Node {
                path,
                kind,
                number,
                slot,
            } => {
                let (major, minor) = (libc::major(*number), libc::minor(*number));
                write!(
                    f,
                    "copy device {} ({} {major}:{minor}) -> {slot}",
                    show(path),
                    kind.letter()
                )
            }
            Open::CgroupTree { attributes, slot } => {
                let words = attribute_words(Attributes {
                    set: *attributes,
                    clear: 0,
                });
                write!(
                    f,
                    "copy the mount of the container's cgroup, {words} -> {slot}"
                )
            }
            Open::Given { name, slot } => write!(f, "{name} -> {slot}"),
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "copy the mount at {} for {}",
            show(&self.path),
            self.purpose
        )?;
        if self.recursive {
            f.write_str(", with mounts below")?;
        }
        if !self.attributes.is_empty() {
            write!(f, ", {}", attribute_words(self.attributes))?;
        }
        if !self.recursive_attributes.is_empty() {
            write!(f, ", all {}", attribute_words(self.recursive_attributes))?;
        }
        write!(f, ", {}", self.propagation.word())?;
        if let Some((slot, recursive)) = self.idmap {
            write!(
                f,
                ", {} by {slot}",
                if recursive { "ridmap" } else { "idmap" }
            )?;
        }
        write!(f, " -> {}", self.slot)
    }
}

impl fmt::Display for NewFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make {} for {}", show(&self.fstype), self.purpose)?;
        for (key, value) in &self.settings {
            write!(f, ", {}", show(key))?;
            if let Some(value) = value {
                write!(f, "={}", show(value))?;
            }
        }
        let words = attribute_words(Attributes {
            set: self.attributes,
            clear: 0,
        });
        if !words.is_empty() {
            write!(f, ", {words}")?;
        }
        write!(f, " -> {}", self.slot)
    }
}

impl fmt::Display for Op {
    #[allow(
        clippy::too_many_lines,
        reason = "a table: one line for each operation"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::JoinNamespace { slot, kind } => write!(f, "join {} namespace {slot}", kind.word()),
            Op::JoinRemaining => f.write_str("join what only the user namespace may join"),
            Op::CheckIdMaps { maps, .. } => {
                write!(
                    f,
                    "check that the joined user namespace maps {}",
                    map_words(maps)
                )
            }
            Op::JoinProcess { slot, flags } => {
                write!(f, "join namespaces of process {slot}: {}", kinds(*flags))
            }
            Op::BecomeRoot => f.write_str("become root of the user namespace"),
            Op::Unshare { flags } => write!(f, "new namespaces: {}", kinds(*flags)),
            Op::CloneChild { flags } => {
                write!(
                    f,
                    "clone the container's first process, new namespaces: {}",
                    kinds(*flags)
                )
            }
            Op::AwaitGo => f.write_str("wait for the parent"),
            Op::NewSession => f.write_str("start a new session"),
            Op::JoinKeyring { name } => write!(f, "new session keyring {}", show(name)),
            Op::LoopbackUp => f.write_str("set lo up"),
            Op::Hostname { name } => write!(f, "set hostname {}", show(name)),
            Op::Domainname { name } => write!(f, "set domainname {}", show(name)),
            Op::MakeMountsPrivate => f.write_str("make the copied mounts private"),
            Op::NewFileSystem(new) => write!(f, "{new}"),
            Op::AttachRoot { slot } => write!(f, "attach root file system {slot}"),
            Op::PivotRoot => f.write_str("pivot to the root file system"),
            Op::DetachHost => f.write_str("detach the host's mounts"),
            Op::Attach {
                slot,
                target,
                ordinary,
            } => {
                let how = if *ordinary {
                    " (must be an ordinary directory)"
                } else {
                    ""
                };
                write!(f, "mount {slot} at {}{how}", show(target))
            }
            Op::SetPropagation {
                target,
                propagation,
            } => {
                write!(f, "make {} {}", show(target), propagation.word())
            }
            Op::SetAttributes {
                target,
                attributes,
                recursive,
            } => {
                let below = if *recursive { " and all below it" } else { "" };
                write!(
                    f,
                    "make the mount at {}{below} {}",
                    show(target),
                    attribute_words(*attributes)
                )
            }
            Op::MakeNode {
                path,
                kind,
                number,
                mode,
                uid,
                gid,
            } => {
                let (major, minor) = (libc::major(*number), libc::minor(*number));
                let (path, letter) = (show(path), kind.letter());
                write!(
                    f,
                    "make node {path} ({letter} {major}:{minor} {mode:04o} {uid}:{gid})"
                )
            }
            Op::MakeSymlink { path, target } => {
                write!(f, "make symbolic link {} -> {}", show(path), show(target))
            }
            Op::OpenTerminal { slot, size, uid } => {
                write!(f, "open a terminal for uid {uid}")?;
                if let Some((rows, columns)) = size {
                    write!(f, ", {columns}x{rows}")?;
                }
                write!(f, " -> {slot}")
            }
            Op::AttachConsole { slot } => write!(f, "mount terminal {slot} at /dev/console"),
            Op::UseTerminal { slot } => write!(f, "use terminal {slot} as standard streams"),
            Op::UseStream { slot, number } => write!(f, "use {slot} as descriptor {number}"),
            Op::SetSysctl { file, value, .. } => {
                write!(f, "write {} to /proc/{}", show(value), show(file))
            }
            Op::MaskPath { path, .. } => write!(f, "mask {}", show(path)),
            Op::ReadonlyPath { path } => write!(f, "make {} read-only", show(path)),
            Op::MakeDirectory { path } => {
                write!(f, "make directory {} if it is missing", show(path))
            }
            Op::FindHome { uid } => write!(f, "find HOME of uid {uid} in /etc/passwd"),
            Op::CheckProgram => f.write_str("check that the program is there"),
            Op::Ready => f.write_str("tell the parent that all is ready"),
            Op::AwaitStart { slot } => write!(f, "wait for start on {slot}"),
            Op::Personality { persona } => write!(f, "set personality {persona:#x}"),
            Op::ChangeDirectory { path } => write!(f, "change directory to {}", show(path)),
            Op::SetRlimit(limit) => {
                let number = |it: u64| {
                    if it == u64::MAX {
                        "none".into()
                    } else {
                        it.to_string()
                    }
                };
                write!(
                    f,
                    "set limit {} {}:{}",
                    limit.name,
                    number(limit.soft),
                    number(limit.hard)
                )
            }
            Op::LimitBounding { keep } => {
                write!(
                    f,
                    "limit bounding capabilities to {}",
                    capability_words(*keep)
                )
            }
            Op::SetGroups { groups } => write!(f, "set supplementary groups {groups:?}"),
            Op::SetGid { gid } => write!(f, "set gid {gid}"),
            Op::SetUid { uid } => write!(f, "set uid {uid}"),
            Op::SetUmask { mask } => write!(f, "set umask {mask:04o}"),
            Op::RaisePermitted => f.write_str("make permitted capabilities effective"),
            Op::SetCapabilities {
                effective,
                permitted,
                inheritable,
            } => {
                write!(
                    f,
                    "set capabilities effective {}",
                    capability_words(*effective)
                )?;
                if permitted != effective {
                    write!(f, ", permitted {}", capability_words(*permitted))?;
                }
                write!(f, ", inheritable {}", capability_words(*inheritable))
            }
            Op::SetAmbient { ambient } => {
                write!(f, "set ambient capabilities {}", capability_words(*ambient))
            }
            Op::NoNewPrivileges => f.write_str("set no_new_privs"),
            Op::CloseOnExec { first } => {
                write!(f, "mark descriptors from {first} on close-on-exec")
            }
            Op::ResetSignals => f.write_str("put signals back to their defaults"),
            Op::LoadSeccomp { program, flags } => {
                write!(
                    f,
                    "load seccomp filter, {} instructions, flags {flags:#x}",
                    program.len()
                )
            }
            Op::Execute(Program::Args) => f.write_str("execute the program"),
            Op::Execute(Program::File(slot)) => write!(f, "execute file {slot}"),
        }
    }
}
