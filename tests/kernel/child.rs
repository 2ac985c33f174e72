//! The child allocates nothing: every operation runs in a really cloned child, in a program whose
//! allocator kills a process that is not the one that armed it.
//!
//! After clone3(2) of a process with threads the allocator's lock may be held for ever by a thread that
//! is not there any more. Such a child hangs once in a million times; here it dies each time.

// The allocator of the whole program, which the language lets nobody write without `unsafe`.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use seedpod::container::exec::{ExecRequest, configuration, exec};
use seedpod::container::store::Store;
use seedpod::container::{self, CreateRequest, View};
use seedpod::plan::Plan;
use seedpod::plan::op::{Op, Program};
use seedpod::sys;
use serde_json::json;

use crate::fixture::{Bundle, chown_tree};
use crate::runner::{Test, case_dir};
use crate::{require, tests};

pub const TESTS: &[Test] = tests![
    child_that_allocates_dies,
    child_that_frees_dies,
    every_operation_runs_without_allocating,
    failing_operations_are_told_without_allocating,
];

/// The process that may allocate; 0 lets all.
static OWNER: AtomicI32 = AtomicI32::new(0);

/// The exit code of a child that does what it must not.
const ALLOCATED: i32 = 99;

struct Guarded;

#[global_allocator]
static ALLOCATOR: Guarded = Guarded;

fn check(word: &[u8]) {
    let owner = OWNER.load(Ordering::Relaxed);
    // SAFETY: getpid(2), write(2) of bytes that live, _exit(2); none allocates. No abort(3): musl's
    // sends its signal to the thread that libc knows, which is the parent's.
    unsafe {
        if owner != 0 && libc::getpid() != owner {
            libc::write(2, word.as_ptr().cast(), word.len());
            libc::_exit(ALLOCATED);
        }
    }
}

// SAFETY: everything is the system allocator's; a check that may end the process comes before.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(b"the child allocates\n");
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        check(b"the child frees\n");
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(b"the child reallocates\n");
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// While it lives, only this process may allocate.
struct Armed;

impl Armed {
    fn new() -> Self {
        OWNER.store(
            i32::try_from(std::process::id()).unwrap(),
            Ordering::Relaxed,
        );
        Self
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        OWNER.store(0, Ordering::Relaxed);
    }
}

fn end_of(
    mut state: Option<Box<u8>>,
    entry: fn(&mut Option<Box<u8>>) -> Infallible,
) -> sys::process::Exit {
    let armed = Armed::new();
    let child = sys::clone::clone_child(0, None, &mut state, entry).unwrap();
    let exit = sys::process::wait_pidfd(child.pidfd.as_fd(), true).unwrap();
    drop(armed);
    exit.unwrap()
}

fn child_that_allocates_dies() {
    require!(seedpod);
    let exit = end_of(None, |state| {
        *state = Some(Box::new(1));
        std::hint::black_box(state);
        sys::process::exit_now(0)
    });
    assert_eq!(exit, sys::process::Exit::Code(ALLOCATED));
    let quiet = end_of(None, |_| sys::process::exit_now(0));
    assert_eq!(quiet, sys::process::Exit::Code(0));
}

fn child_that_frees_dies() {
    require!(seedpod);
    let exit = end_of(Some(Box::new(1)), |state| {
        drop(std::hint::black_box(state.take()));
        sys::process::exit_now(0)
    });
    assert_eq!(exit, sys::process::Exit::Code(ALLOCATED));
}

