//! The architecture as a table, and the style rules that a machine can check.
//!
//! [`LAYERS`] lists the modules of the crate from bottom to top. A module uses only modules above it in the table (below
//! it in the stack), and exactly those that its line names: the test fails for a dependency that is missing from the
//! table, and for one that the code no longer has. Unit tests are exempt.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a test that cannot read the tree should fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// One module: its name, its purpose, and the modules that it uses.
type Layer = (&'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const LAYERS: &[Layer] = &[
    ("hex", "hexadecimal text", &[]),
    ("digest", "SHA-256 of several parts", &[]),
    ("sync", "locks that ignore poisoning", &[]),
    ("drain", "the signal to finish, and the wait for what has to", &[]),
    ("reason", "the closed list of reason codes, and the rejection that carries one", &[]),
    ("config", "the config file: parsing, diagnostics, merging of policy levels", &[]),
    ("request", "the request head: normalization, host, path, known headers", &["reason"]),
    ("auth", "authentication: JWT, basic auth, API keys, and the keys of providers", &["digest", "sync", "reason", "config", "request"]),
    ("authz", "authorization: rules, and CEL with its type checker and budget", &["reason", "config", "request"]),
    ("body", "request bodies: size, idle time and trailers", &["reason", "request"]),
    ("telemetry", "access log, metrics, spans, application log", &["hex", "sync", "reason", "request", "body"]),
    ("upstream", "connections to backends: load balancing, health, DNS, TLS, pool", &["sync", "reason", "body"]),
    ("router", "route matching", &["config", "request", "authz"]),
    ("policy", "the compiled policies other than authentication and authorization", &["reason", "request", "authz", "telemetry", "upstream"]),
    ("worker", "the resources of a worker thread", &["hex", "auth", "telemetry", "upstream"]),
    ("snapshot", "the compiled, immutable config that a request uses", &["config", "request", "auth", "authz", "telemetry", "upstream", "router", "policy"]),
    ("client", "client connections: their facts, lifetime guards and timeouts", &["drain", "request", "body", "worker", "snapshot"]),
    ("decision", "the decision on a request: authentication, then authorization", &["reason", "request", "auth", "authz", "snapshot"]),
    ("compile", "config to snapshot, and state carried over a reload", &["digest", "sync", "config", "request", "auth", "authz", "telemetry", "upstream", "router", "policy", "snapshot"]),
    ("proxy", "the request pipeline", &["reason", "request", "auth", "authz", "body", "telemetry", "upstream", "router", "policy", "worker", "snapshot", "client", "decision"]),
    ("listen", "listening sockets, TLS and HTTP connections of clients", &["drain", "reason", "request", "telemetry", "worker", "snapshot", "client", "proxy"]),
    ("state", "the active config and the readiness of the gateway", &["sync", "auth", "telemetry", "snapshot"]),
    ("explain", "a report of what the gateway would do with a request", &["reason", "config", "request", "auth", "authz", "router", "snapshot", "decision", "proxy"]),
    ("admin", "the admin, metrics and readiness servers", &["sync", "config", "request", "auth", "authz", "telemetry", "snapshot", "listen", "state", "explain"]),
    ("import", "translation of configs of other gateways", &["config", "authz"]),
    ("gateway", "the composition root: start, reload, drain", &["sync", "drain", "config", "auth", "telemetry", "worker", "snapshot", "compile", "listen", "state", "admin"]),
    ("cli", "the command line", &["reason", "config", "request", "auth", "authz", "telemetry", "upstream", "snapshot", "compile", "state", "explain", "import", "gateway"]),
    ("docs", "the generated reference pages", &["reason", "config", "authz", "telemetry", "cli"]),
];

