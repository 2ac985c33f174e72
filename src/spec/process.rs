//! The process of a container (runtime-spec config.md, Process): what create and exec both need.

use std::collections::HashSet;
use std::ffi::CString;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{Capability, PosixRlimitType, Process as WireProcess};

use super::text::{c_string, container_path};

/// User, groups and umask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// In the container.
    pub uid: u32,
    /// In the container.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// umask(2), when it is set.
    pub umask: Option<u32>,
}

/// The five sets as masks: bit N is capability N (capabilities(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the kernel's")]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// The word, without `RLIMIT_`, in small letters.
    pub name: &'static str,
    /// `u64::MAX` is none.
    pub soft: u64,
    /// `u64::MAX` is none.
    pub hard: u64,
}

/// The process as it is meant.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// At least one.
    pub args: Vec<CString>,
    /// `NAME=value`; of a repeated name only the last.
    pub env: Vec<CString>,
    /// HOME is not in `env`: it is looked up in the container's /etc/passwd.
    pub wants_home: bool,
    /// In the container, cleaned.
    pub cwd: CString,
    /// Who.
    pub user: User,
    /// With which capabilities; absent sets are empty.
    pub capabilities: Capabilities,
    /// Each resource at most once.
    pub rlimits: Vec<Rlimit>,
    /// prctl(2) `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// A pty as standard input, output and error.
    pub terminal: bool,
    /// Its size: rows and columns.
    pub console_size: Option<(u16, u16)>,
    /// Written when it is there, also when it is 0.
    pub oom_score_adj: Option<i32>,
}

impl Process {
    /// The meaning of `wire`.
    ///
    /// # Errors
    /// One that names the property.
    pub fn new(wire: &WireProcess, warnings: &mut Vec<String>) -> Result<Self> {
        let args = wire.args().as_deref().unwrap_or_default();
        ensure!(
            !args.is_empty(),
            "args: empty; the program to run is needed"
        );
        ensure!(
            !args.first().is_some_and(String::is_empty),
            "args[0]: empty"
        );
        let args = args
            .iter()
            .map(|arg| c_string("args", arg))
            .collect::<Result<_>>()?;
        let env = environment(wire.env().as_deref().unwrap_or_default())?;
        ensure!(
            wire.cwd().is_absolute(),
            "cwd: `{}` is not absolute",
            wire.cwd().display()
        );
        let terminal = wire.terminal().unwrap_or(false);
        let console_size = wire.console_size().filter(|_| terminal).map(|size| {
            let fit = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
            (fit(size.height()), fit(size.width()))
        });
        if let Some(score) = wire.oom_score_adj() {
            ensure!(
                (-1000..=1000).contains(&score),
                "oomScoreAdj: {score} is not in -1000..1000"
            );
        }
        Ok(Self {
            wants_home: !env
                .iter()
                .any(|entry: &CString| entry.as_bytes().starts_with(b"HOME=")),
            args,
            env,
            cwd: container_path("cwd", wire.cwd())?,
            user: user(wire),
            capabilities: capabilities(wire, warnings)?,
            rlimits: rlimits(wire)?,
            no_new_privileges: wire.no_new_privileges().unwrap_or(false),
            terminal,
            console_size,
            oom_score_adj: wire.oom_score_adj(),
        })
    }
}

/// Checks and cleans an environment: of a repeated name the last value wins, at its last place.
///
/// # Errors
/// For an entry without a name or with a NUL byte.
pub fn environment(entries: &[String]) -> Result<Vec<CString>> {
    let mut seen = HashSet::new();
    let mut result = Vec::new();
    for entry in entries.iter().rev() {
        let (name, _) = entry
            .split_once('=')
            .with_context(|| format!("env: `{entry}` has no `=`"))?;
        ensure!(!name.is_empty(), "env: `{entry}` has no name");
        if seen.insert(name) {
            result.push(c_string("env", entry)?);
        }
    }
    result.reverse();
    Ok(result)
}

fn user(wire: &WireProcess) -> User {
    let user = wire.user();
    User {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().map(|mask| mask & 0o777),
    }
}

