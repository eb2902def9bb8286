//! Identity providers of other makers, before the whole gateway: a certified OpenID provider, and one whose keys change
//! while it runs. They run on Node, out of npm packages in the folder that `PORTCULLIS_IDP` names:
//!
//! ```sh
//! npm install --prefix "$PORTCULLIS_IDP" oidc-provider@9.13.3 oauth2-mock-server@8.2.3
//! ```
//!
//! Without it these tests say that they were skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stderr, reason = "what is skipped should be seen")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use portcullis::config::Source;
use portcullis::import::{Dialect, ImportOptions, import_manifests};
use support::{Backend, InProcessGateway, RawClient, TempDir, eventually};

const START: Duration = Duration::from_secs(30);
const ALGORITHMS: [&str; 4] = ["RS256", "ES256", "PS256", "EdDSA"];

/// The folder with the packages, or a word on why there is none.
fn packages() -> Option<PathBuf> {
    let folder = std::env::var_os("PORTCULLIS_IDP").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: PORTCULLIS_IDP names no folder with npm's oidc-provider and oauth2-mock-server");
    }
    folder
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A provider in a process of its own, which ends with this.
struct Idp {
    child: Child,
    lines: Receiver<String>,
    port: u16,
    issuer: String,
}

impl Idp {
    #[track_caller]
    fn start(script: &str, port: u16, arguments: &[&str]) -> Option<Self> {
        let packages = packages()?;
        let script = format!("{}/tests/support/idp/{script}", support::ROOT);
        let mut command = Command::new("node");
        command.arg(script).arg(packages).arg(port.to_string()).args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("node");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut idp = Self { child, lines, port, issuer: String::new() };
        idp.issuer = loop {
            if let Some(issuer) = idp.line().strip_prefix("ready ") {
                break issuer.to_owned();
            }
        };
        Some(idp)
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(START).expect("a line of the provider")
    }

    #[track_caller]
    fn ask(&mut self, command: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
        self.line()
    }

