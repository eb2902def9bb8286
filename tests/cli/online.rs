//! What only the network tells: `validate --online`, and keys by URL for commands that explain.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{Answer, Backend, Recorded, TempDir, nobody};
use super::{ALICE, Ended, ROOT, run};

/// The keys that the manifests' tokens are signed with.
fn keys() -> String {
    std::fs::read_to_string(format!("{ROOT}/manifests/jwt/pub-key")).unwrap()
}

fn date(ahead: Duration) -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now() + ahead)
}

/// A key server whose clock is ahead.
fn key_server(ahead: Duration) -> Backend {
    Backend::start(move |_| Answer::new(200, &[("date", &date(ahead))], keys()))
}

/// A provider whose keys need no network.
const LOCAL: &str = "{issuer: a, audiences: [b], jwks: {file: ./manifests/jwt/pub-key}}";

/// One route that needs a token, with this provider and these backends.
fn config(provider: &str, backends: &str) -> String {
    format!(
        "binds:
- port: 3000
  listeners:
  - policies:
      jwtAuth:
        mode: strict
        # the line below is the eighth
        {provider}
    routes:
    - backends: [{backends}]
"
    )
}

fn provider(server: &Backend) -> String {
    format!(
        "{{issuer: agentgateway.dev, audiences: [test.agentgateway.dev], jwks: {{url: 'http://{}/keys'}}}}",
        server.address()
    )
}

/// The same in one line, as a provider's fields stand in the policy.
fn inline(provider: &str) -> String {
    format!("providers: [{provider}]")
}

fn validate(yaml: &str, more: &[&str]) -> Ended {
    run(&[&["validate", "--online", "-c", yaml], more].concat())
}

/// `line id` of each finding.
fn findings(told: &Value) -> Vec<String> {
    let all = told["files"][0]["findings"].as_array().unwrap();
    all.iter().map(|one| format!("{} {}", one["line"], one["id"].as_str().unwrap())).collect()
}

#[test]
fn what_is_there_is_told_of() {
    let (idp, backend) = (key_server(Duration::ZERO), Backend::ok());
    let (one, port) = (backend.address(), backend.address().port());
    let hosts = format!("{{host: '{one}'}}, {{host: 'localhost:{port}', weight: 0}}, {{host: '{one}'}}");
    let yaml = config(&inline(&provider(&idp)), &hosts);
    let good = validate(&yaml, &["--output", "json"]);
    assert_eq!(good.code, 0, "{good:?}");
    let told = good.json();
    assert_eq!(findings(&told), ["8 W005"], "{told:#}");
    let online = told["files"][0]["online"].as_array().unwrap();
    let targets: Vec<&str> = online.iter().map(|one| one["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["keys of agentgateway.dev".to_owned(), format!("backend {one}")], "each once");
    assert!(online.iter().all(|one| one["ok"] == true && one["millis"].is_u64()), "{told:#}");
    let found = online[0]["found"].as_str().unwrap();
    assert!(found.starts_with(&format!("1 key from http://{}/keys, clocks ", idp.address())), "{found}");
    assert!(backend.requests().is_empty(), "nothing is sent to a backend");

    let text = validate(&yaml, &[]);
    assert!(text.out.contains(&format!("\n  ok   backend {one}: reached (")), "{}", text.out);
    assert!(text.out.starts_with("<config>: ok: "), "{}", text.out);
    assert_eq!(idp.requests().len(), 2);
    assert!(run(&["validate", "-c", &yaml]).code == 0 && idp.requests().len() == 2, "offline nobody is asked");
}

/// Somebody who speaks before the client does, and no TLS.
fn no_tls() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"220 mail.example ready\r\n");
        }
    });
    address
}

