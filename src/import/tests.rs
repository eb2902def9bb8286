//! Every import is loaded and compiled, and requests are evaluated against the result.

mod agentgateway;
mod envoy_gateway;
mod gateway_api;
mod istio;
mod models;
mod pairs;
mod rejections;
mod variables;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use serde_json::{Map, Value};

use super::*;
use crate::authz::{Vars, VerifiedToken, authorize};
use crate::compile::compile;
use crate::config::load;
use crate::request::{ClientInfo as Peer, RequestHead, Scheme, UnixTime};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;

/// Imports one file. Panics if it is not a valid manifest.
#[track_caller]
pub(super) fn import_file(dialect: Dialect, manifests: &str, options: &ImportOptions) -> ImportResult {
    import_manifests(dialect, &[Source::new("in.yaml", manifests.to_owned())], options).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(|error| error.render(None)).collect::<String>());
    })
}

/// Formats the findings as one text.
pub(super) fn report(imported: &ImportResult) -> String {
    imported.findings.iter().map(|finding| format!("{finding}\n")).collect()
}

/// Returns options that map `default/web` and `default/api`.
pub(super) fn mapped_options() -> ImportOptions {
    let map = ["default/web=127.0.0.1:8001", "default/api=127.0.0.1:8002"];
    ImportOptions { map: map.iter().map(|mapping| mapping.parse().unwrap()).collect(), ..ImportOptions::default() }
}

/// The compiled result of an import.
pub(super) struct ImportedGateway {
    pub(super) yaml: String,
    pub(super) report: String,
    snapshot: Snapshot,
}

impl ImportedGateway {
    /// Imports, loads and compiles. Panics if anything is rejected.
    #[track_caller]
    pub(super) fn import(dialect: Dialect, manifests: &str, options: &ImportOptions) -> Self {
        let imported = import_file(dialect, manifests, options);
        let report = report(&imported);
        let config = imported.config.unwrap_or_else(|| panic!("refused:\n{report}"));
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let compile_text = |text: String| {
            let source = Source::new("out.yaml", text);
            let render_errors = |errors: Vec<Diagnostic>| -> String {
                errors.iter().map(|error| error.render(Some(&source))).collect()
            };
            // each variable expands to itself
            let env = |name: &str| Some(format!("${{{name}}}"));
            let loaded = load(source.clone(), &env).map_err(render_errors).unwrap_or_else(|text| panic!("{text}"));
            let metrics = Arc::new(Metrics::default());
            compile(&Arc::new(loaded), &metrics, 1)
                .unwrap_or_else(|errors| panic!("{}\n{}", render_errors(errors), source.text()))
        };
        compile_text(config.to_json());
        Self { snapshot: compile_text(config.to_yaml()), yaml: config.to_yaml(), report }
    }

    /// Returns the route name or the status for a request. The token of the request, if any, counts as accepted.
    pub(super) fn decide(&self, request: &Request) -> String {
        self.evaluate(request).outcome
    }

