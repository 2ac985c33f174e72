//! Runs tests one after the other, each in a child process, and reports.
//!
//! The child is this program again with `--exact NAME`. It ends with 0 (pass), [`SKIPPED`] (the
//! reason is in a file) or anything else (fail). What the child leaves is looked for in
//! [`crate::leftovers`]. The result file has one line per test, with tabs between: status, name,
//! milliseconds, reason.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::leftovers::{self, Snapshot};

/// The exit status of a test process that skipped itself.
const SKIPPED: u8 = 77;

/// How long a test may take unless it says otherwise.
const LIMIT_SECONDS: u64 = 20;

/// One test: a function that panics when something is wrong.
#[derive(Clone, Copy)]
pub struct Test {
    /// `topic::name`.
    pub name: &'static str,
    /// The test itself.
    pub run: fn(),
    /// Its time limit.
    pub seconds: u64,
}

impl Test {
    /// A test; `path` is the module path, with the program's name in front.
    pub const fn new(name: &'static str, run: fn(), seconds: Option<u64>) -> Self {
        let seconds = match seconds {
            Some(seconds) => seconds,
            None => LIMIT_SECONDS,
        };
        Self { name, run, seconds }
    }

    fn short_name(&self) -> &'static str {
        self.name
            .split_once("::")
            .map_or(self.name, |(_, rest)| rest)
    }
}

/// The table of a topic: `tests![first, second, slow within 60]`.
#[macro_export]
macro_rules! tests {
    ($($name:ident $(within $seconds:literal)?),* $(,)?) => {
        &[$($crate::runner::Test::new(
            concat!(module_path!(), "::", stringify!($name)),
            $name,
            tests!(@seconds $($seconds)?),
        )),*]
    };
    (@seconds) => { None };
    (@seconds $seconds:literal) => { Some($seconds) };
}

/// What is unwound when a test skips itself.
pub struct Skip;

/// Ends the running test as skipped.
pub fn skip(reason: &str) -> ! {
    fs::write(case_dir().join("skip"), reason).unwrap();
    panic::resume_unwind(Box::new(Skip))
}

/// The running test's own folder.
pub fn case_dir() -> PathBuf {
    PathBuf::from(std::env::var_os("SEEDPOD_TEST_DIR").expect("runs under the runner"))
}

/// The running test's own cgroup, as an absolute path below the root of the view: `/case-7`.
///
/// The test's process is in its child `test`; containers belong beside that.
pub fn case_cgroup() -> String {
    std::env::var("SEEDPOD_TEST_CGROUP").expect("runs under the runner")
}

struct Options {
    filters: Vec<String>,
    exact: Option<String>,
    list: bool,
    results: Option<PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        filters: Vec::new(),
        exact: None,
        list: false,
        results: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--list" => options.list = true,
            "--exact" => options.exact = Some(words.next().ok_or("--exact needs a name")?),
            "--results" => {
                options.results = Some(words.next().ok_or("--results needs a file")?.into())
            }
            // What `cargo test` hands to every test program.
            "--nocapture" | "--quiet" | "-q" | "--test" => {}
            _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
            _ => options.filters.push(word),
        }
    }
    Ok(options)
}

/// The program: `kernel [--list] [--exact NAME] [--results FILE] [PART-OF-A-NAME...]`.
pub fn main(topics: &[&[Test]]) -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("kernel: {error}");
            return ExitCode::from(2);
        }
    };
    let all = topics.iter().copied().flatten();
    if let Some(name) = &options.exact {
        return match all.clone().find(|test| test.short_name() == name) {
            Some(test) => run_here(test),
            None => {
                eprintln!("kernel: no test {name}");
                ExitCode::from(2)
            }
        };
    }
    let chosen: Vec<&Test> = all
        .filter(|test| {
            let name = test.short_name();
            options.filters.is_empty() || options.filters.iter().any(|part| name.contains(part))
        })
        .collect();
    if options.list {
        for test in chosen {
            println!("{}: test", test.short_name());
        }
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("SEEDPOD_TEST_PLACE").is_none() {
        println!(
            "kernel: {} tests skipped: they need a private view or a test kernel (tests/run makes them)",
            chosen.len()
        );
        return ExitCode::SUCCESS;
    }
    run_all(&chosen, options.results.as_deref())
}

/// The child's side: joins its cgroup, runs the test, turns panics into an exit status.
fn run_here(test: &Test) -> ExitCode {
    fs::write(
        format!("/sys/fs/cgroup{}/test/cgroup.procs", case_cgroup()),
        "0",
    )
    .unwrap();
    match panic::catch_unwind(test.run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(payload) if payload.is::<Skip>() => ExitCode::from(SKIPPED),
        Err(_) => ExitCode::FAILURE,
    }
}

enum Outcome {
    Pass,
    Skip(String),
    Fail { reason: String, output: String },
}

