//! Network checks: `validate --online`, and remote keys for `explain` and `token inspect`.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{Backend, RecordedRequest, ScriptedResponse, TempDir, closed_port};
use super::{ALICE, CommandOutput, ROOT, run};

/// Returns the key set for the tokens in `manifests/jwt`.
fn keys() -> String {
    std::fs::read_to_string(format!("{ROOT}/manifests/jwt/pub-key")).unwrap()
}

fn date(ahead: Duration) -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now() + ahead)
}

/// Starts a key server whose clock is ahead.
fn key_server(ahead: Duration) -> Backend {
    Backend::start(move |_| ScriptedResponse::new(200, &[("date", &date(ahead))], keys()))
}

/// A provider with local keys.
const LOCAL: &str = "{issuer: a, audiences: [b], jwks: {file: ./manifests/jwt/pub-key}}";

/// Returns a config with one route that requires a token, with this provider and these backends.
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

/// Returns the `providers` entry for a provider.
fn inline(provider: &str) -> String {
    format!("providers: [{provider}]")
}

fn validate(yaml: &str, more: &[&str]) -> CommandOutput {
    run(&[&["validate", "--online", "-c", yaml], more].concat())
}

/// Returns `line id` for each finding.
fn findings(report: &Value) -> Vec<String> {
    let all = report["files"][0]["findings"].as_array().unwrap();
    all.iter().map(|finding| format!("{} {}", finding["line"], finding["id"].as_str().unwrap())).collect()
}