    /// An access token by client credentials.
    #[track_caller]
    fn token(&self, algorithm: &str) -> String {
        let form = format!("grant_type=client_credentials&scope=read&resource=urn%3Aapi%3A{algorithm}");
        let basic = base64::engine::general_purpose::STANDARD.encode("svc:svc-secret");
        let request = format!(
            "POST /token HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: Basic {basic}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{form}",
            self.port,
            form.len(),
        );
        let response = RawClient::connect(([127, 0, 0, 1], self.port).into()).send(request).response();
        assert_eq!(response.status(), 200, "{}", response.text());
        response.json()["access_token"].as_str().unwrap().to_owned()
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway in front of `backend`: `/open` needs no token, all else one of this provider.
fn gateway(backend: &Backend, provider: &str) -> InProcessGateway {
    InProcessGateway::start(&format!(
        "binds:
- port: 0
  listeners:
  - routes:
    - name: open
      matches: [{{path: {{pathPrefix: /open}}}}]
      backends: [{{host: '{address}'}}]
    - name: guarded
      policies: {{jwtAuth: {{mode: strict, audiences: [api], {provider}}}}}
      backends: [{{host: '{address}'}}]
",
        address = backend.address()
    ))
}

/// Status and, of a refusal, its reason.
#[track_caller]
fn get(gateway: &InProcessGateway, path: &str, token: &str) -> (u16, String) {
    let authorization = format!("Bearer {token}");
    let response = gateway
        .client()
        .get(path, &[("authorization", authorization.as_str()), ("accept", "application/problem+json")]);
    let reason = match response.status() {
        200 => String::new(),
        _ => response.json()["code"].as_str().unwrap_or_default().to_owned(),
    };
    (response.status(), reason)
}

fn good() -> (u16, String) {
    (200, String::new())
}

fn refused(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

/// Keys by URL that are asked for often, so that a test need not wait for long.
fn by_url(idp_port: u16, issuer: &str) -> String {
    format!(
        "issuer: '{issuer}', jwks: {{url: 'http://127.0.0.1:{idp_port}/jwks', cacheDuration: 4s, timeout: 2s, \
         retry: {{attempts: 1, backoff: {{baseInterval: 100ms, maxInterval: 500ms}}}}}}"
    )
}

#[test]
fn access_tokens_of_a_certified_provider_are_accepted_by_discovery_and_by_url() {
    let folder = TempDir::new();
    let Some(idp) = Idp::start("oidc-provider.mjs", free_port(), &[folder.path().to_str().unwrap(), "1"]) else {
        return;
    };
    let (backend, issuer) = (Backend::ok(), idp.issuer.as_str());
    let discovered = gateway(&backend, &format!("issuer: '{issuer}'"));
    let fetched = gateway(&backend, &by_url(idp.port, issuer));
    let narrow = gateway(&backend, &format!("issuer: '{issuer}', algorithms: [ES256]"));
    let other = gateway(&backend, &by_url(idp.port, &format!("{issuer}/")));
    for algorithm in ALGORITHMS {
        let token = idp.token(algorithm);
        assert_eq!(get(&discovered, "/", &token), good(), "{algorithm}");
        assert_eq!(get(&fetched, "/", &token), good(), "{algorithm}");
        let by_algorithm = if algorithm == "ES256" { good() } else { refused(401, "unsupported_algorithm") };
        assert_eq!(get(&narrow, "/", &token), by_algorithm, "{algorithm}");
        assert_eq!(get(&other, "/", &token), refused(401, "issuer_mismatch"), "{algorithm}");
        // the middle of the signature, where every bit counts
        let at = token.rfind('.').unwrap() + 20;
        let forged = format!("{}{}{}", &token[..at], if &token[at..=at] == "A" { "B" } else { "A" }, &token[at + 1..]);
        assert_eq!(get(&discovered, "/", &forged), refused(401, "invalid_signature"), "{algorithm}");
    }
}

#[test]
fn a_provider_that_comes_up_late_and_changes_its_keys_needs_no_restart() {
    let (folder, port) = (TempDir::new(), free_port());
    let keys = folder.path().to_str().unwrap();
    let start = |generations: &[&str]| Idp::start("oidc-provider.mjs", port, &[&[keys], generations].concat());
    let Some(idp) = start(&["1"]) else { return };
    let old = idp.token("RS256");
    let issuer = idp.issuer.clone();
    idp.stop();

    let backend = Backend::ok();
    let gateway = gateway(&backend, &by_url(port, &issuer));
    assert_eq!(get(&gateway, "/", &old), refused(503, "keys_unavailable"));
    assert_eq!(get(&gateway, "/open", &old), good(), "what needs no keys is served");

    let idp = start(&["1"]).unwrap();
    eventually(START, "the keys are there", || (get(&gateway, "/", &old) == good()).then_some(()));
    idp.stop();
    assert_eq!(get(&gateway, "/", &old), good(), "known keys outlast an outage");

    let idp = start(&["2", "1"]).unwrap();
    let new = idp.token("RS256");
    eventually(START, "the new key is known", || {
        assert_eq!(get(&gateway, "/", &old), good(), "the old key is still published");
        (get(&gateway, "/", &new) == good()).then_some(())
    });
    idp.stop();

    let _idp = start(&["2"]).unwrap();
    eventually(START, "the old key is gone", || {
        assert_eq!(get(&gateway, "/", &new), good());
        (get(&gateway, "/", &old) == refused(401, "unknown_key")).then_some(())
    });
}

#[test]
fn keys_that_change_while_the_provider_runs_are_followed() {
    let Some(mut idp) = Idp::start("mock-server.mjs", free_port(), &[]) else { return };
    let (backend, issuer) = (Backend::ok(), idp.issuer.clone());
    let gateway = gateway(&backend, &by_url(idp.port, &issuer));
    let mut tokens = vec![idp.ask("token")];
    assert_eq!(get(&gateway, "/", &tokens[0]), good());
    for _ in 0..2 {
        idp.ask("rotate");
        tokens.push(idp.ask("token"));
        let (start, newest) = (Instant::now(), tokens.last().unwrap());
        // the refresh of the short `cacheDuration`, or the fetch that the unknown kid asks for
        eventually(START, "the new key is known", || (get(&gateway, "/", newest) == good()).then_some(()));
        assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
        for token in &tokens {
            assert_eq!(get(&gateway, "/", token), good());
        }
    }
}

/// Imports what agentgateway's page on JWT has applied to a cluster, with these fields in `jwtAuthentication`, and serves
/// it. The provider stands in for Keycloak: as the service `keycloak/keycloak`.
#[track_caller]
fn imported(authentication: &str, services: &[(&str, u16)], backend: &Backend) -> InProcessGateway {
    let manifests = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: agentgateway-proxy, namespace: agentgateway-system}}
spec:
  gatewayClassName: agentgateway
  listeners: [{{name: http, protocol: HTTP, port: 80, allowedRoutes: {{namespaces: {{from: All}}}}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: httpbin, namespace: httpbin}}
spec:
  parentRefs: [{{name: agentgateway-proxy, namespace: agentgateway-system}}]
  hostnames: [localhost]
  rules: [{{backendRefs: [{{name: httpbin, port: 8000}}]}}]
---
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {{name: jwt-auth-policy, namespace: agentgateway-system}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: agentgateway-proxy}}]
  traffic: {{jwtAuthentication: {{{authentication}}}}}
"
    );
    let mapped = services.iter().map(|(service, port)| format!("{service}=127.0.0.1:{port}").parse().unwrap());
    let own = format!("httpbin/httpbin={}", backend.address()).parse().unwrap();
    let options = ImportOptions { map: mapped.chain([own]).collect(), ..ImportOptions::default() };
    let imported = import_manifests(Dialect::Agentgateway, &[Source::new("in.yaml", manifests)], &options).unwrap();
    let report: String = imported.findings.iter().map(|finding| format!("{finding}\n")).collect();
    let config = imported.config.unwrap_or_else(|| panic!("{report}"));
    InProcessGateway::start(&config.to_yaml().replace("- port: 80\n", "- port: 0\n"))
}

