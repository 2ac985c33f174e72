//! From the text of a file to pods: reading, meaning, and every problem of both at once.

use super::{Pod, from_wire};
use crate::pod::manifest::problem::parent;
use crate::pod::manifest::{self, Document, Problem, Problems};

/// What a file holds.
#[derive(Debug)]
pub struct Loaded {
    /// At least one pod, in the order of the file.
    pub pods: Vec<Pod>,
    /// What the user should know; whole lines.
    pub warnings: Vec<String>,
}

/// Reads every pod of a manifest. `file` is its name for messages.
///
/// # Errors
/// Everything that is wrong with it, sorted by line.
pub fn load(file: &str, text: &str) -> Result<Loaded, Problems> {
    let read = manifest::read(file, text);
    let mut problems = read.problems;
    let mut warnings = read.warnings;
    let mut pods: Vec<Pod> = Vec::new();
    for document in read.documents {
        match meaning(&document) {
            Ok((pod, notes)) => {
                warnings.extend(
                    notes
                        .into_iter()
                        .map(|note| Problems::new(file, vec![note]).to_string()),
                );
                let twice = pods.iter().any(|known| {
                    known.metadata.name == pod.metadata.name
                        && known.metadata.namespace == pod.metadata.namespace
                });
                if twice {
                    problems.push(Problem::new(
                        document.lines.of("metadata.name"),
                        "metadata.name",
                        format!("pod \"{}\" is already in this file", pod.metadata.name),
                    ));
                }
                pods.push(pod);
            }
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() {
        Ok(Loaded { pods, warnings })
    } else {
        Err(Problems::new(file, problems))
    }
}

fn meaning(document: &Document) -> Result<(Pod, Vec<Problem>), Vec<Problem>> {
    let form = &document.problems;
    // A document of another kind has no fields that could be looked at.
    if document.pod.spec.is_none() && !form.is_empty() {
        return Err(form.clone());
    }
    match from_wire(&document.pod, &document.lines) {
        Ok(pod) if form.is_empty() => Ok(pod),
        Ok(_) => Err(form.clone()),
        Err(meaning) => {
            let mut all = form.clone();
            all.extend(meaning.into_iter().filter(|m| !follows(m, form)));
            Err(all)
        }
    }
}

/// Whether a problem of meaning is only the echo of one of form: the field itself was wrong, or
/// what is missing stands next to a misspelt field.
fn follows(meaning: &Problem, form: &[Problem]) -> bool {
    form.iter().any(|problem| {
        let inside = problem
            .path
            .strip_prefix(&meaning.path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        let below = meaning
            .path
            .strip_prefix(&problem.path)
            .is_some_and(|rest| rest.starts_with(['.', '[']))
            && problem.message.starts_with("must be ");
        let missing = meaning.message.starts_with("is not set");
        let neighbour = problem.message.starts_with("unknown field")
            && parent(&problem.path) == parent(&meaning.path);
        inside || below || missing && neighbour
    })
}
