//! Tests of `pod::manifest`.

use super::schema::{Kind, Object, Support};
use super::*;
use crate::pod::spec::load;

const FIRST: &str = include_str!("../../../examples/first-pod.yaml");

fn golden(name: &str, actual: &str) {
    let path = format!("{}/tests/golden/pod/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{path}; UPDATE_GOLDEN=1 writes it");
}

fn complaints(text: &str) -> String {
    match load("pod.yaml", text) {
        Ok(loaded) => loaded.warnings.join("\n"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn the_example_is_accepted_without_a_word() {
    let loaded = load("first-pod.yaml", FIRST).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.pods.len(), 1);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
  name: Bad_Name
  restartPolicy: Never
  labels: {app: 5, \"a b\": x}
spec:
  restartPolicy: Never
  restartPolicy: Always
  hostnetwork: true
  nodeSelector: {disk: ssd}
  tolerations: [{operator: Exists}]
  serviceAccountName: me
  dnsPolicy: None
  hostAliases: [{ip: 1.2.3.4, hostnmes: [a]}]
  containers:
  - name: a
    imagee: busybox
    stdin: \"yes\"
    command: sh
    env:
    - {name: PORT, value: 8080}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: s, key: k}}}
  - name: b
    image: busybox
    livenessProbe: {exec: {command: [ls]}, periodSeconds: 5}
    imagePullPolicy: Allways
    securityContext: {runAsUser: -1}
    resources: {limits: {memory: 64MiB, cpu: [1]}}
    ports: [{containerPort: 70000, hostPort: 80}]
    volumeMounts: [{name: data, mountPath: data, subPath: x}]
  - 5
  volumes:
  - {name: data, configMap: {name: c, defaultMode: 0644}}
";
    golden("everything-wrong.txt", &format!("{}\n", complaints(text)));
}

#[test]
fn fields_without_a_meaning_are_one_warning() {
    let text = FIRST.replace(
        "spec:\n",
        "spec:\n  nodeSelector: {disk: ssd}\n  serviceAccountName: me\n  affinity: {nodeAffinity: \
         {}}\n  schedulerName: default-scheduler\n  hostAliases: []\n",
    );
    assert_eq!(
        complaints(&text),
        "pod.yaml: without effect: spec.nodeSelector (line 16), spec.affinity (line 18), \
         spec.schedulerName (line 19): there is one machine, nothing is scheduled; \
         spec.serviceAccountName (line 17): there is no API server to have an account at"
    );
}

#[test]
fn other_kinds_and_broken_files_are_refused_as_such() {
    for (text, expected) in [
        ("", "pod.yaml:1: there is no manifest in it"),
        ("# x\n---\n", "pod.yaml:1: there is no manifest in it"),
        ("5", "pod.yaml:1: must be a Pod manifest, not a number"),
        ("a: b", "pod.yaml:1: kind: is not set: it must be Pod"),
        (
            "apiVersion: apps/v1\nkind: Deployment\nspec: {}",
            "pod.yaml:2: kind: Deployment is not supported by this version of podctl, only Pod",
        ),
        (
            "kind: Pod",
            "pod.yaml:1: apiVersion: is not set: it must be v1",
        ),
        (
            "kind: Pod\napiVersion: v2",
            "pod.yaml:2: apiVersion: a Pod has apiVersion v1, not v2",
        ),
    ] {
        assert_eq!(complaints(text), expected, "{text:?}");
    }
    assert!(complaints("kind: Pod\n  a: [").starts_with("pod.yaml:2: not valid YAML: "));
    assert!(complaints("kind: Pod\napiVersion: v1").contains("spec: is not set"));
}

#[test]
fn json_manifests_are_read() {
    let text = r#"{"apiVersion": "v1", "kind": "Pod",
 "metadata": {"name": "p", "creationTimestamp": null},
 "spec": {"restartPolicy": "Never",
  "containers": [{"name": "c", "image": "busybox:1", "command": ["a\tb"]}]}}"#;
    let loaded = load("pod.json", text).unwrap();
    assert_eq!(loaded.pods[0].spec.containers[0].command, ["a\tb"]);
}

#[test]
fn the_list_of_fields_is_as_reviewed() {
    let mut text = String::new();
    for object in vocabulary::objects() {
        text += &format!("{}\n", object.name);
        for field in object.fields {
            let support = match field.support {
                Support::Yes => "yes".to_owned(),
                Support::Only(values) => format!("only {}", values.join("|")),
                Support::NotYet => "not yet".to_owned(),
                Support::Irrelevant(why) => format!("without effect: {why}"),
            };
            text += &format!("    {:32} {support}\n", field.name);
        }
    }
    golden("fields.txt", &text);
}

/// A value that fits a kind.
fn sample(kind: &Kind) -> String {
    match kind {
        Kind::Text => "\"x\"".to_owned(),
        Kind::Bool => "true".to_owned(),
        Kind::Int(low, _) => low.to_string(),
        Kind::Quantity => "\"1\"".to_owned(),
        Kind::IntOrText => "1".to_owned(),
        Kind::Word(words) => format!("\"{}\"", words[0]),
        Kind::Object(object) => sample_object(object),
        Kind::List(kind) => format!("[{}]", sample(kind)),
        Kind::Map(kind) => format!("{{\"k\": {}}}", sample(kind)),
        Kind::Any => "{}".to_owned(),
    }
}

