//! What was written: manifests, strictly read.
//!
//! A manifest is YAML or JSON with one or several Pods. Everything that podctl does not know, or knows
//! and does not act on, is said: an unknown field is an error with its line, a field that is not
//! built yet is an error, and fields that mean nothing on one machine are named in one warning.
//! What the fields mean, and whether they fit together, is in [`crate::pod::spec`].

pub mod problem;
pub mod read;
pub mod schema;
mod suggest;
pub mod vocabulary;
mod volumes;
pub mod wire;
pub mod yaml;

pub use problem::{Lines, Problem, Problems};

/// One Pod as it was written, and where.
#[derive(Debug)]
pub struct Document {
    /// What was written; what is wrong is left out of it.
    pub pod: wire::Pod,
    /// The line of each field.
    pub lines: Lines,
    /// What is wrong with the form of it.
    pub problems: Vec<Problem>,
}

/// Everything that a file holds.
#[derive(Debug)]
pub struct File {
    /// Its documents, in order.
    pub documents: Vec<Document>,
    /// What is wrong with the file itself (not YAML, nothing in it).
    pub problems: Vec<Problem>,
    /// One warning per document that has fields without a meaning here.
    pub warnings: Vec<String>,
}

/// Reads a manifest. `file` is its name for messages.
pub fn read(file: &str, text: &str) -> File {
    let mut result = File {
        documents: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let nodes = match yaml::documents(text) {
        Ok(nodes) => nodes,
        Err(error) => {
            result
                .problems
                .push(Problem::new(error.line, "", error.message));
            return result;
        }
    };
    if nodes.is_empty() {
        result
            .problems
            .push(Problem::new(1, "", "there is no manifest in it"));
    }
    for node in &nodes {
        let read = read::document(node);
        result.warnings.extend(warning(file, &read.ignored));
        let mut problems = read.problems;
        // What the reader let through fits the wire types; the tests hold this for every field.
        let pod = serde_json::from_value(read.value).unwrap_or_else(|error| {
            if problems.is_empty() {
                problems.push(Problem::new(node.line, "", error.to_string()));
            }
            wire::Pod::default()
        });
        result.documents.push(Document {
            pod,
            lines: read.lines,
            problems,
        });
    }
    result
}

fn warning(file: &str, ignored: &[read::Ignored]) -> Option<String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for field in ignored {
        let place = format!("{} (line {})", field.path, field.line);
        match reasons.iter_mut().find(|(why, _)| *why == field.why) {
            Some((_, places)) => places.push(place),
            None => reasons.push((field.why, vec![place])),
        }
    }
    if reasons.is_empty() {
        return None;
    }
    let parts: Vec<_> = reasons
        .iter()
        .map(|(why, places)| format!("{}: {why}", places.join(", ")))
        .collect();
    Some(format!("{file}: without effect: {}", parts.join("; ")))
}

#[cfg(test)]
mod tests;
