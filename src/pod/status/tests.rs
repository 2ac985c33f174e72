//! Tests of `pod::status`.

use super::*;
use crate::pod::spec::{Deletion, RestartPolicy, load};

/// A pod with these init containers and containers; `name!` is a sidecar.
fn pod(init: &[&str], apps: &[&str], policy: RestartPolicy) -> StoredPod {
    let list = |names: &[&str]| {
        let items: Vec<_> = names
            .iter()
            .map(|name| format!("{{name: {}, image: 'img:1'}}", name.trim_end_matches('!')))
            .collect();
        format!("[{}]", items.join(", "))
    };
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  \
         initContainers: {}\n  containers: {}\n",
        list(init),
        list(apps)
    );
    let mut pod = load("t.yaml", &text)
        .unwrap_or_else(|e| panic!("{e}"))
        .pods
        .remove(0);
    pod.spec.restart_policy = policy;
    for (container, name) in pod.spec.init_containers.iter_mut().zip(init) {
        container.restart_policy = name.ends_with('!').then_some(RestartPolicy::Always);
    }
    StoredPod::new(pod, "u".to_owned(), "node".to_owned(), at(1))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix(seconds)
}

/// Records in short: `a` made, `a+` running, `a=N` ended with N, `a?reason` waiting, `a~N?reason`
/// ended with N and waiting to be started again.
fn records(text: &str) -> Vec<ContainerRecord> {
    text.split_whitespace()
        .map(|word| {
            let end = word.find(['+', '=', '?', '~']).unwrap_or(word.len());
            let (name, what) = word.split_at(end);
            let mut record = ContainerRecord {
                name: name.to_owned(),
                container_id: Some(format!("id-{name}")),
                created_at: Some(at(2)),
                ..ContainerRecord::default()
            };
            let wait = |reason: &str| Waiting {
                reason: reason.to_owned(),
                message: None,
            };
            if !what.is_empty() {
                match what.split_at(1) {
                    ("?", reason) => {
                        record.waiting = Some(wait(reason));
                        return record;
                    }
                    ("=", code) => record.exit_code = Some(code.parse().unwrap()),
                    ("~", rest) => {
                        let (code, reason) = rest.split_once('?').unwrap();
                        record.exit_code = Some(code.parse().unwrap());
                        record.waiting = Some(wait(reason));
                    }
                    _ => {}
                }
                record.started_at = Some(at(3));
                record.finished_at = record.exit_code.map(|_| at(4));
            }
            record
        })
        .collect()
}

