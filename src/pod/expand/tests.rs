//! Tests of `pod::expand`.

use super::*;
use crate::pod::spec::load;

fn pod(container: &str) -> Pod {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{app: web}}}}\nspec:\n  \
         restartPolicy: Never\n  containers:\n  - name: c\n    image: img:1\n{container}"
    );
    load("t.yaml", &text)
        .unwrap_or_else(|e| panic!("{e}"))
        .pods
        .remove(0)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn references_are_replaced_by_kubernetes_rules() {
    let value_of = |name: &str| match name {
        "A" => Some("1"),
        "E" => Some(""),
        "D" => Some("$(A)"),
        "" => Some("nothing"),
        _ => None,
    };
    for (text, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(E)", ""),
        ("$(B)", "$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$", "$"),
        ("$$", "$"),
        ("a$", "a$"),
        ("$A", "$A"),
        ("${A}", "${A}"),
        ("$(A", "$(A"),
        ("$(A$(A)", "$(A$(A)"),
        ("$()", "nothing"),
        ("$(D)", "$(A)"),
        ("é$(A)é", "é1é"),
        ("$é", "$é"),
        ("$(B)$(A)", "$(B)1"),
    ] {
        assert_eq!(expand(text, value_of), expected, "{text}");
    }
}

#[test]
fn variables_see_only_those_above_them_and_later_ones_win() {
    let pod = pod(
        "    env:\n    - {name: A, value: '1'}\n    - {name: B, value: '$(A)$(C)'}\n    - {name: \
         C, value: '3'}\n    - {name: A, value: '$(A)0'}\n    - {name: D, value: '$(A)'}\n",
    );
    let env = manifest_env(&pod, &pod.spec.containers[0], &Facts::default()).unwrap();
    let pairs: Vec<_> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        pairs,
        [("A", "10"), ("B", "1$(C)"), ("C", "3"), ("D", "10")]
    );
}

#[test]
fn the_downward_api_gives_fields_and_resources() {
    let variable = |name: &str, path: &str| {
        format!("    - {{name: {name}, valueFrom: {{fieldRef: {{fieldPath: \"{path}\"}}}}}}\n")
    };
    let resource = |name: &str, resource: &str, divisor: &str| {
        format!(
            "    - {{name: {name}, valueFrom: {{resourceFieldRef: {{resource: {resource}, \
             divisor: {divisor}}}}}}}\n"
        )
    };
    let table = [
        (variable("A", "metadata.name"), "p"),
        (variable("B", "metadata.namespace"), "default"),
        (variable("C", "metadata.uid"), "u-1"),
        (variable("D", "metadata.labels['app']"), "web"),
        (variable("E", "metadata.annotations['none']"), ""),
        (variable("F", "spec.nodeName"), "node"),
        (variable("G", "spec.serviceAccountName"), "default"),
        (variable("H", "status.hostIP"), "10.0.0.1"),
        (variable("I", "status.hostIPs"), "10.0.0.1,fd00::1"),
        (resource("J", "limits.cpu", "1m"), "500"),
        (resource("K", "limits.cpu", "1"), "1"),
        (resource("L", "limits.memory", "1Mi"), "1024"),
        (resource("M", "requests.memory", "1Mi"), "64"),
        (resource("S", "requests.ephemeral-storage", "1"), "0"),
        (resource("O", "limits.ephemeral-storage", "1Gi"), "5"),
    ];
    let env: String = table.iter().map(|(line, _)| line.as_str()).collect();
    let pod = pod(&format!(
        "    resources: {{limits: {{cpu: 500m}}, requests: {{memory: 64Mi}}}}\n    env:\n{env}"
    ));
    let mut facts = Facts {
        uid: "u-1".to_owned(),
        node_name: "node".to_owned(),
        host_ips: strings(&["10.0.0.1", "fd00::1"]),
        allocatable_memory: 1 << 30,
        allocatable_storage: 5 << 30,
        ..Facts::default()
    };
    let container = &pod.spec.containers[0];
    let values: Vec<_> = manifest_env(&pod, container, &facts).unwrap();
    for ((_, expected), (name, value)) in table.iter().zip(&values) {
        assert_eq!(value, expected, "{name}");
    }
    facts.host_ips.clear();
    let error = manifest_env(&pod, container, &facts)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "env H: status.hostIP is not known: the pod has no network"
    );
}

#[test]
fn the_pods_address_is_the_machines_with_its_network() {
    let mut pod = pod("    env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]\n");
    pod.spec.host_network = true;
    let facts = Facts {
        host_ips: strings(&["10.0.0.1"]),
        ..Facts::default()
    };
    let env = manifest_env(&pod, &pod.spec.containers[0], &facts).unwrap();
    assert_eq!(env[0].1, "10.0.0.1");
}

#[test]
fn the_manifest_wins_over_the_image_and_the_image_over_the_defaults() {
    let image = strings(&["PATH=/bin", "A=image", "B=image", "broken"]);
    let manifest = [("A".to_owned(), "manifest".to_owned())];
    assert_eq!(
        environment("host", true, &image, &manifest),
        [
            "PATH=/bin",
            "HOSTNAME=host",
            "TERM=xterm",
            "A=manifest",
            "B=image"
        ]
    );
    assert_eq!(
        environment("h", false, &[], &[])[0],
        format!("PATH={DEFAULT_PATH}")
    );
}

#[test]
fn command_and_args_take_the_place_of_the_images() {
    let entrypoint = strings(&["/entry", "$(A)"]);
    let cmd = strings(&["default"]);
    let env = [("A".to_owned(), "1".to_owned())];
    for (container, expected) in [
        ("", vec!["/entry", "$(A)", "default"]),
        ("    args: [x, $(A)]\n", vec!["/entry", "$(A)", "x", "1"]),
        ("    command: [sh, $(A)]\n", vec!["sh", "1"]),
        ("    command: [sh]\n    args: [$(A)]\n", vec!["sh", "1"]),
    ] {
        let pod = pod(container);
        let line = arguments(&pod.spec.containers[0], &entrypoint, &cmd, &env).unwrap();
        assert_eq!(line, expected, "{container}");
    }
    let pod = pod("");
    let error = arguments(&pod.spec.containers[0], &[], &[], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "container c: there is no program to run: set command, the image img:1 has no entrypoint"
    );
}
