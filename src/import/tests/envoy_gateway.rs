//! Envoy Gateway: ordered rules, and the policy that applies to a route.

use serde_json::{Value, json};

use super::*;

/// A gateway with the routes `/foo` and `/bar`.
pub(super) const ROUTES: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: eg}
spec:
  gatewayClassName: eg
  listeners:
  - {name: http, protocol: HTTP, port: 80}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: foo}
spec:
  parentRefs: [{name: eg}]
  rules:
  - name: main
    matches: [{path: {type: PathPrefix, value: /foo}}]
    backendRefs: [{name: web, port: 80}]
  - name: other
    matches: [{path: {type: PathPrefix, value: /foo/other}}]
    backendRefs: [{name: web, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bar}
spec:
  parentRefs: [{name: eg}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /bar}}]
    backendRefs: [{name: api, port: 80}]
---
"#;

/// Returns a policy with this target and spec.
pub(super) fn policy(name: &str, target: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         targetRefs: [{{group: gateway.networking.k8s.io, {target}}}]\n{}---\n",
        spec.lines().map(|line| format!("  {line}\n")).collect::<String>()
    )
}

/// A `jwt` section with two providers.
const JWT: &str = concat!(
    "jwt:\n  providers:\n  - {name: p1, issuer: i, localJWKS: {inline: '",
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    "'}}\n  - {name: p2, localJWKS: {inline: '",
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    "'}}",
);

fn import_policies(policies: &str) -> ImportedGateway {
    ImportedGateway::import(Dialect::EnvoyGateway, &format!("{ROUTES}{policies}"), &mapped_options())
}

fn import_rules(authorization: &str) -> ImportedGateway {
    let spec =
        format!("{JWT}\nauthorization:\n{}", authorization.lines().map(|l| format!("  {l}\n")).collect::<String>());
    import_policies(&policy("p", "kind: HTTPRoute, name: foo", &spec))
}

#[track_caller]
fn assert_decisions(authorization: &str, cases: &[(Request, bool)]) {
    let gateway = import_rules(authorization);
    for (request, allowed) in cases {
        assert_eq!(gateway.allows(request), *allowed, "{authorization}\n{request:?}\n{}", gateway.yaml);
    }
}

fn token(claims: Value) -> Request {
    get_request("/foo").token(claims)
}

#[test]
fn mode_is_derived_from_optional_and_fail_open() {
    for (flags, mode) in [
        ("", "strict"),
        ("optional: true", "optional"),
        ("failOpen: true", "permissive"),
        ("optional: false", "strict"),
    ] {
        let jwt = JWT.replace("jwt:\n", &format!("jwt:\n  {flags}\n"));
        let gateway = import_policies(&policy("p", "kind: HTTPRoute, name: foo", &jwt));
        assert!(gateway.yaml.contains(&format!("mode: {mode}\n")), "{}", gateway.yaml);
        assert!(gateway.yaml.contains("forward: true\n"), "{}", gateway.yaml);
        assert_eq!(gateway.decide(&get_request("/foo")) == "401", mode == "strict");
        assert_eq!(gateway.decide(&get_request("/bar")), "default/bar/0", "an open sibling stays open");
    }
}

