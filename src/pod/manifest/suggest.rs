//! "Did you mean": the known word nearest to a wrong one, and where a misplaced field belongs.

use super::schema::Object;
use super::vocabulary;

/// What to say about an unknown field, after "unknown field".
pub fn hint(wrong: &str, object: &Object) -> String {
    if let Some(known) = nearest(wrong, object.fields.iter().map(|field| field.name)) {
        return format!("; did you mean \"{known}\"?");
    }
    for (place, other) in [
        ("metadata", &vocabulary::METADATA),
        ("spec", &vocabulary::POD_SPEC),
        ("spec.containers[]", &vocabulary::CONTAINER),
        ("spec.containers[].securityContext", &vocabulary::SECURITY),
        ("spec.securityContext", &vocabulary::POD_SECURITY),
        ("spec.containers[].resources", &vocabulary::RESOURCES),
    ] {
        if other.name != object.name && other.field(wrong).is_some() {
            return format!("; it belongs to {place}");
        }
    }
    String::new()
}

/// The known word that `wrong` was probably meant to be.
pub fn nearest(wrong: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // Nothing that long is a field; and the distance takes time for each letter of both.
    if wrong.len() > 64 {
        return None;
    }
    let wrong = wrong.to_lowercase();
    let letters = wrong.chars().count();
    known
        .map(|word| (distance(&wrong, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= letters.min(word.len()).div_ceil(4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Letters to insert, delete, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous_letter = None;
    for (row, letter) in a.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in b.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != *other);
            let mut best = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            let swapped = column > 0
                && previous_letter == Some(*other)
                && letter == b[column - 1]
                && !before.is_empty();
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut last, current);
        previous_letter = Some(letter);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_word_that_was_meant() {
        for (wrong, object, expected) in [
            (
                "imagee",
                &vocabulary::CONTAINER,
                "; did you mean \"image\"?",
            ),
            ("iamge", &vocabulary::CONTAINER, "; did you mean \"image\"?"),
            (
                "volumemounts",
                &vocabulary::CONTAINER,
                "; did you mean \"volumeMounts\"?",
            ),
            (
                "restartPolicy",
                &vocabulary::METADATA,
                "; it belongs to spec",
            ),
            (
                "limits",
                &vocabulary::CONTAINER,
                "; it belongs to spec.containers[].resources",
            ),
            ("xyzzy", &vocabulary::CONTAINER, ""),
            ("é", &vocabulary::CONTAINER, ""),
            ("", &vocabulary::CONTAINER, ""),
        ] {
            assert_eq!(hint(wrong, object), expected, "{wrong}");
        }
        assert_eq!(hint(&"x".repeat(100_000), &vocabulary::POD), "");
    }
}