fn sample_object(object: &Object) -> String {
    let fields: Vec<_> = object
        .fields
        .iter()
        .map(|field| {
            let value = match field.support {
                Support::Only(values) if !matches!(field.kind, Kind::Object(_)) => match field.kind
                {
                    Kind::Bool => values[0].to_owned(),
                    _ => format!("\"{}\"", values[0]),
                },
                _ => sample(&field.kind),
            };
            format!("\"{}\": {value}", field.name)
        })
        .collect();
    format!("{{{}}}", fields.join(", "))
}

#[test]
fn whatever_the_reader_lets_through_fits_the_wire_types() {
    let text = sample_object(&vocabulary::POD);
    let nodes = yaml::documents(&text).unwrap();
    let read = read::document(&nodes[0]);
    for problem in &read.problems {
        assert_eq!(
            problem.message, "not supported by this version of podctl",
            "{problem:?}"
        );
    }
    let pod: wire::Pod = serde_json::from_value(read.value).unwrap();
    let container = &pod.spec.unwrap().containers[0];
    assert!(container.tty.is_some() && !container.volume_mounts.is_empty());
}

#[test]
fn every_object_has_each_field_once_and_a_word_about_it() {
    for object in vocabulary::objects() {
        let mut names: Vec<_> = object.fields.iter().map(|field| field.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{}", object.name);
        assert!(object.fields.iter().all(|field| !field.about.is_empty()));
    }
}

/// The same numbers at every run, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit.max(1)
    }
}

#[test]
fn no_text_makes_the_reader_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let pieces: [&str; 36] = [
        "\n",
        " ",
        "  ",
        ":",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "| ",
        ">-\n",
        "'",
        "\"",
        "#",
        "---\n",
        "...\n",
        "? ",
        "%YAML 1.1\n",
        "\t",
        "\u{0}",
        "é",
        "\u{feff}",
        "99999999999999999999",
        "-1",
        "0x",
        "1e999",
        "~",
        "null",
        "\\u12",
        "Ki",
        "\r",
    ];
    let rounds = std::env::var("FUZZ_ROUNDS").map_or(3000, |n| n.parse().unwrap());
    for _ in 0..rounds {
        let mut text: Vec<char> = FIRST.chars().collect();
        let start = random.below(text.len());
        let length = random.below(600);
        text = text.into_iter().skip(start).take(length).collect();
        if random.below(2) == 0 {
            let head = "apiVersion: v1\nkind: Pod\n";
            text.splice(0..0, head.chars());
        }
        for _ in 0..random.below(8) {
            let at = random.below(text.len() + 1);
            if random.below(3) == 0 {
                let end = (at + random.below(20)).min(text.len());
                text.drain(at..end);
            } else {
                let piece = pieces[random.below(pieces.len())];
                text.splice(at..at, piece.chars());
            }
        }
        let text: String = text.into_iter().collect();
        let _ = load("fuzz.yaml", &text);
    }
}

#[test]
fn no_change_of_one_value_makes_the_reader_panic() {
    let values = [
        "",
        "~",
        "[]",
        "{}",
        "[~]",
        "{a: b}",
        "-1",
        "0",
        "99999999999999999999",
        "yes",
        "\"\"",
        "'é'",
        "1e400",
        "\"\\u0000\"",
        "[[[]]]",
    ];
    let lines: Vec<&str> = FIRST.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(':') else {
            continue;
        };
        for value in values {
            let changed = format!("{key}: {value}");
            let mut text = lines.clone();
            text[index] = &changed;
            let _ = load("fuzz.yaml", &text.join("\n"));
        }
    }
}

#[test]
#[ignore = "measures; run it by name"]
fn large_texts_take_a_moment_and_not_more() {
    let many = |piece: &str| piece.repeat((3 << 20) / piece.len() - 1);
    let numbered = |form: fn(usize) -> String| (0..100_000).map(form).collect::<String>();
    for (what, text) in [
        ("lists", many("- a\n")),
        ("flow", format!("[{}]", "a, ".repeat(1_000_000))),
        ("keys", numbered(|i| format!("k{i}: v\n"))),
        ("same key", many("k: v\n")),
        ("quotes", many("'")),
        ("colons", many(":")),
        ("questions", many("? ")),
        ("text", many("x")),
        ("words", many("x ")),
        ("lines", many("x\n")),
        ("comments", many("#\n")),
        ("tabs", many("\t")),
        ("anchors", numbered(|i| format!("- &a{i} x\n"))),
        (
            "merges",
            format!(
                "b: &b {{{}}}\nc:\n{}",
                numbered(|i| format!("k{i}: v, ")),
                "  <<: *b\n".repeat(50)
            ),
        ),
        ("documents", many("---\na\n")),
        (
            "first",
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{labels: {{{}}}}}",
                numbered(|i| format!("k{i}: v, "))
            ),
        ),
    ] {
        let start = std::time::Instant::now();
        let _ = load("large.yaml", &text);
        println!("{what:10} {:7} bytes {:?}", text.len(), start.elapsed());
    }
}
