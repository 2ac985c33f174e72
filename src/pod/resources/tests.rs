//! Tests of `pod::resources`.

use super::*;
use crate::pod::spec::{Pod, RestartPolicy, load};

/// A pod with one container (or init container, after `i`) for each text of resources.
fn pod(pod_level: &str, containers: &[(&str, &str)]) -> Pod {
    let mut text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  \
         resources: {{{pod_level}}}\n"
    );
    for (list, kind) in [("initContainers", "i"), ("containers", "c")] {
        text += &format!("  {list}:\n");
        for (index, (_, resources)) in containers.iter().enumerate().filter(|(_, c)| c.0 == kind) {
            text += &format!("  - {{name: {kind}{index}, image: x, resources: {{{resources}}}}}\n");
        }
    }
    load("t.yaml", &text)
        .unwrap_or_else(|e| panic!("{e}"))
        .pods
        .remove(0)
}

#[test]
fn weights_are_those_of_the_new_formula() {
    for (milli, expected_shares, expected_weight) in [
        (0, 2, 1),
        (1, 2, 1),
        (100, 102, 17),
        (250, 256, 35),
        (500, 512, 59),
        (1000, 1024, 100),
        (2000, 2048, 174),
        (4000, 4096, 303),
        (256_000, 262_144, 10_000),
        (u64::MAX, 262_144, 10_000),
    ] {
        assert_eq!(shares(milli), expected_shares, "{milli}m");
        assert_eq!(weight(shares(milli)), expected_weight, "{milli}m");
    }
}

#[test]
fn weights_never_fall_when_shares_rise() {
    let mut last = 0;
    for shares in (2..=262_144).step_by(61) {
        let weight = weight(shares);
        assert!((1..=10_000).contains(&weight) && weight >= last, "{shares}");
        last = weight;
    }
}

#[test]
fn quotas_have_a_smallest_value_and_no_limit_is_max() {
    for (milli, expected) in [
        (0, "max 100000"),
        (1, "1000 100000"),
        (10, "1000 100000"),
        (11, "1100 100000"),
        (500, "50000 100000"),
        (2000, "200000 100000"),
    ] {
        assert_eq!(cpu_max(milli).to_string(), expected, "{milli}m");
    }
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let full = "limits: {cpu: 1, memory: 1Gi}";
    for (pod_level, containers, expected) in [
        ("", vec![("c", "")], QosClass::BestEffort),
        (
            "",
            vec![("c", "limits: {ephemeral-storage: 1Gi}")],
            QosClass::BestEffort,
        ),
        ("", vec![("c", "limits: {cpu: 0}")], QosClass::BestEffort),
        ("", vec![("c", full)], QosClass::Guaranteed),
        ("", vec![("c", full), ("c", "")], QosClass::Burstable),
        ("", vec![("i", ""), ("c", full)], QosClass::Burstable),
        ("", vec![("c", "limits: {cpu: 1}")], QosClass::Burstable),
        ("", vec![("c", "requests: {cpu: 1}")], QosClass::Burstable),
        (
            "",
            vec![("c", "requests: {cpu: 500m}, limits: {cpu: 1, memory: 1Gi}")],
            QosClass::Burstable,
        ),
        (full, vec![("c", "")], QosClass::Guaranteed),
        (
            "limits: {memory: 1Gi}",
            vec![("c", full)],
            QosClass::Burstable,
        ),
    ] {
        let pod = pod(pod_level, &containers);
        assert_eq!(qos_class(&pod.spec), expected, "{pod_level} {containers:?}");
    }
}

#[test]
fn a_container_gets_its_own_limits() {
    let pod = pod(
        "",
        &[(
            "c",
            "requests: {cpu: 250m}, limits: {cpu: 500m, memory: 64Mi}",
        )],
    );
    let limits = container_limits(&pod.spec, &pod.spec.containers[0]);
    assert_eq!(limits.cpu_weight, Some(35));
    assert_eq!(limits.cpu_max.unwrap().to_string(), "50000 100000");
    assert_eq!(limits.memory_max, Some(64 << 20));
    assert_eq!(limits.memory_swap_max, Some(0));
    assert!(limits.memory_oom_group);
    assert_eq!(limits.pids_max, None);
}

