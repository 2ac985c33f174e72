//! Times of whole commands, of seedpod and of its peers, interleaved in random order.
//!
//! Absolute times drift from run to run, ratios inside one run hold: so every round measures every
//! runtime once, and the table shows medians and their ratio to the first runtime. A runtime that
//! cannot do something is shown with its reason, once. `benches/run.sh` starts it.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod config;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use config::Kind;

struct Runtime {
    name: &'static str,
    path: PathBuf,
}

/// Numbers for an order that no runtime profits from; quality does not matter.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

type Row = &'static str;

#[derive(Default)]
struct Results {
    times: BTreeMap<(usize, usize), Vec<Duration>>,
    problems: BTreeMap<(usize, usize), String>,
    rows: Vec<Row>,
}

impl Results {
    fn row(&mut self, name: Row) -> usize {
        let known = self.rows.iter().position(|row| *row == name);
        known.unwrap_or_else(|| {
            self.rows.push(name);
            self.rows.len() - 1
        })
    }

    fn add(&mut self, row: Row, runtime: usize, outcome: Result<Duration, String>) -> bool {
        let row = self.row(row);
        match outcome {
            Ok(time) => {
                self.times.entry((row, runtime)).or_default().push(time);
                true
            }
            Err(problem) => {
                self.problems.entry((row, runtime)).or_insert(problem);
                false
            }
        }
    }

    fn median(&self, row: usize, runtime: usize) -> Option<Duration> {
        let mut times = self.times.get(&(row, runtime))?.clone();
        times.sort();
        times.get(times.len() / 2).copied()
    }
}

struct Bench {
    dir: PathBuf,
    runtimes: Vec<Runtime>,
    results: Results,
    number: u32,
}

fn main() {
    let mut rounds = 20;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--rounds" {
            rounds = words
                .next()
                .and_then(|n| n.parse().ok())
                .expect("--rounds needs a number");
        }
    }
    if std::env::var_os("SEEDPOD_TEST_PLACE").is_none() {
        println!("runtimes: skipped, as it needs a private view (make bench makes one)");
        return;
    }
    let mut bench = Bench {
        dir: std::env::temp_dir(),
        runtimes: runtimes(),
        results: Results::default(),
        number: 0,
    };
    for kind in Kind::ALL {
        bench.make_bundle(kind);
    }
    bench.leave_out_what_runs_nothing();
    if bench.runtimes.is_empty() {
        eprintln!("no runtime to measure: SEEDPOD, CRUN and RUNC name none that runs a container");
        std::process::exit(1);
    }
    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let mut random = Random(u64::from(seed.subsec_nanos()));
    // One round that is not counted warms every cache.
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..bench.runtimes.len()).collect();
        for kind in Kind::ALL {
            random.shuffle(&mut order);
            for runtime in &order {
                bench.measure_run(kind, *runtime);
            }
        }
        random.shuffle(&mut order);
        for runtime in &order {
            bench.measure_commands(*runtime);
        }
        if round == 0 {
            bench.results.times.clear();
        }
        eprint!("\r  round {round} of {rounds} ");
    }
    eprintln!();
    bench.print(rounds);
}

fn runtimes() -> Vec<Runtime> {
    [("seedpod", "SEEDPOD"), ("crun", "CRUN"), ("runc", "RUNC")]
        .into_iter()
        .filter_map(|(name, variable)| {
            let path = std::env::var_os(variable).filter(|path| !path.is_empty())?;
            Some(Runtime {
                name,
                path: path.into(),
            })
        })
        .collect()
}

impl Bench {
    fn bundle(&self, kind: Kind) -> PathBuf {
        self.dir.join(kind.name().replace(' ', "-"))
    }

