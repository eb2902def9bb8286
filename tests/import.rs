//! The JWT walkthroughs of other gateways, with their manifests imported and served: remote keys, tokens over the wire,
//! and the documented responses. Also tests the command itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails its test"
)]

mod support;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::config::Source;
use portcullis::import::{Dialect, ImportOptions, import_manifests};
use serde_json::json;
use support::mint::{self, Alg, FAR_FUTURE, Key};
use support::{Backend, InProcessGateway, PORTCULLIS, ScriptedResponse, TEST_TIMEOUT, TempDir, eventually};

/// Imports manifests and serves the resulting config.
#[track_caller]
fn serve(dialect: Dialect, manifests: &str, map: &[(&str, SocketAddr)], out_dir: Option<&TempDir>) -> InProcessGateway {
    let options = ImportOptions {
        map: map.iter().map(|(service, address)| format!("{service}={address}").parse().unwrap()).collect(),
        out_dir: out_dir.map(|folder| folder.path().display().to_string()),
        ..ImportOptions::default()
    };
    let imported = import_manifests(dialect, &[Source::new("in.yaml", manifests.to_owned())], &options).unwrap();
    let report: String = imported.findings.iter().map(|finding| format!("{finding}\n")).collect();
    let config = imported.config.unwrap_or_else(|| panic!("{report}"));
    for (path, content) in &config.files {
        std::fs::write(path, content).unwrap();
    }
    InProcessGateway::start(
        &config.to_yaml().replace("- port: 8080\n", "- port: 0\n").replace("- port: 80\n", "- port: 0\n"),
    )
}

