//! Rules of the house that the compiler does not know: headers, layers, where unsafe code may be, how long a file, a
//! function and a line may get.
#![allow(clippy::disallowed_methods, reason = "reads the sources")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// No file is longer: it has a seam somewhere to be split along.
const LINES_MAX: usize = 800;

/// No line is wider, but for text in quotes that cannot be broken.
const COLUMNS_MAX: usize = 120;

/// No function is longer.
const FUNCTION_LINES_MAX: usize = 110;

/// Which parts of `src/` a part may name. What is not listed may name nothing.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("record", &["base"]),
    ("store", &["base"]),
    ("config", &["base", "record", "store"]),
    ("wire", &["base", "record", "store"]),
    ("log", &["base", "record", "config", "store"]),
    ("group", &["base", "record", "config"]),
    ("controller", &["base", "record", "config"]),
    (
        "broker",
        &[
            "base",
            "record",
            "config",
            "wire",
            "store",
            "log",
            "group",
            "controller",
        ],
    ),
    (
        "runtime",
        &[
            "base",
            "record",
            "config",
            "wire",
            "store",
            "log",
            "group",
            "controller",
            "broker",
        ],
    ),
    (
        "sim",
        &[
            "base",
            "record",
            "config",
            "wire",
            "store",
            "log",
            "group",
            "controller",
            "broker",
        ],
    ),
];

