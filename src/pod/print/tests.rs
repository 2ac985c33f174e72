//! Tests of `pod::print`.

use super::*;
use crate::pod::spec::{Deletion, RestartPolicy, load};
use crate::pod::status::{ContainerRecord, Observation, Sandbox, Waiting, observe};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix(seconds)
}

fn stored(text: &str) -> StoredPod {
    let pod = load("t.yaml", text)
        .unwrap_or_else(|e| panic!("{e}"))
        .pods
        .remove(0);
    let uid = "6f1c3f0e-3f0b-4b5e-8d8e-0d3c1f1f7a10".to_owned();
    StoredPod::new(pod, uid, "node".to_owned(), at(1_700_000_000))
}

fn small(init: &str, apps: &str) -> StoredPod {
    let list = |names: &str| {
        let items: Vec<_> = names
            .split_whitespace()
            .map(|name| format!("{{name: {}, image: 'i:1'}}", name.trim_end_matches('!')))
            .collect();
        format!("[{}]", items.join(", "))
    };
    let mut pod = stored(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  \
         initContainers: {}\n  containers: {}\n",
        list(init),
        list(apps)
    ));
    let containers = pod.pod.spec.init_containers.iter_mut();
    for (container, name) in containers.zip(init.split_whitespace()) {
        container.restart_policy = name.ends_with('!').then_some(RestartPolicy::Always);
    }
    pod
}

/// `a+` running, `a=N` ended, `a?reason` waiting, `a~N?reason` ended and waiting to be started again.
fn records(text: &str) -> Vec<ContainerRecord> {
    text.split_whitespace()
        .map(|word| {
            let at_sign = word.find(['+', '=', '?', '~']).unwrap();
            let (name, what) = word.split_at(at_sign);
            let (kind, rest) = what.split_at(1);
            let (code, reason) = match kind {
                "+" => ("", ""),
                "=" => (rest, ""),
                "?" => ("", rest),
                _ => rest.split_once('?').unwrap(),
            };
            ContainerRecord {
                name: name.to_owned(),
                container_id: Some(format!("id-{name}")),
                image_id: Some("sha256:abc".to_owned()),
                started_at: (kind != "?").then(|| at(1_700_000_010)),
                exit_code: code.parse().ok(),
                finished_at: (!code.is_empty()).then(|| at(1_700_000_020)),
                waiting: (!reason.is_empty()).then(|| Waiting {
                    reason: reason.to_owned(),
                    message: None,
                }),
                restart_count: u32::from(kind == "~") * 3,
                ..ContainerRecord::default()
            }
        })
        .collect()
}

fn seen(pod: &StoredPod, facts: &str) -> PodStatus {
    observe(&Observation {
        pod,
        records: &records(facts),
        sandbox: Sandbox {
            ready: true,
            host_ips: vec!["10.0.0.1".to_owned()],
            pod_ips: vec![],
        },
        failure: None,
        previous: None,
        now: at(1_700_000_030),
    })
}

#[test]
fn the_status_column_has_the_most_telling_word() {
    for (init, apps, facts, ready, status) in [
        ("", "a", "", "0/1", "ContainerCreating"),
        ("", "a", "a+", "1/1", "Running"),
        ("", "a", "a=0", "0/1", "Completed"),
        ("", "a", "a=1", "0/1", "Error"),
        ("", "a", "a?ErrImageNeverPull", "0/1", "ErrImageNeverPull"),
        ("", "a b", "a+ b+", "2/2", "Running"),
        ("", "a b", "a=0 b+", "1/2", "NotReady"),
        ("", "a b", "a=0 b=0", "0/2", "Completed"),
        ("", "a b", "a=0 b=1", "0/2", "Error"),
        ("", "a b", "a=1 b=0", "0/2", "Error"),
        ("", "a b", "a+ b=1", "1/2", "Error"),
        ("i", "a", "", "0/1", "Init:0/1"),
        ("i j", "a", "i+", "0/1", "Init:0/2"),
        ("i j", "a", "i=0", "0/1", "Init:1/2"),
        ("i j", "a", "i=0 j+", "0/1", "Init:1/2"),
        ("i j", "a", "i=0 j=0", "0/1", "PodInitializing"),
        ("i", "a", "i=1", "0/1", "Init:Error"),
        ("i", "a", "i?ErrImagePull", "0/1", "Init:ErrImagePull"),
        ("i", "a", "i=0 a+", "1/1", "Running"),
        ("s!", "a", "s+ a+", "2/2", "Running"),
        ("s!", "a", "s+", "1/2", "PodInitializing"),
        ("s!", "a", "s+ a=0", "1/2", "Completed"),
    ] {
        let pod = small(init, apps);
        let row = row(&pod, &seen(&pod, facts), at(1_700_000_030));
        assert_eq!(
            (row.ready.as_str(), row.status.as_str()),
            (ready, status),
            "{init} / {apps} / {facts}"
        );
    }
}