#[test]
fn what_is_not_there_is_an_error_at_its_line() {
    let (tls, nobody) = (no_tls(), nobody());
    for (provider, backends, wanted, says) in [
        (LOCAL, format!("{{host: '{nobody}'}}"), "10 E013", "refused"),
        (LOCAL, "{host: 'no-such-name.invalid:80'}".to_owned(), "10 E013", "its name can't be resolved"),
        (LOCAL, format!("{{host: 'https://{tls}'}}"), "10 E013", "can't be reached"),
        (
            "{issuer: a, audiences: [b], jwks: {url: 'https://no-such-name.invalid/keys'}}",
            String::new(),
            "8 E014",
            "no connection",
        ),
        (
            "{issuer: 'https://no-such-name.invalid', audiences: [b]}",
            String::new(),
            "8 E014",
            "/.well-known/openid-configuration: no connection",
        ),
    ] {
        let yaml = config(&inline(provider), &backends);
        let ended = validate(&yaml, &["--output", "json"]);
        let told = ended.json();
        assert_eq!((ended.code, findings(&told)), (1, vec![wanted.to_owned()]), "{provider} {backends}: {told:#}");
        assert_eq!((&told["files"][0]["ok"], &told["files"][0]["online"][0]["ok"]), (&false.into(), &false.into()));
        let message = told["files"][0]["findings"][0]["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
        let github = validate(&yaml, &["--output", "github"]);
        let (line, id) = wanted.split_once(' ').unwrap();
        assert!(github.out.contains(&format!("::error file=<config>,line={line},col=")), "{}", github.out);
        assert!(github.out.contains(&format!(",title={id} ")) && github.code == 1, "{}", github.out);
        let text = validate(&yaml, &[]);
        assert!(text.err.starts_with(&format!("error[{id}]: <config>:{line}:")), "{}", text.err);
        assert!(text.out.starts_with("<config>: FAIL: ") && text.out.contains("\n  FAIL "), "{}", text.out);
    }
}

#[test]
fn answers_that_are_no_keys_are_told_with_advice() {
    let discovery = |issuer: &str| {
        let issuer = issuer.to_owned();
        move |_: &Recorded| Answer::new(200, &[], format!("{{\"issuer\": \"{issuer}\", \"jwks_uri\": \"http://a\"}}"))
    };
    let not_found = Backend::start(|_| Answer::new(404, &[], "no"));
    let page = Backend::start(|_| Answer::new(200, &[], "<html>"));
    let other = Backend::start(discovery("https://another.example"));
    let by_url = |server: &Backend| provider(server);
    let by_issuer = |server: &Backend| format!("{{issuer: 'http://{}'}}", server.address());
    for (provider, says, hint) in [
        (by_url(&not_found), "status 404", "jwks_uri"),
        (by_url(&page), "", "jwks_uri"),
        (by_issuer(&other), "the document's issuer is `https://another.example`", "compared exactly"),
    ] {
        let told = validate(&config(&inline(&provider), ""), &["--output", "json"]).json();
        let finding = told["files"][0]["findings"].as_array().unwrap().iter().find(|one| one["id"] == "E014").unwrap();
        let text = |name: &str| finding[name].as_str().unwrap_or_default();
        assert!(text("message").contains(says) && text("hint").contains(hint), "{finding:#}");
    }
}

#[test]
fn a_size_at_the_url_counts_and_the_limit_for_all_is_its_default() {
    let big = format!("{{\"x\": \"{}\", {}", "a".repeat(3000), keys().trim_start().strip_prefix('{').unwrap());
    let large = big.clone();
    let idp = Backend::start(move |_| Answer::new(200, &[], large.as_str()));
    let issuer = Backend::start(move |request| {
        let issuer = format!("http://{}", request.header("host").unwrap());
        match request.target() {
            "/keys" => Answer::new(200, &[], big.as_str()),
            _ => Answer::new(200, &[], format!("{{\"issuer\": \"{issuer}\", \"jwks_uri\": \"{issuer}/keys\"}}")),
        }
    });
    let plain = provider(&idp);
    let sized = |size: &str| plain.replace("/keys'", &format!("/keys', maxSize: {size}"));
    let discovered = format!("{{issuer: 'http://{}'}}", issuer.address());
    for (limit, provider, good) in [
        ("1KiB", &sized("4KiB"), true),
        ("4KiB", &sized("1KiB"), false),
        ("1KiB", &plain, false),
        ("4KiB", &plain, true),
        ("1KiB", &discovered, false),
        ("4KiB", &discovered, true),
    ] {
        let yaml = format!("config: {{limits: {{jwksSize: {limit}}}}}\n{}", config(&inline(provider), ""));
        let ended = validate(&yaml, &["--output", "json"]);
        assert_eq!(ended.code == 0, good, "{limit} {provider}: {ended:?}");
        assert!(good || ended.out.contains("more than 1024 bytes"), "{limit} {provider}: {ended:?}");
    }
}

#[test]
fn clocks_that_differ_are_warned_of() {
    for (ahead, leeway, warned) in [(90, "", true), (20, "", false), (20, ", leeway: 30s", true)] {
        let idp = key_server(Duration::from_secs(ahead));
        let provider = provider(&idp).replace("issuer:", &format!("name: a{leeway}, issuer:"));
        let yaml = config(&inline(&provider), "");
        let ended = validate(&yaml, &["--output", "json"]);
        let told = ended.json();
        let found = findings(&told).contains(&"8 W018".to_owned());
        assert_eq!((ended.code, found), (0, warned), "{ahead}s {leeway}: {told:#}");
        if warned {
            let all = told["files"][0]["findings"].to_string();
            assert!(all.contains("s ahead of this machine's, and the leeway is"), "{all}");
            assert_eq!(validate(&yaml, &["--strict"]).code, 1);
        }
    }
}

#[test]
fn who_does_not_answer_is_waited_for_with_a_note_and_not_for_ever() {
    let silent = Backend::start(|_| Answer::hang());
    let provider = provider(&silent).replace("/keys'", "/keys', timeout: 1500ms");
    let began = Instant::now();
    let ended = validate(&config(&inline(&provider), ""), &[]);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("1s: waiting for keys of agentgateway.dev\n"), "{}", ended.err);
    assert!(ended.err.contains("no answer within 1.5s"), "{}", ended.err);
}

