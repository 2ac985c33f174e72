//! The meaning of an OCI configuration: validated, defaults applied, nothing left to interpret.
//!
//! [`wire`] reads the bytes into oci-spec's types; [`Container::new`] turns these into what the
//! runtime acts on. Whatever this version does not act on is an error here, never ignored. No input
//! or output: paths are taken as text, and looked at only when the plan is executed.

pub mod cgroup;
pub mod devices;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod text;
pub mod wire;

use std::ffi::CString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{LinuxSeccomp, Spec};

use cgroup::Cgroup;
use devices::Device;
use mounts::{Mount, Propagation};
use namespaces::{Kind, Namespace, Namespaces};
use process::Process;
use text::c_string;

/// The root file system (runtime-spec config.md, Root).
#[derive(Debug, Clone)]
pub struct Root {
    /// On the host, absolute.
    pub path: PathBuf,
    /// No writes to the root mount.
    pub readonly: bool,
    /// Of the container's `/` at the end (`rootfsPropagation`).
    pub propagation: Option<Propagation>,
}

/// A container as it is meant.
#[derive(Debug, Clone)]
pub struct Container {
    /// The root file system.
    pub root: Root,
    /// In the order of the configuration.
    pub mounts: Vec<Mount>,
    /// What to run; not needed before `start`, but this version wants it at `create`.
    pub process: Process,
    /// Which namespaces are new, joined or the host's.
    pub namespaces: Namespaces,
    /// Of the UTS namespace.
    pub hostname: Option<CString>,
    /// Of the UTS namespace.
    pub domainname: Option<CString>,
    /// Nodes to be made, the default ones first.
    pub devices: Vec<Device>,
    /// Where and with which limits.
    pub cgroup: Cgroup,
    /// Hidden from the container, absolute paths in it.
    pub masked_paths: Vec<CString>,
    /// Made read-only, absolute paths in it.
    pub readonly_paths: Vec<CString>,
    /// File below /proc/sys and its value.
    pub sysctls: Vec<(CString, CString)>,
    /// The system call filter, as the configuration has it; compiled by the plan.
    pub seccomp: Option<LinuxSeccomp>,
    /// personality(2), when it is not the host's.
    pub personality: Option<u32>,
    /// Kept for `state`, sorted by key.
    pub annotations: Vec<(String, String)>,
}

impl Container {
    /// The meaning of `spec`, whose relative paths start at `bundle`. Warnings for the user are
    /// added to `warnings`.
    ///
    /// # Errors
    /// One that names the property and what is wrong with it.
    pub fn new(spec: &Spec, bundle: &Path, warnings: &mut Vec<String>) -> Result<Self> {
        version(spec.version())?;
        refuse_what_is_not_done(spec)?;
        let linux = spec.linux().clone().unwrap_or_default();
        let namespaces = Namespaces::new(&linux)?;
        let process = spec.process().as_ref().context("process: missing")?;
        let process = Process::new(process, warnings).context("process")?;
        let root = root(spec, &linux, bundle)?;
        let mounts = mounts::all(spec, bundle, &namespaces)?;
        let sysctls = sysctls(&linux, &namespaces)?;
        let hostname = uts_name("hostname", spec.hostname().as_deref(), &namespaces)?;
        let domainname = uts_name("domainname", spec.domainname().as_deref(), &namespaces)?;
        let mut annotations: Vec<_> = spec
            .annotations()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect();
        annotations.sort();
        Ok(Self {
            root,
            mounts,
            process,
            hostname,
            domainname,
            devices: devices::all(&linux)?,
            cgroup: Cgroup::new(&linux, warnings).context("linux.resources")?,
            masked_paths: paths("linux.maskedPaths", linux.masked_paths().as_deref())?,
            readonly_paths: paths("linux.readonlyPaths", linux.readonly_paths().as_deref())?,
            sysctls,
            seccomp: linux.seccomp().clone(),
            personality: personality(&linux),
            annotations,
            namespaces,
        })
    }
}

/// runtime-spec is a SemVer: every 1.x is understood, unknown properties are ignored.
fn version(text: &str) -> Result<()> {
    let major = text.split('.').next().unwrap_or_default();
    ensure!(
        major == "1" && text.split('.').count() >= 3,
        "ociVersion: `{text}` is not a version that seedpod understands (1.x.y)"
    );
    Ok(())
}

