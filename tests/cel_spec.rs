//! The conformance cases of the CEL project, against the engine and the checker.
//!
//! `PORTCULLIS_VECTORS` is the directory that contains `cel-spec/*.textproto`. The test is ignored by
//! default, since it needs that directory. Every case passes, is skipped by a listed criterion, or is listed in [`KNOWN_FAILURES`] with the reason. The test fails if
//! an unlisted case fails or a listed case passes, so the list stays accurate.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use http::{HeaderMap, Method, Version};
use portcullis::authz::{Expression, Scope, Vars, with_deep_stack};
use portcullis::request::{ClientInfo, RequestHead, Scheme, UnixTime};
use serde_json::{Map, Value};

/// Cases that fail, as `file/section/name` with the reason. A `*` matches any suffix.
const KNOWN_FAILURES: &[(&str, &str)] = &[
    ("basic/functions/unbound_is_runtime_error", UNKNOWN_NAME),
    ("basic/variables/unbound_is_runtime_error", UNKNOWN_NAME),
    ("parse/receiver_function_names/*", UNKNOWN_NAME),
    ("logic/AND/short_circuit_type_left", NOT_A_BOOL),
    ("logic/AND/short_circuit_type_right", NOT_A_BOOL),
    ("logic/OR/short_circuit_type_left", NOT_A_BOOL),
    ("logic/OR/short_circuit_type_right", NOT_A_BOOL),
    ("fields/map_fields/map_bad_key_type_and_false", CONSTANT_FAILURE),
    ("fields/map_fields/map_bad_key_type_or_true", CONSTANT_FAILURE),
    ("fields/map_fields/map_no_such_key_and_false", CONSTANT_FAILURE),
    ("fields/map_fields/map_no_such_key_or_true", CONSTANT_FAILURE),
    ("lists/index/bad_index_type_and_false", CONSTANT_FAILURE),
    ("lists/index/bad_index_type_or_true", CONSTANT_FAILURE),
    ("lists/index/index_out_of_bounds_and_false", CONSTANT_FAILURE),
    ("lists/index/index_out_of_bounds_or_true", CONSTANT_FAILURE),
    ("logic/AND/short_circuit_error_left", CONSTANT_FAILURE),
    ("logic/AND/short_circuit_error_right", CONSTANT_FAILURE),
    ("logic/OR/short_circuit_error_left", CONSTANT_FAILURE),
    ("logic/OR/short_circuit_error_right", CONSTANT_FAILURE),
    ("string_ext/format/binary formatting clause in a string variable", DYNAMIC_FORMAT),
    ("string_ext/format/default precision for fixed-point clause in a string variable", DYNAMIC_FORMAT),
    ("string_ext/format/fixed point formatting clause in a string variable", DYNAMIC_FORMAT),
    ("string_ext/format/multiple substitutions in a string variable", DYNAMIC_FORMAT),
    ("string_ext/format/scientific notation formatting clause in a string variable", DYNAMIC_FORMAT),
    ("string_ext/format/string substitution in a string variable", DYNAMIC_FORMAT),
    ("string_ext/format/substitution inside escaped percent signs in a string variable", DYNAMIC_FORMAT),
];

const UNKNOWN_NAME: &str = "an unknown name is rejected when the config is loaded, so it never fails an evaluation";
const NOT_A_BOOL: &str =
    "an operand that is certainly not a bool is rejected at load, even if another operand would absorb the failure";
const CONSTANT_FAILURE: &str =
    "a constant part that always fails is rejected at load, even if another operand would absorb the failure";
const DYNAMIC_FORMAT: &str =
    "a format whose pattern comes from a variable is rejected, since it could request any width";

#[test]
#[ignore = "needs PORTCULLIS_VECTORS"]
fn cel_conformance_vectors_pass_or_are_listed() {
    let root = std::env::var_os("PORTCULLIS_VECTORS").expect("PORTCULLIS_VECTORS names the directory of the vectors");
    let directory = Path::new(&root).join("cel-spec");
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "textproto"));
    files.sort();
    assert!(!files.is_empty(), "no cases in {}", directory.display());
    let report = with_deep_stack(|| run(&files)).unwrap();
    for (file, counts) in &report.counts {
        println!("{file:16} {counts:?}");
    }
    let is_known = |case: &str| {
        KNOWN_FAILURES
            .iter()
            .any(|(pattern, _)| pattern.strip_suffix('*').map_or(case == *pattern, |start| case.starts_with(start)))
    };
    for (case, reason) in &report.failed {
        if !is_known(case) {
            println!("failed: {case}: {reason}");
        }
    }
    let failed: BTreeSet<&str> = report.failed.keys().map(String::as_str).collect();
    let unexpected: Vec<_> = failed.iter().filter(|case| !is_known(case)).collect();
    assert!(unexpected.is_empty(), "{} cases fail and are not listed", unexpected.len());
    for (listed, _) in KNOWN_FAILURES {
        let start = listed.trim_end_matches('*');
        assert!(failed.iter().any(|case| case.starts_with(start)), "{listed} passes: remove it from the list");
    }
}

