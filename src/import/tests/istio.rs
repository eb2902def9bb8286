//! Istio: access decisions, case by case.

use serde_json::{Value, json};

use super::*;

/// A gateway on port 80 that routes everything to `default/web`.
const GATEWAY: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: ["*"]
  gateways: [istio-system/gw]
  http:
  - route:
    - destination: {host: web, port: {number: 80}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
"#;

/// Authentication for `default/web`.
const AUTHENTICATION: &str = r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  jwtRules:
  - issuer: https://a.example
    jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
    spaceDelimitedClaims: [words]
---
"#;

fn policies(policies: &str) -> ImportedGateway {
    ImportedGateway::import(Dialect::Istio, &format!("{GATEWAY}{AUTHENTICATION}{policies}"), &mapped_options())
}

/// Returns a policy for `default/web`.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec:\n  selector: \
         {{matchLabels: {{app: web}}}}\n{}---\n",
        spec.lines().map(|line| format!("  {line}\n")).collect::<String>()
    )
}

/// Imports a policy with one rule.
fn one(action: &str, rule: &str) -> ImportedGateway {
    policies(&policy("p", &format!("action: {action}\nrules:\n- {rule}")))
}

#[track_caller]
fn table(rule: &str, cases: &[(Request, bool)]) {
    let (allow, deny) = (one("ALLOW", rule), one("DENY", rule));
    for (request, matches) in cases {
        assert_eq!(allow.allows(request), *matches, "ALLOW {rule}: {request:?}\n{}", allow.yaml);
        assert_eq!(deny.allows(request), !matches, "DENY {rule}: {request:?}\n{}", deny.yaml);
    }
}

fn token(claims: Value) -> Request {
    get_request("/").token(claims)
}

fn subject(iss: &str, sub: &str) -> Request {
    token(json!({"iss": iss, "sub": sub}))
}

#[test]
fn without_policies_everything_is_allowed() {
    let gateway = policies("");
    assert_eq!(gateway.decide(&get_request("/")), "default/web/0");
    assert!(gateway.yaml.contains("mode: optional"), "{}", gateway.yaml);
}

#[test]
fn principals_are_issuer_and_subject() {
    let cases = [
        ("https://a.example/alice", "https://a.example", "alice", true),
        ("https://a.example/alice", "https://a.example", "bob", false),
        ("https://a.example/alice", "https://b.example", "alice", false),
        ("*", "https://a.example", "alice", true),
        ("*", "https://a.example", "", false),
        ("*/alice", "https://b.example", "alice", true),
        ("*/alice", "", "alice", false),
        ("https://a.example/*", "https://a.example", "bob", true),
        ("https://a.example/*", "https://a.example", "", false),
        ("https://a.example/al*", "https://a.example", "alice", true),
        ("https://a.example/al*", "https://a.example", "bob", false),
        ("*a.example/alice", "https://a.example", "alice", true),
        ("*a.example/alice", "https://b.example", "alice", false),
        ("issuer*", "issuer-1", "x", true),
        ("issuer*", "other", "x", false),
        ("*suffix", "x", "my-suffix", true),
        ("*suffix", "x", "other", false),
        ("*suffix", "", "my-suffix", false),
        ("issuer*", "issuer-1", "", false),
        // without a slash, the value is the issuer with an empty subject
        ("noslash", "noslash", "", true),
        ("noslash", "noslash", "x", false),
        // a star is a wildcard at one end only
        ("*/al*", "i", "al*", true),
        ("*/al*", "i", "alice", false),
        ("*", "", "", false),
    ];
    for (value, iss, sub, matches) in cases {
        let rule = format!("from: [{{source: {{requestPrincipals: ['{value}']}}}}]");
        table(&rule, &[(subject(iss, sub), matches), (get_request("/"), false)]);
        let rule = format!("from: [{{source: {{notRequestPrincipals: ['{value}']}}}}]");
        table(&rule, &[(subject(iss, sub), !matches), (get_request("/"), true)]);
        let rule = format!("when: [{{key: request.auth.principal, values: ['{value}']}}]");
        table(&rule, &[(subject(iss, sub), matches), (get_request("/"), false)]);
    }
    // unusual claims neither match nor make a rule fail
    let rule = "from: [{source: {requestPrincipals: ['*']}}]";
    for claims in [json!({}), json!({"iss": 1, "sub": 2}), json!({"iss": "a"}), json!({"iss": ["a"], "sub": null})] {
        table(rule, &[(token(claims), false)]);
    }
}

