//! The strict reader: one document, held against the vocabulary.
//!
//! It gives the document as JSON that surely fits the wire types, with the line of every field, and
//! everything that is wrong. It knows no meaning: that a name must be a DNS label or that a mount
//! needs its volume is decided in `spec`.

use serde_json::{Map, Number, Value as Json};

use super::problem::{Lines, Problem};
use super::schema::{Field, Kind, Object, Support};
use super::suggest;
use super::vocabulary;
use super::yaml::{Entry, Node, Value};
use crate::pod::quantity::Quantity;

/// A field that has no meaning on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Its path.
    pub path: String,
    /// Its line.
    pub line: usize,
    /// Why it has no meaning.
    pub why: &'static str,
}

/// One document, read.
#[derive(Debug, Default)]
pub struct Document {
    /// What was written, without what is unknown, wrong or ignored.
    pub value: Json,
    /// Where each field is.
    pub lines: Lines,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What has no meaning here.
    pub ignored: Vec<Ignored>,
}

/// Reads one document as a Pod.
pub fn document(node: &Node) -> Document {
    let mut read = Document::default();
    read.lines.set("", node.line);
    let Value::Map(entries) = &node.value else {
        let message = format!("must be a Pod manifest, not {}", describe(&node.value));
        read.problems.push(Problem::new(node.line, "", message));
        return read;
    };
    if let Some(problem) = wrong_kind(node.line, entries) {
        read.problems.push(problem);
        return read;
    }
    read.value = read.object(&vocabulary::POD, entries, "", false);
    read
}

/// What is not a Pod is refused as such, not field by field.
fn wrong_kind(line: usize, entries: &[Entry]) -> Option<Problem> {
    let text = |key: &str| {
        let entry = entries.iter().find(|entry| entry.key == key)?;
        match &entry.value.value {
            Value::String(text) => Some((entry.line, text.as_str())),
            other => Some((entry.line, describe(other))),
        }
    };
    match text("kind") {
        None => Some(Problem::new(line, "kind", "is not set: it must be Pod")),
        Some((line, kind)) if kind != "Pod" => Some(Problem::new(
            line,
            "kind",
            format!("{kind} is not supported by this version of podctl, only Pod"),
        )),
        Some(_) => match text("apiVersion") {
            None => Some(Problem::new(
                line,
                "apiVersion",
                "is not set: it must be v1",
            )),
            Some((line, version)) if version != "v1" => Some(Problem::new(
                line,
                "apiVersion",
                format!("a Pod has apiVersion v1, not {version}"),
            )),
            Some(_) => None,
        },
    }
}

