//! Every policy at every level where it is allowed, in every spelling, and the replacement of broader policies.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::mint::{self, Alg, Key};
use crate::support::{Backend, InProcessGateway, ScriptedResponse};
use crate::{basic_credential, config_error};

/// Returns whether a policy is effective on the route `/x` of a gateway.
type Probe = fn(&InProcessGateway, &Backend) -> bool;

/// A policy that shows, one of the same kind that does not, and how it shows.
struct PolicyCase {
    name: &'static str,
    policy: String,
    other: String,
    is_applied: Probe,
}

fn kinds(service: &Backend) -> Vec<PolicyCase> {
    let key = Key::new(Alg::Es256, "k1");
    let jwt = |mode: &str| format!("{{mode: {mode}, issuer: i, audiences: [a], jwks: '{}'}}", mint::jwks([&key]));
    let hash = bcrypt::hash("secret", 4).unwrap();
    let kind = |name, policy: &str, other: &str, shows| PolicyCase {
        name,
        policy: policy.into(),
        other: other.into(),
        is_applied: shows,
    };

    vec![
        kind("jwtAuth", &jwt("strict"), &jwt("permissive"), |g, _| g.client().get("/x", &[]).status() == 401),
        kind(
            "authorization",
            "{rules: ['request.path == \"/no\"']}",
            "{rules: ['request.path != \"/no\"']}",
            |g, _| g.client().get("/x", &[]).status() == 403,
        ),
        kind("cors", "{allowOrigins: ['https://a.test']}", "{allowOrigins: ['https://b.test']}", |g, _| {
            let response = g.client().get("/x", &[("origin", "https://a.test")]);
            response.header("access-control-allow-origin") == Some("https://a.test")
        }),
        kind("requestHeaderModifier", "{set: {x-set: '1'}}", "{set: {x-other: '1'}}", |g, backend| {
            g.client().get("/x", &[]);
            backend.requests().last().unwrap().header("x-set").is_some()
        }),
        kind("responseHeaderModifier", "{set: {x-set: '1'}}", "{set: {x-other: '1'}}", |g, _| {
            g.client().get("/x", &[]).header("x-set").is_some()
        }),
        kind(
            "transformations",
            "{request: {set: {x-path: request.path}}}",
            "{request: {set: {x-other: request.path}}}",
            |g, backend| {
                g.client().get("/x", &[]);
                backend.requests().last().unwrap().header("x-path") == Some("/x")
            },
        ),
        kind(
            "localRateLimit",
            "[{maxTokens: 1, tokensPerFill: 1, fillInterval: 1h}]",
            "[{maxTokens: 9, tokensPerFill: 9, fillInterval: 1h}]",
            |g, _| {
                g.client().get("/x", &[]);
                g.client().get("/x", &[]).status() == 429
            },
        ),
        kind("timeout", "{requestTimeout: 50ms}", "{requestTimeout: 1h}", |g, _| {
            g.client().get("/x?slow", &[]).status() == 504
        }),
        kind("retry", "{attempts: 1, codes: [503]}", "{attempts: 1, codes: [502]}", |g, _| {
            g.client().get("/x?flaky", &[]).status() == 200
        }),
        kind(
            "basicAuth",
            &format!("{{htpasswd: 'u:{hash}'}}"),
            &format!("{{htpasswd: 'u:{hash}', mode: optional}}"),
            |g, _| {
                let good = g.client().get("/x", &[("authorization", &basic_credential("u:secret"))]).status();
                good == 200
                    && g.client().get("/x", &[]).header("www-authenticate").is_some_and(|c| c.starts_with("Basic"))
            },
        ),
        kind("apiKey", "{keys: [{key: k}]}", "{keys: [{key: k}], mode: optional}", |g, _| {
            let good = g.client().get("/x", &[("authorization", "Bearer k")]).status();
            good == 200 && g.client().get("/x", &[]).status() == 401
        }),
        kind(
            "extAuthz",
            &format!("{{host: '{}', timeout: 5s, protocol: {{http: {{pathPrefix: /deny}}}}}}", service.address()),
            &format!("{{host: '{}', timeout: 5s, protocol: {{http: {{}}}}}}", service.address()),
            |g, _| g.client().get("/x", &[]).status() == 418,
        ),
    ]
}