#[test]
fn claims_are_strings_or_lists_of_strings() {
    let when = |key: &str, values: &str| format!("when: [{{key: '{key}', {values}}}]");
    let groups = |claim: Value| token(json!({"iss": "i", "sub": "s", "groups": claim}));
    table(
        &when("request.auth.claims[groups]", "values: ['admins', 'ops-*']"),
        &[
            (groups(json!("admins")), true),
            (groups(json!("ops-1")), true),
            (groups(json!("not-admins")), false),
            (groups(json!("admins ops")), false),
            (groups(json!(["x", "admins"])), true),
            (groups(json!(["x", "ops-2"])), true),
            (groups(json!(["x", 1, null, ["admins"]])), false),
            (groups(json!([])), false),
            (groups(json!(true)), false),
            (groups(json!({"admins": 1})), false),
            (token(json!({})), false),
            (get_request("/"), false),
        ],
    );
    table(
        &when("request.auth.claims[groups]", "notValues: ['admins']"),
        &[
            (groups(json!("admins")), false),
            (groups(json!(["admins"])), false),
            (groups(json!("x")), true),
            (get_request("/"), true),
        ],
    );
    table(
        &when("request.auth.claims[flag]", "values: ['true', '1']"),
        &[
            (token(json!({"flag": true})), false),
            (token(json!({"flag": 1})), false),
            (token(json!({"flag": "true"})), true),
        ],
    );
    table(
        &when("request.auth.claims[realm][roles]", "values: ['a']"),
        &[
            (token(json!({"realm": {"roles": ["a"]}})), true),
            (token(json!({"realm": {"roles": "a"}})), true),
            (token(json!({"realm": "a"})), false),
            (token(json!({"realm.roles": "a"})), false),
        ],
    );
    table(
        &when("request.auth.claims[https://x/roles]", "values: ['a']"),
        &[(token(json!({"https://x/roles": ["a"]})), true), (token(json!({"https://x/roles": "b"})), false)],
    );
    table(
        &when("request.auth.claims[groups]", "values: ['*']"),
        &[
            (groups(json!("x")), true),
            (groups(json!("")), false),
            (groups(json!(["x"])), true),
            (groups(json!([""])), false),
        ],
    );
}

#[test]
fn claims_with_words_are_split() {
    for claim in ["scope", "permission", "words"] {
        let rule = format!("when: [{{key: 'request.auth.claims[{claim}]', values: ['write']}}]");
        let with = |value: Value| token(json!({claim: value}));
        table(
            &rule,
            &[
                (with(json!("write read")), true),
                (with(json!("write")), true),
                (with(json!("rewrite")), false),
                (with(json!(["write"])), true),
                (with(json!(7)), false),
            ],
        );
        let rule = format!("when: [{{key: 'request.auth.claims[{claim}]', values: ['write read']}}]");
        table(&rule, &[(with(json!("write read")), false)]);
    }
}

#[test]
fn audiences_and_presenter_are_claims() {
    table(
        "when: [{key: request.auth.audiences, values: [a]}]",
        &[
            (token(json!({"aud": "a"})), true),
            (token(json!({"aud": ["b", "a"]})), true),
            (token(json!({"aud": "b"})), false),
        ],
    );
    table(
        "when: [{key: request.auth.presenter, values: [a]}]",
        &[(token(json!({"azp": "a"})), true), (token(json!({"azp": "b"})), false), (get_request("/"), false)],
    );
}

