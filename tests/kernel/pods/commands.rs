//! The command line: kubectl's words, and one line for an error.

use super::{Manifest, Pods};
use crate::runner::Test;
use crate::tests;

pub const TESTS: &[Test] = tests![
    errors_are_one_line,
    what_kubectl_users_mistype_gets_a_hint,
    several_pods_are_deleted_at_once,
    output_has_kubectls_forms,
    help_shows_examples,
];

fn errors_are_one_line() {
    let pods = Pods::without_image();
    for words in [
        &["apply"][..],
        &["apply", "-f", "/no/such/file"],
        &["get"],
        &["get", "deployments"],
        &["get", "pods", "-o", "xml"],
        &["get", "pod", "p"],
        &["logs"],
        &["logs", "p"],
        &["exec", "p"],
        &["exec", "p", "ls"],
        &["delete"],
        &["delete", "pod"],
        &["delete", "pod", "p"],
        &["delete", "node", "x"],
        &["image", "load", "/no/such/file"],
        &["nonsense"],
        &["get", "pods", "--nonsense"],
    ] {
        let output = pods.podctl(words);
        assert_eq!(output.code, 1, "{words:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{words:?}");
        let lines: Vec<&str> = output.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{words:?}: {}", output.stderr);
        assert!(lines[0].starts_with("error: "), "{words:?}: {}", lines[0]);
    }
}

fn what_kubectl_users_mistype_gets_a_hint() {
    let pods = Pods::new();
    pods.start(
        &Manifest::sleeper("p")
            .container("b", &["sleep", "1000"])
            .init("i", "true"),
    );
    for (words, hint) in [
        (&["exec", "p", "ls"][..], "podctl exec p -- ls"),
        (
            &["logs", "p", "-c", "x"],
            "container x is not valid for pod p; it has: a, b, i (init)",
        ),
        (
            &["get", "deployments"],
            "\"deployments\"; podctl knows pods",
        ),
        (&["delete", "pod"], "podctl delete pod NAME"),
        (&["get", "pod", "q"], "pods \"q\" not found"),
    ] {
        let error = pods.podctl(words).err();
        assert!(error.contains(hint), "{words:?}: {error}");
    }
}

fn several_pods_are_deleted_at_once() {
    let pods = Pods::new();
    for name in ["p", "q", "r"] {
        pods.start(&Manifest::sleeper(name));
    }
    let output = pods.podctl(&["delete", "pod", "p", "nobody", "q", "--grace-period=0"]);
    // The one that is not there does not save the others.
    assert_eq!(output.code, 1);
    assert_eq!(output.stdout, "pod \"p\" deleted\npod \"q\" deleted\n");
    assert!(
        output.stderr.contains("\"nobody\" not found"),
        "{}",
        output.stderr
    );
    assert_eq!(pods.podctl(&["get", "po", "-o", "name"]).ok(), "pod/r");
}

fn output_has_kubectls_forms() {
    let pods = Pods::new();
    let nothing = pods.podctl(&["get", "pods"]);
    assert_eq!(nothing.stderr, "No resources found in default namespace.\n");
    pods.start(&Manifest::sleeper("p"));
    let wide = pods.podctl(&["get", "pods", "-o", "wide"]).ok();
    let head = wide.lines().next().unwrap();
    let titles: Vec<&str> = head
        .split("   ")
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    assert_eq!(
        titles,
        [
            "NAME",
            "READY",
            "STATUS",
            "RESTARTS",
            "AGE",
            "IP",
            "NODE",
            "NOMINATED NODE",
            "READINESS GATES"
        ]
    );
    let list = pods.podctl(&["get", "pods", "-o", "json"]).ok();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(
        (&list["kind"], list["items"].as_array().unwrap().len()),
        (&"List".into(), 1)
    );
    assert_eq!(list["items"][0], pods.object("p"));
    assert_eq!(pods.podctl(&["get", "pod/p", "-o", "name"]).ok(), "pod/p");
}

fn help_shows_examples() {
    let pods = Pods::without_image();
    let help = pods.podctl(&["--help"]).ok();
    assert!(help.contains("podctl apply -f pod.yaml"), "{help}");
    assert!(pods.podctl(&["--version"]).ok().starts_with("podctl "));
}