/// Starts a key server that serves its key set at every path.
fn key_server(key: &Key) -> Backend {
    let keys = mint::jwks([key]);
    Backend::start(move |_| ScriptedResponse::new(200, &[("content-type", "application/json")], &keys))
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Repeats the request until the keys are loaded, and returns the status and the body.
#[track_caller]
fn request_until_keys_loaded(gateway: &InProcessGateway, path: &str, token: Option<&str>) -> (u16, String) {
    let header = token.map(bearer);
    let headers: Vec<(&str, &str)> = header.iter().map(|value| ("authorization", value.as_str())).collect();
    eventually(TEST_TIMEOUT, "the keys are loaded", || {
        let response = gateway.client().get(path, &headers);
        let keys_pending = response.status() == 503 || response.text() == "Jwks remote fetch is failed";
        (!keys_pending).then(|| (response.status(), response.text().to_owned()))
    })
}

#[test]
fn istio_walkthrough() {
    let key = Key::without_kid(Alg::Rs256);
    let keys = key_server(&key);
    let backend = Backend::start(|_| ScriptedResponse::new(200, &[], "Hello World! /"));
    let authentication = format!(
        "apiVersion: security.istio.io/v1beta1\nkind: RequestAuthentication\nmetadata:\n name: frontend\n namespace: \
         default\nspec:\n  selector:\n    matchLabels:\n      app: frontend\n  jwtRules:\n  - issuer: \
         \"testing@secure.istio.io\"\n    jwksUri: \"http://{}/jwks.json\"\n",
        keys.address()
    );
    let authorization = "---\napiVersion: security.istio.io/v1beta1\nkind: AuthorizationPolicy\nmetadata:\n  name: \
                         require-jwt\n  namespace: default\nspec:\n  selector:\n    matchLabels:\n      app: frontend\n  \
                         action: ALLOW\n  rules:\n  - from:\n    - source:\n       requestPrincipals: \
                         [\"testing@secure.istio.io/testing@secure.istio.io\"]\n";
    let map = [("default/frontend", backend.address())];
    let first = serve(Dialect::Istio, &authentication, &map, None);
    assert_eq!(
        request_until_keys_loaded(&first, "/", None),
        (200, "Hello World! /".to_owned()),
        "a check of tokens alone needs none"
    );
    let gateway = serve(Dialect::Istio, &format!("{authentication}{authorization}"), &map, None);
    let name = "testing@secure.istio.io";
    // no audience, and valid until 2118
    let good = key.token(&json!({"iss": name, "sub": name, "exp": 4_685_989_700_i64, "iat": 1_532_389_700}));
    let wrong_issuer = key.token(&json!({"iss": "somebody-else", "sub": name, "exp": FAR_FUTURE}));
    let other = key.token(&json!({"iss": name, "sub": "other", "exp": FAR_FUTURE}));
    assert_eq!(request_until_keys_loaded(&gateway, "/", None), (403, "RBAC: access denied".to_owned()));
    assert_eq!(
        request_until_keys_loaded(&gateway, "/", Some(&wrong_issuer)),
        (401, "Jwt issuer is not configured".to_owned())
    );
    assert_eq!(request_until_keys_loaded(&gateway, "/", Some(&other)), (403, "RBAC: access denied".to_owned()));
    assert_eq!(request_until_keys_loaded(&gateway, "/", Some(&good)), (200, "Hello World! /".to_owned()));
    let seen = backend.requests();
    assert!(seen.iter().all(|request| request.header("authorization").is_none()), "no `forwardOriginalToken`");
    // a preflight is not authenticated, whatever its token; without an Origin it is not a preflight
    let expired = bearer(&key.token(&json!({"iss": name, "sub": name, "exp": 1})));
    let options = |gateway: &InProcessGateway, lines: &str| {
        let request = format!("OPTIONS / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {expired}\r\n{lines}\r\n");
        gateway.client().send(request).response().status()
    };
    assert_eq!(options(&first, "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n"), 200);
    assert_eq!(options(&first, "Access-Control-Request-Method: PUT\r\n"), 401);
}

const ENVOY_GATEWAY: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: eg}
spec:
  gatewayClassName: eg
  listeners: [{name: http, protocol: HTTP, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: foo}
spec:
  parentRefs: [{name: eg}]
  hostnames: [localhost]
  rules:
  - backendRefs: [{group: "", kind: Service, name: backend, port: 3000, weight: 1}]
    matches: [{path: {type: PathPrefix, value: /foo}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bar}
spec:
  parentRefs: [{name: eg}]
  hostnames: [localhost]
  rules:
  - backendRefs: [{group: "", kind: Service, name: backend, port: 3000, weight: 1}]
    matches: [{path: {type: PathPrefix, value: /bar}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: yages}
spec:
  parentRefs: [{name: eg}]
  hostnames: [grpc-example.com]
  rules:
  - backendRefs: [{group: "", kind: Service, name: yages, port: 9000, weight: 1}]
---
"#;

/// Returns the policy of the walkthrough, without issuer and audience.
fn security_policy(kind: &str, name: &str, keys: SocketAddr) -> String {
    format!(
        "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {{name: jwt-example}}\nspec:\n  \
         targetRef: {{group: gateway.networking.k8s.io, kind: {kind}, name: {name}}}\n  jwt:\n    providers:\n    - name: \
         example\n      remoteJWKS: {{uri: 'http://{keys}/jwks.json'}}\n---\n"
    )
}

#[test]
fn envoy_gateway_walkthrough_over_http() {
    let key = Key::without_kid(Alg::Rs256);
    let (keys, backend) = (key_server(&key), Backend::ok());
    let manifests = format!("{ENVOY_GATEWAY}{}", security_policy("HTTPRoute", "foo", keys.address()));
    let gateway = serve(Dialect::EnvoyGateway, &manifests, &[("default/backend", backend.address())], None);
    // without kid, exp and iss
    let token = key.token(&json!({"sub": "1234567890", "name": "John Doe", "admin": true, "iat": 1_516_239_022}));
    assert_eq!(request_until_keys_loaded(&gateway, "/foo", None), (401, "Jwt is missing".to_owned()));
    assert_eq!(request_until_keys_loaded(&gateway, "/foo", Some(&token)).0, 200);
    assert_eq!(request_until_keys_loaded(&gateway, "/bar", None).0, 200);
    let seen = backend.requests();
    assert_eq!(seen[0].header("authorization"), Some(&*bearer(&token)), "the token is passed on");
    let forged = Key::without_kid(Alg::Rs256).token(&json!({"sub": "x"}));
    assert_eq!(request_until_keys_loaded(&gateway, "/foo", Some(&forged)), (401, "Jwt verification fails".to_owned()));
}

/// Tests that every token failure has Envoy's wording and status, over HTTP and gRPC.
#[test]
fn rejections_have_envoys_wording() {
    let key = Key::new(Alg::Rs256, "k");
    let (keys, backend) = (key_server(&key), Backend::ok());
    let policy = |kind: &str, name: &str| {
        security_policy(kind, name, keys.address())
            .replace("name: jwt-example", &format!("name: {name}"))
            .replace("- name: example", "- name: example\n      issuer: i\n      audiences: [a]")
    };
    let rule = "  authorization: {rules: [{action: Allow, principal: {jwt: {provider: example, claims: [{name: sub, values: [x]}]}}}]}\n---\n";
    let manifests = format!(
        "{ENVOY_GATEWAY}{}{}",
        policy("HTTPRoute", "foo").replace("---\n", rule),
        policy("GRPCRoute", "yages").replace("---\n", rule)
    );
    let map = [("default/backend", backend.address()), ("default/yages", grpc_backend())];
    let gateway = serve(Dialect::EnvoyGateway, &manifests, &map, None);
    let part = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    let with = |claims: serde_json::Value| {
        let mut all = json!({"iss": "i", "aud": "a", "sub": "x"});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        key.token(&all)
    };
    let raw = |header: &str, payload: &str| format!("{}.{}.AAAA", part(header), part(payload));
    let header = r#"{"alg":"RS256","kid":"k"}"#;
    let form = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
    let mismatch = "Jwks doesn't have key to match kid or alg from Jwt";
    let cases = [
        (String::new(), 401, "Jwt is missing"),
        ("opaque".to_owned(), 401, form),
        ("a.b.c.d".to_owned(), 401, form),
        (raw("{", "{}"), 401, "Jwt header is an invalid JSON"),
        (raw("{}", "{}"), 401, "Jwt header [alg] field is required and must be a string"),
        (raw(r#"{"alg":"none"}"#, "{}"), 401, "Jwt header [alg] is not supported"),
        (raw(r#"{"alg":"XS256"}"#, "{}"), 401, "Jwt header [alg] is not supported"),
        (raw(header, "["), 401, "Jwt payload is an invalid JSON"),
        (raw(header, r#"{"iss":7}"#), 401, "Jwt payload [iss] field is not a string"),
        (with(json!({"iss": "other"})), 401, "Jwt issuer is not configured"),
        (with(json!({"aud": "other"})), 403, "Audiences in Jwt are not allowed"),
        (with(json!({"exp": 1})), 401, "Jwt is expired"),
        (with(json!({"exp": "soon"})), 401, "Jwt payload [exp] field is not an integer"),
        (with(json!({"nbf": FAR_FUTURE})), 401, "Jwt not yet valid"),
        (with(json!({"aud": 7})), 401, "Jwt payload [aud] field is not a string or string list"),
        (Key::new(Alg::Rs256, "k").token(&json!({"iss": "i", "aud": "a"})), 401, "Jwt verification fails"),
        (Key::new(Alg::Rs256, "other").token(&json!({"iss": "i", "aud": "a"})), 401, mismatch),
        (Key::new(Alg::Es256, "k").token(&json!({"iss": "i", "aud": "a"})), 401, mismatch),
        (with(json!({"sub": "y"})), 403, "RBAC: access denied"),
    ];
    request_until_keys_loaded(&gateway, "/foo", Some(&with(json!({}))));
    for (token, status, words) in cases {
        let token = Some(token.as_str()).filter(|token| !token.is_empty());
        assert_eq!(request_until_keys_loaded(&gateway, "/foo", token), (status, words.to_owned()), "{token:?}");
        let (headers, body, _) = eventually(TEST_TIMEOUT, "the keys are loaded", || {
            Some(call(gateway.address(), token))
                .filter(|(headers, ..)| headers["grpc-message"] != "Jwks remote fetch is failed")
        });
        let grpc = if status == 403 { "7" } else { "16" };
        assert_eq!((headers["grpc-status"].to_str().unwrap(), body.len()), (grpc, 0), "{words}");
        let message = headers["grpc-message"].to_str().unwrap().replace("%20", " ");
        assert_eq!(message, words);
    }
}

/// Starts a gRPC server that responds to every call with `pong`.
fn grpc_backend() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper::service::service_fn(|_| async {
                    let trailers: http::HeaderMap =
                        [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))]
                            .into_iter()
                            .collect();
                    let body = Full::new(Bytes::from_static(b"\0\0\0\0\x06\n\x04pong"))
                        .with_trailers(async { Some(Ok(trailers)) });
                    let response = http::Response::builder().header("content-type", "application/grpc").body(body);
                    Ok::<_, std::convert::Infallible>(response.unwrap())
                });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    });
    address
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends a gRPC call and returns the headers, the body and the trailers of the response.
fn call(address: SocketAddr, token: Option<&str>) -> (http::HeaderMap, Bytes, http::HeaderMap) {
    runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request =
            http::Request::post("http://grpc-example.com/yages.Echo/Ping").header("content-type", "application/grpc");
        if let Some(token) = token {
            request = request.header("authorization", bearer(token));
        }
        let request = request.body(Full::new(Bytes::from_static(b"\0\0\0\0\0"))).unwrap();
        let response = tokio::time::timeout(TEST_TIMEOUT, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        let body = tokio::time::timeout(TEST_TIMEOUT, response.into_body().collect()).await.unwrap().unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        (headers, body.to_bytes(), trailers)
    })
}

#[test]
fn envoy_gateway_walkthrough_over_grpc() {
    let key = Key::without_kid(Alg::Rs256);
    let keys = key_server(&key);
    let manifests = format!("{ENVOY_GATEWAY}{}", security_policy("GRPCRoute", "yages", keys.address()));
    let map = [("default/yages", grpc_backend()), ("default/backend", keys.address())];
    let gateway = serve(Dialect::EnvoyGateway, &manifests, &map, None);
    let (headers, body, _) = call(gateway.address(), None);
    assert_eq!(headers["grpc-status"], "16", "Unauthenticated");
    assert_eq!(headers["grpc-message"], "Jwt is missing");
    assert!(body.is_empty());
    let token = key.token(&json!({"sub": "x"}));
    let (_, body, trailers) = eventually(TEST_TIMEOUT, "the keys are loaded", || {
        Some(call(gateway.address(), Some(&token))).filter(|(headers, ..)| !headers.contains_key("grpc-status"))
    });
    assert_eq!(
        (&*body, &trailers["grpc-status"]),
        (&b"\0\0\0\0\x06\n\x04pong"[..], &http::HeaderValue::from_static("0"))
    );
}

/// A key server with a self-signed certificate for `foo.bar.com`. It fails twice before it serves the keys.
struct SelfSigned {
    address: SocketAddr,
    ca: String,
    request_count: Arc<AtomicUsize>,
}

fn self_signed(keys: String) -> SelfSigned {
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["foo.bar.com".into()]).unwrap().self_signed(&pair).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(pair.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let request_count = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&request_count);
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count, keys) = (acceptor.clone(), Arc::clone(&count), keys.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let good = request.uri().path() == "/jwks.json" && request.headers()["host"] == "foo.bar.com";
                        let status = match count.fetch_add(1, Ordering::SeqCst) {
                            0 | 1 => 503,
                            _ if good => 200,
                            _ => 404,
                        };
                        let response =
                            http::Response::builder().status(status).body(Full::new(Bytes::from(keys.clone())));
                        async move { Ok::<_, std::convert::Infallible>(response.unwrap()) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
    });
    SelfSigned { address, ca: certificate.pem(), request_count }
}

#[test]
fn envoy_gateway_walkthrough_with_a_self_signed_key_server() {
    let key = Key::without_kid(Alg::Rs256);
    let server = self_signed(mint::jwks([&key]));
    let ca: String = server.ca.lines().map(|line| format!("    {line}\n")).collect();
    let manifests = format!(
        "{ENVOY_GATEWAY}apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata:\n  name: \
         jwt-example\nspec:\n  targetRef: {{group: gateway.networking.k8s.io, kind: HTTPRoute, name: foo}}\n  jwt:\n    \
         providers:\n    - name: example\n      remoteJWKS:\n        backendRefs:\n          - group: \
         gateway.envoyproxy.io\n            kind: Backend\n            name: remote-jwks\n            port: 443\n        \
         backendSettings:\n          retry:\n            numRetries: 3\n            perRetry:\n              backOff: \
         {{baseInterval: 10ms, maxInterval: 50ms}}\n            retryOn:\n              triggers: [\"5xx\", \
         \"gateway-error\", \"reset\"]\n        uri: https://foo.bar.com/jwks.json\n---\napiVersion: \
         gateway.envoyproxy.io/v1alpha1\nkind: Backend\nmetadata: {{name: remote-jwks}}\nspec:\n  endpoints:\n  - ip: \
         {{address: 127.0.0.1, port: {port}}}\n---\napiVersion: gateway.networking.k8s.io/v1alpha3\nkind: \
         BackendTLSPolicy\nmetadata: {{name: remote-jwks-btls}}\nspec:\n  targetRefs: [{{group: gateway.envoyproxy.io, kind: \
         Backend, name: remote-jwks, sectionName: \"{port}\"}}]\n  validation:\n    caCertificateRefs: [{{name: \
         remote-jwks-server-ca, group: \"\", kind: ConfigMap}}]\n    hostname: foo.bar.com\n---\napiVersion: v1\nkind: \
         ConfigMap\nmetadata: {{name: remote-jwks-server-ca}}\ndata:\n  ca.crt: |\n{ca}",
        port = server.address.port()
    );
    let (backend, folder) = (Backend::ok(), TempDir::new());
    let gateway = serve(Dialect::EnvoyGateway, &manifests, &[("default/backend", backend.address())], Some(&folder));
    let token = key.token(&json!({"sub": "x"}));
    assert_eq!(request_until_keys_loaded(&gateway, "/foo", None).0, 401);
    assert_eq!(request_until_keys_loaded(&gateway, "/foo", Some(&token)).0, 200);
    assert!(server.request_count.load(Ordering::SeqCst) >= 3, "two failures, then the keys");
}

/// Returns the manifests of agentgateway's walkthrough, with these fields in `jwtAuthentication`.
fn agentgateway(authentication: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: agentgateway-proxy, namespace: \
         gw}}\nspec:\n  gatewayClassName: agentgateway\n  listeners: [{{name: http, protocol: HTTP, port: 80}}]\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: httpbin, namespace: gw}}\nspec:\n  \
         parentRefs: [{{name: agentgateway-proxy}}]\n  rules: [{{backendRefs: [{{name: httpbin, port: 8000}}]}}]\n---\n\
         apiVersion: agentgateway.dev/v1alpha1\nkind: AgentgatewayPolicy\nmetadata: {{name: jwt-auth-policy, namespace: \
         gw}}\nspec:\n  targetRefs:\n  - group: gateway.networking.k8s.io\n    kind: Gateway\n    name: \
         agentgateway-proxy\n  traffic:\n    jwtAuthentication: {authentication}\n"
    )
}