/// Returns a config with `policies` at a level, and `own` on the route.
fn config_with(level: &str, kind: &str, policy: &str, own: &str, backend: &Backend) -> String {
    let policies = format!("{{{kind}: {policy}}}");
    let routes = format!(
        "[{{name: r, matches: [{{path: {{exact: /x}}}}], policies: {{{own}}}, backends: [{{host: '{}'}}]}}]",
        backend.address()
    );
    let inline = routes.replace("policies: {}", &format!("policies: {policies}"));
    let binds =
        |listener: &str, routes: &str| format!("binds: [{{port: 0, listeners: [{{{listener}routes: {routes}}}]}}]\n");
    match level {
        "nowhere" => binds("", &routes),
        "gatewayPolicies: gateway" => {
            binds("gatewayName: g, ", &routes)
                + &format!("gatewayPolicies: [{{name: p, target: {{gateway: g}}, policy: {policies}}}]")
        }
        "gatewayPolicies: listener" => {
            binds("name: l, ", &routes) + &format!("gatewayPolicies: [{{target: {{listener: l}}, policy: {policies}}}]")
        }
        "gatewayPolicies: route" => {
            binds("", &routes) + &format!("gatewayPolicies: [{{target: {{route: r}}, policy: {policies}}}]")
        }
        "policies: gateway" => {
            binds("", &routes)
                + &format!(
                    "policies: [{{name: {{name: p, namespace: default}}, phase: gateway, policy: {policies}, \
                     target: {{gateway: {{gatewayName: default, gatewayNamespace: default}}}}}}]"
                )
        }
        "policies: listener" => {
            binds("name: l, ", &routes)
                + &format!(
                    "policies: [{{policy: {policies}, target: {{gateway: {{gatewayName: default, listenerName: l}}}}}}]"
                )
        }
        "policies: route" => {
            binds("", &routes)
                + &format!("policies: [{{policy: {policies}, target: {{route: {{name: r, namespace: default}}}}}}]")
        }
        "listener" => binds(&format!("policies: {policies}, "), &routes),
        "route" => binds("", &inline),
        "gateways" => format!("gateways: {{default: {{port: 0, {kind}: {policy}}}}}\nroutes: {routes}"),
        "gateways: listener" => {
            format!("gateways: {{default: {{port: 0, listeners: [{{name: l, {kind}: {policy}}}]}}}}\nroutes: {routes}")
        }
        other => panic!("{other}"),
    }
}

const BROAD: [&str; 7] = [
    "gatewayPolicies: gateway",
    "gatewayPolicies: listener",
    "policies: gateway",
    "policies: listener",
    "listener",
    "gateways",
    "gateways: listener",
];
const NARROW: [&str; 3] = ["gatewayPolicies: route", "policies: route", "route"];

fn backend() -> Backend {
    let flaky = AtomicUsize::new(0);
    Backend::start(move |request| match request.target().split_once('?') {
        Some((_, "slow")) => ScriptedResponse::default()
            .delay(Duration::from_millis(400))
            .send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        Some((_, "flaky")) if flaky.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => {
            ScriptedResponse::new(503, &[], "")
        }
        _ => ScriptedResponse::ok(),
    })
}

fn service() -> Backend {
    Backend::start(|request| match request.target().starts_with("/deny") {
        true => ScriptedResponse::new(418, &[], "no"),
        false => ScriptedResponse::ok(),
    })
}

#[test]
fn every_policy_works_at_every_level_in_every_spelling() {
    let service = service();
    for PolicyCase { name, policy, other, is_applied: shows } in kinds(&service) {
        for level in BROAD.into_iter().chain(NARROW) {
            let backend = backend();
            let gateway = InProcessGateway::start(&config_with(level, name, &policy, "", &backend));
            assert!(shows(&gateway, &backend), "{name} at {level} does nothing");
        }
        for (level, policy) in [("nowhere", ""), ("route", &*other), ("listener", &*other)] {
            let backend = backend();
            let gateway = InProcessGateway::start(&config_with(level, name, policy, "", &backend));
            assert!(!shows(&gateway, &backend), "{name} shows {level} without being there");
        }
    }
}