#[test]
fn paths_are_exact_prefixes_suffixes_or_templates() {
    let path = |value: &str| format!("to: [{{operation: {{paths: ['{value}']}}}}]");
    for (value, path_, matches) in [
        ("/admin", "/admin", true),
        ("/admin", "/admin?x=1", true),
        ("/admin", "/admin/", false),
        ("/admin", "/Admin", false),
        ("/admin*", "/administration", true),
        ("*.html", "/a/b.html", true),
        ("*.html", "/a/b.htm", false),
        ("*", "/", true),
        ("/a/{*}/c", "/a/b/c", true),
        ("/a/{*}/c", "/a/b/b/c", false),
        ("/a/{*}/c", "/a//c", false),
        ("/a/{**}", "/a/", true),
        ("/a/{**}", "/a", false),
        ("/a/{**}", "/a/b/c", true),
        ("/a/{*}/b/{**}", "/a/x/b/y/z", true),
        ("/a/{*}/b/{**}", "/a//b/x", false),
        ("/a.b/{*}", "/a.b/c", true),
        ("/a.b/{*}", "/axb/c", false),
    ] {
        table(&path(value), &[(get_request(path_), matches)]);
        table(&path(value).replace("paths", "notPaths"), &[(get_request(path_), !matches)]);
    }
}

#[test]
fn methods_hosts_and_headers_are_compared() {
    table(
        "to: [{operation: {methods: [GET, 'P*']}}]",
        &[
            (get_request("/"), true),
            (get_request("/").method("POST"), true),
            (get_request("/").method("DELETE"), false),
        ],
    );
    table(
        "to: [{operation: {hosts: ['WWW.example.com', '*.test']}}]",
        &[
            (get_request("/"), true),
            (get_request("/").host("www.EXAMPLE.com"), true),
            // the authority as sent, with its port
            (get_request("/").host("www.example.com:8080"), false),
            (get_request("/").host("a.test"), true),
            (get_request("/").host("other"), false),
        ],
    );
    table(
        "to: [{operation: {notHosts: ['www.example.com']}}]",
        &[(get_request("/"), false), (get_request("/").host("x"), true)],
    );
    table(
        "when: [{key: 'request.headers[X-Env]', values: [prod, 'st*']}]",
        &[
            (get_request("/").header("x-env", "prod"), true),
            (get_request("/").header("x-env", "staging"), true),
            (get_request("/").header("x-env", "dev"), false),
            (get_request("/"), false),
        ],
    );
    table(
        "when: [{key: 'request.headers[x-env]', notValues: [prod]}]",
        &[
            (get_request("/").header("x-env", "prod"), false),
            (get_request("/").header("x-env", "dev"), true),
            (get_request("/"), true),
        ],
    );
}

#[test]
fn parts_of_a_rule_are_combined_with_and_their_entries_with_or() {
    let rule = "{from: [{source: {requestPrincipals: ['i/a']}}, {source: {requestPrincipals: ['i/b']}}], to: \
                [{operation: {methods: [GET], paths: ['/x']}}, {operation: {paths: ['/y']}}], when: [{key: \
                'request.auth.claims[g]', values: [g]}]}";
    let with = |sub: &str, path: &str, g: &str| get_request(path).token(json!({"iss": "i", "sub": sub, "g": g}));
    table(
        rule,
        &[
            (with("a", "/x", "g"), true),
            (with("b", "/y", "g"), true),
            (with("b", "/y", "g").method("PUT"), true),
            (with("b", "/x", "g").method("PUT"), false),
            (with("c", "/x", "g"), false),
            (with("a", "/z", "g"), false),
            (with("a", "/x", "h"), false),
        ],
    );
    table("{}", &[(get_request("/"), true)]);
}

#[test]
fn deny_takes_precedence_and_allow_policies_add_up() {
    let allow = |name: &str, path: &str| {
        policy(name, &format!("action: ALLOW\nrules:\n- to: [{{operation: {{paths: ['{path}']}}}}]"))
    };
    let deny = policy("d", "action: DENY\nrules:\n- from: [{source: {notRequestPrincipals: ['*']}}]");
    let gateway = policies(&format!("{}{}{deny}", allow("a", "/a"), allow("b", "/b")));
    for (path, with_token, allowed) in
        [("/a", true, true), ("/b", true, true), ("/c", true, false), ("/a", false, false), ("/c", false, false)]
    {
        let claims = if with_token { json!({"iss": "i", "sub": "s"}) } else { Value::Null };
        assert_eq!(gateway.allows(&get_request(path).token(claims)), allowed, "{path} {with_token}");
    }
}