#[test]
fn agentgateway_walkthrough() {
    let issuer = "http://keycloak:8080/realms/master";
    let (keycloak, second) = (Key::new(Alg::Rs256, "a"), Key::new(Alg::Es256, "b"));
    let (keys, backend) = (key_server(&keycloak), Backend::ok());
    let map = [("keycloak/keycloak", keys.address()), ("gw/httpbin", backend.address())];
    let remote_jwks = "jwks: {remote: {jwksPath: /realms/master/protocol/openid-connect/certs, cacheDuration: 5m, backendRef: \
                  {group: '', kind: Service, name: keycloak, namespace: keycloak, port: 8080}}}";
    let single_provider = format!("providers: [{{issuer: '{issuer}', {remote_jwks}}}]");
    let good = keycloak.token(&json!({"iss": issuer, "sub": "user1", "exp": FAR_FUTURE}));
    let bad = Key::new(Alg::Rs256, "a").token(&json!({"iss": issuer, "sub": "user1", "exp": FAR_FUTURE}));
    let missing = "authentication failure: no bearer token found";
    for (mode, status_without_token, status_with_bad_token) in
        [("mode: Strict,", 401, 401), ("", 401, 401), ("mode: Optional,", 200, 401), ("mode: Permissive,", 200, 200)]
    {
        let gateway = serve(Dialect::Agentgateway, &agentgateway(&format!("{{{mode} {single_provider}}}")), &map, None);
        let response = request_until_keys_loaded(&gateway, "/headers", None);
        assert_eq!(response.0, status_without_token, "{mode}");
        assert!(status_without_token == 200 || (response.1 == missing && missing.len() == 45), "{response:?}");
        assert_eq!(request_until_keys_loaded(&gateway, "/headers", Some(&bad)).0, status_with_bad_token, "{mode}");
        assert_eq!(request_until_keys_loaded(&gateway, "/headers", Some(&good)).0, 200, "{mode}");
    }
    // two providers with different audiences, one of them with inline keys
    let inline = mint::jwks([&second]);
    let two = format!(
        "{{providers: [{{issuer: '{issuer}', audiences: [my-application], {remote_jwks}}}, {{issuer: 'https://auth0.example.com/', \
         audiences: [my-other-application], jwks: {{inline: '{inline}'}}}}]}}"
    );
    let gateway = serve(Dialect::Agentgateway, &agentgateway(&two), &map, None);
    let other = "https://auth0.example.com/";
    for (key, iss, aud, status) in [
        (&keycloak, issuer, "my-application", 200),
        (&second, other, "my-other-application", 200),
        (&keycloak, issuer, "my-other-application", 401),
        (&second, issuer, "my-application", 401),
        (&keycloak, other, "my-other-application", 401),
    ] {
        let token = key.token(&json!({"iss": iss, "aud": aud, "exp": FAR_FUTURE}));
        assert_eq!(request_until_keys_loaded(&gateway, "/", Some(&token)).0, status, "{iss} {aud}");
    }
    let paths: Vec<String> = keys.requests().iter().map(|request| request.target().to_owned()).collect();
    assert!(
        !paths.is_empty() && paths.iter().all(|path| path == "/realms/master/protocol/openid-connect/certs"),
        "{paths:?}"
    );
}

