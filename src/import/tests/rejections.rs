//! Rejected imports, and the result with `--allow-partial`: closed, never open.

use super::envoy_gateway::{ROUTES, policy};
use super::*;

/// Asserts that the import is rejected with a message that contains `words`, and that with `--allow-partial` the paths
/// in `closed` are denied while those in `open` stay open.
#[track_caller]
fn assert_rejected(dialect: Dialect, manifests: &str, words: &str, closed: &[&str], open: &[&str]) {
    let imported = import_file(dialect, manifests, &mapped_options());
    let text = report(&imported);
    assert!(imported.config.is_none(), "not refused: {words}\n{text}");
    let reported = text.lines().any(|line| line.contains(": refused: ") && line.contains(words));
    assert!(reported, "{words} is not among:\n{text}");
    let options = ImportOptions { allow_partial: true, ..mapped_options() };
    let gateway = ImportedGateway::import(dialect, manifests, &options);
    for path in closed {
        let token = serde_json::json!({"iss": "i", "sub": "s"});
        let decision = gateway.decide(&get_request(path).token(token));
        assert!(decision == "403" || decision == "404", "{words}: {path}: {decision}\n{}", gateway.yaml);
    }
    for path in open {
        assert!(gateway.allows(&get_request(path)), "{words}: {path}\n{}", gateway.yaml);
    }
}

#[test]
fn envoy_gateway_policies_are_rejected() {
    let foo = "kind: HTTPRoute, name: foo";
    let jwt = |provider: &str| format!("jwt: {{providers: [{{name: p, {provider}}}]}}");
    let keys = "remoteJWKS: {uri: 'https://a.example/k'}";
    let rule = |rule: &str| format!("authorization: {{defaultAction: Allow, rules: [{rule}]}}");
    for (spec, words) in [
        ("extAuth: {http: {}}".to_owned(), "decisions of an external service"),
        ("oidc: {provider: {}}".to_owned(), "OpenID Connect"),
        ("basicAuth: {users: {}}".to_owned(), "passwords"),
        ("apiKeyAuth: {extractFrom: []}".to_owned(), "API keys"),
        ("csrf: {}".to_owned(), "origins"),
        ("mergeType: Odd".to_owned(), "merge type"),
        ("somethingNew: {a: 1}".to_owned(), "not supported"),
        (jwt("issuer: i"), "`remoteJWKS` and `localJWKS`"),
        (jwt(&format!("{keys}, newField: 1")), "not supported"),
        (jwt(&format!("{keys}, recomputeRoute: true")), "before tokens are verified"),
        (jwt("localJWKS: {inline: 'nonsense'}"), "not a key set"),
        (jwt("localJWKS: {type: ValueRef, valueRef: {kind: ConfigMap, name: gone}}"), "not in the manifests"),
        (
            jwt(
                "remoteJWKS: {uri: 'https://a.example/k', backendRefs: [{kind: ServiceImport, group: x, name: y, port: 1}]}",
            ),
            "not supported",
        ),
        (format!("jwt: {{optional: maybe, providers: [{{name: p, {keys}}}]}}"), "true or false"),
        (
            format!(
                "jwt: {{providers: [{{name: a, {keys}, claimToHeaders: [{{header: x, claim: y}}]}}, {{name: b, {keys}}}]}}"
            ),
            "differs between the providers",
        ),
        (rule("{action: Deny, principal: {clientIPGeoLocations: [{country: XX}]}}"), "geographic locations"),
        (rule("{action: Deny, principal: {clientCIDRs: [nonsense]}}"), "not an address range"),
        (rule("{action: Deny, principal: {jwt: {provider: p, scopes: [a], newThing: 1}}}"), "not supported"),
        (rule("{action: Deny, cel: 'request.path == \"/\"'}"), "CEL is supported only"),
        (rule("{action: Maybe, principal: {clientCIDRs: [0.0.0.0/0]}}"), "Allow or Deny"),
        (rule("{action: Deny}"), "requires a `principal`"),
        (rule("{action: Deny, principal: {}}"), "has no condition"),
        (rule("{action: Deny, principal: {clientCIDRs: []}}"), "has no condition"),
        (rule("{action: Deny, principal: {jwt: {provider: p}}}"), "`claims` or `scopes`"),
        (rule("{action: Deny, principal: {jwt: {provider: p, claims: [{name: a}]}}}"), "`name` and `values`"),
        (rule("{action: Deny, principal: {headers: [{name: a}]}}"), "`name` and `values`"),
        (rule("{action: Deny, principal: {headers: [{name: a, values: [{b: c}]}]}}"), "expected a string"),
        (rule("{action: Deny, principal: {clientCIDRs: [0.0.0.0/0], clientCert: {}}}"), "not supported"),
        (
            rule(
                "{action: Deny, operation: {path: {type: RegularExpression, value: '('}}, principal: {clientCIDRs: [0.0.0.0/0]}}",
            ),
            "regular expression",
        ),
    ] {
        assert_rejected(
            Dialect::EnvoyGateway,
            &format!("{ROUTES}{}", policy("p", foo, &spec)),
            words,
            &["/foo", "/foo/other"],
            &["/bar"],
        );
    }
}