#[test]
fn policies_without_rules_allow_nothing_or_deny_nothing() {
    assert!(!policies(&policy("p", "action: ALLOW")).allows(&get_request("/")));
    assert!(policies(&policy("p", "action: DENY")).allows(&get_request("/")));
    assert!(
        !policies("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {}")
            .allows(&get_request("/"))
    );
    assert!(policies(&policy("p", "rules:\n- {}")).allows(&get_request("/")));
    assert!(!policies(&policy("p", "action: DENY\nrules:\n- {}")).allows(&get_request("/")));
}

#[test]
fn audit_and_dry_run_policies_only_log() {
    let trial = |name: &str, spec: &str| {
        policy(name, spec).replace(
            &format!("{{name: {name}}}"),
            &format!("{{name: {name}, annotations: {{istio.io/dry-run: 'true'}}}}"),
        )
    };
    let path = |path: &str| format!("rules:\n- to: [{{operation: {{paths: ['{path}']}}}}]");
    let audit = policy("a", &format!("action: AUDIT\n{}", path("/a")));
    let gateway = policies(&audit);
    for (target, expected) in [("/a", &["default/a"][..]), ("/b", &[])] {
        let evaluation = gateway.evaluate(&get_request(target));
        let shadow: Vec<&str> = evaluation.shadow.iter().map(String::as_str).collect();
        assert_eq!((&*evaluation.outcome, &shadow[..]), ("default/web/0", expected), "{}", gateway.yaml);
    }
    let deny = trial("d", &format!("action: DENY\n{}", path("/d")));
    let allow = trial("l", &path("/l"));
    let enforced = policy("e", &path("/*"));
    let gateway = policies(&format!("{audit}{deny}{allow}{enforced}"));
    for (target, expected) in
        [("/a", &["none", "default/a"][..]), ("/d", &["default/d"]), ("/l", &[]), ("/x", &["none"])]
    {
        let evaluation = gateway.evaluate(&get_request(target));
        let shadow: Vec<&str> = evaluation.shadow.iter().map(String::as_str).collect();
        assert_eq!((&*evaluation.outcome, &shadow[..]), ("default/web/0", expected), "{target}");
    }
    assert!(gateway.report.contains("a dry run in both gateways"), "{}", gateway.report);
    // a condition that cannot be translated is dropped from rules that only log
    let lost =
        trial("d", "action: DENY\nrules:\n- from: [{source: {principals: [x], newField: [y]}}]\n  newField: 1\n- {}");
    let gateway = policies(&format!("{lost}{}", audit.replace("action: AUDIT\n", "action: AUDIT\n  newField: 1\n")));
    assert_eq!(gateway.evaluate(&get_request("/")).shadow, ["default/d[1]"], "{}", gateway.yaml);
    // a dry run that is turned off is enforced
    let off = trial("d", "action: DENY\nrules:\n- {}").replace("'true'", "'false'");
    assert!(!policies(&off).allows(&get_request("/")));
}

#[test]
fn mesh_identities_never_match_in_an_allow() {
    for field in ["principals", "namespaces", "serviceAccounts", "trustDomains"] {
        let gateway = one("ALLOW", &format!("from: [{{source: {{{field}: [x]}}}}]"));
        assert!(!gateway.allows(&get_request("/")), "{field}");
        assert!(gateway.report.contains("narrower"), "{}", gateway.report);
        assert!(
            one("ALLOW", &format!("from: [{{source: {{not{}{}: [x]}}}}]", &field[..1].to_uppercase(), &field[1..]))
                .allows(&get_request("/"))
        );
    }
    assert!(!one("ALLOW", "when: [{key: destination.ip, values: [10.0.0.1]}]").allows(&get_request("/")));
    assert!(!one("ALLOW", "when: [{key: destination.ip, notValues: [10.0.0.1]}]").allows(&get_request("/")));
}