impl Document {
    fn problem(&mut self, line: usize, path: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(line, path, message));
    }

    /// `quiet`: below a field that is not acted on, what is not supported need not be said again.
    fn object(&mut self, object: &Object, entries: &[Entry], path: &str, quiet: bool) -> Json {
        let mut map = Map::new();
        for entry in unique(entries, path, &mut self.problems) {
            let path = if path.is_empty() {
                entry.key.clone()
            } else {
                format!("{path}.{}", entry.key)
            };
            let Some(field) = object.field(&entry.key) else {
                let hint = suggest::hint(&entry.key, object);
                self.problem(entry.line, &path, format!("unknown field{hint}"));
                continue;
            };
            self.lines.set(&path, entry.line);
            if entry.value.value == Value::Null {
                continue;
            }
            if let Some(value) = self.field(field, entry, &path, quiet) {
                map.insert(entry.key.clone(), value);
            }
        }
        Json::Object(map)
    }

    fn field(&mut self, field: &Field, entry: &Entry, path: &str, quiet: bool) -> Option<Json> {
        let node = &entry.value;
        let acted_on = match field.support {
            Support::Yes | Support::Only(_) => true,
            Support::NotYet | Support::Irrelevant(_) => false,
        };
        let before = self.problems.len();
        let value = self.value(&field.kind, node, entry.line, path, quiet || !acted_on);
        if quiet || self.problems.len() > before && matches!(field.support, Support::Only(_)) {
            return value;
        }
        match field.support {
            Support::Yes => value,
            Support::Only(values) => {
                let text = value.as_ref().map(plain_text)?;
                if values.contains(&text.as_str()) {
                    return value;
                }
                let all: Vec<_> = values.iter().map(|v| quoted_if_empty(v)).collect();
                let message = format!(
                    "{} is not supported by this version of podctl, only {}",
                    quoted_if_empty(&text),
                    all.join(" and ")
                );
                self.problem(entry.line, path, message);
                None
            }
            Support::NotYet => {
                if !is_empty(&node.value) {
                    self.problem(entry.line, path, "not supported by this version of podctl");
                }
                None
            }
            Support::Irrelevant(why) => {
                if !is_empty(&node.value) {
                    self.ignored.push(Ignored {
                        path: path.to_owned(),
                        line: entry.line,
                        why,
                    });
                }
                None
            }
        }
    }

    fn value(
        &mut self,
        kind: &Kind,
        node: &Node,
        line: usize,
        path: &str,
        quiet: bool,
    ) -> Option<Json> {
        let checked = match (kind, &node.value) {
            (Kind::Text, Value::String(text)) => Ok(Json::from(text.as_str())),
            (Kind::Text, Value::Bool(_) | Value::Int(_) | Value::Float(..)) => Err(format!(
                "must be text, not {}: put it in quotes",
                describe(&node.value)
            )),
            (Kind::Text, _) => Err(expected("text", node)),
            (Kind::Bool, Value::Bool(value)) => Ok(Json::from(*value)),
            (Kind::Bool, _) => Err(expected("true or false", node)),
            (Kind::Int(low, high), Value::Int(number)) => {
                if (low..=high).contains(&number) {
                    Ok(Json::from(*number))
                } else {
                    Err(format!("must be {}, not {number}", range(*low, *high)))
                }
            }
            (Kind::Int(..), _) => Err(expected("a whole number", node)),
            (Kind::Quantity, _) => quantity(&node.value),
            (Kind::IntOrText, Value::Int(number)) => Ok(Json::from(*number)),
            (Kind::IntOrText, Value::String(text)) => Ok(Json::from(text.as_str())),
            (Kind::IntOrText, _) => Err(expected("a number or text", node)),
            (Kind::Word(words), Value::String(text)) => word(words, text),
            (Kind::Word(_), _) => Err(expected("text", node)),
            (Kind::Object(object), Value::Map(entries)) => {
                return Some(self.object(object, entries, path, quiet));
            }
            (Kind::Object(_), _) => Err(expected("a mapping", node)),
            (Kind::List(kind), Value::List(items)) => {
                return Some(self.list(kind, items, path, quiet));
            }
            (Kind::List(_), _) => Err(expected("a list", node)),
            (Kind::Map(kind), Value::Map(entries)) => {
                return Some(self.map(kind, entries, path, quiet));
            }
            (Kind::Map(_), _) => Err(expected("a mapping", node)),
            (Kind::Any, _) => {
                self.duplicates(node, path);
                return None;
            }
        };
        match checked {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(line, path, message);
                None
            }
        }
    }

    fn list(&mut self, kind: &Kind, items: &[Node], path: &str, quiet: bool) -> Json {
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.lines.set(&path, item.line);
            // An item that is wrong keeps its place, so that the paths of later ones stay true.
            let value = self.value(kind, item, item.line, &path, quiet);
            list.push(value.unwrap_or_else(|| stand_in(kind)));
        }
        Json::Array(list)
    }

    fn map(&mut self, kind: &Kind, entries: &[Entry], path: &str, quiet: bool) -> Json {
        let mut map = Map::new();
        for entry in unique(entries, path, &mut self.problems) {
            let path = key_path(path, &entry.key);
            self.lines.set(&path, entry.line);
            let value = if entry.value.value == Value::Null && matches!(kind, Kind::Text) {
                Some(Json::from(""))
            } else {
                self.value(kind, &entry.value, entry.line, &path, quiet)
            };
            if let Some(value) = value {
                map.insert(entry.key.clone(), value);
            }
        }
        Json::Object(map)
    }

    /// In what is not looked at, a key that is set twice is still a mistake.
    fn duplicates(&mut self, node: &Node, path: &str) {
        match &node.value {
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.duplicates(item, &format!("{path}[{index}]"));
                }
            }
            Value::Map(entries) => {
                for entry in unique(entries, path, &mut self.problems) {
                    self.duplicates(&entry.value, &format!("{path}.{}", entry.key));
                }
            }
            _ => {}
        }
    }
}

