//! Gateway API: listeners, routes and their order, references.

use super::*;

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  \
                       gatewayClassName: x\n  listeners:\n  - {name: http, protocol: HTTP, port: 80}\n---\n";

/// Returns a route with these rules.
fn route(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: \
         [{{name: gw}}]\n{}---\n",
        spec.lines().map(|line| format!("  {line}\n")).collect::<String>()
    )
}

fn gateway(manifests: &str) -> ImportedGateway {
    ImportedGateway::import(Dialect::Agentgateway, manifests, &mapped_options())
}

#[test]
fn matches_become_conditions() {
    let to = "backendRefs: [{name: web, port: 80}]";
    let rules = format!(
        "rules:\n- {{name: exact, matches: [{{path: {{type: Exact, value: /a}}}}], {to}}}\n- {{name: prefix, matches: \
         [{{path: {{value: /b}}}}], {to}}}\n- {{name: regex, matches: [{{path: {{type: RegularExpression, value: \
         '/c/[0-9]+'}}}}], {to}}}\n- {{name: method, matches: [{{method: PUT}}], {to}}}\n- {{name: header, matches: \
         [{{headers: [{{name: x, value: y}}, {{name: X, value: ignored}}]}}, {{headers: [{{type: RegularExpression, name: \
         z, value: '[0-9]+'}}]}}], {to}}}\n- {{name: query, matches: [{{queryParams: [{{name: q, value: '1'}}]}}], {to}}}\n\
         - {{name: all, {to}}}"
    );
    let gateway = gateway(&format!("{GATEWAY}{}", route("r", &rules)));
    for (request, name) in [
        (get_request("/a"), "exact"),
        (get_request("/a/"), "all"),
        (get_request("/b/x"), "prefix"),
        (get_request("/bx"), "all"),
        // prefixes precede regular expressions, and every path has the prefix `/`
        (get_request("/c/12"), "all"),
        (get_request("/x").method("PUT"), "method"),
        (get_request("/x").header("x", "y"), "header"),
        (get_request("/x").header("z", "12"), "header"),
        (get_request("/x").header("z", "12a"), "all"),
        (get_request("/x?q=1"), "query"),
        (get_request("/x?q=2"), "all"),
    ] {
        assert_eq!(gateway.decide(&request), format!("default/r/{name}"), "{request:?}\n{}", gateway.yaml);
    }
}

#[test]
fn ties_are_broken_by_age_and_then_by_name() {
    let rule = "rules: [{backendRefs: [{name: web, port: 80}]}]";
    let age = |name: &str, time: &str| {
        route(name, rule)
            .replace(&format!("{{name: {name}}}"), &format!("{{name: {name}, creationTimestamp: '{time}'}}"))
    };
    let by_name = gateway(&format!("{GATEWAY}{}{}", route("b", rule), route("a", rule)));
    assert_eq!(by_name.decide(&get_request("/")), "default/a/0");
    let by_age = gateway(&format!("{GATEWAY}{}{}", age("a", "2024-01-01T00:00:00Z"), age("b", "2023-01-01T00:00:00Z")));
    assert_eq!(by_age.decide(&get_request("/")), "default/b/0");
}

#[test]
fn hostnames_of_listener_and_route_intersect() {
    let listeners = GATEWAY.replace(
        "- {name: http, protocol: HTTP, port: 80}",
        "- {name: wild, protocol: HTTP, port: 80, hostname: '*.example.com'}\n  - {name: other, protocol: HTTP, port: 81}",
    );
    let to = "rules: [{backendRefs: [{name: web, port: 80}]}]";
    let manifests = format!(
        "{listeners}{}{}",
        route("in", &format!("hostnames: [a.example.com, a.test]\n{to}")),
        route("out", &format!("hostnames: [b.test]\n{to}"))
    );
    let gateway = gateway(&manifests);
    for (host, port, found) in [
        ("a.example.com", 80, "default/in/0"),
        ("b.example.com", 80, "404"),
        ("a.test", 80, "404"),
        ("b.test", 80, "404"),
        ("a.test", 81, "default/in/0"),
        ("b.test", 81, "default/out/0"),
        ("c.test", 81, "404"),
    ] {
        assert_eq!(gateway.decide(&get_request("/").host(host).port(port)), found, "{host}:{port}\n{}", gateway.yaml);
    }
}

