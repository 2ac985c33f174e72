//! The vocabulary of volumes: every source that the core v1 API knows.
//!
//! Sources that need a cluster or a storage vendor's driver are known by name only, so that they are
//! refused by name; their inner fields are not looked at.

use super::schema::{Kind, Object, not_yet, only, yes};
use super::vocabulary::{FIELD_REF, RESOURCE_FIELD_REF};
use Kind::{Any, Bool, Int, List, Quantity, Text, Word};

/// Permission bits.
const MODE: Kind = Int(0, 0o777);

/// `volumes[]`.
pub(super) static VOLUME: Object = Object {
    name: "Volume",
    fields: &[
        yes("name", Text, "the volume's name, unique in the pod"),
        yes(
            "emptyDir",
            Kind::Object(&EMPTY_DIR),
            "a directory that lives as long as the pod",
        ),
        not_yet(
            "hostPath",
            Kind::Object(&HOST_PATH),
            "a path of the machine",
        ),
        not_yet(
            "configMap",
            Kind::Object(&CONFIG_MAP),
            "the keys of a ConfigMap as files",
        ),
        not_yet(
            "secret",
            Kind::Object(&SECRET),
            "the keys of a Secret as files",
        ),
        not_yet(
            "downwardAPI",
            Kind::Object(&DOWNWARD),
            "fields of the pod as files",
        ),
        not_yet(
            "projected",
            Kind::Object(&PROJECTED),
            "several sources in one directory",
        ),
        not_yet("image", Kind::Object(&IMAGE), "the files of an image"),
        not_yet(
            "persistentVolumeClaim",
            Kind::Object(&CLAIM),
            "a volume that outlives the pod",
        ),
        not_yet("ephemeral", Any, "a claim that lives as long as the pod"),
        not_yet("nfs", Kind::Object(&NFS), "a directory of an NFS server"),
        not_yet("csi", Any, "a volume of a storage driver"),
        not_yet("gitRepo", Any, "a git repository (removed from Kubernetes)"),
        not_yet("awsElasticBlockStore", Any, "a disk of AWS"),
        not_yet("azureDisk", Any, "a disk of Azure"),
        not_yet("azureFile", Any, "a share of Azure"),
        not_yet("cephfs", Any, "a Ceph file system"),
        not_yet("cinder", Any, "a disk of OpenStack"),
        not_yet("fc", Any, "a Fibre Channel disk"),
        not_yet("flexVolume", Any, "a volume of an old storage driver"),
        not_yet("flocker", Any, "a Flocker volume"),
        not_yet("gcePersistentDisk", Any, "a disk of Google"),
        not_yet("glusterfs", Any, "a Gluster file system"),
        not_yet("iscsi", Any, "an iSCSI disk"),
        not_yet("photonPersistentDisk", Any, "a disk of Photon"),
        not_yet("portworxVolume", Any, "a Portworx volume"),
        not_yet("quobyte", Any, "a Quobyte volume"),
        not_yet("rbd", Any, "a Ceph block device"),
        not_yet("scaleIO", Any, "a ScaleIO volume"),
        not_yet("storageos", Any, "a StorageOS volume"),
        not_yet("vsphereVolume", Any, "a disk of vSphere"),
    ],
};

static EMPTY_DIR: Object = Object {
    name: "EmptyDirVolumeSource",
    fields: &[
        only("medium", Text, &["", "Memory"], "empty for disk, or Memory"),
        yes("sizeLimit", Quantity, "how large it may grow"),
    ],
};

static HOST_PATH: Object = Object {
    name: "HostPathVolumeSource",
    fields: &[
        yes("path", Text, "the path"),
        yes(
            "type",
            Word(&[
                "",
                "DirectoryOrCreate",
                "Directory",
                "FileOrCreate",
                "File",
                "Socket",
                "CharDevice",
                "BlockDevice",
            ]),
            "what must be there",
        ),
    ],
};

static ITEM: Object = Object {
    name: "KeyToPath",
    fields: &[
        yes("key", Text, "the key"),
        yes("path", Text, "the file's path"),
        yes("mode", MODE, "its permissions"),
    ],
};

static CONFIG_MAP: Object = Object {
    name: "ConfigMapVolumeSource",
    fields: &[
        yes("name", Text, "the ConfigMap"),
        yes("items", List(&Kind::Object(&ITEM)), "which keys"),
        yes("defaultMode", MODE, "the files' permissions"),
        yes("optional", Bool, "whether it may be missing"),
    ],
};

static SECRET: Object = Object {
    name: "SecretVolumeSource",
    fields: &[
        yes("secretName", Text, "the Secret"),
        yes("items", List(&Kind::Object(&ITEM)), "which keys"),
        yes("defaultMode", MODE, "the files' permissions"),
        yes("optional", Bool, "whether it may be missing"),
    ],
};

static DOWNWARD: Object = Object {
    name: "DownwardAPIVolumeSource",
    fields: &[
        yes("items", List(&Kind::Object(&DOWNWARD_FILE)), "the files"),
        yes("defaultMode", MODE, "the files' permissions"),
    ],
};

static DOWNWARD_FILE: Object = Object {
    name: "DownwardAPIVolumeFile",
    fields: &[
        yes("path", Text, "the file's path"),
        yes("fieldRef", Kind::Object(&FIELD_REF), "a field of the pod"),
        yes(
            "resourceFieldRef",
            Kind::Object(&RESOURCE_FIELD_REF),
            "a request or limit",
        ),
        yes("mode", MODE, "its permissions"),
    ],
};

static PROJECTED: Object = Object {
    name: "ProjectedVolumeSource",
    fields: &[
        yes("sources", List(&Kind::Object(&PROJECTION)), "the sources"),
        yes("defaultMode", MODE, "the files' permissions"),
    ],
};

static PROJECTION: Object = Object {
    name: "VolumeProjection",
    fields: &[
        yes(
            "configMap",
            Kind::Object(&CONFIG_MAP),
            "keys of a ConfigMap",
        ),
        yes(
            "secret",
            Kind::Object(&PROJECTED_SECRET),
            "keys of a Secret",
        ),
        yes("downwardAPI", Kind::Object(&DOWNWARD), "fields of the pod"),
        yes("serviceAccountToken", Any, "a token of the pod's account"),
        yes("clusterTrustBundle", Any, "certificates of the cluster"),
        yes("podCertificate", Any, "a certificate of the pod"),
    ],
};

static PROJECTED_SECRET: Object = Object {
    name: "SecretProjection",
    fields: &[
        yes("name", Text, "the Secret"),
        yes("items", List(&Kind::Object(&ITEM)), "which keys"),
        yes("optional", Bool, "whether it may be missing"),
    ],
};

static IMAGE: Object = Object {
    name: "ImageVolumeSource",
    fields: &[
        yes("reference", Text, "the image"),
        yes(
            "pullPolicy",
            Word(&["Always", "IfNotPresent", "Never"]),
            "when it is fetched",
        ),
    ],
};

static CLAIM: Object = Object {
    name: "PersistentVolumeClaimVolumeSource",
    fields: &[
        yes("claimName", Text, "the claim"),
        yes("readOnly", Bool, "whether it may not be written"),
    ],
};

static NFS: Object = Object {
    name: "NFSVolumeSource",
    fields: &[
        yes("server", Text, "the server"),
        yes("path", Text, "its directory"),
        yes("readOnly", Bool, "whether it may not be written"),
    ],
};