#[test]
fn addresses_are_those_of_the_peer_and_ports_are_decided_by_the_import() {
    let at_gateway = |rule: &str| {
        let policy = policy("p", &format!("rules:\n- {rule}"))
            .replace("{name: p}", "{name: p, namespace: istio-system}")
            .replace("app: web", "istio: ingressgateway");
        policies(&policy)
    };
    for field in ["ipBlocks", "remoteIpBlocks"] {
        let gateway = at_gateway(&format!("from: [{{source: {{{field}: [192.0.2.1, '2001:db8::/32']}}}}]"));
        assert!(gateway.allows(&get_request("/")));
        assert!(gateway.allows(&get_request("/").peer("2001:db8::5")));
        assert!(!gateway.allows(&get_request("/").peer("192.0.2.2")));
    }
    // ports are those of the pods, for the gateway as well; its Service defines them
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: ingress, namespace: istio-system}\nspec: {selector: {istio: \
                   ingressgateway}, ports: [{port: 443, targetPort: 8443}, {port: 80, targetPort: 8080}]}\n---\n";
    let at_gateway = |operation: &str| {
        let policy = policy("p", &format!("rules:\n- to: [{{operation: {{{operation}}}}}]"))
            .replace("{name: p}", "{name: p, namespace: istio-system}")
            .replace("app: web", "istio: ingressgateway");
        policies(&format!("{service}{policy}"))
    };
    assert!(at_gateway("ports: ['8080']").allows(&get_request("/")));
    // a Service in another namespace is ignored, whatever it selects
    let stranger = service.replace("namespace: istio-system", "namespace: other").replace("8080", "9999");
    let deny = policy("p", "action: DENY\nrules:\n- to: [{operation: {ports: ['8080']}}]")
        .replace("{name: p}", "{name: p, namespace: istio-system}")
        .replace("app: web", "istio: ingressgateway");
    assert!(!policies(&format!("{stranger}{service}{deny}")).allows(&get_request("/")));
    assert!(!at_gateway("ports: ['80']").allows(&get_request("/")));
    assert!(!at_gateway("notPorts: ['8080']").allows(&get_request("/")));
    // the pods listen on the target port of the service
    assert!(one("ALLOW", "to: [{operation: {ports: ['8080']}}]").allows(&get_request("/")));
    assert!(!one("ALLOW", "to: [{operation: {ports: ['80']}}]").allows(&get_request("/")));
}

#[test]
fn gateway_ignores_tokens_that_only_the_service_authenticates() {
    let policy = policy("p", "rules:\n- from: [{source: {requestPrincipals: ['*']}}]")
        .replace("{name: p}", "{name: p, namespace: istio-system}")
        .replace("app: web", "istio: ingressgateway");
    let gateway = policies(&policy);
    assert!(!gateway.allows(&subject("https://a.example", "alice")), "{}", gateway.yaml);
}

#[test]
fn policies_of_other_namespaces_and_workloads_do_not_apply() {
    let elsewhere = policy("p", "rules: []").replace("{name: p}", "{name: p, namespace: other}");
    let gateway = policies(&elsewhere);
    assert!(gateway.allows(&get_request("/")));
    assert!(gateway.report.contains("it selects no workload in these manifests"), "{}", gateway.report);
    assert!(policies(&policy("p", "rules: []").replace("app: web", "app: api")).allows(&get_request("/")));
    let mesh = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: istio-system}\nspec: {}";
    assert!(!policies(mesh).allows(&get_request("/")));
}

#[test]
fn preflights_skip_authentication_but_not_the_rules() {
    let preflight =
        get_request("/").method("OPTIONS").header("origin", "https://x").header("access-control-request-method", "PUT");
    let gateway = policies("");
    assert_eq!(gateway.decide(&preflight), "default/web/0/preflight");
    assert_eq!(gateway.decide(&get_request("/").method("OPTIONS")), "default/web/0");
    let gateway = one("ALLOW", "from: [{source: {requestPrincipals: ['*']}}]");
    // without authentication there is no principal
    assert!(!gateway.allows(&preflight.clone().token(json!({"iss": "i", "sub": "s"}))));
    assert!(one("ALLOW", "to: [{operation: {methods: [OPTIONS]}}]").allows(&preflight));
}