#[test]
fn most_specific_policy_replaces_the_others_completely() {
    let deny = "authorization: {}";
    let everything = policy("all", "kind: Gateway, name: eg", deny);
    let gateway = import_policies(&everything);
    assert_eq!([gateway.decide(&get_request("/foo")), gateway.decide(&get_request("/bar"))], ["403", "403"]);
    let listener =
        policy("listener", "kind: Gateway, name: eg, sectionName: http", "authorization: {defaultAction: Allow}");
    let gateway = import_policies(&format!("{everything}{listener}"));
    assert_eq!(gateway.decide(&get_request("/bar")), "default/bar/0");
    let elsewhere =
        policy("listener", "kind: Gateway, name: eg, sectionName: https", "authorization: {defaultAction: Allow}");
    assert_eq!(import_policies(&format!("{everything}{elsewhere}")).decide(&get_request("/bar")), "403");
    let route = policy("route", "kind: HTTPRoute, name: foo", "authorization: {defaultAction: Allow}");
    let gateway = import_policies(&format!("{everything}{route}"));
    assert_eq!(
        [gateway.decide(&get_request("/foo")), gateway.decide(&get_request("/bar"))],
        ["default/foo/main", "403"]
    );
    let rule = policy("rule", "kind: HTTPRoute, name: foo, sectionName: other", deny);
    let gateway = import_policies(&format!("{route}{rule}"));
    assert_eq!(
        [gateway.decide(&get_request("/foo")), gateway.decide(&get_request("/foo/other"))],
        ["default/foo/main", "403"]
    );
    // the gateway's `jwt` does not apply to a route whose own policy has none
    let gateway = import_policies(&format!("{}{route}", policy("all", "kind: Gateway, name: eg", JWT)));
    assert_eq!(
        [gateway.decide(&get_request("/foo")), gateway.decide(&get_request("/bar"))],
        ["default/foo/main", "401"]
    );
    // the older of two policies for one target applies
    let older = route.replace("{name: route}", "{name: z, creationTimestamp: '2020-01-01T00:00:00Z'}");
    let younger = policy("a", "kind: HTTPRoute, name: foo", deny)
        .replace("{name: a}", "{name: a, creationTimestamp: '2021-01-01T00:00:00Z'}");
    assert_eq!(import_policies(&format!("{younger}{older}")).decide(&get_request("/foo")), "default/foo/main");
}

#[test]
fn selectors_match_routes_by_label() {
    let selected = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: p}\nspec: \
                    {targetSelectors: [{kind: HTTPRoute, matchLabels: {tier: closed}}], authorization: {}}\n";
    let labelled = ROUTES.replace("{name: bar}", "{name: bar, labels: {tier: closed}}");
    let gateway = ImportedGateway::import(Dialect::EnvoyGateway, &format!("{labelled}{selected}"), &mapped_options());
    assert_eq!(
        [gateway.decide(&get_request("/foo")), gateway.decide(&get_request("/bar"))],
        ["default/foo/main", "403"]
    );
}

#[test]
fn rules_are_tried_in_order_and_the_default_is_deny() {
    assert_decisions("{}", &[(token(json!({})), false)]);
    assert_decisions("defaultAction: Allow", &[(token(json!({})), true)]);
    assert_decisions("defaultAction: Deny", &[(token(json!({})), false)]);
    let sub = |action: &str, sub: &str| {
        format!(
            "- {{action: {action}, principal: {{jwt: {{provider: p1, claims: [{{name: sub, values: [{sub}]}}]}}}}}}\n"
        )
    };
    let group = |action: &str| {
        format!("- {{action: {action}, principal: {{jwt: {{provider: p1, claims: [{{name: g, values: [x]}}]}}}}}}\n")
    };
    let with = |sub: &str, g: &str| token(json!({"sub": sub, "g": g}));
    let list = |default: &str, rules: &[String]| format!("defaultAction: {default}\nrules:\n{}", rules.concat());
    // only allows, only denies, and a mix in both orders
    assert_decisions(
        &list("Deny", &[sub("Allow", "a"), group("Allow")]),
        &[(with("a", "y"), true), (with("b", "x"), true), (with("b", "y"), false)],
    );
    assert_decisions(
        &list("Allow", &[sub("Deny", "a"), group("Deny")]),
        &[(with("a", "y"), false), (with("b", "x"), false), (with("b", "y"), true)],
    );
    assert_decisions(
        &list("Deny", &[sub("Deny", "a"), group("Allow")]),
        &[(with("a", "x"), false), (with("b", "x"), true), (with("b", "y"), false)],
    );
    assert_decisions(
        &list("Allow", &[group("Allow"), sub("Deny", "a")]),
        &[(with("a", "x"), true), (with("a", "y"), false), (with("b", "y"), true)],
    );
}

