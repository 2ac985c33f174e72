//! The child: a loop over the plan's operations, and the verbs.
//!
//! It runs in a process that clone3(2) has just made, on a copy of the parent's memory: nothing
//! here allocates or can panic (another thread may have held the allocator's lock), which the lints
//! below and a test with an aborting allocator hold. It resolves no host path. A failure is one
//! [`record::Record`]; the parent, which holds the same plan, finds the words.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::string_slice,
    clippy::unreachable,
    clippy::todo
)]

mod identity;
mod mounts;
mod paths;
mod program;
pub mod record;
mod terminal;

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::fault::Injected;
use crate::plan::op::{Op, Slot, Strings};
use crate::spec::namespaces::Kind as NamespaceKind;
use crate::sys;
use crate::sys::shared::SharedPage;
use record::{Detail, Kind, Record};

/// Why a verb failed.
#[derive(Debug, Clone, Copy)]
struct Fault {
    errno: Errno,
    detail: Detail,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            detail: Detail::None,
        }
    }
}

/// Adds a detail to an errno.
trait Because<T> {
    fn because(self, detail: Detail) -> Result<T>;
}

impl<T> Because<T> for sys::Result<T> {
    fn because(self, detail: Detail) -> Result<T> {
        self.map_err(|errno| Fault { errno, detail })
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// Not dumpable until execve: processes of a container that see this one may not trace it nor look
/// at its descriptors (CVE-2016-9962).
fn hide() -> Result<()> {
    Ok(sys::process::prctl(libc::PR_SET_DUMPABLE, 0, 0)?)
}

/// Everything that the child works with, made by the parent.
pub struct Child<'plan> {
    /// What to do.
    pub ops: &'plan [Op],
    /// argv and environment.
    pub strings: &'plan mut Strings,
    /// Descriptors, by slot.
    pub slots: &'plan mut [Option<OwnedFd>],
    /// Where the current step is noted.
    pub page: &'plan SharedPage,
    /// To the parent; later to the starter.
    pub socket: Option<OwnedFd>,
    /// Ranges of descriptors that are the parent's alone, closed before anything else.
    pub foreign: &'plan [(u32, u32)],
    /// The step that fails or sleeps, for tests of failure.
    pub injected: Option<Injected>,
    work: Work,
}

/// What the child finds out on its way.
#[derive(Default)]
struct Work {
    /// Where a stage's child goes on.
    next: usize,
    /// The container's `/`.
    root: Option<OwnedFd>,
    /// Kinds of namespaces, as flags, that only the user namespace may join.
    unjoined: u64,
    /// The mask for files is mounted somewhere, so that it can be copied.
    null_attached: bool,
    /// The mask for directories is.
    empty_attached: bool,
    /// More about a failure.
    text: Option<[u8; record::TEXT]>,
}

impl<'plan> Child<'plan> {
    /// A child at the first operation.
    pub fn new(
        ops: &'plan [Op],
        strings: &'plan mut Strings,
        slots: &'plan mut [Option<OwnedFd>],
        page: &'plan SharedPage,
        socket: OwnedFd,
    ) -> Self {
        Self {
            ops,
            strings,
            slots,
            page,
            socket: Some(socket),
            foreign: &[],
            injected: None,
            work: Work::default(),
        }
    }

    /// The entry of the cloned process: does all operations, reports the first that fails.
    pub fn run(&mut self) -> Infallible {
        if self.work.next == 0 {
            // A copy of the parent's end of the pair would hide the parent's death, and a copy of a
            // lock would hold it.
            for (first, last) in self.foreign {
                let _ = sys::open::close_between(*first, *last);
            }
        }
        // Modes in the plan are exact.
        sys::process::umask(0);
        let ops = self.ops;
        for (index, op) in ops.iter().enumerate().skip(self.work.next) {
            let step = u32::try_from(index).unwrap_or(u32::MAX);
            self.page.set_step(step);
            self.work.next = index.saturating_add(1);
            let result = match self.injected {
                Some(Injected::Fail(at)) if at == index => Err(Fault::from(Errno::EIO)),
                Some(Injected::Sleep(at)) if at == index => sys::process::sleep_for_ever(),
                _ => self.execute(op),
            };
            if let Err(fault) = result {
                self.report(Kind::Failed, step, fault);
                sys::process::exit_now(if fault.errno == Errno::ENOENT {
                    127
                } else {
                    126
                });
            }
        }
        sys::process::exit_now(0)
    }