#[test]
fn route_policy_replaces_the_gateways_but_rules_add_up() {
    let service = service();
    for PolicyCase { name, policy, other, is_applied: shows } in kinds(&service) {
        for level in ["gatewayPolicies: gateway", "policies: gateway", "listener", "gateways: listener"] {
            let backend = backend();
            let own = format!("{name}: {other}");
            let gateway = InProcessGateway::start(&config_with(level, name, &policy, &own, &backend));
            assert_eq!(shows(&gateway, &backend), name == "authorization", "{name}, {level} under the route's own");
        }
    }
}

#[test]
fn route_only_policies_are_rejected_elsewhere() {
    for policy in ["requestRedirect: {}", "urlRewrite: {path: {full: /a}}", "directResponse: {status: 200}"] {
        let name = policy.split(':').next().unwrap();
        for yaml in [
            format!("binds: [{{port: 0, listeners: [{{policies: {{{policy}}}}}]}}]"),
            format!(
                "binds: [{{port: 0, listeners: [{{gatewayName: g}}]}}]\ngatewayPolicies: [{{target: {{gateway: g}}, policy: {{{policy}}}}}]"
            ),
            format!("gateways: {{default: {{port: 0, {policy}}}}}"),
        ] {
            let fault = InProcessGateway::try_start(&yaml).err().unwrap_or_else(|| panic!("{yaml}"));
            assert!(fault.contains(name) && fault.contains("route"), "{yaml}: {fault}");
        }
    }
}

#[test]
fn unsupported_policies_are_rejected_by_name() {
    for (policies, name) in [
        ("mcpAuthorization: {rules: []}", "mcpAuthorization"),
        ("mcpAuthentication: {}", "mcpAuthentication"),
        ("a2a: {}", "a2a"),
        ("ai: {}", "ai"),
        ("oidc: {}", "oidc"),
        ("csrf: {}", "csrf"),
        ("extProc: {host: 'a:1'}", "extProc"),
        ("remoteRateLimit: {}", "remoteRateLimit"),
        ("buffer: {}", "buffer"),
        ("delay: {duration: 1s}", "delay"),
    ] {
        let fault = config_error(policies);
        let hint =
            if name == "ai" { "this agentgateway feature is not supported" } else { "this policy is not supported" };
        assert!(fault.contains(&format!("`{name}`")) && fault.contains("test.yaml:2:"), "{fault}");
        assert!(fault.contains(hint), "{fault}");
    }
    for (yaml, name) in [
        ("binds: [{port: 0, listeners: [{routes: [{backends: [{mcp: {targets: []}}]}]}]}]", "mcp"),
        ("binds: [{port: 0, listeners: [{routes: [{backends: [{ai: {name: a}}]}]}]}]", "ai"),
        ("binds: [{port: 0, listeners: [{routes: [{backends: [{dynamic: {}}]}]}]}]", "dynamic"),
        ("binds: [{port: 0, listeners: [{tcpRoutes: []}]}]", "tcpRoutes"),
        ("binds: [{port: 0, listeners: []}]\nllm: {}", "llm"),
        ("binds: [{port: 0, listeners: []}]\nmcp: {}", "mcp"),
        ("binds: [{port: 0, listeners: []}]\nfrontendPolicies: {accessLog: {}}", "frontendPolicies"),
        ("binds: [{port: 0, listeners: []}]\ntcpRoutes: []", "tcpRoutes"),
        ("binds: [{port: 0, listeners: []}]\nworkloads: []", "workloads"),
        ("binds: [{port: 0, tunnelProtocol: connect, listeners: []}]", "tunnelProtocol"),
    ] {
        let fault = InProcessGateway::try_start(yaml).err().unwrap_or_else(|| panic!("{yaml}"));
        assert!(fault.contains(&format!("unknown key `{name}`")) && fault.contains("test.yaml:"), "{yaml}: {fault}");
        assert!(fault.contains("this agentgateway feature is not supported"), "{fault}");
    }
}