#[test]
fn claims_have_types_and_dotted_paths() {
    let claims =
        |claims: &str| format!("rules:\n- {{action: Allow, principal: {{jwt: {{provider: p1, claims: [{claims}]}}}}}}");
    assert_decisions(
        &claims("{name: role, values: [a, b]}"),
        &[
            (token(json!({"role": "a"})), true),
            (token(json!({"role": "b"})), true),
            (token(json!({"role": "c"})), false),
            (token(json!({"role": ["a"]})), false),
            (token(json!({"role": 1})), false),
            (token(json!({})), false),
        ],
    );
    assert_decisions(
        &claims("{name: role, valueType: StringArray, values: [a, b]}"),
        &[
            (token(json!({"role": ["x", "b"]})), true),
            (token(json!({"role": ["ab"]})), false),
            (token(json!({"role": "a"})), false),
            (token(json!({"role": [1, {"a": 1}]})), false),
        ],
    );
    assert_decisions(
        &claims("{name: realm.role, values: [a]}, {name: tenant, values: [t]}"),
        &[
            (token(json!({"realm": {"role": "a"}, "tenant": "t"})), true),
            (token(json!({"realm": {"role": "a"}})), false),
            (token(json!({"realm.role": "a", "tenant": "t"})), false),
            (token(json!({"realm": {"role": "a"}, "tenant": "t"})).provider("p2"), false),
        ],
    );
}

#[test]
fn scopes_are_words_of_scope_or_scp_and_all_are_required() {
    assert_decisions(
        "rules:\n- {action: Allow, principal: {jwt: {provider: p1, scopes: [read, write]}}}",
        &[
            (token(json!({"scope": "read write"})), true),
            (token(json!({"scope": "read", "scp": "write"})), true),
            (token(json!({"scp": ["write", "read"]})), true),
            (token(json!({"scope": "readwrite"})), false),
            (token(json!({"scope": "read"})), false),
            (token(json!({})), false),
        ],
    );
}

#[test]
fn scope_and_scp_are_word_lists_in_claim_conditions_too() {
    let claim = |name: &str, kind: &str| {
        format!(
            "rules:\n- {{action: Allow, principal: {{jwt: {{provider: p1, claims: [{{name: {name}, valueType: {kind}, values: [read]}}]}}}}}}"
        )
    };
    for name in ["scope", "scp"] {
        assert_decisions(&claim(name, "String"), &[(token(json!({name: "read"})), false)]);
        assert_decisions(
            &claim(name, "StringArray"),
            &[
                (token(json!({name: "read write"})), true),
                (token(json!({name: ["read"]})), true),
                (token(json!({name: "reader"})), false),
            ],
        );
    }
}