/// The page's walk-through: 401 with its 45 bytes, then 200; several providers; keys inline; the laxer modes.
#[test]
fn agentgateways_page_with_a_certified_provider_in_keycloaks_place() {
    let folder = TempDir::new();
    let Some(idp) = Idp::start("oidc-provider.mjs", free_port(), &[folder.path().to_str().unwrap(), "1"]) else {
        return;
    };
    let (backend, issuer, token) = (Backend::ok(), idp.issuer.as_str(), idp.token("RS256"));
    let keycloak = [("keycloak/keycloak", idp.port)];
    let remote = "jwks: {remote: {jwksPath: /jwks, cacheDuration: 5m, backendRef: {group: '', kind: Service, name: keycloak, \
                  namespace: keycloak, port: 8080}}}";
    let one = format!("providers: [{{issuer: '{issuer}', audiences: [api], {remote}}}]");
    let ask = |gateway: &InProcessGateway, token: Option<&str>| {
        let header = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = header.iter().map(|value| ("authorization", value.as_str())).collect();
        eventually(START, "the keys are there", || {
            let answer = gateway.client().get("/headers", &headers);
            (answer.status() != 503).then(|| (answer.status(), answer.text().to_owned()))
        })
    };
    let missing = (401, "authentication failure: no bearer token found".to_owned());
    assert_eq!(missing.1.len(), 45);
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    for (mode, none, bad) in [("Strict", 401, 401), ("Optional", 200, 401), ("Permissive", 200, 200)] {
        let gateway = imported(&format!("mode: {mode}, {one}"), &keycloak, &backend);
        let answer = ask(&gateway, None);
        assert!(answer.0 == none && (none == 200 || answer == missing), "{mode}: {answer:?}");
        assert_eq!(ask(&gateway, Some(&token)).0, 200, "{mode}");
        assert_eq!(ask(&gateway, Some(&forged)).0, bad, "{mode}");
    }
    // two providers of two makers, each with its own audience
    let mut other = Idp::start("mock-server.mjs", free_port(), &[]).unwrap();
    let second = format!(
        "{{issuer: '{}', audiences: [api], jwks: {{remote: {{jwksPath: jwks, backendRef: {{kind: Service, name: auth0-proxy, \
         namespace: auth-system, port: 443}}}}}}}}",
        other.issuer
    );
    let two = format!("mode: Strict, providers: [{{issuer: '{issuer}', audiences: [api], {remote}}}, {second}]");
    let both = [("keycloak/keycloak", idp.port), ("auth-system/auth0-proxy", other.port)];
    let gateway = imported(&two, &both, &backend);
    let theirs = other.ask("token");
    for token in [&token, &theirs] {
        assert_eq!(ask(&gateway, Some(token)).0, 200);
    }
    // keys that were copied into the policy need no provider
    let keys = RawClient::connect(([127, 0, 0, 1], idp.port).into())
        .send(format!("GET /jwks HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n\r\n", idp.port))
        .response()
        .text()
        .to_owned();
    let inline =
        format!("mode: Strict, providers: [{{issuer: '{issuer}', audiences: [api], jwks: {{inline: '{keys}'}}}}]");
    let gateway = imported(&inline, &[], &backend);
    idp.stop();
    assert_eq!(ask(&gateway, None), missing);
    assert_eq!(ask(&gateway, Some(&token)).0, 200);
    assert_eq!(ask(&gateway, Some(&theirs)).0, 401);
}