#[test]
fn routes_of_other_namespaces_need_permission_of_the_listener() {
    let to = "rules: [{backendRefs: [{name: web, namespace: default, port: 80}]}]";
    let elsewhere = route("r", to)
        .replace("{name: r}", "{name: r, namespace: other}")
        .replace("[{name: gw}]", "[{name: gw, namespace: default}]");
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g}\nspec: {from: \
                 [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}], to: [{group: '', kind: Service}]}\n";
    let closed = gateway(&format!("{GATEWAY}{elsewhere}{grant}"));
    assert_eq!(closed.decide(&get_request("/")), "404");
    let open = GATEWAY.replace("port: 80}", "port: 80, allowedRoutes: {namespaces: {from: All}}}");
    let open_with = gateway(&format!("{open}{elsewhere}{grant}"));
    assert_eq!(open_with.decide(&get_request("/")), "other/r/0");
    assert!(open_with.yaml.contains("127.0.0.1:8001"), "{}", open_with.yaml);
    // without the grant the route has no backend, which is a 500 response in both gateways
    let without = gateway(&format!("{open}{elsewhere}"));
    assert!(!without.yaml.contains("backends:"), "{}", without.yaml);
}

#[test]
fn route_can_attach_to_one_listener() {
    let two = GATEWAY.replace(
        "- {name: http, protocol: HTTP, port: 80}",
        "- {name: one, protocol: HTTP, port: 80}\n  - {name: two, protocol: HTTP, port: 81}",
    );
    for (parent, ports) in
        [("sectionName: two", (false, true)), ("port: 80", (true, false)), ("sectionName: x", (false, false))]
    {
        let manifest = route("r", "rules: [{backendRefs: [{name: web, port: 80}]}]")
            .replace("[{name: gw}]", &format!("[{{name: gw, {parent}}}]"));
        let gateway = gateway(&format!("{two}{manifest}"));
        assert_eq!((gateway.allows(&get_request("/")), gateway.allows(&get_request("/").port(81))), ports, "{parent}");
    }
}

#[test]
fn grpc_methods_are_paths() {
    let grpc = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: g}\nspec:\n  parentRefs: \
                [{name: gw}]\n  rules:\n  - {name: one, matches: [{method: {service: a.B, method: C}}], backendRefs: [{name: \
                web, port: 80}]}\n  - {name: service, matches: [{method: {service: a.B}}], backendRefs: [{name: web, port: \
                80}]}\n  - {name: method, matches: [{method: {method: Ping}}], backendRefs: [{name: web, port: 80}]}\n  - \
                {name: regex, matches: [{method: {type: RegularExpression, service: 'x\\.[A-Z]+'}}], backendRefs: [{name: \
                web, port: 80}]}\n";
    let gateway = gateway(&format!("{GATEWAY}{grpc}"));
    for (path, found) in [
        ("/a.B/C", "grpc/default/g/one"),
        ("/a.B/D", "grpc/default/g/service"),
        ("/z.Z/Ping", "grpc/default/g/method"),
        ("/x.YZ/Anything", "grpc/default/g/regex"),
        ("/x.y/Anything", "404"),
    ] {
        assert_eq!(gateway.decide(&get_request(path).method("POST")), found, "{path}\n{}", gateway.yaml);
    }
    assert!(gateway.yaml.contains("protocol: http2"), "{}", gateway.yaml);
}

/// Tests only that the translated policies load; their own tests cover their behavior.
#[test]
fn filters_timeouts_and_retries_become_policies() {
    let rules = "rules:\n- name: a\n  timeouts: {request: 5s, backendRequest: 2s}\n  retry: {attempts: 2, backoff: 100ms, \
                 codes: [502, 503]}\n  filters:\n  - type: RequestHeaderModifier\n    requestHeaderModifier: {set: [{name: a, \
                 value: b}], add: [{name: c, value: d}], remove: [e]}\n  - type: URLRewrite\n    urlRewrite: {hostname: \
                 h.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}\n  - type: RequestMirror\n    \
                 requestMirror: {backendRef: {name: api, port: 80}, percent: 25}\n  - type: CORS\n    cors: {allowOrigins: \
                 ['https://x.example'], allowMethods: [GET], maxAge: 5}\n  backendRefs: [{name: web, port: 80, weight: 3}, \
                 {name: api, port: 80, weight: 0}]\n- name: b\n  filters:\n  - type: RequestRedirect\n    requestRedirect: \
                 {scheme: https, port: 8443, statusCode: 308, path: {type: ReplaceFullPath, replaceFullPath: /x}}\n  - type: \
                 ResponseHeaderModifier\n    responseHeaderModifier: {set: [{name: a, value: b}]}\n";
    let imported = import_file(Dialect::Agentgateway, &format!("{GATEWAY}{}", route("r", rules)), &mapped_options());
    let text = report(&imported);
    let yaml = imported.config.unwrap_or_else(|| panic!("{text}")).to_yaml();
    load(Source::new("out.yaml", yaml.clone()), &|_| None).unwrap_or_else(|errors| panic!("{errors:?}\n{yaml}"));
    for part in [
        "request: '5s'",
        "backend: '2s'",
        "attempts: 2",
        "codes: [502, 503]",
        "set:",
        "remove: [e]",
        "full: h.example",
        "prefix: /",
        "percentage: 0.25",
        "allowOrigins: ['https://x.example']",
        "maxAge: '5s'",
        "weight: 3",
        "weight: 0",
        "scheme: https",
        "status: 308",
        "responseHeaderModifier:",
    ] {
        assert!(yaml.contains(part), "{part}\n{yaml}");
    }
}