#[test]
fn keys_by_url_are_fetched_for_explain_and_inspect_when_that_is_asked_for() {
    let folder = TempDir::new();
    let (idp, gone) = (key_server(Duration::ZERO), nobody());
    let yaml = config(&inline(&provider(&idp)), "{host: 'a:1'}");
    let file = folder.write("gw.yaml", &yaml);
    let file = file.to_str().unwrap();
    let explain = |more: &[&str]| run(&[&["explain", "-f", file, "-t", ALICE], more, &["GET", "/"]].concat());

    let offline = explain(&[]);
    assert_eq!((offline.code, idp.requests().len()), (1, 0));
    assert!(offline.out.contains("=> 503 keys_unavailable\n"), "{}", offline.out);
    assert!(offline.out.contains("hint: keys by URL are not here yet. On the command line `--online` fetches them"));
    let online = explain(&["--online"]);
    assert_eq!((online.code, online.err.as_str(), idp.requests().len()), (0, "", 1), "{online:?}");
    assert!(online.out.contains("ok   signature good, of provider `agentgateway.dev`"), "{}", online.out);

    let inspect = |more: &[&str]| run(&[&["token", "inspect", ALICE, "-f", file], more].concat());
    assert_eq!(inspect(&[]).code, 1);
    assert!(inspect(&["--online"]).out.starts_with("VERIFIED by provider \"agentgateway.dev\""));

    let yaml = yaml.replace(&idp.address().to_string(), &gone.to_string());
    let failed = run(&["explain", "--online", "-c", &yaml, "-t", ALICE, "GET", "/"]);
    assert_eq!(failed.code, 1);
    assert!(failed.err.starts_with("error[E014]: <config>:8:"), "{}", failed.err);
    assert!(failed.out.contains("hint: the keys could not be fetched: http://"), "{}", failed.out);
}
