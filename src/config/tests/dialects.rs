//! The three generations give one tree.

use std::sync::Arc;

use super::super::policy::{JwksSource, JwtMode, RuleKind};
use super::super::value::HostPattern;
use super::{errors, loaded};

const AUTH: &str = "{mode: strict, issuer: i, audiences: [a], jwks: {file: k}}";

/// The tree without what differs by spelling: places, and the names that a file does not write.
fn normalized(text: &str) -> String {
    let mut config = loaded(text).config;
    for bind in &mut config.binds {
        for listener in Arc::make_mut(bind).listeners.iter_mut().map(Arc::make_mut) {
            listener.gateway = "g".to_owned();
            listener.name = "l".to_owned();
            listener
                .routes
                .iter_mut()
                .map(Arc::make_mut)
                .flat_map(|route| &mut route.backends)
                .for_each(|backend| backend.name = None);
        }
    }
    let shown = format!("{:#?}", config.binds);
    regex::Regex::new("<gw.yaml[^>]*>").unwrap().replace_all(&shown, "<>").into_owned()
}

#[test]
fn gateway_policy_is_equal_in_all_generations() {
    let seed = normalized(&format!(
        "binds:
- port: 3000
  listeners:
  - gatewayName: my-gateway
    routes: [{{name: r, backends: [{{host: 'a:1'}}]}}]
gatewayPolicies:
- name: strict
  target: {{gateway: my-gateway}}
  policy:
    jwtAuth: {AUTH}
"
    ));
    let targeted = |target: &str| {
        normalized(&format!(
            "binds:
- port: 3000
  listeners:
  - routes: [{{name: r, backends: [{{host: 'a:1'}}]}}]
policies:
- name: {{name: strict, namespace: default}}
  target: {{gateway: {target}}}
  phase: gateway
  policy: {{jwtAuth: {AUTH}}}
"
        ))
    };
    let gateways = normalized(&format!(
        "gateways:
  default: {{port: 3000, jwtAuth: {AUTH}}}
routes:
- gateways: default
  name: r
  backends: [{{backend: b}}]
backends:
- {{name: other, host: 'z:1'}}
- {{name: b, host: 'a:1'}}
"
    ));
    assert!(seed.contains("Strict"), "{seed}");
    assert_eq!(targeted("{gatewayName: default, gatewayNamespace: default}"), seed);
    assert_eq!(targeted("bind/3000"), seed);
    assert_eq!(targeted("{gatewayName: bind/3000}"), seed);
    let unnamed =
        gateways.replace("Some(\n                                \"b\",\n                            )", "None");
    assert_eq!(unnamed, seed);
}

#[test]
fn listener_policy_is_equal_in_all_generations() {
    let inline = normalized(&format!("binds: [{{port: 1, listeners: [{{name: l, policies: {{jwtAuth: {AUTH}}}}}]}}]"));
    for text in [
        format!(
            "binds: [{{port: 1, listeners: [{{name: l}}]}}]\ngatewayPolicies: [{{target: {{listener: l}}, policy: {{jwtAuth: {AUTH}}}}}]"
        ),
        format!(
            "binds: [{{port: 1, listeners: [{{name: l}}]}}]\npolicies: [{{target: {{gateway: {{gatewayName: default, listenerName: l}}}}, policy: {{jwtAuth: {AUTH}}}}}]"
        ),
        format!("gateways: {{g: {{port: 1, listeners: [{{name: l, jwtAuth: {AUTH}}}]}}}}"),
    ] {
        assert_eq!(normalized(&text), inline, "{text}");
    }
}

#[test]
fn route_policy_is_equal_inline_and_targeted() {
    let inline = normalized(&format!(
        "binds: [{{port: 1, listeners: [{{routes: [{{name: r, policies: {{jwtAuth: {AUTH}}}}}]}}]}}]"
    ));
    for target in ["{route: r}", "{route: {name: r, namespace: default}}"] {
        let text = format!(
            "binds: [{{port: 1, listeners: [{{routes: [{{name: r}}]}}]}}]\npolicies: [{{target: {target}, policy: {{jwtAuth: {AUTH}}}}}]"
        );
        assert_eq!(normalized(&text), inline, "{text}");
    }
}

#[test]
fn all_rule_sets_are_retained() {
    let config = loaded(
        "binds: [{port: 1, listeners: [{name: l, policies: {authorization: {rules: ['a']}}}]}]
gatewayPolicies:
- {target: {listener: l}, policy: {authorization: {rules: [{deny: 'b', name: n}]}}}
- {target: {listener: l}, policy: {authorization: {mode: Shadow, rules: [{require: 'c'}]}}}
",
    )
    .config;
    let sets = &config.binds[0].listeners[0].policies.authorization.0;
    let rules: Vec<_> = sets.iter().map(|set| (set.rules[0].kind, set.rules[0].cel.value.as_str())).collect();
    assert_eq!(rules, [(RuleKind::Allow, "a"), (RuleKind::Deny, "b"), (RuleKind::Require, "c")]);
    assert_eq!(sets[1].rules[0].name.as_deref(), Some("n"));
}