fn refuse_what_is_not_done(spec: &Spec) -> Result<()> {
    let mut found = Vec::new();
    let mut check = |present: bool, name: &'static str| {
        if present {
            found.push(name);
        }
    };
    if let Some(hooks) = spec.hooks() {
        let kinds = [
            hooks.prestart().as_deref(),
            hooks.create_runtime().as_deref(),
            hooks.create_container().as_deref(),
            hooks.start_container().as_deref(),
            hooks.poststart().as_deref(),
            hooks.poststop().as_deref(),
        ];
        check(
            kinds
                .iter()
                .any(|list| list.is_some_and(|list| !list.is_empty())),
            "hooks",
        );
    }
    if let Some(linux) = spec.linux() {
        check(
            linux
                .net_devices()
                .as_ref()
                .is_some_and(|map| !map.is_empty()),
            "linux.netDevices",
        );
        check(linux.intel_rdt().is_some(), "linux.intelRdt");
        check(linux.memory_policy().is_some(), "linux.memoryPolicy");
        check(
            linux
                .mount_label()
                .as_ref()
                .is_some_and(|label| !label.is_empty()),
            "linux.mountLabel",
        );
        let seccomp = linux.seccomp().as_ref();
        check(
            seccomp.is_some_and(|it| it.listener_path().is_some()),
            "linux.seccomp.listenerPath",
        );
    }
    if let Some(process) = spec.process() {
        let set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        check(set(process.apparmor_profile()), "process.apparmorProfile");
        check(set(process.selinux_label()), "process.selinuxLabel");
        check(process.io_priority().is_some(), "process.ioPriority");
        check(process.scheduler().is_some(), "process.scheduler");
        check(
            process.exec_cpu_affinity().is_some(),
            "process.execCPUAffinity",
        );
    }
    check(spec.vm().is_some(), "vm");
    check(spec.windows().is_some(), "windows");
    check(spec.solaris().is_some(), "solaris");
    check(spec.zos().is_some(), "zos");
    if found.is_empty() {
        return Ok(());
    }
    bail!(
        "{}: not supported by this version of seedpod",
        found.join(", ")
    )
}

fn root(spec: &Spec, linux: &oci_spec::runtime::Linux, bundle: &Path) -> Result<Root> {
    let root = spec.root().as_ref().context("root: missing")?;
    ensure!(!root.path().as_os_str().is_empty(), "root.path: empty");
    let propagation = match linux.rootfs_propagation().as_deref() {
        None | Some("") => None,
        Some(word) => Some(
            Propagation::from_word(word)
                .with_context(|| format!("linux.rootfsPropagation: unknown value `{word}`"))?,
        ),
    };
    Ok(Root {
        path: bundle.join(root.path()),
        readonly: root.readonly().unwrap_or(false),
        propagation,
    })
}

fn uts_name(what: &str, name: Option<&str>, namespaces: &Namespaces) -> Result<Option<CString>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    ensure!(
        *namespaces.get(Kind::Uts) != Namespace::Host,
        "{what}: `{name}` would be the host's: it needs a uts namespace in linux.namespaces"
    );
    ensure!(
        name.len() <= 64,
        "{what}: `{name}` is longer than 64 bytes (uname(2))"
    );
    c_string(what, name).map(Some)
}

fn paths(what: &str, list: Option<&[String]>) -> Result<Vec<CString>> {
    let mut result: Vec<CString> = Vec::new();
    for path in list.unwrap_or_default() {
        ensure!(
            path.starts_with('/'),
            "{what}: `{path}` is not an absolute path"
        );
        let path = text::container_path(what, Path::new(path))?;
        if !result.contains(&path) {
            result.push(path);
        }
    }
    Ok(result)
}

fn personality(linux: &oci_spec::runtime::Linux) -> Option<u32> {
    use oci_spec::runtime::LinuxPersonalityDomain as Domain;
    linux
        .personality()
        .as_ref()
        .map(|personality| match personality.domain() {
            Domain::PerLinux => 0,
            Domain::PerLinux32 => 8,
        })
}

/// Only sysctls that belong to a namespace which is not the host's (config-linux.md, Sysctl).
fn sysctls(
    linux: &oci_spec::runtime::Linux,
    namespaces: &Namespaces,
) -> Result<Vec<(CString, CString)>> {
    let mut sorted: Vec<_> = linux.sysctl().iter().flatten().collect();
    sorted.sort();
    let mut result = Vec::new();
    for (key, value) in sorted {
        let what = format!("linux.sysctl.{key}");
        let name = sysctl_name(key).with_context(|| what.clone())?;
        let kind = sysctl_kind(&name).with_context(|| {
            format!("{what}: not a setting of a namespace; it would be the host's")
        })?;
        ensure!(
            *namespaces.get(kind) != Namespace::Host,
            "{what}: needs a {} namespace of the container's own; it would be the host's",
            kind.word()
        );
        ensure!(
            name != "kernel.domainname" && name != "kernel.hostname",
            "{what}: use `hostname` and `domainname` of the configuration"
        );
        ensure!(!value.contains('\n'), "{what}: the value has a line break");
        let file = format!("sys/{}", name.replace('.', "/").replace('\u{1}', "."));
        result.push((c_string(&what, &file)?, c_string(&what, value)?));
    }
    Ok(result)
}