/// Every operation there is. A new one does not compile until it is in both lists, and the test fails
/// until a configuration has it.
const NAMES: &[&str] = &[
    "JoinNamespace",
    "JoinRemaining",
    "CheckIdMaps",
    "JoinProcess",
    "BecomeRoot",
    "Unshare",
    "CloneChild",
    "AwaitGo",
    "NewSession",
    "JoinKeyring",
    "LoopbackUp",
    "Hostname",
    "Domainname",
    "MakeMountsPrivate",
    "NewFileSystem",
    "AttachRoot",
    "PivotRoot",
    "DetachHost",
    "Attach",
    "SetPropagation",
    "SetAttributes",
    "MakeNode",
    "MakeSymlink",
    "OpenTerminal",
    "AttachConsole",
    "UseTerminal",
    "UseStream",
    "SetSysctl",
    "MaskPath",
    "ReadonlyPath",
    "MakeDirectory",
    "FindHome",
    "CheckProgram",
    "Ready",
    "AwaitStart",
    "Personality",
    "ChangeDirectory",
    "SetRlimit",
    "LimitBounding",
    "SetGroups",
    "SetGid",
    "SetUid",
    "SetUmask",
    "RaisePermitted",
    "SetCapabilities",
    "SetAmbient",
    "NoNewPrivileges",
    "CloseOnExec",
    "ResetSignals",
    "LoadSeccomp",
    "Execute Args",
    "Execute File",
];

fn name(op: &Op) -> &'static str {
    match op {
        Op::JoinNamespace { .. } => "JoinNamespace",
        Op::JoinRemaining => "JoinRemaining",
        Op::CheckIdMaps { .. } => "CheckIdMaps",
        Op::JoinProcess { .. } => "JoinProcess",
        Op::BecomeRoot => "BecomeRoot",
        Op::Unshare { .. } => "Unshare",
        Op::CloneChild { .. } => "CloneChild",
        Op::AwaitGo => "AwaitGo",
        Op::NewSession => "NewSession",
        Op::JoinKeyring { .. } => "JoinKeyring",
        Op::LoopbackUp => "LoopbackUp",
        Op::Hostname { .. } => "Hostname",
        Op::Domainname { .. } => "Domainname",
        Op::MakeMountsPrivate => "MakeMountsPrivate",
        Op::NewFileSystem(_) => "NewFileSystem",
        Op::AttachRoot { .. } => "AttachRoot",
        Op::PivotRoot => "PivotRoot",
        Op::DetachHost => "DetachHost",
        Op::Attach { .. } => "Attach",
        Op::SetPropagation { .. } => "SetPropagation",
        Op::SetAttributes { .. } => "SetAttributes",
        Op::MakeNode { .. } => "MakeNode",
        Op::MakeSymlink { .. } => "MakeSymlink",
        Op::OpenTerminal { .. } => "OpenTerminal",
        Op::AttachConsole { .. } => "AttachConsole",
        Op::UseTerminal { .. } => "UseTerminal",
        Op::UseStream { .. } => "UseStream",
        Op::SetSysctl { .. } => "SetSysctl",
        Op::MaskPath { .. } => "MaskPath",
        Op::ReadonlyPath { .. } => "ReadonlyPath",
        Op::MakeDirectory { .. } => "MakeDirectory",
        Op::FindHome { .. } => "FindHome",
        Op::CheckProgram => "CheckProgram",
        Op::Ready => "Ready",
        Op::AwaitStart { .. } => "AwaitStart",
        Op::Personality { .. } => "Personality",
        Op::ChangeDirectory { .. } => "ChangeDirectory",
        Op::SetRlimit(_) => "SetRlimit",
        Op::LimitBounding { .. } => "LimitBounding",
        Op::SetGroups { .. } => "SetGroups",
        Op::SetGid { .. } => "SetGid",
        Op::SetUid { .. } => "SetUid",
        Op::SetUmask { .. } => "SetUmask",
        Op::RaisePermitted => "RaisePermitted",
        Op::SetCapabilities { .. } => "SetCapabilities",
        Op::SetAmbient { .. } => "SetAmbient",
        Op::NoNewPrivileges => "NoNewPrivileges",
        Op::CloseOnExec { .. } => "CloseOnExec",
        Op::ResetSignals => "ResetSignals",
        Op::LoadSeccomp { .. } => "LoadSeccomp",
        Op::Execute(Program::Args) => "Execute Args",
        Op::Execute(Program::File(_)) => "Execute File",
    }
}