    /// Evaluates a request as in `decide`, with the failures and the rules in shadow mode.
    pub(super) fn evaluate(&self, request: &Request) -> Evaluation {
        let rejected = |outcome: &str| Evaluation { outcome: outcome.to_owned(), failed: 0, shadow: Vec::new() };
        let host = request.authority.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let peer = Peer::from(std::net::SocketAddr::new(request.peer.parse().unwrap(), 4567));
        let head = RequestHead {
            method: &request.method,
            scheme: Scheme::Http,
            authority: &request.authority.parse().unwrap(),
            host: &host,
            port: 80,
            path: &request.path,
            query: request.query.as_deref(),
            version: Version::HTTP_11,
            headers: &request.headers,
            id: &HeaderValue::from_static("id"),
            client: &peer,
        };
        let port = |bind: &&Arc<crate::snapshot::Bind>| bind.address.port() == request.port;
        let Some(bind) = self.snapshot.binds.iter().find(port) else { return rejected("no bind") };
        let Some(listener) = bind.listener(&host) else { return rejected("404") };
        let now = UnixTime(1_700_000_000.0);
        let route = listener.router.find_target(&head, now);
        let policies = route.map_or(&listener.policies, |route| &route.policies);
        let jwt = policies.jwt_auth.as_ref();
        // without authentication a route has no claims
        let subject = request.claims.as_ref().zip(jwt).map(|(claims, jwt)| VerifiedToken {
            claims,
            provider: &request.provider,
            kid: None,
            alg: "RS256",
            issued_at: None,
            expires_at: None,
            split_claims: jwt.split_claims(),
        });
        let strict = jwt.is_some_and(|jwt| jwt.mode() == crate::auth::AuthMode::Strict);
        if strict && subject.is_none() {
            return rejected("401");
        }
        let name = route.map_or("", |route| &*route.name);
        let vars = Vars { token: subject, route: name, listener: &listener.name, ..Vars::for_request(&head, now) };
        let decision = authorize(&policies.rule_sets, &vars);
        let outcome = match (decision.permit(), route) {
            (None, _) => "403".to_owned(),
            (Some(_), None) => "404".to_owned(),
            (Some(_), Some(route)) => route.name.to_string(),
        };
        let rule =
            |set: &crate::authz::RuleSet, cause| set.deciding_rule(cause).map_or("none", |rule| &rule.name).to_owned();
        let shadow = decision.shadow_rejections(&policies.rule_sets).map(|(set, cause)| rule(set, cause)).collect();
        Evaluation { outcome, failed: decision.failures().len(), shadow }
    }

    /// Reports whether a request is allowed.
    pub(super) fn allows(&self, request: &Request) -> bool {
        !matches!(&*self.decide(request), "401" | "403" | "404" | "no bind")
    }
}

/// The result of evaluating a request.
pub(super) struct Evaluation {
    /// The name of the route, or a status.
    pub(super) outcome: String,
    /// The number of rules that failed to evaluate.
    pub(super) failed: usize,
    /// The rules in shadow mode that would have rejected it; `none` if no allow rule matches.
    pub(super) shadow: Vec<String>,
}

/// A request to evaluate.
#[derive(Debug, Clone)]
pub(super) struct Request {
    method: Method,
    path: String,
    query: Option<String>,
    authority: String,
    port: u16,
    peer: String,
    headers: HeaderMap,
    claims: Option<Map<String, Value>>,
    provider: String,
}

/// Returns `GET path` for `www.example.com` on port 80, without a token.
pub(super) fn get_request(target: &str) -> Request {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    Request {
        method: Method::GET,
        path: path.to_owned(),
        query,
        authority: "www.example.com".to_owned(),
        port: 80,
        peer: "192.0.2.1".to_owned(),
        headers: HeaderMap::new(),
        claims: None,
        provider: "p1".to_owned(),
    }
}

impl Request {
    pub(super) fn method(mut self, method: &str) -> Self {
        self.method = method.parse().unwrap();
        self
    }

    pub(super) fn host(mut self, authority: &str) -> Self {
        self.authority = authority.to_owned();
        self
    }

    pub(super) fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    pub(super) fn peer(mut self, address: &str) -> Self {
        self.peer = address.to_owned();
        self
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    pub(super) fn provider(mut self, name: &str) -> Self {
        self.provider = name.to_owned();
        self
    }

    /// Sets a valid token with these claims; null removes it.
    pub(super) fn token(mut self, claims: Value) -> Self {
        self.claims = match claims {
            Value::Object(claims) => Some(claims),
            _ => None,
        };
        self
    }
}

/// A key set with one public key.
pub(super) const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

#[test]
fn mapping_has_a_service_and_an_address() {
    let mapping: ServiceMapping = "ns/svc=host:1".parse().unwrap();
    assert_eq!((&*mapping.namespace, &*mapping.service, mapping.port), ("ns", "svc", None));
    assert_eq!("ns/svc:80=host:1".parse::<ServiceMapping>().unwrap().port, Some(80));
    for bad in ["ns/svc", "svc=host:1", "/svc=host:1", "ns/=host:1", "ns/svc:x=host:1", "ns/svc=", "ns/svc=host"] {
        assert!(bad.parse::<ServiceMapping>().is_err(), "{bad}");
    }
}
