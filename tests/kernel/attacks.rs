//! What a hostile container or a user of the machine tries against pods.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::fixture::{Output, output_of, runtime_path};
use crate::runner::{Test, case_dir};
use crate::{tests, wait};

pub const TESTS: &[Test] = tests![
    pods_are_out_of_reach_for_other_users,
    pod_with_a_tree_of_directories_deeper_than_descriptors_is_deleted,
];

fn podctl(words: &[&str]) -> Output {
    let mut command = Command::new(runtime_path().with_file_name("podctl"));
    command.arg("--root").arg(case_dir().join("podctl"));
    command.arg("--state").arg(case_dir().join("pods"));
    output_of(command.args(words))
}

/// A pod whose shell runs `script`, below directories that were there and are open to all.
fn pod(script: &str) {
    for name in ["podctl", "pods"] {
        fs::create_dir(case_dir().join(name)).unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(case_dir().join(name), open).unwrap();
    }
    let archive = case_dir().join("busybox.tar");
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/busybox-image.sh");
    output_of(Command::new(image).arg(&archive)).ok();
    podctl(&["image", "load", archive.to_str().unwrap()]).ok();
    let manifest = case_dir().join("pod.json");
    let pod = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hostile"},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": "busybox",
                "command": ["sh", "-c", format!("{script}; echo done; exec sleep 1000")],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    });
    fs::write(&manifest, pod.to_string()).unwrap();
    podctl(&["apply", "-f", manifest.to_str().unwrap()]).ok();
    wait::until("the script has ended", || {
        podctl(&["logs", "hostile"]).stdout.contains("done")
    });
}

fn pods_are_out_of_reach_for_other_users() {
    pod("cp /bin/busybox /data/su && chmod 4755 /data/su");
    for directory in ["podctl/pods", "podctl/names", "pods/pods"] {
        let mode = fs::metadata(case_dir().join(directory)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o77, 0, "{directory}");
    }
    podctl(&["delete", "pod", "hostile"]).ok();
}

fn pod_with_a_tree_of_directories_deeper_than_descriptors_is_deleted() {
    pod(&format!("mkdir -p /data/{}", "d/".repeat(300)));
    let limited = "ulimit -n 128; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", limited, "sh"]);
    command.arg(runtime_path().with_file_name("podctl"));
    command.arg("--root").arg(case_dir().join("podctl"));
    command.arg("--state").arg(case_dir().join("pods"));
    output_of(command.args(["delete", "pod", "hostile"])).ok();
    let left = fs::read_dir(case_dir().join("podctl/pods")).unwrap();
    assert_eq!(left.count(), 0);
}