#[test]
fn merged_policy_overrides_that_of_the_gateway() {
    let merged = |spec: &str| format!("mergeType: StrategicMerge\n{spec}");
    let on_gateway = |spec: &str| policy("above", "kind: Gateway, name: eg", spec);
    let on_route = |spec: &str| policy("own", "kind: HTTPRoute, name: foo", spec);
    let deny = "authorization: {defaultAction: Allow, rules: [{action: Deny, principal: {headers: [{name: x, values: [above]}]}}]}";
    let route_rules = "authorization: {defaultAction: Allow, rules: [{action: Deny, principal: {headers: [{name: x, values: [own]}]}}]}";
    // a kind that the route's policy lacks comes from the gateway's policy
    let gateway = import_policies(&format!("{}{}", on_gateway(JWT), on_route(&merged(route_rules))));
    assert_eq!(gateway.decide(&get_request("/foo")), "401", "{}", gateway.yaml);
    assert_eq!(gateway.decide(&token(json!({})).header("x", "own")), "403");
    assert_eq!(gateway.decide(&token(json!({})).header("x", "above")), "default/foo/main");
    // without `mergeType` the policy replaces the gateway's; with it, the route's kinds take precedence
    let gateway = import_policies(&format!("{}{}", on_gateway(JWT), on_route(route_rules)));
    assert_eq!(gateway.decide(&get_request("/foo")), "default/foo/main");
    let gateway =
        import_policies(&format!("{}{}", on_gateway(&format!("{JWT}\n{deny}")), on_route(&merged(route_rules))));
    assert_eq!(gateway.decide(&token(json!({})).header("x", "own")), "403");
    assert_eq!(gateway.decide(&token(json!({})).header("x", "above")), "default/foo/main");
    // lists replace lists, and `optional` stays
    let other = JWT.replace("name: p1", "name: q1").replace("name: p2", "name: q2");
    let optional = JWT.replace("jwt:\n", "jwt:\n  optional: true\n");
    let gateway = import_policies(&format!("{}{}", on_gateway(&optional), on_route(&merged(&other))));
    assert_eq!(gateway.decide(&get_request("/foo")), "default/foo/main");
    assert!(gateway.yaml.contains("name: q1") && gateway.yaml.contains("mode: optional"), "{}", gateway.yaml);
    // merges that would mix fields are rejected
    assert_eq!(import_policies(&on_route(&merged("authorization: {}"))).decide(&get_request("/foo")), "403");
    for (gateway_spec, route_spec, words) in [
        (deny, "authorization: {defaultAction: Allow}", "without rules"),
        (
            &*optional,
            "jwt: {failOpen: true, providers: [{name: a, localJWKS: {inline: '{\"keys\":[]}'}}]}",
            "of both policies",
        ),
        (JWT, "jwt: {optional: true}", "without providers"),
        ("cors: {allowMethods: [GET]}", "cors: {allowOrigins: ['https://a.example']}", "field by field"),
    ] {
        let manifests = format!("{ROUTES}{}{}", on_gateway(gateway_spec), on_route(&merged(route_spec)));
        let imported = import_file(Dialect::EnvoyGateway, &manifests, &mapped_options());
        assert!(imported.config.is_none() && report(&imported).contains(words), "{words}\n{}", report(&imported));
        let partial = ImportedGateway::import(
            Dialect::EnvoyGateway,
            &manifests,
            &ImportOptions { allow_partial: true, ..mapped_options() },
        );
        assert_eq!(partial.decide(&token(json!({}))), "403");
    }
    // a rejected part of the gateway's policy closes the route too
    let manifests = format!("{ROUTES}{}{}", on_gateway("basicAuth: {}"), on_route(&merged(route_rules)));
    let partial = ImportedGateway::import(
        Dialect::EnvoyGateway,
        &manifests,
        &ImportOptions { allow_partial: true, ..mapped_options() },
    );
    assert_eq!(partial.decide(&get_request("/foo")), "403");
}

