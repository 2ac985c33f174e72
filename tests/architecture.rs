//! Holds the rules of docs/architecture.md: who may use what, where unsafe code may be, what is
//! printed where, and that every file can be read in one sitting.
//!
//! It reads the sources as text, without their comments, strings and test modules. A rule that a
//! person must judge is not here.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Files may be this long, tests included.
const MAX_LINES: usize = 700;

/// Files that are tables and not prose; the reason for each.
const LONG_TABLES: &[(&str, &str)] = &[(
    "src/pod/manifest/vocabulary.rs",
    "every field of a Pod, a line each",
)];

/// Layers: the folder or file, what it may not use, and why.
const FORBIDDEN_USES: &[(&str, &[&str], &str)] = &[
    (
        "src/spec",
        &[
            "std::fs",
            "std::io",
            "std::net",
            "std::process",
            "std::env",
            "crate::sys",
            "crate::child",
            "crate::launch",
            "crate::container",
            "crate::pod",
            "crate::image",
            "nix::unistd",
            "nix::fcntl",
            "nix::mount",
            "nix::sys",
        ],
        "the meaning of a configuration is the same everywhere: no input or output",
    ),
    (
        "src/plan",
        &[
            "std::fs",
            "std::io",
            "std::net",
            "std::process",
            "std::env",
            "crate::sys",
            "crate::child",
            "crate::launch",
            "crate::container",
            "crate::pod",
            "crate::image",
            "nix::unistd",
            "nix::fcntl",
            "nix::mount",
            "nix::sys",
        ],
        "the same configuration gives the same plan everywhere: no input or output",
    ),
    (
        "src/pod",
        &["crate::child", "crate::sys"],
        "policy above, mechanism below",
    ),
    (
        "src/cli",
        &["crate::child", "crate::sys"],
        "policy above, mechanism below",
    ),
    (
        "src/cli/runtime",
        &["crate::pod", "crate::image"],
        "the runtime stays small",
    ),
    (
        "src/main.rs",
        &["seedpod::pod", "seedpod::image"],
        "the runtime stays small",
    ),
    (
        "src/container",
        &["crate::pod", "crate::image", "crate::cli"],
        "the runtime stays small",
    ),
    (
        "src/launch",
        &["crate::pod", "crate::image", "crate::cli"],
        "mechanism knows no policy",
    ),
    (
        "src/child",
        &["crate::pod", "crate::image", "crate::cli", "crate::launch"],
        "mechanism knows no policy",
    ),
    (
        "src/cgroup",
        &["crate::pod", "crate::image", "crate::cli"],
        "mechanism knows no policy",
    ),
    (
        "src/seccomp",
        &["crate::pod", "crate::image", "crate::cli", "crate::child"],
        "it only compiles",
    ),
    (
        "src/sys",
        &[
            "crate::cli",
            "crate::pod",
            "crate::image",
            "crate::container",
            "crate::launch",
            "crate::plan",
            "crate::spec",
        ],
        "thin wrappers know nobody above them",
    ),
];

/// Words that allocate or panic; the child may do neither.
const NOT_IN_CHILD: &[&str] = &[
    "Vec",
    "String",
    "Box",
    "Rc",
    "Arc",
    "CString",
    "PathBuf",
    "OsString",
    "HashMap",
    "BTreeMap",
    "format!",
    "vec!",
    "println!",
    "eprintln!",
    "panic!",
    "assert!",
    "assert_eq!",
    "unreachable!",
    "todo!",
    ".unwrap()",
    ".expect(",
    ".to_string()",
    ".to_owned()",
    ".to_vec()",
    ".collect()",
    "anyhow",
];

const PRINTS: &[&str] = &["println!", "print!", "eprintln!", "eprint!", "dbg!"];

