//! What is wrong with a manifest: every problem at once, each with file, line and path.
//!
//! One problem is one line, `pod.yaml:12: spec.containers[0].imagee: unknown field`, so that an
//! editor can jump to it. Problems are sorted by line.

use std::collections::BTreeMap;
use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The field, such as `spec.containers[0].image`; empty for the document as a whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    /// A problem with a field.
    pub fn new(line: usize, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            line,
            path: path.into(),
            message: message.into(),
        }
    }
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file, as the user named it.
    pub file: String,
    /// At least one, sorted by line.
    pub list: Vec<Problem>,
}

impl Problems {
    /// Sorts `list` by line, and takes out what is said twice.
    pub fn new(file: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| a.line.cmp(&b.line).then_with(|| a.path.cmp(&b.path)));
        list.dedup();
        Self {
            file: file.to_owned(),
            list,
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{}: ", self.file, problem.line)?;
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Which line each field of a document is on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// Remembers a field's line.
    pub fn set(&mut self, path: &str, line: usize) {
        self.0.insert(path.to_owned(), line);
    }

    /// The field's line; for a field that is not written, the line of what it would stand in.
    pub fn of(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return *line;
            }
            if path.is_empty() {
                return 1;
            }
            path = parent(path);
        }
    }
}

/// The path of what a field stands in: `a.b[0]` for `a.b[0].c`, `a.b` for `a.b[0]`.
pub fn parent(path: &str) -> &str {
    // A key in brackets and quotes may itself hold dots.
    if let Some(open) = path.strip_suffix("\"]").and_then(|p| p.rfind("[\"")) {
        return &path[..open];
    }
    path.rfind(['.', '[']).map_or("", |at| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_of_paths() {
        for (path, expected) in [
            ("spec.containers[0].image", "spec.containers[0]"),
            ("spec.containers[0]", "spec.containers"),
            ("metadata.labels[\"a.b/c\"]", "metadata.labels"),
            ("spec", ""),
            ("", ""),
        ] {
            assert_eq!(parent(path), expected);
        }
    }

    #[test]
    fn a_field_that_is_not_written_has_the_line_of_its_parent() {
        let mut lines = Lines::default();
        lines.set("", 2);
        lines.set("spec.containers[0]", 7);
        assert_eq!(lines.of("spec.containers[0].image"), 7);
        assert_eq!(lines.of("metadata.name"), 2);
        assert_eq!(Lines::default().of("x"), 1);
    }

    #[test]
    fn problems_are_sorted_and_said_once() {
        let problems = Problems::new(
            "pod.yaml",
            vec![
                Problem::new(9, "b", "is wrong"),
                Problem::new(2, "", "is empty"),
                Problem::new(9, "b", "is wrong"),
            ],
        );
        assert_eq!(
            problems.to_string(),
            "pod.yaml:2: is empty\npod.yaml:9: b: is wrong"
        );
    }
}