#[test]
fn operations_addresses_and_headers_are_compared() {
    let allow = |rule: &str| format!("rules:\n- {{action: Allow, {rule}}}");
    let anyone = "principal: {clientCIDRs: [0.0.0.0/0, '::/0']}";
    let path = |kind: &str, value: &str| format!("{anyone}, operation: {{path: {{type: {kind}, value: {value}}}}}");
    let at = |path: &str| get_request(path).token(json!({}));
    assert_decisions(
        &allow("principal: {clientCIDRs: [192.0.2.0/24]}"),
        &[(at("/foo"), true), (at("/foo").peer("198.51.100.1"), false)],
    );
    assert_decisions(
        &allow("principal: {headers: [{name: X-Env, values: [a, b]}, {name: x-two, values: [c]}]}"),
        &[
            (at("/foo").header("x-env", "b").header("x-two", "c"), true),
            (at("/foo").header("x-env", "b"), false),
            (at("/foo").header("x-env", "ab").header("x-two", "c"), false),
        ],
    );
    assert_decisions(
        &allow(&format!("{anyone}, operation: {{methods: [GET, PUT]}}")),
        &[(at("/foo"), true), (at("/foo").method("PUT"), true), (at("/foo").method("POST"), false)],
    );
    assert_decisions(&allow(&path("Exact", "/foo/a")), &[(at("/foo/a?x=1"), true), (at("/foo/a/"), false)]);
    let digits = path("RegularExpression", "'/foo/[0-9]+'");
    assert_decisions(&allow(&digits), &[(at("/foo/12"), true), (at("/foo/12/x"), false), (at("/foo/12?x=1"), false)]);
    // both readings, with and without the query, are denied
    let deny = format!("defaultAction: Allow\nrules:\n- {{action: Deny, {digits}}}");
    assert_decisions(&deny, &[(at("/foo/12"), false), (at("/foo/12?x=1"), false), (at("/foo/12/x"), true)]);
    // methods are compared without case
    let delete = "principal: {clientCIDRs: [0.0.0.0/0]}, operation: {methods: [DELETE]}";
    let deny = format!("defaultAction: Allow\nrules:\n- {{action: Deny, {delete}}}");
    assert_decisions(&deny, &[(at("/foo").method("delete"), false), (at("/foo").method("PUT"), true)]);
    assert_decisions(
        &allow(&path("PathPrefix", "/foo/a")),
        &[(at("/foo/a"), true), (at("/foo/a/b"), true), (at("/foo/ab"), false)],
    );
    // a path without a type is a prefix
    let untyped = format!("{anyone}, operation: {{path: {{value: /foo/a}}}}");
    assert_decisions(&allow(&untyped), &[(at("/foo/a/b"), true), (at("/foo/a;v=1"), true), (at("/foo/ab"), false)]);
    assert_decisions(
        &format!("defaultAction: Allow\nrules:\n- {{action: Deny, {}}}", path("PathPrefix", "/foo/a/")),
        &[(at("/foo/a"), false), (at("/foo/a/b"), false), (at("/foo/b"), true)],
    );
    assert_decisions(
        &allow(&path("Exact", "/foo/a").replace("value:", "invert: true, value:")),
        &[(at("/foo/a"), false), (at("/foo/b"), true)],
    );
}

#[test]
fn audiences_have_six_spellings_and_no_claim_is_required() {
    let jwt = JWT.replace("issuer: i,", "issuer: i, audiences: ['https://api.example/'],");
    let gateway = import_policies(&policy("p", "kind: HTTPRoute, name: foo", &jwt));
    for spelling in ["api.example", "api.example/", "'http://api.example'", "'https://api.example/'"] {
        assert!(gateway.yaml.contains(&format!("- {spelling}\n")), "{spelling}\n{}", gateway.yaml);
    }
    assert!(gateway.yaml.contains("requiredClaims: []"), "{}", gateway.yaml);
}

#[test]
fn settings_of_remote_keys_are_translated() {
    let jwt = "jwt:\n  providers:\n  - name: p\n    remoteJWKS:\n      uri: https://idp.example/keys\n      cacheDuration: \
               120s\n      failedRefetchDuration: 2s\n      backendSettings:\n        connection: {bufferLimit: 1}\n        \
               timeout: {http: {requestTimeout: 3s}}\n        retry: {numRetries: 4, perRetry: {backOff: {baseInterval: \
               1s, maxInterval: 5s}}, retryOn: {triggers: [5xx, gateway-error, reset, cancelled]}}";
    let gateway = import_policies(&policy("p", "kind: HTTPRoute, name: foo", jwt));
    for line in [
        "url: 'https://idp.example/keys'",
        "cacheDuration: '120s'",
        "timeout: '3s'",
        "attempts: 4",
        "baseInterval: '1s'",
        "maxInterval: '5s'",
        "'on': ['5xx', reset]",
    ] {
        assert!(gateway.yaml.contains(line), "{line}\n{}", gateway.yaml);
    }
    for (field, verdict) in [
        ("failedRefetchDuration", "approximate"),
        ("backendSettings.connection", "dropped"),
        ("triggers[1]", "approximate"),
        ("triggers[3]", "dropped"),
    ] {
        let line = gateway.report.lines().find(|line| line.contains(field)).unwrap_or_else(|| panic!("{field}"));
        assert!(line.contains(&format!(": {verdict}: ")), "{line}");
    }
}