#[test]
fn each_module_uses_only_the_layers_below_it() {
    let used = dependencies();
    let listed: Vec<&str> = LAYERS.iter().map(|(module, ..)| *module).collect();
    let mut errors = Vec::new();
    for module in used.keys().filter(|module| !listed.contains(&module.as_str())) {
        errors.push(format!("`{module}` is missing from the table"));
    }
    for (position, (module, _, allowed)) in LAYERS.iter().enumerate() {
        let Some(used) = used.get(*module) else {
            errors.push(format!("`{module}` is in the table, but there is no such module"));
            continue;
        };
        for (target, location) in used {
            if !listed[..position].contains(&target.as_str()) {
                errors.push(format!("{location}: `{module}` uses `{target}`, which is not below it"));
            }
        }
        let actual: BTreeSet<&str> = used.keys().map(String::as_str).collect();
        if actual != allowed.iter().copied().collect() {
            let in_order: Vec<&str> = listed.iter().copied().filter(|name| actual.contains(name)).collect();
            errors.push(format!("the line of `{module}` must list {in_order:?}"));
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

/// Words that make a free relative clause of a doc line (`What it does`), where a noun phrase or a verb belongs.
const FREE_RELATIVES: [&str; 7] = ["What", "Who", "Whose", "How", "Whether", "Where", "Why"];
/// Names that say nothing about what they name.
const EMPTY_NAMES: [&str; 4] = ["of", "told", "made", "thing"];
/// Violations that are left. The numbers may only shrink.
const LEFT: (usize, usize) = (0, 2);

#[test]
fn comments_and_names_follow_the_style() {
    let (mut comments, mut names) = (Vec::new(), Vec::new());
    for folder in ["src", "tests", "benches", "examples"] {
        for path in rust_files(&root().join(folder)) {
            let text = read(&path);
            for (number, line) in text.lines().enumerate() {
                let comment =
                    line.trim_start().strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!']).trim());
                let first = comment.and_then(|comment| comment.split(' ').next());
                if first.is_some_and(|first| FREE_RELATIVES.contains(&first)) {
                    comments.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
                }
            }
            let words: Vec<(usize, &str)> = words(&text).collect();
            for pair in words.windows(3) {
                let [(_, keyword), (_, mutable), (_, name)] = pair else { continue };
                let name = if *mutable == "mut" { name } else { mutable };
                if matches!(*keyword, "fn" | "let") && EMPTY_NAMES.contains(name) {
                    names.push(format!("{}: `{name}`", shown(&path)));
                }
            }
        }
    }
    let (comment_count, name_count) = (comments.len(), names.len());
    assert!(comment_count <= LEFT.0, "{comment_count} comments begin with a free relative:\n{}", comments.join("\n"));
    assert!(name_count <= LEFT.1, "{name_count} names say nothing:\n{}", names.join("\n"));
}

/// The modules that each top-level module uses, with the first place of each use.
fn dependencies() -> BTreeMap<String, BTreeMap<String, String>> {
    let source = root().join("src");
    let mut modules: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let files: Vec<PathBuf> = rust_files(&source);
    let names: BTreeSet<String> =
        files.iter().filter_map(|path| module_path(&source, path).into_iter().next()).collect();
    for path in &files {
        let module = module_path(&source, path);
        let Some(top) = module.first() else { continue };
        let uses = modules.entry(top.clone()).or_default();
        if module.iter().any(|part| part == "tests") {
            continue;
        }
        let text = without_tests(&code_only(&read(path)));
        for (offset, target) in crate_paths(&text, module.len()) {
            if target != *top && names.contains(&target) {
                let line = text[..offset].lines().count();
                uses.entry(target).or_insert_with(|| format!("{}:{line}", shown(path)));
            }
        }
    }
    modules
}

/// The names of the module that a file holds, from the crate's root on; none for the root files themselves.
fn module_path(source: &Path, path: &Path) -> Vec<String> {
    let inner = path.strip_prefix(source).unwrap_or(path).with_extension("");
    let parts: Vec<String> = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(parts.as_slice(), [only] if only == "lib" || only == "main") { Vec::new() } else { parts }
}

/// The first segments of all paths that lead through the crate's root, `crate::` or enough of `super::`.
fn crate_paths(text: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let words: Vec<(usize, &str)> = words(text).collect();
    for (index, (offset, word)) in words.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |index| words[index].1);
        let start = match *word {
            "crate" if before != "::" => index + 1,
            "super" if before != "::" => {
                let supers =
                    (0..).take_while(|n| words.get(index + 2 * n).is_some_and(|(_, word)| *word == "super")).count();
                if supers < depth {
                    continue;
                }
                index + 2 * supers - 1
            }
            _ => continue,
        };
        if words.get(start).is_none_or(|(_, word)| *word != "::") {
            continue;
        }
        for name in first_segments(&words[start + 1..]) {
            found.push((*offset, name.to_owned()));
        }
    }
    found
}

/// `name` of `name::…`, and all names of `{name::…, name}`.
fn first_segments<'a>(words: &[(usize, &'a str)]) -> Vec<&'a str> {
    let Some((_, first)) = words.first() else { return Vec::new() };
    if *first != "{" {
        return vec![first];
    }
    let (mut nesting, mut names, mut fresh) = (0, Vec::new(), false);
    for (_, word) in words {
        match *word {
            "{" => {
                nesting += 1;
                fresh = nesting == 1;
            }
            "}" => nesting -= 1,
            "," => fresh = nesting == 1,
            name if fresh => {
                names.push(name);
                fresh = false;
            }
            _ => {}
        }
        if nesting == 0 {
            break;
        }
    }
    names
}