#[test]
fn a_container_without_limits_gets_the_pods() {
    let pod = pod(
        "limits: {cpu: 2, memory: 1Gi}",
        &[("c", ""), ("c", "limits: {memory: 1Mi}")],
    );
    let first = container_limits(&pod.spec, &pod.spec.containers[0]);
    assert_eq!(first.cpu_max.unwrap().to_string(), "200000 100000");
    assert_eq!(first.memory_max, Some(1 << 30));
    let second = container_limits(&pod.spec, &pod.spec.containers[1]);
    assert_eq!(second.memory_max, Some(1 << 20));
}

#[test]
fn the_pod_is_bounded_only_when_every_container_is() {
    let limit = "limits: {cpu: 500m, memory: 64Mi}";
    let all = pod("", &[("c", limit), ("c", limit)]);
    let limits = pod_limits(&all.spec);
    assert_eq!(limits.cpu_weight, Some(100));
    assert_eq!(limits.cpu_max.unwrap().to_string(), "100000 100000");
    assert_eq!(limits.memory_max, Some(128 << 20));

    let some = pod("", &[("c", limit), ("c", "limits: {cpu: 1}")]);
    let limits = pod_limits(&some.spec);
    assert_eq!(limits.cpu_max.unwrap().to_string(), "150000 100000");
    assert_eq!(limits.memory_max, None);

    let none = pod("", &[("c", "")]);
    let limits = pod_limits(&none.spec);
    assert_eq!(limits.cpu_weight, Some(1));
    assert_eq!(limits.cpu_max.unwrap().to_string(), "max 100000");

    let own = pod("limits: {memory: 1Gi}", &[("c", ""), ("c", limit)]);
    assert_eq!(pod_limits(&own.spec).memory_max, Some(1 << 30));
}

#[test]
fn init_containers_count_by_their_largest_and_sidecars_add_up() {
    let cpu = |n: u32| format!("requests: {{cpu: {n}}}");
    let (a, b, c, d) = (cpu(1), cpu(5), cpu(2), cpu(3));
    let mut pod = pod("", &[("i", &a), ("i", &b), ("c", &c), ("c", &d)]);
    let sum = |pod: &Pod| container_requests(&pod.spec)[&ResourceName::Cpu].value();
    assert_eq!(sum(&pod), 5);
    // As a sidecar the first runs beside the second, and beside the containers.
    pod.spec.init_containers[0].restart_policy = Some(RestartPolicy::Always);
    assert_eq!(sum(&pod), 6);
    pod.spec.init_containers[1].restart_policy = Some(RestartPolicy::Always);
    assert_eq!(sum(&pod), 11);
}

#[test]
fn huge_pages_are_bounded_by_what_is_requested() {
    let pod = pod(
        "",
        &[(
            "c",
            "limits: {cpu: 1, hugepages-2Mi: 8Mi, hugepages-1Gi: 1Gi}",
        )],
    );
    let limits = container_limits(&pod.spec, &pod.spec.containers[0]);
    let expected = BTreeMap::from([("2MB".to_owned(), 8 << 20), ("1GB".to_owned(), 1 << 30)]);
    assert_eq!(limits.hugetlb_max, expected);
    assert_eq!(pod_limits(&pod.spec).hugetlb_max, expected);
}

#[test]
fn oom_scores_favour_what_was_promised_memory() {
    let gib = 1 << 30;
    for (resources, expected) in [
        ("", 1000),
        ("limits: {cpu: 1, memory: 1Gi}", -997),
        ("requests: {memory: 256Mi}", 750),
        ("requests: {memory: 1}", 999),
        ("requests: {memory: 1Gi}", 3),
        ("requests: {memory: 4Ei}", 3),
        ("requests: {cpu: 1}", 999),
    ] {
        let pod = pod("", &[("c", resources)]);
        let score = oom_score_adj(&pod.spec, &pod.spec.containers[0], gib);
        assert_eq!(score, expected, "{resources}");
    }
    let mut pod = pod(
        "",
        &[("i", ""), ("c", "requests: {memory: 512Mi}"), ("c", "")],
    );
    pod.spec.init_containers[0].restart_policy = Some(RestartPolicy::Always);
    assert_eq!(
        oom_score_adj(&pod.spec, &pod.spec.init_containers[0], gib),
        999
    );
    pod.spec.containers.pop();
    assert_eq!(
        oom_score_adj(&pod.spec, &pod.spec.init_containers[0], gib),
        500
    );
    assert_eq!(oom_score_adj(&pod.spec, &pod.spec.containers[0], 0), 3);
}