fn run_all(tests: &[&Test], results: Option<&Path>) -> ExitCode {
    // Processes whose parent ends come to the runner, which reaps them.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let mut results = results.map(|path| File::create(path).unwrap());
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (number, test) in tests.iter().enumerate() {
        let started = Instant::now();
        let outcome = run_one(test, number);
        let elapsed = started.elapsed();
        let name = test.short_name();
        let (word, reason) = match &outcome {
            Outcome::Pass => ("ok", ""),
            Outcome::Skip(reason) => ("skip", reason.as_str()),
            Outcome::Fail { reason, .. } => ("FAIL", reason.as_str()),
        };
        match &outcome {
            Outcome::Pass => passed += 1,
            Outcome::Skip(_) => skipped += 1,
            Outcome::Fail { .. } => failed += 1,
        }
        println!(
            "{word:<5}{name:<72} {:>7.3} s  {}",
            elapsed.as_secs_f64(),
            reason.lines().next().unwrap_or_default()
        );
        if let Outcome::Fail { reason, output } = &outcome {
            let said = output.lines().filter(|line| {
                !line.is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE")
            });
            for line in reason.lines().skip(1).chain(said) {
                println!("     | {line}");
            }
        }
        if let Some(file) = &mut results {
            let reason = reason.replace(['\n', '\t'], " ");
            writeln!(file, "{word}\t{name}\t{}\t{reason}", elapsed.as_millis()).unwrap();
        }
    }
    println!("kernel: {passed} passed, {failed} failed, {skipped} skipped");
    ExitCode::from(u8::from(failed > 0))
}

fn run_one(test: &Test, number: usize) -> Outcome {
    let dir = std::env::temp_dir().join(format!("case-{number}"));
    let cgroup = format!("/case-{number}");
    let cgroup_dir = PathBuf::from(format!("/sys/fs/cgroup{cgroup}"));
    fs::create_dir_all(&dir).unwrap();
    fs::create_dir_all(cgroup_dir.join("test")).unwrap();
    let controllers = fs::read_to_string(cgroup_dir.join("cgroup.controllers")).unwrap();
    for controller in controllers.split_whitespace() {
        // Some refuse where no limit can be handed down; a test that needs one asks for it.
        let _ = fs::write(
            cgroup_dir.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
    let before = Snapshot::take();

    let output_path = dir.join("output");
    let output = File::create(&output_path).unwrap();
    // Reaped by `wait_for`, together with whatever else ends.
    #[expect(clippy::zombie_processes)]
    let child = Command::new("/proc/self/exe")
        .args(["--exact", test.short_name()])
        .env("SEEDPOD_TEST_DIR", &dir)
        .env("SEEDPOD_TEST_CGROUP", &cgroup)
        // The panic's place and message say enough.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let status = wait_for(pid, Duration::from_secs(test.seconds * time_factor()));

    let left = leftovers::settle(&before, &dir.join("state"));
    leftovers::remove(&before, &cgroup_dir);
    let skip_reason = fs::read_to_string(dir.join("skip")).unwrap_or_default();
    let output = fs::read_to_string(&output_path).unwrap_or_else(|_| String::from("(not text)"));
    let _ = fs::remove_dir_all(&dir);

    let problem = match status {
        None => Some(format!(
            "took longer than {} s",
            test.seconds * time_factor()
        )),
        Some(WaitStatus::Exited(_, 0)) => None,
        Some(WaitStatus::Exited(_, code)) if code == i32::from(SKIPPED) => {
            return Outcome::Skip(skip_reason);
        }
        Some(WaitStatus::Exited(..)) => Some(first_panic(&output)),
        Some(other) => Some(format!("ended with {other:?}")),
    };
    match (problem, left.is_empty()) {
        (None, true) => Outcome::Pass,
        (None, false) => Outcome::Fail {
            reason: format!("left something behind\n{}", left.join("\n")),
            output,
        },
        (Some(reason), _) => Outcome::Fail { reason, output },
    }
}

/// The message of the panic in a test's output, on one line.
fn first_panic(output: &str) -> String {
    output
        .lines()
        .skip_while(|line| !line.contains("panicked at"))
        .nth(1)
        .unwrap_or("failed")
        .to_owned()
}

/// Test kernels have dearer system calls; `SEEDPOD_TEST_TIME_FACTOR` stretches the limits.
pub fn time_factor() -> u64 {
    std::env::var("SEEDPOD_TEST_TIME_FACTOR")
        .ok()
        .and_then(|factor| factor.parse().ok())
        .unwrap_or(1)
}

/// Waits for a child and reaps whatever else ends meanwhile; `None` when the time is up, then the
/// child and its process group are killed.
fn wait_for(pid: Pid, limit: Duration) -> Option<WaitStatus> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(2)),
            Ok(status) if status.pid() == Some(pid) => return Some(status),
            Ok(_) => {}
            Err(error) => panic!("wait for a test: {error}"),
        }
    }
    let _ = nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL);
    let _ = waitpid(pid, None);
    None
}
