//! Common behavior of all commands: missing and invalid input, and the output formats.

use serde_json::Value;

use super::support::TempDir;
use super::{ALICE, BOB, CommandOutput, GOOD, run, run_with};

/// The commands that read a config, with `CONFIG` as the placeholder for its path.
const READ_A_CONFIG: [&[&str]; 8] = [
    &["-f", "CONFIG"],
    &["run", "-f", "CONFIG"],
    &["validate", "-f", "CONFIG"],
    &["explain", "-f", "CONFIG", "GET", "/"],
    &["test", "-f", "CONFIG", "examples/tests/quickstart.yaml"],
    &["token", "inspect", ALICE, "-f", "CONFIG"],
    &["config", "print", "-f", "CONFIG"],
    &["health", "-f", "CONFIG"],
];

/// The commands that read other YAML files.
const READ_YAML: [&[&str]; 2] = [&["test", "-f", GOOD, "CONFIG"], &["import", "istio", "CONFIG"]];
const READ_TEXT: [&[&str]; 4] = [
    &["token", "jwks", "CONFIG"],
    &["token", "mint", "--key", "CONFIG"],
    &["token", "inspect", "@CONFIG"],
    &["explain", "-f", GOOD, "--token", "@CONFIG", "GET", "/"],
];

fn run_with_file(arguments: &[&str], file: &str) -> CommandOutput {
    let arguments: Vec<String> = arguments.iter().map(|argument| argument.replace("CONFIG", file)).collect();
    run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn unreadable_files_cause_one_error_line_in_every_command() {
    let folder = TempDir::new();
    let large = folder.write("large.yaml", vec![b'#'; (4 << 20) + 1]);
    let latin = folder.write("latin.yaml", b"binds: [\xe9]");
    for (file, says) in [
        ("no/such.yaml", "there is no such file"),
        (large.to_str().unwrap(), "longer than 4 MiB"),
        (latin.to_str().unwrap(), "not UTF-8 text"),
        ("src", "cannot read the file: Is a directory"),
    ] {
        for arguments in READ_A_CONFIG.iter().chain(&READ_YAML) {
            let output = run_with_file(arguments, file);
            assert_eq!((output.code, output.out.as_str()), (2, ""), "{arguments:?}: {output:?}");
            assert_eq!(output.err.lines().count(), 1, "{arguments:?}: {}", output.err);
            assert!(output.err.starts_with("error") && output.err.contains(&format!("{file}:")), "{}", output.err);
            assert!(output.err.contains(says), "{arguments:?}: {}", output.err);
        }
        for arguments in READ_TEXT {
            let output = run_with_file(arguments, file);
            assert_eq!((output.code, output.out.as_str()), (2, ""), "{arguments:?}: {output:?}");
            assert_eq!(output.err.lines().count(), 1, "{arguments:?}: {}", output.err);
            assert!(output.err.starts_with(&format!("error: cannot read {file}: ")), "{arguments:?}: {}", output.err);
        }
    }
}

#[test]
fn invalid_yaml_is_reported_with_its_position() {
    let folder = TempDir::new();
    for text in ["binds: [", "{", "a: 'b"] {
        let file = folder.write("broken.yaml", text);
        for arguments in READ_A_CONFIG.iter().chain(&READ_YAML) {
            let output = run_with_file(arguments, file.to_str().unwrap());
            assert_eq!((output.code, output.out.as_str()), (2, ""), "{arguments:?}: {output:?}");
            let first = output.err.lines().next().unwrap_or_default();
            assert!(first.starts_with("error") && first.contains("broken.yaml:1:"), "{arguments:?} {first}");
            assert!(output.err.contains("not YAML: "), "{arguments:?} {}", output.err);
        }
    }
}

#[test]
fn invalid_arguments_cause_one_error_line() {
    for (arguments, code, says) in [
        (&["explain", "-f", GOOD, "GET", "http://"][..], 2, "error: not a URL or path: `http://`"),
        (&["explain", "-f", GOOD, "GET", "a b"], 2, "error: not a URL or path: `a b`"),
        (&["explain", "-f", GOOD, "--token", "", "GET", "/"], 2, "error: the token is empty"),
        (&["explain", "-f", GOOD, "--token", "a\nb", "GET", "/"], 2, "error: the token contains characters"),
        (&["health", "--url", "nonsense"], 2, "error: invalid URL: nonsense"),
        (&["health", "--url", "https://localhost"], 2, "error: invalid URL: https://localhost"),
        (&["token", "inspect", ""], 2, "error: the token is empty"),
        (&["token", "inspect", "abc"], 1, "error: not a JWT: "),
        (&["token", "inspect", "a.b.c"], 1, "error: "),
        (&["token", "mint", "--key", "README.md"], 2, "error: README.md: neither JSON nor PEM"),
        (&["token", "jwks", "README.md"], 2, "error: README.md: neither JSON nor PEM"),
        (&["validate"], 2, "error[E001]: <config>: no config given; pass `-f FILE`"),
        (&["run"], 2, "error[E001]: <config>: no config given; pass `-f FILE`"),
        (&["schema", "--explain", "nonsense"], 2, "error: no field `nonsense`"),
        (&["config", "print", "-f", GOOD, "--route", "nonsense"], 2, "error: no route `nonsense`"),
    ] {
        let output = run(arguments);
        assert_eq!((output.code, output.out.as_str()), (code, ""), "{arguments:?}: {output:?}");
        assert_eq!(output.err.lines().count(), 1, "{arguments:?}: {}", output.err);
        assert!(output.err.starts_with(says), "{arguments:?}: {}", output.err);
    }
    // an invalid token is evaluated in the same way as in the gateway
    let output = run(&["explain", "-f", GOOD, "--token", "abc", "GET", "/"]);
    assert!(output.code == 3 && output.err.is_empty() && output.out.contains("=> 401 malformed_token"), "{output:?}");
}

/// Returns the arguments, the help page and the exit code of every command.
fn commands(folder: &TempDir) -> Vec<(Vec<String>, &'static [&'static str], i32)> {
    let key = folder.path().join("key").to_str().unwrap().to_owned();
    let private = format!("{key}.private.json");
    let all: [(&str, &'static [&'static str], i32); 13] = [
        ("validate -f GOOD", &["validate"], 0),
        ("explain -f GOOD -t BOB GET /admin", &["explain"], 4),
        ("test examples/tests/quickstart.yaml", &["test"], 0),
        ("token keygen --force --out KEY", &["token", "keygen"], 0),
        ("token jwks PRIVATE", &["token", "jwks"], 0),
        ("token mint --key PRIVATE --sub a", &["token", "mint"], 0),
        ("token inspect ALICE -f GOOD", &["token", "inspect"], 0),
        ("config print --effective -f GOOD", &["config", "print"], 0),
        ("schema --explain jwtAuth", &["schema"], 0),
        ("completion bash", &["completion"], 0),
        ("version", &["version"], 0),
        ("health --url http://127.0.0.1:1", &["health"], 1),
        ("schema", &["schema"], 0),
    ];
    let word = |word: &str| match word {
        "GOOD" => GOOD.to_owned(),
        "ALICE" => ALICE.to_owned(),
        "BOB" => BOB.to_owned(),
        "KEY" => key.clone(),
        "PRIVATE" => private.clone(),
        other => other.to_owned(),
    };
    all.into_iter().map(|(line, name, code)| (line.split(' ').map(word).collect(), name, code)).collect()
}