#[test]
fn preflight_takes_the_route_of_its_request() {
    // the service of the first route authenticates no tokens
    let manifests = GATEWAY.replace(
        "  http:\n  - route:",
        "  http:\n  - name: open\n    match: [{uri: {prefix: /open}}]\n    route: [{destination: {host: api, port: {number: 80}}}]\n  - name: rest\n    route:",
    );
    let api = "apiVersion: v1\nkind: Service\nmetadata: {name: api}\nspec: {selector: {app: api}, ports: [{port: 80}]}\n---\n";
    let gateway =
        ImportedGateway::import(Dialect::Istio, &format!("{manifests}{api}{AUTHENTICATION}"), &mapped_options());
    let preflight = |path: &str| {
        get_request(path).method("OPTIONS").header("origin", "https://x").header("access-control-request-method", "PUT")
    };
    for (request, route) in [
        (preflight("/open/x"), "default/web/open"),
        (get_request("/open/x"), "default/web/open"),
        (preflight("/x"), "default/web/rest/preflight"),
        (get_request("/x"), "default/web/rest"),
    ] {
        assert_eq!(gateway.decide(&request), route, "{request:?}\n{}", gateway.yaml);
    }
    // Gateway API: the more specific route takes precedence, for preflights too
    let routes = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec: {gatewayClassName: \
                  istio, listeners: [{name: http, protocol: HTTP, port: 80}]}\n---\napiVersion: \
                  gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {parentRefs: [{name: gw}], rules: \
                  [{name: open, matches: [{headers: [{name: x-open, value: y}]}], backendRefs: [{name: api, port: 80}]}, {name: \
                  rest, backendRefs: [{name: web, port: 80}]}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: \
                  {selector: {app: web}, ports: [{port: 80}]}\n---\n";
    let gateway = ImportedGateway::import(Dialect::Istio, &format!("{routes}{api}{AUTHENTICATION}"), &mapped_options());
    assert_eq!(gateway.decide(&preflight("/x").header("x-open", "y")), "default/r/open", "{}", gateway.yaml);
    assert_eq!(gateway.decide(&preflight("/x")), "default/r/rest/preflight");
}

#[test]
fn requests_directly_to_a_service_pass_no_gateway() {
    let everywhere = AUTHENTICATION.replace("  selector: {matchLabels: {app: web}}\n", "");
    let options = ImportOptions { map: vec!["default/web=127.0.0.1:1".parse().unwrap()], ..ImportOptions::default() };
    let gateway = ImportedGateway::import(Dialect::Istio, &everywhere, &options);
    assert_eq!(gateway.decide(&get_request("/").port(8080)), "default/web", "{}", gateway.yaml);
}

#[test]
fn direct_peer_is_unknown_with_trusted_proxies() {
    let manifest = policy("p", "rules:\n- from: [{source: {ipBlocks: [10.0.0.0/8]}}]")
        .replace("{name: p}", "{name: p, namespace: istio-system}")
        .replace("app: web", "istio: ingressgateway");
    let options = ImportOptions { trusted_proxies: vec!["10.0.0.0/8".to_owned()], ..mapped_options() };
    let manifests = format!("{GATEWAY}{AUTHENTICATION}{manifest}");
    let imported = import_file(Dialect::Istio, &manifests, &options);
    assert!(imported.config.is_none() && report(&imported).contains("not of the direct peer"), "{}", report(&imported));
    let client = ImportedGateway::import(Dialect::Istio, &manifests.replace("ipBlocks", "remoteIpBlocks"), &options);
    assert!(client.allows(&get_request("/").peer("10.0.0.1")) && !client.allows(&get_request("/")));
}

#[test]
fn routes_of_a_virtual_service_are_tried_in_order() {
    let manifests = GATEWAY.replace(
        "  http:\n  - route:",
        "  http:\n  - name: first\n    match: [{uri: {prefix: /a}, method: {exact: GET}}, {headers: {x-beta: {regex: 'y.*'}}}]\n    \
         route: [{destination: {host: api, port: {number: 80}}}]\n  - name: second\n    match: [{uri: {exact: /a/b}}]\n    \
         redirect: {uri: /c}\n  - name: last\n    route:",
    );
    let imported = import_file(Dialect::Istio, &manifests, &mapped_options());
    let report = report(&imported);
    let yaml = imported.config.unwrap_or_else(|| panic!("{report}")).to_yaml();
    // only the redirect is checked in the text; requests below check the rest
    assert!(yaml.contains("requestRedirect:"), "{yaml}");
    let gateway = ImportedGateway::import(
        Dialect::Istio,
        &manifests.replace("redirect: {uri: /c}", "timeout: 3s"),
        &mapped_options(),
    );
    for (request, route) in [
        (get_request("/a/b"), "first"),
        (get_request("/ab"), "first"),
        (get_request("/a/b").method("PUT"), "second"),
        (get_request("/x").header("x-beta", "yes"), "first"),
        (get_request("/x").header("x-beta", "no"), "last"),
        (get_request("/x"), "last"),
    ] {
        assert_eq!(gateway.decide(&request), format!("default/web/{route}"), "{request:?}\n{}", gateway.yaml);
    }
}

#[test]
fn hosts_of_a_gateway_can_be_limited_to_one_namespace() {
    for (host, open) in [("*", true), ("*/*", true), ("default/*", true), ("./*", false), ("other/*", false)] {
        let manifests = GATEWAY.replace("hosts: [\"*\"]\n---", &format!("hosts: ['{host}']\n---"));
        assert_eq!(
            ImportedGateway::import(Dialect::Istio, &manifests, &mapped_options()).allows(&get_request("/")),
            open,
            "{host}"
        );
    }
}

#[test]
fn services_of_one_route_must_agree() {
    let manifests = format!("{GATEWAY}{AUTHENTICATION}").replace(
        "    - destination: {host: web, port: {number: 80}}",
        "    - destination: {host: web, port: {number: 80}}\n      weight: 1\n    - destination: {host: api, port: {number: 80}}\n      weight: 1",
    );
    let imported = import_file(Dialect::Istio, &manifests, &mapped_options());
    assert!(imported.config.is_none() && report(&imported).contains("only some of them"), "{}", report(&imported));
    let partial =
        ImportedGateway::import(Dialect::Istio, &manifests, &ImportOptions { allow_partial: true, ..mapped_options() });
    assert!(!partial.allows(&get_request("/")));
}

#[test]
fn gateway_of_the_gateway_api_is_selected_by_name_or_label() {
    let manifests = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec: {gatewayClassName: \
                     istio, listeners: [{name: http, protocol: HTTP, port: 80}]}\n---\napiVersion: \
                     gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {parentRefs: [{name: gw}], rules: \
                     [{backendRefs: [{name: web, port: 80}]}]}\n---\n";
    let closed = |spec: &str| {
        let policy = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p}}\nspec: {spec}\n"
        );
        !ImportedGateway::import(Dialect::Istio, &format!("{manifests}{policy}"), &mapped_options())
            .allows(&get_request("/"))
    };
    assert!(closed("{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}]}"));
    assert!(!closed("{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: other}]}"));
    assert!(closed("{targetRefs: [{group: '', kind: Service, name: web}]}"));
    assert!(closed("{selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: gw}}}"));
    assert!(!closed(
        "{selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: other}}, action: DENY, rules: [{}]}"
    ));
}

