//! Tests of the command line through the real binary: its output and exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails its test"
)]
#![allow(unreachable_pub, reason = "the modules of one test binary")]

mod support;

#[path = "cli/online.rs"]
mod online;
#[path = "cli/usage.rs"]
mod usage;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{PORTCULLIS, ROOT, TempDir};

/// The exit code and the output of a command.
#[derive(Debug)]
struct CommandOutput {
    code: i32,
    out: String,
    err: String,
}

impl CommandOutput {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a command in the root of the repository.
#[track_caller]
fn run(arguments: &[&str]) -> CommandOutput {
    run_with(arguments, "")
}

#[track_caller]
fn run_with(arguments: &[&str], input: &str) -> CommandOutput {
    let mut command = Command::new(PORTCULLIS);
    command.args(arguments).current_dir(ROOT).env_remove("NO_COLOR");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("portcullis");
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()); // the command may exit without reading its input
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    CommandOutput {
        code: output.status.code().expect("an exit code"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

const GOOD: &str = "examples/quickstart.yaml";
const ALICE: &str = "@manifests/jwt/alice.jwt";
const BOB: &str = "@manifests/jwt/bob.jwt";

/// A config with nearly every kind of warning.
const DUBIOUS: &str = r#"
binds:
- port: 3000
  listeners:
  - hostname: "*.example.com"
    policies:
      jwtAuth:
        mode: strict
        issuer: agentgateway.dev
        audiences: [test.agentgateway.dev]
        jwks: {file: ./manifests/jwt/pub-key}
      authorization:
        rules:
        - deny: jwt.banned == true
        - allow: 'true'
        - allow: request.method == "get"
        - require: '1 == 1'
        - deny: '1 == 2'
        - deny: '1 == 2'
    routes:
    - name: a
      matches: [{path: {pathPrefix: /a}}]
    - name: b
      matches: [{path: {pathPrefix: /a}}]
      policies:
        jwtAuth: {jwks: {file: ./manifests/jwt/pub-key}}
    - name: c
      hostnames: [other.org]
      policies: {authorization: {rules: []}}
    - name: d
      matches: [{path: {pathPrefix: /d}}]
      policies:
        jwtAuth:
          mode: shadow
          issuer: a
          audiences: [b]
          algorithms: [HS256, RS256]
          jwks: {keys: [{kty: oct, k: c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0}, {kty: oct, k: c2hvcnQ}]}
        authorization: {mode: shadow, rules: ['request.path == "d"']}
  - hostname: open.example.com
    name: open
    routes:
    - policies: {authorization: {rules: ['jwt.sub == "a"']}}
"#;

#[test]
fn every_warning_is_reported_at_its_line() {
    let found = run(&["validate", "--output", "json", "-c", DUBIOUS]);
    assert_eq!(found.code, 0, "{found:?}");
    let all = found.json();
    let file = &all["files"][0];
    let shown: Vec<String> = file["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| format!("{} {}", finding["line"], finding["id"].as_str().unwrap()))
        .collect();
    let expected = [
        "14 W008", "15 W011", "16 W010", "17 W009", "18 W010", "19 W010", "19 W011", "23 W012", "26 W001", "26 W002",
        "26 W003", "26 W007", "27 W012", "29 W006", "34 W007", "34 W016", "38 W013", "38 W015", "39 W016", "39 W010",
        "43 W017",
    ];
    for entry in expected {
        assert!(shown.iter().any(|found| found == entry), "{entry} is not in {shown:?}");
    }
    assert_eq!(shown.len(), expected.len(), "{shown:?}");
    assert_eq!(file["summary"]["routes"]["strict"], 2);
    assert_eq!(run(&["validate", "--strict", "-c", DUBIOUS]).code, 1);
    assert_eq!(run(&["validate", "--strict", "-f", GOOD]).code, 0);
}

#[test]
fn insecure_and_ineffective_settings_cause_warnings() {
    let listener = |inner: &str| format!("binds: [{{port: 3000, listeners: [{{{inner}}}]}}]");
    let jwt = |jwks: &str| format!("jwtAuth: {{mode: strict, issuer: a, audiences: [b], jwks: {jwks}}}");
    let header = "transformations: {request: {set: {x-user: jwt.sub}}}";
    let keys = jwt("{file: ./manifests/jwt/pub-key}");
    let stripped = keys.replace("mode:", "claimsToHeaders: [{claim: sub, header: X-User}], mode:");
    let split = keys.replace("mode:", "splitClaims: [scope], mode:");
    let (scopes, route) = ("authorization: {rules: [{deny: 'scopes(jwt).contains(\"x\")'}]}", "routes: [{}]");
    let backend = |tls: &str| format!("routes: [{{backends: [{{host: a:1, policies: {{backendTLS: {tls}}}}}]}}]");
    for (inner, ids) in [
        (format!("policies: {{{}}}", jwt("{url: 'http://idp/certs'}")), &["W005"][..]),
        (format!("policies: {{{}}}", jwt("{url: 'https://idp/certs', tls: {insecure: true}}")), &["W004"]),
        (format!("policies: {{{}}}", jwt("{url: 'https://idp/certs'}")), &[]),
        (backend("{insecure: true}"), &["W004"]),
        (backend("{}"), &[]),
        (format!("policies: {{{keys}, {header}}}"), &["W014"]),
        (format!("policies: {{{stripped}, {header}}}"), &[]),
        (format!("policies: {{{keys}, {scopes}}}, {route}"), &["W019"]),
        (format!("policies: {{{split}, {scopes}}}, {route}"), &[]),
        (format!("policies: {{{split}, {scopes}}}, routes: [{{policies: {{{keys}}}}}]"), &["W019"]),
        (format!("policies: {{{keys}, {scopes}}}, routes: [{{policies: {{{split}}}}}]"), &[]),
    ] {
        let found = run(&["validate", "--output", "json", "-c", &listener(&inner)]);
        let report = found.json();
        let findings = report["files"][0]["findings"].as_array().unwrap();
        let shown: Vec<_> = findings.iter().map(|finding| finding["id"].as_str().unwrap()).collect();
        assert_eq!(shown, ids, "{inner}: {report:#}");
    }
}

#[test]
fn every_error_has_an_id_and_a_location() {
    let folder = TempDir::new();
    let large = folder.write("large.yaml", vec![b'#'; (4 << 20) + 1]);
    let latin = folder.write("latin.yaml", b"binds: [\xe9]");
    let listener = |inner: &str| format!("binds: [{{port: 3000, listeners: [{{{inner}}}]}}]");
    let rule = |cel: &str| listener(&format!("policies: {{authorization: {{rules: ['{cel}']}}}}"));
    let jwks = |jwks: &str| listener(&format!("policies: {{jwtAuth: {{issuer: a, jwks: {jwks}}}}}"));
    for (arguments, id) in [
        (["-f", "no/such.yaml"], "E001"),
        (["-f", large.to_str().unwrap()], "E001"),
        (["-f", latin.to_str().unwrap()], "E001"),
        (["-f", "src"], "E001"),
        (["-c", "binds: ["], "E002"),
        (["-c", ""], "E002"),
        (["-c", "bind: []"], "E003"),
        (["-c", "binds: 1"], "E004"),
        (["-c", "binds: [{listeners: []}]"], "E005"),
        (["-c", "binds: [{port: 1, listeners: [{}]}]\nbinds: []"], "E006"),
        (
            [
                "-c",
                "gatewayPolicies: [{name: x, target: {gateway: x}, policy: {timeout: {request: 1s}}}]\nbinds: [{port: 1, listeners: [{}]}]",
            ],
            "E007",
        ),
        (["-c", &jwks("{file: no-such-file}")], "E008"),
        (["-c", &rule("request.pth == \"/\"")], "E009"),
        (["-c", &jwks("{keys: []}")], "E010"),
        (["-c", "config: {adminAddr: '${NO_SUCH_VARIABLE}'}\nbinds: [{port: 1, listeners: [{}]}]"], "E011"),
    ] {
        let output = run(&["validate", arguments[0], arguments[1]]);
        let first = output.err.lines().next().unwrap_or_default();
        assert!(first.starts_with(&format!("error[{id}]: ")), "{arguments:?}: {output:?}");
        assert_eq!((output.code, output.out.as_str()), (2, ""), "{arguments:?}");
    }
}

#[test]
fn results_go_to_standard_output_and_notes_to_standard_error() {
    let good = run(&["validate", "-f", GOOD, "examples/grpc.yaml"]);
    assert_eq!((good.code, good.err.as_str()), (0, ""));
    assert_eq!(
        good.out,
        "examples/quickstart.yaml: ok: 1 bind, 1 listener, 1 route (1 strict, 0 optional, 0 open), 1 provider, 2 rules\n\
         examples/grpc.yaml: ok: 1 bind, 1 listener, 1 route (1 strict, 0 optional, 0 open), 1 provider, 2 rules\n"
    );
    assert_eq!(run(&["-f", GOOD, "--validate-only"]).code, 0);
    let yaml = std::fs::read_to_string(format!("{ROOT}/{GOOD}")).unwrap();
    assert!(run_with(&["validate", "-f", "-"], &yaml).out.starts_with("<stdin>: ok: "));
    let github = run(&["validate", "--output", "github", "-c", "a,b: 1"]);
    assert_eq!(github.code, 2);
    assert!(github.out.starts_with("::error file=<config>,line=1,col=1,title=E003 unknown key::"), "{}", github.out);
}

#[test]
fn explain_prints_the_reason_and_sets_the_exit_code() {
    let explain = |more: &[&str]| run(&[&["explain", "-f", GOOD], more].concat());
    for (arguments, code, says) in [
        (&["GET", "/"][..], 3, "=> 401 missing_token"),
        (&["--token", ALICE, "GET", "http://localhost:3000/admin"], 0, "=> forwarded to localhost:8080"),
        (&["--token", BOB, "GET", "/admin"], 4, "=> 403 denied"),
        (&["--token", BOB, "GET", "/admin"], 4, "jwt.groups: [\"users\"]"),
        (&["--token", "@manifests/jwt/expired.jwt", "GET", "/"], 3, "FAIL exp       `exp` is 1735693200"),
        (&["--token", "@manifests/jwt/expired.jwt", "--at", "2025-01-01T00:30:00Z", "GET", "/"], 0, "=> forwarded"),
        (&["--token", "not-a-token", "GET", "/"], 3, "=> 401 malformed_token"),
        (
            &["-H", "Authorization: Basic YTpi", "GET", "/"],
            3,
            "hint: the Authorization header contains no bearer token",
        ),
        (&["--token", BOB, "GET", "/a%2fb"], 1, "=> 400 bad_path"),
        (&["--token", ALICE, "-H", "Authorization: Bearer x", "GET", "/"], 1, "=> 400 multiple_tokens"),
        (&["-H", "content-type: application/grpc", "GET", "/"], 3, "missing_token"),
        (
            &["GET", "http://localhost:9/"],
            3,
            "note           no bind has the port 9: evaluated as a request on [::]:3000",
        ),
    ] {
        let output = explain(arguments);
        assert_eq!(output.code, code, "{arguments:?}: {output:?}");
        assert!(output.out.contains(says), "{arguments:?}: {}", output.out);
    }
    for (arguments, says) in [
        (&["GET", "http://"][..], "not a URL"),
        (&["--token", "@no/such/file", "GET", "/"], "cannot read no/such/file"),
        (&["-H", "nonsense", "GET", "/"], "a header is NAME: VALUE"),
        (&["--at", "soon", "GET", "/"], "a time is"),
        (&["GET"], "required"),
    ] {
        let output = explain(arguments);
        assert_eq!((output.code, output.out.as_str()), (2, ""), "{arguments:?}: {output:?}");
        assert!(output.err.contains(says), "{arguments:?}: {}", output.err);
    }
}

#[test]
fn explain_shows_the_response_or_the_headers_for_the_backend() {
    let config = "binds: [{port: 3000, listeners: [{routes: [
        {name: gone, matches: [{path: {pathPrefix: /gone}}], policies: {directResponse: {status: 410}}},
        {name: site, matches: [{path: {pathPrefix: /site}}], backends: [{host: 'a:1'}], policies: {
          cors: {allowOrigins: ['*'], allowMethods: [GET]}, jwtAuth: {mode: strict, issuer: agentgateway.dev,
          audiences: [test.agentgateway.dev], jwks: {file: ./manifests/jwt/pub-key}, claimsToHeaders: [{claim: sub, header: x-user}]},
          requestHeaderModifier: {set: {x-edited: yes-it-is}}}}]}]}]";
    let explain = |more: &[&str]| run(&[&["explain", "-c", config], more].concat());
    let gone = explain(&["GET", "/gone"]);
    assert_eq!(gone.code, 0);
    assert!(gone.out.ends_with("=> 410, from the route itself\n"), "{}", gone.out);
    let preflight = ["-H", "Origin: https://a.example", "-H", "Access-Control-Request-Method: GET", "OPTIONS", "/site"];
    assert!(explain(&preflight).out.ends_with("=> a preflight, answered by `cors` before authentication\n"));
    assert_eq!(explain(&["OPTIONS", "/site"]).code, 3);
    let explanation = explain(&["-t", ALICE, "-H", "x-user: root", "--output", "json", "GET", "/site"]).json();
    let headers = explanation["upstreamHeaders"].as_array().unwrap();
    let value = |name: &str| headers.iter().find(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap());
    assert_eq!((value("x-user"), value("x-edited"), value("authorization")), (Some("alice"), Some("yes-it-is"), None));
}

