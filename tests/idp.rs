//! The gateway with third-party identity providers: a certified OpenID provider, and one that rotates its keys while it
//! runs. Both run on Node from npm packages in the directory that `PORTCULLIS_IDP` names:
//!
//! ```sh
//! npm install --prefix "$PORTCULLIS_IDP" oidc-provider@9.13.3 oauth2-mock-server@8.2.3
//! ```
//!
//! These tests are ignored by default. `.ci/run` installs the packages and runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

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

const START_TIMEOUT: Duration = Duration::from_secs(30);
const ALGORITHMS: [&str; 4] = ["RS256", "ES256", "PS256", "EdDSA"];

/// Returns the directory with the npm packages.
#[track_caller]
fn npm_packages() -> PathBuf {
    std::env::var_os("PORTCULLIS_IDP")
        .map(PathBuf::from)
        .expect("PORTCULLIS_IDP names a directory with the npm packages oidc-provider and oauth2-mock-server")
}

/// Returns a port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An identity provider in a child process that is killed on drop.
struct Idp {
    child: Child,
    lines: Receiver<String>,
    port: u16,
    issuer: String,
}

impl Idp {
    #[track_caller]
    fn start(script: &str, port: u16, arguments: &[&str]) -> Self {
        let packages = npm_packages();
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
            if let Some(issuer) = idp.next_line().strip_prefix("ready ") {
                break issuer.to_owned();
            }
        };
        idp
    }

    #[track_caller]
    fn next_line(&self) -> String {
        self.lines.recv_timeout(START_TIMEOUT).expect("a line from the provider")
    }

    #[track_caller]
    fn send_command(&mut self, command: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
        self.next_line()
    }

    /// Requests an access token with the client credentials grant.
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

/// Starts a gateway in front of `backend`. `/open` is public, all other paths need a token from this provider.
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

