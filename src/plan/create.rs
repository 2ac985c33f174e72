//! The order in which a container is made. The order is the security of the runtime: each block
//! says why it stands where it stands.

use std::ffi::{CStr, CString};

use anyhow::{Context, Result};

use super::op::{NewFileSystem, Op, Open, Program, Slot, Strings, Tree};
use super::{CgroupPlan, Grant, Plan, Slots};
use crate::cgroup::devices;
use crate::seccomp;
use crate::spec::Container;
use crate::spec::mounts::{Attributes, Mount, Propagation, What};
use crate::spec::namespaces::{Kind, Namespace};
use crate::spec::process::Process;
use crate::spec::text::c_path;
use crate::sys::mount::attr;
use crate::sys::process::ExecStrings;

/// What a caller decides, besides the configuration.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Of the container; names the default cgroup and the keyring.
    pub id: String,
    /// Standard streams are given by the caller (slots `standard input` and so on), not inherited.
    pub own_streams: bool,
    /// The root is an empty read-only tmpfs, and the program comes from the caller: the sandbox.
    pub sandbox: bool,
    /// No new session keyring.
    pub keep_keyring: bool,
    /// Descriptors 3 to 3 + this stay open for the program.
    pub preserve_fds: u32,
}

/// The plan for `create`.
///
/// # Errors
/// When the seccomp profile or the device rules cannot be compiled; warnings go to `warnings`.
pub fn plan(container: &Container, request: &Request, warnings: &mut Vec<String>) -> Result<Plan> {
    let mut order = Order {
        container,
        request,
        open: Vec::new(),
        ops: Vec::new(),
        slots: Slots::default(),
        proc: Slot(0),
        user: None,
        join_pid: None,
        masks: None,
    };
    order.proc = order.slots.next();
    order.open.push(Open::Proc { slot: order.proc });
    let clone_flags = order.arrive();
    order.settle();
    let mounts = order.mounts()?;
    order.enter_root(mounts)?;
    order.furnish();
    order.protect();
    order.prepare_process();
    order.become_user(warnings)?;
    let new_time = (*container.namespaces.get(Kind::Time) == Namespace::New)
        .then(|| container.namespaces.time_offsets.clone());
    let process = &container.process;
    Ok(Plan {
        cgroup: Some(cgroup(container, request)?),
        join_pid: order.join_pid,
        new_time,
        clone_flags,
        grant: Grant {
            maps: container
                .namespaces
                .maps
                .clone()
                .filter(|_| *container.namespaces.get(Kind::User) == Namespace::New),
            oom_score_adj: process.oom_score_adj,
            rlimits: process.rlimits.clone(),
        },
        strings: strings(process),
        slots: order.slots.0,
        open: order.open,
        ops: order.ops,
    })
}

/// argv and environment, with room for HOME where it is looked up.
pub(super) fn strings(process: &Process) -> Strings {
    Strings {
        args: ExecStrings::new(process.args.clone(), false),
        env: ExecStrings::new(process.env.clone(), process.wants_home),
    }
}

fn cgroup(container: &Container, request: &Request) -> Result<CgroupPlan> {
    let path = match &container.cgroup.path {
        Some(path) => crate::spec::text::container_path("linux.cgroupsPath", path)?,
        None => CString::new(format!("/seedpod-{}", request.id)).context("container id")?,
    };
    let mut rules = container.cgroup.devices.clone();
    rules.extend(devices::default_rules());
    Ok(CgroupPlan {
        path: path.into_string().context("linux.cgroupsPath: not UTF-8")?,
        writes: container.cgroup.writes.clone(),
        owner: cgroup_owner(container),
        devices: devices::program(&rules).context("linux.resources.devices")?,
    })
}

/// config-linux.md, Cgroup ownership: a container that has a cgroup namespace of its own and may write
/// to the mount of its cgroup manages the cgroups below it, as its user.
fn cgroup_owner(container: &Container) -> Option<u32> {
    let writable = |mount: &&Mount| {
        let set = mount.attributes.set | mount.recursive_attributes.set;
        mount.what == What::Cgroup && set & attr::RDONLY == 0
    };
    let own = *container.namespaces.get(Kind::Cgroup) == Namespace::New;
    container.mounts.iter().find(writable).filter(|_| own)?;
    let uid = container.process.user.uid;
    let maps = container.namespaces.maps.as_ref()?;
    let line = maps.uids.iter().find(|line| {
        uid.checked_sub(line.inside)
            .is_some_and(|it| it < line.count)
    })?;
    Some(line.outside + (uid - line.inside))
}

