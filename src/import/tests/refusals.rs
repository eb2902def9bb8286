//! What refuses an import, and what `--allow-partial` makes of it: closed, never open.

use super::envoy_gateway::{ROUTES, policy};
use super::*;

/// Asserts that the import is refused with these words at this field, and that nobody gets in at `closed` when it goes
/// on nevertheless, while `open` stays as it is.
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
fn policies_of_envoy_gateway() {
    let foo = "kind: HTTPRoute, name: foo";
    let jwt = |provider: &str| format!("jwt: {{providers: [{{name: p, {provider}}}]}}");
    let keys = "remoteJWKS: {uri: 'https://a.example/k'}";
    let rule = |rule: &str| format!("authorization: {{defaultAction: Allow, rules: [{rule}]}}");
    for (spec, words) in [
        ("extAuth: {http: {}}".to_owned(), "another service decides"),
        ("oidc: {provider: {}}".to_owned(), "OpenID Connect"),
        ("basicAuth: {users: {}}".to_owned(), "passwords"),
        ("apiKeyAuth: {extractFrom: []}".to_owned(), "API keys"),
        ("csrf: {}".to_owned(), "origins"),
        ("mergeType: Odd".to_owned(), "kind of merge"),
        ("somethingNew: {a: 1}".to_owned(), "not understood"),
        (jwt("issuer: i"), "`remoteJWKS` and `localJWKS`"),
        (jwt(&format!("{keys}, newField: 1")), "not understood"),
        (jwt(&format!("{keys}, recomputeRoute: true")), "before tokens are judged"),
        (jwt("localJWKS: {inline: 'nonsense'}"), "not a key set"),
        (jwt("localJWKS: {type: ValueRef, valueRef: {kind: ConfigMap, name: gone}}"), "not among the files"),
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
        (rule("{action: Deny, principal: {clientIPGeoLocations: [{country: XX}]}}"), "on earth"),
        (rule("{action: Deny, principal: {clientCIDRs: [nonsense]}}"), "not a network range"),
        (rule("{action: Deny, principal: {jwt: {provider: p, scopes: [a], newThing: 1}}}"), "not understood"),
        (rule("{action: Deny, cel: 'request.path == \"/\"'}"), "Envoy's CEL"),
        (rule("{action: Maybe, principal: {clientCIDRs: [0.0.0.0/0]}}"), "Allow or Deny"),
        (rule("{action: Deny}"), "needs a `principal`"),
        (rule("{action: Deny, principal: {}}"), "says who"),
        (rule("{action: Deny, principal: {clientCIDRs: []}}"), "says who"),
        (rule("{action: Deny, principal: {jwt: {provider: p}}}"), "`claims` or `scopes`"),
        (rule("{action: Deny, principal: {jwt: {provider: p, claims: [{name: a}]}}}"), "`name` and `values`"),
        (rule("{action: Deny, principal: {headers: [{name: a}]}}"), "`name` and `values`"),
        (rule("{action: Deny, principal: {headers: [{name: a, values: [{b: c}]}]}}"), "expected a string"),
        (rule("{action: Deny, principal: {clientCIDRs: [0.0.0.0/0], clientCert: {}}}"), "not understood"),
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
fn what_could_be_for_anything_closes_everything() {
    let object = |version: &str, kind: &str, spec: &str| {
        format!("{ROUTES}apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
    };
    let envoy = "gateway.envoyproxy.io/v1alpha1";
    for (manifest, words) in [
        (object(envoy, "EnvoyPatchPolicy", "{}"), "not understood"),
        (object(envoy, "EnvoyExtensionPolicy", "{}"), "not understood"),
        (object("example.com/v1", "Firewall", "{}"), "not understood"),
        (object("security.istio.io/v1", "AuthorizationPolicy", "{}"), "not understood"),
        (object(envoy, "ClientTrafficPolicy", "{tls: {clientValidation: {}}}"), "not understood"),
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
fn routes() {
    let rule = |rule: &str| ROUTES.replace("- name: main\n", &format!("- name: main\n    {rule}\n"));
    for (manifests, words, closed, open) in [
        (
            rule("filters: [{type: ExtensionRef, extensionRef: {kind: X, name: y}}]"),
            "ExtensionRef",
            "/foo",
            &["/bar", "/foo/other"][..],
        ),
        (rule("sessionPersistence: {sessionName: x}"), "not understood", "/foo", &["/bar", "/foo/other"]),
        // what a lost condition was for could fall to other routes
        (ROUTES.replace("type: PathPrefix, value: /foo}", "type: Strange, value: /foo}"), "condition", "/foo", &[]),
        (
            ROUTES.replace("{type: PathPrefix, value: /bar}", "{type: RegularExpression, value: '('}"),
            "regular expression",
            "/bar",
            &[],
        ),
        (
            ROUTES.replace("{name: api, port: 80}", "{name: api, port: 80, filters: [{type: CORS}]}"),
            "filters for one backend",
            "/bar",
            &["/foo"],
        ),
    ] {
        assert_rejected(Dialect::EnvoyGateway, &manifests, words, &[closed], open);
    }
}

#[test]
fn claims_that_choose_routes() {
    let manifests = ROUTES.replace(
        "{path: {type: PathPrefix, value: /foo}}",
        "{path: {value: /foo}, headers: [{name: X-Sub, value: a}]}",
    );
    let spec = "jwt: {providers: [{name: p, remoteJWKS: {uri: 'https://a.example/k'}, claimToHeaders: [{header: x-sub, claim: sub}]}]}";
    let manifests = format!("{manifests}{}", policy("p", "kind: HTTPRoute, name: foo", spec));
    assert_rejected(Dialect::EnvoyGateway, &manifests, "chosen by a header", &["/foo"], &["/bar"]);
}

const ISTIO: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec: {selector: {istio: \
                     ingressgateway}, servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*']}]}\n---\n\
                     apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: {hosts: ['*'], \
                     gateways: [gw], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]}\n---\n";

#[test]
fn policies_of_istio() {
    let policy = |kind: &str, spec: &str| {
        format!("{ISTIO}apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p}}\nspec: {spec}\n")
    };
    let deny = |rule: &str| policy("AuthorizationPolicy", &format!("{{action: DENY, rules: [{rule}]}}"));
    let jwt = |rule: &str| policy("RequestAuthentication", &format!("{{jwtRules: [{rule}]}}"));
    for (manifests, words) in [
        (
            policy("AuthorizationPolicy", "{action: CUSTOM, provider: {name: x}, rules: [{}]}"),
            "another service decides",
        ),
        (policy("AuthorizationPolicy", "{newField: 1}"), "not understood"),
        (deny("{from: [{source: {principals: [x]}}]}"), "a DENY must not lose"),
        (deny("{from: [{source: {notNamespaces: [x]}}]}"), "a DENY must not lose"),
        (deny("{when: [{key: 'experimental.envoy.filters.a[b]', values: [x]}]}"), "a DENY must not lose"),
        (deny("{to: [{operation: {newField: [x]}}]}"), "a DENY must not lose"),
        (deny("{newField: [x]}"), "not understood"),
        (deny("{when: [{key: 'request.headers[x]'}]}"), "`values` or `notValues`"),
        (deny("{to: [{operation: {paths: ['{**}/a']}}]}"), "not a template"),
        (deny("{to: [{operation: {paths: ['/{**}/{*}']}}]}"), "not a template"),
        (deny("{to: [{operation: {paths: ['/a{*}']}}]}"), "not a template"),
        (deny("{to: [{operation: {methods: GET}}]}"), "not understood"),
        (deny("{to: [{operation: {methods: [GET, {a: b}]}}]}"), "expected a string"),
        (policy("AuthorizationPolicy", "{action: DENY, rules: {a: b}}"), "expected a list"),
        (policy("AuthorizationPolicy", "{action: DENY, rules: text}"), "expected a list"),
        (policy("AuthorizationPolicy", "{}\nSpec: {action: DENY, rules: [{}]}"), "`Spec` is not understood"),
        (deny("{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}"), "the direct peer is the gateway"),
        (deny("{from: [{source: {remoteIpBlocks: [nonsense]}}]}"), "not a network range"),
        (deny("{to: [{operation: {ports: ['80']}}]}"), "the port of the pods is not known"),
        (policy("AuthorizationPolicy", "{selector: {matchLabels: {version: v1}}, rules: []}"), "is not known"),
        (
            policy("AuthorizationPolicy", "{targetRefs: [{kind: ServiceEntry, name: x}], rules: []}"),
            "Gateway or a Service",
        ),
        (jwt("{issuer: testing@example}"), "no URL to find them"),
        (jwt("{issuer: 'https://i', newField: 1}"), "not understood"),
        (jwt("{jwks: '{}'}"), "needs an `issuer`"),
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
        assert_rejected(Dialect::Istio, &manifests, "not understood", &["/"], &[]);
    }
}

#[test]
fn routes_of_istio() {
    for (from, to, words) in [
        ("{route:", "{fault: {abort: {httpStatus: 500}}, route:", "not understood"),
        (
            "{route:",
            "{match: [{headers: {'@request.auth.claims.sub': {exact: a}}}], route:",
            "before tokens are judged",
        ),
        ("{route:", "{match: [{withoutHeaders: {x: {exact: a}}}], route:", "not understood"),
        ("{route:", "{match: [{ignoreUriCase: true, uri: {exact: /a}}], route:", "not understood"),
        ("{route:", "{match: [{uri: {prefix: /a}}], rewrite: {uri: /}, route:", "matched exactly"),
        ("{route:", "{match: [{queryParams: {a: {exact: b}}}], route:", "not understood"),
        ("{route:", "{match: [{sourceLabels: {a: b}}], route:", "not understood"),
        ("{route:", "{mirror: {host: api}, route:", "not understood"),
        ("{route:", "{rewrite: {uriRegexRewrite: {match: a, rewrite: b}}, route:", "not understood"),
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
fn policies_of_agentgateway() {
    let policy = |traffic: &str| {
        format!(
            "{ROUTES}apiVersion: agentgateway.dev/v1alpha1\nkind: AgentgatewayPolicy\nmetadata: {{name: p}}\nspec: \
             {{targetRefs: [{{kind: HTTPRoute, name: foo}}], traffic: {{{traffic}}}}}\n"
        )
    };
    let keys = format!("jwks: {{inline: '{KEYS}'}}");
    for (traffic, words) in [
        ("extAuth: {}".to_owned(), "not understood"),
        ("rateLimit: {}".to_owned(), "not understood"),
        (format!("jwtAuthentication: {{mode: Odd, providers: [{{issuer: i, {keys}}}]}}"), "`mode`"),
        (format!("jwtAuthentication: {{mcp: {{}}, providers: [{{issuer: i, {keys}}}]}}"), "not understood"),
        (
            format!("jwtAuthentication: {{location: {{expression: 'x'}}, providers: [{{issuer: i, {keys}}}]}}"),
            "expression",
        ),
        (format!("phase: PreRouting, jwtAuthentication: {{providers: [{{issuer: i, {keys}}}]}}"), "before the choice"),
        (
            "jwtAuthentication: {providers: [{issuer: 'https://i', jwks: {remote: {jwksPath: /k, backendRef: {kind: \
             AgentgatewayBackend, group: agentgateway.dev, name: gone}}}}]}"
                .to_owned(),
            "not known where the keys are",
        ),
        ("jwtAuthentication: {providers: [{issuer: i}]}".to_owned(), "`jwks.inline` and `jwks.remote`"),
        ("jwtAuthentication: {providers: [{issuer: i, jwks: {inline: x}}]}".to_owned(), "not a key set"),
        ("authorization: {action: Odd, policy: {matchExpressions: ['true']}}".to_owned(), "`action`"),
        ("authorization: {policy: {matchExpressions: ['request.body == \"x\"']}}".to_owned(), "body"),
        ("authorization: {action: Deny, policy: {matchExpressions: ['(']}}".to_owned(), ""),
        (
            "authorization: {action: Deny, policy: {matchExpressions: ['request[\"host\"] == \"a\"']}}".to_owned(),
            "name the fields",
        ),
    ] {
        assert_rejected(Dialect::Agentgateway, &policy(&traffic), words, &["/foo"], &["/bar"]);
    }
    let object =
        format!("{ROUTES}apiVersion: agentgateway.dev/v1alpha1\nkind: Unheard\nmetadata: {{name: x}}\nspec: {{}}\n");
    assert_rejected(Dialect::Agentgateway, &object, "not understood", &["/foo", "/bar"], &[]);
}

#[test]
fn what_is_no_manifest() {
    for (text, words) in [
        ("a: [", "not YAML"),
        ("a: 1", "no `kind`"),
        ("kind: Gateway", "no `metadata.name`"),
        ("kind: A\nmetadata: {name: x}\nkind: B", "written twice"),
        ("kind: A\nmetadata: {name: x}\n---\nkind: A\nmetadata: {name: x}", "a second A default/x"),
        ("kind: List\nitems: [{kind: A, metadata: {name: x}}, {kind: A, metadata: {name: x}}]", "a second A default/x"),
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
fn two_gateways_on_one_port() {
    let twice = format!(
        "{ROUTES}{}",
        ROUTES
            .replace("name: eg", "name: two")
            .replace("{name: foo}", "{name: foo2}")
            .replace("{name: bar}", "{name: bar2}")
    );
    let imported = import_file(Dialect::EnvoyGateway, &twice, &mapped_options());
    assert!(imported.config.is_none() && report(&imported).contains("import one at a time"), "{}", report(&imported));
}

#[test]
fn a_policy_whose_target_is_misspelt_could_be_for_anything() {
    let manifests = format!(
        "{ROUTES}{}",
        policy("p", "kind: HTTPRoute, name: foo", "authorization: {}").replace("targetRefs", "targetrefs")
    );
    assert_rejected(Dialect::EnvoyGateway, &manifests, "not understood", &["/foo", "/bar"], &[]);
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
fn lists_anchors_and_empty_documents_are_read_as_they_stand() {
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
    // an alias stands for what it names, with its own refusals
    let aliased = deny.replace("authorization: {}", "authorization: {rules: [&r {action: Deny, cel: 'x'}, *r]}");
    assert_rejected(Dialect::EnvoyGateway, &format!("{ROUTES}{aliased}"), "Envoy's CEL", &["/foo"], &["/bar"]);
}

#[test]
fn a_file_with_very_many_objects_is_read_in_time() {
    let start = std::time::Instant::now();
    let many: String = (0..10_000).map(|n| format!("kind: ConfigMap\nmetadata: {{name: c{n}}}\n---\n")).collect();
    let gateway = ImportedGateway::import(Dialect::EnvoyGateway, &format!("{ROUTES}{many}"), &mapped_options());
    assert!(gateway.allows(&get_request("/bar")));
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn backends_of_envoy_gateway_are_one_endpoint_or_refused() {
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
        ("endpoints: [{fqdn: {hostname: a, port: 1}}], tls: {insecureSkipVerify: true}", "not understood"),
        ("endpoints: [{fqdn: {hostname: a, port: 1}}], fallback: true", "not understood"),
    ] {
        let imported = with(spec);
        assert!(imported.config.is_none() && report(&imported).contains(words), "{spec}\n{}", report(&imported));
    }
}