#[test]
fn token_removed_by_the_gateway_is_not_authenticated_twice() {
    let both = |forward: &str| {
        let rule = format!("jwtRules: [{{issuer: https://a.example, jwks: '{KEYS}'{forward}}}]");
        let object = |name: &str, namespace: &str, labels: &str| {
            format!(
                "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: {name}, namespace: \
                 {namespace}}}\nspec: {{selector: {{matchLabels: {{{labels}}}}}, {rule}}}\n---\n"
            )
        };
        format!(
            "{GATEWAY}{}{}",
            object("outer", "istio-system", "istio: ingressgateway"),
            object("inner", "default", "app: web")
        )
    };
    assert!(
        ImportedGateway::import(Dialect::Istio, &both(", forwardOriginalToken: true"), &mapped_options())
            .allows(&get_request("/"))
    );
    let imported = import_file(Dialect::Istio, &both(""), &mapped_options());
    assert!(imported.config.is_none() && report(&imported).contains("keep one policy"), "{}", report(&imported));
}

#[test]
fn request_authentication_becomes_jwt_auth() {
    let with = |rules: &str| {
        let manifest = format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: web}}\nspec: {{selector: \
             {{matchLabels: {{app: web}}}}, jwtRules: [{rules}]}}\n"
        );
        ImportedGateway::import(Dialect::Istio, &format!("{GATEWAY}{manifest}"), &mapped_options()).yaml
    };
    let yaml = with(
        "{issuer: 'https://a.example', audiences: [api], jwksUri: 'http://keys.default.svc/keys', fromHeaders: [{name: \
         X-Token, prefix: 'JWT '}], fromParams: [t], fromCookies: [c], forwardOriginalToken: true, outputPayloadToHeader: \
         x-payload, outputClaimToHeaders: [{header: x-sub, claim: realm.sub}], spaceDelimitedClaims: [words], timeout: 3s}",
    );
    for part in [
        "mode: optional",
        "issuer: 'https://a.example'",
        "'https://api/'",
        "url: 'http://keys.default.svc/keys'",
        "cacheDuration: '20m'",
        "staleFor: '168h'",
        "timeout: '3s'",
        "name: x-token",
        "prefix: 'JWT '",
        "cookie:",
        "queryParameter:",
        "forward: true",
        "payloadHeader: x-payload",
        "claim: [realm, sub]",
        "header: x-sub",
        "splitClaims: [scope, permission, words]",
        "leeway: '60s'",
        "requiredClaims: []",
    ] {
        assert!(yaml.contains(part), "{part}\n{yaml}");
    }
    // without keys, discovery at the issuer is used; the same issuer can appear twice
    assert!(!with("{issuer: 'https://a.example'}").contains("jwks:"));
    let twice = with(&format!("{{issuer: i, jwks: '{KEYS}'}}, {{issuer: i, jwks: '{KEYS}'}}"));
    assert!(twice.contains("'i#2'") && twice.contains("name: access_token"), "{twice}");
}

