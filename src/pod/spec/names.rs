//! The rules for names (RFC 1123 and kubernetes "Object Names and IDs"), in words for a person.
//!
//! Each function gives what is wrong with the text, or nothing.

/// The longest DNS label.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| lower(b) || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS label: containers, volumes, namespaces, host names.
pub fn label(text: &str) -> Option<String> {
    if text.len() > LABEL_MAX {
        return Some(format!("must be at most {LABEL_MAX} characters"));
    }
    (!is_label(text)).then(|| {
        format!(
            "\"{text}\" must be lower-case letters, digits and '-', and start and end with a \
             letter or digit"
        )
    })
}

/// A DNS subdomain: pods.
pub fn subdomain(text: &str) -> Option<String> {
    if text.len() > SUBDOMAIN_MAX {
        return Some(format!("must be at most {SUBDOMAIN_MAX} characters"));
    }
    (!text.split('.').all(is_label)).then(|| {
        format!(
            "\"{text}\" must be lower-case letters, digits, '-' and '.', and start and end with a \
             letter or digit"
        )
    })
}

fn is_tag(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The key of a label or an annotation: an optional subdomain and `/`, and a name.
pub fn key(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if let Some(wrong) = prefix.and_then(subdomain) {
        return Some(format!("the part before '/' of the key: {wrong}"));
    }
    if name.len() > LABEL_MAX {
        return Some(format!(
            "the name of the key must be at most {LABEL_MAX} characters"
        ));
    }
    (!is_tag(name)).then(|| {
        format!(
            "the key \"{text}\" must be letters, digits, '-', '_' and '.', and start and end with \
             a letter or digit"
        )
    })
}

/// The value of a label.
pub fn label_value(text: &str) -> Option<String> {
    if text.len() > LABEL_MAX {
        return Some(format!("must be at most {LABEL_MAX} characters"));
    }
    (!text.is_empty() && !is_tag(text)).then(|| {
        format!(
            "\"{text}\" must be letters, digits, '-', '_' and '.', and start and end with a letter \
             or digit"
        )
    })
}

/// The name of a variable: anything printable but `=` (kubernetes 1.34 and later).
pub fn variable(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text
            .bytes()
            .all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    (!fits).then(|| format!("{text:?} must be printable ASCII characters without '='"))
}

/// The name of a port (RFC 6335).
pub fn port(text: &str) -> Option<String> {
    let fits = text.len() <= 15
        && is_label(text)
        && !text.contains("--")
        && text.bytes().any(|b| b.is_ascii_lowercase());
    (!fits).then(|| {
        format!(
            "\"{text}\" must be at most 15 lower-case letters, digits and single '-', with at \
             least one letter, and start and end with a letter or digit"
        )
    })
}

/// The name of a kernel setting, with dots.
pub fn sysctl(text: &str) -> Option<String> {
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| lower(b) || matches!(b, b'-' | b'_'));
    (text.len() > SUBDOMAIN_MAX || !text.split('.').all(part))
        .then(|| format!("\"{text}\" is not the name of a kernel setting"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_rules() {
        let long = "a".repeat(64);
        let very_long = "a".repeat(254);
        type Rule = fn(&str) -> Option<String>;
        let table: [(Rule, &[&str], &[&str]); 7] = [
            (
                label,
                &["a", "a-1", "0"],
                &["", "-a", "a-", "A", "a.b", "a_b", "é", &long],
            ),
            (
                subdomain,
                &["a.b", "a-1.b", "0"],
                &["", ".", "a..b", "a.", "-a", "A", &very_long],
            ),
            (
                key,
                &["app", "a.b/C_d.e-f"],
                &["", "/a", "a/", "a/b/c", "-a", &long],
            ),
            (label_value, &["", "A_b.c-1"], &["-", "a b", "a/", &long]),
            (variable, &["A", "a.b-c d", "1"], &["", "a=b", "é", "a\n"]),
            (
                port,
                &["http", "a-1"],
                &["", "123", "a--b", "a-", "abcdefghijklmnop", "A"],
            ),
            (
                sysctl,
                &["net.ipv4.tcp_rmem", "kernel.x-y"],
                &["", ".", "net.", "a b", "../x"],
            ),
        ];
        for (rule, good, bad) in table {
            for text in good {
                assert_eq!(rule(text), None, "{text}");
            }
            for text in bad {
                assert!(rule(text).is_some(), "{text}");
            }
        }
    }
}