/// What the launched plans had in them.
#[derive(Default)]
struct Seen(BTreeSet<&'static str>);

impl Seen {
    fn note(&mut self, plan: &Plan) {
        self.0.extend(plan.ops.iter().map(name));
    }

    /// Creates and starts; the container's first process.
    fn run(&mut self, bundle: &Bundle, given: bool, sandbox: bool) -> View {
        bundle.write();
        let mut request = CreateRequest::of_bundle(&bundle.id, bundle.dir()).unwrap();
        request.sandbox = sandbox;
        if given {
            request.given = streams();
        }
        if sandbox {
            let program = container::sandbox::pause_program().unwrap();
            request.given.push(("pause program", program));
        }
        request.takes_terminal = bundle.config["process"]["terminal"] == true;
        self.note(&request.plan(&mut Vec::new()).unwrap().2);
        let armed = Armed::new();
        let launched = container::create(&store(), request, &mut Vec::new()).unwrap();
        container::start(&store(), &bundle.id, &mut Vec::new()).unwrap();
        drop(armed);
        // The master side of a terminal: without it the program is hung up.
        std::mem::forget(launched);
        View::of(&store(), &bundle.id).unwrap()
    }

    fn exec(&mut self, bundle: &Bundle, change: impl FnOnce(&mut ExecRequest)) {
        let mut view = View::of(&store(), &bundle.id).unwrap();
        let (wire, container) = configuration(&view).unwrap();
        let mut request = ExecRequest {
            process: seedpod::spec::process::Process::new(&wire, &mut Vec::new()).unwrap(),
            given: streams(),
            ..ExecRequest::default()
        };
        change(&mut request);
        let plan = seedpod::plan::exec::plan(
            &container,
            &request.process,
            &seedpod::plan::exec::Request {
                own_streams: !request.given.is_empty(),
                ..Default::default()
            },
            &mut Vec::new(),
        );
        self.note(&plan.unwrap());
        let armed = Armed::new();
        let launched = exec(&mut view, &container, request, &mut Vec::new()).unwrap();
        drop(armed);
        // It must be reaped, or the first process of its pid namespace cannot end.
        container::foreground::stop(&launched);
    }
}

fn store() -> Store {
    Store::new(case_dir().join("state"))
}

fn streams() -> Vec<(&'static str, OwnedFd)> {
    ["standard input", "standard output", "standard error"]
        .into_iter()
        .map(|name| {
            let file = File::options().read(true).write(true).open("/dev/null");
            (name, file.unwrap().into())
        })
        .collect()
}

/// Masks of both kinds twice, links on the way, HOME, a filter, a remount: all that there is without a
/// user namespace.
fn everything(no_new_privileges: bool) -> Bundle {
    let bundle = Bundle::sleeper();
    std::fs::create_dir_all(bundle.rootfs("masked/a")).unwrap();
    std::fs::create_dir_all(bundle.rootfs("masked/b")).unwrap();
    std::fs::write(bundle.rootfs("masked/c"), "").unwrap();
    std::fs::write(bundle.rootfs("masked/d"), "").unwrap();
    std::os::unix::fs::symlink("masked", bundle.rootfs("link")).unwrap();
    let data = bundle.dir().join("data");
    std::fs::create_dir(&data).unwrap();
    bundle
        .mount("/made/on/the/way", "bind", &data, &["rbind", "rslave", "nosuid"])
        .mount("/link/a/new", "bind", &data, &["bind"])
        .mount("/made/on/the/way", "none", Path::new("none"), &["remount", "bind", "ro"])
        .set("/domainname", "example")
        .set("/root/readonly", true)
        .set("/process/noNewPrivileges", no_new_privileges)
        .set("/process/user", json!({ "uid": 1000, "gid": 1000, "additionalGids": [5, 6] }))
        .set("/process/cwd", "/made/cwd")
        .set("/process/capabilities/ambient", json!(["CAP_KILL", "CAP_CHOWN"]))
        .set("/linux/personality", json!({ "domain": "LINUX" }))
        .set("/linux/rootfsPropagation", "rslave")
        .set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }))
        .set("/linux/maskedPaths", json!(["/masked/a", "/link/b", "/masked/c", "/masked/d", "/missing"]))
        .set(
            "/linux/devices",
            json!([{ "path": "/dev/made", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600 }]),
        )
        .set(
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{ "names": ["reboot"], "action": "SCMP_ACT_ERRNO" }] }),
        )
}

