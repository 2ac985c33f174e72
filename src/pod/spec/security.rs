//! What the security settings of a pod and of one of its containers come to together.
//!
//! A container's own setting wins over the pod's. What can only be known with the image (its user)
//! is checked by [`Effective::refuses_root`] when the container is made, because the image may come
//! later than the manifest.

use super::{Capabilities, Container, Pod, ProcMount, SeccompProfile};

/// The settings that one container runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The user id; none: the image's user.
    pub user: Option<u32>,
    /// The group id; none: the image's user's group.
    pub group: Option<u32>,
    /// Further groups, on top of those that the image gives its user.
    pub supplemental_groups: Vec<u32>,
    /// Whether root is refused.
    pub non_root: bool,
    /// Changes to the default set of capabilities.
    pub capabilities: Capabilities,
    /// All capabilities and devices, nothing masked.
    pub privileged: bool,
    /// The no_new_privs bit.
    pub no_new_privileges: bool,
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
    /// Which system calls are allowed.
    pub seccomp: SeccompProfile,
    /// Whether parts of /proc are hidden.
    pub proc_mount: ProcMount,
}

/// The settings of `container` in `pod`.
pub fn effective(pod: &Pod, container: &Container) -> Effective {
    let shared = &pod.spec.security_context;
    let own = &container.security_context;
    let seccomp = own
        .seccomp_profile
        .clone()
        .or_else(|| shared.seccomp_profile.clone())
        .unwrap_or(SeccompProfile::Unconfined);
    Effective {
        user: own.run_as_user.or(shared.run_as_user),
        group: own.run_as_group.or(shared.run_as_group),
        supplemental_groups: shared.supplemental_groups.clone(),
        non_root: own.run_as_non_root.or(shared.run_as_non_root) == Some(true),
        capabilities: own.capabilities.clone(),
        privileged: own.privileged,
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        read_only_root: own.read_only_root_filesystem,
        // A privileged container is never filtered, whatever profile is named (kubernetes
        // "Privileged containers").
        seccomp: if own.privileged {
            SeccompProfile::Unconfined
        } else {
            seccomp
        },
        proc_mount: own.proc_mount,
    }
}

impl Effective {
    /// Why the container may not run, with `image_user` as the image names it (`""`, `0`, `app:app`).
    pub fn refuses_root(&self, image_user: &str) -> Option<String> {
        if !self.non_root {
            return None;
        }
        match self.user {
            Some(0) => return Some("runAsNonRoot is set and runAsUser is 0".to_owned()),
            Some(_) => return None,
            None => {}
        }
        let user = image_user.split(':').next().unwrap_or("");
        match user.parse::<u32>() {
            Ok(0) => Some("runAsNonRoot is set and the image runs as root".to_owned()),
            Ok(_) => None,
            Err(_) if user.is_empty() => {
                Some("runAsNonRoot is set and the image runs as root".to_owned())
            }
            Err(_) => Some(format!(
                "runAsNonRoot is set and the image's user \"{user}\" is a name, which could be \
                 root's: set runAsUser"
            )),
        }
    }
}