    fn report(&self, kind: Kind, step: u32, fault: Fault) {
        let mut record = Record::new(kind);
        record.step = step;
        record.errno = fault.errno as i32;
        record.detail = fault.detail;
        if let Some(text) = self.work.text {
            record.text = text;
        }
        if let Some(socket) = &self.socket {
            // Nobody is left to tell when this fails.
            let _ = record.send(socket.as_fd(), None);
        }
    }

    fn warn(&self, errno: Errno) {
        let step = u32::try_from(self.work.next.saturating_sub(1)).unwrap_or(u32::MAX);
        self.report(Kind::Warning, step, Fault::from(errno));
    }

    fn fd(&self, slot: Slot) -> Result<BorrowedFd<'_>> {
        let empty = Fault {
            errno: Errno::EBADF,
            detail: Detail::EmptySlot,
        };
        self.slots
            .get(slot.0)
            .and_then(Option::as_ref)
            .map(AsFd::as_fd)
            .ok_or(empty)
    }

    fn fill(&mut self, slot: Slot, fd: OwnedFd) -> Result<()> {
        let place = self.slots.get_mut(slot.0);
        let place = place.ok_or(Fault {
            errno: Errno::EBADF,
            detail: Detail::EmptySlot,
        })?;
        *place = Some(fd);
        Ok(())
    }