#[test]
fn local_keys_are_inline_or_in_a_config_map() {
    let inline = format!("jwt: {{providers: [{{name: p, localJWKS: {{inline: '{KEYS}'}}}}]}}");
    assert_eq!(
        import_policies(&policy("p", "kind: HTTPRoute, name: foo", &inline)).decide(&get_request("/foo")),
        "401"
    );
    let referred =
        "jwt: {providers: [{name: p, localJWKS: {type: ValueRef, valueRef: {kind: ConfigMap, name: keys}}}]}";
    for key in ["jwks", "first"] {
        let map = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: keys}}\ndata: {{{key}: '{KEYS}'}}\n");
        let gateway = import_policies(&format!("{}{map}", policy("p", "kind: HTTPRoute, name: foo", referred)));
        assert!(gateway.yaml.contains("11qYAYKxCrfVS"), "{}", gateway.yaml);
    }
}

#[test]
fn token_locations_are_translated() {
    let jwt = JWT.replace(
        "issuer: i,",
        "issuer: i, extractFrom: {headers: [{name: X-Token, valuePrefix: 'JWT '}], cookies: [session], params: [t]},",
    );
    let gateway = import_policies(&policy("p", "kind: HTTPRoute, name: foo", &jwt));
    let locations = "        - header:\n            name: x-token\n            prefix: 'JWT '\n";
    let flat: String = gateway.yaml.lines().map(|line| format!("{}\n", line.trim())).collect();
    let want: String = locations.lines().map(|line| format!("{}\n", line.trim())).collect();
    assert!(flat.contains(&want), "{}", gateway.yaml);
    assert!(flat.contains("name: session") && flat.contains("queryParameter:\nname: t\n"), "{}", gateway.yaml);
    // by default the header and the query parameter
    assert!(flat.contains("name: authorization") && flat.contains("name: access_token"), "{}", gateway.yaml);
}

#[test]
fn claims_become_headers() {
    let jwt = "jwt: {providers: [{name: p, remoteJWKS: {uri: 'https://a.example/k'}, claimToHeaders: [{header: x-sub, \
               claim: sub}, {header: x-role, claim: realm.role}, {header: x-odd, claimPath: ['a.b', c]}]}]}";
    let gateway = import_policies(&policy("p", "kind: HTTPRoute, name: foo", jwt));
    for part in ["claim: sub", "claim: [realm, role]", "claim: [a.b, c]"] {
        assert!(gateway.yaml.contains(part), "{part}\n{}", gateway.yaml);
    }
}

#[test]
fn regular_expressions_precede_prefixes_as_in_envoy_gateway() {
    let manifests = ROUTES
        .replace("{type: PathPrefix, value: /foo}}", "{type: RegularExpression, value: '/[a-z]+/[0-9]+'}}, {method: PUT, path: {value: /put}}")
        .replace("{path: {type: PathPrefix, value: /bar}}", "{path: {value: /bar}}, {path: {value: /bar/1}, headers: [{name: x, value: y}]}, {path: {type: Exact, value: /bar/2}}");
    let strict = policy("p", "kind: HTTPRoute, name: foo", "authorization: {}");
    let gateway = ImportedGateway::import(Dialect::EnvoyGateway, &format!("{manifests}{strict}"), &mapped_options());
    for (request, decision) in [
        // a prefix does not precede a regular expression, even if it is longer
        (get_request("/bar/1"), "403"),
        (get_request("/bar/1").header("x", "y"), "403"),
        (get_request("/bar/2"), "default/bar/0#2"),
        (get_request("/bar/x"), "default/bar/0"),
        (get_request("/bar"), "default/bar/0"),
        (get_request("/barx"), "404"),
        (get_request("/put/x").method("PUT"), "403"),
        (get_request("/put/x"), "404"),
    ] {
        assert_eq!(gateway.decide(&request), decision, "{request:?}\n{}", gateway.yaml);
    }
    let query = manifests.replace("{path: {value: /bar}}", "{queryParams: [{name: a, value: b}]}");
    let imported = import_file(Dialect::EnvoyGateway, &query, &mapped_options());
    assert!(imported.config.is_none(), "{}", report(&imported));
}