/// What anybody may name of `sys`: data, no calls.
const ONLY_DATA: &[&str] = &["sys::process::ExecStrings", "sys::mount::attr"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if !name.starts_with("target") && name != ".git" {
                files(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

struct Source {
    /// From the project's root: `src/plan/op.rs`.
    name: String,
    text: String,
    /// Without comments, strings and test modules; line numbers are kept.
    code: String,
}

impl Source {
    /// A file that is only compiled for tests.
    fn is_test(&self) -> bool {
        let name = self.name.rsplit('/').next().unwrap_or_default();
        name == "tests.rs" || name == "testing.rs" || name.ends_with("_tests.rs")
    }

    fn is_in(&self, place: &str) -> bool {
        self.name == place
            || self.name == format!("{place}.rs")
            || self.name.starts_with(&format!("{place}/"))
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files(&root().join("src"), &mut paths);
    paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let name = path
                .strip_prefix(root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let is_tests = name.ends_with("/tests.rs") || name.contains("/tests/");
            let code = if is_tests {
                String::new()
            } else {
                without_tests(&without_words(&text))
            };
            Source { name, text, code }
        })
        .collect()
}

/// Blanks comments, strings and character literals.
fn without_words(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    let blank = |code: &mut String, part: &[char]| {
        code.extend(part.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    };
    while at < chars.len() {
        let rest = &chars[at..];
        let before = at.checked_sub(1).map(|index| chars[index]);
        let length = if rest.starts_with(&['/', '/']) {
            rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
        } else if rest.starts_with(&['/', '*']) {
            rest.windows(2)
                .position(|pair| pair == ['*', '/'])
                .map_or(rest.len(), |index| index + 2)
        } else if rest[0] == 'r'
            && !before.is_some_and(char::is_alphanumeric)
            && raw_string(rest).is_some()
        {
            raw_string(rest).unwrap()
        } else if rest[0] == '"' {
            quoted(rest, '"')
        } else if rest[0] == '\'' && (rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')) {
            quoted(rest, '\'')
        } else {
            code.push(rest[0]);
            at += 1;
            continue;
        };
        blank(&mut code, &rest[..length]);
        at += length;
    }
    code
}

fn quoted(rest: &[char], end: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != end {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let body = 2 + hashes;
    let found = rest[body..]
        .windows(end.len())
        .position(|window| window == end)?;
    Some(body + found + end.len())
}

/// Blanks every item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..start]);
        let item = &rest[start..];
        let mut depth = 0_usize;
        let mut end = item.len();
        for (index, c) in item.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 => {}
                _ => continue,
            }
            if depth == 0 && c != '{' {
                end = index + 1;
                break;
            }
        }
        kept.extend(item[..end].chars().filter(|c| *c == '\n'));
        rest = &item[end..];
    }
    kept.push_str(rest);
    kept
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The lines where a word stands by itself.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let starts_as_word = word.starts_with(is_word);
    let ends_as_word = word.ends_with(is_word);
    let mut found = Vec::new();
    for (index, _) in code.match_indices(word) {
        let before = code[..index].chars().next_back();
        let after = code[index + word.len()..].chars().next();
        if (starts_as_word && before.is_some_and(is_word))
            || (ends_as_word && after.is_some_and(is_word))
        {
            continue;
        }
        found.push(code[..index].matches('\n').count() + 1);
    }
    found
}

/// Every path that is used: those written out, and those inside `use a::{b, c::d}`.
fn used_paths(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for (index, _) in code.match_indices("use ") {
        if code[..index].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let line = code[..index].matches('\n').count() + 1;
        let tree = code[index + 4..].split(';').next().unwrap();
        let tree: String = tree.chars().filter(|c| !c.is_whitespace()).collect();
        flatten("", &tree, &mut |path| paths.push((line, path)));
    }
    paths
}

fn flatten(prefix: &str, tree: &str, found: &mut dyn FnMut(String)) {
    let Some(open) = tree.find('{') else {
        found(format!("{prefix}{tree}"));
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let inner = tree[open + 1..]
        .strip_suffix('}')
        .unwrap_or(&tree[open + 1..]);
    let (mut depth, mut start) = (0_usize, 0);
    for (index, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                flatten(&prefix, &inner[start..index], found);
                start = index + 1;
            }
            _ => {}
        }
    }
    if start < inner.len() {
        flatten(&prefix, &inner[start..], found);
    }
}

fn none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn only_sys_and_pause_have_unsafe_code() {
    let mut broken = Vec::new();
    for source in sources() {
        if source.is_in("src/sys") || source.is_in("src/pause") {
            continue;
        }
        for line in lines_with(&source.code, "unsafe") {
            broken.push(format!("{}:{line}", source.name));
        }
    }
    none(&broken, "unsafe code belongs into src/sys");
}

#[test]
fn no_layer_reaches_where_it_may_not() {
    let mut broken = Vec::new();
    for source in sources() {
        for (place, forbidden, why) in FORBIDDEN_USES {
            if !source.is_in(place) {
                continue;
            }
            let used = used_paths(&source.code);
            for path in *forbidden {
                let inside = format!("{path}::");
                let in_use = used
                    .iter()
                    .filter(|(_, used)| used == path || used.starts_with(&inside))
                    .map(|(line, _)| *line);
                let mut lines: Vec<usize> = in_use.chain(lines_with(&source.code, path)).collect();
                lines.sort_unstable();
                lines.dedup();
                lines.retain(|line| {
                    let text = source.code.lines().nth(line - 1).unwrap_or_default();
                    !ONLY_DATA.iter().any(|data| text.contains(data))
                });
                for line in lines {
                    broken.push(format!("{}:{line} uses {path}: {why}", source.name));
                }
            }
        }
    }
    none(&broken, "layers");
}

