//! YAML (and so JSON) text to a tree whose every node knows its line.
//!
//! The parser is saphyr-parser, which speaks in events; what a plain scalar means is decided here,
//! because Kubernetes reads YAML 1.1: `yes` is a boolean and `0644` is octal. Duplicate keys are kept
//! in the tree and reported by the reader, which knows their path. Depth, size and the growth of
//! aliases are bounded, so that no text can exhaust memory or the stack.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

/// The largest manifest; a Kubernetes API server takes no larger request either.
pub const MAX_BYTES: usize = 3 << 20;
/// How deep a manifest may nest; the deepest field of a Pod is at about 15.
const MAX_DEPTH: usize = 64;
/// How many nodes a manifest may have once its aliases are replaced.
const MAX_NODES: usize = 500_000;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The line, from 1.
    pub line: usize,
    /// The value.
    pub value: Value,
    /// Levels below and including this one.
    height: usize,
    /// Nodes below and including this one.
    size: usize,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, `~`, `null`.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number, and its text, which a quantity is read from.
    Float(f64, String),
    /// Text.
    String(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, duplicates included.
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, as text.
    pub key: String,
    /// The key's line, from 1.
    pub line: usize,
    /// What it is set to.
    pub value: Node,
}

/// Why a text cannot be read as YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl Node {
    fn new(line: usize, value: Value) -> Self {
        let (height, size) = match &value {
            Value::List(items) => measure(items.iter()),
            Value::Map(entries) => measure(entries.iter().map(|entry| &entry.value)),
            _ => (1, 1),
        };
        Self {
            line,
            value,
            height,
            size,
        }
    }
}

fn measure<'a>(below: impl Iterator<Item = &'a Node>) -> (usize, usize) {
    below.fold((1, 1), |(height, size), node| {
        (height.max(node.height + 1), size + node.size)
    })
}

/// Reads every document of `text`; an empty document is left out.
///
/// # Errors
/// What is not YAML, or beyond the bounds above.
pub fn documents(text: &str) -> Result<Vec<Node>, SyntaxError> {
    if text.len() > MAX_BYTES {
        return Err(SyntaxError {
            line: 1,
            message: format!("the file is larger than {} MiB", MAX_BYTES >> 20),
        });
    }
    let mut tree = Tree::default();
    let mut line = 1;
    for event in Parser::new_from_str(text.trim_start_matches('\u{feff}')) {
        let (event, span) = event.map_err(|error| SyntaxError {
            line: error.marker().line().max(1),
            message: format!("not valid YAML: {}", error.info()),
        })?;
        line = span.start.line().max(1);
        let end = matches!(event, Event::StreamEnd);
        tree.take(event, line)
            .map_err(|message| SyntaxError { line, message })?;
        if end {
            return Ok(tree.documents);
        }
    }
    Err(SyntaxError {
        line,
        message: "not valid YAML: the text ends too early".to_owned(),
    })
}

/// A collection that is not yet closed.
enum Open {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<(String, usize)>,
        merged: Vec<Entry>,
        merging: bool,
    },
}

struct Level {
    line: usize,
    anchor: usize,
    open: Open,
}