#[test]
fn trusted_proxies_are_read_from_the_client_traffic_policy() {
    let policy = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: c}\nspec: \
                  {targetRefs: [{kind: Gateway, name: eg}], clientIPDetection: {xForwardedFor: {trustedCIDRs: \
                  [10.0.0.0/8]}}, http2: {maxConcurrentStreams: 5}}\n";
    let gateway = import_policies(policy);
    assert!(gateway.yaml.contains("trustedProxies: ['10.0.0.0/8']"), "{}", gateway.yaml);
}

#[test]
fn cel_is_translated_if_all_rules_allow() {
    let rule = |cel: &str| format!("rules: [{{action: Allow, cel: {}}}]", json!(cel));
    let at = |target: &str| get_request(target).token(json!({}));
    for (cel, requests) in [
        ("request.path == '/foo?a=1'", vec![(at("/foo?a=1"), true), (at("/foo"), false)]),
        ("request.path == '/foo'", vec![(at("/foo?a=1"), false), (at("/foo"), true)]),
        (
            "request.url_path == '/foo' && request.query.contains('a=')",
            vec![(at("/foo?a=1"), true), (at("/foo"), false)],
        ),
        ("request.host == 'a.example:80'", vec![(at("/foo").host("a.example:80"), true), (at("/foo"), false)]),
        ("request.method in ['PUT', \"POST\"]", vec![(at("/foo").method("PUT"), true), (at("/foo"), false)]),
        // an expression that fails does not match, in both gateways
        ("request.headers['x'].startsWith('a')", vec![(at("/foo").header("x", "ab"), true), (at("/foo"), false)]),
        (
            "request.headers['x'] == 'a' || request.method == 'GET'",
            vec![(at("/foo"), true), (at("/foo").method("PUT"), false)],
        ),
    ] {
        assert_decisions(&rule(cel), &requests);
    }
    let both = "rules: [{action: Allow, cel: \"request.method == 'GET' || false\", principal: {headers: [{name: x, values: [a]}]}}]";
    let with = |method: &str| at("/foo").header("x", "a").method(method);
    assert_decisions(both, &[(with("GET"), true), (at("/foo"), false), (with("PUT"), false)]);
    for (cel, words) in [
        ("jwt == null", "`jwt` is not supported"),
        ("source.address == 'a'", "`source` is not supported"),
        ("metadata.filter_metadata['a'] == 'b'", "`metadata` is not supported"),
        ("request.headers.x == 'a'", "`x` is not supported"),
        ("request.time == 'a'", "only the fields method, headers"),
        ("request == 'a'", "only the fields method, headers"),
        ("request.method.matches('(')", ""),
        ("request.method ==", ""),
    ] {
        let spec = format!("authorization: {{{}}}", rule(cel));
        let manifests = format!("{ROUTES}{}", policy("p", "kind: HTTPRoute, name: foo", &spec));
        let imported = import_file(Dialect::EnvoyGateway, &manifests, &mapped_options());
        let findings = report(&imported);
        let is_reported = findings.lines().any(|line| line.contains("cel: refused") && line.contains(words));
        assert!(imported.config.is_none() && is_reported, "{cel}\n{findings}");
    }
}
