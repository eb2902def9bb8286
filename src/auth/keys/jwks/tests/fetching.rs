use std::time::Duration;

use super::server::{Answer, Authority, Server, ok, with};
use crate::auth::keys::jwks::fetch::{Fetched, Fetcher};
use crate::auth::keys::jwks::{FetchFault, FetchSettings, FetchSettingsError, KeyLocation};
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

async fn fetch(settings: FetchSettings) -> Result<Fetched, FetchFault> {
    Fetcher::new(settings).unwrap().fetch().await.map_err(|error| error.fault)
}

#[tokio::test]
async fn a_good_set_is_taken_and_the_request_is_plain() {
    let server = Server::start(vec![with("200 OK", "cache-control: public, Max-Age=\"120\"\r\n", &keys())], None).await;
    let mut settings = settings(format!("http://127.0.0.1:{}/keys?a=b", server.port));
    settings.headers = vec![("x-api-key".parse().unwrap(), "secret".parse().unwrap())];
    let fetched = fetch(settings).await.unwrap();
    assert_eq!(fetched.keys.kids().collect::<Vec<_>>(), ["p256"]);
    assert_eq!(fetched.max_age, Some(Duration::from_secs(120)));
    assert_eq!(fetched.url, format!("http://127.0.0.1:{}/keys", server.port), "no query in messages");
    let asked = server.asked().remove(0);
    assert!(asked.starts_with("get /keys?a=b http/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("\r\nhost: 127.0.0.1:{}\r\n", server.port)), "{asked}");
    assert!(asked.contains("\r\nx-api-key: secret\r\n") && !asked.contains("accept-encoding"), "{asked}");
}

#[tokio::test]
async fn bad_answers_are_named() {
    let good = keys();
    let private = json!({"keys": [RSA.jwk_with(json!({"d": "AQAB"})), {"kty": "oct", "k": "AAAA"}]}).to_string();
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{good}", good.len() + 1);
    type Expect = fn(&FetchFault) -> bool;
    let rows: Vec<(&str, Answer, Expect)> = vec![
        ("404", with("404 Not Found", "", &good), |f| *f == FetchFault::Status(404)),
        ("500", with("500 Oops", "", &good), |f| *f == FetchFault::Status(500)),
        ("304", with("304 Not Modified", "", ""), |f| *f == FetchFault::Status(304)),
        ("HTML", with("200 OK", "content-type: text/html\r\n", "<html>"), |f| matches!(f, FetchFault::NotKeys(_))),
        ("a list", ok("[]"), |f| matches!(f, FetchFault::NotKeys(_))),
        ("no keys", ok(r#"{"keys":[]}"#), |f| matches!(f, FetchFault::NoUsableKey(_))),
        ("private and shared keys", ok(&private), |f| matches!(f, FetchFault::NoUsableKey(_))),
        ("empty", ok(""), |f| matches!(f, FetchFault::NotKeys(_))),
        ("cut short", Answer::Bytes(cut.into_bytes()), |f| matches!(f, FetchFault::Reset(_))),
        ("not HTTP", Answer::Bytes(b"SSH-2.0-x\r\n".to_vec()), |f| matches!(f, FetchFault::Reset(_))),
        ("nothing", Answer::Bytes(Vec::new()), |f| matches!(f, FetchFault::Reset(_))),
        ("gzip", with("200 OK", "content-encoding: gzip\r\n", &good), |f| *f == FetchFault::Encoding),
        ("too large", ok(&" ".repeat(3000)), |f| *f == FetchFault::TooLarge(2000)),
        ("endless", Answer::Endless(b"HTTP/1.1 200 OK\r\n\r\n{{{{{{{{{{{{{{{{".to_vec()), |f| {
            *f == FetchFault::TooLarge(2000)
        }),
        ("silence", Answer::Hang(Vec::new()), |f| matches!(f, FetchFault::Timeout(_))),
        ("silence in the body", Answer::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()), |f| {
            matches!(f, FetchFault::Timeout(_))
        }),
        (
            "drip",
            Answer::Drip(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{                                ".to_vec()),
            |f| matches!(f, FetchFault::Timeout(_)),
        ),
        ("redirect elsewhere", with("302 Found", "location: http://127.0.0.1:1/keys\r\n", ""), |f| {
            *f == FetchFault::Redirect
        }),
        ("redirect to metadata", with("307 x", "location: http://169.254.169.254/latest\r\n", ""), |f| {
            *f == FetchFault::Redirect
        }),
        ("redirect to a file", with("301 x", "location: file:///etc/passwd\r\n", ""), |f| *f == FetchFault::Redirect),
        ("redirect to nowhere", with("301 x", "", ""), |f| *f == FetchFault::Redirect),
        ("redirect for ever", with("301 x", "location: /keys\r\n", ""), |f| *f == FetchFault::Redirect),
    ];
    for (name, answer, expected) in rows {
        let server = Server::start(vec![answer], None).await;
        let mut settings = settings(format!("http://127.0.0.1:{}/keys", server.port));
        settings.max_size = 2000;
        let fault = fetch(settings).await.map(|_| ()).unwrap_err();
        assert!(expected(&fault), "{name}: {fault:?}");
    }
    let refused = fetch(settings("http://127.0.0.1:1/keys".into())).await.map(|_| ()).unwrap_err();
    assert!(matches!(&refused, FetchFault::Connect(why) if why.contains("refused")), "{refused:?}");
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed() {
    let server = Server::start(vec![with("302 Found", "location: /other?x=1\r\n", ""), ok(&keys())], None).await;
    assert!(fetch(settings(format!("http://127.0.0.1:{}/keys", server.port))).await.is_ok());
    assert!(server.asked()[1].starts_with("get /other?x=1 "));
}

#[tokio::test]
async fn a_private_authority_and_a_detour() {
    let authority = Authority::new();
    let server = Server::start(vec![ok(&keys())], Some(authority.acceptor("idp.internal", false))).await;
    let detour = format!("127.0.0.1:{}", server.port);
    let to = |url: &str| {
        let mut settings = settings(url.to_owned());
        settings.connect_to = Some(detour.clone());
        settings.timeout = Duration::from_secs(5);
        settings.tls.root = Some(authority.pem.clone().into_bytes());
        settings
    };
    fetch(to("https://idp.internal/keys")).await.unwrap();
    assert!(server.asked()[0].contains("\r\nhost: idp.internal\r\n"), "{:?}", server.asked());
    fetch(to("https://idp.internal:8443/keys")).await.unwrap();
    assert!(server.asked()[1].contains("\r\nhost: idp.internal:8443\r\n"));

    let mut other_name = to("https://login.example/keys");
    assert!(matches!(fetch(other_name.clone()).await, Err(FetchFault::Connect(why)) if why.contains("certificate")));
    other_name.tls.hostname = Some("IDP.internal".into());
    fetch(other_name).await.unwrap();
    assert!(server.asked()[2].contains("\r\nhost: login.example\r\n"), "{:?}", server.asked());

    let mut by_address = to(&format!("https://127.0.0.1:{}/keys", server.port));
    by_address.connect_to = None;
    by_address.tls.hostname = Some("idp.internal".into());
    fetch(by_address).await.unwrap();

    let mut stranger = to("https://idp.internal/keys");
    stranger.tls.root = Some(Authority::new().pem.into_bytes());
    assert!(matches!(fetch(stranger.clone()).await, Err(FetchFault::Connect(_))));
    stranger.tls.insecure = true;
    fetch(stranger).await.unwrap();

    let plain = Server::start(vec![ok(&keys())], None).await;
    let mut settings = settings("http://login.example/keys".into());
    settings.connect_to = Some(format!("127.0.0.1:{}", plain.port));
    fetch(settings).await.unwrap();
    assert!(plain.asked()[0].contains("\r\nhost: login.example\r\n"));
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
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

/// What comes of discovery when the server of the issuer with this path answers so, and the paths that it was asked for.
async fn discover(path: &str, answers: &dyn Fn(&str) -> Vec<Answer>) -> (Result<usize, FetchFault>, Vec<String>) {
    // The port must stand in the answers, so a first server only finds a free one.
    let probe = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://127.0.0.1:{}", probe.local_addr().unwrap().port());
    drop(probe);
    let issuer = format!("{origin}{path}");
    let listener = Server::start_at(&origin[7..], answers(&issuer)).await;
    let mut settings = settings(String::new());
    settings.location = KeyLocation::Discover { issuer };
    let result = fetch(settings).await.map(|fetched| fetched.keys.len());
    let paths = listener.asked().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    (result, paths)
}

fn metadata(issuer: &str, keys: &str) -> Answer {
    ok(&json!({"issuer": issuer, "jwks_uri": keys}).to_string())
}

#[tokio::test]
async fn keys_are_discovered_from_the_issuers_own_document_only() {
    let good = |issuer: &str| vec![metadata(issuer, &format!("{}/certs", issuer.trim_end_matches('/'))), ok(&keys())];
    for (path, asked) in [
        ("/realms/a", ["/realms/a/.well-known/openid-configuration", "/realms/a/certs"]),
        ("/", ["/.well-known/openid-configuration", "/certs"]),
    ] {
        let (result, paths) = discover(path, &good).await;
        assert!(result == Ok(1) && paths == asked, "{result:?} {paths:?}");
    }
    for wrong in [
        (|issuer: &str| metadata(&format!("{issuer}/"), &format!("{issuer}/certs"))) as fn(&str) -> Answer,
        |issuer| ok(&json!({"jwks_uri": format!("{issuer}/certs")}).to_string()),
        |issuer| metadata(issuer, "/certs"),
        |issuer| metadata(issuer, "file:///etc/passwd"),
    ] {
        let (result, paths) = discover("/a", &|issuer| vec![wrong(issuer)]).await;
        assert!(matches!(result, Err(FetchFault::Discovery(_))), "{result:?}");
        assert_eq!(paths.len(), 1, "nothing else was asked");
        let (result, paths) = discover("/a", &|issuer| vec![with("404 x", "", ""), wrong(issuer)]).await;
        assert!(matches!(result, Err(FetchFault::Discovery(_))) && paths.len() == 2, "{result:?} {paths:?}");
    }
}

#[tokio::test]
async fn a_document_that_names_no_keys_leads_to_the_next() {
    let below = [
        "/a/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/a",
        "/a/.well-known/oauth-authorization-server",
    ];
    let root = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"];
    for useless in [
        (|_: &str| with("404 x", "", "")) as fn(&str) -> Answer,
        |_| with("501 x", "", ""),
        |_| with("302 x", "location: http://127.0.0.1:1/login\r\n", ""),
        |_| ok("<html>"),
        |_| ok("[]"),
        |_| ok("{}"),
        |issuer| ok(&json!({"issuer": issuer, "jwks_uri": null}).to_string()),
    ] {
        for (path, asked) in [("/a", below.as_slice()), ("/a/", &below), ("", &root)] {
            for good in 1..asked.len() {
                let (result, paths) = discover(path, &|issuer| {
                    let mut answers = vec![useless(issuer); good];
                    answers.extend([metadata(issuer, &format!("{issuer}/certs")), ok(&keys())]);
                    answers
                })
                .await;
                assert!(result == Ok(1) && paths[..=good] == asked[..=good], "{result:?} {paths:?}");
            }
            let (result, paths) = discover(path, &|issuer| vec![useless(issuer)]).await;
            assert!(result.is_err() && paths == asked, "{result:?} {paths:?}");
        }
    }
}

#[tokio::test]
async fn of_several_failures_of_discovery_the_first_that_was_an_answer_is_told() {
    let (missing, ill) = (|| with("404 x", "", ""), || with("503 x", "", ""));
    let (result, _) = discover("/a", &|_| vec![missing(), ill(), ok("{}")]).await;
    assert_eq!(result, Err(FetchFault::Status(503)), "so that it is tried again");
    let (result, _) = discover("/a", &|_| vec![missing(), ok("{}"), ill()]).await;
    assert!(matches!(result, Err(FetchFault::Discovery(_))), "{result:?}");
    for broken in [Answer::Hang(Vec::new()), Answer::Bytes(Vec::new())] {
        let (result, paths) = discover("/a", &|_| vec![broken.clone()]).await;
        assert!(result.is_err() && paths.len() == 1, "{result:?}: a host that is down is not asked again");
    }
}

#[tokio::test]
async fn settings_that_can_not_work_are_named() {
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
    assert_eq!(address, E::AddressOnly);
}

/// Variables can't be set safely in a process with threads, so the test starts itself again with them.
#[test]
fn proxies_of_the_environment_are_used_only_when_asked_for() {
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
        assert!(plain.is_ok_and(|keys| keys > 0), "the proxy that does not exist is not asked");
        assert!(matches!(proxied, Err(FetchFault::Connect(_))), "{proxied:?}");
        return;
    }
    // a port that nobody listens on: it was free a moment ago, and belongs to this test's loopback address
    let nobody = std::net::TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap();
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args([
        "--exact",
        "auth::keys::jwks::tests::fetching::proxies_of_the_environment_are_used_only_when_asked_for",
    ]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        again.env(name, format!("http://{nobody}"));
    }
    let output = again.env(MARK, "1").env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