#[test]
fn reachable_targets_are_reported() {
    let (idp, backend) = (key_server(Duration::ZERO), Backend::ok());
    let (address, port) = (backend.address(), backend.address().port());
    let hosts = format!("{{host: '{address}'}}, {{host: 'localhost:{port}', weight: 0}}, {{host: '{address}'}}");
    let yaml = config(&inline(&provider(&idp)), &hosts);
    let good = validate(&yaml, &["--output", "json"]);
    assert_eq!(good.code, 0, "{good:?}");
    let report = good.json();
    assert_eq!(findings(&report), ["8 W005"], "{report:#}");
    let online = report["files"][0]["online"].as_array().unwrap();
    let targets: Vec<&str> = online.iter().map(|result| result["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["keys of agentgateway.dev".to_owned(), format!("backend {address}")], "each once");
    assert!(online.iter().all(|result| result["ok"] == true && result["millis"].is_u64()), "{report:#}");
    let found = online[0]["found"].as_str().unwrap();
    assert!(found.starts_with(&format!("1 key from http://{}/keys, clocks ", idp.address())), "{found}");
    assert!(backend.requests().is_empty(), "nothing is sent to a backend");

    let text = validate(&yaml, &[]);
    assert!(text.out.contains(&format!("\n  ok   backend {address}: reached (")), "{}", text.out);
    assert!(text.out.starts_with("<config>: ok: "), "{}", text.out);
    assert_eq!(idp.requests().len(), 2);
    assert!(
        run(&["validate", "-c", &yaml]).code == 0 && idp.requests().len() == 2,
        "no network requests without --online"
    );
}

/// Starts a server that sends a greeting before the client, without TLS.
fn start_smtp_server() -> SocketAddr {
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
fn unreachable_targets_are_errors_at_their_line() {
    let (smtp, unreachable) = (start_smtp_server(), closed_port());
    for (provider, backends, expected, says) in [
        (LOCAL, format!("{{host: '{unreachable}'}}"), "10 E013", "refused"),
        (LOCAL, "{host: 'no-such-name.invalid:80'}".to_owned(), "10 E013", "cannot resolve the name"),
        (LOCAL, format!("{{host: 'https://{smtp}'}}"), "10 E013", "cannot reach"),
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
        let output = validate(&yaml, &["--output", "json"]);
        let report = output.json();
        assert_eq!(
            (output.code, findings(&report)),
            (1, vec![expected.to_owned()]),
            "{provider} {backends}: {report:#}"
        );
        assert_eq!((&report["files"][0]["ok"], &report["files"][0]["online"][0]["ok"]), (&false.into(), &false.into()));
        let message = report["files"][0]["findings"][0]["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
        let github = validate(&yaml, &["--output", "github"]);
        let (line, id) = expected.split_once(' ').unwrap();
        assert!(github.out.contains(&format!("::error file=<config>,line={line},col=")), "{}", github.out);
        assert!(github.out.contains(&format!(",title={id} ")) && github.code == 1, "{}", github.out);
        let text = validate(&yaml, &[]);
        assert!(text.err.starts_with(&format!("error[{id}]: <config>:{line}:")), "{}", text.err);
        assert!(text.out.starts_with("<config>: FAIL: ") && text.out.contains("\n  FAIL "), "{}", text.out);
    }
}

#[test]
fn invalid_key_responses_are_reported_with_a_hint() {
    let discovery = |issuer: &str| {
        let issuer = issuer.to_owned();
        move |_: &RecordedRequest| {
            ScriptedResponse::new(200, &[], format!("{{\"issuer\": \"{issuer}\", \"jwks_uri\": \"http://a\"}}"))
        }
    };
    let not_found = Backend::start(|_| ScriptedResponse::new(404, &[], "no"));
    let page = Backend::start(|_| ScriptedResponse::new(200, &[], "<html>"));
    let other = Backend::start(discovery("https://another.example"));
    let by_url = |server: &Backend| provider(server);
    let by_issuer = |server: &Backend| format!("{{issuer: 'http://{}'}}", server.address());
    for (provider, says, hint) in [
        (by_url(&not_found), "status 404", "jwks_uri"),
        (by_url(&page), "", "jwks_uri"),
        (by_issuer(&other), "the document's issuer is `https://another.example`", "compared exactly"),
    ] {
        let report = validate(&config(&inline(&provider), ""), &["--output", "json"]).json();
        let finding =
            report["files"][0]["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == "E014").unwrap();
        let text = |name: &str| finding[name].as_str().unwrap_or_default();
        assert!(text("message").contains(says) && text("hint").contains(hint), "{finding:#}");
    }
}

#[test]
fn max_size_of_a_url_overrides_the_global_limit() {
    let big = format!("{{\"x\": \"{}\", {}", "a".repeat(3000), keys().trim_start().strip_prefix('{').unwrap());
    let large = big.clone();
    let idp = Backend::start(move |_| ScriptedResponse::new(200, &[], large.as_str()));
    let issuer = Backend::start(move |request| {
        let issuer = format!("http://{}", request.header("host").unwrap());
        match request.target() {
            "/keys" => ScriptedResponse::new(200, &[], big.as_str()),
            _ => ScriptedResponse::new(
                200,
                &[],
                format!("{{\"issuer\": \"{issuer}\", \"jwks_uri\": \"{issuer}/keys\"}}"),
            ),
        }
    });
    let plain = provider(&idp);
    let sized = |size: &str| plain.replace("/keys'", &format!("/keys', maxSize: {size}"));
    let discovered = format!("{{issuer: 'http://{}'}}", issuer.address());
    for (limit, provider, accepted) in [
        ("1KiB", &sized("4KiB"), true),
        ("4KiB", &sized("1KiB"), false),
        ("1KiB", &plain, false),
        ("4KiB", &plain, true),
        ("1KiB", &discovered, false),
        ("4KiB", &discovered, true),
    ] {
        let yaml = format!("config: {{limits: {{jwksSize: {limit}}}}}\n{}", config(&inline(provider), ""));
        let output = validate(&yaml, &["--output", "json"]);
        assert_eq!(output.code == 0, accepted, "{limit} {provider}: {output:?}");
        assert!(accepted || output.out.contains("more than 1024 bytes"), "{limit} {provider}: {output:?}");
    }
}

#[test]
fn clock_differences_cause_warnings() {
    for (ahead, leeway, warned) in [(90, "", true), (20, "", false), (20, ", leeway: 30s", true)] {
        let idp = key_server(Duration::from_secs(ahead));
        let provider = provider(&idp).replace("issuer:", &format!("name: a{leeway}, issuer:"));
        let yaml = config(&inline(&provider), "");
        let output = validate(&yaml, &["--output", "json"]);
        let report = output.json();
        let found = findings(&report).contains(&"8 W018".to_owned());
        assert_eq!((output.code, found), (0, warned), "{ahead}s {leeway}: {report:#}");
        if warned {
            let all = report["files"][0]["findings"].to_string();
            assert!(all.contains("s ahead of this machine's, and the leeway is"), "{all}");
            assert_eq!(validate(&yaml, &["--strict"]).code, 1);
        }
    }
}

#[test]
fn silent_servers_time_out_with_progress_messages() {
    let silent = Backend::start(|_| ScriptedResponse::hang());
    let provider = provider(&silent).replace("/keys'", "/keys', timeout: 1500ms");
    let started = Instant::now();
    let output = validate(&config(&inline(&provider), ""), &[]);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert_eq!(output.code, 1);
    assert!(output.err.contains("1s: waiting for keys of agentgateway.dev\n"), "{}", output.err);
    assert!(output.err.contains("no response within 1.5s"), "{}", output.err);
}

#[test]
fn explain_and_inspect_fetch_remote_keys_with_online() {
    let folder = TempDir::new();
    let (idp, gone) = (key_server(Duration::ZERO), closed_port());
    let yaml = config(&inline(&provider(&idp)), "{host: 'a:1'}");
    let file = folder.write("gw.yaml", &yaml);
    let file = file.to_str().unwrap();
    let explain = |more: &[&str]| run(&[&["explain", "-f", file, "-t", ALICE], more, &["GET", "/"]].concat());

    let offline = explain(&[]);
    assert_eq!((offline.code, idp.requests().len()), (1, 0));
    assert!(offline.out.contains("=> 503 keys_unavailable\n"), "{}", offline.out);
    assert!(
        offline.out.contains("hint: remote keys have not been fetched. On the command line, `--online` fetches them")
    );
    let online = explain(&["--online"]);
    assert_eq!((online.code, online.err.as_str(), idp.requests().len()), (0, "", 1), "{online:?}");
    assert!(online.out.contains("ok   signature valid, provider `agentgateway.dev`"), "{}", online.out);

    let inspect = |more: &[&str]| run(&[&["token", "inspect", ALICE, "-f", file], more].concat());
    assert_eq!(inspect(&[]).code, 1);
    assert!(inspect(&["--online"]).out.starts_with("VERIFIED by provider \"agentgateway.dev\""));

    let yaml = yaml.replace(&idp.address().to_string(), &gone.to_string());
    let failed = run(&["explain", "--online", "-c", &yaml, "-t", ALICE, "GET", "/"]);
    assert_eq!(failed.code, 1);
    assert!(failed.err.starts_with("error[E014]: <config>:8:"), "{}", failed.err);
    assert!(failed.out.contains("hint: the keys could not be fetched: http://"), "{}", failed.out);
}