#[test]
fn documented_example_loads() {
    let loaded = loaded(
        "binds:
- port: 3000
  listeners:
  - gatewayName: my-gateway
gatewayPolicies:
  # Example 1: Strict JWT Policy - Token Required for ALL requests
  - name: strict-jwt-authentication
    target:
      gateway: my-gateway
    policy:
      jwtAuth:
        mode: strict  # Rejects requests without valid JWT
        issuer: agentgateway.dev
        audiences: [test.agentgateway.dev]
        jwks:
          file: ./manifests/jwt/pub-key
",
    );
    assert_eq!(loaded.warnings, []);
    let listener = &loaded.config.binds[0].listeners[0];
    assert!(listener.routes.is_empty());
    let jwt = listener.gateway_policies.jwt_auth.as_ref().unwrap();
    assert_eq!(jwt.mode.as_ref().map(|mode| mode.value), Some(JwtMode::Strict));
    assert_eq!(jwt.providers[0].name, "agentgateway.dev");
    let JwksSource::File(file) = &jwt.providers[0].jwks.value else { panic!("a file") };
    assert_eq!(file.value.to_str(), Some("./manifests/jwt/pub-key"));
    assert_eq!((file.span.line, file.span.column), (16, 17));
    assert_eq!(&*file.span.path, "gatewayPolicies[0].policy.jwtAuth.jwks.file");
}

#[test]
fn every_config_key_loads() {
    let loaded = loaded(include_str!("everything.yaml"));
    let shadow = "`mode: shadow` never rejects: rejections by these rules are only logged and counted";
    let span = "79:9 binds[0].listeners[0].policies.authorization";
    assert_eq!(super::render_findings(&loaded.warnings), [format!("{span}: {shadow}")]);
    let config = loaded.config;
    assert_eq!(config.binds.len(), 2);
    let listener = &config.binds[0].listeners[0];
    assert_eq!(listener.gateway, "my-gateway");
    assert_eq!(listener.hostname.as_ref().unwrap().value, HostPattern::Suffix("example.com".to_owned()));
    let jwt = listener.policies.jwt_auth.as_ref().unwrap();
    assert_eq!(jwt.providers.len(), 4);
    assert_eq!(jwt.providers[1].jwks.value, JwksSource::Discover);
    assert!(matches!(jwt.providers[2].jwks.value, JwksSource::Inline(_)));
    assert_eq!(jwt.claims_to_headers[1].claim.0, ["realm_access", "roles"]);
    let backend = &listener.routes[0].backends[1];
    assert_eq!((backend.name.as_deref(), backend.hosts.len(), backend.weight), (Some("pool"), 2, 0));
}

#[test]
fn unnamed_providers_are_named_after_their_issuers() {
    let text = "binds: [{port: 1, listeners: [{policies: {jwtAuth: {providers: [{issuer: a}, {issuer: a}, {name: 'a#2', issuer: b},
      {issuer: b}, {issuer: a}, {jwks: '{}'}]}}}]}]";
    let config = loaded(text).config;
    let jwt = config.binds[0].listeners[0].policies.jwt_auth.as_ref().unwrap();
    let names: Vec<_> = jwt.providers.iter().map(|provider| &*provider.name).collect();
    assert_eq!(names, ["a", "a#3", "a#2", "b", "a#4", "provider5"]);
}

#[test]
fn plain_proxy_config_loads() {
    let base = "config: {adminAddr: 'off', statsAddr: off, readinessAddr: 'off', workerThreads: 1}
binds:
- port: ${PORT}
  address: 127.0.0.1
  listeners:
  - name: bench
    protocol: HTTP
    routes:
    - name: all
      backends:
      - host: 127.0.0.1:${PORT}
";
    let config = loaded(base).config;
    assert_eq!(config.binds[0].port, 8080);
    assert!(config.process.stats_addr.sockets().is_empty());
}

#[test]
fn top_level_route_attaches_to_each_of_its_gateways() {
    let text = |gateways: &str| {
        format!(
            "gateways:
  a: {{port: 1}}
  b: {{port: 2, listeners: [{{name: x, hostname: x.test}}, {{name: y, hostname: y.test}}]}}
routes: [{{name: r, {gateways}}}]
"
        )
    };
    let routes = |gateways: &str| -> Vec<usize> {
        let config = loaded(&text(gateways)).config;
        config.binds.iter().flat_map(|bind| &bind.listeners).map(|listener| listener.routes.len()).collect()
    };
    assert_eq!(routes("gateways: a"), [1, 0, 0]);
    assert_eq!(routes("gateways: b"), [0, 1, 1]);
    assert_eq!(routes("gateways: b/y"), [0, 0, 1]);
    assert_eq!(routes("gateways: [a, b/x]"), [1, 1, 0]);
    assert_eq!(
        errors(&text("gateways: b/z")),
        ["4:30 routes[0].gateways: unknown gateway `b/z` (did you mean `b/x`?)"]
    );
}
