//! agentgateway on Kubernetes: levels of policies, and rules that add up.

use serde_json::json;

use super::envoy_gateway::ROUTES;
use super::*;

fn policy(name: &str, target: &str, traffic: &str) -> String {
    format!(
        "apiVersion: agentgateway.dev/v1alpha1\nkind: AgentgatewayPolicy\nmetadata: {{name: {name}}}\nspec:\n  targetRefs: \
         [{{group: gateway.networking.k8s.io, {target}}}]\n  traffic: {{{traffic}}}\n---\n"
    )
}

fn jwt(mode: &str) -> String {
    format!("jwtAuthentication: {{{mode} providers: [{{issuer: i, jwks: {{inline: '{KEYS}'}}}}]}}")
}

fn import_policies(policies: &str) -> ImportedGateway {
    ImportedGateway::import(Dialect::Agentgateway, &format!("{ROUTES}{policies}"), &mapped_options())
}

#[test]
fn mode_defaults_to_strict() {
    for (mode_field, mode) in [
        ("", "strict"),
        ("mode: Strict,", "strict"),
        ("mode: Optional,", "optional"),
        ("mode: Permissive,", "permissive"),
    ] {
        let gateway = import_policies(&policy("p", "kind: Gateway, name: eg", &jwt(mode_field)));
        assert!(gateway.yaml.contains(&format!("mode: {mode}\n")), "{}", gateway.yaml);
        assert_eq!(gateway.decide(&get_request("/foo")) == "401", mode == "strict");
        assert!(gateway.yaml.contains("requiredClaims: [exp]"), "{}", gateway.yaml);
        assert!(!gateway.yaml.contains("errors:"), "{}", gateway.yaml);
    }
}

#[test]
fn jwt_policy_of_a_route_replaces_that_of_the_gateway() {
    let gateway = import_policies(&format!(
        "{}{}",
        policy("p", "kind: Gateway, name: eg", &jwt("")),
        policy("q", "kind: HTTPRoute, name: foo", &jwt("mode: Optional,"))
    ));
    assert_eq!(
        [gateway.decide(&get_request("/foo")), gateway.decide(&get_request("/bar"))],
        ["default/foo/main", "401"]
    );
}

#[test]
fn two_jwt_policies_on_one_level_are_rejected() {
    let gateway = |name: &str, mode: &str| policy(name, "kind: Gateway, name: eg", &jwt(mode));
    let two = format!("{ROUTES}{}{}", gateway("p", ""), gateway("q", "mode: Permissive,"));
    let imported = import_file(Dialect::Agentgateway, &two, &mapped_options());
    assert!(
        imported.config.is_none() && report(&imported).contains("the precedence of the two"),
        "{}",
        report(&imported)
    );
    let partial = ImportedGateway::import(
        Dialect::Agentgateway,
        &two,
        &ImportOptions { allow_partial: true, ..mapped_options() },
    );
    assert_eq!(partial.decide(&get_request("/foo")), "403");
    // identical policies do not conflict, nor do policies on a broader level
    assert_eq!(
        import_policies(&format!("{}{}", gateway("p", ""), gateway("q", ""))).decide(&get_request("/foo")),
        "401"
    );
    let listener = policy("l", "kind: Gateway, name: eg, sectionName: http", &jwt("mode: Optional,"));
    assert_eq!(
        import_policies(&format!("{}{listener}", gateway("p", ""))).decide(&get_request("/foo")),
        "default/foo/main"
    );
    let rule = policy("r", "kind: HTTPRoute, name: foo, sectionName: other", &jwt(""));
    let both = import_policies(&format!("{listener}{rule}"));
    assert_eq!(
        [both.decide(&get_request("/foo")), both.decide(&get_request("/foo/other"))],
        ["default/foo/main", "401"]
    );
}

#[test]
fn pre_routing_policy_applies_to_the_gateway() {
    let before = |more: &str| policy("p", "kind: Gateway, name: eg", &format!("phase: PreRouting, {more}"));
    let gateway = import_policies(&before(&jwt("")));
    assert_eq!(
        [gateway.decide(&get_request("/foo")), gateway.decide(&get_request("/elsewhere"))],
        ["401", "401"],
        "{}",
        gateway.yaml
    );
    // the first policy removes the token that the second one needs
    let manifests = format!("{ROUTES}{}{}", before(&jwt("")), policy("q", "kind: HTTPRoute, name: foo", &jwt("")));
    let imported = import_file(Dialect::Agentgateway, &manifests, &mapped_options());
    assert!(
        imported.config.is_none() && report(&imported).contains("the precedence of the two"),
        "{}",
        report(&imported)
    );
}