fn end(bundle: &Bundle) {
    container::delete(&store(), &bundle.id, true).unwrap();
}

fn every_operation_runs_without_allocating() {
    require!(seedpod);
    let mut seen = Seen::default();

    let plain = everything(true);
    seen.run(&plain, true, false);
    seen.exec(&plain, |_| {});
    end(&plain);

    let terminal = everything(false)
        .set("/process/terminal", true)
        .set("/process/consoleSize", json!({ "height": 24, "width": 80 }));
    seen.run(&terminal, false, false);
    seen.exec(&terminal, |request| {
        request.given.clear();
        request.process.terminal = true;
    });
    end(&terminal);

    let sandbox = Bundle::sleeper()
        .user_namespace(200_000)
        .set("/mounts", json!([]))
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]));
    let pause = seen.run(&sandbox, true, true).pid();
    let volume = sandbox.dir().join("volume");
    std::fs::create_dir(&volume).unwrap();
    chown_tree(&volume, 0);
    let mut member = Bundle::sleeper().user_namespace(200_000);
    for (kind, file) in [
        ("user", "user"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
    ] {
        let path = format!("/proc/{pause}/ns/{file}");
        member = member.namespace(kind, Some(Path::new(&path)));
    }
    member.config.as_object_mut().unwrap().remove("hostname");
    // idmapped mounts of ext4, which TMPDIR has.
    let member = member.mount("/volume", "bind", &volume, &["rbind", "idmap"]);
    seen.run(&member, true, false);
    seen.exec(&member, |_| {});
    end(&member);
    end(&sandbox);

    let missing: Vec<_> = NAMES
        .iter()
        .filter(|name| !seen.0.contains(*name))
        .collect();
    assert!(missing.is_empty(), "no configuration has {missing:?}");
}

/// The error of a failed `create`.
fn failure(bundle: &Bundle) -> String {
    bundle.write();
    let request = CreateRequest::of_bundle(&bundle.id, bundle.dir()).unwrap();
    let armed = Armed::new();
    let result = container::create(&store(), request, &mut Vec::new());
    drop(armed);
    let error = format!("{:#}", result.unwrap_err());
    assert!(!error.contains("first process ended"), "{error}");
    error
}

fn failing_operations_are_told_without_allocating() {
    require!(seedpod);
    let bad = |options: &[&str]| Bundle::sleeper().mount("/x", "tmpfs", Path::new("x"), options);
    let error = failure(&bad(&["no-such-option=1"]));
    assert!(error.contains("the kernel says"), "{error}");

    let error = failure(&Bundle::sleeper().args(&["no-such-program"]));
    assert!(error.contains("no-such-program"), "{error}");

    let linked = Bundle::sleeper();
    std::fs::remove_dir(linked.rootfs("proc")).unwrap();
    std::os::unix::fs::symlink("tmp", linked.rootfs("proc")).unwrap();
    let error = failure(&linked);
    assert!(error.contains("symbolic link"), "{error}");

    let mixed = Bundle::sleeper();
    let source = mixed.dir().join("file");
    std::fs::write(&source, "").unwrap();
    let error = failure(&mixed.mount("/tmp", "bind", &source, &["bind"]));
    assert!(error.contains("directory"), "{error}");

    let error = failure(&Bundle::sleeper().set("/process/cwd", "/etc/passwd"));
    assert!(error.contains("/etc/passwd"), "{error}");

    let error = failure(&Bundle::sleeper().set("/linux/sysctl", json!({ "kernel.no_such": "1" })));
    assert!(error.contains("no_such"), "{error}");
}
