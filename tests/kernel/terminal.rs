//! Terminals: the console socket, its size, and what the container sees of it.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::fixture::{Bundle, Container, seedpod};
use crate::runner::Test;
use crate::tests;

pub const TESTS: &[Test] = tests![
    console_socket_gets_the_terminal,
    console_size_is_applied,
    terminal_without_a_console_socket_is_refused,
    console_socket_without_a_terminal_is_refused,
    exec_with_a_terminal_gets_its_own,
    terminal_belongs_to_the_containers_user,
];

/// Waits, bounded, until the descriptor can be read.
fn readable(fd: &impl std::os::fd::AsFd) {
    let mut waited = [PollFd::new(fd, PollFlags::IN)];
    let limit = rustix::event::Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_eq!(
        poll(&mut waited, Some(&limit)).unwrap(),
        1,
        "nothing came in 10 s"
    );
}

/// The terminal that a runtime sends to a console socket.
fn received(listener: &UnixListener) -> File {
    readable(listener);
    let (connection, _) = listener.accept().unwrap();
    readable(&connection);
    let mut bytes = [0; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    recvmsg(
        &connection,
        &mut slices,
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            fds.extend(sent);
        }
    }
    assert_eq!(fds.len(), 1, "one descriptor is expected");
    File::from(fds.remove(0))
}

/// Reads until the text has been seen.
fn read_until(terminal: &mut File, text: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = String::new();
    while !seen.contains(text) {
        assert!(Instant::now() < deadline, "no {text:?} in {seen:?}");
        readable(terminal);
        let mut bytes = [0; 1024];
        let count = terminal.read(&mut bytes).unwrap_or(0);
        assert!(count > 0, "the terminal ended, without {text:?}: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    seen
}

fn listener(bundle: &Bundle, name: &str) -> (UnixListener, String) {
    let path = bundle.dir().join(name);
    let listener = UnixListener::bind(&path).unwrap();
    (listener, path.to_str().unwrap().to_owned())
}

fn started(bundle: Bundle) -> (Container, File) {
    let bundle = bundle.set("/process/terminal", true);
    bundle.write();
    let (socket, path) = listener(&bundle, "console");
    let dir = bundle.dir().to_str().unwrap().to_owned();
    let words = [
        "create",
        "--bundle",
        &dir,
        "--console-socket",
        &path,
        &bundle.id,
    ];
    let output = seedpod(&words);
    let container = Container { bundle };
    output.ok();
    let terminal = received(&socket);
    container.start().ok();
    (container, terminal)
}

fn console_socket_gets_the_terminal() {
    let (_container, mut terminal) = started(Bundle::sh(
        "test -t 0 && tty; stat -c %t:%T /dev/console; read x; echo got $x; sleep 100",
    ));
    let seen = read_until(&mut terminal, "88:0");
    assert!(
        seen.contains("/dev/pts/0") || seen.contains("/dev/console"),
        "{seen}"
    );
    terminal.write_all(b"words\n").unwrap();
    read_until(&mut terminal, "got words");
}

fn console_size_is_applied() {
    let (_container, mut terminal) = started(Bundle::sh("stty size; sleep 100").set(
        "/process/consoleSize",
        json!({ "height": 33, "width": 111 }),
    ));
    read_until(&mut terminal, "33 111");
}

fn terminal_without_a_console_socket_is_refused() {
    Bundle::sleeper()
        .set("/process/terminal", true)
        .create_err();
}

fn console_socket_without_a_terminal_is_refused() {
    let bundle = Bundle::sleeper();
    bundle.write();
    let (_socket, path) = listener(&bundle, "console");
    let dir = bundle.dir().to_str().unwrap();
    seedpod(&[
        "create",
        "--bundle",
        dir,
        "--console-socket",
        &path,
        &bundle.id,
    ])
    .err();
}

fn exec_with_a_terminal_gets_its_own() {
    let container = Bundle::sleeper().start();
    let (socket, path) = listener(&container.bundle, "exec-console");
    let options = ["--tty", "--detach", "--console-socket", &path];
    container
        .exec_with(&options, &["sh", "-c", "tty; sleep 100"])
        .ok();
    let mut terminal = received(&socket);
    read_until(&mut terminal, "/dev/pts/");
}

fn terminal_belongs_to_the_containers_user() {
    let (_container, mut terminal) = started(
        Bundle::sh("echo owner $(stat -c %u $(tty)) end; sleep 100")
            .set("/process/user", json!({ "uid": 1000, "gid": 1000 })),
    );
    read_until(&mut terminal, "owner 1000 end");
}