#[test]
fn explain_never_prints_the_token_and_labels_unverified_claims() {
    for format in ["text", "json"] {
        for name in ["alice", "bob", "expired"] {
            let argument = format!("@manifests/jwt/{name}.jwt");
            let token = std::fs::read_to_string(format!("{ROOT}/manifests/jwt/{name}.jwt")).unwrap();
            let output = run(&["explain", "-f", GOOD, "--output", format, "-t", &argument, "GET", "/admin"]);
            for part in token.trim().split('.') {
                assert!(!output.out.contains(part) && !output.err.contains(part), "{output:?}");
            }
            if name == "expired" {
                assert!(
                    output.out.contains(if format == "text" { "UNVERIFIED" } else { "unverifiedClaims" }),
                    "{output:?}"
                );
            }
        }
    }
}

#[test]
fn near_misses_of_issuer_and_route_are_shown() {
    let yaml = std::fs::read_to_string(format!("{ROOT}/{GOOD}")).unwrap();
    let slash = yaml.replace("issuer: agentgateway.dev", "issuer: agentgateway.dev/");
    let output = run(&["explain", "-c", &slash, "--token", ALICE, "GET", "/"]);
    assert_eq!(output.code, 3);
    assert!(output.out.contains("it differs from `agentgateway.dev/` only by a trailing slash"), "{}", output.out);
    let routes = "binds: [{port: 3000, listeners: [{routes: [
        {name: orders, matches: [{path: {exact: /orders}, method: POST}], backends: [{host: a:1}]},
        {name: below, matches: [{path: {pathPrefix: /order}}], backends: [{host: a:1}]}]}]}]";
    let output = run(&["explain", "-c", routes, "GET", "/orders"]);
    assert_eq!(output.code, 1);
    assert!(output.out.contains("not          orders (<config>:2): its method is POST"), "{}", output.out);
    assert!(output.out.contains("below (<config>:3): the prefix /order matches whole segments only"), "{}", output.out);
}