fn portcullis(arguments: &[&str]) -> Output {
    Command::new(PORTCULLIS).args(arguments).output().unwrap()
}

#[test]
fn command_prints_the_config_and_reports_to_standard_error() {
    let folder = TempDir::new();
    let policy = security_policy("HTTPRoute", "foo", "127.0.0.1:9".parse().unwrap());
    let routes = folder.write("routes.yaml", ENVOY_GATEWAY);
    let security = folder.write("security.yaml", &policy);
    let files = [routes.to_str().unwrap(), security.to_str().unwrap()];
    let map = ["--map", "default/backend=127.0.0.1:8080", "--map", "default/yages=127.0.0.1:9000"];
    let arguments = |more: &[&'static str]| {
        let all = [&["import", "envoy-gateway"][..], &files, &map, more].concat();
        portcullis(&all)
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let yaml = arguments(&[]);
    assert_eq!(yaml.status.code(), Some(0), "{}", text(&yaml.stderr));
    assert!(text(&yaml.stdout).contains("# from SecurityPolicy default/jwt-example"), "{}", text(&yaml.stdout));
    let report = text(&yaml.stderr);
    assert!(
        report.lines().any(|line| line.ends_with("provider name") && line.contains("security.yaml:8: ")),
        "{report}"
    );
    // the output is a valid config
    let config = folder.write("portcullis.yaml", &yaml.stdout);
    let validated = portcullis(&["validate", "-f", config.to_str().unwrap()]);
    assert_eq!(validated.status.code(), Some(0), "{}", text(&validated.stderr));
    let as_json = arguments(&["--output", "json"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&as_json.stdout).unwrap()["binds"].is_array());
    // rejected: nothing is written, and the reason names its file and line
    folder.write("security.yaml", policy.replace("  jwt:", "  oidc: {}\n  jwt:"));
    let refused = arguments(&[]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
    assert!(
        text(&refused.stderr).contains("security.yaml:6: SecurityPolicy default/jwt-example spec.oidc: refused: "),
        "{}",
        text(&refused.stderr)
    );
    let partial = arguments(&["--allow-partial"]);
    assert!(partial.status.success() && text(&partial.stdout).contains("not-imported"), "{}", text(&partial.stdout));
    // invalid manifests and files
    let other = folder.write("other.yaml", "a: 1");
    assert_eq!(portcullis(&["import", "istio", other.to_str().unwrap()]).status.code(), Some(2));
    assert_eq!(portcullis(&["import", "istio", "/nowhere/at/all.yaml"]).status.code(), Some(2));
    let other = other.to_str().unwrap();
    assert_eq!(portcullis(&["import", "istio", other, "--map", "x"]).status.code(), Some(2));
    let bytes = folder.write("bytes.yaml", b"kind: A\nmetadata: {name: \xff}\n");
    let huge = folder.write("huge.yaml", "# ".repeat(3 << 20));
    let twice = ["--map", "a/b=c:1", "--map", "a/b=d:1"];
    for (arguments, words) in [
        (&["-", "-"][..], "`-` is given twice"),
        (&[files[0], twice[0], twice[1], twice[2], twice[3]], "two addresses for a/b"),
        (&[bytes.to_str().unwrap()], "UTF-8"),
        (&[huge.to_str().unwrap()], "longer than 4 MiB"),
        (&[files[0], files[0]], "duplicate Gateway default/eg; the first is at"),
    ] {
        let output = portcullis(&[&["import", "envoy-gateway"], arguments].concat());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{words}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(words), "{words}: {}", text(&output.stderr));
    }
}

/// Covers walkthroughs that use `kubectl apply -f -`.
#[test]
fn manifests_are_read_from_standard_input() {
    let mut child = Command::new(PORTCULLIS)
        .args(["import", "envoy-gateway", "-", "--map", "default/backend=127.0.0.1:1"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), ENVOY_GATEWAY.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && out.starts_with("# Imported from <stdin>.\n"), "{out}\n{err}");
    assert!(err.contains("<stdin>:7: Gateway default/eg spec.listeners[0].port: exact: bind port"), "{err}");
}

/// Covers walkthroughs that expand the manifest in a shell.
#[test]
fn variables_of_a_manifest_need_not_be_set_for_the_import() {
    let folder = TempDir::new();
    let policy = security_policy("HTTPRoute", "foo", "127.0.0.1:1".parse().unwrap());
    let policy = policy.replace("- name: example", "- name: example\n      issuer: ${ISSUER}");
    let manifest = format!("{ENVOY_GATEWAY}{policy}");
    let file = folder.write("m.yaml", manifest);
    let output =
        portcullis(&["import", "envoy-gateway", file.to_str().unwrap(), "--map", "default/backend=127.0.0.1:1"]);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && out.contains("issuer: '${ISSUER}'"), "{out}\n{err}");
    assert!(err.contains("needs input: the environment variable `ISSUER`"), "{err}");
}