/// sysctl(8)'s two spellings: `net.ipv4.conf.eth0` and `net/ipv4/conf/eth0.100`. Whichever of `.`
/// and `/` comes first separates. In the result `.` separates and 0x01 stands for a literal dot.
fn sysctl_name(key: &str) -> Result<String> {
    let first = key.find(['.', '/']).context("not a sysctl name")?;
    let name = if key.as_bytes().get(first) == Some(&b'/') {
        key.chars()
            .map(|c| {
                if c == '.' {
                    '\u{1}'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect()
    } else {
        key.replace('/', "\u{1}")
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-\u{1}*@:".contains(c);
    ensure!(name.chars().all(plain), "not a sysctl name");
    ensure!(
        name.split('.')
            .all(|part| !part.is_empty() && !part.replace('\u{1}', ".").starts_with("..")),
        "not a sysctl name"
    );
    Ok(name)
}

fn sysctl_kind(name: &str) -> Option<Kind> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    if name.starts_with("net.") {
        Some(Kind::Network)
    } else if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Some(Kind::Ipc)
    } else if name == "kernel.domainname" || name == "kernel.hostname" {
        Some(Kind::Uts)
    } else if name.starts_with("user.") {
        Some(Kind::User)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(extra: serde_json::Value) -> Result<Container> {
        let mut config = serde_json::json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network"}]},
        });
        merge(&mut config, extra);
        let bytes = serde_json::to_vec(&config)?;
        let mut warnings = Vec::new();
        let spec = wire::read(&bytes, &mut warnings)?;
        Container::new(&spec, Path::new("/bundle"), &mut warnings)
    }

    fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
        match (into, from) {
            (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key).or_insert(serde_json::Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    fn error(extra: serde_json::Value) -> String {
        format!("{:#}", meaning(extra).unwrap_err())
    }

    #[test]
    fn relative_root_starts_at_the_bundle() {
        assert_eq!(
            meaning(serde_json::json!({})).unwrap().root.path,
            Path::new("/bundle/rootfs")
        );
    }

    #[test]
    fn version_2_is_refused() {
        assert!(error(serde_json::json!({"ociVersion": "2.0.0"})).contains("ociVersion: `2.0.0`"));
    }

    #[test]
    fn what_is_not_done_is_an_error_that_says_so() {
        let hooks = serde_json::json!({"hooks": {"poststop": [{"path": "/bin/true"}]}});
        assert_eq!(
            error(hooks),
            "hooks: not supported by this version of seedpod"
        );
    }

    #[test]
    fn empty_lists_of_hooks_are_no_hooks() {
        meaning(serde_json::json!({"hooks": {"poststop": []}})).unwrap();
    }

    #[test]
    fn hostname_without_a_uts_namespace_is_refused() {
        let extra =
            serde_json::json!({"hostname": "a", "linux": {"namespaces": [{"type": "mount"}]}});
        assert!(error(extra).contains("uts namespace"));
    }

    #[test]
    fn sysctl_of_the_host_is_refused() {
        let cases = [
            ("kernel.panic", "not a setting of a namespace"),
            ("kernel.shmmax", "needs a ipc namespace"),
            ("net.ipv4.x/../../../kernel.panic", "sysctl name"),
            ("net/../kernel/panic", "sysctl name"),
            ("kernel.hostname", "use `hostname`"),
            ("net.a b", "sysctl name"),
        ];
        for (key, part) in cases {
            let text = error(serde_json::json!({"linux": {"sysctl": {key: "1"}}}));
            assert!(text.contains(part), "{key}: {text}");
        }
    }

    #[test]
    fn sysctl_takes_dots_and_slashes() {
        let keys = serde_json::json!({"linux": {"sysctl": {
            "net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.100/forwarding": "1"}}});
        let files: Vec<_> = meaning(keys)
            .unwrap()
            .sysctls
            .into_iter()
            .map(|(file, _)| file)
            .collect();
        assert_eq!(
            files,
            [
                c"sys/net/ipv4/ip_forward".to_owned(),
                c"sys/net/ipv4/conf/eth0.100/forwarding".to_owned()
            ]
        );
    }

    #[test]
    fn masked_paths_are_absolute_and_once() {
        let extra =
            serde_json::json!({"linux": {"maskedPaths": ["/proc/kcore", "/proc/./kcore", "/a"]}});
        assert_eq!(
            meaning(extra).unwrap().masked_paths,
            [c"/proc/kcore".to_owned(), c"/a".to_owned()]
        );
        assert!(error(serde_json::json!({"linux": {"maskedPaths": ["a"]}})).contains("absolute"));
    }
}