struct Order<'a> {
    container: &'a Container,
    request: &'a Request,
    open: Vec<Open>,
    ops: Vec<Op>,
    slots: Slots,
    proc: Slot,
    user: Option<Slot>,
    join_pid: Option<Slot>,
    masks: Option<(Slot, Slot)>,
}

impl Order<'_> {
    fn give(&mut self, name: &'static str) -> Slot {
        let slot = self.slots.next();
        self.open.push(Open::Given { name, slot });
        slot
    }

    /// Into the namespaces. Returns the flags of the first clone3.
    fn arrive(&mut self) -> u64 {
        let namespaces = &self.container.namespaces;
        // The cgroup namespace is made later, from inside the container's cgroup: its root is the
        // cgroup of who makes it. A time namespace is entered only by children of who makes it.
        let late = Kind::Cgroup.flag() | Kind::Time.flag();
        let new = namespaces
            .new_kinds()
            .fold(0, |flags, kind| flags | kind.flag())
            & !late;
        let mut joins = Vec::new();
        for (kind, path) in namespaces.joined() {
            let slot = self.slots.next();
            self.open.push(Open::Namespace {
                path: path.clone(),
                kind,
                slot,
            });
            match kind {
                Kind::User => self.user = Some(slot),
                Kind::Pid => self.join_pid = Some(slot),
                _ => joins.push(Op::JoinNamespace { slot, kind }),
            }
        }
        self.ops.append(&mut joins);
        let Some(slot) = self.user else {
            // Maps, limits and scores are granted by the parent while the child waits here.
            self.ops.insert(0, Op::AwaitGo);
            if new & Kind::User.flag() != 0 {
                self.ops.insert(1, Op::BecomeRoot);
            }
            return new;
        };
        // The others come first: they may belong to the host's user namespace, over which the
        // joined one has no power. What only the joined one may join comes after it.
        self.ops.push(Op::JoinNamespace {
            slot,
            kind: Kind::User,
        });
        self.ops.push(Op::JoinRemaining);
        if let Some(maps) = namespaces.maps.clone() {
            self.ops.push(Op::CheckIdMaps {
                proc: self.proc,
                maps,
            });
        }
        // Before anything new is made, so that it belongs to the container's root (mqueue's
        // directory has its maker as owner).
        self.ops.push(Op::BecomeRoot);
        if new & Kind::Pid.flag() != 0 {
            // A pid namespace is only for children, and must belong to the joined user namespace,
            // or its proc could not be mounted.
            self.ops.push(Op::CloneChild { flags: new });
            self.ops.push(Op::AwaitGo);
        } else {
            self.ops.insert(0, Op::AwaitGo);
            self.ops.push(Op::Unshare { flags: new });
        }
        0
    }

    /// What belongs to the new namespaces themselves.
    fn settle(&mut self) {
        let namespaces = &self.container.namespaces;
        let is_new = |kind| *namespaces.get(kind) == Namespace::New;
        if is_new(Kind::Cgroup) {
            self.ops.push(Op::Unshare {
                flags: Kind::Cgroup.flag(),
            });
        }
        self.ops.push(Op::NewSession);
        if !self.request.keep_keyring {
            // A keyring of its own, or the container could use the caller's keys.
            if let Ok(name) = CString::new(format!("_ses.{}", self.request.id)) {
                self.ops.push(Op::JoinKeyring { name });
            }
        }
        if is_new(Kind::Network) {
            self.ops.push(Op::LoopbackUp);
        }
        if let Some(name) = self.container.hostname.clone() {
            self.ops.push(Op::Hostname { name });
        }
        if let Some(name) = self.container.domainname.clone() {
            self.ops.push(Op::Domainname { name });
        }
    }

    /// Opens and makes all that will be mounted, detached. Returns what attaches it.
    ///
    /// New file systems are made while the host's mounts are still there: in a user namespace the
    /// kernel allows a new proc or sysfs only where a fully visible one can be seen.
    fn mounts(&mut self) -> Result<Vec<Op>> {
        self.ops.push(Op::MakeMountsPrivate);
        let mut attach = Vec::new();
        let mut idmaps = Vec::new();
        for mount in &self.container.mounts {
            match &mount.what {
                What::Bind { source, recursive } => {
                    let slot = self.bind(mount, source, *recursive, &mut idmaps)?;
                    attach.push(Op::Attach {
                        slot,
                        target: mount.target.clone(),
                        ordinary: false,
                    });
                }
                What::New {
                    fstype,
                    source,
                    settings,
                } => {
                    let new = self.new_fs(mount, fstype, source, settings.clone());
                    attach.extend(attach_new(mount, new.slot, is_proc_or_sys(fstype)));
                    self.ops.push(Op::NewFileSystem(new));
                }
                What::Cgroup => {
                    let slot = self.cgroup_mount(mount);
                    attach.extend(attach_new(mount, slot, false));
                }
                What::Remount => {
                    attach.push(set_attributes(&mount.target, mount.attributes, false));
                    if !mount.recursive_attributes.is_empty() {
                        attach.push(set_attributes(
                            &mount.target,
                            mount.recursive_attributes,
                            true,
                        ));
                    }
                    if let Some(propagation) = mount.propagation {
                        attach.push(Op::SetPropagation {
                            target: mount.target.clone(),
                            propagation,
                        });
                    }
                }
            }
        }
        Ok(attach)
    }

    fn bind(
        &mut self,
        mount: &Mount,
        source: &CStr,
        recursive: bool,
        idmaps: &mut Vec<(crate::spec::namespaces::IdMaps, Slot)>,
    ) -> Result<Slot> {
        let idmap = match &mount.idmap {
            None => None,
            Some(idmap) => {
                let own = self.container.namespaces.maps.as_ref();
                let maps = idmap.maps.as_ref().or(own);
                let slot = match (self.user, maps) {
                    // The joined namespace itself, when the maps are its own.
                    (Some(slot), maps) if maps.is_none() || maps == own => slot,
                    (_, maps) => {
                        let maps = maps.context("idmap: no mappings")?.clone();
                        self.idmap_namespace(maps, idmaps)
                    }
                };
                Some((slot, idmap.recursive))
            }
        };
        let slot = self.slots.next();
        self.open.push(Open::Tree(Tree {
            purpose: format!("bind mount at {}", super::op::show(&mount.target)),
            path: source.to_owned(),
            recursive,
            attributes: mount.attributes,
            recursive_attributes: mount.recursive_attributes,
            propagation: mount.propagation.unwrap_or(PRIVATE),
            idmap,
            slot,
        }));
        Ok(slot)
    }

    fn idmap_namespace(
        &mut self,
        maps: crate::spec::namespaces::IdMaps,
        made: &mut Vec<(crate::spec::namespaces::IdMaps, Slot)>,
    ) -> Slot {
        if let Some((_, slot)) = made.iter().find(|(other, _)| *other == maps) {
            return *slot;
        }
        let slot = self.slots.next();
        self.open.push(Open::IdmapNamespace {
            maps: maps.clone(),
            slot,
        });
        made.push((maps, slot));
        slot
    }

    fn new_fs(
        &mut self,
        mount: &Mount,
        fstype: &CStr,
        source: &CStr,
        settings: Vec<(CString, Option<CString>)>,
    ) -> NewFileSystem {
        NewFileSystem {
            fstype: fstype.to_owned(),
            source: source.to_owned(),
            settings,
            attributes: mount.attributes.set | mount.recursive_attributes.set,
            purpose: super::op::show(&mount.target).into_owned(),
            slot: self.slots.next(),
        }
    }

    fn cgroup_mount(&mut self, mount: &Mount) -> Slot {
        if *self.container.namespaces.get(Kind::Cgroup) == Namespace::Host {
            // A new mount would show the whole tree of the host.
            let slot = self.slots.next();
            let attributes = mount.attributes.set | mount.recursive_attributes.set;
            self.open.push(Open::CgroupTree { attributes, slot });
            return slot;
        }
        let new = self.new_fs(mount, c"cgroup2", c"cgroup", Vec::new());
        let slot = new.slot;
        self.ops.push(Op::NewFileSystem(new));
        slot
    }

    /// To the root, and away from the host's mounts, before any path of the container is looked
    /// at: nothing that it does with its paths can then reach the host.
    fn enter_root(&mut self, attach: Vec<Op>) -> Result<()> {
        let root = self.slots.next();
        if self.request.sandbox {
            self.ops.push(Op::NewFileSystem(NewFileSystem {
                fstype: c"tmpfs".to_owned(),
                source: c"sandbox".to_owned(),
                settings: vec![
                    (c"size".to_owned(), Some(c"0".to_owned())),
                    (c"mode".to_owned(), Some(c"0555".to_owned())),
                ],
                attributes: attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC,
                purpose: "/".to_owned(),
                slot: root,
            }));
        } else {
            self.open.push(Open::Tree(Tree {
                purpose: "the root file system".to_owned(),
                path: c_path("root.path", &self.container.root.path)?,
                recursive: true,
                attributes: Attributes::default(),
                recursive_attributes: Attributes::default(),
                propagation: PRIVATE,
                idmap: None,
                slot: root,
            }));
        }
        if !self.container.masked_paths.is_empty() {
            self.mask_sources();
        }
        self.ops.push(Op::AttachRoot { slot: root });
        self.ops.push(Op::PivotRoot);
        self.ops.push(Op::DetachHost);
        self.ops.extend(attach);
        Ok(())
    }

    /// The file and the directory that stand in for masked ones: the host's null device, checked,
    /// and one empty read-only tmpfs for all.
    fn mask_sources(&mut self) {
        let (null, empty) = (self.slots.next(), self.slots.next());
        self.open.push(Open::Node {
            path: c"/dev/null".to_owned(),
            kind: crate::spec::devices::NodeKind::Char,
            number: libc::makedev(1, 3),
            slot: null,
        });
        self.ops.push(Op::NewFileSystem(NewFileSystem {
            fstype: c"tmpfs".to_owned(),
            source: c"masked".to_owned(),
            settings: vec![
                (c"nr_inodes".to_owned(), Some(c"2".to_owned())),
                (c"mode".to_owned(), Some(c"0555".to_owned())),
            ],
            attributes: attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC,
            purpose: "masked directories".to_owned(),
            slot: empty,
        }));
        self.masks = Some((null, empty));
    }

    /// /dev: nodes, links, the terminal.
    fn furnish(&mut self) {
        let binds_dev = self.container.mounts.iter().any(|mount| {
            mount.target.as_c_str() == c"/dev" && matches!(mount.what, What::Bind { .. })
        });
        // A /dev that is the host's has what it has; nothing is made in it.
        if !self.request.sandbox && !binds_dev {
            for device in &self.container.devices {
                self.device(device);
            }
            for (path, target) in LINKS {
                self.ops.push(Op::MakeSymlink {
                    path: path.to_owned(),
                    target: target.to_owned(),
                });
            }
        }
        let process = &self.container.process;
        if process.terminal {
            let slot = self.slots.next();
            let (size, uid) = (process.console_size, process.user.uid);
            self.ops.push(Op::OpenTerminal { slot, size, uid });
            self.ops.push(Op::AttachConsole { slot });
            self.ops.push(Op::UseTerminal { slot });
        } else if self.request.own_streams {
            for (number, name) in [
                (0, "standard input"),
                (1, "standard output"),
                (2, "standard error"),
            ] {
                let slot = self.give(name);
                self.ops.push(Op::UseStream { slot, number });
            }
        }
    }

    fn device(&mut self, device: &crate::spec::devices::Device) {
        let number = device.number();
        if self.container.namespaces.has_user() {
            // A user namespace may not make nodes: the host's own is mounted.
            let slot = self.slots.next();
            let (path, kind) = (device.path.clone(), device.kind);
            self.open.push(Open::Node {
                path,
                kind,
                number,
                slot,
            });
            self.ops.push(Op::Attach {
                slot,
                target: device.path.clone(),
                ordinary: false,
            });
        } else {
            self.ops.push(Op::MakeNode {
                path: device.path.clone(),
                kind: device.kind,
                number,
                mode: device.mode,
                uid: device.uid,
                gid: device.gid,
            });
        }
    }

    /// What takes away: settings first, for they need a writable /proc/sys; masks after all mounts
    /// that they hide.
    fn protect(&mut self) {
        for (file, value) in &self.container.sysctls {
            let (file, value) = (file.clone(), value.clone());
            self.ops.push(Op::SetSysctl {
                proc: self.proc,
                file,
                value,
            });
        }
        for path in &self.container.readonly_paths {
            self.ops.push(Op::ReadonlyPath { path: path.clone() });
        }
        if let Some((null, empty)) = self.masks {
            for path in &self.container.masked_paths {
                self.ops.push(Op::MaskPath {
                    path: path.clone(),
                    null,
                    empty,
                });
            }
        }
        if !self.request.sandbox {
            // Made while the root can still be written.
            self.ops.push(Op::MakeDirectory {
                path: self.container.process.cwd.clone(),
            });
        }
        let root = &self.container.root;
        if root.readonly {
            let attributes = Attributes {
                set: attr::RDONLY,
                clear: 0,
            };
            self.ops.push(set_attributes(c"/", attributes, false));
        }
        if let Some(propagation) = root.propagation {
            self.ops.push(Op::SetPropagation {
                target: c"/".to_owned(),
                propagation,
            });
        }
    }

    /// Checks that a later `start` would fail on, then the wait for it.
    fn prepare_process(&mut self) {
        let process = &self.container.process;
        if process.wants_home && !self.request.sandbox {
            self.ops.push(Op::FindHome {
                uid: process.user.uid,
            });
        }
        if !self.request.sandbox {
            self.ops.push(Op::ChangeDirectory {
                path: process.cwd.clone(),
            });
            self.ops.push(Op::CheckProgram);
        }
        self.ops.push(Op::Ready);
        let slot = self.give("start socket");
        self.ops.push(Op::AwaitStart { slot });
    }

    fn become_user(&mut self, warnings: &mut Vec<String>) -> Result<()> {
        let container = self.container;
        if let Some(persona) = container.personality {
            self.ops.push(Op::Personality { persona });
        }
        let filter = filter(container, warnings)?;
        become_user(
            &mut self.ops,
            &container.process,
            self.request.preserve_fds,
            filter,
        );
        let program = if self.request.sandbox {
            Program::File(self.give("pause program"))
        } else {
            Program::Args
        };
        self.ops.push(Op::Execute(program));
        Ok(())
    }
}