#[test]
fn tests_pass_fail_and_report_coverage() {
    let path = "examples/tests/quickstart.yaml";
    let good = run(&["test", "--fail-under", "100", path]);
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.out.ends_with("7 tests: 7 passed, 0 failed; covered: routes 1/1, rules 2/2\n"), "{}", good.out);

    let folder = TempDir::new();
    let wrong = folder.write(
        "wrong.yaml",
        "tests:\n- name: a <b> & \"c\"\n  request: {url: /admin}\n  token: {claims: {groups: []}}\n  expect: {status: 200, route: x}\n",
    );
    let wrong = wrong.to_str().unwrap();
    let failed = run(&["test", "-f", GOOD, wrong]);
    assert_eq!(failed.code, 1);
    let lines: Vec<_> = failed.out.lines().collect();
    assert!(lines[0].starts_with("FAIL  a <b> & \"c\" ("), "{lines:?}");
    assert_eq!(lines[1..3], ["      status: expected 200, got 403", "      route: expected x, got route0"]);
    assert!(failed.out.contains("never true: rule allow[0] (examples/quickstart.yaml:13)"), "{}", failed.out);
    let junit = run(&["test", "-f", GOOD, "--output", "junit", wrong, path]).out;
    assert!(junit.contains("name=\"a &lt;b&gt; &amp; &quot;c&quot;\""), "{junit}");
    assert_eq!(junit.matches("<failure ").count(), 1);
    let json = run(&["test", "-f", GOOD, "--output", "json", wrong]).json();
    assert_eq!((&json["failed"], &json["files"][0]["tests"][0]["ok"]), (&Value::from(1), &Value::from(false)));
    let late = folder.write(
        "late.yaml",
        "tests: [{name: late, token: {expiresIn: -1h, claims: {aud: other}}, request: {}, expect: {reason: expired}}]",
    );
    let failed = run(&["test", "-f", GOOD, late.to_str().unwrap()]);
    assert!(failed.out.contains("      FAIL aud: `aud` is `other`, expected one of"), "{}", failed.out);
    let json = run(&["test", "-f", GOOD, "--output", "json", late.to_str().unwrap()]).json();
    assert_eq!(json["files"][0]["tests"][0]["failedCheck"]["name"], "aud");

    // a require rule is covered by a rejection, other rules when they are true
    let rules = folder.write(
        "rules.yaml",
        std::fs::read_to_string(format!("{ROOT}/{GOOD}")).unwrap().replace(
            "- allow: 'jwt.groups",
            "- {name: mfa, require: 'jwt.mfa == true'}\n        - {name: banned, deny: 'jwt.banned == true'}\n        - allow: 'jwt.groups",
        ),
    );
    let covered = |claims: &[&str]| {
        let tests: String = claims
            .iter()
            .map(|claims| format!("- {{name: one, request: {{}}, token: {{claims: {{{claims}}}}}, expect: {{}}}}\n"))
            .collect();
        let file = folder.write("covered.yaml", format!("tests:\n{tests}"));
        run(&["test", "-f", rules.to_str().unwrap(), file.to_str().unwrap()]).out
    };
    let good = "mfa: true, banned: false, groups: [admins]";
    assert!(covered(&[good]).contains("  never rejects: rule mfa ("), "{}", covered(&[good]));
    assert!(covered(&[good]).contains("  never true: rule banned ("), "{}", covered(&[good]));
    let all = covered(&[good, "mfa: false, banned: true"]);
    assert!(all.ends_with("covered: routes 1/1, rules 4/4\n"), "{all}");

    let few = folder.write("few.yaml", "tests: [{name: one, request: {url: /}, expect: {status: 401}}]");
    assert_eq!(run(&["test", "-f", GOOD, few.to_str().unwrap()]).code, 0);
    assert_eq!(run(&["test", "-f", GOOD, "--fail-under", "50", few.to_str().unwrap()]).code, 1);
    let typo = folder.write("typo.yaml", "tests: [{name: one, expects: {status: 401}, request: {}, expect: {}}]");
    let output = run(&["test", "-f", GOOD, typo.to_str().unwrap()]);
    assert_eq!(output.code, 2);
    assert!(
        output.err.contains("did you mean `expect`?") || output.err.contains("unknown key `expects`"),
        "{}",
        output.err
    );
}