#[test]
fn certificates_become_files_in_the_output_directory() {
    let secure = GATEWAY.replace(
        "{name: http, protocol: HTTP, port: 80}",
        "{name: https, protocol: HTTPS, port: 443, tls: {mode: Terminate, certificateRefs: [{name: cert}]}}",
    );
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: cert}\ndata: {tls.crt: Q0VSVA==, tls.key: S0VZ}\n---\n";
    let to = route("r", "rules: [{backendRefs: [{name: web, port: 80}]}]");
    let both = format!("{secure}{secret}{to}");
    let refused = import_file(Dialect::Agentgateway, &both, &mapped_options());
    assert!(refused.config.is_none() && report(&refused).contains("--out-dir"), "{}", report(&refused));
    let options = ImportOptions { out_dir: Some("certs".to_owned()), ..mapped_options() };
    let config = import_file(Dialect::Agentgateway, &both, &options).config.unwrap();
    assert_eq!(
        config.files,
        [
            ("certs/default.cert.crt".to_owned(), b"CERT".to_vec()),
            ("certs/default.cert.key".to_owned(), b"KEY".to_vec()),
        ]
    );
    assert!(config.to_yaml().contains("cert: certs/default.cert.crt"), "{}", config.to_yaml());
    // the report asks for a certificate that is not in the manifests
    let without = import_file(Dialect::Agentgateway, &format!("{secure}{to}"), &mapped_options());
    assert!(without.config.is_some() && report(&without).contains("needs input"), "{}", report(&without));
    // names cannot lead out of the directory
    let escaping = both.replace("[{name: cert}]", "[{name: ../../cert}]").replace("{name: cert}", "{name: ../../cert}");
    assert!(import_file(Dialect::Agentgateway, &escaping, &options).config.is_none());
}

#[test]
fn backend_tls_policy_becomes_backend_tls() {
    let policy = "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: t}\nspec: {targetRefs: \
                  [{group: '', kind: Service, name: web}], validation: {hostname: web.example, caCertificateRefs: [{group: \
                  '', kind: ConfigMap, name: ca}]}}\n---\n";
    let ca = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca}\ndata: {ca.crt: PEM}\n---\n";
    let to = route("r", "rules: [{backendRefs: [{name: web, port: 80}]}]");
    let options = ImportOptions { out_dir: Some("ca".to_owned()), ..mapped_options() };
    let config = import_file(Dialect::Agentgateway, &format!("{GATEWAY}{policy}{ca}{to}"), &options).config.unwrap();
    assert!(config.to_yaml().contains("root: ca/default.ca.crt"), "{}", config.to_yaml());
    assert!(config.to_yaml().contains("hostname: web.example"), "{}", config.to_yaml());
    let system = policy
        .replace("caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]", "wellKnownCACertificates: System");
    let config =
        import_file(Dialect::Agentgateway, &format!("{GATEWAY}{system}{to}"), &mapped_options()).config.unwrap();
    assert!(!config.to_yaml().contains("root:"), "{}", config.to_yaml());
    let other = policy
        .replace("hostname: web.example", "hostname: web.example, subjectAltNames: [{type: Hostname, hostname: x}]");
    assert!(import_file(Dialect::Agentgateway, &format!("{GATEWAY}{other}{ca}{to}"), &options).config.is_none());
}
