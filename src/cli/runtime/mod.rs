//! `seedpod`'s commands. This file has the table and the dispatch; each command has its own.

mod create;
mod delete;
mod exec;
mod explain;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod spec;
mod start;
mod state;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::args::{self, Command, Flag, Matches, switch, value};
use super::log::{Format, Log};
use crate::container::seal;
use crate::container::store::Store;

/// The default of `--root`.
const ROOT: &str = "/run/seedpod";

/// runtime-spec's version whose properties are understood.
pub const SPEC_VERSION: &str = "1.3.0";

/// What every command gets.
pub struct Context {
    /// Of the containers.
    pub store: Store,
    /// `--root` was given.
    pub explicit_root: bool,
    /// For warnings.
    pub log: Log,
}

impl Context {
    fn warn(&mut self, warnings: Vec<String>) {
        for warning in warnings {
            self.log.warning(&warning);
        }
    }
}

/// The commands whose process, or a child of it, enters a container.
const ENTER_CONTAINERS: [&str; 3] = ["create", "run", "exec"];

/// The flags before the command.
pub static GLOBAL: [Flag; 8] = [
    value(
        "root",
        None,
        "DIR",
        "directory of the containers' state (default /run/seedpod)",
    ),
    value(
        "log",
        None,
        "FILE",
        "also write errors and warnings to FILE",
    ),
    value("log-format", None, "FORMAT", "text (default) or json"),
    switch(
        "debug",
        None,
        "accepted for callers of runc; errors are always complete",
    ),
    switch(
        "systemd-cgroup",
        None,
        "make cgroups through systemd (not supported by this version)",
    ),
    value(
        "cgroup-manager",
        None,
        "NAME",
        "cgroupfs; other values are not supported by this version",
    ),
    switch("version", Some('v'), "print the version"),
    switch("help", Some('h'), "print this help"),
];

static BUNDLE: Flag = value(
    "bundle",
    Some('b'),
    "DIR",
    "directory of config.json (default: the current one)",
);
static PID_FILE: Flag = value(
    "pid-file",
    None,
    "FILE",
    "write the pid of the first process to FILE",
);
static CONSOLE: Flag = value(
    "console-socket",
    None,
    "PATH",
    "Unix socket that receives the master side of the terminal",
);
static NO_PIVOT: Flag = switch(
    "no-pivot",
    None,
    "not supported: the root is always pivoted",
);
static NO_KEYRING: Flag = switch("no-new-keyring", None, "keep the caller's session keyring");
static PRESERVE: Flag = value(
    "preserve-fds",
    None,
    "N",
    "keep N descriptors from 3 on open",
);

macro_rules! flags {
    ($($flag:expr),* $(,)?) => {{
        static FLAGS: &[Flag] = &[$($flag),*];
        FLAGS
    }};
}

const fn copy(flag: &Flag) -> Flag {
    Flag {
        long: flag.long,
        short: flag.short,
        value: flag.value,
        help: flag.help,
    }
}

