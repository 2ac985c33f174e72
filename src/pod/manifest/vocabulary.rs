//! Every field of a Pod that Kubernetes 1.36 knows, and what this version does with it.
//!
//! Names and ranges are facts of the core v1 API; the words are ours. Volumes are in `volumes`.
//! A golden file (tests/golden/pod/fields.txt) shows the whole as a list, so that a change of what
//! is supported is seen in review.

use super::schema::{Field, Kind, Object, irrelevant, not_yet, only, yes};
use super::volumes;
use Kind::{Any, Bool, Int, IntOrText, List, Map, Quantity, Text, Word};

const I32: Kind = Int(i32::MIN as i64, i32::MAX as i64);
const COUNT: Kind = Int(0, i32::MAX as i64);
/// User and group ids, as Kubernetes bounds them.
const ID: Kind = Int(0, i32::MAX as i64);
const PORT: Kind = Int(1, 65_535);
const SECONDS: Kind = Int(0, i64::MAX);
const STRINGS: Kind = List(&Text);
const QUANTITIES: Kind = Map(&Quantity);

const SCHEDULER: &str = "there is one machine, nothing is scheduled";
const ACCOUNT: &str = "there is no API server to have an account at";
const SYSTEM: &str = "it is set by the system";

/// The whole object.
pub static POD: Object = Object {
    name: "Pod",
    fields: &[
        yes("apiVersion", Word(&["v1"]), "the version of the API"),
        yes("kind", Word(&["Pod"]), "the kind of object"),
        yes("metadata", Kind::Object(&METADATA), "who the pod is"),
        yes("spec", Kind::Object(&POD_SPEC), "what the pod is"),
        irrelevant("status", Any, SYSTEM, "how the pod is"),
    ],
};

/// `metadata`.
pub static METADATA: Object = Object {
    name: "ObjectMeta",
    fields: &[
        yes("name", Text, "the pod's name, unique in its namespace"),
        yes("namespace", Text, "the group of names it belongs to"),
        yes("labels", Map(&Text), "short facts to select pods by"),
        yes("annotations", Map(&Text), "any further facts"),
        not_yet("generateName", Text, "a prefix to make a unique name from"),
        irrelevant("creationTimestamp", Text, SYSTEM, "when it was made"),
        irrelevant(
            "deletionGracePeriodSeconds",
            SECONDS,
            SYSTEM,
            "time to stop",
        ),
        irrelevant("deletionTimestamp", Text, SYSTEM, "when it is to be gone"),
        irrelevant(
            "finalizers",
            STRINGS,
            "there are no controllers to wait for",
            "who must agree to a deletion",
        ),
        irrelevant(
            "generation",
            SECONDS,
            SYSTEM,
            "the number of the specification",
        ),
        irrelevant("managedFields", Any, SYSTEM, "who set which field"),
        irrelevant(
            "ownerReferences",
            Any,
            "there are no controllers",
            "which objects own it",
        ),
        irrelevant("resourceVersion", Text, SYSTEM, "the number of the change"),
        irrelevant("selfLink", Text, SYSTEM, "its address, no longer used"),
        irrelevant("uid", Text, SYSTEM, "its unique id"),
    ],
};