/// The words and symbols of a text with their offsets; `::` is one symbol.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].len() - text[at..].trim_start().len();
        let rest = &text[at..];
        let first = rest.chars().next()?;
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        at += length;
        Some((at - length, &rest[..length]))
    })
}

/// The text with comments and literals blanked out, line for line.
fn code_only(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let mut code = String::with_capacity(text.len());
    let mut index = 0;
    while index < characters.len() {
        let end = match (at(index), at(index + 1)) {
            ('/', '/') => (index..characters.len()).find(|i| at(*i) == '\n').unwrap_or(characters.len()),
            ('/', '*') => (index + 3..=characters.len())
                .find(|i| at(i - 1) == '/' && at(i - 2) == '*')
                .unwrap_or(characters.len()),
            ('r', '"' | '#') if index == 0 || !(at(index - 1).is_alphanumeric() || at(index - 1) == '_') => {
                let hashes = (index + 1..).take_while(|i| at(*i) == '#').count();
                let closes = |i: &usize| at(*i) == '"' && (1..=hashes).all(|n| at(i + n) == '#');
                let open = index + 1 + hashes;
                match at(open) {
                    '"' => (open + 1..characters.len()).find(closes).map_or(characters.len(), |i| i + 1 + hashes),
                    _ => index + 1, // a raw identifier
                }
            }
            ('"', _) => {
                let mut end = index + 1;
                while end < characters.len() && at(end) != '"' {
                    end += if at(end) == '\\' { 2 } else { 1 };
                }
                end + 1
            }
            ('\'', '\\') => (index + 3..characters.len()).find(|i| at(*i) == '\'').map_or(characters.len(), |i| i + 1),
            ('\'', _) if at(index + 2) == '\'' => index + 3,
            (other, _) => {
                code.push(other);
                index += 1;
                continue;
            }
        };
        code.extend(characters[index..end.min(characters.len())].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        index = end;
    }
    code
}

/// The text without items under `#[cfg(test)]`, line for line.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::with_capacity(code.len());
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(start);
        kept.push_str(before);
        let mut nesting = 0_i32;
        let end = item["#[cfg(test)]".len()..].char_indices().find_map(|(index, character)| {
            match character {
                '{' | '(' | '[' => nesting += 1,
                '}' | ')' | ']' => nesting -= 1,
                _ => {}
            }
            (nesting == 0 && matches!(character, '}' | ';')).then_some(index + 1)
        });
        let end = "#[cfg(test)]".len() + end.unwrap_or(item.len() - "#[cfg(test)]".len());
        kept.extend(item[..end].chars().filter(|c| *c == '\n'));
        rest = &item[end..];
    }
    kept.push_str(rest);
    kept
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust sources in a folder, sorted. The fuzz targets are a crate with its own build folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        if path.is_dir() && !path.ends_with("tests/fuzz/target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