#[derive(Default)]
struct Tree {
    documents: Vec<Node>,
    levels: Vec<Level>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let merge = style == ScalarStyle::Plain && tag.is_none() && text == "<<";
                if merge && self.starts_merge() {
                    return Ok(());
                }
                let value = scalar(&text, style, tag.as_deref())?;
                self.put(Node::new(line, value), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "seq")?;
                self.open(line, anchor, Open::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "map")?;
                let open = Open::Map {
                    entries: Vec::new(),
                    key: None,
                    merged: Vec::new(),
                    merging: false,
                };
                self.open(line, anchor, open)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let node = self
                    .anchors
                    .get(&anchor)
                    .ok_or("an alias stands inside of what it refers to")?;
                // Checked before it is copied: aliases of aliases double at every step.
                if self.nodes + node.size > MAX_NODES {
                    return Err(format!("more than {MAX_NODES} values"));
                }
                if self.levels.len() + node.height > MAX_DEPTH {
                    return Err(format!("nested more than {MAX_DEPTH} levels deep"));
                }
                let node = node.clone();
                self.put(node, 0)
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, line: usize, anchor: usize, open: Open) -> Result<(), String> {
        if self.levels.len() + 1 >= MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} levels deep"));
        }
        if let Some(Level {
            open:
                Open::Map {
                    key: None,
                    merging: false,
                    ..
                },
            ..
        }) = self.levels.last()
        {
            return Err("a key must be text, not a list or a mapping".to_owned());
        }
        self.levels.push(Level { line, anchor, open });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(level) = self.levels.pop() else {
            return Err("a collection ends that did not begin".to_owned());
        };
        let value = match level.open {
            Open::List(items) => Value::List(items),
            Open::Map {
                mut entries,
                merged,
                ..
            } => {
                // What is written wins over what is merged, and the first merged over the later.
                if !merged.is_empty() {
                    let own: HashSet<String> =
                        entries.iter().map(|entry| entry.key.clone()).collect();
                    entries.extend(merged.into_iter().filter(|entry| !own.contains(&entry.key)));
                }
                Value::Map(entries)
            }
        };
        self.put(Node::new(level.line, value), level.anchor)
    }

    /// Whether the next value of the innermost mapping is to be merged into it (`<<: *base`).
    fn starts_merge(&mut self) -> bool {
        if let Some(Level {
            open: Open::Map {
                key: None, merging, ..
            },
            ..
        }) = self.levels.last_mut()
        {
            *merging = true;
            return true;
        }
        false
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        self.nodes += node.size;
        if self.nodes > MAX_NODES {
            return Err(format!("more than {MAX_NODES} values"));
        }
        if anchor != 0 {
            self.nodes += node.size;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(level) = self.levels.last_mut() else {
            if node.value != Value::Null {
                self.documents.push(node);
            }
            return Ok(());
        };
        match &mut level.open {
            Open::List(items) => items.push(node),
            Open::Map {
                merging, merged, ..
            } if *merging => {
                *merging = false;
                merged.extend(merge_source(node)?);
            }
            Open::Map { entries, key, .. } => match key.take() {
                None => *key = Some((key_text(&node)?, node.line)),
                Some((key, line)) => entries.push(Entry {
                    key,
                    line,
                    value: node,
                }),
            },
        }
        Ok(())
    }
}

fn merge_source(node: Node) -> Result<Vec<Entry>, String> {
    let wrong = || "only a mapping, or a list of mappings, can be merged with <<".to_owned();
    match node.value {
        Value::Map(entries) => Ok(entries),
        Value::List(items) => {
            let mut all = Vec::new();
            let mut seen = HashSet::new();
            for item in items {
                let Value::Map(entries) = item.value else {
                    return Err(wrong());
                };
                for entry in entries {
                    if seen.insert(entry.key.clone()) {
                        all.push(entry);
                    }
                }
            }
            Ok(all)
        }
        _ => Err(wrong()),
    }
}

fn key_text(node: &Node) -> Result<String, String> {
    Ok(match &node.value {
        Value::String(text) | Value::Float(_, text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Null | Value::List(_) | Value::Map(_) => {
            return Err("a key must be text".to_owned());
        }
    })
}

fn collection_tag(tag: Option<&Tag>, expected: &str) -> Result<(), String> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == expected => Ok(()),
        Some(tag) => Err(format!("the tag {tag} means nothing in a manifest")),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    if let Some(tag) = tag {
        let meaning = plain(text)?;
        let core = tag.is_yaml_core_schema();
        return match (tag.suffix.as_str(), meaning) {
            ("str", _) if core => Ok(Value::String(text.to_owned())),
            ("int", value @ Value::Int(_))
            | ("float", value @ (Value::Int(_) | Value::Float(..)))
            | ("bool", value @ Value::Bool(_))
            | ("null", value @ Value::Null)
                if core =>
            {
                Ok(value)
            }
            _ => Err(format!("the tag {tag} does not fit here")),
        };
    }
    if style == ScalarStyle::Plain {
        plain(text)
    } else {
        Ok(Value::String(text.to_owned()))
    }
}

/// What a plain scalar means in YAML 1.1, as Kubernetes' reader takes it.
fn plain(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF"
        | ".nan" | ".NaN" | ".NAN" => {
            return Err(format!("{text} is no number that a manifest can hold"));
        }
        _ => number(text).unwrap_or_else(|| Value::String(text.to_owned())),
    })
}

fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let clean = text.replace('_', "");
    if let Some(value) = integer(&clean) {
        return Some(Value::Int(value));
    }
    let unsigned = clean.strip_prefix(['+', '-']).unwrap_or(&clean);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    let some_digit = !whole.is_empty() || !fraction.is_empty();
    if !(some_digit && digits(whole) && digits(fraction) && exponent_fits) {
        return None;
    }
    let value: f64 = clean.parse().ok()?;
    value.is_finite().then_some(Value::Float(value, clean))
}

