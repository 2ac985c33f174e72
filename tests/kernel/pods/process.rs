//! What a container runs, and with which words, variables, directory and user.

use serde_json::json;

use super::{Manifest, Pods};
use crate::runner::Test;
use crate::tests;

pub const TESTS: &[Test] = tests![
    command_and_args_replace_what_the_image_says,
    variables_are_expanded_in_order,
    downward_api_tells_of_the_pod,
    working_directory_is_made_and_entered,
    user_group_and_further_groups_are_as_asked,
    user_of_the_pod_is_the_default_of_its_containers,
    standard_input_is_empty_or_stays_open,
    terminal_of_a_container_is_one,
    two_containers_use_one_image,
];

fn command_and_args_replace_what_the_image_says() {
    let pods = Pods::new();
    // The image's CMD is `sh`; its input is empty, so it ends.
    let mut image = Manifest::sh("image", "");
    image.0["spec"]["containers"][0]
        .as_object_mut()
        .unwrap()
        .remove("command");
    assert_eq!(pods.run(&image), "Succeeded");
    let args = Manifest::new("args").container("a", &["echo", "one"]).of(
        0,
        "args",
        json!(["two", "three  four"]),
    );
    assert_eq!(pods.said(&args), "one two three  four");
}

fn variables_are_expanded_in_order() {
    let pods = Pods::new();
    let env = json!([
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)2 $$(A) $(LATER)"},
        {"name": "LATER", "value": "3"},
    ]);
    let pod = Manifest::new("p")
        .container(
            "a",
            &[
                "sh",
                "-c",
                "echo \"$B\"; echo \"$1\"; echo $PATH",
                "sh",
                "$(B)/$(NONE)",
            ],
        )
        .of(0, "env", env);
    let said = pods.said(&pod);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "12 $(A) $(LATER)");
    assert_eq!(lines[1], "12 $(A) $(LATER)/$(NONE)");
    // The image's own variables stay.
    assert!(lines[2].ends_with("/sbin:/bin"), "{}", lines[2]);
}

fn downward_api_tells_of_the_pod() {
    let pods = Pods::new();
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let env = json!([
        field("NAME", "metadata.name"),
        field("SPACE", "metadata.namespace"),
        field("UID_", "metadata.uid"),
        field("APP", "metadata.labels['app']"),
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]);
    let pod = Manifest::sh("p", "echo $NAME $SPACE $APP $CPU $MEMORY; echo $UID_")
        .metadata("labels", json!({"app": "web"}))
        .of(0, "env", env)
        .of(
            0,
            "resources",
            json!({"limits": {"cpu": "250m", "memory": "64Mi"}}),
        );
    let said = pods.said(&pod);
    let uid = pods.object("p")["metadata"]["uid"].clone();
    assert_eq!(
        said,
        format!("p default web 250 64\n{}", uid.as_str().unwrap())
    );
}

fn working_directory_is_made_and_entered() {
    let pods = Pods::new();
    let pod = Manifest::sh("p", "pwd").of(0, "workingDir", "/tmp/deep/er");
    assert_eq!(pods.said(&pod), "/tmp/deep/er");
}

fn user_group_and_further_groups_are_as_asked() {
    let pods = Pods::new();
    for own in [false, true] {
        let name = if own { "own" } else { "host" };
        let pod = Manifest::sh(name, "id -u; id -g; id -G; grep CapEff /proc/self/status")
            .of(
                0,
                "securityContext",
                json!({"runAsUser": 1000, "runAsGroup": 2000}),
            )
            .spec(
                "securityContext",
                json!({"supplementalGroups": [3000, 4000]}),
            )
            .spec("hostUsers", !own);
        let said = pods.said(&pod);
        assert_eq!(
            said, "1000\n2000\n2000 3000 4000\nCapEff:\t0000000000000000",
            "{name}"
        );
    }
}

fn user_of_the_pod_is_the_default_of_its_containers() {
    let pods = Pods::new();
    let pod = Manifest::sleeper("p")
        .container("b", &["sleep", "1000"])
        .of(1, "securityContext", json!({"runAsUser": 7}))
        .spec("securityContext", json!({"runAsUser": 1000}));
    pods.start(&pod);
    assert_eq!(pods.sh("p", "a", "id -u"), "1000");
    assert_eq!(pods.sh("p", "b", "id -u"), "7");
}

fn standard_input_is_empty_or_stays_open() {
    let pods = Pods::new();
    let script = "cat && echo end of input";
    assert_eq!(pods.said(&Manifest::sh("closed", script)), "end of input");
    pods.start(&Manifest::sh("open", script).of(0, "stdin", true));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(pods.phase("open"), "Running");
    assert_eq!(pods.logs("open", "a"), "");
}

fn terminal_of_a_container_is_one() {
    let pods = Pods::new();
    let script = "test -t 0 && test -t 1 && test -t 2 && tty; stat -c %t:%T /dev/console; echo $TERM; \
                  echo error >&2";
    for own in [false, true] {
        let name = if own { "own" } else { "host" };
        let pod = Manifest::sh(name, script)
            .of(0, "tty", true)
            .of(0, "stdin", true)
            .spec("hostUsers", !own);
        let said = pods.said(&pod).replace('\r', "");
        assert_eq!(said, "/dev/pts/0\n88:0\nxterm\nerror");
    }
}

fn two_containers_use_one_image() {
    let pods = Pods::with_own_image();
    let pod = Manifest::sleeper("p").container("b", &["sleep", "1000"]);
    pods.start(&pod);
    let status = pods.status("p");
    let id = |index: usize| status["containerStatuses"][index]["imageID"].clone();
    assert_eq!(id(0), id(1));
    assert!(id(0).as_str().unwrap().starts_with("sha256:"));
    // Removed while it is in use: the containers go on, and no further pod gets it.
    pods.podctl(&["image", "rm", super::IMAGE]).ok();
    assert_eq!(pods.sh("p", "a", "ls /bin/busybox"), "/bin/busybox");
    pods.try_apply(&Manifest::sleeper("q")).err();
}