#[test]
fn a_pod_that_is_being_deleted_is_terminating_until_it_has_ended() {
    let mut pod = small("", "a");
    pod.deletion = Some(Deletion {
        deadline: at(1_700_000_060),
        grace_seconds: 30,
    });
    let word = |facts| row(&pod, &seen(&pod, facts), at(1_700_000_030)).status;
    assert_eq!(word("a+"), "Terminating");
    assert_eq!(word("a=1"), "Error");
}

#[test]
fn restarts_say_when_the_last_one_was() {
    let mut pod = small("", "a");
    pod.pod.spec.restart_policy = RestartPolicy::Always;
    let row = row(&pod, &seen(&pod, "a~1?CrashLoopBackOff"), at(1_700_000_140));
    assert_eq!(row.restarts, "3 (2m ago)");
    assert_eq!(row.status, "CrashLoopBackOff");
    assert_eq!(row.age, "2m20s");
}

fn golden(name: &str, actual: &str) {
    let path = format!("{}/tests/golden/pod/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{path}; UPDATE_GOLDEN=1 writes it");
}

fn print(list: &[(&StoredPod, &PodStatus)], options: Options) -> String {
    pods(list, options, at(1_700_000_030)).unwrap()
}

#[test]
fn tables_and_objects_are_as_reviewed() {
    let first = stored(include_str!("../../../examples/first-pod.yaml"));
    let status = seen(&first, "prepare=0 writer+ reader+");
    let other = small("", "a");
    let other_status = seen(&other, "a?ErrImageNeverPull");
    let both = [(&first, &status), (&other, &other_status)];
    let with = |output| Options {
        output,
        ..Options::default()
    };
    let mut text = String::new();
    for options in [
        with(Output::Table),
        with(Output::Wide),
        with(Output::Name),
        Options {
            namespaces: true,
            no_headers: true,
            ..Options::default()
        },
    ] {
        text += &format!("{}\n", print(&both, options));
    }
    golden("get.txt", &text);
    let single = Options {
        output: Output::Yaml,
        single: true,
        ..Options::default()
    };
    golden("first-pod.get.yaml", &print(&both[..1], single));
    let json: Value = serde_json::from_str(&print(&both, with(Output::Json))).unwrap();
    assert_eq!(json["kind"], "List");
    assert_eq!(json["items"][0], object(&first, &status).unwrap());
}

#[test]
fn what_is_printed_can_be_applied_again() {
    let first = stored(include_str!("../../../examples/first-pod.yaml"));
    let status = seen(&first, "");
    let single = Options {
        output: Output::Yaml,
        single: true,
        ..Options::default()
    };
    let text = print(&[(&first, &status)], single);
    let again = load("again.yaml", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again.pods, [first.pod]);
}

#[test]
#[allow(clippy::too_many_lines)] // It is a table.
fn yaml_reads_back_as_what_was_written() {
    use crate::pod::manifest::yaml::{self, Node};
    fn value(node: &Node) -> Value {
        match &node.value {
            yaml::Value::Null => Value::Null,
            yaml::Value::Bool(value) => json!(value),
            yaml::Value::Int(value) => json!(value),
            yaml::Value::Float(value, _) => json!(value),
            yaml::Value::String(text) => json!(text),
            yaml::Value::List(items) => items.iter().map(value).collect(),
            yaml::Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), value(&entry.value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
    let texts = [
        "",
        " ",
        "a",
        "yes",
        "n",
        "~",
        "null",
        "0644",
        "1e3",
        "1:30",
        "2024-01-01",
        "-",
        "- a",
        "--",
        "---",
        "-c",
        "--flag=x",
        "a: b",
        "a:",
        "a #b",
        "#a",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "'",
        "it's",
        "\"q\"",
        "%a",
        "@a",
        "`a`",
        "{a}",
        "[a]",
        "a\nb",
        "a\nb\n",
        "a\n\nb\n\n",
        "\na",
        " a\nb",
        "a \nb",
        "a\tb",
        "\ta\nb",
        "a\r\nb",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}x",
        "é",
        "日本",
        "a,b",
        "?",
        "? a",
        ":",
        ": a",
        ".",
        "..",
        "...",
        "+",
        "+1",
        ".5",
        "0x",
        "=",
        "<<",
        "$(A)",
        "a: |",
        "key: [",
        "x\n  y\n z",
        "true",
        "True",
        "off",
        "1_000",
        "0b1",
        ".inf",
        "😀",
        "trailing ",
        "a\n#b",
        "a\n---\nb",
        "12:30:45",
        "1.2.3.4",
    ];
    for text in texts {
        for written in [
            json!(text),
            json!({ "k": text }),
            json!([text]),
            json!({ text: 1 }),
            json!({ "a": [[text, 1], { "b": text, "c": [] }, {}], "z": null }),
        ] {
            let yaml = to_yaml(&written);
            let read = yaml::documents(&yaml).unwrap_or_else(|e| panic!("{e:?}\n{yaml}"));
            let read = read.first().map_or(Value::Null, value);
            assert_eq!(read, written, "{text:?}\n{yaml}");
        }
    }
}