#[test]
fn gateway_accepts_tokens_signed_by_generated_keys() {
    let folder = TempDir::new();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for alg in ["ES256", "ES384", "ES512", "EdDSA", "RS256", "PS512", "HS384"] {
        let (name, private, public) = (at(alg), at(&format!("{alg}.private.json")), at(&format!("{alg}.jwks.json")));
        let keygen = run(&["token", "keygen", "--alg", alg, "--out", &name, "--output", "json"]);
        assert_eq!(keygen.code, 0, "{keygen:?}");
        let mode = std::fs::metadata(&private).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{alg}");
        assert_eq!(run(&["token", "keygen", "--alg", alg, "--out", &name]).code, 1, "it is there already");
        let minted = run(&[
            "token",
            "mint",
            "--key",
            &private,
            "--iss",
            "me",
            "--aud",
            "here",
            "--claim",
            "groups=[\"admins\"]",
            "--claim",
            "note=plain text",
        ]);
        let config = format!(
            "binds: [{{port: 3000, listeners: [{{policies: {{jwtAuth: {{mode: strict, issuer: me, audiences: [here], \
             algorithms: [{alg}], jwks: {{file: {public}}}}}}}}}]}}]"
        );
        let config = folder.write("config.yaml", config);
        let config = config.to_str().unwrap();
        let verified = run_with(&["token", "inspect", "-", "-f", config, "--output", "json"], &minted.out);
        assert_eq!(verified.code, 0, "{alg}: {verified:?}");
        let report = verified.json();
        assert_eq!((&report["verified"], &report["header"]["alg"]), (&Value::Bool(true), &Value::from(alg)));
        assert_eq!(
            (&report["claims"]["groups"][0], &report["claims"]["note"]),
            (&"admins".into(), &"plain text".into())
        );
        let old = run(&["token", "mint", "--key", &private, "--iss", "me", "--aud", "here", "--exp", "-1h"]);
        let rejected = run_with(&["token", "inspect", "-", "-f", config], &old.out);
        assert_eq!(rejected.code, 1);
        assert!(rejected.out.starts_with("REJECTED expired: `exp` is"), "{}", rejected.out);
        let jwks = run(&["token", "jwks", &private]);
        match alg {
            "HS384" => assert_eq!(jwks.code, 2),
            _ => assert_eq!(
                jwks.json(),
                serde_json::from_str::<Value>(&std::fs::read_to_string(&public).unwrap()).unwrap()
            ),
        }
    }
}

