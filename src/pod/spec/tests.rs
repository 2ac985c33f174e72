//! Tests of `pod::spec`.

use super::*;

/// A pod of one container; `container` and `spec` are added, indented as given.
fn manifest(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n{spec}  \
         containers:\n  - name: c\n    image: busybox:1\n{container}"
    )
}

fn pod(spec: &str, container: &str) -> Pod {
    let text = manifest(spec, container);
    match load("t.yaml", &text) {
        Ok(mut loaded) => loaded.pods.remove(0),
        Err(problems) => panic!("{text}\n{problems}"),
    }
}

fn problems(spec: &str, container: &str) -> String {
    let text = manifest(spec, container);
    match load("t.yaml", &text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn defaults_are_those_of_kubernetes() {
    let pod = pod(
        "",
        "    ports: [{containerPort: 80}]\n    resources: {limits: {cpu: 1}}\n",
    );
    assert_eq!(pod.metadata.namespace, "default");
    let spec = &pod.spec;
    assert_eq!(spec.termination_grace_period_seconds, 30);
    assert!(spec.host_users);
    assert!(!spec.host_network && !spec.host_pid && !spec.host_ipc);
    let container = &spec.containers[0];
    assert_eq!(container.ports[0].protocol, Protocol::Tcp);
    assert_eq!(container.resources.limits, container.resources.requests);
    assert_eq!(container.image_pull_policy, PullPolicy::IfNotPresent);
}

#[test]
fn the_default_pull_policy_comes_from_the_tag() {
    for (image, expected) in [
        ("busybox", PullPolicy::Always),
        ("busybox:latest", PullPolicy::Always),
        ("busybox:1.36", PullPolicy::IfNotPresent),
        ("localhost:5000/busybox", PullPolicy::Always),
        ("localhost:5000/busybox:1", PullPolicy::IfNotPresent),
        ("busybox@sha256:abc", PullPolicy::IfNotPresent),
    ] {
        let text = manifest("", "").replace("busybox:1", image);
        let loaded = load("t.yaml", &text).unwrap();
        assert_eq!(
            loaded.pods[0].spec.containers[0].image_pull_policy, expected,
            "{image}"
        );
    }
}

#[test]
#[allow(clippy::too_many_lines)] // It is a table.
fn what_does_not_fit_together_is_an_error_with_path_and_line() {
    let table: &[(&str, &str, &str)] = &[
        (
            "  hostUsers: false\n  hostNetwork: true\n",
            "",
            "t.yaml:7: spec.hostNetwork: cannot be true together with hostUsers: false",
        ),
        (
            "  hostUsers: false\n  hostPID: true\n",
            "",
            "spec.hostPID: cannot be true together with hostUsers: false",
        ),
        (
            "  hostUsers: false\n  hostIPC: true\n",
            "",
            "spec.hostIPC: cannot be true together with hostUsers: false",
        ),
        (
            "  hostPID: true\n  shareProcessNamespace: true\n",
            "",
            "spec.shareProcessNamespace: cannot be true together with hostPID",
        ),
        (
            "  hostname: A_b\n",
            "",
            "t.yaml:6: spec.hostname: \"A_b\" must be lower-case",
        ),
        (
            "  volumes: [{name: v}, {name: v}]\n",
            "",
            "spec.volumes[1].name: \"v\" is already the name of spec.volumes[0]",
        ),
        (
            "  volumes: [{name: v, emptyDir: {sizeLimit: -1}}]\n",
            "",
            "spec.volumes[0].emptyDir.sizeLimit: must not be negative",
        ),
        (
            "  initContainers: [{name: c, image: x}]\n",
            "",
            "spec.containers[0].name: \"c\" is already the name of spec.initContainers[0]",
        ),
        (
            "",
            "    volumeMounts: [{name: v, mountPath: /v}]\n",
            "t.yaml:9: spec.containers[0].volumeMounts[0].name: there is no volume \"v\"",
        ),
        (
            "  volumes: [{name: v}]\n",
            "    volumeMounts: [{name: v, mountPath: v}]\n",
            "volumeMounts[0].mountPath: \"v\" must be an absolute path",
        ),
        (
            "  volumes: [{name: v}]\n",
            "    volumeMounts: [{name: v, mountPath: /a/../b}]\n",
            "volumeMounts[0].mountPath: must not contain '..'",
        ),
        (
            "  volumes: [{name: v}]\n",
            "    volumeMounts: [{name: v, mountPath: //}]\n",
            "volumeMounts[0].mountPath: must not be the root",
        ),
        (
            "  volumes: [{name: v}]\n",
            "    volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /v/}]\n",
            "volumeMounts[1].mountPath: \"/v\" is already the place of volumeMounts[0]",
        ),
        (
            "  volumes: [{name: v}]\n",
            "    volumeMounts: [{name: v}]\n",
            "volumeMounts[0].mountPath: is not set",
        ),
        (
            "",
            "    workingDir: tmp\n",
            "spec.containers[0].workingDir: must be an absolute path",
        ),
        (
            "",
            "    env: [{name: A=B, value: x}]\n",
            "env[0].name: \"A=B\" must be printable",
        ),
        (
            "",
            "    env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n",
            "env[0].valueFrom: cannot be set together with value",
        ),
        (
            "",
            "    env: [{name: A, valueFrom: {}}]\n",
            "env[0].valueFrom: is not set to anything",
        ),
        (
            "",
            "    env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.x}}}]\n",
            "env[0].valueFrom.fieldRef.fieldPath: \"spec.x\" is not a field",
        ),
        (
            "",
            "    env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}]\n",
            "resourceFieldRef.resource: \"limits.gpu\" is not limits",
        ),
        (
            "",
            "    env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Mi}}}]\n",
            "resourceFieldRef.divisor: \"1Mi\" must be one of 1m, 1",
        ),
        (
            "",
            "    env: [{name: A, valueFrom: {resourceFieldRef: {containerName: z, resource: limits.cpu}}}]\n",
            "containerName: there is no container \"z\"",
        ),
        (
            "",
            "    ports: [{name: Web, containerPort: 80}]\n",
            "ports[0].name: \"Web\" must be at most 15",
        ),
        (
            "",
            "    ports: [{name: a, containerPort: 1}, {name: a, containerPort: 2}]\n",
            "ports[1].name: is already the name",
        ),
        (
            "",
            "    ports: [{name: a}]\n",
            "ports[0].containerPort: is not set",
        ),
        (
            "",
            "    resources: {requests: {cpu: 2}, limits: {cpu: 1}}\n",
            "resources.requests.cpu: 2 is more than the limit of 1",
        ),
        (
            "",
            "    resources: {limits: {gpu: 1}}\n",
            "resources.limits.gpu: \"gpu\" is not a resource of this machine",
        ),
        (
            "",
            "    resources: {limits: {memory: -1Mi}}\n",
            "resources.limits.memory: must not be negative",
        ),
        (
            "",
            "    resources: {requests: {hugepages-2Mi: 4Mi, cpu: 1}}\n",
            "must be the same as the limit",
        ),
        (
            "",
            "    resources: {limits: {hugepages-2Mi: 3Mi, cpu: 1}}\n",
            "must be a whole number of pages",
        ),
        (
            "",
            "    resources: {limits: {hugepages-2Mi: 2Mi}}\n",
            "huge pages need a request for cpu or memory",
        ),
        (
            "  resources: {limits: {cpu: 1}}\n",
            "    resources: {requests: {cpu: 1}, limits: {cpu: 2}}\n",
            "spec.containers[0].resources.limits.cpu: 2 is more than the pod's limit of 1",
        ),
        (
            "  resources: {requests: {cpu: 1}}\n",
            "    resources: {requests: {cpu: 2}}\n",
            "spec.resources.requests.cpu: 1 is less than the 2",
        ),
        (
            "  resources: {requests: {ephemeral-storage: 1}}\n",
            "",
            "ephemeral-storage is only for containers",
        ),
        (
            "",
            "    securityContext: {privileged: true, allowPrivilegeEscalation: false}\n",
            "allowPrivilegeEscalation: cannot be false together with privileged",
        ),
        (
            "",
            "    securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [CAP_SYS_ADMIN]}}\n",
            "together with the capability SYS_ADMIN",
        ),
        (
            "",
            "    securityContext: {procMount: Unmasked}\n",
            "procMount: Unmasked needs spec.hostUsers: false",
        ),
        (
            "",
            "    securityContext: {capabilities: {add: [NET_ADMINN]}}\n",
            "capabilities.add[0]: \"NET_ADMINN\" is not a capability",
        ),
        (
            "",
            "    securityContext: {seccompProfile: {type: Localhost}}\n",
            "localhostProfile: is not set",
        ),
        (
            "",
            "    securityContext: {seccompProfile: {type: Localhost, localhostProfile: ../x}}\n",
            "must be a path below",
        ),
        (
            "",
            "    securityContext: {seccompProfile: {type: Unconfined, localhostProfile: x}}\n",
            "is only for the type Localhost",
        ),
        (
            "",
            "    securityContext: {seccompProfile: {}}\n",
            "seccompProfile.type: is not set",
        ),
        (
            "  securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}\n",
            "",
            "kernel.msgmax is not one of the safe ones",
        ),
        (
            "  hostNetwork: true\n  securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '1'}]}\n",
            "",
            "would change the machine's network",
        ),
        (
            "  hostIPC: true\n  securityContext: {sysctls: [{name: kernel/shm_rmid_forced, value: '1'}]}\n",
            "",
            "would change the machine itself",
        ),
        (
            "  securityContext: {sysctls: [{name: net.ipv4.tcp_rmem, value: '1'}, {name: net/ipv4/tcp_rmem, value: '1'}]}\n",
            "",
            "sysctls[1].name: net.ipv4.tcp_rmem is set twice",
        ),
    ];
    for (spec, container, expected) in table {
        let text = problems(spec, container);
        assert!(text.contains(expected), "{spec}{container}\n{text}");
        assert_eq!(text.lines().count(), 1, "{spec}{container}\n{text}");
    }
}

#[test]
fn a_missing_restart_policy_says_what_to_write() {
    let text = manifest("", "").replace("  restartPolicy: Never\n", "");
    let problems = load("t.yaml", &text).unwrap_err().to_string();
    assert_eq!(
        problems,
        "t.yaml:4: spec.restartPolicy: is not set, which means Always: only restartPolicy: Never \
         is supported by this version of podctl, so write it"
    );
    let text = manifest("", "").replace("Never", "Always");
    let problems = load("t.yaml", &text).unwrap_err().to_string();
    assert_eq!(
        problems,
        "t.yaml:5: spec.restartPolicy: Always is not supported by this version of podctl, only Never"
    );
}

#[test]
fn two_pods_of_one_name_in_a_file_are_an_error() {
    let text = format!("{}---\n{}", manifest("", ""), manifest("", ""));
    let problems = load("t.yaml", &text).unwrap_err().to_string();
    assert_eq!(
        problems,
        "t.yaml:12: metadata.name: pod \"p\" is already in this file"
    );
}

#[test]
fn a_port_listed_twice_is_only_a_warning() {
    let text = manifest(
        "",
        "    ports: [{containerPort: 80}, {containerPort: 80}]\n",
    );
    let loaded = load("t.yaml", &text).unwrap();
    assert_eq!(
        loaded.warnings,
        ["t.yaml:9: spec.containers[0].ports[1].containerPort: port 80 is listed twice"]
    );
}

#[test]
fn the_meaning_survives_being_stored() {
    let text = include_str!("../../../examples/first-pod.yaml");
    let pod = load("first-pod.yaml", text).unwrap().pods.remove(0);
    let stored = StoredPod::new(
        pod,
        "uid".to_owned(),
        "node".to_owned(),
        crate::pod::time::Timestamp::from_unix(1),
    );
    let json = stored.to_json().unwrap();
    assert_eq!(StoredPod::from_json(&json).unwrap(), stored);
    let newer = json.replace("\"format\": 1", "\"format\": 2");
    let error = StoredPod::from_json(&newer).unwrap_err().to_string();
    assert_eq!(
        error,
        "stored pod has format 2, this version reads format 1"
    );
}

#[test]
fn every_kind_of_field_survives_being_stored() {
    let pod = pod(
        "  hostUsers: false\n  hostname: h\n  shareProcessNamespace: true\n  volumes: [{name: v, \
         emptyDir: {medium: Memory, sizeLimit: 1Gi}}, {name: w}]\n  securityContext: {runAsUser: \
         1, runAsGroup: 2, runAsNonRoot: true, supplementalGroups: [3], seccompProfile: {type: \
         RuntimeDefault}, sysctls: [{name: net.ipv4.tcp_rmem, value: 1 2 3}]}\n  resources: \
         {limits: {cpu: 2}}\n",
        "    env: [{name: A, value: \"\"}, {name: B, valueFrom: {fieldRef: {fieldPath: \
         \"metadata.labels['a']\"}}}, {name: C, valueFrom: {resourceFieldRef: {resource: \
         limits.memory, divisor: 1Mi}}}]\n    securityContext: {privileged: false, capabilities: \
         {add: [net_admin], drop: [ALL]}, procMount: Unmasked, readOnlyRootFilesystem: true, \
         allowPrivilegeEscalation: false, seccompProfile: {type: Localhost, localhostProfile: \
         a/b.json}}\n    resources: {limits: {hugepages-2Mi: 4Mi, memory: 1.5Gi}}\n    \
         volumeMounts: [{name: v, mountPath: /v, readOnly: true}]\n    stdin: true\n    tty: true\n",
    );
    let json = serde_json::to_string(&pod).unwrap();
    assert_eq!(serde_json::from_str::<Pod>(&json).unwrap(), pod, "{json}");
    let effective = security::effective(&pod, &pod.spec.containers[0]);
    assert_eq!(effective.user, Some(1));
    assert_eq!(effective.capabilities.add, ["NET_ADMIN"]);
    assert!(effective.no_new_privileges && effective.non_root && effective.read_only_root);
}

#[test]
fn root_is_refused_where_it_must_be() {
    for (settings, image_user, refused) in [
        ("", "", false),
        ("runAsNonRoot: true", "", true),
        ("runAsNonRoot: true", "0", true),
        ("runAsNonRoot: true", "0:5", true),
        ("runAsNonRoot: true", "5:0", false),
        ("runAsNonRoot: true", "root", true),
        ("runAsNonRoot: true", "app", true),
        ("runAsNonRoot: true, runAsUser: 0", "5", true),
        ("runAsNonRoot: true, runAsUser: 5", "root", false),
    ] {
        let pod = pod("", &format!("    securityContext: {{{settings}}}\n"));
        let effective = security::effective(&pod, &pod.spec.containers[0]);
        let reason = effective.refuses_root(image_user);
        assert_eq!(reason.is_some(), refused, "{settings} {image_user:?}");
    }
}

#[test]
fn the_hostname_is_the_pods_name_cut_to_fit() {
    let mut pod = pod("", "");
    assert_eq!(pod.hostname(), "p");
    pod.metadata.name = format!("{}-.{}", "a".repeat(61), "b".repeat(20));
    assert_eq!(pod.hostname(), "a".repeat(61));
    pod.spec.hostname = Some("h".to_owned());
    assert_eq!(pod.hostname(), "h");
}