/// Sends a GET with a token, and returns the status and the reason code of a rejection.
#[track_caller]
fn status_and_reason(gateway: &InProcessGateway, path: &str, token: &str) -> (u16, String) {
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

fn accepted() -> (u16, String) {
    (200, String::new())
}

fn rejected(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

/// Returns a provider whose keys are fetched from a URL with short intervals, so that tests finish quickly.
fn provider_by_jwks_url(idp_port: u16, issuer: &str) -> String {
    format!(
        "issuer: '{issuer}', jwks: {{url: 'http://127.0.0.1:{idp_port}/jwks', cacheDuration: 4s, timeout: 2s, \
         retry: {{attempts: 1, backoff: {{baseInterval: 100ms, maxInterval: 500ms}}}}}}"
    )
}

#[test]
#[ignore = "needs PORTCULLIS_IDP"]
fn certified_provider_works_by_discovery_and_by_jwks_url() {
    let folder = TempDir::new();
    let idp = Idp::start("oidc-provider.mjs", free_port(), &[folder.path().to_str().unwrap(), "1"]);
    let (backend, issuer) = (Backend::ok(), idp.issuer.as_str());
    let by_discovery = gateway(&backend, &format!("issuer: '{issuer}'"));
    let by_url = gateway(&backend, &provider_by_jwks_url(idp.port, issuer));
    let es256_only = gateway(&backend, &format!("issuer: '{issuer}', algorithms: [ES256]"));
    let other_issuer = gateway(&backend, &provider_by_jwks_url(idp.port, &format!("{issuer}/")));
    for algorithm in ALGORITHMS {
        let token = idp.token(algorithm);
        assert_eq!(status_and_reason(&by_discovery, "/", &token), accepted(), "{algorithm}");
        assert_eq!(status_and_reason(&by_url, "/", &token), accepted(), "{algorithm}");
        let es256_result = if algorithm == "ES256" { accepted() } else { rejected(401, "unsupported_algorithm") };
        assert_eq!(status_and_reason(&es256_only, "/", &token), es256_result, "{algorithm}");
        assert_eq!(status_and_reason(&other_issuer, "/", &token), rejected(401, "issuer_mismatch"), "{algorithm}");
        // the middle of the signature, where every bit is significant
        let at = token.rfind('.').unwrap() + 20;
        let forged = format!("{}{}{}", &token[..at], if &token[at..=at] == "A" { "B" } else { "A" }, &token[at + 1..]);
        assert_eq!(status_and_reason(&by_discovery, "/", &forged), rejected(401, "invalid_signature"), "{algorithm}");
    }
}

#[test]
#[ignore = "needs PORTCULLIS_IDP"]
fn late_start_and_key_change_of_the_provider_need_no_restart() {
    let (folder, port) = (TempDir::new(), free_port());
    let keys = folder.path().to_str().unwrap();
    let start = |generations: &[&str]| Idp::start("oidc-provider.mjs", port, &[&[keys], generations].concat());
    let idp = start(&["1"]);
    let old = idp.token("RS256");
    let issuer = idp.issuer.clone();
    idp.stop();

    let backend = Backend::ok();
    let gateway = gateway(&backend, &provider_by_jwks_url(port, &issuer));
    assert_eq!(status_and_reason(&gateway, "/", &old), rejected(503, "keys_unavailable"));
    assert_eq!(status_and_reason(&gateway, "/open", &old), accepted(), "a route without authentication is served");

    let idp = start(&["1"]);
    eventually(START_TIMEOUT, "the keys are fetched", || {
        (status_and_reason(&gateway, "/", &old) == accepted()).then_some(())
    });
    idp.stop();
    assert_eq!(status_and_reason(&gateway, "/", &old), accepted(), "cached keys survive an outage of the provider");

    let idp = start(&["2", "1"]);
    let new = idp.token("RS256");
    eventually(START_TIMEOUT, "the new key is accepted", || {
        assert_eq!(status_and_reason(&gateway, "/", &old), accepted(), "the old key is still published");
        (status_and_reason(&gateway, "/", &new) == accepted()).then_some(())
    });
    idp.stop();

    let _idp = start(&["2"]);
    eventually(START_TIMEOUT, "the old key is rejected", || {
        assert_eq!(status_and_reason(&gateway, "/", &new), accepted());
        (status_and_reason(&gateway, "/", &old) == rejected(401, "unknown_key")).then_some(())
    });
}

#[test]
#[ignore = "needs PORTCULLIS_IDP"]
fn key_rotation_of_a_running_provider_is_followed() {
    let mut idp = Idp::start("mock-server.mjs", free_port(), &[]);
    let (backend, issuer) = (Backend::ok(), idp.issuer.clone());
    let gateway = gateway(&backend, &provider_by_jwks_url(idp.port, &issuer));
    let mut tokens = vec![idp.send_command("token")];
    assert_eq!(status_and_reason(&gateway, "/", &tokens[0]), accepted());
    for _ in 0..2 {
        idp.send_command("rotate");
        tokens.push(idp.send_command("token"));
        let (start, newest) = (Instant::now(), tokens.last().unwrap());
        // either the refresh after `cacheDuration`, or the fetch that the unknown kid triggers
        eventually(START_TIMEOUT, "the new key is accepted", || {
            (status_and_reason(&gateway, "/", newest) == accepted()).then_some(())
        });
        assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
        for token in &tokens {
            assert_eq!(status_and_reason(&gateway, "/", token), accepted());
        }
    }
}

/// Imports the manifests of agentgateway's JWT tutorial with these fields in `jwtAuthentication`, and serves the result.
/// The provider takes the place of the service `keycloak/keycloak`.
#[track_caller]
fn start_imported(authentication: &str, services: &[(&str, u16)], backend: &Backend) -> InProcessGateway {
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
    let provider_mappings =
        services.iter().map(|(service, port)| format!("{service}=127.0.0.1:{port}").parse().unwrap());
    let backend_mapping = format!("httpbin/httpbin={}", backend.address()).parse().unwrap();
    let options =
        ImportOptions { map: provider_mappings.chain([backend_mapping]).collect(), ..ImportOptions::default() };
    let imported = import_manifests(Dialect::Agentgateway, &[Source::new("in.yaml", manifests)], &options).unwrap();
    let report: String = imported.findings.iter().map(|finding| format!("{finding}\n")).collect();
    let config = imported.config.unwrap_or_else(|| panic!("{report}"));
    InProcessGateway::start(&config.to_yaml().replace("- port: 80\n", "- port: 0\n"))
}

/// Follows the tutorial: a 401 with the 45-byte body, then a 200; several providers; inline keys; the permissive modes.
#[test]
#[ignore = "needs PORTCULLIS_IDP"]
fn agentgateway_tutorial_works_with_a_certified_provider_instead_of_keycloak() {
    let folder = TempDir::new();
    let idp = Idp::start("oidc-provider.mjs", free_port(), &[folder.path().to_str().unwrap(), "1"]);
    let (backend, issuer, token) = (Backend::ok(), idp.issuer.as_str(), idp.token("RS256"));
    let keycloak = [("keycloak/keycloak", idp.port)];
    let remote = "jwks: {remote: {jwksPath: /jwks, cacheDuration: 5m, backendRef: {group: '', kind: Service, name: keycloak, \
                  namespace: keycloak, port: 8080}}}";
    let one_provider = format!("providers: [{{issuer: '{issuer}', audiences: [api], {remote}}}]");
    let request_with = |gateway: &InProcessGateway, token: Option<&str>| {
        let header = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = header.iter().map(|value| ("authorization", value.as_str())).collect();
        eventually(START_TIMEOUT, "the keys are fetched", || {
            let response = gateway.client().get("/headers", &headers);
            (response.status() != 503).then(|| (response.status(), response.text().to_owned()))
        })
    };
    let missing_token = (401, "authentication failure: no bearer token found".to_owned());
    assert_eq!(missing_token.1.len(), 45);
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    for (mode, status_without_token, status_with_forged) in
        [("Strict", 401, 401), ("Optional", 200, 401), ("Permissive", 200, 200)]
    {
        let gateway = start_imported(&format!("mode: {mode}, {one_provider}"), &keycloak, &backend);
        let response = request_with(&gateway, None);
        assert!(
            response.0 == status_without_token && (status_without_token == 200 || response == missing_token),
            "{mode}: {response:?}"
        );
        assert_eq!(request_with(&gateway, Some(&token)).0, 200, "{mode}");
        assert_eq!(request_with(&gateway, Some(&forged)).0, status_with_forged, "{mode}");
    }
    // two different providers, each with its own audience
    let mut mock = Idp::start("mock-server.mjs", free_port(), &[]);
    let mock_provider = format!(
        "{{issuer: '{}', audiences: [api], jwks: {{remote: {{jwksPath: jwks, backendRef: {{kind: Service, name: auth0-proxy, \
         namespace: auth-system, port: 443}}}}}}}}",
        mock.issuer
    );
    let two_providers =
        format!("mode: Strict, providers: [{{issuer: '{issuer}', audiences: [api], {remote}}}, {mock_provider}]");
    let services = [("keycloak/keycloak", idp.port), ("auth-system/auth0-proxy", mock.port)];
    let gateway = start_imported(&two_providers, &services, &backend);
    let mock_token = mock.send_command("token");
    for token in [&token, &mock_token] {
        assert_eq!(request_with(&gateway, Some(token)).0, 200);
    }
    // inline keys do not need the provider
    let keys = RawClient::connect(([127, 0, 0, 1], idp.port).into())
        .send(format!("GET /jwks HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n\r\n", idp.port))
        .response()
        .text()
        .to_owned();
    let inline =
        format!("mode: Strict, providers: [{{issuer: '{issuer}', audiences: [api], jwks: {{inline: '{keys}'}}}}]");
    let gateway = start_imported(&inline, &[], &backend);
    idp.stop();
    assert_eq!(request_with(&gateway, None), missing_token);
    assert_eq!(request_with(&gateway, Some(&token)).0, 200);
    assert_eq!(request_with(&gateway, Some(&mock_token)).0, 401);
}