/// `spec`.
pub static POD_SPEC: Object = Object {
    name: "PodSpec",
    fields: &[
        yes(
            "initContainers",
            List(&Kind::Object(&CONTAINER)),
            "containers that run to their end first, one after the other",
        ),
        yes(
            "containers",
            List(&Kind::Object(&CONTAINER)),
            "the containers of the pod",
        ),
        yes(
            "volumes",
            List(&Kind::Object(&volumes::VOLUME)),
            "directories that containers can mount",
        ),
        only(
            "restartPolicy",
            Word(&["Always", "OnFailure", "Never"]),
            &["Never"],
            "whether containers that ended are started again",
        ),
        yes(
            "terminationGracePeriodSeconds",
            SECONDS,
            "how long containers may take to stop",
        ),
        yes("hostUsers", Bool, "false gives the pod user ids of its own"),
        yes("hostNetwork", Bool, "use the machine's network"),
        yes("hostPID", Bool, "see the machine's processes"),
        yes(
            "hostIPC",
            Bool,
            "use the machine's System V and POSIX message queues",
        ),
        yes(
            "shareProcessNamespace",
            Bool,
            "all containers see each other's processes",
        ),
        yes(
            "hostname",
            Text,
            "the host name inside; the pod's name unless set",
        ),
        yes(
            "securityContext",
            Kind::Object(&POD_SECURITY),
            "security settings for all containers",
        ),
        yes(
            "resources",
            Kind::Object(&RESOURCES),
            "resources of the pod as a whole",
        ),
        yes(
            "os",
            Kind::Object(&POD_OS),
            "the operating system that the pod is for",
        ),
        only(
            "dnsPolicy",
            Word(&["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
            &["ClusterFirst"],
            "where names are looked up",
        ),
        not_yet(
            "dnsConfig",
            Kind::Object(&DNS_CONFIG),
            "name servers and search domains",
        ),
        not_yet(
            "hostAliases",
            List(&Kind::Object(&HOST_ALIAS)),
            "further lines of /etc/hosts",
        ),
        not_yet(
            "hostnameOverride",
            Text,
            "the host name inside, above everything else",
        ),
        not_yet(
            "subdomain",
            Text,
            "the part of the full host name after the first dot",
        ),
        only(
            "setHostnameAsFQDN",
            Bool,
            &["false"],
            "make the full name the host name",
        ),
        not_yet(
            "activeDeadlineSeconds",
            Int(1, i64::MAX),
            "how long the pod may be active",
        ),
        not_yet(
            "ephemeralContainers",
            List(&Kind::Object(&EPHEMERAL)),
            "containers added later to look for an error",
        ),
        not_yet("overhead", QUANTITIES, "what the sandbox itself uses"),
        not_yet(
            "readinessGates",
            List(&Kind::Object(&READINESS_GATE)),
            "further conditions for Ready",
        ),
        not_yet("resourceClaims", Any, "devices to claim"),
        not_yet("runtimeClassName", Text, "another runtime to run it with"),
        not_yet(
            "schedulingGates",
            List(&Kind::Object(&NAMED)),
            "what to wait for before it is scheduled",
        ),
        irrelevant(
            "affinity",
            Any,
            SCHEDULER,
            "which nodes and pods to be near to",
        ),
        irrelevant(
            "automountServiceAccountToken",
            Bool,
            ACCOUNT,
            "mount the account's token",
        ),
        irrelevant(
            "enableServiceLinks",
            Bool,
            "there are no services",
            "variables for services",
        ),
        irrelevant(
            "imagePullSecrets",
            List(&Kind::Object(&NAMED)),
            "images come from the local store",
            "secrets for registries",
        ),
        irrelevant("nodeName", Text, SCHEDULER, "the node to run on"),
        irrelevant(
            "nodeSelector",
            Map(&Text),
            SCHEDULER,
            "labels that the node must have",
        ),
        irrelevant(
            "preemptionPolicy",
            Text,
            SCHEDULER,
            "whether it may push out others",
        ),
        irrelevant("priority", I32, SCHEDULER, "its importance"),
        irrelevant(
            "priorityClassName",
            Text,
            SCHEDULER,
            "the name of its importance",
        ),
        irrelevant("schedulerName", Text, SCHEDULER, "who schedules it"),
        irrelevant(
            "schedulingGroup",
            Any,
            SCHEDULER,
            "the group it is scheduled with",
        ),
        irrelevant(
            "serviceAccount",
            Text,
            ACCOUNT,
            "the old name of serviceAccountName",
        ),
        irrelevant(
            "serviceAccountName",
            Text,
            ACCOUNT,
            "the account it runs under",
        ),
        irrelevant("tolerations", Any, SCHEDULER, "which taints it bears"),
        irrelevant(
            "topologySpreadConstraints",
            Any,
            SCHEDULER,
            "how to spread over nodes",
        ),
        irrelevant("workloadRef", Any, SCHEDULER, "the workload it belongs to"),
    ],
};

/// The fields that ordinary and ephemeral containers share.
macro_rules! container_fields {
    ($($extra:expr),*) => {
        &[
            $($extra,)*
            yes("name", Text, "the container's name, unique in the pod"),
            yes("image", Text, "the image it runs"),
            yes("imagePullPolicy", Word(&["Always", "IfNotPresent", "Never"]), "when the image is fetched"),
            yes("command", STRINGS, "the program and its first arguments, in place of the image's ENTRYPOINT"),
            yes("args", STRINGS, "the arguments, in place of the image's CMD"),
            yes("workingDir", Text, "the directory it starts in"),
            yes("env", List(&Kind::Object(&ENV_VAR)), "environment variables"),
            not_yet("envFrom", List(&Kind::Object(&ENV_FROM)), "variables from a ConfigMap or a Secret"),
            yes("ports", List(&Kind::Object(&PORT_OBJECT)), "the ports it listens on, for information"),
            yes("resources", Kind::Object(&RESOURCES), "what it needs, and its limits"),
            yes("volumeMounts", List(&Kind::Object(&VOLUME_MOUNT)), "where volumes are mounted"),
            not_yet("volumeDevices", List(&Kind::Object(&VOLUME_DEVICE)), "volumes as block devices"),
            yes("securityContext", Kind::Object(&SECURITY), "security settings, above the pod's"),
            yes("stdin", Bool, "keep a pipe to its standard input"),
            yes("stdinOnce", Bool, "close standard input after the first attachment"),
            yes("tty", Bool, "give it a terminal"),
            only("terminationMessagePath", Text, &["/dev/termination-log"], "the file of its last words"),
            only("terminationMessagePolicy", Word(&["File", "FallbackToLogsOnError"]), &["File"], "where its last words come from"),
            not_yet("lifecycle", Kind::Object(&LIFECYCLE), "what to do after its start and before its end"),
            not_yet("livenessProbe", Kind::Object(&PROBE), "start it again when this fails"),
            not_yet("readinessProbe", Kind::Object(&PROBE), "it is ready while this succeeds"),
            not_yet("startupProbe", Kind::Object(&PROBE), "it is started when this succeeds"),
            not_yet("resizePolicy", List(&Kind::Object(&RESIZE_POLICY)), "what a change of resources does"),
            not_yet("restartPolicy", Word(&["Always", "OnFailure", "Never"]), "Always makes an init container a sidecar"),
            not_yet("restartPolicyRules", Any, "restarts by exit code"),
        ]
    };
}

/// A container or an init container.
pub static CONTAINER: Object = Object {
    name: "Container",
    fields: container_fields!(),
};

static EPHEMERAL: Object = Object {
    name: "EphemeralContainer",
    fields: container_fields!(yes(
        "targetContainerName",
        Text,
        "the container whose processes it sees"
    )),
};

static NAMED: Object = Object {
    name: "LocalObjectReference",
    fields: &[yes("name", Text, "its name")],
};

static POD_OS: Object = Object {
    name: "PodOS",
    fields: &[only(
        "name",
        Word(&["linux", "windows"]),
        &["linux"],
        "its name",
    )],
};

static READINESS_GATE: Object = Object {
    name: "PodReadinessGate",
    fields: &[yes(
        "conditionType",
        Text,
        "the condition that must be True",
    )],
};

static DNS_CONFIG: Object = Object {
    name: "PodDNSConfig",
    fields: &[
        yes("nameservers", STRINGS, "addresses of name servers"),
        yes("searches", STRINGS, "domains to search"),
        yes(
            "options",
            List(&Kind::Object(&DNS_OPTION)),
            "options of the resolver",
        ),
    ],
};

static DNS_OPTION: Object = Object {
    name: "PodDNSConfigOption",
    fields: &[
        yes("name", Text, "the option"),
        yes("value", Text, "its value"),
    ],
};

static HOST_ALIAS: Object = Object {
    name: "HostAlias",
    fields: &[
        yes("ip", Text, "the address"),
        yes("hostnames", STRINGS, "its names"),
    ],
};

/// `env[]`.
static ENV_VAR: Object = Object {
    name: "EnvVar",
    fields: &[
        yes("name", Text, "the variable"),
        yes("value", Text, "its value; $(OTHER) is replaced"),
        yes(
            "valueFrom",
            Kind::Object(&ENV_SOURCE),
            "where its value comes from",
        ),
    ],
};

static ENV_SOURCE: Object = Object {
    name: "EnvVarSource",
    fields: &[
        yes("fieldRef", Kind::Object(&FIELD_REF), "a field of the pod"),
        yes(
            "resourceFieldRef",
            Kind::Object(&RESOURCE_FIELD_REF),
            "a request or limit of a container",
        ),
        not_yet(
            "configMapKeyRef",
            Kind::Object(&KEY_REF),
            "a key of a ConfigMap",
        ),
        not_yet("secretKeyRef", Kind::Object(&KEY_REF), "a key of a Secret"),
        not_yet("fileKeyRef", Any, "a key of a file in a volume"),
    ],
};

/// A field of the pod, for the downward API.
pub static FIELD_REF: Object = Object {
    name: "ObjectFieldSelector",
    fields: &[
        only("apiVersion", Text, &["v1"], "the version of the path"),
        yes("fieldPath", Text, "the field, such as metadata.name"),
    ],
};

/// A request or limit, for the downward API.
pub static RESOURCE_FIELD_REF: Object = Object {
    name: "ResourceFieldSelector",
    fields: &[
        yes(
            "containerName",
            Text,
            "the container, where it is not the own one",
        ),
        yes("resource", Text, "such as limits.cpu"),
        yes("divisor", Quantity, "the unit it is counted in"),
    ],
};

static KEY_REF: Object = Object {
    name: "ConfigMapKeySelector",
    fields: &[
        yes("name", Text, "the object"),
        yes("key", Text, "its key"),
        yes("optional", Bool, "whether it may be missing"),
    ],
};

static ENV_FROM: Object = Object {
    name: "EnvFromSource",
    fields: &[
        yes("prefix", Text, "put before each name"),
        yes("configMapRef", Kind::Object(&OPTIONAL_REF), "the ConfigMap"),
        yes("secretRef", Kind::Object(&OPTIONAL_REF), "the Secret"),
    ],
};

static OPTIONAL_REF: Object = Object {
    name: "ConfigMapEnvSource",
    fields: &[
        yes("name", Text, "the object"),
        yes("optional", Bool, "whether it may be missing"),
    ],
};

static PORT_OBJECT: Object = Object {
    name: "ContainerPort",
    fields: &[
        yes("name", Text, "a name for the port"),
        yes("containerPort", PORT, "the port inside the pod"),
        yes("protocol", Word(&["TCP", "UDP", "SCTP"]), "its protocol"),
        not_yet("hostPort", PORT, "a port of the machine that leads to it"),
        not_yet("hostIP", Text, "the machine's address for hostPort"),
    ],
};

/// Requests and limits.
pub static RESOURCES: Object = Object {
    name: "ResourceRequirements",
    fields: &[
        yes("limits", QUANTITIES, "the most it may use"),
        yes("requests", QUANTITIES, "what it is sure to get"),
        not_yet("claims", Any, "devices of the pod's resourceClaims"),
    ],
};

static VOLUME_MOUNT: Object = Object {
    name: "VolumeMount",
    fields: &[
        yes("name", Text, "the volume"),
        yes("mountPath", Text, "where it appears in the container"),
        yes("readOnly", Bool, "whether it may not be written"),
        only(
            "recursiveReadOnly",
            Word(&["Disabled", "IfPossible", "Enabled"]),
            &["Disabled"],
            "read-only for mounts below it too",
        ),
        only(
            "mountPropagation",
            Word(&["None", "HostToContainer", "Bidirectional"]),
            &["None"],
            "whether later mounts are passed on",
        ),
        not_yet("subPath", Text, "a directory or file of the volume"),
        not_yet("subPathExpr", Text, "the same, with $(VAR) replaced"),
    ],
};

static VOLUME_DEVICE: Object = Object {
    name: "VolumeDevice",
    fields: &[
        yes("name", Text, "the volume"),
        yes("devicePath", Text, "the device in the container"),
    ],
};

/// The pod's security settings.
pub static POD_SECURITY: Object = Object {
    name: "PodSecurityContext",
    fields: &[
        yes("runAsUser", ID, "the user id that processes run as"),
        yes("runAsGroup", ID, "the group id that processes run as"),
        yes("runAsNonRoot", Bool, "refuse to run as root"),
        yes("supplementalGroups", List(&ID), "further group ids"),
        only(
            "supplementalGroupsPolicy",
            Word(&["Merge", "Strict"]),
            &["Merge"],
            "whether groups of the image count",
        ),
        yes(
            "seccompProfile",
            Kind::Object(&SECCOMP),
            "which system calls are allowed",
        ),
        yes(
            "sysctls",
            List(&Kind::Object(&SYSCTL)),
            "kernel settings of the pod's namespaces",
        ),
        not_yet(
            "appArmorProfile",
            Kind::Object(&APPARMOR),
            "the AppArmor profile",
        ),
        not_yet("fsGroup", ID, "the group that volumes belong to"),
        not_yet(
            "fsGroupChangePolicy",
            Word(&["Always", "OnRootMismatch"]),
            "when volumes are given to fsGroup",
        ),
        not_yet("seLinuxChangePolicy", Text, "how volumes are labelled"),
        not_yet(
            "seLinuxOptions",
            Kind::Object(&SELINUX),
            "the SELinux label",
        ),
        not_yet("windowsOptions", Any, "settings for Windows"),
    ],
};

/// A container's security settings.
pub static SECURITY: Object = Object {
    name: "SecurityContext",
    fields: &[
        yes("runAsUser", ID, "the user id that it runs as"),
        yes("runAsGroup", ID, "the group id that it runs as"),
        yes("runAsNonRoot", Bool, "refuse to run as root"),
        yes(
            "capabilities",
            Kind::Object(&CAPABILITIES),
            "capabilities added and dropped",
        ),
        yes(
            "privileged",
            Bool,
            "all capabilities and devices, no filters",
        ),
        yes(
            "allowPrivilegeEscalation",
            Bool,
            "false forbids gaining rights by set-user-id programs",
        ),
        yes(
            "readOnlyRootFilesystem",
            Bool,
            "make the image's files read-only",
        ),
        yes(
            "seccompProfile",
            Kind::Object(&SECCOMP),
            "which system calls are allowed",
        ),
        yes(
            "procMount",
            Word(&["Default", "Unmasked"]),
            "whether parts of /proc are hidden",
        ),
        not_yet(
            "appArmorProfile",
            Kind::Object(&APPARMOR),
            "the AppArmor profile",
        ),
        not_yet(
            "seLinuxOptions",
            Kind::Object(&SELINUX),
            "the SELinux label",
        ),
        not_yet("windowsOptions", Any, "settings for Windows"),
    ],
};

static CAPABILITIES: Object = Object {
    name: "Capabilities",
    fields: &[
        yes("add", STRINGS, "capabilities to add, without CAP_, or ALL"),
        yes(
            "drop",
            STRINGS,
            "capabilities to drop, without CAP_, or ALL",
        ),
    ],
};

static SECCOMP: Object = Object {
    name: "SeccompProfile",
    fields: &[
        yes(
            "type",
            Word(&["RuntimeDefault", "Localhost", "Unconfined"]),
            "which profile",
        ),
        yes("localhostProfile", Text, "the file of a Localhost profile"),
    ],
};

static APPARMOR: Object = Object {
    name: "AppArmorProfile",
    fields: &[
        yes(
            "type",
            Word(&["RuntimeDefault", "Localhost", "Unconfined"]),
            "which profile",
        ),
        yes("localhostProfile", Text, "the name of a Localhost profile"),
    ],
};

static SELINUX: Object = Object {
    name: "SELinuxOptions",
    fields: &[
        yes("level", Text, "the level"),
        yes("role", Text, "the role"),
        yes("type", Text, "the type"),
        yes("user", Text, "the user"),
    ],
};

static SYSCTL: Object = Object {
    name: "Sysctl",
    fields: &[
        yes("name", Text, "the setting"),
        yes("value", Text, "its value"),
    ],
};

static RESIZE_POLICY: Object = Object {
    name: "ContainerResizePolicy",
    fields: &[
        yes("resourceName", Word(&["cpu", "memory"]), "the resource"),
        yes(
            "restartPolicy",
            Word(&["NotRequired", "RestartContainer"]),
            "what happens",
        ),
    ],
};

static LIFECYCLE: Object = Object {
    name: "Lifecycle",
    fields: &[
        yes("postStart", Kind::Object(&HANDLER), "right after the start"),
        yes("preStop", Kind::Object(&HANDLER), "before the stop signal"),
        yes("stopSignal", Text, "the signal that asks it to stop"),
    ],
};

static HANDLER: Object = Object {
    name: "LifecycleHandler",
    fields: &[
        yes("exec", Kind::Object(&EXEC), "run a program inside"),
        yes("httpGet", Kind::Object(&HTTP_GET), "ask a web server"),
        yes("sleep", Kind::Object(&SLEEP), "wait"),
        yes("tcpSocket", Kind::Object(&TCP_SOCKET), "connect"),
    ],
};

static PROBE: Object = Object {
    name: "Probe",
    fields: &[
        yes("exec", Kind::Object(&EXEC), "run a program inside"),
        yes("httpGet", Kind::Object(&HTTP_GET), "ask a web server"),
        yes("tcpSocket", Kind::Object(&TCP_SOCKET), "connect"),
        yes("grpc", Kind::Object(&GRPC), "ask a gRPC health service"),
        yes("initialDelaySeconds", COUNT, "wait before the first"),
        yes("periodSeconds", COUNT, "time between two"),
        yes("timeoutSeconds", COUNT, "how long one may take"),
        yes("successThreshold", COUNT, "successes in a row that count"),
        yes("failureThreshold", COUNT, "failures in a row that count"),
        yes(
            "terminationGracePeriodSeconds",
            SECONDS,
            "time to stop after a failure",
        ),
    ],
};

static EXEC: Object = Object {
    name: "ExecAction",
    fields: &[yes("command", STRINGS, "the program and its arguments")],
};

static HTTP_GET: Object = Object {
    name: "HTTPGetAction",
    fields: &[
        yes("host", Text, "the host, where it is not the pod"),
        yes(
            "httpHeaders",
            List(&Kind::Object(&HTTP_HEADER)),
            "further headers",
        ),
        yes("path", Text, "the path"),
        yes("port", IntOrText, "the port or its name"),
        yes("scheme", Word(&["HTTP", "HTTPS"]), "the scheme"),
    ],
};

static HTTP_HEADER: Object = Object {
    name: "HTTPHeader",
    fields: &[
        yes("name", Text, "the header"),
        yes("value", Text, "its value"),
    ],
};

static TCP_SOCKET: Object = Object {
    name: "TCPSocketAction",
    fields: &[
        yes("host", Text, "the host, where it is not the pod"),
        yes("port", IntOrText, "the port or its name"),
    ],
};

static GRPC: Object = Object {
    name: "GRPCAction",
    fields: &[
        yes("port", PORT, "the port"),
        yes("service", Text, "the service that is asked for"),
    ],
};

static SLEEP: Object = Object {
    name: "SleepAction",
    fields: &[yes("seconds", SECONDS, "how long")],
};

/// Every object that a Pod can hold, by walking the table; each once.
pub fn objects() -> Vec<&'static Object> {
    fn visit(kind: &'static Kind, found: &mut Vec<&'static Object>) {
        match kind {
            Kind::Object(object) if !found.iter().any(|known| std::ptr::eq(*known, *object)) => {
                found.push(object);
                for Field { kind, .. } in object.fields {
                    visit(kind, found);
                }
            }
            List(inner) | Map(inner) => visit(inner, found),
            _ => {}
        }
    }
    let mut found = Vec::new();
    static TOP: Kind = Kind::Object(&POD);
    visit(&TOP, &mut found);
    found
}
