use std::time::Duration;

use super::server::{Authority, ScriptedResponse, Server, ok, response};
use crate::auth::keys::jwks::fetch::{FetchedKeys, Fetcher};
use crate::auth::keys::jwks::{FetchErrorKind, FetchSettings, FetchSettingsError, KeyLocation};
use crate::auth::tests::kit::{P256, RSA};
use serde_json::json;

fn keys() -> String {
    json!({"keys": [P256.jwk_with(json!({"kid": "p256"}))]}).to_string()
}

fn settings(url: String) -> FetchSettings {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut settings = FetchSettings::new(KeyLocation::Url(url));
    settings.timeout = Duration::from_millis(400);
    settings
}

async fn fetch(settings: FetchSettings) -> Result<FetchedKeys, FetchErrorKind> {
    Fetcher::new(settings).unwrap().fetch().await.map_err(|error| error.kind)
}

#[tokio::test]
async fn a_valid_set_is_accepted_and_the_request_is_minimal() {
    let server =
        Server::start(vec![response("200 OK", "cache-control: public, Max-Age=\"120\"\r\n", &keys())], None).await;
    let mut settings = settings(format!("http://127.0.0.1:{}/keys?a=b", server.port));
    settings.headers = vec![("x-api-key".parse().unwrap(), "secret".parse().unwrap())];
    let fetched = fetch(settings).await.unwrap();
    assert_eq!(fetched.keys.kids().collect::<Vec<_>>(), ["p256"]);
    assert_eq!(fetched.max_age, Some(Duration::from_secs(120)));
    assert_eq!(fetched.url, format!("http://127.0.0.1:{}/keys", server.port), "no query in messages");
    let request = server.requests().remove(0);
    assert!(request.starts_with("get /keys?a=b http/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nhost: 127.0.0.1:{}\r\n", server.port)), "{request}");
    assert!(request.contains("\r\nx-api-key: secret\r\n") && !request.contains("accept-encoding"), "{request}");
}

