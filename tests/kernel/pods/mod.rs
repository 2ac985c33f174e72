//! Pods: what a manifest becomes on a real kernel, through the `podctl` command line alone.
//!
//! Here are the fixture (a store with an image of busybox, in the test's own folders) and a builder
//! of manifests; the topics are in the files beside this one. A store is emptied at the end of each
//! test, and what is left in it then fails the test, as processes, mounts and cgroups do.

pub mod apply;
pub mod commands;
pub mod delete;
pub mod io;
pub mod lifecycle;
pub mod limits;
pub mod process;
pub mod security;
pub mod sharing;
pub mod volumes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::{Output, output_of};
use crate::runner::case_dir;
use crate::wait;

/// The image of every container, if nothing else is said.
pub const IMAGE: &str = "busybox:latest";

/// `SEEDPOD_PODCTL`.
fn podctl_path() -> PathBuf {
    std::env::var_os("SEEDPOD_PODCTL").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bin/podctl"),
        PathBuf::from,
    )
}

/// The archive that `examples/busybox-image.sh` makes, once for all tests of a run.
fn archive() -> PathBuf {
    let shared = std::env::temp_dir().join("busybox-image.tar");
    if !shared.exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/busybox-image.sh");
        let own = case_dir().join("busybox-image.tar");
        let name = format!("docker.io/library/{IMAGE}");
        output_of(Command::new(script).arg(&own).arg(name)).ok();
        fs::rename(own, &shared).unwrap();
    }
    shared
}

/// A store of pods and images, empty again when the test is over.
pub struct Pods {
    /// `--root`.
    pub root: PathBuf,
    /// `--state`.
    pub state: PathBuf,
}

impl Pods {
    /// A store with the image: that of all tests of a run, which load it once.
    pub fn new() -> Self {
        let shared = std::env::temp_dir().join("pods-images");
        if !shared.exists() {
            let made = Self::with_own_image();
            fs::rename(made.root.join("images"), &shared).unwrap();
        }
        let pods = Self::without_image();
        fs::create_dir_all(&pods.root).unwrap();
        std::os::unix::fs::symlink(shared, pods.root.join("images")).unwrap();
        pods
    }

    /// A store with the image, for a test that changes images.
    pub fn with_own_image() -> Self {
        let pods = Self::without_image();
        pods.podctl(&["image", "load", archive().to_str().unwrap()])
            .ok();
        pods
    }

    /// An empty store.
    pub fn without_image() -> Self {
        let name = case_dir();
        let name = name.file_name().unwrap().to_str().unwrap();
        Self {
            root: case_dir().join("pods-root"),
            state: Path::new("/run").join(format!("pods-{name}")),
        }
    }