/// All commands, in the order in which help lists them.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "create",
        operands: "ID",
        about: "Make a container: everything but its program.",
        count: (1, 1),
        rest_from: None,
        flags: flags![
            copy(&BUNDLE),
            copy(&PID_FILE),
            copy(&CONSOLE),
            copy(&NO_PIVOT),
            copy(&NO_KEYRING),
            copy(&PRESERVE)
        ],
        examples: &["seedpod create -b /bundles/web web", "seedpod start web"],
    },
    Command {
        name: "start",
        operands: "ID",
        about: "Run the program of a created container.",
        count: (1, 1),
        rest_from: None,
        flags: flags![],
        examples: &["seedpod start web"],
    },
    Command {
        name: "run",
        operands: "ID",
        about: "Create and start a container, and wait for its end.",
        count: (1, 1),
        rest_from: None,
        flags: flags![
            copy(&BUNDLE),
            switch("detach", Some('d'), "return when the program runs"),
            switch("keep", None, "do not delete the container at its end"),
            switch("no-subreaper", None, "do not adopt the container's orphans"),
            copy(&PID_FILE),
            copy(&CONSOLE),
            copy(&NO_PIVOT),
            copy(&NO_KEYRING),
            copy(&PRESERVE)
        ],
        examples: &[
            "seedpod spec && seedpod run demo",
            "seedpod run -d --pid-file web.pid web",
        ],
    },
    Command {
        name: "state",
        operands: "ID",
        about: "Print the state of a container as JSON.",
        count: (1, 1),
        rest_from: None,
        flags: flags![],
        examples: &["seedpod state web"],
    },
    Command {
        name: "kill",
        operands: "ID [SIGNAL]",
        about: "Send a signal (default TERM) to the first process of a container.",
        count: (1, 2),
        rest_from: None,
        flags: flags![switch(
            "all",
            Some('a'),
            "to all processes in the container's cgroup"
        )],
        examples: &[
            "seedpod kill web",
            "seedpod kill web SIGKILL",
            "seedpod kill web 9",
        ],
    },
    Command {
        name: "delete",
        operands: "ID",
        about: "Remove a container that has stopped.",
        count: (1, 1),
        rest_from: None,
        flags: flags![switch(
            "force",
            Some('f'),
            "kill it first; no error when there is none"
        )],
        examples: &["seedpod delete web", "seedpod delete --force web"],
    },
    Command {
        name: "exec",
        operands: "ID COMMAND [ARG]...",
        about: "Run a process in a container that runs.",
        count: (1, usize::MAX),
        rest_from: Some(2),
        flags: flags![
            value(
                "process",
                Some('p'),
                "FILE",
                "read the whole process from FILE (process.json)"
            ),
            switch("detach", Some('d'), "return when the program runs"),
            switch("tty", Some('t'), "with a terminal"),
            value("user", Some('u'), "UID[:GID]", "as this user"),
            value(
                "additional-gids",
                Some('g'),
                "GID",
                "with this group too; may be repeated"
            ),
            value(
                "env",
                Some('e'),
                "NAME=VALUE",
                "with this variable; may be repeated"
            ),
            value("cwd", None, "DIR", "in this directory of the container"),
            value(
                "cap",
                Some('c'),
                "CAP",
                "with this capability too; may be repeated"
            ),
            switch("no-new-privs", None, "with no_new_privs"),
            switch("ignore-paused", None, "also in a paused container"),
            copy(&PID_FILE),
            copy(&CONSOLE),
            copy(&PRESERVE)
        ],
        examples: &[
            "seedpod exec web ls -l /",
            "seedpod exec -t -u 1000:1000 web sh",
        ],
    },
    Command {
        name: "list",
        operands: "",
        about: "List the containers.",
        count: (0, 0),
        rest_from: None,
        flags: flags![
            value("format", Some('f'), "FORMAT", "table (default) or json"),
            switch("quiet", Some('q'), "only ids")
        ],
        examples: &["seedpod list", "seedpod list -f json"],
    },
    Command {
        name: "ps",
        operands: "ID [PS-FLAG]...",
        about: "Show the processes of a container.",
        count: (1, usize::MAX),
        rest_from: Some(2),
        flags: flags![value(
            "format",
            Some('f'),
            "FORMAT",
            "table (default) or json"
        )],
        examples: &[
            "seedpod ps web",
            "seedpod ps -f json web",
            "seedpod ps web -- -o pid,args",
        ],
    },
    Command {
        name: "pause",
        operands: "ID",
        about: "Stop all processes of a container, to go on later.",
        count: (1, 1),
        rest_from: None,
        flags: flags![],
        examples: &["seedpod pause web"],
    },
    Command {
        name: "resume",
        operands: "ID",
        about: "Let a paused container go on.",
        count: (1, 1),
        rest_from: None,
        flags: flags![],
        examples: &["seedpod resume web"],
    },
    Command {
        name: "spec",
        operands: "",
        about: "Write a config.json that runs a shell.",
        count: (0, 0),
        rest_from: None,
        flags: flags![copy(&BUNDLE)],
        examples: &["seedpod spec -b /bundles/demo"],
    },
    Command {
        name: "features",
        operands: "",
        about: "Print what this version supports, as JSON (runtime-spec features.md).",
        count: (0, 0),
        rest_from: None,
        flags: flags![],
        examples: &["seedpod features"],
    },
    Command {
        name: "explain",
        operands: "[ID]",
        about: "Print what create would do, step by step, without doing it.",
        count: (0, 1),
        rest_from: None,
        flags: flags![copy(&BUNDLE)],
        examples: &["seedpod explain -b /bundles/web"],
    },
];