#[test]
fn every_command_supports_text_and_json_and_documents_each_member() {
    let folder = TempDir::new();
    for (arguments, name, code) in commands(&folder) {
        let output = |format: &str| {
            let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
            all.extend(["--output", format]);
            run(&all)
        };
        let (text, json) = (output("text"), output("json"));
        assert_eq!((text.code, json.code), (code, code), "{arguments:?}: {text:?} {json:?}");
        assert!(json.err.is_empty(), "{arguments:?}: {json:?}");
        let Value::Object(members) = json.json() else { panic!("{arguments:?}: no object") };
        let help = run(&[name, &["--help"]].concat()).out;
        assert!(help.contains("Examples:"), "{name:?} has no examples:\n{help}");
        for member in members.keys() {
            // key sets and schemas have external formats
            let external_format = arguments[..] == ["schema"] || name == ["token", "jwks"];
            assert!(
                external_format || help.contains(&format!("`{member}`")),
                "{name:?}: `{member}` is not in its help"
            );
        }
    }
    let manifest = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a}\n";
    let imported = run_with(&["import", "istio", "-", "--output", "text"], manifest);
    assert_eq!(imported.code, 1, "{imported:?}");
    for name in ["run", "import"] {
        assert!(run(&[name, "--help"]).out.contains("Examples:"), "{name}");
    }
}

#[test]
fn help_of_explain_documents_its_json() {
    fn names(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    found.push(name.clone());
                    // the member names in these come from the token and the rules
                    if !matches!(name.as_str(), "claims" | "credential" | "reads") {
                        names(member, found);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| names(item, found)),
            _ => {}
        }
    }
    let help = run(&["explain", "--help"]).out;
    let explanation = run(&["explain", "-f", GOOD, "-t", BOB, "--output", "json", "GET", "/admin"]).json();
    let mut found = Vec::new();
    names(&explanation, &mut found);
    assert!(found.len() > 40);
    for name in found {
        assert!(help.contains(&format!("`{name}`")), "`{name}` is not in the help of explain");
    }
}
