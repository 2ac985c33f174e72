//! Objects as YAML, in kubectl's manner: keys sorted, lists not indented, quotes only where needed.
//!
//! What is written is read back as the same by `manifest::yaml` and by YAML 1.1 and 1.2 readers: a
//! text that any of them could take for something else is quoted.

use serde_json::{Map, Value};

use crate::pod::manifest::yaml::{self, documents};

/// The value as a YAML document.
pub fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(map, 0, &mut text),
        Value::Array(list) if !list.is_empty() => sequence(list, 0, &mut text),
        scalar => {
            text.push_str(&inline(scalar, 0));
            text.push('\n');
        }
    }
    text
}

fn pad(indent: usize, text: &mut String) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn mapping(map: &Map<String, Value>, indent: usize, text: &mut String) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| key.as_str());
    for (index, (key, value)) in entries.into_iter().enumerate() {
        // The first line of a mapping inside a list is already indented by its dash.
        if index > 0 || text.is_empty() || text.ends_with('\n') {
            pad(indent, text);
        }
        text.push_str(&quoted(key));
        text.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                mapping(inner, indent + 2, text);
            }
            Value::Array(list) if !list.is_empty() => {
                text.push('\n');
                sequence(list, indent, text);
            }
            scalar => {
                text.push(' ');
                text.push_str(&inline(scalar, indent + 2));
                text.push('\n');
            }
        }
    }
}

fn sequence(list: &[Value], indent: usize, text: &mut String) {
    for (index, value) in list.iter().enumerate() {
        if index > 0 || text.is_empty() || text.ends_with('\n') {
            pad(indent, text);
        }
        text.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => mapping(map, indent + 2, text),
            Value::Array(list) if !list.is_empty() => sequence(list, indent + 2, text),
            scalar => {
                text.push_str(&inline(scalar, indent + 2));
                text.push('\n');
            }
        }
    }
}

fn inline(value: &Value, indent: usize) -> String {
    match value {
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        Value::String(text) => block(text, indent).unwrap_or_else(|| quoted(text)),
        other => other.to_string(),
    }
}

/// Several lines as a literal block, where that shows them as they are.
fn block(text: &str, indent: usize) -> Option<String> {
    let plain = |c: char| c == '\n' || c == '\t' || !c.is_control() && !special_break(c);
    let fits = text.contains('\n')
        && text.chars().all(plain)
        && !text.starts_with(['\n', ' ', '\t'])
        && text.lines().all(|line| !line.ends_with([' ', '\t']));
    if !fits {
        return None;
    }
    let body = text.trim_end_matches('\n');
    let header = match text.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    };
    let mut result = header.to_owned();
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        result.push('\n');
        if !line.is_empty() {
            pad(indent, &mut result);
            result.push_str(line);
        }
    }
    Some(result)
}

/// Characters that some readers take for the end of a line, or drop.
fn special_break(c: char) -> bool {
    matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A scalar in one line: plain, or in the quotes that it needs.
fn quoted(text: &str) -> String {
    let printable = !text.chars().any(|c| c.is_control() || special_break(c));
    if !printable {
        return Value::from(text)
            .to_string()
            .chars()
            .map(|c| {
                if c.is_control() || special_break(c) {
                    format!("\\u{:04x}", u32::from(c))
                } else {
                    c.to_string()
                }
            })
            .collect();
    }
    if text.is_empty() || looks_like_something_else(text) {
        return Value::from(text).to_string();
    }
    let starts = text.starts_with([
        '-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@',
        '`', ' ', '=', '<', '~',
    ]);
    let dash_word = text.len() > 1
        && text.starts_with('-')
        && !text.starts_with("- ")
        && !text.starts_with("---");
    let inside = text.contains(": ") || text.contains(" #") || text.ends_with([':', ' ']);
    if (starts && !dash_word) || inside {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        text.to_owned()
    }
}

/// Whether a plain text would be read as a number, a truth value, a time or nothing.
fn looks_like_something_else(text: &str) -> bool {
    // Only short words of plain characters can be anything but text.
    let simple = |c: char| c.is_ascii_alphanumeric() || "+-_.:~".contains(c);
    if text.len() > 40 || !text.chars().all(simple) {
        return false;
    }
    let digits = text.trim_start_matches(['+', '-', '.']);
    let number_like = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits
            .chars()
            .all(|c| c.is_ascii_digit() || "_.:-TZ+eE".contains(c));
    // No number has two dots; addresses and versions do.
    let address = digits.matches('.').count() > 1 && !digits.contains([':', '-']);
    let read_as_text = documents(text).is_ok_and(|list| {
        matches!(list.as_slice(), [node] if matches!(&node.value, yaml::Value::String(read) if read == text))
    });
    number_like && !address || !read_as_text && !text.contains(':') && !text.starts_with('-')
}