/// The compiled filter of a configuration.
pub(super) fn filter(container: &Container, warnings: &mut Vec<String>) -> Result<Option<Op>> {
    let Some(profile) = &container.seccomp else {
        return Ok(None);
    };
    let compiled = seccomp::compile(profile).context("linux.seccomp")?;
    anyhow::ensure!(
        !compiled.needs_listener,
        "linux.seccomp: SCMP_ACT_NOTIFY is not supported by this version of seedpod"
    );
    warnings.extend(compiled.warnings);
    Ok(Some(Op::LoadSeccomp {
        program: compiled.program,
        flags: compiled.flags,
    }))
}

/// From the container's root to the user of the process; the same for create and exec.
///
/// Without no_new_privs, loading a filter needs CAP_SYS_ADMIN, so it comes before the capabilities
/// are dropped, but after the change of ids: the less is called behind it, the less it can forbid.
/// With no_new_privs it is the very last step before execve.
pub(super) fn become_user(ops: &mut Vec<Op>, process: &Process, preserve: u32, filter: Option<Op>) {
    let (user, caps) = (&process.user, &process.capabilities);
    ops.extend(process.rlimits.iter().map(|limit| Op::SetRlimit(*limit)));
    ops.push(Op::LimitBounding {
        keep: caps.bounding,
    });
    ops.push(Op::SetGroups {
        groups: user.groups.clone(),
    });
    ops.push(Op::SetGid { gid: user.gid });
    ops.push(Op::SetUid { uid: user.uid });
    ops.push(Op::SetUmask {
        mask: user.umask.unwrap_or(0o022),
    });
    ops.push(Op::CloseOnExec {
        first: 3 + preserve,
    });
    ops.push(Op::ResetSignals);
    let drop_capabilities = [
        Op::SetCapabilities {
            effective: caps.effective,
            permitted: caps.permitted,
            inheritable: caps.inheritable,
        },
        Op::SetAmbient {
            ambient: caps.ambient,
        },
    ];
    match filter {
        Some(filter) if !process.no_new_privileges => {
            ops.push(Op::RaisePermitted);
            ops.push(filter);
            ops.extend(drop_capabilities);
        }
        filter => {
            ops.extend(drop_capabilities);
            if process.no_new_privileges {
                ops.push(Op::NoNewPrivileges);
            }
            ops.extend(filter);
        }
    }
}

const PRIVATE: Propagation = Propagation {
    flag: 1 << 18,
    recursive: true,
};

/// config-linux.md, Default Devices and Dev symbolic links.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/dev/fd", c"/proc/self/fd"),
    (c"/dev/stdin", c"/proc/self/fd/0"),
    (c"/dev/stdout", c"/proc/self/fd/1"),
    (c"/dev/stderr", c"/proc/self/fd/2"),
    (c"/dev/ptmx", c"pts/ptmx"),
];

fn is_proc_or_sys(fstype: &CStr) -> bool {
    fstype == c"proc" || fstype == c"sysfs"
}

fn set_attributes(target: &CStr, attributes: Attributes, recursive: bool) -> Op {
    Op::SetAttributes {
        target: target.to_owned(),
        attributes,
        recursive,
    }
}

fn attach_new(mount: &Mount, slot: Slot, ordinary: bool) -> Vec<Op> {
    let mut ops = vec![Op::Attach {
        slot,
        target: mount.target.clone(),
        ordinary,
    }];
    if let Some(propagation) = mount.propagation {
        ops.push(Op::SetPropagation {
            target: mount.target.clone(),
            propagation,
        });
    }
    ops
}
