//! The pairs of policy and Envoy filter in Istio's tests (`authz/builder/testdata/http`). The decisions of the import
//! match the meaning of the filter of each pair. The policies are rewritten for this project, with the same fields and
//! forms.

use serde_json::{Value, json};

use super::*;

const WORKLOAD: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: ["*"], gateways: [istio-system/gw], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: httpbin, version: v1}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {metadata: {labels: {app: httpbin, version: v1}}}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: web}
spec: {selector: {matchLabels: {app: httpbin}}, jwtRules: [{issuer: i, jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'}]}
---
"#;

/// Returns a policy for the workload of the pairs.
fn policy(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {{selector: \
         {{matchLabels: {{app: httpbin, version: v1}}}}{rest}}}\n---\n"
    )
}

fn dry_run(policy: String, name: &str, word: &str) -> String {
    policy.replace(
        &format!("metadata: {{name: {name}}}"),
        &format!("metadata: {{name: {name}, annotations: {{istio.io/dry-run: '{word}'}}}}"),
    )
}

fn gateway(policies: &str) -> ImportedGateway {
    ImportedGateway::import(Dialect::Istio, &format!("{WORKLOAD}{policies}"), &mapped_options())
}

fn paths(paths: &str) -> String {
    format!("{{to: [{{operation: {{paths: [{paths}]}}}}]}}")
}

fn token(claims: Value) -> Request {
    get_request("/").token(claims)
}

/// Tests each field of the pair `allow-full-rule` in its four forms, and the negated field.
#[test]
fn allow_full_rule_field_by_field() {
    let source = |field: &str| format!("{{from: [{{source: {{{field}}}}}]}}");
    let operation = |field: &str| format!("{{to: [{{operation: {{{field}}}}}]}}");
    let when = |key: &str, values: &str| format!("{{when: [{{key: '{key}', {values}}}]}}");
    let sub = |iss: &str, sub: &str| token(json!({"iss": iss, "sub": sub}));
    let claim = |name: &str, value: &str| token(json!({name: value}));
    let env = |value: &str| get_request("/").header("x-header", value);
    let nested = |value: Value| token(json!({"nested1": {"nested2": value}}));
    let rows: Vec<(String, Vec<(Request, bool)>)> = vec![
        (
            source("requestPrincipals: [rp, 'rp-prefix-*', '*-suffix-rp', 'https://a.example/*']"),
            vec![
                (sub("rp", ""), true),
                (sub("rp-prefix-1", "x"), true),
                (sub("x", "my-suffix-rp"), true),
                (sub("https://a.example", "x"), true),
                (sub("other", "x"), false),
                (get_request("/"), false),
            ],
        ),
        (
            source("requestPrincipals: ['*']"),
            vec![(sub("i", "s"), true), (sub("i", ""), false), (get_request("/"), false)],
        ),
        (
            source("notRequestPrincipals: [rp, 'rp-prefix-*']"),
            vec![
                (sub("rp", ""), false),
                (sub("rp-prefix-", "x"), false),
                (sub("y", "x"), true),
                (get_request("/"), true),
            ],
        ),
        (source("notRequestPrincipals: ['*']"), vec![(sub("i", "s"), false), (get_request("/"), true)]),
        (
            source("remoteIpBlocks: [1.2.3.4, 5.6.0.0/16]"),
            vec![
                (get_request("/").peer("1.2.3.4"), true),
                (get_request("/").peer("5.6.7.8"), true),
                (get_request("/").peer("1.2.3.5"), false),
            ],
        ),
        (
            source("notRemoteIpBlocks: [9.0.0.1, 9.2.0.0/16]"),
            vec![
                (get_request("/").peer("9.0.0.1"), false),
                (get_request("/").peer("9.2.3.4"), false),
                (get_request("/").peer("9.1.0.1"), true),
            ],
        ),
        // no client has a mesh identity
        (source("principals: [p, 'p-*', '*-p', '*']"), vec![(get_request("/"), false)]),
        (source("notPrincipals: [p, '*']"), vec![(get_request("/"), true)]),
        (source("namespaces: [ns, '*']"), vec![(get_request("/"), false)]),
        (source("notNamespaces: ['*']"), vec![(get_request("/"), true)]),
        (source("serviceAccounts: [a/b, c]"), vec![(get_request("/"), false)]),
        (source("notServiceAccounts: [a/b]"), vec![(get_request("/"), true)]),
        (
            operation("methods: [GET, 'P*', '*ETE']"),
            vec![
                (get_request("/"), true),
                (get_request("/").method("PUT"), true),
                (get_request("/").method("DELETE"), true),
                (get_request("/").method("OPTIONS"), false),
                (get_request("/").method("get"), false),
            ],
        ),
        (operation("methods: ['*']"), vec![(get_request("/"), true)]),
        (
            operation("notMethods: [GET, 'P*']"),
            vec![(get_request("/"), false), (get_request("/").method("OPTIONS"), true)],
        ),
        (operation("notMethods: ['*']"), vec![(get_request("/"), false)]),
        (
            operation("hosts: [exact.com, '*.suffix.com', 'prefix.*']"),
            vec![
                (get_request("/").host("EXACT.com"), true),
                (get_request("/").host("a.Suffix.com"), true),
                (get_request("/").host("Prefix.org:80"), true),
                (get_request("/").host("exact.com:80"), false),
                (get_request("/").host("suffix.com"), false),
            ],
        ),
        (
            operation("notHosts: [exact.com, '*.suffix.com']"),
            vec![
                (get_request("/").host("exact.COM"), false),
                (get_request("/").host("x.suffix.com"), false),
                (get_request("/").host("other"), true),
            ],
        ),
        (operation("hosts: ['*']"), vec![(get_request("/"), true)]),
        (operation("ports: ['80', '90']"), vec![(get_request("/"), true)]),
        (operation("ports: ['8000']"), vec![(get_request("/"), false)]),
        (operation("notPorts: ['8000', '9000']"), vec![(get_request("/"), true)]),
        (operation("notPorts: ['80']"), vec![(get_request("/"), false)]),
        (
            when("request.headers[X-header]", "values: [h, 'h-prefix-*', '*-suffix-h']"),
            vec![
                (env("h"), true),
                (env("h-prefix-1"), true),
                (env("a-suffix-h"), true),
                (env("other"), false),
                (get_request("/"), false),
            ],
        ),
        (
            when("request.headers[X-header]", "values: ['*']"),
            vec![(env("x"), true), (env(""), true), (get_request("/"), false)],
        ),
        (
            when("request.headers[X-header]", "notValues: [h]"),
            vec![(env("h"), false), (env("x"), true), (get_request("/"), true)],
        ),
        (
            when("remote.ip", "values: [10.10.10.10, 192.168.10.0/24]"),
            vec![
                (get_request("/").peer("10.10.10.10"), true),
                (get_request("/").peer("192.168.10.9"), true),
                (get_request("/").peer("192.168.11.9"), false),
            ],
        ),
        (
            when("remote.ip", "notValues: [90.10.10.10]"),
            vec![(get_request("/").peer("90.10.10.10"), false), (get_request("/"), true)],
        ),
        (when("source.namespace", "values: [ns]"), vec![(get_request("/"), false)]),
        (when("source.namespace", "notValues: [ns]"), vec![(get_request("/"), true)]),
        (when("source.principal", "values: ['*']"), vec![(get_request("/"), false)]),
        (when("source.principal", "notValues: ['*']"), vec![(get_request("/"), true)]),
        (
            when("request.auth.principal", "values: ['https://a.example/*']"),
            vec![(sub("https://a.example", "x"), true), (sub("https://b.example", "x"), false)],
        ),
        (
            when("request.auth.audiences", "values: [aud, 'aud-*', '*-aud']"),
            vec![
                (claim("aud", "aud"), true),
                (token(json!({"aud": ["x", "aud-1"]})), true),
                (claim("aud", "my-aud"), true),
                (claim("aud", "x"), false),
            ],
        ),
        (
            when("request.auth.audiences", "notValues: [aud]"),
            vec![(claim("aud", "aud"), false), (get_request("/"), true)],
        ),
        (
            when("request.auth.presenter", "values: [p, 'p-*', '*-p', '*']"),
            vec![(claim("azp", "x"), true), (get_request("/"), false)],
        ),
        (when("request.auth.presenter", "notValues: [p]"), vec![(claim("azp", "p"), false), (claim("azp", "q"), true)]),
        (
            when("request.auth.claims[iss]", "values: [i, 'i-*', '*-i']"),
            vec![
                (claim("iss", "i"), true),
                (claim("iss", "i-1"), true),
                (claim("iss", "my-i"), true),
                (claim("iss", "x"), false),
            ],
        ),
        (
            when("request.auth.claims[iss]", "notValues: [i]"),
            vec![(claim("iss", "i"), false), (get_request("/"), true)],
        ),
        (
            when("request.auth.claims[nested1][nested2]", "values: [n, 'n-*', '*-n']"),
            vec![
                (nested(json!("n")), true),
                (nested(json!(["x", "n-1"])), true),
                (nested(json!("my-n")), true),
                (nested(json!({"n": 1})), false),
                (claim("nested1", "n"), false),
            ],
        ),
        (
            when("request.auth.claims[nested1][nested2]", "notValues: ['*']"),
            vec![(nested(json!("n")), false), (nested(json!("")), true), (get_request("/"), true)],
        ),
        // there is no server name over cleartext
        (when("connection.sni", "values: [exact.com, '*.suffix.com', '*']"), vec![(get_request("/"), false)]),
        (when("connection.sni", "notValues: [exact.com]"), vec![(get_request("/"), true)]),
        // an ALLOW with an unsupported condition allows nothing
        (when("destination.ip", "values: [10.10.10.10]"), vec![(get_request("/"), false)]),
        (when("destination.port", "values: ['80']"), vec![(get_request("/"), true)]),
        (when("destination.port", "notValues: ['80']"), vec![(get_request("/"), false)]),
        (when("experimental.envoy.filters.a.b[c]", "values: [exact]"), vec![(get_request("/"), false)]),
    ];
    for (rule, requests) in rows {
        let gateway = gateway(&policy("p", &format!(", rules: [{rule}]")));
        for (request, allowed) in requests {
            let evaluation = gateway.evaluate(&request);
            assert_eq!(evaluation.outcome != "403", allowed, "{rule}\n{request:?}\n{}", gateway.yaml);
            assert_eq!(evaluation.failed, 0, "{rule}\n{request:?}");
        }
    }
    // behind a gateway, the direct peer is not the client
    let behind = import_file(
        Dialect::Istio,
        &format!("{WORKLOAD}{}", policy("p", ", rules: [{from: [{source: {ipBlocks: [1.2.3.4]}}]}]")),
        &mapped_options(),
    );
    assert!(behind.config.is_none(), "{}", report(&behind));
}

#[test]
fn remaining_pairs() {
    let rules = |name: &str, rest: &str| policy(name, &format!(", rules: [{rest}]"));
    let deny = |name: &str, rest: &str| policy(name, &format!(", action: DENY, rules: [{rest}]"));
    let templates = paths("/exact, '/prefix/*', '*/suffix', '/path/template/{*}', '/{**}/path/template'");
    let not =
        paths("/not-exact, '/not-prefix/*', '*/not-suffix', '/not-path/template/{*}'").replace("paths", "notPaths");
    for (pair, policies, requests) in [
        ("allow-empty-rule", rules("p", "{}"), vec![("/", true)]),
        ("allow-nil-rule", policy("p", ""), vec![("/", false)]),
        ("deny-empty-rule", deny("p", "{}"), vec![("/", false)]),
        (
            "allow-path",
            rules("p", &templates),
            vec![
                ("/exact", true),
                ("/exact/", false),
                ("/prefix/x", true),
                ("/prefix", false),
                ("/a/suffix", true),
                ("/path/template/x", true),
                ("/path/template/", false),
                ("/path/template/x/y", false),
                ("/a/b/path/template", true),
                ("/other", false),
            ],
        ),
        (
            "allow-path, notPaths",
            rules("p", &not),
            vec![
                ("/not-exact", false),
                ("/not-prefix/x", false),
                ("/x/not-suffix", false),
                ("/not-path/template/x", false),
                ("/other", true),
            ],
        ),
        (
            "deny-and-allow",
            format!("{}{}", deny("d", &paths("/deny")), rules("a", &paths("/allow, /deny"))),
            vec![("/deny", false), ("/allow", true), ("/other", false)],
        ),
        (
            "multiple-policies",
            format!("{}{}", rules("a", &paths("/1")), rules("b", &paths("/2"))),
            vec![("/1", true), ("/2", true), ("/3", false)],
        ),
        (
            "single-policy",
            rules("p", &format!("{}, {}", paths("/1"), paths("/2"))),
            vec![("/1", true), ("/2", true), ("/3", false)],
        ),
        (
            "dry-run-mix",
            format!(
                "{}{}",
                dry_run(rules("t", &paths("/allow")), "t", "true"),
                dry_run(rules("e", &paths("/another")), "e", "false")
            ),
            vec![("/another", true), ("/allow", false)],
        ),
        ("dry-run-allow", dry_run(rules("t", &paths("/allow")), "t", "true"), vec![("/allow", true), ("/x", true)]),
        (
            "dry-run-allow-and-deny",
            format!(
                "{}{}",
                dry_run(rules("t", &paths("/allow")), "t", "true"),
                dry_run(deny("d", &paths("/deny")), "d", "true")
            ),
            vec![("/allow", true), ("/deny", true)],
        ),
        (
            "audit-full-rule",
            policy("p", ", action: AUDIT, rules: [{to: [{operation: {methods: ['*']}}]}]"),
            vec![("/", true)],
        ),
        (
            "simple-policy-td-aliases",
            rules("p", "{from: [{source: {principals: [td1/ns/a/sa/b]}}, {source: {notPrincipals: [td1/ns/a/sa/c]}}]}"),
            vec![("/", true)],
        ),
        (
            "simple-policy-principal-with-wildcard",
            rules("p", "{from: [{source: {principals: ['*/ns/a/sa/b']}}]}"),
            vec![("/", false)],
        ),
        (
            "td-aliases-source-principal",
            rules("p", "{when: [{key: source.principal, values: [a/ns/b/sa/c]}]}"),
            vec![("/", false)],
        ),
    ] {
        let gateway = gateway(&policies);
        for (path, allowed) in requests {
            assert_eq!(gateway.allows(&get_request(path)), allowed, "{pair}: {path}\n{}", gateway.yaml);
        }
    }
    // the rules in shadow mode are reported
    let mix = gateway(&dry_run(policy("t", &format!(", rules: [{}]", paths("/allow"))), "t", "true"));
    assert_eq!(mix.evaluate(&get_request("/x")).shadow, ["none"]);
    assert!(mix.evaluate(&get_request("/allow")).shadow.is_empty());
    // `custom-*`: an external service decides
    let custom = policy("c", ", action: CUSTOM, provider: {name: default}, rules: [{}]");
    let imported = import_file(Dialect::Istio, &format!("{WORKLOAD}{custom}"), &mapped_options());
    assert!(
        imported.config.is_none() && report(&imported).contains("decisions of an external service"),
        "{}",
        report(&imported)
    );
}
