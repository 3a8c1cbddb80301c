//! Rules of the house that the compiler does not know: headers, layers, where unsafe code may be, how long a file, a
//! function and a line may get.
#![allow(clippy::disallowed_methods, reason = "reads the sources")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// No file is longer: it has a seam somewhere to be split along.
const LINES_MAX: usize = 800;

/// No line is wider, but for text in quotes that cannot be broken.
const COLUMNS_MAX: usize = 120;

/// No function is longer.
const FUNCTION_LINES_MAX: usize = 100;

/// Names that types of different files share, and why they may. What is public has a name of its own, so that a reader
/// who meets one knows what it is. The simulator is another world, where clients have what the broker has.
const SHARED_TYPE_NAMES: &[(&str, &str)] = &[
    (
        "Reader",
        "takes values off bytes, in the format of its folder",
    ),
    (
        "Writer",
        "puts values behind bytes, in the format of its folder",
    ),
    ("Entry", "of the journal; of the coordinator's table"),
    ("Found", "in a store, by those who look at one"),
    ("Read", "how a store's bytes are read"),
    (
        "Record",
        "what a record is; what the coordinator writes as one",
    ),
    ("Segment", "of a log; what the store holds of it"),
    ("Then", "what follows when something is written"),
];

/// Where types may be named as elsewhere: the simulator, and the shard that stands in for the broker's in tests.
const OTHER_WORLDS: &[&str] = &["src/sim/", "src/runtime/fake.rs"];

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

/// The layers of `src/` from the bottom up, and what each may name of others: the first table of ARCHITECTURE.md, whose
/// last column has folders, or one name of a folder's.
fn layers() -> Vec<(String, Vec<String>)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    layers_of(&std::fs::read_to_string(page).unwrap())
}

fn layers_of(page: &str) -> Vec<(String, Vec<String>)> {
    let mut layers: Vec<(String, Vec<String>)> = Vec::new();
    let rows = page.lines().skip_while(|l| !l.contains("| May import |"));
    for row in rows.skip(2).take_while(|l| l.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`').trim_end_matches('/');
        let below = |last: &str| {
            let names = layers.iter().map(|(name, _)| name.clone());
            let end = names.clone().position(|name| name == last);
            names.take(end.map_or(layers.len(), |at| at + 1)).collect()
        };
        let may = match cells[cells.len() - 1] {
            "the library" => continue,
            "nothing" => Vec::new(),
            "all above" => below(""),
            "`broker` and below" => below("broker"),
            named => named
                .split(", ")
                .map(|n| n.trim_matches('`').to_owned())
                .collect(),
        };
        layers.push((name.to_owned(), may));
    }
    layers
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

/// The module that a file of `src/` is.
fn module(path: &str) -> Vec<&str> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<&str> = path.split('/').collect();
    module.pop_if(|last| *last == "mod");
    module
}

/// Code without what is for tests alone at its end.
fn without_tests(code: &str) -> &str {
    let inline = code.match_indices("#[cfg(test)]").find(|(at, mark)| {
        let item = code[at + mark.len()..].trim_start();
        let opens = item
            .find(['{', ';'])
            .is_some_and(|at| item[at..].starts_with('{'));
        item.starts_with("mod ") && opens
    });
    inline.map_or(code, |(at, _)| &code[..at])
}

/// Whether a file is for tests alone.
fn is_test(path: &str) -> bool {
    path.contains("test")
}

/// The types that code makes public, wherever they can be seen from.
fn public_types(code: &str) -> impl Iterator<Item = String> {
    without_tests(code).lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("pub")?;
        let rest = match rest.strip_prefix('(') {
            Some(inside) => inside.split_once(')')?.1,
            None => rest,
        };
        let (kind, name) = rest.trim_start().split_once(' ')?;
        let is_type = ["struct", "enum", "trait", "type", "union"].contains(&kind);
        let name: String = name.chars().take_while(|&c| is_word(c)).collect();
        (is_type && !name.is_empty()).then_some(name)
    })
}