#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: BTreeMap<&'static str, usize>,
}

#[derive(Default)]
struct Report {
    counts: BTreeMap<String, Counts>,
    failed: BTreeMap<String, String>,
}

fn run(files: &[std::path::PathBuf]) -> Report {
    let mut report = Report::default();
    for path in files {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap();
        let counts = report.counts.entry(file.clone()).or_default();
        for section in Message::parse(&text).all("section") {
            for case in section.message().all("test") {
                let case = case.message();
                let name = format!("{file}/{}/{}", section.message().text("name"), case.text("name"));
                match run_case(case) {
                    Ok(()) => counts.passed += 1,
                    Err(CaseError::Skip(rule)) => *counts.skipped.entry(rule).or_default() += 1,
                    Err(CaseError::Fail(reason)) => {
                        counts.failed += 1;
                        report.failed.insert(name, format!("{} -- {reason}", case.text("expr")));
                    }
                }
            }
        }
    }
    report
}

enum CaseError {
    Skip(&'static str),
    Fail(String),
}

/// Evaluates an expression that is true if the expression of a case has the expected value and type.
fn run_case(case: &Message) -> Result<(), CaseError> {
    let source = case.text("expr");
    if ["TestAllTypes", "proto2.", "proto3.", "GlobalEnum", "NestedEnum"].iter().any(|word| source.contains(word)) {
        return Err(CaseError::Skip("protobuf messages"));
    }
    if source.contains("google.protobuf.") && source.contains('{') {
        return Err(CaseError::Skip("protobuf messages"));
    }
    if case.has("container") {
        return Err(CaseError::Skip("containers"));
    }
    if case.has("typed_result") || case.has("any_eval_errors") || case.has("unknown") {
        return Err(CaseError::Skip("a checker's result"));
    }
    let mut extra: Vec<(String, Value)> = Vec::new();
    for binding in case.all("bindings") {
        let binding = binding.message();
        let name = binding.text("key");
        if name.contains('.') {
            return Err(CaseError::Skip("variables with dots"));
        }
        let value = binding.get("value").and_then(|value| value.message().get("value"));
        let value = value
            .and_then(|value| binding_json(value.message()))
            .ok_or(CaseError::Skip("bindings that JSON cannot represent"))?;
        extra.push((name, value));
    }
    let fails = case.has("eval_error");
    let condition = match case.get("value") {
        _ if fails => source.clone(),
        None => format!("({source}\n) == true"),
        Some(value) => equality_check(&source, value.message()).ok_or(CaseError::Skip("protobuf messages"))?,
    };
    let names: Vec<&str> = extra.iter().map(|(name, _)| name.as_str()).collect();
    let extra: Vec<(&str, Value)> = extra.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let result = Expression::compile(&condition, Scope::Value { extra: &names })
        .map_err(|errors| format!("rejected at load: {}", errors[0]))
        .and_then(|expression| evaluate(&expression, &extra));
    match (fails, result) {
        (true, Err(_)) | (false, Ok(Value::Bool(true))) => Ok(()),
        (_, Ok(value)) => Err(CaseError::Fail(format!("gives {value}"))),
        (_, Err(reason)) => Err(CaseError::Fail(reason)),
    }
}

fn evaluate(expression: &Expression, extra: &[(&str, Value)]) -> Result<Value, String> {
    let (headers, source) = (HeaderMap::new(), ClientInfo { address: [127, 0, 0, 1].into(), port: 1, tls: None });
    let head = RequestHead {
        method: &Method::GET,
        scheme: Scheme::Http,
        authority: &http::HeaderValue::from_static("a"),
        host: "a",
        port: 80,
        path: "/",
        query: None,
        version: Version::HTTP_11,
        headers: &headers,
        id: &http::HeaderValue::from_static("1"),
        client: &source,
    };
    expression
        .eval_json(&Vars { extra, ..Vars::for_request(&head, UnixTime(0.0)) })
        .map_err(|error| format!("fails: {error}"))
}

/// Builds an expression that is true if `source` evaluates to `expected` with the same type.
fn equality_check(source: &str, expected: &Message) -> Option<String> {
    let (kind, value) = expected.0.first()?;
    let ty = match kind.as_str() {
        "int64_value" => "int",
        "uint64_value" => "uint",
        "double_value" if value.scalar().to_ascii_lowercase().contains("nan") => {
            return Some(format!("({source}\n) != ({source}\n)"));
        }
        "double_value" => "double",
        "string_value" => "string",
        "bytes_value" => "bytes",
        "bool_value" => "bool",
        "null_value" => "null_type",
        _ => return Some(format!("dyn({source}\n) == {}", cel_literal(expected)?)),
    };
    Some(format!("type({source}\n) == {ty} && dyn({source}\n) == {}", cel_literal(expected)?))
}

/// Renders a value of a case as a CEL literal.
fn cel_literal(value: &Message) -> Option<String> {
    let (kind, value) = value.0.first()?;
    Some(match kind.as_str() {
        "int64_value" | "bool_value" => value.scalar(),
        "type_value" => value.string(),
        "uint64_value" => format!("{}u", value.scalar()),
        "double_value" => match value.scalar().parse::<f64>().ok()? {
            double if double.is_infinite() => format!("({}1.0 / 0.0)", if double < 0.0 { "-" } else { "" }),
            double => format!("{double:?}"),
        },
        "string_value" => {
            let escape = |c: char| match c {
                c if c.is_ascii_alphanumeric() => c.to_string(),
                c => format!("\\U{:08x}", u32::from(c)),
            };
            format!("'{}'", value.string().chars().map(escape).collect::<String>())
        }
        "bytes_value" => {
            format!("b'{}'", value.bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>())
        }
        "null_value" => "null".to_owned(),
        "list_value" => {
            let items: Option<Vec<String>> =
                value.message().all("values").map(|item| cel_literal(item.message())).collect();
            format!("[{}]", items?.join(", "))
        }
        "map_value" => {
            let entries: Option<Vec<String>> = value
                .message()
                .all("entries")
                .map(|entry| {
                    let entry = entry.message();
                    let key = cel_literal(entry.get("key")?.message())?;
                    Some(format!("{key}: {}", cel_literal(entry.get("value")?.message())?))
                })
                .collect();
            format!("{{{}}}", entries?.join(", "))
        }
        "object_value" => {
            let (ty, fields) = value.message().0.first()?;
            let number = |name| fields.message().get(name).map_or("0".to_owned(), FieldValue::scalar);
            let nanos = format!("duration('{}ns')", number("nanos"));
            match ty.rsplit('/').next()? {
                "google.protobuf.Duration" => format!("duration('{}s') + {nanos}", number("seconds")),
                "google.protobuf.Timestamp" => format!("timestamp({}) + {nanos}", number("seconds")),
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// Converts the value of a binding to JSON, if JSON can represent it.
fn binding_json(value: &Message) -> Option<Value> {
    let (kind, value) = value.0.first()?;
    Some(match kind.as_str() {
        "int64_value" => value.scalar().parse::<i64>().ok()?.into(),
        "double_value" => value.scalar().parse::<f64>().ok()?.into(),
        "string_value" => value.string().into(),
        "bool_value" => (value.scalar() == "true").into(),
        "null_value" => Value::Null,
        "list_value" => {
            Value::Array(value.message().all("values").map(|item| binding_json(item.message())).collect::<Option<_>>()?)
        }
        "map_value" => {
            let mut map = Map::new();
            for entry in value.message().all("entries") {
                let key = entry.message().get("key")?.message().get("string_value")?.string();
                map.insert(key, binding_json(entry.message().get("value")?.message())?);
            }
            Value::Object(map)
        }
        _ => return None,
    })
}

/// A message in the text format of protobuf: its fields in order.
#[derive(Debug, Default)]
struct Message(Vec<(String, FieldValue)>);

#[derive(Debug)]
enum FieldValue {
    Message(Message),
    Scalar(String),
    Bytes(Vec<u8>),
}

impl FieldValue {
    fn message(&self) -> &Message {
        match self {
            Self::Message(message) => message,
            other => panic!("{other:?} is not a message"),
        }
    }

    fn scalar(&self) -> String {
        match self {
            Self::Scalar(text) => text.clone(),
            other => panic!("{other:?} is not a scalar"),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("{other:?} is not a string"),
        }
    }

    fn string(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }
}

impl Message {
    fn parse(text: &str) -> Self {
        let tokens = tokens(text);
        let mut position = 0;
        let message = Self::fields(&tokens, &mut position);
        assert_eq!(position, tokens.len(), "the whole file is parsed");
        message
    }

    fn fields(tokens: &[Token], position: &mut usize) -> Self {
        let mut fields = Vec::new();
        while let Some(token) = tokens.get(*position) {
            let name = match token {
                Token::Punctuation('}') => break,
                Token::Punctuation(',' | ';') => {
                    *position += 1;
                    continue;
                }
                Token::Punctuation('[') => {
                    // An extension or the type of an Any: `[type.googleapis.com/google.protobuf.Duration]`.
                    let close =
                        tokens[*position..].iter().position(|token| matches!(token, Token::Punctuation(']'))).unwrap()
                            + *position;
                    let name = tokens[*position + 1..close].iter().map(Token::word).collect();
                    *position = close;
                    name
                }
                word => word.word(),
            };
            *position += 1;
            if matches!(tokens[*position], Token::Punctuation(':')) {
                *position += 1;
            }
            if matches!(tokens[*position], Token::Punctuation('[')) {
                *position += 1;
                while !matches!(tokens[*position], Token::Punctuation(']')) {
                    if matches!(tokens[*position], Token::Punctuation(',')) {
                        *position += 1;
                    }
                    fields.push((name.clone(), Self::value(tokens, position)));
                }
                *position += 1;
            } else {
                fields.push((name, Self::value(tokens, position)));
            }
        }
        Self(fields)
    }

    fn value(tokens: &[Token], position: &mut usize) -> FieldValue {
        *position += 1;
        match &tokens[*position - 1] {
            Token::Punctuation('{') => {
                let message = Self::fields(tokens, position);
                *position += 1;
                FieldValue::Message(message)
            }
            Token::Quoted(bytes) => {
                let mut bytes = bytes.clone();
                while let Some(Token::Quoted(more)) = tokens.get(*position) {
                    bytes.extend(more);
                    *position += 1;
                }
                FieldValue::Bytes(bytes)
            }
            word => FieldValue::Scalar(word.word()),
        }
    }

    fn all<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m FieldValue> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, node)| node)
    }

    fn get(&self, name: &str) -> Option<&FieldValue> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, node)| node)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn text(&self, name: &str) -> String {
        self.get(name).map(FieldValue::string).unwrap_or_default()
    }
}

#[derive(Debug)]
enum Token {
    Punctuation(char),
    Word(String),
    Quoted(Vec<u8>),
}

impl Token {
    fn word(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Punctuation(mark) => mark.to_string(),
            Self::Quoted(_) => panic!("expected a word, found a string"),
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' | '\'' => {
                let mut bytes = Vec::new();
                while let Some(next) = chars.next() {
                    match next {
                        '\\' => escape(&mut chars, &mut bytes),
                        next if next == c => break,
                        next => bytes.extend(next.to_string().as_bytes()),
                    }
                }
                tokens.push(Token::Quoted(bytes));
            }
            c if c.is_whitespace() => {}
            c if is_word(c) => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| is_word(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            mark => tokens.push(Token::Punctuation(mark)),
        }
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | '/')
}

fn escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, bytes: &mut Vec<u8>) {
    match chars.next().unwrap() {
        'n' => bytes.push(b'\n'),
        't' => bytes.push(b'\t'),
        'r' => bytes.push(b'\r'),
        'a' => bytes.push(7),
        'b' => bytes.push(8),
        'f' => bytes.push(12),
        'v' => bytes.push(11),
        'x' | 'X' => bytes.push(number(chars, None, 16, 2) as u8),
        'u' => bytes.extend(char::from_u32(number(chars, None, 16, 4)).unwrap().to_string().as_bytes()),
        'U' => bytes.extend(char::from_u32(number(chars, None, 16, 8)).unwrap().to_string().as_bytes()),
        c if c.is_digit(8) => bytes.push(number(chars, Some(c), 8, 3) as u8),
        c => bytes.extend(c.to_string().as_bytes()),
    }
}

fn number(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    first: Option<char>,
    radix: u32,
    max_len: usize,
) -> u32 {
    let mut text: String = first.into_iter().collect();
    while text.len() < max_len {
        let Some(c) = chars.next_if(|c| c.is_digit(radix)) else { break };
        text.push(c);
    }
    u32::from_str_radix(&text, radix).unwrap()
}