#[test]
fn host_is_the_authority_with_its_port() {
    for (expression, authority, expected) in [
        ("request . host == 'a.example:8080'", "a.example:8080", "request.authority == "),
        ("request.host.startsWith('a.') && '\\'request.host' == \"'request.host\"", "a.example", "'request.host"),
    ] {
        let rule = format!("authorization: {{policy: {{matchExpressions: [{}]}}}}", json!(expression));
        let gateway = import_policies(&policy("p", "kind: Gateway, name: eg", &rule));
        assert!(gateway.allows(&get_request("/foo").host(authority)), "{expression}\n{}", gateway.yaml);
        assert!(!gateway.allows(&get_request("/foo").host("other")), "{expression}\n{}", gateway.yaml);
        assert!(gateway.yaml.replace("''", "'").contains(expected), "{expected}\n{}", gateway.yaml);
    }
}

#[test]
fn rules_of_all_levels_add_up() {
    let rules = |action: &str, expressions: &str| {
        format!("authorization: {{action: {action}, policy: {{matchExpressions: [{expressions}]}}}}")
    };
    let gateway = import_policies(&format!(
        "{}{}{}{}",
        policy("a", "kind: Gateway, name: eg", &jwt("mode: Optional,")),
        policy("b", "kind: Gateway, name: eg", &rules("Allow", "\"jwt.sub == 'a'\", \"jwt.sub == 'b'\"")),
        policy("c", "kind: HTTPRoute, name: foo", &rules("Allow", "\"request.method == 'GET'\"")),
        policy("d", "kind: Gateway, name: eg", &rules("Deny", "\"request.path == '/foo/no'\"")),
    ));
    let sub = |path: &str, sub: &str| get_request(path).token(json!({"sub": sub}));
    for (request, allowed) in [
        (get_request("/foo"), true),
        (get_request("/foo").method("PUT"), false),
        (sub("/foo", "b").method("PUT"), true),
        (get_request("/foo/no"), false),
        (get_request("/bar"), false),
        (sub("/bar", "a"), true),
        (sub("/bar", "c"), false),
    ] {
        assert_eq!(gateway.allows(&request), allowed, "{request:?}\n{}", gateway.yaml);
    }
    let require = import_policies(&policy(
        "r",
        "kind: Gateway, name: eg",
        &rules("Require", "\"request.method == 'GET'\", 'true'"),
    ));
    assert!(require.allows(&get_request("/foo")) && !require.allows(&get_request("/foo").method("PUT")));
}

#[test]
fn keys_are_fetched_from_a_service_or_a_url() {
    let remote = |remote: &str| {
        let traffic = format!("jwtAuthentication: {{providers: [{{issuer: i, jwks: {{remote: {{{remote}}}}}}}]}}");
        import_policies(&policy("p", "kind: Gateway, name: eg", &traffic)).yaml
    };
    let yaml = remote("jwksPath: keys, cacheDuration: 10m, backendRef: {kind: Service, name: web, port: 8080}");
    assert!(yaml.contains("url: 'http://web.default.svc.cluster.local:8080/keys'"), "{yaml}");
    assert!(yaml.contains("connectTo: '127.0.0.1:8001'") && yaml.contains("cacheDuration: '10m'"), "{yaml}");
    // TLS settings from the BackendTLSPolicy
    let tls = "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: t}\nspec: {targetRefs: [{group: \
               '', kind: Service, name: web}], validation: {hostname: idp.example, wellKnownCACertificates: System}}\n---\n";
    let traffic = "jwtAuthentication: {providers: [{issuer: i, jwks: {remote: {jwksPath: /k, backendRef: {name: web, port: 8443}}}}]}";
    let yaml = import_policies(&format!("{tls}{}", policy("p", "kind: Gateway, name: eg", traffic))).yaml;
    assert!(yaml.contains("url: 'https://web.default.svc.cluster.local:8443/k'"), "{yaml}");
    assert!(yaml.contains("hostname: idp.example"), "{yaml}");
    let yaml = remote("url: 'https://idp.example/keys'");
    assert!(yaml.contains("url: 'https://idp.example/keys'") && yaml.contains("cacheDuration: '5m'"), "{yaml}");
}

#[test]
fn token_locations_are_translated() {
    for (location, expected) in [
        ("header: {name: X-Token}", "name: x-token\n"),
        ("cookie: {name: c}", "cookie:\n"),
        ("queryParameter: {name: q}", "queryParameter:\n"),
    ] {
        let yaml =
            import_policies(&policy("p", "kind: Gateway, name: eg", &jwt(&format!("location: {{{location}}},")))).yaml;
        assert!(yaml.contains(expected), "{yaml}");
    }
}