#[test]
fn inspect_labels_tokens_unverified_without_a_config() {
    let output = run(&["token", "inspect", ALICE]);
    assert_eq!(output.code, 0);
    assert!(output.out.starts_with("UNVERIFIED: the signature was not checked"), "{}", output.out);
    let output = run(&["token", "inspect", ALICE, "-f", GOOD]);
    assert!(output.out.starts_with("VERIFIED by provider \"agentgateway.dev\" (route route0)\n"), "{}", output.out);
    for (token, says) in [("a.b", "three parts"), ("a.b.c", "the header is not"), ("a.b.c.d.e", "encrypted")] {
        let output = run(&["token", "inspect", token]);
        assert_eq!(output.code, 1);
        assert!(output.err.contains(says) && output.err.lines().count() == 1, "{output:?}");
    }
    assert_eq!(run(&["token", "inspect", ""]).code, 2);
}

#[test]
fn config_print_shows_the_line_of_each_policy() {
    let print = |more: &[&str]| run(&[&["config", "print"], more].concat());
    let gateway = "examples/jwt-gateway.yaml";
    let all = print(&["--effective", "-f", gateway]);
    assert_eq!(all.code, 0, "{all:?}");
    assert!(
        all.out.contains("    jwtAuth                route (examples/jwt-gateway.yaml:13): permissive"),
        "{}",
        all.out
    );
    assert!(
        all.out.contains("    jwtAuth                gateway (examples/jwt-gateway.yaml:28): strict"),
        "{}",
        all.out
    );
    let report = print(&["--effective", "--route", "health", "--output", "json", "-f", gateway]).json();
    let routes = report["binds"][0]["listeners"][0]["routes"].as_array().unwrap();
    assert_eq!((routes.len(), &routes[0]["policies"][0]["level"]), (1, &Value::from("route")));
    let none = print(&["--route", "nope", "-f", gateway]);
    assert_eq!(none.code, 2);
    assert!(none.err.contains("no route `nope`; the routes are: health"), "{}", none.err);
}