#[test]
fn the_child_neither_allocates_nor_panics() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.is_in("src/child")) {
        for word in NOT_IN_CHILD {
            for line in lines_with(&source.code, word) {
                broken.push(format!("{}:{line} has {word}", source.name));
            }
        }
    }
    none(&broken, "after clone3 the child may not allocate or panic");
}

#[test]
fn only_the_command_line_prints() {
    let mut broken = Vec::new();
    for source in sources() {
        let prints = ["src/cli", "src/main.rs", "src/bin"]
            .iter()
            .any(|place| source.is_in(place));
        if prints || source.is_test() {
            continue;
        }
        for word in PRINTS {
            for line in lines_with(&source.code, word) {
                broken.push(format!("{}:{line} has {word}", source.name));
            }
        }
    }
    none(&broken, "printing belongs into src/cli");
}

#[test]
fn every_file_can_be_read_in_one_sitting() {
    let mut broken = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let is_table = LONG_TABLES.iter().any(|(name, _)| *name == source.name);
        if lines >= MAX_LINES && !is_table {
            broken.push(format!("{}: {lines} lines", source.name));
        }
    }
    none(&broken, "a file is one concept, under 700 lines");
}

#[test]
fn every_module_says_what_it_is() {
    let mut broken = Vec::new();
    for source in sources() {
        let first = source.text.lines().find(|line| !line.starts_with("#!"));
        if !first.is_some_and(|line| line.starts_with("//!")) {
            broken.push(source.name);
        }
    }
    none(&broken, "a file starts with //!");
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    // Put together here, so that this file does not hold them.
    let words = [
        ["/wo", "rk/"].concat(),
        ["/tmp/", "wt"].concat(),
        ["artifact", "ory"].concat(),
        ["/root/", ".cargo"].concat(),
    ];
    let mut paths = Vec::new();
    files(root(), &mut paths);
    let mut broken = Vec::new();
    for path in paths {
        // A worktree's .git is a file with a path; what is not text has no words.
        if path == root().join(".git") {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for word in &words {
            // A path of a container's or a pod's own is none of the machine's.
            for (index, _) in text.match_indices(word.as_str()) {
                let before = text[..index].chars().next_back();
                if before.is_some_and(|c| is_word(c) || "./}>-$*)".contains(c)) {
                    continue;
                }
                let line = text[..index].matches('\n').count() + 1;
                broken.push(format!("{}:{line} has {word}", path.display()));
            }
        }
    }
    none(
        &broken,
        "paths and hosts of a machine do not belong into the project",
    );
}

#[test]
fn the_reader_of_sources_sees_through_comments_strings_and_tests() {
    let text = "// unsafe\nlet a = \"unsafe \\\" unsafe\"; let b = r#\"unsafe\"#; let c = '\"';\n\
                #[cfg(test)]\nmod tests { fn f() { unsafe {} } }\nfn g() { unsafe {} }\n";
    let code = without_tests(&without_words(text));
    assert_eq!(lines_with(&code, "unsafe"), [5]);
    let used = used_paths("use crate::{error::Failure, sys::{mount, clone}};\nuse std::fs;\n");
    let expected = [
        (1, "crate::error::Failure".to_owned()),
        (1, "crate::sys::mount".to_owned()),
        (1, "crate::sys::clone".to_owned()),
        (2, "std::fs".to_owned()),
    ];
    assert_eq!(used, expected);
}

/// `make test` builds the programs first and names them; without that there is nothing to read.
#[test]
fn the_runtime_is_linked_without_what_only_pods_need() {
    let Some(program) = std::env::var_os("SEEDPOD_BIN") else {
        return;
    };
    let bytes = fs::read(&program).unwrap();
    let holds = |word: &str| {
        bytes
            .windows(word.len())
            .any(|part| part == word.as_bytes())
    };
    let heavy = [
        "saphyr",
        "clap_builder",
        "comfy-table",
        "ruzstd",
        "indicatif",
    ];
    let found: Vec<String> = heavy
        .into_iter()
        .filter(|name| holds(name))
        .map(str::to_owned)
        .collect();
    none(&found, "crates that the runtime has no use for");
}