#[test]
fn policy_of_unknown_scope_closes_everything() {
    let object = |version: &str, kind: &str, spec: &str| {
        format!("{ROUTES}apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
    };
    let envoy = "gateway.envoyproxy.io/v1alpha1";
    for (manifest, words) in [
        (object(envoy, "EnvoyPatchPolicy", "{}"), "not supported"),
        (object(envoy, "EnvoyExtensionPolicy", "{}"), "not supported"),
        (object("example.com/v1", "Firewall", "{}"), "not supported"),
        (object("security.istio.io/v1", "AuthorizationPolicy", "{}"), "not supported"),
        (object(envoy, "ClientTrafficPolicy", "{tls: {clientValidation: {}}}"), "not supported"),
        (
            object(envoy, "ClientTrafficPolicy", "{clientIPDetection: {xForwardedFor: {numTrustedHops: 1}}}"),
            "--trusted-proxy",
        ),
        (object(envoy, "BackendTrafficPolicy", "{rateLimit: {}}"), "localRateLimit"),
        (
            object(envoy, "SecurityPolicy", "{targetRefs: [{kind: Unheard, name: x}], authorization: {}}"),
            "not supported",
        ),
    ] {
        assert_rejected(Dialect::EnvoyGateway, &manifest, words, &["/foo", "/bar"], &[]);
    }
}

#[test]
fn routes_are_rejected() {
    let rule = |rule: &str| ROUTES.replace("- name: main\n", &format!("- name: main\n    {rule}\n"));
    for (manifests, words, closed, open) in [
        (
            rule("filters: [{type: ExtensionRef, extensionRef: {kind: X, name: y}}]"),
            "ExtensionRef",
            "/foo",
            &["/bar", "/foo/other"][..],
        ),
        (rule("sessionPersistence: {sessionName: x}"), "not supported", "/foo", &["/bar", "/foo/other"]),
        // requests of a rejected condition could fall through to other routes
        (ROUTES.replace("type: PathPrefix, value: /foo}", "type: Strange, value: /foo}"), "condition", "/foo", &[]),
        (
            ROUTES.replace("{type: PathPrefix, value: /bar}", "{type: RegularExpression, value: '('}"),
            "regular expression",
            "/bar",
            &[],
        ),
        (
            ROUTES.replace("{name: api, port: 80}", "{name: api, port: 80, filters: [{type: CORS}]}"),
            "filters for a single backend",
            "/bar",
            &["/foo"],
        ),
    ] {
        assert_rejected(Dialect::EnvoyGateway, &manifests, words, &[closed], open);
    }
}

#[test]
fn routes_that_match_claim_headers_are_rejected() {
    let manifests = ROUTES.replace(
        "{path: {type: PathPrefix, value: /foo}}",
        "{path: {value: /foo}, headers: [{name: X-Sub, value: a}]}",
    );
    let spec = "jwt: {providers: [{name: p, remoteJWKS: {uri: 'https://a.example/k'}, claimToHeaders: [{header: x-sub, claim: sub}]}]}";
    let manifests = format!("{manifests}{}", policy("p", "kind: HTTPRoute, name: foo", spec));
    assert_rejected(Dialect::EnvoyGateway, &manifests, "matches a header", &["/foo"], &["/bar"]);
}

const ISTIO: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec: {selector: {istio: \
                     ingressgateway}, servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*']}]}\n---\n\
                     apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: {hosts: ['*'], \
                     gateways: [gw], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]}\n---\n";

#[test]
fn istio_policies_are_rejected() {
    let policy = |kind: &str, spec: &str| {
        format!("{ISTIO}apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p}}\nspec: {spec}\n")
    };
    let deny = |rule: &str| policy("AuthorizationPolicy", &format!("{{action: DENY, rules: [{rule}]}}"));
    let jwt = |rule: &str| policy("RequestAuthentication", &format!("{{jwtRules: [{rule}]}}"));
    for (manifests, words) in [
        (
            policy("AuthorizationPolicy", "{action: CUSTOM, provider: {name: x}, rules: [{}]}"),
            "decisions of an external service",
        ),
        (policy("AuthorizationPolicy", "{newField: 1}"), "not supported"),
        (deny("{from: [{source: {principals: [x]}}]}"), "a DENY must not lose"),
        (deny("{from: [{source: {notNamespaces: [x]}}]}"), "a DENY must not lose"),
        (deny("{when: [{key: 'experimental.envoy.filters.a[b]', values: [x]}]}"), "a DENY must not lose"),
        (deny("{to: [{operation: {newField: [x]}}]}"), "a DENY must not lose"),
        (deny("{newField: [x]}"), "not supported"),
        (deny("{when: [{key: 'request.headers[x]'}]}"), "`values` or `notValues`"),
        (deny("{to: [{operation: {paths: ['{**}/a']}}]}"), "not a valid path template"),
        (deny("{to: [{operation: {paths: ['/{**}/{*}']}}]}"), "not a valid path template"),
        (deny("{to: [{operation: {paths: ['/a{*}']}}]}"), "not a valid path template"),
        (deny("{to: [{operation: {methods: GET}}]}"), "not supported"),
        (deny("{to: [{operation: {methods: [GET, {a: b}]}}]}"), "expected a string"),
        (policy("AuthorizationPolicy", "{action: DENY, rules: {a: b}}"), "expected a list"),
        (policy("AuthorizationPolicy", "{action: DENY, rules: text}"), "expected a list"),
        (policy("AuthorizationPolicy", "{}\nSpec: {action: DENY, rules: [{}]}"), "`Spec` is not supported"),
        (deny("{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}"), "the direct peer of a service is the gateway"),
        (deny("{from: [{source: {remoteIpBlocks: [nonsense]}}]}"), "not an address range"),
        (deny("{to: [{operation: {ports: ['80']}}]}"), "the port of the pods is unknown"),
        (policy("AuthorizationPolicy", "{selector: {matchLabels: {version: v1}}, rules: []}"), "cannot tell whether"),
        (
            policy("AuthorizationPolicy", "{targetRefs: [{kind: ServiceEntry, name: x}], rules: []}"),
            "Gateway or a Service",
        ),
        (jwt("{issuer: testing@example}"), "not a URL for discovery"),
        (jwt("{issuer: 'https://i', newField: 1}"), "not supported"),
        (jwt("{jwks: '{}'}"), "requires an `issuer`"),
        (jwt("{issuer: i, jwks: nonsense}"), "not a key set"),
        (jwt("{issuer: 'https://i', forwardOriginalToken: true}, {issuer: 'https://j'}"), "differ between the rules"),
    ] {
        assert_rejected(Dialect::Istio, &manifests, words, &["/"], &[]);
    }
    for (version, kind) in [
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("extensions.istio.io/v1alpha1", "WasmPlugin"),
        ("security.istio.io/v1", "Unheard"),
    ] {
        let manifests = format!("{ISTIO}apiVersion: {version}\nkind: {kind}\nmetadata: {{name: p}}\nspec: {{}}\n");
        assert_rejected(Dialect::Istio, &manifests, "not supported", &["/"], &[]);
    }
}

#[test]
fn istio_routes_are_rejected() {
    for (from, to, words) in [
        ("{route:", "{fault: {abort: {httpStatus: 500}}, route:", "not supported"),
        (
            "{route:",
            "{match: [{headers: {'@request.auth.claims.sub': {exact: a}}}], route:",
            "before tokens are verified",
        ),
        ("{route:", "{match: [{withoutHeaders: {x: {exact: a}}}], route:", "not supported"),
        ("{route:", "{match: [{ignoreUriCase: true, uri: {exact: /a}}], route:", "not supported"),
        ("{route:", "{match: [{uri: {prefix: /a}}], rewrite: {uri: /}, route:", "with an exact match"),
        ("{route:", "{match: [{queryParams: {a: {exact: b}}}], route:", "not supported"),
        ("{route:", "{match: [{sourceLabels: {a: b}}], route:", "not supported"),
        ("{route:", "{mirror: {host: api}, route:", "not supported"),
        ("{route:", "{rewrite: {uriRegexRewrite: {match: a, rewrite: b}}, route:", "not supported"),
        ("{route:", "{corsPolicy: {allowOrigins: [{regex: 'a.*'}]}, route:", "only exact origins"),
        ("{host: web,", "{host: web, subset: v1,", "subset"),
        ("{host: web,", "{host: web.example.com,", "only a Kubernetes service"),
        ("hosts: ['*']}]}", "hosts: ['*'], tls: {httpsRedirect: true}}]}", "requestRedirect"),
    ] {
        assert!(ISTIO.contains(from));
        assert_rejected(Dialect::Istio, &ISTIO.replacen(from, to, 1), words, &["/", "/a"], &[]);
    }
}

#[test]
fn agentgateway_policies_are_rejected() {
    let policy = |traffic: &str| {
        format!(
            "{ROUTES}apiVersion: agentgateway.dev/v1alpha1\nkind: AgentgatewayPolicy\nmetadata: {{name: p}}\nspec: \
             {{targetRefs: [{{kind: HTTPRoute, name: foo}}], traffic: {{{traffic}}}}}\n"
        )
    };
    let keys = format!("jwks: {{inline: '{KEYS}'}}");
    for (traffic, words) in [
        ("extAuth: {}".to_owned(), "not supported"),
        ("rateLimit: {}".to_owned(), "not supported"),
        (format!("jwtAuthentication: {{mode: Odd, providers: [{{issuer: i, {keys}}}]}}"), "`mode`"),
        (format!("jwtAuthentication: {{mcp: {{}}, providers: [{{issuer: i, {keys}}}]}}"), "not supported"),
        (
            format!("jwtAuthentication: {{location: {{expression: 'x'}}, providers: [{{issuer: i, {keys}}}]}}"),
            "expression",
        ),
        (
            format!("phase: PreRouting, jwtAuthentication: {{providers: [{{issuer: i, {keys}}}]}}"),
            "before the route is chosen",
        ),
        (
            "jwtAuthentication: {providers: [{issuer: 'https://i', jwks: {remote: {jwksPath: /k, backendRef: {kind: \
             AgentgatewayBackend, group: agentgateway.dev, name: gone}}}}]}"
                .to_owned(),
            "the location of the keys is unknown",
        ),
        ("jwtAuthentication: {providers: [{issuer: i}]}".to_owned(), "`jwks.inline` and `jwks.remote`"),
        ("jwtAuthentication: {providers: [{issuer: i, jwks: {inline: x}}]}".to_owned(), "not a key set"),
        ("authorization: {action: Odd, policy: {matchExpressions: ['true']}}".to_owned(), "`action`"),
        ("authorization: {policy: {matchExpressions: ['request.body == \"x\"']}}".to_owned(), "body"),
        ("authorization: {action: Deny, policy: {matchExpressions: ['(']}}".to_owned(), ""),
        (
            "authorization: {action: Deny, policy: {matchExpressions: ['request[\"host\"] == \"a\"']}}".to_owned(),
            "use `request` only",
        ),
    ] {
        assert_rejected(Dialect::Agentgateway, &policy(&traffic), words, &["/foo"], &["/bar"]);
    }
    let object =
        format!("{ROUTES}apiVersion: agentgateway.dev/v1alpha1\nkind: Unheard\nmetadata: {{name: x}}\nspec: {{}}\n");
    assert_rejected(Dialect::Agentgateway, &object, "not supported", &["/foo", "/bar"], &[]);
}

#[test]
fn invalid_manifests_are_errors() {
    for (text, words) in [
        ("a: [", "not YAML"),
        ("a: 1", "no `kind`"),
        ("kind: Gateway", "no `metadata.name`"),
        ("kind: A\nmetadata: {name: x}\nkind: B", "is a duplicate"),
        ("kind: A\nmetadata: {name: x}\n---\nkind: A\nmetadata: {name: x}", "duplicate A default/x"),
        (
            "kind: List\nitems: [{kind: A, metadata: {name: x}}, {kind: A, metadata: {name: x}}]",
            "duplicate A default/x",
        ),
        ("kind: List\nitems: {a: b}", "`items` must be a list"),
        ("kind: List\nitems: [text]", "no `kind`"),
        ("kind: A\nmetadata: {name: [x]}", "no `metadata.name`"),
        ("x: &x {spec: {a: b}}\nkind: A\nmetadata: {name: x}\n<<: *x", "merge keys"),
        ("kind: A\nmetadata: {name: x}\nspec: {a: [{<<: {b: c}}]}", "merge keys"),
        ("kind: A\nmetadata: {name: x}\nspec: !tag {}", "tags"),
        ("- kind: A", "no `kind`"),
        ("text", "no `kind`"),
    ] {
        let errors =
            import_manifests(Dialect::Istio, &[Source::new("in.yaml", text.to_owned())], &ImportOptions::default())
                .unwrap_err();
        assert!(errors.iter().any(|error| error.message.contains(words)), "{text}: {errors:?}");
    }
    let nothing =
        import_manifests(Dialect::Istio, &[Source::new("in.yaml", "---\n---\n".to_owned())], &ImportOptions::default())
            .unwrap();
    assert!(nothing.config.is_none());
}

#[test]
fn two_gateways_on_one_port_are_rejected() {
    let twice = format!(
        "{ROUTES}{}",
        ROUTES
            .replace("name: eg", "name: two")
            .replace("{name: foo}", "{name: foo2}")
            .replace("{name: bar}", "{name: bar2}")
    );
    let imported = import_file(Dialect::EnvoyGateway, &twice, &mapped_options());
    assert!(
        imported.config.is_none() && report(&imported).contains("import them one at a time"),
        "{}",
        report(&imported)
    );
}

#[test]
fn policy_with_a_misspelled_target_closes_everything() {
    let manifests = format!(
        "{ROUTES}{}",
        policy("p", "kind: HTTPRoute, name: foo", "authorization: {}").replace("targetRefs", "targetrefs")
    );
    assert_rejected(Dialect::EnvoyGateway, &manifests, "not supported", &["/foo", "/bar"], &[]);
    let elsewhere =
        policy("p", "kind: HTTPRoute, name: foo, namespace: other", "authorization: {defaultAction: Allow}");
    assert_rejected(
        Dialect::EnvoyGateway,
        &format!("{ROUTES}{elsewhere}"),
        "its own namespace",
        &["/foo", "/bar"],
        &[],
    );
}

#[test]
fn lists_anchors_and_empty_documents_are_supported() {
    let list = |text: &str| -> String {
        let objects = text.split("---\n").filter(|object| !object.trim().is_empty());
        let items =
            objects.map(|object| object.trim_start().lines().map(|line| format!("    {line}\n")).collect::<String>());
        let items: String = items.map(|item| format!("  -\n{item}")).collect();
        format!("---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n{items}---\n~\n")
    };
    let deny = policy("p", "kind: HTTPRoute, name: foo", "authorization: {}");
    let anchored = deny.replace("authorization: {}", "authorization: &none {}");
    for manifests in [list(&format!("{ROUTES}{deny}")), format!("{ROUTES}{anchored}")] {
        let gateway = ImportedGateway::import(Dialect::EnvoyGateway, &manifests, &mapped_options());
        assert_eq!(
            [gateway.decide(&get_request("/foo")), gateway.decide(&get_request("/bar"))],
            ["403", "default/bar/0"],
            "{manifests}"
        );
    }
    // an alias is rejected for the same reasons as its anchor
    let aliased = deny.replace("authorization: {}", "authorization: {rules: [&r {action: Deny, cel: 'x'}, *r]}");
    assert_rejected(
        Dialect::EnvoyGateway,
        &format!("{ROUTES}{aliased}"),
        "CEL is supported only",
        &["/foo"],
        &["/bar"],
    );
}

#[test]
fn file_with_many_objects_is_parsed_quickly() {
    let start = std::time::Instant::now();
    let many: String = (0..10_000).map(|n| format!("kind: ConfigMap\nmetadata: {{name: c{n}}}\n---\n")).collect();
    let gateway = ImportedGateway::import(Dialect::EnvoyGateway, &format!("{ROUTES}{many}"), &mapped_options());
    assert!(gateway.allows(&get_request("/bar")));
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn envoy_gateway_backends_need_exactly_one_endpoint() {
    let with = |spec: &str| {
        let routes =
            ROUTES.replacen("{name: web, port: 80}", "{group: gateway.envoyproxy.io, kind: Backend, name: b}", 1);
        let backend = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: Backend\nmetadata: {name: b}\n";
        import_file(Dialect::EnvoyGateway, &format!("{routes}{backend}spec: {{{spec}}}\n"), &mapped_options())
    };
    for (spec, host) in [
        ("endpoints: [{fqdn: {hostname: a.example, port: 81}}]", "host: 'a.example:81'"),
        ("endpoints: [{ip: {address: 10.0.0.1, port: 81}}], type: Endpoints", "host: '10.0.0.1:81'"),
        ("endpoints: [{ip: {address: '2001:db8::1', port: 81}}]", "host: '[2001:db8::1]:81'"),
        ("endpoints: [{fqdn: {hostname: a, port: 81}}], appProtocols: [gateway.envoyproxy.io/h2c]", "protocol: http2"),
    ] {
        let imported = with(spec);
        let text = report(&imported);
        let yaml = imported.config.unwrap_or_else(|| panic!("{text}")).to_yaml();
        assert!(yaml.contains(host), "{yaml}");
    }
    for (spec, words) in [
        ("endpoints: [{unix: {path: /s}}]", "`fqdn` or `ip`"),
        ("type: DynamicResolver", "one endpoint"),
        ("endpoints: [{fqdn: {hostname: a, port: 1}}, {fqdn: {hostname: b, port: 1}}]", "one endpoint"),
        ("endpoints: [{fqdn: {hostname: a, port: 1}}], tls: {insecureSkipVerify: true}", "not supported"),
        ("endpoints: [{fqdn: {hostname: a, port: 1}}], fallback: true", "not supported"),
    ] {
        let imported = with(spec);
        assert!(imported.config.is_none() && report(&imported).contains(words), "{spec}\n{}", report(&imported));
    }
}