#[test]
fn schema_explains_fields() {
    let schema = run(&["schema"]).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for path in ["routes.policies.jwtAuth.mode", "binds[0].listeners[0].policies.jwtAuth.mode", "jwtAuth.mode"] {
        let output = run(&["schema", "--explain", path]);
        let expected = "strict | optional | permissive | shadow\n  The treatment of missing and invalid tokens; default `optional`";
        assert!(output.out.starts_with(&format!("{path}: {expected}")), "{}", output.out);
    }
    let report = run(&["schema", "--explain", "config.limits", "--output", "json"]).json();
    let head = report["fields"].as_array().unwrap().iter().find(|field| field["name"] == "head").unwrap();
    assert_eq!(head["description"], "The maximum size of a request's headers; default `64KiB`.");
    let wrong = run(&["schema", "--explain", "config.limits.foo"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.starts_with("error: no field `foo`; the fields are: body, "), "{}", wrong.err);
}

#[test]
fn version_completion_and_help_work() {
    assert_eq!(run(&["version"]).out, format!("portcullis {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(&["version", "--output", "json"]).json()["version"], env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completion", shell]).out.contains("explain"), "{shell}");
    }
    for command in ["validate", "explain", "test", "token", "config", "schema", "completion"] {
        let help = run(&[command, "--help"]);
        assert_eq!(help.code, 0);
        assert!(help.out.contains("Usage: portcullis"), "{command}");
    }
    assert_eq!(run(&["nonsense"]).code, 2);
}