/// The paths that code names: those of `use`, each by itself, and others with two parts or more.
fn paths_named(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(|c: char| is_word(c)) {
        let before = &code[..code.len() - rest.len() + at];
        // `pub(in path)` says who may look, and needs nothing.
        let is_visibility = before.trim_end().ends_with("(in");
        rest = &rest[at..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if &rest[..end] == "use" {
            let statement = rest[end..].split(';').next().unwrap_or_default();
            tree(
                &statement.split_whitespace().collect::<Vec<_>>().join(" "),
                &[],
                &mut paths,
            );
            rest = &rest[end + statement.len()..];
            continue;
        }
        let len = rest.find(|c| !is_word(c) && c != ':').unwrap_or(rest.len());
        let path: Vec<String> = rest[..len].split("::").map(str::to_owned).collect();
        if path.len() > 1 && !is_visibility && path.iter().all(|part| part.chars().all(is_word)) {
            paths.push(path);
        }
        rest = &rest[len.max(end)..];
    }
    paths
}

/// The paths of a tree of `use`, with what stands before it.
fn tree(text: &str, before: &[String], paths: &mut Vec<Vec<String>>) {
    let text = text.split(" as ").next().unwrap_or_default().trim();
    let (head, inner) = text.split_once('{').unwrap_or((text, ""));
    let mut path = before.to_vec();
    let parts = head
        .split("::")
        .map(str::trim)
        .filter(|part| !part.is_empty());
    path.extend(parts.map(str::to_owned));
    let Some(inner) = inner.strip_suffix('}') else {
        return paths.push(path);
    };
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[from..at].trim().is_empty() {
                    tree(&inner[from..at], &path, paths);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// The modules among `all` that a module needs for what it names.
fn needed<'a>(me: &[&str], code: &str, all: &[Vec<&'a str>]) -> Vec<Vec<&'a str>> {
    let mut needed = Vec::new();
    for path in paths_named(without_tests(code)) {
        let mut base = me.to_vec();
        let mut path: &[String] = &path;
        match path[0].as_str() {
            "crate" => (base, path) = (Vec::new(), &path[1..]),
            "self" => path = &path[1..],
            _ => {
                while path.first().is_some_and(|part| part == "super") {
                    base.pop();
                    path = &path[1..];
                }
            }
        }
        base.extend(path.iter().map(String::as_str));
        while !base.is_empty() && !all.contains(&base) {
            base.pop();
        }
        if base != me
            && let Some(found) = all.iter().find(|module| **module == base)
        {
            needed.push(found.clone());
        }
    }
    needed
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

/// A file that takes a name from its parent's re-exports depends on the parent; what is for tests alone does not count.
#[test]
fn no_files_depend_on_each_other_in_a_circle() {
    let mut complaints = Vec::new();
    let sources = sources();
    for (layer, _) in layers() {
        let folder = format!("src/{layer}/");
        let files: Vec<&Source> = sources
            .iter()
            .filter(|s| s.path.starts_with(&folder) && !is_test(&s.path))
            .collect();
        assert!(!files.is_empty(), "{folder} is gone");
        let modules: Vec<Vec<&str>> = files.iter().map(|s| module(&s.path)).collect();
        let needed: Vec<Vec<usize>> = files
            .iter()
            .zip(&modules)
            .map(|(source, me)| {
                let needed = needed(me, &source.code, &modules).into_iter();
                needed
                    .filter_map(|of| modules.iter().position(|module| *module == of))
                    .collect()
            })
            .collect();
        complaints.extend(circles(&needed).iter().map(|circle| {
            let paths: Vec<&str> = circle
                .iter()
                .map(|file| files[*file].path.as_str())
                .collect();
            format!("{} -> the first one", paths.join(" -> "))
        }));
    }
    no_complaints(&complaints);
}

/// For each that needs itself by way of others, the shortest such way, unless one that was found before is on it.
fn circles(needed: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut found: Vec<Vec<usize>> = Vec::new();
    for from in 0..needed.len() {
        let mut ways = std::collections::VecDeque::from([vec![from]]);
        let mut seen = vec![false; needed.len()];
        while let Some(way) = ways.pop_front() {
            let last = way[way.len() - 1];
            if needed[last].contains(&from) {
                if !found
                    .iter()
                    .any(|other| other.iter().any(|file| way.contains(file)))
                {
                    found.push(way);
                }
                break;
            }
            for next in needed[last]
                .iter()
                .filter(|next| !std::mem::replace(&mut seen[**next], true))
            {
                ways.push_back(way.iter().copied().chain([*next]).collect());
            }
        }
    }
    found
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
fn a_type_name_means_one_thing() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        let is_other = OTHER_WORLDS
            .iter()
            .any(|world| source.path.starts_with(world));
        if !source.path.starts_with("src/") || is_other || is_test(&source.path) {
            continue;
        }
        for name in public_types(&source.code) {
            places.entry(name).or_default().push(source.path.clone());
        }
    }
    let may_be = |name: &str| SHARED_TYPE_NAMES.iter().any(|(shared, _)| *shared == name);
    let twice = places
        .iter()
        .filter(|(name, paths)| paths.len() > 1 && !may_be(name));
    let complaints = twice.map(|(name, paths)| format!("{name}: {}", paths.join(", ")));
    let unused = SHARED_TYPE_NAMES
        .iter()
        .filter(|(name, _)| places.get(*name).is_none_or(|paths| paths.len() < 2));
    let unused = unused.map(|(name, _)| format!("{name} may be shared, and is not"));
    no_complaints(&complaints.chain(unused).collect::<Vec<_>>());
}