fn capabilities(wire: &WireProcess, warnings: &mut Vec<String>) -> Result<Capabilities> {
    let Some(wire) = wire.capabilities() else {
        return Ok(Capabilities::default());
    };
    let mut sets = Capabilities {
        bounding: mask(wire.bounding().as_ref())?,
        effective: mask(wire.effective().as_ref())?,
        inheritable: mask(wire.inheritable().as_ref())?,
        permitted: mask(wire.permitted().as_ref())?,
        ambient: mask(wire.ambient().as_ref())?,
    };
    // capset(2) and prctl(2) refuse these; runtime-spec asks for a warning and no failure.
    let mut trim = |set: &mut u64, allowed: u64, name: &str, needs: &str| {
        for number in 0..64 {
            if *set & !allowed & (1 << number) != 0 {
                let capability = name_of(number);
                warnings.push(format!(
                    "can't raise {name} capability {capability}: it is not in the {needs} set"
                ));
            }
        }
        *set &= allowed;
    };
    trim(
        &mut sets.effective,
        sets.permitted,
        "effective",
        "permitted",
    );
    trim(
        &mut sets.ambient,
        sets.permitted & sets.inheritable,
        "ambient",
        "permitted and inheritable",
    );
    Ok(sets)
}

/// `CAP_CHOWN` and so on, from the number.
pub fn name_of(number: u32) -> String {
    let known = caps::all()
        .into_iter()
        .find(|it| u32::from(it.index()) == number);
    known.map_or_else(|| format!("capability {number}"), |it| it.to_string())
}

/// The names of all capabilities that this version knows, without `CAP_`, sorted.
pub fn capability_names() -> Vec<String> {
    let mut names: Vec<_> = caps::all()
        .into_iter()
        .map(|it| it.to_string().replace("CAP_", ""))
        .collect();
    names.sort();
    names
}

fn mask(set: Option<&HashSet<Capability>>) -> Result<u64> {
    let mut mask = 0;
    for capability in set.into_iter().flatten() {
        mask |= 1 << number(*capability)?;
    }
    Ok(mask)
}

/// The kernel's number of a capability.
///
/// # Errors
/// For a name that the caps crate does not have.
pub fn number(capability: Capability) -> Result<u32> {
    let name = format!("CAP_{capability}");
    match name.parse::<caps::Capability>() {
        Ok(known) => Ok(known.index().into()),
        Err(_) => bail!("capabilities: `{name}` has no number"),
    }
}

fn rlimits(wire: &WireProcess) -> Result<Vec<Rlimit>> {
    let mut result: Vec<Rlimit> = Vec::new();
    for limit in wire.rlimits().iter().flatten() {
        let (resource, name) = resource(limit.typ());
        ensure!(
            !result.iter().any(|other| other.resource == resource),
            "rlimits: RLIMIT_{} stands there twice",
            name.to_uppercase()
        );
        let (soft, hard) = (limit.soft(), limit.hard());
        ensure!(
            soft <= hard,
            "rlimits: RLIMIT_{}: soft {soft} is more than hard {hard}",
            name.to_uppercase()
        );
        result.push(Rlimit {
            resource,
            name,
            soft,
            hard,
        });
    }
    Ok(result)
}

fn resource(kind: PosixRlimitType) -> (u32, &'static str) {
    use PosixRlimitType as Type;
    match kind {
        Type::RlimitCpu => (libc::RLIMIT_CPU.cast(), "cpu"),
        Type::RlimitFsize => (libc::RLIMIT_FSIZE.cast(), "fsize"),
        Type::RlimitData => (libc::RLIMIT_DATA.cast(), "data"),
        Type::RlimitStack => (libc::RLIMIT_STACK.cast(), "stack"),
        Type::RlimitCore => (libc::RLIMIT_CORE.cast(), "core"),
        Type::RlimitRss => (libc::RLIMIT_RSS.cast(), "rss"),
        Type::RlimitNproc => (libc::RLIMIT_NPROC.cast(), "nproc"),
        Type::RlimitNofile => (libc::RLIMIT_NOFILE.cast(), "nofile"),
        Type::RlimitMemlock => (libc::RLIMIT_MEMLOCK.cast(), "memlock"),
        Type::RlimitAs => (libc::RLIMIT_AS.cast(), "as"),
        Type::RlimitLocks => (libc::RLIMIT_LOCKS.cast(), "locks"),
        Type::RlimitSigpending => (libc::RLIMIT_SIGPENDING.cast(), "sigpending"),
        Type::RlimitMsgqueue => (libc::RLIMIT_MSGQUEUE.cast(), "msgqueue"),
        Type::RlimitNice => (libc::RLIMIT_NICE.cast(), "nice"),
        Type::RlimitRtprio => (libc::RLIMIT_RTPRIO.cast(), "rtprio"),
        Type::RlimitRttime => (libc::RLIMIT_RTTIME.cast(), "rttime"),
    }
}

/// The C libraries disagree on the sign of `RLIMIT_*`.
trait Resource {
    fn cast(self) -> u32;
}

impl Resource for u32 {
    fn cast(self) -> u32 {
        self
    }
}