#[tokio::test]
async fn invalid_responses_are_rejected() {
    let good = keys();
    let private = json!({"keys": [RSA.jwk_with(json!({"d": "AQAB"})), {"kty": "oct", "k": "AAAA"}]}).to_string();
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{good}", good.len() + 1);
    type Expect = fn(&FetchErrorKind) -> bool;
    let rows: Vec<(&str, ScriptedResponse, Expect)> = vec![
        ("404", response("404 Not Found", "", &good), |f| *f == FetchErrorKind::Status(404)),
        ("500", response("500 Oops", "", &good), |f| *f == FetchErrorKind::Status(500)),
        ("304", response("304 Not Modified", "", ""), |f| *f == FetchErrorKind::Status(304)),
        ("HTML", response("200 OK", "content-type: text/html\r\n", "<html>"), |f| {
            matches!(f, FetchErrorKind::InvalidKeySet(_))
        }),
        ("a list", ok("[]"), |f| matches!(f, FetchErrorKind::InvalidKeySet(_))),
        ("no keys", ok(r#"{"keys":[]}"#), |f| matches!(f, FetchErrorKind::NoUsableKey(_))),
        ("private and shared keys", ok(&private), |f| matches!(f, FetchErrorKind::NoUsableKey(_))),
        ("empty", ok(""), |f| matches!(f, FetchErrorKind::InvalidKeySet(_))),
        ("cut short", ScriptedResponse::Bytes(cut.into_bytes()), |f| matches!(f, FetchErrorKind::Reset(_))),
        ("not HTTP", ScriptedResponse::Bytes(b"SSH-2.0-x\r\n".to_vec()), |f| matches!(f, FetchErrorKind::Reset(_))),
        ("nothing", ScriptedResponse::Bytes(Vec::new()), |f| matches!(f, FetchErrorKind::Reset(_))),
        ("gzip", response("200 OK", "content-encoding: gzip\r\n", &good), |f| *f == FetchErrorKind::Encoding),
        ("too large", ok(&" ".repeat(3000)), |f| *f == FetchErrorKind::TooLarge(2000)),
        ("endless", ScriptedResponse::Endless(b"HTTP/1.1 200 OK\r\n\r\n{{{{{{{{{{{{{{{{".to_vec()), |f| {
            *f == FetchErrorKind::TooLarge(2000)
        }),
        ("silence", ScriptedResponse::Hang(Vec::new()), |f| matches!(f, FetchErrorKind::Timeout(_))),
        (
            "silence in the body",
            ScriptedResponse::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()),
            |f| matches!(f, FetchErrorKind::Timeout(_)),
        ),
        (
            "drip",
            ScriptedResponse::Drip(
                b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{                                ".to_vec(),
            ),
            |f| matches!(f, FetchErrorKind::Timeout(_)),
        ),
        ("redirect elsewhere", response("302 Found", "location: http://127.0.0.1:1/keys\r\n", ""), |f| {
            *f == FetchErrorKind::Redirect
        }),
        ("redirect to metadata", response("307 x", "location: http://169.254.169.254/latest\r\n", ""), |f| {
            *f == FetchErrorKind::Redirect
        }),
        ("redirect to a file", response("301 x", "location: file:///etc/passwd\r\n", ""), |f| {
            *f == FetchErrorKind::Redirect
        }),
        ("redirect to nowhere", response("301 x", "", ""), |f| *f == FetchErrorKind::Redirect),
        ("redirect for ever", response("301 x", "location: /keys\r\n", ""), |f| *f == FetchErrorKind::Redirect),
    ];
    for (name, response, expected) in rows {
        let server = Server::start(vec![response], None).await;
        let mut settings = settings(format!("http://127.0.0.1:{}/keys", server.port));
        settings.max_size = 2000;
        let fault = fetch(settings).await.map(|_| ()).unwrap_err();
        assert!(expected(&fault), "{name}: {fault:?}");
    }
    let fault = fetch(settings("http://127.0.0.1:1/keys".into())).await.map(|_| ()).unwrap_err();
    assert!(matches!(&fault, FetchErrorKind::Connect(why) if why.contains("refused")), "{fault:?}");
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed() {
    let server = Server::start(vec![response("302 Found", "location: /other?x=1\r\n", ""), ok(&keys())], None).await;
    assert!(fetch(settings(format!("http://127.0.0.1:{}/keys", server.port))).await.is_ok());
    assert!(server.requests()[1].starts_with("get /other?x=1 "));
}

#[tokio::test]
async fn private_authorities_and_connect_to_are_used() {
    let authority = Authority::new();
    let server = Server::start(vec![ok(&keys())], Some(authority.acceptor("idp.internal", false))).await;
    let target = format!("127.0.0.1:{}", server.port);
    let to = |url: &str| {
        let mut settings = settings(url.to_owned());
        settings.connect_to = Some(target.clone());
        settings.timeout = Duration::from_secs(5);
        settings.tls.root = Some(authority.pem.clone().into_bytes());
        settings
    };
    fetch(to("https://idp.internal/keys")).await.unwrap();
    assert!(server.requests()[0].contains("\r\nhost: idp.internal\r\n"), "{:?}", server.requests());
    fetch(to("https://idp.internal:8443/keys")).await.unwrap();
    assert!(server.requests()[1].contains("\r\nhost: idp.internal:8443\r\n"));

    let mut other_name = to("https://login.example/keys");
    assert!(
        matches!(fetch(other_name.clone()).await, Err(FetchErrorKind::Connect(why)) if why.contains("certificate"))
    );
    other_name.tls.hostname = Some("IDP.internal".into());
    fetch(other_name).await.unwrap();
    assert!(server.requests()[2].contains("\r\nhost: login.example\r\n"), "{:?}", server.requests());

    let mut by_address = to(&format!("https://127.0.0.1:{}/keys", server.port));
    by_address.connect_to = None;
    by_address.tls.hostname = Some("idp.internal".into());
    fetch(by_address).await.unwrap();

    let mut untrusted = to("https://idp.internal/keys");
    untrusted.tls.root = Some(Authority::new().pem.into_bytes());
    assert!(matches!(fetch(untrusted.clone()).await, Err(FetchErrorKind::Connect(_))));
    untrusted.tls.insecure = true;
    fetch(untrusted).await.unwrap();

    let plain = Server::start(vec![ok(&keys())], None).await;
    let mut settings = settings("http://login.example/keys".into());
    settings.connect_to = Some(format!("127.0.0.1:{}", plain.port));
    fetch(settings).await.unwrap();
    assert!(plain.requests()[0].contains("\r\nhost: login.example\r\n"));
}

#[tokio::test]
async fn the_client_certificate_is_presented() {
    let authority = Authority::new();
    let server = Server::start(vec![ok(&keys())], Some(authority.acceptor("localhost", true))).await;
    let mut settings = settings(format!("https://localhost:{}/keys", server.port));
    settings.timeout = Duration::from_secs(5);
    settings.connect_to = Some(format!("127.0.0.1:{}", server.port));
    settings.tls.root = Some(authority.pem.clone().into_bytes());
    assert!(fetch(settings.clone()).await.is_err());
    let (certificate, key) = authority.issue("client");
    settings.tls.identity = Some(format!("{}{}", certificate.pem(), key.serialize_pem()).into_bytes());
    fetch(settings).await.unwrap();
}

/// Runs a discovery against a server with these responses, for an issuer with this path. Returns the result and the
/// requested paths.
async fn discover(
    path: &str,
    responses: &dyn Fn(&str) -> Vec<ScriptedResponse>,
) -> (Result<usize, FetchErrorKind>, Vec<String>) {
    // the responses contain the port, so a first listener only finds a free one
    let probe = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://127.0.0.1:{}", probe.local_addr().unwrap().port());
    drop(probe);
    let issuer = format!("{origin}{path}");
    let server = Server::start_at(&origin[7..], responses(&issuer)).await;
    let mut settings = settings(String::new());
    settings.location = KeyLocation::Discover { issuer };
    let result = fetch(settings).await.map(|fetched| fetched.keys.len());
    let paths = server.requests().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    (result, paths)
}

fn metadata(issuer: &str, keys: &str) -> ScriptedResponse {
    ok(&json!({"issuer": issuer, "jwks_uri": keys}).to_string())
}

#[tokio::test]
async fn keys_are_discovered_only_from_a_document_of_the_issuer() {
    let good = |issuer: &str| vec![metadata(issuer, &format!("{}/certs", issuer.trim_end_matches('/'))), ok(&keys())];
    for (path, expected_paths) in [
        ("/realms/a", ["/realms/a/.well-known/openid-configuration", "/realms/a/certs"]),
        ("/", ["/.well-known/openid-configuration", "/certs"]),
    ] {
        let (result, paths) = discover(path, &good).await;
        assert!(result == Ok(1) && paths == expected_paths, "{result:?} {paths:?}");
    }
    for wrong in [
        (|issuer: &str| metadata(&format!("{issuer}/"), &format!("{issuer}/certs"))) as fn(&str) -> ScriptedResponse,
        |issuer| ok(&json!({"jwks_uri": format!("{issuer}/certs")}).to_string()),
        |issuer| metadata(issuer, "/certs"),
        |issuer| metadata(issuer, "file:///etc/passwd"),
    ] {
        let (result, paths) = discover("/a", &|issuer| vec![wrong(issuer)]).await;
        assert!(matches!(result, Err(FetchErrorKind::Discovery(_))), "{result:?}");
        assert_eq!(paths.len(), 1, "no further request");
        let (result, paths) = discover("/a", &|issuer| vec![response("404 x", "", ""), wrong(issuer)]).await;
        assert!(matches!(result, Err(FetchErrorKind::Discovery(_))) && paths.len() == 2, "{result:?} {paths:?}");
    }
}

#[tokio::test]
async fn a_document_without_a_key_set_leads_to_the_next() {
    let below = [
        "/a/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/a",
        "/a/.well-known/oauth-authorization-server",
    ];
    let root = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"];
    for useless in [
        (|_: &str| response("404 x", "", "")) as fn(&str) -> ScriptedResponse,
        |_| response("501 x", "", ""),
        |_| response("302 x", "location: http://127.0.0.1:1/login\r\n", ""),
        |_| ok("<html>"),
        |_| ok("[]"),
        |_| ok("{}"),
        |issuer| ok(&json!({"issuer": issuer, "jwks_uri": null}).to_string()),
    ] {
        for (path, expected_paths) in [("/a", below.as_slice()), ("/a/", &below), ("", &root)] {
            for good in 1..expected_paths.len() {
                let (result, paths) = discover(path, &|issuer| {
                    let mut responses = vec![useless(issuer); good];
                    responses.extend([metadata(issuer, &format!("{issuer}/certs")), ok(&keys())]);
                    responses
                })
                .await;
                assert!(result == Ok(1) && paths[..=good] == expected_paths[..=good], "{result:?} {paths:?}");
            }
            let (result, paths) = discover(path, &|issuer| vec![useless(issuer)]).await;
            assert!(result.is_err() && paths == expected_paths, "{result:?} {paths:?}");
        }
    }
}

#[tokio::test]
async fn discovery_reports_the_first_error_of_a_document_that_exists() {
    let (missing, unavailable) = (|| response("404 x", "", ""), || response("503 x", "", ""));
    let (result, _) = discover("/a", &|_| vec![missing(), unavailable(), ok("{}")]).await;
    assert_eq!(result, Err(FetchErrorKind::Status(503)), "so that it is retried");
    let (result, _) = discover("/a", &|_| vec![missing(), ok("{}"), unavailable()]).await;
    assert!(matches!(result, Err(FetchErrorKind::Discovery(_))), "{result:?}");
    for broken in [ScriptedResponse::Hang(Vec::new()), ScriptedResponse::Bytes(Vec::new())] {
        let (result, paths) = discover("/a", &|_| vec![broken.clone()]).await;
        assert!(result.is_err() && paths.len() == 1, "{result:?}: an unreachable host gets no further request");
    }
}

#[tokio::test]
async fn invalid_settings_are_rejected() {
    let broken = |change: fn(&mut FetchSettings)| {
        let mut settings = settings("https://idp.example/keys".into());
        change(&mut settings);
        Fetcher::new(settings).map(|_| ()).unwrap_err()
    };
    use FetchSettingsError as E;
    assert!(matches!(broken(|s| s.location = KeyLocation::Url("/keys".into())), E::Url(_)));
    assert!(matches!(broken(|s| s.location = KeyLocation::Url("ftp://a/keys".into())), E::Url(_)));
    assert!(matches!(broken(|s| s.location = KeyLocation::Discover { issuer: "agentgateway.dev".into() }), E::Url(_)));
    for wrong in ["idp", "idp:", "idp:0", "idp:99999", ":1", "a/b:1", "u@h:1"] {
        let mut settings = settings("https://idp.example/keys".into());
        settings.connect_to = Some(wrong.into());
        assert!(matches!(Fetcher::new(settings).map(|_| ()), Err(E::ConnectTo(_))), "{wrong}");
    }
    assert!(matches!(broken(|s| s.tls.hostname = Some("10.0.0.1".into())), E::Hostname(_)));
    assert!(matches!(broken(|s| s.tls.root = Some(b"x".to_vec())), E::Root(_)));
    assert!(matches!(broken(|s| s.tls.identity = Some(b"x".to_vec())), E::Identity(_)));
    let address = broken(|s| {
        s.location = KeyLocation::Url("https://10.0.0.1/keys".into());
        s.connect_to = Some("10.0.0.2:443".into());
    });
    assert_eq!(address, E::AddressNeedsHostname);
}

/// Environment variables cannot be set safely in a process with threads, so the test starts itself again with them.
#[test]
fn proxies_of_the_environment_are_used_only_if_enabled() {
    const MARK: &str = "PORTCULLIS_TEST_UNDER_PROXY";
    let fetch_both_ways = async || {
        let server = Server::start(vec![ok(&keys()), ok(&keys())], None).await;
        let mut through = settings(format!("http://127.0.0.1:{}/keys", server.port));
        through.retry.attempts = 0;
        let plain = fetch(through.clone()).await.map(|fetched| fetched.keys.len());
        through.proxy_from_environment = true;
        (plain, fetch(through).await.map(|fetched| fetched.keys.len()))
    };
    if std::env::var_os(MARK).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (plain, proxied) = runtime.block_on(fetch_both_ways());
        assert!(plain.is_ok_and(|keys| keys > 0), "the unreachable proxy is not used");
        assert!(matches!(proxied, Err(FetchErrorKind::Connect(_))), "{proxied:?}");
        return;
    }
    // a closed port: it was free a moment ago, and belongs to this test's loopback address
    let closed_port = std::net::TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "auth::keys::jwks::tests::fetch::proxies_of_the_environment_are_used_only_if_enabled"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, format!("http://{closed_port}"));
    }
    let output = child.env(MARK, "1").env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
}
