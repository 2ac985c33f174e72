//! Bytes to oci-spec's types.
//!
//! The only correction: runtime-spec wants a warning for a capability that is not known, oci-spec's
//! enum is closed. So when the bytes do not fit, unknown capability names are taken out and the rest
//! is read again; whatever still does not fit is the error.

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Capability, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a config.json. Capabilities that are not known go to `warnings`.
///
/// # Errors
/// Where it is no JSON, or a value is not of its property's type: with line and column.
pub fn read(bytes: &[u8], warnings: &mut Vec<String>) -> Result<Spec> {
    read_with(bytes, &["process", "capabilities"], warnings)
}

/// Reads a process.json, as `exec --process` takes it.
///
/// # Errors
/// As [`read`].
pub fn read_process(bytes: &[u8], warnings: &mut Vec<String>) -> Result<Process> {
    read_with(bytes, &["capabilities"], warnings)
}

fn read_with<T: DeserializeOwned>(
    bytes: &[u8],
    capabilities: &[&str],
    warnings: &mut Vec<String>,
) -> Result<T> {
    let first = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else {
        bail!(first)
    };
    let mut place = Some(&mut value);
    for key in capabilities {
        place = place.and_then(|value| value.get_mut(*key));
    }
    let mut unknown: Vec<String> = Vec::new();
    for (_, list) in place.and_then(Value::as_object_mut).into_iter().flatten() {
        if let Value::Array(names) = list {
            names.retain(|name| known(name, &mut unknown));
        }
    }
    if unknown.is_empty() {
        bail!(first);
    }
    for name in &unknown {
        warnings.push(format!(
            "process.capabilities: `{name}` is not known to this version, ignored"
        ));
    }
    // Through bytes again: a second way of reading would be a quarter of the program's size.
    let bytes = serde_json::to_vec(&value).context("write the configuration again")?;
    serde_json::from_slice(&bytes).context("after unknown capabilities were ignored")
}

fn known(name: &Value, unknown: &mut Vec<String>) -> bool {
    let Some(text) = name.as_str() else {
        return true;
    };
    if serde_json::from_value::<Capability>(name.clone()).is_ok() {
        return true;
    }
    if !unknown.iter().any(|other| other == text) {
        unknown.push(text.to_owned());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: &str = r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":["a"],
        "capabilities":{"bounding":["CAP_CHOWN","CAP_FUTURE"],"effective":["CAP_FUTURE"]}}"#;

    #[test]
    fn unknown_capability_is_a_warning() {
        let mut warnings = Vec::new();
        let process = read_process(PROCESS.as_bytes(), &mut warnings).unwrap();
        let capabilities = process.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 1);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("CAP_FUTURE"));
    }

    #[test]
    fn wrong_type_is_an_error_with_its_line() {
        let text = "{\"cwd\":\"/\",\n\"user\":{\"uid\":\"a\",\"gid\":0}}";
        let error = read_process(text.as_bytes(), &mut Vec::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn unknown_properties_are_ignored() {
        let text = r#"{"ociVersion":"1.2.0","somethingNew":{"a":1}}"#;
        read(text.as_bytes(), &mut Vec::new()).unwrap();
    }

    #[test]
    fn ids_beyond_32_bits_are_refused() {
        let text = r#"{"cwd":"/","user":{"uid":4294967296,"gid":0}}"#;
        read_process(text.as_bytes(), &mut Vec::new()).unwrap_err();
    }
}
