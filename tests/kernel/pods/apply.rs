//! `podctl apply`: what is refused, what is the same, and who wins.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use super::{IMAGE, Manifest, Pods};
use crate::runner::{Test, case_dir};
use crate::tests;

pub const TESTS: &[Test] = tests![
    mistakes_are_told_all_at_once_with_their_places,
    mistake_in_one_file_makes_no_pod_of_another,
    missing_image_is_one_error_and_leaves_nothing,
    applying_twice_changes_nothing,
    same_name_for_another_pod_is_an_error,
    of_two_at_once_one_wins,
    manifest_comes_from_standard_input_and_several_documents,
    same_name_in_two_namespaces_is_two_pods,
    host_namespaces_and_own_users_exclude_each_other,
];

fn write(name: &str, text: &str) -> String {
    let path = case_dir().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn mistakes_are_told_all_at_once_with_their_places() {
    let pods = Pods::without_image();
    let file = write(
        "bad.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: Bad_Name}\nspec:\n  restartPolicy: Never\n  \
         containers:\n  - name: a\n    imagee: x\n    command: sleep\n",
    );
    let output = pods.podctl(&["apply", "-f", &file]);
    assert_eq!(output.code, 1);
    let error = output.stderr;
    for place in [
        ":3: metadata.name: ",
        ":8: spec.containers[0].imagee: unknown field",
        ":9: spec.containers[0].command: must be a list",
    ] {
        assert!(
            error.contains(&format!("{file}{place}")),
            "no {place:?} in {error}"
        );
    }
    assert!(error.starts_with("error: "), "{error}");
}

fn mistake_in_one_file_makes_no_pod_of_another() {
    let pods = Pods::new();
    let good = pods.file(&Manifest::sleeper("good"));
    let bad = write("bad.yaml", "apiVersion: v1\nkind: Deployment\n");
    let error = pods.podctl(&["apply", "-f", &good, "-f", &bad]).err();
    assert!(error.contains("bad.yaml:2: kind: Deployment"), "{error}");
    pods.assert_empty();
}

fn missing_image_is_one_error_and_leaves_nothing() {
    let pods = Pods::new();
    let pod = Manifest::sleeper("p").of(0, "image", "nowhere/nothing:1");
    let output = pods.try_apply(&pod);
    assert_eq!(output.code, 1);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    for part in ["error: ", "container a", "nowhere/nothing:1"] {
        assert!(
            output.stderr.contains(part),
            "no {part:?} in {}",
            output.stderr
        );
    }
    pods.assert_empty();
}

fn applying_twice_changes_nothing() {
    let pods = Pods::new();
    let pod = Manifest::sleeper("p");
    pods.start(&pod);
    let before = pods.object("p");
    assert_eq!(pods.try_apply(&pod).ok(), "pod/p unchanged");
    assert_eq!(pods.object("p"), before);
}

fn same_name_for_another_pod_is_an_error() {
    let pods = Pods::new();
    pods.start(&Manifest::sleeper("p"));
    let error = pods.try_apply(&Manifest::sh("p", "sleep 2000")).err();
    assert!(
        error.contains("pod p exists") && error.contains("delete pod p"),
        "{error}"
    );
    assert_eq!(pods.phase("p"), "Running");
}

fn of_two_at_once_one_wins() {
    let pods = Pods::new();
    // Each is another pod of the same name.
    let files = ["1", "2", "3", "4"].map(|number| {
        let pod = Manifest::sh("p", &format!("sleep 100{number}"));
        let text = serde_json::to_string(&pod.0).unwrap();
        write(&format!("{number}.json"), &text)
    });
    let children = files.map(|file| {
        let mut command = pods.command();
        command.args(["apply", "-f", &file]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    });
    let codes = children.map(|mut child| child.wait().unwrap().code());
    assert_eq!(
        codes.iter().filter(|code| **code == Some(0)).count(),
        1,
        "{codes:?}"
    );
    assert_eq!(
        codes.iter().filter(|code| **code == Some(1)).count(),
        3,
        "{codes:?}"
    );
    let list = pods.podctl(&["get", "pods", "--no-headers"]).ok();
    assert_eq!(list.lines().count(), 1, "{list}");
    crate::wait::until("it runs", || pods.phase("p") == "Running");
}

fn manifest_comes_from_standard_input_and_several_documents() {
    let pods = Pods::new();
    let document = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
             containers: [{{name: a, image: \"{IMAGE}\", command: [\"true\"]}}]\n"
        )
    };
    let both = write(
        "both.yaml",
        &format!("{}---\n{}", document("p"), document("q")),
    );
    let mut command = pods.command();
    command.args(["apply", "-f", "-"]);
    // `output_of` gives an empty input: a shell has the file.
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("{} <{both}", words.join(" "))]);
    let said = crate::fixture::output_of(&mut shell).ok();
    assert_eq!(said, "pod/p created\npod/q created");
    assert_eq!(pods.ended("p"), "Succeeded");
    assert_eq!(pods.ended("q"), "Succeeded");
}

fn same_name_in_two_namespaces_is_two_pods() {
    let pods = Pods::new();
    let pod = Manifest::sleeper("p");
    pods.start(&pod);
    let other = pod.metadata("namespace", "other");
    assert_eq!(pods.try_apply(&other).ok(), "pod/p created");
    let list = pods.podctl(&["get", "pods", "--no-headers"]).ok();
    assert_eq!(list.lines().count(), 1);
    let all = pods.podctl(&["get", "pods", "-A", "--no-headers"]).ok();
    let spaces: Vec<_> = all
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(spaces, ["default", "other"]);
    let one = pods
        .podctl(&["get", "pod", "p", "-n", "other", "-o", "name"])
        .ok();
    assert_eq!(one, "pod/p");
}

fn host_namespaces_and_own_users_exclude_each_other() {
    let pods = Pods::new();
    let pod = Manifest::sleeper("p")
        .spec("hostNetwork", true)
        .spec("hostPID", json!(true))
        .own_users();
    let error = pods.try_apply(&pod).err();
    for field in ["spec.hostNetwork: ", "spec.hostPID: "] {
        assert!(error.contains(field), "no {field:?} in {error}");
    }
}