    #[allow(
        clippy::too_many_lines,
        reason = "a table: one line for each operation"
    )]
    fn execute(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::JoinNamespace { slot, kind } => self.join_namespace(*slot, *kind),
            Op::JoinRemaining => self.join_remaining(),
            Op::CheckIdMaps { proc, maps } => self.check_id_maps(*proc, maps),
            Op::JoinProcess { slot, flags } => self.join_process(*slot, *flags),
            Op::BecomeRoot => identity::become_root(),
            Op::Unshare { flags } => Ok(sys::ns::unshare(*flags)?),
            Op::CloneChild { flags } => self.clone_child(*flags),
            Op::AwaitGo => self.await_go(),
            Op::NewSession => Ok(sys::process::new_session()?),
            Op::JoinKeyring { name } => self.join_keyring(name),
            Op::LoopbackUp => Ok(sys::net::loopback_up()?),
            Op::Hostname { name } => Ok(sys::process::set_hostname(name.to_bytes())?),
            Op::Domainname { name } => Ok(sys::process::set_domainname(name.to_bytes())?),
            Op::MakeMountsPrivate => Ok(sys::mount::propagate_root(libc::MS_PRIVATE)?),
            Op::NewFileSystem(new) => self.new_file_system(new),
            Op::AttachRoot { slot } => self.attach_root(*slot),
            Op::PivotRoot => Ok(sys::mount::pivot_here()?),
            Op::DetachHost => self.detach_host(),
            Op::Attach {
                slot,
                target,
                ordinary,
            } => self.attach(*slot, target, *ordinary),
            Op::SetPropagation {
                target,
                propagation,
            } => self.set_propagation(target, *propagation),
            Op::SetAttributes {
                target,
                attributes,
                recursive,
            } => self.set_attributes(target, *attributes, *recursive),
            Op::MakeNode {
                path,
                kind,
                number,
                mode,
                uid,
                gid,
            } => self.make_node(path, mode | kind.mode(), *number, (*uid, *gid)),
            Op::MakeSymlink { path, target } => self.make_symlink(path, target),
            Op::OpenTerminal { slot, size, uid } => self.open_terminal(*slot, *size, *uid),
            Op::AttachConsole { slot } => self.attach_console(*slot),
            Op::UseTerminal { slot } => self.use_terminal(*slot),
            Op::UseStream { slot, number } => Ok(sys::open::dup_onto(self.fd(*slot)?, *number)?),
            Op::SetSysctl { proc, file, value } => self.set_sysctl(*proc, file, value),
            Op::MaskPath { path, null, empty } => self.mask_path(path, *null, *empty),
            Op::ReadonlyPath { path } => self.readonly_path(path),
            Op::MakeDirectory { path } => self.make_directory(path),
            Op::FindHome { uid } => self.find_home(*uid),
            Op::CheckProgram => self.check_program(),
            Op::Ready => self.ready(),
            Op::AwaitStart { slot } => self.await_start(*slot),
            Op::Personality { persona } => Ok(sys::process::personality(*persona)?),
            Op::ChangeDirectory { path } => self.change_directory(path),
            Op::SetRlimit(limit) => Ok(sys::process::set_rlimit(
                limit.resource,
                limit.soft,
                limit.hard,
            )?),
            Op::LimitBounding { keep } => Ok(sys::caps::limit_bounding(*keep)?),
            Op::SetGroups { groups } => identity::set_groups(groups),
            Op::SetGid { gid } => Ok(sys::ids::set_gid(*gid)?),
            Op::SetUid { uid } => identity::set_uid(*uid),
            Op::SetUmask { mask } => {
                sys::process::umask(*mask);
                Ok(())
            }
            Op::RaisePermitted => identity::raise_permitted(),
            Op::SetCapabilities {
                effective,
                permitted,
                inheritable,
            } => Ok(sys::caps::set(*effective, *permitted, *inheritable)?),
            Op::SetAmbient { ambient } => self.set_ambient(*ambient),
            Op::NoNewPrivileges => Ok(sys::process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?),
            Op::CloseOnExec { first } => Ok(sys::open::close_on_exec_from(*first)?),
            Op::ResetSignals => Ok(sys::process::reset_signals()?),
            Op::LoadSeccomp { program, flags } => {
                sys::seccomp::load(program, *flags)?;
                Ok(())
            }
            Op::Execute(program) => self.execute_program(program),
        }
    }

    fn join_namespace(&mut self, slot: Slot, kind: NamespaceKind) -> Result<()> {
        if kind == NamespaceKind::User {
            hide()?;
        }
        match sys::ns::setns(self.fd(slot)?, kind.flag()) {
            Err(Errno::EPERM) if kind != NamespaceKind::User => {
                self.work.unjoined |= kind.flag();
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn join_remaining(&mut self) -> Result<()> {
        let ops = self.ops;
        for op in ops {
            if let Op::JoinNamespace { slot, kind } = op
                && self.work.unjoined & kind.flag() != 0
            {
                sys::ns::setns(self.fd(*slot)?, kind.flag())?;
                self.work.unjoined &= !kind.flag();
            }
        }
        Ok(())
    }

    fn join_process(&mut self, slot: Slot, flags: u64) -> Result<()> {
        if flags != 0 {
            hide()?;
            sys::ns::setns(self.fd(slot)?, flags)?;
        }
        Ok(())
    }

    /// Ends the stage: the clone goes on with the next operation, this process is done.
    fn clone_child(&mut self, flags: u64) -> Result<()> {
        let pid = sys::clone::clone_sibling(flags, self, |child| child.run())?;
        self.page.set_pid(pid);
        if let Some(socket) = &self.socket {
            Record::new(Kind::Cloned).send(socket.as_fd(), None)?;
        }
        sys::process::exit_now(0)
    }

    fn await_go(&mut self) -> Result<()> {
        let socket = self.socket.as_ref().ok_or(Errno::EBADF)?;
        match Record::receive(socket.as_fd()) {
            Ok(Some((Record { kind: Kind::Go, .. }, _))) => hide(),
            // The parent is gone, or gave up: so does the child, and nobody is there to be told.
            Ok(_) | Err(Errno::ECONNRESET) => sys::process::exit_now(1),
            Err(errno) => Err(errno.into()),
        }
    }

    fn ready(&mut self) -> Result<()> {
        let socket = self.socket.as_ref().ok_or(Errno::EBADF)?;
        if Record::new(Kind::Ready).send(socket.as_fd(), None).is_err() {
            sys::process::exit_now(1);
        }
        Ok(())
    }

    /// Waits until somebody connects; what fails from here on is told to them.
    fn await_start(&mut self, slot: Slot) -> Result<()> {
        let connection = sys::socket::accept(self.fd(slot)?)?;
        self.socket = Some(connection);
        if let Some(listener) = self.slots.get_mut(slot.0) {
            *listener = None;
        }
        Ok(())
    }

    fn join_keyring(&mut self, name: &std::ffi::CStr) -> Result<()> {
        match sys::process::join_session_keyring(name) {
            // A kernel without keys has none to hide.
            Err(Errno::ENOSYS) => Ok(()),
            // A filter around us forbids it, or the quota of keys is used up: the container keeps
            // the caller's keyring, and the caller is told.
            Err(errno @ (Errno::EPERM | Errno::EACCES | Errno::EDQUOT)) => {
                self.warn(errno);
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn set_sysctl(
        &mut self,
        proc: Slot,
        file: &std::ffi::CStr,
        value: &std::ffi::CStr,
    ) -> Result<()> {
        let file = paths::open_proc(self.fd(proc)?, file, libc::O_WRONLY)?;
        Ok(sys::open::write_all(file.as_fd(), value.to_bytes())?)
    }
}