fn status(pod: &StoredPod, facts: &str, previous: Option<&PodStatus>, now: u64) -> PodStatus {
    observe(&Observation {
        pod,
        records: &records(facts),
        sandbox: Sandbox {
            ready: true,
            host_ips: vec!["10.0.0.1".to_owned()],
            pod_ips: Vec::new(),
        },
        failure: None,
        previous,
        now: at(now),
    })
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a Condition {
    status.conditions.iter().find(|c| c.kind == kind).unwrap()
}

#[test]
fn the_phase_follows_the_containers() {
    use RestartPolicy::{Always, Never, OnFailure};
    let none: &[&str] = &[];
    for (init, apps, policy, facts, expected) in [
        // Containers alone.
        (none, &["a"][..], Never, "", Phase::Pending),
        (none, &["a"], Never, "a", Phase::Pending),
        (none, &["a"], Never, "a?ErrImageNeverPull", Phase::Pending),
        (none, &["a"], Never, "a+", Phase::Running),
        (none, &["a"], Never, "a=0", Phase::Succeeded),
        (none, &["a"], Never, "a=1", Phase::Failed),
        (none, &["a"], OnFailure, "a=0", Phase::Succeeded),
        (none, &["a"], OnFailure, "a=1", Phase::Running),
        (
            none,
            &["a"],
            OnFailure,
            "a~1?CrashLoopBackOff",
            Phase::Running,
        ),
        (none, &["a"], Always, "a=0", Phase::Running),
        (none, &["a"], Always, "a~0?CrashLoopBackOff", Phase::Running),
        // Two.
        (none, &["a", "b"], Never, "a+ b", Phase::Pending),
        (
            none,
            &["a", "b"],
            Never,
            "a+ b?ImagePullBackOff",
            Phase::Pending,
        ),
        (none, &["a", "b"], Never, "a+ b+", Phase::Running),
        (none, &["a", "b"], Never, "a+ b=1", Phase::Running),
        (none, &["a", "b"], Never, "a=0 b=0", Phase::Succeeded),
        (none, &["a", "b"], Never, "a=0 b=137", Phase::Failed),
        (none, &["a", "b"], Never, "a=0", Phase::Pending),
        // Init containers.
        (&["i"], &["a"], Never, "", Phase::Pending),
        (&["i"], &["a"], Never, "i+", Phase::Pending),
        (&["i"], &["a"], Never, "i=0", Phase::Pending),
        (&["i"], &["a"], Never, "i=0 a+", Phase::Running),
        (&["i"], &["a"], Never, "i=0 a=0", Phase::Succeeded),
        (&["i"], &["a"], Never, "i=1", Phase::Failed),
        (&["i"], &["a"], OnFailure, "i=1", Phase::Pending),
        (
            &["i"],
            &["a"],
            OnFailure,
            "i~1?CrashLoopBackOff",
            Phase::Pending,
        ),
        (&["i"], &["a"], Always, "i=1", Phase::Pending),
        (&["i", "j"], &["a"], Never, "i=0 j=2", Phase::Failed),
        (&["i", "j"], &["a"], Never, "i=0 j+", Phase::Pending),
        // A new sandbox runs init containers again beside containers that ran before.
        (&["i"], &["a"], Always, "i+ a+", Phase::Running),
        // Sidecars.
        (&["s!"], &["a"], Never, "s", Phase::Pending),
        (&["s!"], &["a"], Never, "s+", Phase::Pending),
        (&["s!"], &["a"], Never, "s+ a+", Phase::Running),
        (&["s!"], &["a"], Never, "s+ a=0", Phase::Succeeded),
        (&["s!"], &["a"], Never, "s=1 a=0", Phase::Succeeded),
        (&["s!"], &["a"], Never, "s=1 a+", Phase::Running),
    ] {
        let pod = pod(init, apps, policy);
        let phase = status(&pod, facts, None, 9).phase;
        assert_eq!(phase, expected, "{init:?} {apps:?} {policy:?} {facts:?}");
    }
}

#[test]
fn a_pod_that_is_being_deleted_is_not_started_again() {
    for (policy, facts, expected) in [
        (RestartPolicy::Always, "a=0", Phase::Succeeded),
        (RestartPolicy::Always, "a=143", Phase::Failed),
        (RestartPolicy::OnFailure, "a=143", Phase::Failed),
        (RestartPolicy::Always, "a+", Phase::Running),
    ] {
        let mut pod = pod(&[], &["a"], policy);
        pod.deletion = Some(Deletion {
            deadline: at(30),
            grace_seconds: 30,
        });
        assert_eq!(status(&pod, facts, None, 9).phase, expected, "{facts}");
    }
}

#[test]
fn an_end_that_was_reached_stays() {
    let pod = pod(&[], &["a"], RestartPolicy::Never);
    let done = status(&pod, "a=0", None, 9);
    assert_eq!(status(&pod, "", Some(&done), 10).phase, Phase::Succeeded);
    let evicted = observe(&Observation {
        pod: &pod,
        records: &records("a+"),
        sandbox: Sandbox::default(),
        failure: Some(Failure {
            phase: Phase::Failed,
            reason: "DeadlineExceeded".to_owned(),
            message: "too long".to_owned(),
        }),
        previous: None,
        now: at(9),
    });
    assert_eq!(evicted.phase, Phase::Failed);
    let later = status(&pod, "a=0", Some(&evicted), 10);
    assert_eq!(later.phase, Phase::Failed);
    assert_eq!(later.reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn how_a_container_ended_has_the_usual_reasons() {
    let record = ContainerRecord {
        name: "a".to_owned(),
        container_id: Some("x".to_owned()),
        ..ContainerRecord::default()
    };
    type Change = fn(&mut ContainerRecord);
    let table: [(Change, i32, &str); 9] = [
        (|r| r.exit_code = Some(0), 0, "Completed"),
        (|r| r.exit_code = Some(3), 3, "Error"),
        (|r| r.signal = Some(9), 137, "Error"),
        (|r| r.signal = Some(15), 143, "Error"),
        (
            |r| {
                r.signal = Some(9);
                r.oom_killed = true;
            },
            137,
            "OOMKilled",
        ),
        (
            |r| {
                r.exit_code = Some(1);
                r.oom_killed = true;
            },
            1,
            "Error",
        ),
        (
            |r| r.start_error = Some("no such program".to_owned()),
            128,
            "StartError",
        ),
        (|r| r.lost = true, 137, "ContainerStatusUnknown"),
        (
            |r| {
                r.exit_code = Some(1);
                r.reason = Some("Evicted".to_owned());
            },
            1,
            "Evicted",
        ),
    ];
    for (change, code, reason) in table {
        let mut record = record.clone();
        change(&mut record);
        let end = record.terminated().unwrap();
        assert_eq!((end.exit_code, end.reason.as_str()), (code, reason));
        assert_eq!(end.container_id, "seedpod://x");
    }
    assert_eq!(record.terminated(), None);
}

#[test]
fn waiting_containers_say_for_what() {
    let waiting = |status: &ContainerStatus| match &status.state {
        ContainerState::Waiting(waiting) => waiting.reason.clone(),
        _ => panic!("{status:?}"),
    };
    let alone = pod(&[], &["a"], RestartPolicy::Never);
    let reason = |facts| waiting(&status(&alone, facts, None, 9).container_statuses[0]);
    assert_eq!(reason("").as_deref(), Some("ContainerCreating"));
    assert_eq!(
        reason("a?ErrImageNeverPull").as_deref(),
        Some("ErrImageNeverPull")
    );
    assert_eq!(reason("a"), None);
    let with_init = pod(&["i"], &["a"], RestartPolicy::Never);
    let seen = status(&with_init, "i+", None, 9);
    assert_eq!(
        waiting(&seen.container_statuses[0]).as_deref(),
        Some("PodInitializing")
    );
}

#[test]
fn the_instance_before_is_the_last_state() {
    let pod = pod(&[], &["a"], RestartPolicy::Always);
    let mut list = records("a+ a=2 a=1");
    list[0].restart_count = 2;
    list[1].restart_count = 1;
    let seen = observe(&Observation {
        pod: &pod,
        records: &list,
        sandbox: Sandbox::default(),
        failure: None,
        previous: None,
        now: at(9),
    });
    let container = &seen.container_statuses[0];
    assert!(container.is_running() && container.ready);
    assert_eq!(container.restart_count, 2);
    assert_eq!(
        container.last_state.terminated.as_ref().unwrap().exit_code,
        2
    );
    let seen = status(&pod, "a~1?CrashLoopBackOff", None, 9);
    let container = &seen.container_statuses[0];
    assert!(matches!(container.state, ContainerState::Waiting(_)));
    assert_eq!(
        container.last_state.terminated.as_ref().unwrap().exit_code,
        1
    );
}

#[test]
fn conditions_say_what_is_missing() {
    let pod = pod(&["i", "j"], &["a", "b"], RestartPolicy::Never);
    let table = [
        // facts, initialized, its reason, ready, its reason
        (
            "",
            false,
            "ContainersNotInitialized",
            false,
            "ContainersNotReady",
        ),
        (
            "i=0 j+",
            false,
            "ContainersNotInitialized",
            false,
            "ContainersNotReady",
        ),
        ("i=0 j=0", true, "", false, "ContainersNotReady"),
        ("i=0 j=0 a+ b", true, "", false, "ContainersNotReady"),
        ("i=0 j=0 a+ b+", true, "", true, ""),
        ("i=0 j=0 a=0 b+", true, "", false, "ContainersNotReady"),
        (
            "i=0 j=0 a=0 b=0",
            true,
            "PodCompleted",
            false,
            "PodCompleted",
        ),
        ("i=0 j=0 a=0 b=1", true, "", false, "PodFailed"),
        ("i=1", false, "ContainersNotInitialized", false, "PodFailed"),
    ];
    for (facts, initialized, why, ready, why_not) in table {
        let seen = status(&pod, facts, None, 9);
        let is = |kind: &str, holds: bool, reason: &str| {
            let found = condition(&seen, kind);
            let expected = if holds {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            };
            assert_eq!(found.status, expected, "{facts} {kind}");
            assert_eq!(
                found.reason.as_deref().unwrap_or(""),
                reason,
                "{facts} {kind}"
            );
        };
        is("Initialized", initialized, why);
        is("Ready", ready, why_not);
        is("ContainersReady", ready, why_not);
        is("PodScheduled", true, "");
        is("PodReadyToStartContainers", true, "");
    }
    let seen = status(&pod, "i=0 j+", None, 9);
    let kinds: Vec<_> = seen.conditions.iter().map(|c| c.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled"
        ]
    );
    assert_eq!(
        condition(&seen, "Initialized").message.as_deref(),
        Some("containers with incomplete status: [j]")
    );
    assert_eq!(
        condition(&seen, "Ready").message.as_deref(),
        Some("containers with unready status: [a b]")
    );
}

#[test]
fn a_condition_keeps_its_time_until_it_changes() {
    let pod = pod(&[], &["a"], RestartPolicy::Never);
    let first = status(&pod, "", None, 10);
    let second = status(&pod, "a+", Some(&first), 20);
    let third = status(&pod, "a+", Some(&second), 30);
    let since = |status: &PodStatus, kind| condition(status, kind).last_transition_time.unix();
    assert_eq!(since(&third, "PodScheduled"), 10);
    assert_eq!(since(&second, "Ready"), 20);
    assert_eq!(since(&third, "Ready"), 20);
    assert_eq!(third.start_time, Some(at(10)));
}

#[test]
fn the_pods_address_is_the_machines_with_its_network() {
    let mut pod = pod(&[], &["a"], RestartPolicy::Never);
    assert_eq!(status(&pod, "", None, 9).pod_ip, None);
    pod.pod.spec.host_network = true;
    assert_eq!(
        status(&pod, "", None, 9).pod_ip.as_deref(),
        Some("10.0.0.1")
    );
}

#[test]
fn records_and_statuses_survive_being_stored() {
    let pod = pod(&["i"], &["a", "b"], RestartPolicy::Always);
    let facts = "i=0 a~1?CrashLoopBackOff b+";
    for record in records(facts) {
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            serde_json::from_str::<ContainerRecord>(&text).unwrap(),
            record
        );
    }
    let seen = status(&pod, facts, None, 9);
    let text = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<PodStatus>(&text).unwrap(), seen);
    assert!(text.contains("\"lastState\":{}"), "{text}");
    assert!(
        text.contains("\"containerID\":\"seedpod://id-a\""),
        "{text}"
    );
}