#[test]
fn actions_of_a_virtual_service_become_policies() {
    let to =
        |name: &str, weight: u8| format!("{{destination: {{host: {name}, port: {{number: 80}}}}, weight: {weight}}}");
    let rules = format!(
        "  http:\n  - {{match: [{{uri: {{exact: /a}}}}], rewrite: {{uri: /c, authority: h.example}}, route: [{}]}}\n  - {{match: \
         [{{uri: {{exact: /r}}}}], redirect: {{uri: /x, authority: y.example, redirectCode: 308}}}}\n  - {{match: [{{uri: \
         {{exact: /d}}}}], directResponse: {{status: 418, body: {{string: hi}}}}}}\n  - timeout: 3s\n    retries: {{attempts: \
         4}}\n    corsPolicy: {{allowOrigins: [{{exact: 'https://x.example'}}], allowMethods: [GET], allowCredentials: true, \
         maxAge: 5s}}\n    headers: {{request: {{set: {{a: b}}, add: {{c: d}}, remove: [e]}}, response: {{set: {{f: g}}}}}}\n    \
         route: [{}, {}]\n---\n",
        to("web", 1),
        to("web", 3),
        to("api", 1)
    );
    let (head, tail) = GATEWAY.split_once("  http:\n").unwrap();
    let (_, tail) = tail.split_once("---\n").unwrap();
    let yaml = {
        let imported = import_file(Dialect::Istio, &format!("{head}{rules}{tail}"), &mapped_options());
        let text = report(&imported);
        imported.config.unwrap_or_else(|| panic!("{text}")).to_yaml()
    };
    load(Source::new("out.yaml", yaml.clone()), &|_| None).unwrap_or_else(|errors| panic!("{errors:?}\n{yaml}"));
    for part in [
        "full: /c",
        "full: h.example",
        "full: /x",
        "full: y.example",
        "status: 308",
        "status: 418",
        "body: hi",
        "request: '3s'",
        "attempts: 4",
        "allowOrigins: ['https://x.example']",
        "allowCredentials: true",
        "maxAge: '5s'",
        "remove: [e]",
        "weight: 3",
        "responseHeaderModifier:",
    ] {
        assert!(yaml.contains(part), "{part}\n{yaml}");
    }
}
