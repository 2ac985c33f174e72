//! Processes: pidfds, waiting, signals, resource limits, prctl, execve.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::open::own;
use super::{EMPTY, Result, syscall};

/// pidfd_open(2).
///
/// # Errors
/// As pidfd_open(2); ESRCH when there is no such process.
pub fn pidfd_open(pid: libc::pid_t) -> Result<OwnedFd> {
    syscall!(libc::SYS_pidfd_open, pid, 0).map(own)
}

/// pidfd_send_signal(2); signal 0 only checks.
///
/// # Errors
/// As pidfd_send_signal(2).
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let null = std::ptr::null::<libc::siginfo_t>();
    syscall!(
        libc::SYS_pidfd_send_signal,
        pidfd.as_raw_fd(),
        signal,
        null,
        0
    )
    .map(drop)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// exit(2) with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl Exit {
    /// The shell's number: the code, or 128 plus the signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// waitid(2) for a child by its pidfd; `None` when `block` is false and it still runs.
///
/// # Errors
/// As waitid(2); ECHILD when it is not our child.
pub fn wait_pidfd(pidfd: BorrowedFd<'_>, block: bool) -> Result<Option<Exit>> {
    wait(libc::P_PIDFD, pidfd.as_raw_fd().cast_unsigned(), block)
}

/// waitid(2) for a child by its pid, blocking. Only for a child that cannot have been reaped yet.
///
/// # Errors
/// As waitid(2).
pub fn wait_pid(pid: libc::pid_t) -> Result<Option<Exit>> {
    wait(libc::P_PID, pid.cast_unsigned(), true)
}

fn wait(kind: libc::idtype_t, id: u32, block: bool) -> Result<Option<Exit>> {
    let flags = libc::WEXITED | if block { 0 } else { libc::WNOHANG };
    loop {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is valid for writes of a whole siginfo_t, zeroed before, and its union is
        // read as the kind that waitid(2) fills.
        let (pid, code, status) = unsafe {
            if libc::waitid(kind, id, info.as_mut_ptr(), flags) == -1 {
                match Errno::last() {
                    Errno::EINTR => continue,
                    errno => return Err(errno),
                }
            }
            let info = info.assume_init();
            (info.si_pid(), info.si_code, info.si_status())
        };
        return Ok(match (pid, code) {
            (0, _) => None,
            (_, libc::CLD_EXITED) => Some(Exit::Code(status)),
            _ => Some(Exit::Signal(status)),
        });
    }
}

/// Makes this process the one that orphans below it fall to (`PR_SET_CHILD_SUBREAPER`).
///
/// # Errors
/// As prctl(2).
pub fn set_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)
}

/// prctl(2) with up to two numbers.
///
/// # Errors
/// As prctl(2).
pub fn prctl(option: i32, first: libc::c_ulong, second: libc::c_ulong) -> Result<()> {
    syscall!(libc::SYS_prctl, option, first, second, 0, 0).map(drop)
}

/// Sets one resource limit of the calling process (prlimit64(2)).
///
/// # Errors
/// As prlimit(2); EPERM when it would be raised without CAP_SYS_RESOURCE.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    let null = std::ptr::null_mut::<libc::rlimit64>();
    syscall!(
        libc::SYS_prlimit64,
        0,
        resource,
        std::ptr::from_ref(&limit),
        null
    )
    .map(drop)
}

/// Raises the hard limit of another process to `hard`, where it is lower; the soft limit stays.
///
/// # Errors
/// As prlimit(2); EPERM without CAP_SYS_RESOURCE.
pub fn raise_hard_limit(pid: libc::pid_t, resource: u32, hard: u64) -> Result<()> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let null = std::ptr::null::<libc::rlimit64>();
    syscall!(
        libc::SYS_prlimit64,
        pid,
        resource,
        null,
        std::ptr::from_mut(&mut limit)
    )?;
    if limit.rlim_max >= hard {
        return Ok(());
    }
    limit.rlim_max = hard;
    let null = std::ptr::null_mut::<libc::rlimit64>();
    syscall!(
        libc::SYS_prlimit64,
        pid,
        resource,
        std::ptr::from_ref(&limit),
        null
    )
    .map(drop)
}

/// Puts every signal back to its default action and unblocks all: what a program expects at its
/// start. Rust's runtime ignores SIGPIPE, and a parent may have ignored or blocked anything.
///
/// # Errors
/// As sigprocmask(2); signals that cannot be changed are passed over.
pub fn reset_signals() -> Result<()> {
    // The kernel's struct, not the C library's: handler, flags, restorer, mask. All zero is
    // SIG_DFL with no flags, on every architecture that we build for.
    let default = [0_u64; 4];
    let null = std::ptr::null_mut::<u64>();
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            let action = default.as_ptr();
            syscall!(
                libc::SYS_rt_sigaction,
                signal,
                action,
                null,
                size_of::<u64>()
            )?;
        }
    }
    let none = 0_u64;
    let mask = std::ptr::from_ref(&none);
    syscall!(
        libc::SYS_rt_sigprocmask,
        libc::SIG_SETMASK,
        mask,
        null,
        size_of::<u64>()
    )
    .map(drop)
}

/// A null-terminated array of C strings, ready for execve(2): made in the parent, used in the child.
#[derive(Debug)]
pub struct ExecStrings {
    // The pointers are into `strings` and `reserved`, whose heap blocks do not move when the struct
    // does.
    pointers: Vec<*const libc::c_char>,
    strings: Vec<CString>,
    reserved: Option<Box<[u8; RESERVED]>>,
}

