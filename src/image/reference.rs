//! Image references: what a person writes, and the one canonical form of it.
//!
//! Follows the grammar and the normalisation of the distribution project, which docker and
//! kubernetes share: `busybox` is `docker.io/library/busybox:latest`. Two references are the same
//! image name if and only if their canonical forms are equal.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

use super::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const NAME_MAX: usize = 255;

/// A normalised reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host, and port where there is one: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; absent only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest, where the reference is pinned to one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| anyhow::anyhow!("image reference {text:?} {why}");
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest.get(name_end..).and_then(|last| last.find(':')) {
            Some(colon) => {
                let (name, tag) = rest.split_at(name_end + colon);
                (name, tag.strip_prefix(':'))
            }
            None => (rest, None),
        };
        if name.is_empty() {
            return Err(bad("has no name"));
        }
        if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad("is a bare digest: write NAME@sha256:HEX"));
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(bad(
                "has an invalid tag: a tag is up to 128 letters, digits, `_`, `.` and `-`",
            ));
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(registry) {
            return Err(bad("has an invalid registry host"));
        }
        if !repository.split('/').all(is_component) {
            return Err(bad(
                "has an invalid name: its parts are lower-case letters and digits with single `.`, `_`, `__` or `-` between them",
            ));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        let reference = normalise(registry, repository, tag, digest);
        if reference.name().len() > NAME_MAX {
            bail!("image reference {text:?} is longer than {NAME_MAX} characters");
        }
        Ok(reference)
    }
}

fn normalise(
    registry: &str,
    repository: &str,
    tag: Option<String>,
    digest: Option<Digest>,
) -> Reference {
    let registry = match registry {
        "index.docker.io" => DEFAULT_REGISTRY,
        other => other,
    };
    let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    Reference {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    }
}

/// The first part is a registry only if it looks like a host.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else {
            return false;
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match after {
            "" => return true,
            after => match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None => return false,
            },
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        }
    };
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.is_none_or(|host| host.split('.').all(label))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Letters and digits, with separators between them: one of `.`, `_`, `__`, or any run of `-`.
fn is_component(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(|b| plain(*b)) || !bytes.last().is_some_and(|b| plain(*b)) {
        return false;
    }
    bytes.split(|b| plain(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn canonical(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn short_names_are_completed_as_docker_does() {
        for (short, long) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("library/busybox", "docker.io/library/busybox:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            (
                "index.docker.io/busybox",
                "docker.io/library/busybox:latest",
            ),
            ("me/tool", "docker.io/me/tool:latest"),
            ("localhost/tool", "localhost/tool:latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("UPPER/tool", "UPPER/tool:latest"),
            ("quay.io/a__b/c--d.e_f", "quay.io/a__b/c--d.e_f:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000"),
        ] {
            assert_eq!(canonical(short), long);
            assert_eq!(canonical(long), long, "the canonical form is a fixed point");
        }
    }

    #[test]
    fn digest_references_get_no_tag() {
        assert_eq!(
            canonical(&format!("busybox@sha256:{HEX}")),
            format!("docker.io/library/busybox@sha256:{HEX}")
        );
        assert_eq!(
            canonical(&format!("localhost:5000/b:1@sha256:{HEX}")),
            format!("localhost:5000/b:1@sha256:{HEX}")
        );
    }

    #[test]
    fn invalid_references_are_errors() {
        for text in [
            "",
            ":latest",
            "Busybox",
            "busybox:",
            "busybox:-x",
            "busybox@",
            "busybox@sha256:00",
            "a//b",
            "/a",
            "a/",
            "a/../b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a b",
            "a\n",
            "host.:x/a",
            "-host.example/a",
            "host:port/a",
            HEX,
            &format!("{}/a", "a".repeat(260)),
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn error_names_the_reference_and_the_rule() {
        let error = "busybox:-x".parse::<Reference>().unwrap_err().to_string();
        assert!(
            error.starts_with("image reference \"busybox:-x\" has an invalid tag"),
            "{error}"
        );
    }
}