#[test]
fn dependencies_point_down() {
    let mut complaints = Vec::new();
    let layers = layers();
    let mut unused = layers.clone();
    for source in sources() {
        let Some((layer, _)) = source
            .path
            .strip_prefix("src/")
            .and_then(|p| p.split_once('/'))
        else {
            continue;
        };
        let Some(at) = layers.iter().position(|(name, _)| name == layer) else {
            complaints.push(format!(
                "{}: src/{layer} is not in the table of layers",
                source.path
            ));
            continue;
        };
        for path in paths_named(&source.code) {
            // Names that are no layer are the crate's own re-exports or macros.
            let is_layer = |part: &String| layers.iter().any(|(name, _)| name == part);
            let part = path
                .get(1)
                .filter(|part| path[0] == "crate" && is_layer(part));
            let Some(part) = part.filter(|part| *part != layer) else {
                continue;
            };
            let whole = path[1..].join("::");
            // Tests may take what a layer's tests are made with.
            let allowed = |may: &String| match is_test(&source.path) {
                true => may.split("::").next() == Some(part),
                false => format!("{whole}::").starts_with(&format!("{may}::")),
            };
            if !layers[at].1.iter().any(allowed) {
                complaints.push(format!("{}: {layer} may not use {whole}", source.path));
            }
            unused[at].1.retain(|may| !allowed(may));
        }
    }
    // What drives the broker may name all of it.
    for (layer, may) in unused
        .iter()
        .filter(|(name, _)| !["broker", "runtime", "sim"].contains(&name.as_str()))
    {
        complaints.extend(
            may.iter()
                .map(|part| format!("{layer} may use {part}, and does not")),
        );
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
fn circles_are_seen() {
    let files = [
        "src/a/mod.rs",
        "src/a/b.rs",
        "src/a/c/mod.rs",
        "src/a/c/d.rs",
    ];
    let all: Vec<Vec<&str>> = files.map(module).to_vec();
    let needs = |me: usize, code: &str| -> Vec<String> {
        let needed = needed(&all[me], code, &all);
        needed.iter().map(|module| module.join("::")).collect()
    };
    assert_eq!(
        needs(0, "mod b; pub use b::{self, B}; use c::d::D as E;"),
        ["a::b", "a::b", "a::c::d"]
    );
    assert_eq!(
        needs(1, "use super::{B, c::{C, d::D}};"),
        ["a", "a::c", "a::c::d"]
    );
    assert_eq!(
        needs(3, "use super::*; use crate::a::b::B; use crate::x::Y;"),
        ["a::c", "a::b"]
    );
    assert_eq!(
        needs(3, "fn f() { super::super::b::g(crate::a::h()) }"),
        ["a::b", "a"]
    );
    assert_eq!(needs(2, "pub(in crate::a) fn f() { d::g() }"), ["a::c::d"]);
    assert_eq!(
        needs(
            1,
            "use std::x; #[cfg(test)] mod tests { use super::super::c; }"
        ),
        [""; 0]
    );
    assert_eq!(needs(1, "#[cfg(test)] mod tests; use super::c;"), ["a::c"]);
    let way = |needed: &[&[usize]]| circles(&needed.iter().map(|n| n.to_vec()).collect::<Vec<_>>());
    assert_eq!(way(&[&[1], &[2], &[]]), [[0usize; 0]; 0]);
    assert_eq!(way(&[&[1], &[2], &[3, 1], &[]]), [[1, 2]]);
    assert_eq!(way(&[&[1], &[2], &[0], &[3]]), [vec![0, 1, 2], vec![3]]);
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
        public_types("pub struct A;\n  pub(in crate::a) enum B<T> {\npub type C = D;\nstruct E;\npub fn f() {}")
            .collect::<Vec<_>>(),
        ["A", "B", "C"]
    );
    assert_eq!(
        paths_named("use crate::{base::{A, B}, store}; crate::wire::x()"),
        [
            ["crate", "base", "A"].as_slice(),
            &["crate", "base", "B"],
            &["crate", "store"],
            &["crate", "wire", "x"]
        ]
    );
    let page = "| Folder | May import |\n|---|---|\n| `a/` | nothing |\n| `b/` | `a` |\n| `broker/` | all above |\n\
        | `d/` | `b::X`, `a` |\n| `e/` | `broker` and below |\n| `f/` | the library |\n\n| `g/` | `a` |";
    let layers = layers_of(page);
    let names: Vec<String> = layers
        .iter()
        .map(|(name, may)| format!("{name}: {}", may.join(" ")))
        .collect();
    assert_eq!(
        names,
        ["a: ", "b: a", "broker: a b", "d: b::X a", "e: a b broker"]
    );
    assert_eq!(
        words("x unsafe{ todo!()")
            .map(|(_, w, _)| w)
            .collect::<Vec<_>>(),
        ["x", "unsafe", "todo"]
    );
}
