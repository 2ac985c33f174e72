//! Command lines as tables: one table of commands and flags is what parses, and what `--help`
//! prints.
//!
//! lexopt splits the words. What it does not do is here: long flags with one dash, as Go's flag
//! package takes them and callers of runc write them; flags before and after the operands.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;

use anyhow::{Context, Result, bail};
use lexopt::Arg;

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Without dashes.
    pub long: &'static str,
    /// One letter.
    pub short: Option<char>,
    /// The name of its value, in capital letters; `None` for a switch.
    pub value: Option<&'static str>,
    /// One line.
    pub help: &'static str,
}

/// A switch.
pub const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag {
        long,
        short,
        value: None,
        help,
    }
}

/// A flag with a value.
pub const fn value(
    long: &'static str,
    short: Option<char>,
    name: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        long,
        short,
        value: Some(name),
        help,
    }
}

/// One command.
#[derive(Debug)]
pub struct Command {
    /// As it is typed.
    pub name: &'static str,
    /// Its operands, as help shows them.
    pub operands: &'static str,
    /// One line.
    pub about: &'static str,
    /// How many operands it takes, at least and at most.
    pub count: (usize, usize),
    /// Everything from this operand on is taken as it is: a program and its arguments.
    pub rest_from: Option<usize>,
    /// Its flags.
    pub flags: &'static [Flag],
    /// Command lines that work.
    pub examples: &'static [&'static str],
}

/// What was typed.
#[derive(Debug, Default)]
pub struct Matches {
    flags: Vec<(&'static str, OsString)>,
    /// Without flags.
    pub operands: Vec<OsString>,
}

impl Matches {
    /// The last value of a flag.
    pub fn get(&self, long: &str) -> Option<&OsStr> {
        self.flags
            .iter()
            .rev()
            .find(|(name, _)| *name == long)
            .map(|(_, value)| value.as_os_str())
    }

    /// The last value of a flag, as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self, long: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(long) else {
            return Ok(None);
        };
        value
            .to_str()
            .with_context(|| format!("--{long}: not UTF-8"))
            .map(Some)
    }

    /// All values of a flag, as text.
    ///
    /// # Errors
    /// When one is not UTF-8.
    pub fn texts(&self, long: &str) -> Result<Vec<&str>> {
        let values = self.flags.iter().filter(|(name, _)| *name == long);
        values
            .map(|(_, value)| {
                value
                    .to_str()
                    .with_context(|| format!("--{long}: not UTF-8"))
            })
            .collect()
    }

    /// Whether a switch is there.
    pub fn has(&self, long: &str) -> bool {
        self.get(long).is_some_and(|value| value != "false")
    }

    /// An operand, as text.
    ///
    /// # Errors
    /// When it is missing or not UTF-8.
    pub fn operand(&self, index: usize, name: &str) -> Result<&str> {
        let operand = self
            .operands
            .get(index)
            .with_context(|| format!("{name} is missing"))?;
        operand
            .to_str()
            .with_context(|| format!("{name}: not UTF-8"))
    }
}