/// The entries, each key once; the first counts, and each further one is a problem.
fn unique<'a>(entries: &'a [Entry], path: &str, problems: &mut Vec<Problem>) -> Vec<&'a Entry> {
    let mut seen = std::collections::HashMap::new();
    let mut list = Vec::new();
    for entry in entries {
        match seen.entry(entry.key.as_str()) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(entry.line);
                list.push(entry);
            }
            std::collections::hash_map::Entry::Occupied(first) => {
                let path = if path.is_empty() {
                    entry.key.clone()
                } else {
                    format!("{path}.{}", entry.key)
                };
                let message = format!("set twice, first on line {}", first.get());
                problems.push(Problem::new(entry.line, path, message));
            }
        }
    }
    list
}

/// The path of a key of a free mapping.
pub fn key_path(path: &str, key: &str) -> String {
    let simple = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if simple {
        format!("{path}.{key}")
    } else {
        format!("{path}[\"{key}\"]")
    }
}

fn quantity(value: &Value) -> Result<Json, String> {
    let text = match value {
        Value::String(text) | Value::Float(_, text) => text.clone(),
        Value::Int(number) => number.to_string(),
        other => return Err(format!("must be a quantity, not {}", describe(other))),
    };
    match text.parse::<Quantity>() {
        Ok(_) => Ok(Json::from(text)),
        Err(error) => Err(format!("\"{text}\" {error}")),
    }
}

fn word(words: &[&'static str], text: &str) -> Result<Json, String> {
    if words.contains(&text) {
        return Ok(Json::from(text));
    }
    let hint = suggest::nearest(text, words.iter().copied())
        .map(|known| format!("; did you mean \"{known}\"?"))
        .unwrap_or_default();
    let words: Vec<_> = words.iter().map(|word| quoted_if_empty(word)).collect();
    Err(match words.as_slice() {
        [one] => format!("must be {one}, not \"{text}\"{hint}"),
        many => format!("must be one of {}, not \"{text}\"{hint}", many.join(", ")),
    })
}

fn range(low: i64, high: i64) -> String {
    match (low, high) {
        (low, i64::MAX) => format!("at least {low}"),
        (0, 0o777) => "between 0 and 0777 (permission bits)".to_owned(),
        (low, high) => format!("between {low} and {high}"),
    }
}

fn expected(what: &str, node: &Node) -> String {
    format!("must be {what}, not {}", describe(&node.value))
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::Float(..) => "a number",
        Value::String(_) => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
    }
}

fn stand_in(kind: &Kind) -> Json {
    match kind {
        Kind::Object(_) | Kind::Map(_) => Json::Object(Map::new()),
        Kind::List(_) => Json::Array(Vec::new()),
        Kind::Int(..) => Json::Number(Number::from(0)),
        Kind::Bool => Json::Bool(false),
        _ => Json::from(""),
    }
}

fn plain_text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn quoted_if_empty(text: &str) -> String {
    if text.is_empty() {
        "\"\"".to_owned()
    } else {
        text.to_owned()
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}