/// Decimal, `0x`, `0o`, `0b`, and a leading zero for octal.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let signed = if negative {
        format!("-{digits}")
    } else {
        digits.to_owned()
    };
    i64::from_str_radix(&signed, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        let mut documents = documents(text).unwrap();
        assert_eq!(documents.len(), 1, "{text:?}");
        documents.remove(0).value
    }

    fn error(text: &str) -> String {
        documents(text).unwrap_err().message
    }

    #[test]
    fn plain_scalars_are_read_as_yaml_1_1() {
        for (text, expected) in [
            ("yes", Value::Bool(true)),
            ("Off", Value::Bool(false)),
            ("0644", Value::Int(420)),
            ("0o644", Value::Int(420)),
            ("0x1F", Value::Int(31)),
            ("0b101", Value::Int(5)),
            ("1_000", Value::Int(1000)),
            ("-5", Value::Int(-5)),
            ("0", Value::Int(0)),
            ("0.1", Value::Float(0.1, "0.1".to_owned())),
            ("1e3", Value::Float(1000.0, "1e3".to_owned())),
            ("0999", Value::Float(999.0, "0999".to_owned())),
            ("100m", Value::String("100m".to_owned())),
            ("1.2.3", Value::String("1.2.3".to_owned())),
            ("1:30", Value::String("1:30".to_owned())),
            ("2024-01-01", Value::String("2024-01-01".to_owned())),
            ("-", Value::List(vec![Node::new(1, Value::Null)])),
            ("\"yes\"", Value::String("yes".to_owned())),
            ("'0644'", Value::String("0644".to_owned())),
            ("!!str 5", Value::String("5".to_owned())),
            ("nope", Value::String("nope".to_owned())),
            (".", Value::String(".".to_owned())),
            ("+", Value::String("+".to_owned())),
            ("0x", Value::String("0x".to_owned())),
            ("0x-5", Value::String("0x-5".to_owned())),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn every_document_is_read_and_empty_ones_are_left_out() {
        let read = documents("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n").unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].line, 6);
        assert!(documents("").unwrap().is_empty());
        assert!(documents("# only a comment\n").unwrap().is_empty());
    }

    #[test]
    fn keys_know_their_lines_and_duplicates_are_kept() {
        let Value::Map(entries) = value("a: 1\nb:\n  c: 2\na: 3\n") else {
            panic!("no mapping");
        };
        let lines: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 2), ("a", 4)]);
    }

    #[test]
    fn merged_keys_give_way_to_written_ones() {
        let Value::Map(entries) = value("base: &b {x: 1, z: 2}\nown:\n  <<: *b\n  z: 3\n") else {
            panic!("no mapping");
        };
        let Value::Map(own) = &entries[1].value.value else {
            panic!("no mapping");
        };
        let pairs: Vec<_> = own
            .iter()
            .map(|e| (e.key.as_str(), &e.value.value))
            .collect();
        assert_eq!(pairs, [("z", &Value::Int(3)), ("x", &Value::Int(1))]);
    }

    #[test]
    fn json_is_read_even_with_tabs() {
        let read = value("{\n\t\"a\": [1, true, null],\n\t\"b\": \"x\\/y\"\n}\n");
        let Value::Map(entries) = read else {
            panic!("no mapping");
        };
        assert_eq!(entries[1].value.value, Value::String("x/y".to_owned()));
    }

    #[test]
    fn what_would_exhaust_memory_or_the_stack_is_refused() {
        assert!(error(&"[".repeat(100)).contains("deep"));
        assert!(documents(&"[".repeat(100_000)).is_err());
        assert!(documents(&"{a: ".repeat(100_000)).is_err());
        assert!(error(&"- ".repeat(10_000)).contains("deep"));
        let mut bomb = "a0: &a0 [x, x]\n".to_owned();
        for i in 1..40 {
            bomb += &format!("a{i}: &a{i} [*a{}, *a{}]\n", i - 1, i - 1);
        }
        let message = error(&bomb);
        assert!(
            message.contains("deep") || message.contains("more than"),
            "{message}"
        );
        assert!(error(&" ".repeat(MAX_BYTES + 1)).contains("larger"));
    }

    #[test]
    fn wrong_yaml_says_where() {
        let error = documents("a: 1\nb: [1, 2\n").unwrap_err();
        assert!(error.line >= 2, "{error:?}");
        assert!(error.message.starts_with("not valid YAML: "), "{error:?}");
        for text in [
            "a: *nothing",
            "&a [*a]",
            "? [1]\n: 2\n",
            "!x y",
            ".nan",
            "<<: 1",
        ] {
            assert!(documents(text).is_err(), "{text}");
        }
    }
}