/// Parses words by a table of flags. Stops before the first operand when `stop` is given (the global
/// flags, before the command's name).
///
/// # Errors
/// For a flag that is not in the table, or lacks its value.
pub fn parse(
    words: Vec<OsString>,
    tables: &[&'static [Flag]],
    rest_from: Option<usize>,
) -> Result<Matches> {
    let flags: Vec<&'static Flag> = tables.iter().flat_map(|table| table.iter()).collect();
    let mut parser = lexopt::Parser::from_args(long_dashes(words, &flags, rest_from));
    let mut matches = Matches::default();
    loop {
        if rest_from.is_some_and(|from| matches.operands.len() >= from) {
            let mut rest: Vec<OsString> = parser.raw_args()?.collect();
            if rest.first().is_some_and(|word| word == "--") {
                rest.remove(0);
            }
            matches.operands.extend(rest);
            return Ok(matches);
        }
        let found = match parser.next()? {
            None => return Ok(matches),
            Some(Arg::Value(operand)) => {
                matches.operands.push(operand);
                continue;
            }
            Some(Arg::Long(name)) => flags.iter().find(|flag| flag.long == name).copied(),
            Some(Arg::Short(letter)) => flags
                .iter()
                .find(|flag| flag.short == Some(letter))
                .copied(),
        };
        let Some(flag) = found else {
            bail!("unknown flag {}", unknown(&parser))
        };
        let value = match flag.value {
            Some(_) => parser.value().with_context(|| format!("--{}", flag.long))?,
            None => parser.optional_value().unwrap_or_default(),
        };
        matches.flags.push((flag.long, value));
    }
}

fn unknown(parser: &lexopt::Parser) -> String {
    // lexopt keeps what it parsed last only in its own error.
    format!("{:?}", parser)
        .split("last_option: ")
        .nth(1)
        .map_or_else(
            || "on the command line".to_owned(),
            |text| {
                let name: String = text
                    .chars()
                    .skip_while(|c| *c != '"' && *c != '\'')
                    .skip(1)
                    .take_while(|c| *c != '"' && *c != '\'')
                    .collect();
                format!("`{name}`")
            },
        )
}

/// Gives long flags with one dash their second one.
fn long_dashes(
    words: Vec<OsString>,
    flags: &[&'static Flag],
    rest_from: Option<usize>,
) -> Vec<OsString> {
    let mut operands = 0;
    let mut value_next = false;
    let mut result = Vec::with_capacity(words.len());
    let mut all_operands = false;
    for word in words {
        let text = word.to_str().unwrap_or_default();
        let in_rest = all_operands || rest_from.is_some_and(|from| operands >= from);
        if in_rest || std::mem::take(&mut value_next) {
            result.push(word);
            continue;
        }
        if text == "--" {
            all_operands = true;
        } else if let Some(name) = text.strip_prefix("--") {
            value_next = takes_next(name, flags);
        } else if let Some(name) = text.strip_prefix('-').filter(|name| name.len() > 1) {
            let plain = name.split('=').next().unwrap_or_default();
            if flags.iter().any(|flag| flag.long == plain) {
                value_next = takes_next(name, flags);
                result.push(format!("-{text}").into());
                continue;
            }
        } else if let Some(letter) = text.strip_prefix('-').and_then(|name| name.chars().next()) {
            value_next = flags
                .iter()
                .any(|flag| flag.short == Some(letter) && flag.value.is_some());
        } else {
            operands += 1;
        }
        result.push(word);
    }
    result
}

fn takes_next(name: &str, flags: &[&'static Flag]) -> bool {
    flags
        .iter()
        .any(|flag| flag.long == name && flag.value.is_some())
}

/// Checks the number of operands.
///
/// # Errors
/// When there are too few or too many.
pub fn check_count(command: &Command, matches: &Matches) -> Result<()> {
    let (least, most) = command.count;
    let count = matches.operands.len();
    if count < least || count > most {
        let (name, operands) = (command.name, command.operands);
        bail!("{name}: wanted {operands}, got {count} operands; see `seedpod {name} --help`");
    }
    Ok(())
}

/// The help text of one command.
pub fn help(program: &str, command: &Command) -> String {
    let usage = format!("{program} {} [flags] {}", command.name, command.operands);
    let mut text = format!("{}\n\nUsage: {}\n", command.about, usage.trim_end());
    let _ = write!(text, "\nFlags:\n{}", flag_lines(command.flags));
    if !command.examples.is_empty() {
        text.push_str("\nExamples:\n");
        for example in command.examples {
            let _ = writeln!(text, "  {example}");
        }
    }
    text
}

/// Flags, lined up.
pub fn flag_lines(flags: &[Flag]) -> String {
    let names: Vec<_> = flags
        .iter()
        .map(|flag| {
            let short = flag
                .short
                .map_or("    ".to_owned(), |letter| format!("-{letter}, "));
            let value = flag.value.map_or(String::new(), |name| format!(" {name}"));
            format!("  {short}--{}{value}", flag.long)
        })
        .chain(["  -h, --help".to_owned()])
        .collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let helps = flags
        .iter()
        .map(|flag| flag.help)
        .chain(["print this help"]);
    let mut text = String::new();
    for (name, help) in names.iter().zip(helps) {
        let _ = writeln!(text, "{name:<width$}  {help}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: [Flag; 3] = [
        value("bundle", Some('b'), "DIR", ""),
        switch("detach", Some('d'), ""),
        value("env", Some('e'), "NAME=VALUE", ""),
    ];

    fn words(list: &[&str]) -> Vec<OsString> {
        list.iter().map(Into::into).collect()
    }

    fn of(list: &[&str], rest_from: Option<usize>) -> Result<Matches> {
        parse(words(list), &[&FLAGS], rest_from)
    }

    #[test]
    fn flags_stand_before_and_after_operands() {
        for list in [
            &["--bundle", "x", "id", "-d"][..],
            &["id", "-d", "--bundle=x"],
            &["-bx", "-d", "id"],
        ] {
            let it = of(list, None).unwrap();
            assert_eq!(it.get("bundle").unwrap(), "x", "{list:?}");
            assert!(it.has("detach"));
            assert_eq!(it.operands, ["id"]);
        }
    }

    #[test]
    fn one_dash_is_enough_for_long_flags() {
        let it = of(&["-detach", "-bundle", "-detach", "id"], None).unwrap();
        assert!(it.has("detach"));
        assert_eq!(it.get("bundle").unwrap(), "-detach");
        let it = of(&["-bundle=x"], None).unwrap();
        assert_eq!(it.get("bundle").unwrap(), "x");
    }

    #[test]
    fn program_and_its_arguments_are_taken_as_they_are() {
        for list in [
            &["id", "-d", "ls", "-d", "--bundle"][..],
            &["-d", "id", "--", "ls", "-d", "--bundle"],
        ] {
            let it = of(list, Some(2)).unwrap();
            assert_eq!(it.operands, ["id", "ls", "-d", "--bundle"], "{list:?}");
            assert!(it.get("bundle").is_none());
        }
    }

    #[test]
    fn unknown_flags_are_named() {
        for list in [["--nope"], ["-n"]] {
            let error = of(&list, None).unwrap_err().to_string();
            assert!(error.contains("unknown flag `"), "{error}");
        }
    }

    #[test]
    fn switch_takes_false() {
        assert!(!of(&["--detach=false"], None).unwrap().has("detach"));
    }
}
