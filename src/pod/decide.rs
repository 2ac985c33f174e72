//! What to do next for a pod: a pure function of its specification and of what its containers left.
//!
//! No memory: a supervisor that has just begun decides as one that has been there all the time.

use super::spec::PodSpec;
use super::status::ContainerRecord;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Start these containers, in this order.
    Start(Vec<String>),
    /// Nothing until a container ends.
    Wait,
    /// The pod has come to its end.
    Finish,
}

/// The next thing to do. With `stopping`, nothing is started any more.
pub fn next(spec: &PodSpec, records: &[ContainerRecord], stopping: bool) -> Next {
    let record = |name: &str| {
        records
            .iter()
            .filter(|it| it.name == name)
            .max_by_key(|it| it.restart_count)
    };
    let running = records.iter().any(|it| it.terminated().is_none());
    let wait_or_finish = if running { Next::Wait } else { Next::Finish };
    if stopping {
        return wait_or_finish;
    }
    for init in &spec.init_containers {
        match record(&init.name).map(|it| it.terminated()) {
            None => return Next::Start(vec![init.name.clone()]),
            Some(None) => return Next::Wait,
            Some(Some(end)) if end.exit_code != 0 => return wait_or_finish,
            Some(Some(_)) => {}
        }
    }
    let missing: Vec<String> = spec
        .containers
        .iter()
        .filter(|it| record(&it.name).is_none())
        .map(|it| it.name.clone())
        .collect();
    if missing.is_empty() {
        wait_or_finish
    } else {
        Next::Start(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::time::Timestamp;

    fn spec() -> PodSpec {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  restartPolicy: Never\n  \
                    initContainers: [{name: i, image: x}, {name: j, image: x}]\n  \
                    containers: [{name: a, image: x}, {name: b, image: x}]\n";
        crate::pod::spec::load("p.yaml", text)
            .unwrap()
            .pods
            .remove(0)
            .spec
    }

    fn record(name: &str, exit_code: Option<i32>) -> ContainerRecord {
        let time = Timestamp::from_unix(1);
        ContainerRecord {
            name: name.into(),
            created_at: Some(time),
            started_at: Some(time),
            finished_at: exit_code.map(|_| time),
            exit_code,
            ..ContainerRecord::default()
        }
    }

    #[test]
    fn decisions_follow_the_records() {
        let start = |names: &[&str]| Next::Start(names.iter().map(|name| (*name).into()).collect());
        let (i, j) = (record("i", Some(0)), record("j", Some(0)));
        let (a, b) = (record("a", Some(0)), record("b", Some(3)));
        let table = [
            (vec![], false, start(&["i"])),
            (vec![record("i", None)], false, Next::Wait),
            (vec![record("i", Some(1))], false, Next::Finish),
            (vec![i.clone()], false, start(&["j"])),
            (vec![i.clone(), j.clone()], false, start(&["a", "b"])),
            (
                vec![i.clone(), j.clone(), record("a", None)],
                false,
                start(&["b"]),
            ),
            (
                vec![i.clone(), j.clone(), record("a", None), b.clone()],
                false,
                Next::Wait,
            ),
            (vec![i.clone(), j, a, b], false, Next::Finish),
            (vec![record("i", None)], true, Next::Wait),
            (vec![i], true, Next::Finish),
            (vec![], true, Next::Finish),
        ];
        for (records, stopping, expected) in table {
            assert_eq!(next(&spec(), &records, stopping), expected, "{records:?}");
        }
    }
}