impl Resource for i32 {
    fn cast(self) -> u32 {
        self.cast_unsigned()
    }
}

/// A user as a command line gives it: `UID` or `UID:GID`, plain decimal numbers below 2^32 - 1.
///
/// # Errors
/// For everything else: an empty part, a sign, hexadecimal, white space, a number out of range.
pub fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let id = |part: &str| -> Result<u32> {
        let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = part
            .parse::<u32>()
            .ok()
            .filter(|number| plain && *number != u32::MAX);
        number.with_context(|| format!("user `{text}`: wanted UID or UID:GID, in decimal numbers"))
    };
    match text.split_once(':') {
        None => Ok((id(text)?, None)),
        Some((uid, gid)) => Ok((id(uid)?, Some(id(gid)?))),
    }
}

/// A path in the container as a command line gives it: it must be absolute.
///
/// # Errors
/// When it is relative or has a NUL byte.
pub fn parse_cwd(text: &str) -> Result<CString> {
    ensure!(text.starts_with('/'), "cwd: `{text}` is not absolute");
    container_path("cwd", Path::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(extra: &str) -> Result<(Process, Vec<String>)> {
        let text = format!(r#"{{"cwd":"/","user":{{"uid":0,"gid":0}},"args":["a"]{extra}}}"#);
        let mut warnings = Vec::new();
        let wire = crate::spec::wire::read_process(text.as_bytes(), &mut warnings)?;
        Ok((Process::new(&wire, &mut warnings)?, warnings))
    }

    #[test]
    fn last_of_a_repeated_variable_wins() {
        let (it, _) = process(r#","env":["A=1","B=2","A=3"]"#).unwrap();
        assert_eq!(it.env, [c"B=2".to_owned(), c"A=3".to_owned()]);
    }

    #[test]
    fn home_is_wanted_when_it_is_not_set() {
        assert!(process("").unwrap().0.wants_home);
        assert!(!process(r#","env":["HOME="]"#).unwrap().0.wants_home);
    }

    #[test]
    fn capabilities_become_masks() {
        let (it, warnings) = process(
            r#","capabilities":{"bounding":["CAP_CHOWN","CAP_CHECKPOINT_RESTORE"],"permitted":["CAP_CHOWN"],"effective":["CAP_CHOWN"]}"#,
        )
        .unwrap();
        assert_eq!(it.capabilities.bounding, 1 | 1 << 40);
        assert_eq!(it.capabilities.effective, 1);
        assert!(warnings.is_empty());
    }

    #[test]
    fn ambient_that_is_not_inheritable_is_a_warning() {
        let (it, warnings) =
            process(r#","capabilities":{"permitted":["CAP_CHOWN"],"ambient":["CAP_CHOWN"]}"#)
                .unwrap();
        assert_eq!(it.capabilities.ambient, 0);
        assert!(
            warnings[0].starts_with("can't raise ambient capability CAP_CHOWN: "),
            "{warnings:?}"
        );
    }

    #[test]
    fn wrong_processes_are_refused() {
        for (extra, part) in [
            (r#","args":[]"#, "args: empty"),
            (r#","cwd":"a""#, "cwd: `a` is not absolute"),
            (r#","env":["A"]"#, "has no `=`"),
            (r#","oomScoreAdj":1001"#, "oomScoreAdj"),
            (
                r#","rlimits":[{"type":"RLIMIT_CPU","soft":2,"hard":1}]"#,
                "more than hard",
            ),
            (
                r#","rlimits":[{"type":"RLIMIT_CPU","soft":1,"hard":1},{"type":"RLIMIT_CPU","soft":1,"hard":1}]"#,
                "twice",
            ),
        ] {
            let mut value: serde_json::Value =
                serde_json::from_str(r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":["a"]}"#)
                    .unwrap();
            let extra: serde_json::Value =
                serde_json::from_str(&format!("{{{}}}", &extra[1..])).unwrap();
            for (key, property) in extra.as_object().unwrap() {
                value[key] = property.clone();
            }
            let wire = serde_json::from_value(value).unwrap();
            let error = format!("{:#}", Process::new(&wire, &mut Vec::new()).unwrap_err());
            assert!(error.contains(part), "{extra}: {error}");
        }
    }

    #[test]
    fn users_are_read_strictly() {
        assert_eq!(parse_user("1000").unwrap(), (1000, None));
        assert_eq!(parse_user("1000:5").unwrap(), (1000, Some(5)));
        for wrong in [
            "",
            "1000:",
            ":5",
            "-1",
            "+1",
            "0x0",
            "4294967296",
            "4294967295",
            " 1",
            "root",
        ] {
            parse_user(wrong).unwrap_err();
        }
    }
}