    fn make_bundle(&self, kind: Kind) {
        let bin = self.bundle(kind).join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        let rootfs = self.bundle(kind).join("rootfs");
        for name in ["dev", "proc", "sys", "etc", "tmp"] {
            fs::create_dir(rootfs.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in ["sh", "true", "sleep"] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        if kind == Kind::FullWithUserNamespace {
            chown_tree(&rootfs, config::FIRST_HOST_ID);
        }
        self.write_config(kind, "unused", &["true"]);
    }

    fn write_config(&self, kind: Kind, id: &str, args: &[&str]) {
        let config = config::make(kind, id, args);
        fs::write(self.bundle(kind).join("config.json"), config.to_string()).unwrap();
    }

    /// A command that does nothing is quick: only what passes on a container's own exit code is
    /// measured.
    fn leave_out_what_runs_nothing(&mut self) {
        const CODE: i32 = 42;
        let bundle = self.bundle(Kind::Default);
        let mut working = Vec::new();
        for runtime in std::mem::take(&mut self.runtimes) {
            let id = self.next_id();
            self.write_config(Kind::Default, &id, &["sh", "-c", &format!("exit {CODE}")]);
            let output = Command::new(&runtime.path)
                .arg("--root")
                .arg(self.dir.join("state").join(runtime.name))
                .args(["run", "--bundle", bundle.to_str().unwrap(), &id])
                .stdin(Stdio::null())
                .output();
            match output {
                Ok(output) if output.status.code() == Some(CODE) => working.push(runtime),
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    let line = said.lines().last().unwrap_or("no word about why");
                    println!(
                        "{} is left out, it runs no container here: {line}",
                        runtime.name
                    );
                }
                Err(error) => println!("{} is left out: {error}", runtime.name),
            }
        }
        self.runtimes = working;
    }

    fn next_id(&mut self) -> String {
        self.number += 1;
        format!("bench-{}", self.number)
    }

    /// Runs one command to its end; the time from fork to wait.
    fn time(&self, runtime: usize, words: &[&str]) -> Result<Duration, String> {
        let runtime = &self.runtimes[runtime];
        let errors = self.dir.join("stderr");
        let mut command = Command::new(&runtime.path);
        command
            .arg("--root")
            .arg(self.dir.join("state").join(runtime.name))
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&errors).unwrap());
        let started = Instant::now();
        let status = command.status().map_err(|error| error.to_string())?;
        let elapsed = started.elapsed();
        if status.success() {
            return Ok(elapsed);
        }
        let said = fs::read_to_string(&errors).unwrap_or_default();
        let line = said.lines().last().unwrap_or("failed without a word");
        Err(line.chars().take(160).collect())
    }

    fn measure_run(&mut self, kind: Kind, runtime: usize) {
        let id = self.next_id();
        self.write_config(kind, &id, &["true"]);
        let bundle = self.bundle(kind);
        let time = self.time(runtime, &["run", "--bundle", bundle.to_str().unwrap(), &id]);
        if !self.results.add(kind.name(), runtime, time) {
            let _ = self.time(runtime, &["delete", "--force", &id]);
        }
    }

    /// The commands around one container, and one container that is deleted by force.
    fn measure_commands(&mut self, runtime: usize) {
        let bundle = self.bundle(Kind::Full);
        let bundle = bundle.to_str().unwrap();
        for force in [false, true] {
            let id = self.next_id();
            self.write_config(Kind::Full, &id, &["sleep", "100"]);
            let steps: &[(Row, Vec<&str>)] = &[
                ("create (full)", vec!["create", "--bundle", bundle, &id]),
                ("start", vec!["start", &id]),
                ("state", vec!["state", &id]),
                ("exec true", vec!["exec", &id, "true"]),
            ];
            let mut ready = true;
            for (row, words) in steps {
                let time = self.time(runtime, words);
                ready = self.results.add(row, runtime, time);
                if !ready {
                    break;
                }
            }
            if ready && !force {
                let time = self.time(runtime, &["kill", &id, "KILL"]);
                self.results.add("kill", runtime, time);
                // Not measured: until the process is gone.
                let deadline = Instant::now() + Duration::from_secs(5);
                while self.is_populated(&id) && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let time = self.time(runtime, &["delete", &id]);
                ready = self.results.add("delete", runtime, time);
            }
            if force || !ready {
                let time = self.time(runtime, &["delete", "--force", &id]);
                if ready {
                    self.results.add("delete --force", runtime, time);
                }
            }
        }
    }

    fn is_populated(&self, id: &str) -> bool {
        let events = Path::new("/sys/fs/cgroup/bench")
            .join(id)
            .join("cgroup.events");
        fs::read_to_string(events).is_ok_and(|text| text.contains("populated 1"))
    }

    fn print(&self, rounds: u32) {
        println!(
            "medians in ms of {rounds} rounds; in brackets the ratio to {}",
            self.runtimes[0].name
        );
        if !config::has_profile() {
            println!("(vendor-configs/seccomp/default.json is not there: full is without seccomp)");
        }
        print!("\n{:<24}", "");
        for runtime in &self.runtimes {
            print!("{:>18}", runtime.name);
        }
        println!();
        for (row, name) in self.results.rows.iter().enumerate() {
            print!("{name:<24}");
            let first = self.results.median(row, 0);
            for runtime in 0..self.runtimes.len() {
                let Some(time) = self.results.median(row, runtime) else {
                    print!("{:>18}", "-");
                    continue;
                };
                let ratio = match first {
                    Some(first) if runtime > 0 => {
                        format!(" ({:.1}x)", time.as_secs_f64() / first.as_secs_f64())
                    }
                    _ => String::new(),
                };
                print!(
                    "{:>18}",
                    format!("{:.2}{ratio}", time.as_secs_f64() * 1000.0)
                );
            }
            println!();
        }
        if !self.results.problems.is_empty() {
            println!("\ncould not be measured, or not in every round:");
        }
        for ((row, runtime), problem) in &self.results.problems {
            let runtime = self.runtimes[*runtime].name;
            println!("  {runtime}, {}: {problem}", self.results.rows[*row]);
        }
    }
}

fn chown_tree(path: &Path, id: u32) {
    lchown(path, Some(id), Some(id)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            chown_tree(&entry.unwrap().path(), id);
        }
    }
}