/// Room for one more string, its NUL included.
pub const RESERVED: usize = 1024;

impl ExecStrings {
    /// Takes the strings and lays out the array; with `reserve`, one more string, empty now, can be
    /// written later without allocating.
    pub fn new(strings: Vec<CString>, reserve: bool) -> Self {
        let reserved = reserve.then(|| Box::new([0; RESERVED]));
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.extend(reserved.as_ref().map(|bytes| bytes.as_ptr().cast()));
        pointers.push(std::ptr::null());
        Self {
            pointers,
            strings,
            reserved,
        }
    }

    /// The strings themselves, without the reserved one.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }

    /// Writes the reserved string from its parts; `false` when there is no room for them, or one
    /// has a NUL byte.
    pub fn write_reserved(&mut self, parts: &[&[u8]]) -> bool {
        let Some(reserved) = self.reserved.as_mut() else {
            return false;
        };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length >= RESERVED || parts.iter().any(|part| part.contains(&0)) {
            return false;
        }
        let bytes = parts.iter().flat_map(|part| part.iter());
        // The last byte stays 0 in any case, so the string always ends.
        for (to, from) in reserved
            .iter_mut()
            .zip(bytes.copied().chain(std::iter::repeat(0)))
        {
            *to = from;
        }
        true
    }
}

impl Clone for ExecStrings {
    fn clone(&self) -> Self {
        Self::new(self.strings.clone(), self.reserved.is_some())
    }
}

/// execve(2). Returns only when it failed.
pub fn exec(path: &CStr, args: &ExecStrings, env: &ExecStrings) -> Errno {
    let (args, env) = (args.pointers.as_ptr(), env.pointers.as_ptr());
    match syscall!(libc::SYS_execve, path.as_ptr(), args, env) {
        Ok(_) => Errno::EIO,
        Err(errno) => errno,
    }
}

/// execveat(2) of an open file. Returns only when it failed.
pub fn exec_fd(fd: BorrowedFd<'_>, args: &ExecStrings, env: &ExecStrings) -> Errno {
    let (args, env) = (args.pointers.as_ptr(), env.pointers.as_ptr());
    let number = fd.as_raw_fd();
    match syscall!(
        libc::SYS_execveat,
        number,
        EMPTY.as_ptr(),
        args,
        env,
        libc::AT_EMPTY_PATH
    ) {
        Ok(_) => Errno::EIO,
        Err(errno) => errno,
    }
}

/// faccessat2(2) for execution with the effective ids.
///
/// # Errors
/// As access(2).
pub fn executable(path: &CStr) -> Result<()> {
    let (at, mode, flags) = (libc::AT_FDCWD, libc::X_OK, libc::AT_EACCESS);
    syscall!(libc::SYS_faccessat2, at, path.as_ptr(), mode, flags).map(drop)
}

/// Ends the process at once, without any clean-up of the C library.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Sleeps until a signal ends the process.
pub fn sleep_for_ever() -> ! {
    loop {
        // SAFETY: pause(2) has no preconditions and touches no memory.
        unsafe { libc::pause() };
    }
}

/// setsid(2).
///
/// # Errors
/// As setsid(2); EPERM when it is a group leader already.
pub fn new_session() -> Result<()> {
    syscall!(libc::SYS_setsid).map(drop)
}

/// sethostname(2).
///
/// # Errors
/// As sethostname(2).
pub fn set_hostname(name: &[u8]) -> Result<()> {
    syscall!(libc::SYS_sethostname, name.as_ptr(), name.len()).map(drop)
}

/// setdomainname(2).
///
/// # Errors
/// As setdomainname(2).
pub fn set_domainname(name: &[u8]) -> Result<()> {
    syscall!(libc::SYS_setdomainname, name.as_ptr(), name.len()).map(drop)
}

/// personality(2).
///
/// # Errors
/// As personality(2).
pub fn personality(persona: u32) -> Result<()> {
    syscall!(libc::SYS_personality, libc::c_ulong::from(persona)).map(drop)
}

/// umask(2).
pub fn umask(mask: u32) {
    // SAFETY: umask(2) always succeeds and touches no memory.
    unsafe { libc::umask(mask) };
}

/// A new, empty session keyring with the given name (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`).
///
/// # Errors
/// As keyctl(2); ENOSYS where the kernel has no keys.
pub fn join_session_keyring(name: &CStr) -> Result<()> {
    syscall!(libc::SYS_keyctl, 1, name.as_ptr()).map(drop)
}

/// Waits until one of the descriptors can be read, is hung up or broken; `timeout` in ms, -1 for
/// none. Returns which one, or `None` at the time-out.
///
/// # Errors
/// As poll(2).
pub fn wait_readable(fds: [BorrowedFd<'_>; 2], timeout: i32) -> Result<Option<usize>> {
    let [first, second] = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let mut polled = [first, second];
    loop {
        // SAFETY: the array has exactly the two entries that are counted.
        match unsafe { libc::poll(polled.as_mut_ptr(), 2, timeout) } {
            -1 if Errno::last() == Errno::EINTR => {}
            -1 => return Err(Errno::last()),
            0 => return Ok(None),
            _ => return Ok(polled.iter().position(|entry| entry.revents != 0)),
        }
    }
}
