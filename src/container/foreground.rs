//! A process in the foreground: signals go to it, its terminal is ours, its exit code is returned.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::OrFailure;
use crate::launch::Launched;
use crate::sys;

/// Signals, blocked in this process and read from a descriptor. Made before the process is launched,
/// so that none is lost; the launched process puts its own mask back.
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks what can be forwarded.
    ///
    /// # Errors
    /// As sigprocmask(2) and signalfd(2).
    pub fn block() -> Result<Self> {
        let mut set = SigSet::all();
        // Faults are about this process itself.
        for signal in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGABRT,
        ] {
            set.remove(signal);
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None).or_failure(|| "block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).or_failure(|| "make a signal descriptor")?;
        Ok(Self { fd })
    }

    /// Readable when one has arrived.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next one that has arrived.
    pub fn read(&self) -> Option<i32> {
        let info = self.fd.read_signal().ok()??;
        i32::try_from(info.ssi_signo).ok()
    }
}

/// Makes this process the parent of the container's orphans, so that they are reaped.
///
/// # Errors
/// As prctl(2).
pub fn adopt_orphans() -> Result<()> {
    Ok(sys::process::set_subreaper().or_failure(|| "become the reaper of orphans")?)
}

/// Puts a terminal into raw mode, and back on drop.
struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    fn new() -> Option<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned().ok()?;
        let before = tcgetattr(&terminal).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

/// Waits for the end of a launched process, and returns its exit code (128 + N for signal N).
/// With a console, copies between it and our standard streams.
///
/// # Errors
/// As poll(2) and waitid(2).
pub fn wait(launched: &Launched, signals: &Signals) -> Result<i32> {
    let raw = launched.console.as_ref().and_then(|_| Raw::new());
    let mut link = launched.console.as_ref().map(Link::new);
    if let Some(link) = &link {
        link.resize();
    }
    let code = loop {
        if let Some(exit) = sys::process::wait_pidfd(launched.pidfd.as_fd(), false)
            .or_failure(|| "wait for the container")?
        {
            break exit.code();
        }
        let mut fds = vec![
            PollFd::new(launched.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN),
        ];
        let stdin = io::stdin();
        if let Some(link) = &link {
            fds.push(PollFd::new(link.console, PollFlags::POLLIN));
            if link.input {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other.or_failure(|| "wait for the container")?,
        };
        let ready: Vec<bool> = fds
            .iter()
            .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()))
            .collect();
        if ready.get(1) == Some(&true) {
            while let Some(signal) = signals.read() {
                forward(signal, launched, link.as_ref());
            }
        }
        if let Some(link) = link.as_mut() {
            link.copy(ready.get(2) == Some(&true), ready.get(3) == Some(&true));
        }
    };
    if let Some(link) = link.as_mut() {
        link.drain();
    }
    drop(raw);
    Ok(code)
}

/// Kills a launched process and waits for its end.
pub fn stop(launched: &Launched) {
    let _ = sys::process::pidfd_signal(launched.pidfd.as_fd(), libc::SIGKILL);
    let _ = sys::process::wait_pidfd(launched.pidfd.as_fd(), true);
}

fn forward(signal: i32, launched: &Launched, link: Option<&Link<'_>>) {
    match (signal, link) {
        // Of our own children; the pidfd tells of the one that matters.
        (libc::SIGCHLD, _) => {}
        (libc::SIGWINCH, Some(link)) => link.resize(),
        _ => {
            let _ = sys::process::pidfd_signal(launched.pidfd.as_fd(), signal);
        }
    }
}

/// Our standard streams and the master side of the container's terminal.
struct Link<'a> {
    console: BorrowedFd<'a>,
    input: bool,
}

impl<'a> Link<'a> {
    fn new(console: &'a OwnedFd) -> Self {
        Self {
            console: console.as_fd(),
            input: true,
        }
    }

    fn resize(&self) {
        if let Ok((rows, columns)) = sys::tty::size(io::stdin().as_fd()) {
            let _ = sys::tty::set_size(self.console, rows, columns);
        }
    }

    fn copy(&mut self, from_console: bool, from_input: bool) {
        let mut buffer = [0; 16384];
        if from_console && let Ok(count) = sys::open::read(self.console, &mut buffer) {
            let _ = sys::open::write_all(io::stdout().as_fd(), &buffer[..count]);
        }
        if from_input {
            match sys::open::read(io::stdin().as_fd(), &mut buffer) {
                Ok(0) | Err(_) => {
                    // End of input: the terminal's own end-of-file character.
                    let _ = sys::open::write_all(self.console, &[4]);
                    self.input = false;
                }
                Ok(count) => {
                    let _ = sys::open::write_all(self.console, &buffer[..count]);
                }
            }
        }
    }

    /// What was written before the end is still in the terminal.
    fn drain(&mut self) {
        let mut fds = [PollFd::new(self.console, PollFlags::POLLIN)];
        let mut buffer = [0; 16384];
        for _ in 0..1024 {
            let ready = nix::poll::poll(&mut fds, PollTimeout::ZERO).unwrap_or(0);
            let readable = fds[0]
                .revents()
                .is_some_and(|events| events.contains(PollFlags::POLLIN));
            if ready == 0 || !readable {
                break;
            }
            match sys::open::read(self.console, &mut buffer) {
                Ok(count) if count > 0 => {
                    let _ = sys::open::write_all(io::stdout().as_fd(), &buffer[..count]);
                }
                _ => break,
            }
        }
    }
}

/// Sends a terminal's master side to a console socket, with the name that runc sends.
///
/// # Errors
/// As connect(2) and sendmsg(2).
pub fn send_console(socket: &std::os::unix::net::UnixStream, console: &OwnedFd) -> Result<()> {
    let name = format!("/dev/pts/{}", console.as_raw_fd());
    Ok(
        sys::socket::send(socket.as_fd(), name.as_bytes(), Some(console.as_fd()))
            .or_failure(|| "send the terminal to the console socket")?,
    )
}
