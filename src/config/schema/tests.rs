use serde_json::Value;

use super::{ALIASES, schema};
use crate::config::{Source, load, load_document};

/// Collects fields without a description.
fn undocumented(schema: &Value, path: &str, found: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            for (name, property) in members.get("properties").and_then(Value::as_object).into_iter().flatten() {
                // a key of a choice has its description next to it
                if property.get("description").or(members.get("description")).is_none() {
                    found.push(format!("{path}.{name}"));
                }
            }
            for (name, member) in members {
                undocumented(member, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| undocumented(item, path, found)),
        _ => {}
    }
}

#[test]
fn every_field_is_documented() {
    let mut found = Vec::new();
    undocumented(&schema(), "", &mut found);
    assert_eq!(found, [""; 0]);
}

/// Collects violations of the schema. Supports exactly the keywords that the schema uses.
fn violations(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let Value::Object(keywords) = schema else {
        if schema == &Value::Bool(false) {
            found.push(format!("{path}: nothing may stand here"));
        }
        return;
    };
    let list = |keyword: &'static str| keywords[keyword].as_array().expect(keyword);
    let is_valid = |schema: &Value| {
        let mut inner = Vec::new();
        violations(root, schema, value, path, &mut inner);
        inner.is_empty()
    };
    for (keyword, expected) in keywords {
        let good = match keyword.as_str() {
            "$ref" => {
                let target = root.pointer(expected.as_str().unwrap().strip_prefix('#').unwrap()).expect("a definition");
                violations(root, target, value, path, found);
                true
            }
            "type" => match expected {
                Value::Array(kinds) => kinds.iter().any(|kind| has_type(value, kind)),
                kind => has_type(value, kind),
            },
            "const" => value == expected,
            "enum" => list("enum").contains(value),
            "oneOf" => list("oneOf").iter().filter(|option| is_valid(option)).count() == 1,
            "anyOf" => list("anyOf").iter().any(is_valid),
            "minimum" => value.as_f64().is_none_or(|number| number >= expected.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= expected.as_f64().unwrap()),
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    violations(root, expected, item, &format!("{path}[{at}]"), found);
                }
                true
            }
            "required" => value
                .as_object()
                .is_none_or(|object| list("required").iter().all(|name| object.contains_key(name.as_str().unwrap()))),
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    if let Some(property) = expected.get(name) {
                        violations(root, property, member, &format!("{path}.{name}"), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                let properties = keywords.get("properties").and_then(Value::as_object);
                for (name, member) in value.as_object().into_iter().flatten() {
                    if !properties.is_some_and(|known| known.contains_key(name)) {
                        violations(root, expected, member, &format!("{path}.{name}"), found);
                    }
                }
                true
            }
            "$schema" | "$defs" | "$comment" | "title" | "description" | "default" | "format" => true,
            other => panic!("the schema has a keyword that this test does not know: {other}"),
        };
        if !good {
            found.push(format!("{path}: {keyword} {expected}"));
        }
    }
}

fn has_type(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("no such type: {other}"),
    }
}

/// Checks a file with the loader and with the schema.
fn check(yaml: &str) -> (bool, Vec<String>) {
    let source = Source::new("x.yaml", yaml.to_owned());
    let value: Value = load_document(&source, &|_| Some("x".to_owned())).expect("YAML");
    let (root, mut found) = (schema(), Vec::new());
    violations(&root, &root, &value, "", &mut found);
    (load(source, &|_| Some("x".to_owned())).is_ok(), found)
}

#[test]
fn schema_accepts_what_the_loader_accepts() {
    let mut files = vec![("everything.yaml".to_owned(), include_str!("../tests/everything.yaml").to_owned())];
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            files.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
        }
    }
    assert!(files.len() > 5);
    let policies = |inner: &str| format!("binds: [{{port: 1, listeners: [{{routes: [{{policies: {{{inner}}}}}]}}]}}]");
    for inner in [
        "jwtAuth: {mode: Strict, issuer: a, algorithms: [Ed25519, EdDSA], jwks: {file: x}}",
        "jwtAuth: {mode: Optional, issuer: [a, b], audiences: c, jwks: '{}', location: {cookie: {name: x}}}",
        "jwtAuth: {mode: Permissive, providers: [{issuer: a, jwks: {url: 'https://a'}}]}",
        "jwtAuth: {mode: Shadow, issuer: 'https://a', jwtValidationOptions: {requiredClaims: [exp]}}",
        "authorization: {mode: Enforce, rules: ['true', {allow: 'true'}, {name: x, require: 'true'}]}",
        "authorization: {mode: Shadow, rules: []}",
        "timeout: {requestTimeout: 1s, backendRequestTimeout: 1500ms}",
        "localRateLimit: {maxTokens: 1, tokensPerFill: 1, fillInterval: 1s}",
        "localRateLimit: [{maxTokens: 1, tokensPerFill: 1, fillInterval: 1s}]",
        "apiKey: {mode: Strict, keys: [{key: abc}]}",
        "apiKey: {mode: Optional, keys: [{key: abc}]}",
        "apiKey: {mode: Permissive, keys: [{keyHash: 'sha256:00', metadata: {team: a, seats: 3}}]}",
        "extAuthz: {host: 'a:1', includeRequestBody: {}}",
        "extAuthz: {host: 'a:1', protocol: {grpc: {context: {a: b}, metadata: {c: jwt}}}, failureMode: {denyWithStatus: 503}}",
        "extAuthz: {host: 'a:1', protocol: {http: {path: '\"/x\"', redirect: '\"/y\"', addRequestHeaders: {x: request.id}}}}",
        "requestMirror: [{backend: {host: 'a:1'}, percentage: 0.5}]",
    ] {
        files.push((inner.to_owned(), policies(inner)));
    }
    for (name, yaml) in files {
        assert_eq!(check(&yaml), (true, Vec::new()), "{name}");
    }
    // the schema rejects as well
    for inner in ["jwtAuth: {mode: STRICT}", "timeouts: {}", "timeout: {request: [1s]}"] {
        let (loads, found) = check(&policies(inner));
        assert!(!loads && !found.is_empty(), "{inner}: {found:?}");
    }
}

/// Each serde alias must be listed for the schema.
#[test]
fn all_serde_aliases_are_in_the_schema() {
    fn walk(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if !path.ends_with("schema/tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let parts = text.split("(alias = \"").skip(1);
                found.extend(parts.map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    let mut found = Vec::new();
    walk(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config").as_ref(), &mut found);
    found.sort();
    let mut expected = ALIASES.map(|(_, spelling, _)| spelling);
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn explanations_skip_aliases() {
    let schema = schema();
    let type_names = |path: &str| super::SchemaNode::root(&schema).find(path).unwrap().type_names();
    assert_eq!(type_names("jwtAuth.mode"), "strict | optional | permissive | shadow");
    let timeout = super::SchemaNode::root(&schema).find("timeout").unwrap();
    assert!(timeout.fields().iter().all(|field| field.name != "requestTimeout"));
    assert!(timeout.find("requestTimeout").is_ok());
}