/// A source file, with its path from the repository's root.
struct Source {
    path: String,
    text: String,
    /// The text without comments and without what is in quotes.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "bench", "tools", "tests", "fuzz/src"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        let path = file
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        Source {
            path,
            code: code_only(&text),
            text,
        }
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The text with comments and the insides of literals blanked out; line breaks stay where they are.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(
                chars[at..end]
                    .iter()
                    .map(|&c| if c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    code
}

/// Where a comment or literal that begins at `at` ends; `at` if none begins there.
fn skipped(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or(' ');
    let in_word = at > 0 && is_word(chars[at - 1]);
    match chars[at] {
        '/' if next(1) == '/' => find(chars, at, &['\n']),
        '/' if next(1) == '*' => find(chars, at + 2, &['*', '/']) + 2,
        '"' => quoted(chars, at + 1, '"'),
        'r' if !in_word && (next(1) == '"' || next(1) == '#') => raw(chars, at),
        // A lifetime has no closing quote after one character.
        '\'' if next(1) == '\\' || next(2) == '\'' => quoted(chars, at + 1, '\''),
        _ => at,
    }
    .min(chars.len())
}

fn raw(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at; // A raw identifier.
    }
    let mut close = vec!['#'; hashes + 1];
    close[0] = '"';
    find(chars, at + hashes + 2, &close) + close.len()
}

fn quoted(chars: &[char], mut at: usize, close: char) -> usize {
    while at < chars.len() && chars[at] != close {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn find(chars: &[char], from: usize, wanted: &[char]) -> usize {
    (from..chars.len())
        .find(|&i| chars[i..].starts_with(wanted))
        .unwrap_or(chars.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every word of the code with the character after it and the line it is on.
fn words(code: &str) -> impl Iterator<Item = (usize, &str, char)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        line.split(|c| !is_word(c))
            .filter(|w| !w.is_empty())
            .map(move |word| {
                let after = line[word.as_ptr() as usize - line.as_ptr() as usize + word.len()..]
                    .chars()
                    .next();
                (number + 1, word, after.unwrap_or(' '))
            })
    })
}

/// The parts of the crate that code names: `crate::x` and the heads of `crate::{x, y::z}`.
fn parts_named(code: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if !rest.starts_with('{') {
            parts.push(rest.chars().take_while(|&c| is_word(c)).collect());
            continue;
        }
        let mut depth = 0;
        let mut head = String::new();
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || (depth == 1 && c == ',') {
                parts.push(
                    head.trim()
                        .split("::")
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                );
                head.clear();
            } else if !(depth == 1 && c == '{') {
                head.push(c);
            }
            if depth == 0 {
                break;
            }
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// The functions with a body: in which line each begins, its name, and how many lines it has. As rustfmt leaves them:
/// the brace that closes one stands below its beginning.
fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        let Some((before, after)) = text.split_once("fn ") else {
            continue;
        };
        let is_head = before
            .split_whitespace()
            .all(|word| word.starts_with("pub") || ["const", "async", "unsafe"].contains(&word));
        let name: String = after.chars().take_while(|&c| is_word(c)).collect();
        if !is_head || name.is_empty() || text.trim_end().ends_with([';', '}']) {
            continue;
        }
        let close = format!("{}}}", &line[..line.len() - text.len()]);
        let end = lines[at..].iter().position(|l| l.trim_end() == close);
        found.extend(end.map(|n| (at + 1, name, n + 1)));
    }
    found
}

/// Fails with all complaints at once.
fn no_complaints(complaints: &[String]) {
    let mut list = String::new();
    for complaint in complaints {
        writeln!(list, "  {complaint}").unwrap();
    }
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{list}",
        complaints.len()
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = |s: &Source| {
        (!s.text.starts_with("//!")).then(|| format!("{}: does not begin with //!", s.path))
    };
    no_complaints(&sources().iter().filter_map(silent).collect::<Vec<_>>());
}

#[test]
fn no_file_is_too_long() {
    let long = |s: &Source| {
        let lines = s.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines, {LINES_MAX} are allowed", s.path))
    };
    no_complaints(&sources().iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn no_line_is_too_wide() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            let is_comment = line.trim_start().starts_with("//");
            if columns > COLUMNS_MAX && (is_comment || !line.contains('"')) {
                complaints.push(format!("{}:{}: {columns} columns", source.path, number + 1));
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn no_function_is_too_long() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (line, name, lines) in functions(&source.code) {
            if lines > FUNCTION_LINES_MAX {
                complaints.push(format!("{}:{line}: {name} has {lines} lines", source.path));
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn dependencies_point_down() {
    let mut complaints = Vec::new();
    for source in sources() {
        let Some((layer, _)) = source
            .path
            .strip_prefix("src/")
            .and_then(|p| p.split_once('/'))
        else {
            continue;
        };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            complaints.push(format!(
                "{}: src/{layer} is not in the table of layers",
                source.path
            ));
            continue;
        };
        for part in parts_named(&source.code) {
            // Names that are no layer are the crate's own re-exports or macros.
            let is_layer = LAYERS.iter().any(|(name, _)| *name == part);
            if is_layer && part != layer && !allowed.contains(&part.as_str()) {
                complaints.push(format!("{}: {layer} may not use {part}", source.path));
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn the_kernel_is_touched_in_runtime_only() {
    let mut complaints = Vec::new();
    for source in sources()
        .iter()
        .filter(|s| !s.path.starts_with("src/runtime/"))
    {
        for (line, word, after) in words(&source.code) {
            // `unsafe` in an attribute or a lint's name is another word.
            let is_unsafe = word == "unsafe" && after != ')';
            if is_unsafe || word == "glommio" || word == "io_uring" {
                complaints.push(format!(
                    "{}:{line}: {word} belongs into src/runtime",
                    source.path
                ));
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (line, word, after) in words(&source.code) {
            if after == '!' && ["todo", "unimplemented", "dbg"].contains(&word) {
                complaints.push(format!("{}:{line}: {word}!", source.path));
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn no_file_is_dead() {
    let all = sources();
    let mut complaints = Vec::new();
    for source in &all {
        let path = Path::new(&source.path);
        let (stem, folder) = (
            path.file_stem().unwrap().to_str().unwrap(),
            path.parent().unwrap(),
        );
        // Cargo finds these by itself.
        let is_test = ["tests", "tools/tests"]
            .iter()
            .any(|f| folder == Path::new(f));
        if is_test || ["lib", "main"].contains(&stem) {
            continue;
        }
        // `a/mod.rs` is declared beside `a`, every other file beside itself or in the file named as its folder.
        let (name, near) = match stem {
            "mod" => (
                folder.file_name().unwrap().to_str().unwrap(),
                folder.parent().unwrap(),
            ),
            _ => (stem, folder),
        };
        let declared = |s: &Source| {
            s.code.contains(&format!("mod {name};")) || s.text.contains(&format!("\"{name}.rs\""))
        };
        let beside = |s: &Source| {
            Path::new(&s.path).parent() == Some(near)
                || Path::new(&s.path).with_extension("") == near
        };
        if !all.iter().any(|s| beside(s) && declared(s)) {
            complaints.push(format!("{}: no file declares it as a module", source.path));
        }
    }
    no_complaints(&complaints);
}

#[test]
fn the_rules_see_what_they_should() {
    assert_eq!(
        code_only("a // unsafe\n'\"' b \"todo!\\\"\" r#\"dbg!\"# 'a /* x */ c")
            .split_whitespace()
            .collect::<String>(),
        "ab'ac"
    );
    assert_eq!(
        functions(
            "impl A {\n    pub(super) const fn a(\n        b: u8,\n    ) {\n        c()\n    }\n    fn d() {}\n}"
        ),
        [(2, "a".to_owned(), 5)]
    );
    assert_eq!(
        parts_named("use crate::{base::{A, B}, store}; crate::wire::x()"),
        ["base", "store", "wire"]
    );
    assert_eq!(
        words("x unsafe{ todo!()")
            .map(|(_, w, _)| w)
            .collect::<Vec<_>>(),
        ["x", "unsafe", "todo"]
    );
}