    /// `podctl` with the store's directories, to be given arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(podctl_path());
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--state")
            .arg(&self.state);
        command
    }

    /// Runs `podctl`.
    pub fn podctl(&self, arguments: &[&str]) -> Output {
        output_of(self.command().args(arguments))
    }

    /// Writes a manifest into a file, and gives its path.
    pub fn file(&self, manifest: &Manifest) -> String {
        let path = case_dir().join(format!("{}.json", manifest.name()));
        fs::write(&path, serde_json::to_vec_pretty(&manifest.0).unwrap()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `apply` of a manifest.
    pub fn try_apply(&self, manifest: &Manifest) -> Output {
        self.podctl(&["apply", "-f", &self.file(manifest)])
    }

    /// `apply`, expected to create the pod.
    #[track_caller]
    pub fn apply(&self, manifest: &Manifest) {
        let said = self.try_apply(manifest).ok();
        assert_eq!(said, format!("pod/{} created", manifest.name()));
    }

    /// `apply`, and waits until every container has been started.
    #[track_caller]
    pub fn start(&self, manifest: &Manifest) {
        self.apply(manifest);
        let name = manifest.name();
        wait::until("all containers run", || {
            let status = self.status(name);
            let list = status["containerStatuses"].as_array().unwrap().clone();
            assert_ne!(status["phase"], "Failed", "{status:#}");
            list.iter().all(|it| it["state"]["waiting"].is_null())
        });
    }

    /// `apply`, and waits until the pod has ended; gives its phase.
    #[track_caller]
    pub fn run(&self, manifest: &Manifest) -> String {
        self.apply(manifest);
        self.ended(manifest.name())
    }

    /// `apply`, waits until the pod has ended well, and gives the log of its container `a`.
    #[track_caller]
    pub fn said(&self, manifest: &Manifest) -> String {
        let phase = self.run(manifest);
        let log = self.logs(manifest.name(), "a");
        let status = self.status(manifest.name());
        assert_eq!(phase, "Succeeded", "{log}\n{status:#}");
        log
    }

    /// Waits until a pod has ended; gives its phase.
    #[track_caller]
    pub fn ended(&self, name: &str) -> String {
        wait::until("the pod has ended", || {
            ["Succeeded", "Failed"].contains(&self.phase(name).as_str())
        });
        self.phase(name)
    }

    /// The whole object.
    #[track_caller]
    pub fn object(&self, name: &str) -> Value {
        serde_json::from_str(&self.podctl(&["get", "pod", name, "-o", "json"]).ok()).unwrap()
    }

    /// `status` of the object.
    #[track_caller]
    pub fn status(&self, name: &str) -> Value {
        self.object(name)["status"].clone()
    }

    /// `status.phase`.
    #[track_caller]
    pub fn phase(&self, name: &str) -> String {
        self.status(name)["phase"].as_str().unwrap().to_owned()
    }

    /// The state of a container, of the application or not.
    #[track_caller]
    pub fn state(&self, name: &str, container: &str) -> Value {
        let status = self.status(name);
        let lists = ["containerStatuses", "initContainerStatuses"];
        let all = lists.iter().filter_map(|list| status[list].as_array());
        let found = all.flatten().find(|it| it["name"] == container);
        found.unwrap_or_else(|| panic!("no {container} in {status:#}"))["state"].clone()
    }

    /// The STATUS column.
    #[track_caller]
    pub fn word(&self, name: &str) -> String {
        let row = self.podctl(&["get", "pods", name, "--no-headers"]).ok();
        row.split_whitespace().nth(2).unwrap().to_owned()
    }

    /// The log of a container, without white space at its ends.
    #[track_caller]
    pub fn logs(&self, name: &str, container: &str) -> String {
        self.podctl(&["logs", name, "-c", container]).ok()
    }

    /// Waits until a container has said something.
    #[track_caller]
    pub fn wait_log(&self, name: &str, container: &str, text: &str) {
        wait::until(&format!("the log of {container} has {text:?}"), || {
            let log = self.podctl(&["logs", name, "-c", container]);
            log.stdout.contains(text)
        });
    }

    /// Runs a shell script in a container; gives its output.
    #[track_caller]
    pub fn sh(&self, name: &str, container: &str, script: &str) -> String {
        self.podctl(&["exec", name, "-c", container, "--", "sh", "-c", script])
            .ok()
    }

    /// `delete` at once.
    pub fn delete(&self, name: &str) -> Output {
        self.podctl(&["delete", "pod", name, "--grace-period=0"])
    }

    /// The directory of a pod below `--root`, by its name.
    #[track_caller]
    pub fn kept(&self, name: &str) -> PathBuf {
        let uid = self.object(name)["metadata"]["uid"].clone();
        self.root.join("pods").join(uid.as_str().unwrap())
    }

    /// The pod's cgroup in the file system.
    #[track_caller]
    pub fn cgroup(&self, name: &str) -> PathBuf {
        let object = self.object(name);
        let class = match object["status"]["qosClass"].as_str().unwrap() {
            "Guaranteed" => "",
            "Burstable" => "burstable/",
            _ => "besteffort/",
        };
        let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
        PathBuf::from(format!("/sys/fs/cgroup/kubepods/{class}pod{uid}"))
    }

    /// The supervisor's pid.
    #[track_caller]
    pub fn supervisor(&self, name: &str) -> i32 {
        let uid = self.object(name)["metadata"]["uid"].clone();
        let path = self.state.join("pods").join(uid.as_str().unwrap());
        let text = fs::read_to_string(path.join("supervisor.json")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        i32::try_from(value["pid"].as_i64().unwrap()).unwrap()
    }

    /// Asserts that no pod has left a file.
    #[track_caller]
    pub fn assert_empty(&self) {
        let folders = ["pods", "names"].map(|it| self.root.join(it));
        for folder in folders.iter().chain([&self.state.join("pods")]) {
            let list = fs::read_dir(folder).into_iter().flatten().flatten();
            let left: Vec<_> = list.map(|it| it.path()).collect();
            assert!(left.is_empty(), "left: {left:?}");
        }
        let all = self.podctl(&["get", "pods", "-A", "-o", "name"]);
        assert_eq!(all.ok(), "");
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        let all = self.podctl(&["get", "pods", "-A", "-o", "json"]);
        let all: Value = serde_json::from_str(&all.stdout).unwrap_or_default();
        for pod in all["items"].as_array().into_iter().flatten() {
            let text = |key| pod["metadata"][key].as_str().unwrap_or_default();
            let gone = self.podctl(&[
                "delete",
                "pod",
                text("name"),
                "-n",
                text("namespace"),
                "--grace-period=0",
                "--ignore-not-found",
            ]);
            if gone.code != 0 {
                eprintln!("{}", gone.stderr);
            }
        }
        if !std::thread::panicking() {
            self.assert_empty();
        }
        let _ = fs::remove_dir_all(&self.state);
    }
}

/// A manifest in the making.
#[derive(Clone)]
pub struct Manifest(pub Value);

impl Manifest {
    /// A pod without containers, that does not wait for those that do not stop.
    pub fn new(name: &str) -> Self {
        Self(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "containers": [],
            },
        }))
    }

    /// A pod whose container `a` runs a script.
    pub fn sh(name: &str, script: &str) -> Self {
        Self::new(name).container("a", &["sh", "-c", script])
    }

    /// A pod whose container `a` only waits.
    pub fn sleeper(name: &str) -> Self {
        Self::new(name).container("a", &["sleep", "1000"])
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    fn push(mut self, list: &str, what: Value) -> Self {
        let place = &mut self.0["spec"][list];
        if place.is_null() {
            *place = json!([]);
        }
        place.as_array_mut().unwrap().push(what);
        self
    }

    /// A further container.
    pub fn container(self, name: &str, command: &[&str]) -> Self {
        let it = json!({"name": name, "image": IMAGE, "command": command});
        self.push("containers", it)
    }

    /// A further init container, with a script.
    pub fn init(self, name: &str, script: &str) -> Self {
        let it = json!({"name": name, "image": IMAGE, "command": ["sh", "-c", script]});
        self.push("initContainers", it)
    }

    /// An emptyDir that all containers of now mount at `/NAME`.
    pub fn volume(self, name: &str, empty_dir: Value) -> Self {
        let mut with = self.push("volumes", json!({"name": name, "emptyDir": empty_dir}));
        let mount = json!({"name": name, "mountPath": format!("/{name}")});
        for list in ["containers", "initContainers"] {
            for it in with.0["spec"][list].as_array_mut().into_iter().flatten() {
                if it["volumeMounts"].is_null() {
                    it["volumeMounts"] = json!([]);
                }
                it["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(mount.clone());
            }
        }
        with
    }

    /// Sets a field of `spec`.
    pub fn spec(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0["spec"][field] = value.into();
        self
    }

    /// Sets a field of the first container, or of the one at this index.
    pub fn of(mut self, index: usize, field: &str, value: impl Into<Value>) -> Self {
        self.0["spec"]["containers"][index][field] = value.into();
        self
    }

    /// Sets a field of `metadata`.
    pub fn metadata(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0["metadata"][field] = value.into();
        self
    }

    /// The pod has user ids of its own.
    pub fn own_users(self) -> Self {
        self.spec("hostUsers", false)
    }
}