#[test]
fn closed_pipe_is_not_an_error() {
    let mut command = Command::new(PORTCULLIS);
    command.args(["config", "print", "-f", GOOD]).current_dir(ROOT).stdin(Stdio::null()).stderr(Stdio::piped());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn output_to_a_pipe_has_no_colors() {
    for arguments in
        [&["validate", "-c", "x: 1"][..], &["explain", "-f", GOOD, "GET", "/"], &["token", "inspect", ALICE]]
    {
        let output = run(arguments);
        assert!(!output.out.contains('\u{1b}') && !output.err.contains('\u{1b}'), "{output:?}");
    }
}

#[test]
fn one_run_reports_all_errors() {
    let yaml = "\
config: {drainTimeout: soon}
binds:
- port: many
  listeners: []
- port: 3000
  listeners:
  - routes:
    - polices: {}
      policies:
        jwtAuth: {mode: strict, issuer: a, audiences: [b], jwks: {file: ./no-such-file}}
        authorization: {rules: ['request.pth == \"/\"', 'jwt.sub ==']}
      backends: [{host: localhost:8080, host: localhost:8081}]
";
    let output = run_with(&["validate", "-f", "-"], yaml);
    assert_eq!(output.code, 2, "{output:?}");
    for line in [1, 3, 8, 10, 11, 12] {
        assert!(output.err.contains(&format!("<stdin>:{line}:")), "line {line} is not in:\n{}", output.err);
    }
    for word in ["policies", "no-such-file", "request.path", "host"] {
        assert!(output.err.contains(word), "{word} is not in:\n{}", output.err);
    }
    let only_what_is_wrong =
        "binds: [{port: 0, listeners: [{routes: [{policies: {jwtAuth: {providers: [{issuer: 1}]}}}]}]}]";
    let output = run_with(&["validate", "-f", "-"], only_what_is_wrong);
    assert_eq!(output.err.matches("error[").count(), 1, "an error that only follows from another one:\n{}", output.err);
}