/// The whole program: parses, dispatches, prints the one error. Returns the exit code.
pub fn main(words: Vec<OsString>) -> i32 {
    let mut log = Log::default();
    match dispatch(words, &mut log) {
        Ok(code) => code,
        Err(End { error, code }) => {
            log.error(&format!("{error:#}"));
            code
        }
    }
}

struct End {
    error: anyhow::Error,
    code: i32,
}

impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> Self {
        Self { error, code: 1 }
    }
}

fn dispatch(words: Vec<OsString>, log: &mut Log) -> Result<i32, End> {
    let mut global = args::parse(words, &[&GLOBAL], Some(1))?;
    if let Some(path) = global.get("log") {
        let format = match global.text("log-format")? {
            None | Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => {
                return Err(
                    anyhow::anyhow!("--log-format: `{other}` is neither text nor json").into(),
                );
            }
        };
        *log = Log::open(Path::new(path), format)?;
    }
    if global.has("version") {
        return print(&version());
    }
    if global.operands.is_empty() || global.has("help") {
        return print(&usage());
    }
    refuse(&global)?;
    let mut rest = global.operands.split_off(1);
    let name = global.operand(0, "command")?.to_owned();
    if name == "help" {
        return print(&usage());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(anyhow::anyhow!("unknown command `{name}`; see `seedpod --help`").into());
    };
    if rest.first().is_some_and(|word| word == "--") {
        rest.remove(0);
    }
    static HELP: [Flag; 1] = [switch("help", Some('h'), "")];
    let matches = args::parse(rest, &[command.flags, &HELP], command.rest_from)?;
    if matches.has("help") {
        return print(&args::help("seedpod", command));
    }
    args::check_count(command, &matches)?;
    if ENTER_CONTAINERS.contains(&command.name) {
        seal::read_only_program()?;
    }
    let root = global
        .get("root")
        .map_or_else(|| PathBuf::from(ROOT), PathBuf::from);
    let mut context = Context {
        store: Store::new(root),
        explicit_root: global.get("root").is_some(),
        log: std::mem::take(log),
    };
    let result = run(command.name, &mut context, &matches);
    *log = context.log;
    result.map_err(|error| End {
        error,
        code: if command.name == "exec" { 255 } else { 1 },
    })
}

fn refuse(global: &Matches) -> Result<()> {
    if global.has("systemd-cgroup") {
        bail!("--systemd-cgroup: not supported by this version of seedpod");
    }
    match global.text("cgroup-manager")? {
        None | Some("cgroupfs") => Ok(()),
        Some(other) => bail!("--cgroup-manager {other}: not supported by this version of seedpod"),
    }
}

fn run(name: &str, context: &mut Context, matches: &Matches) -> Result<i32> {
    if matches.has("no-pivot") {
        bail!("--no-pivot: not supported; seedpod always pivots");
    }
    match name {
        "create" => create::create(context, matches),
        "run" => create::run(context, matches),
        "start" => start::start(context, matches),
        "state" => state::state(context, matches),
        "kill" => kill::kill(context, matches),
        "delete" => delete::delete(context, matches),
        "exec" => exec::exec(context, matches),
        "list" => list::list(context, matches),
        "ps" => ps::ps(context, matches),
        "pause" => pause::pause(context, matches, true),
        "resume" => pause::pause(context, matches, false),
        "spec" => spec::spec(matches),
        "features" => features::features(),
        "explain" => explain::explain(context, matches),
        other => bail!("unknown command `{other}`"),
    }
}

fn print(text: &str) -> Result<i32, End> {
    out(text)?;
    Ok(0)
}

/// Writes to standard output; a reader that has gone away is no error.
pub(super) fn out(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// go-runc wants `runc version` in the first line.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("SEEDPOD_COMMIT").unwrap_or("unknown");
    format!(
        "runc version {version} (seedpod)\ncommit: {commit}\nspec: {SPEC_VERSION}\nseedpod: {version}\n"
    )
}

fn usage() -> String {
    let mut text = String::from(
        "seedpod: an OCI container runtime that knows what a Pod is\n\n\
         Usage: seedpod [flags] COMMAND [flags] [operands]\n\nCommands:\n",
    );
    for command in COMMANDS {
        let _ = writeln!(text, "  {:<9} {}", command.name, command.about);
    }
    let flags = args::flag_lines(&GLOBAL[..GLOBAL.len() - 1]);
    let _ = write!(text, "\nFlags:\n{flags}\nSee `seedpod COMMAND --help`.\n");
    text
}
