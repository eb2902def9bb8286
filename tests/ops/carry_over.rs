//! State that survives a reload.

use std::time::Duration;

use super::{TestGateway, load, named_backend, yaml};
use crate::support::mint::{self, Alg, Key};
use crate::support::{Backend, RawClient, ScriptedResponse, TEST_TIMEOUT, closed_port, eventually};

/// Reloads with an additional route and with every line moved.
fn reload(ops: &TestGateway, text: &str) {
    let generation = ops.generation();
    let other = format!(
        "# generation {generation}\n{text}    - name: more{generation}\n      matches: [{{path: {{exact: /more}}}}]\n"
    );
    ops.gateway().replace(load(&other).unwrap()).unwrap();
    assert_eq!(ops.generation(), generation + 1);
}

#[test]
fn rate_limit_buckets_survive_a_reload_while_their_limit_is_unchanged() {
    let backend = Backend::ok();
    let limit = "localRateLimit: {maxTokens: 2, tokensPerFill: 1, fillInterval: 1h";
    let text = yaml(
        backend.address(),
        &format!(
            "      name: one\n      matches: [{{path: {{pathPrefix: /one}}}}]\n      policies: {{{limit}}}}}\n\
             \x20   - name: two\n      backends: [{{host: '{0}'}}]\n      matches: [{{path: {{pathPrefix: /two}}}}]\n      policies: {{{limit}}}}}\n\
             \x20   - name: key\n      backends: [{{host: '{0}'}}]\n      matches: [{{path: {{pathPrefix: /key}}}}]\n      policies: {{{limit}, key: 'request.headers[\"x-user\"]'}}}}\n",
            backend.address()
        ),
    );
    let ops = TestGateway::start(&text);
    let user = |name: &str| ops.client().get("/key", &[("x-user", name)]).status();
    assert_eq!((ops.status("/one"), ops.status("/one"), ops.status("/one")), (200, 200, 429));
    assert_eq!((user("a"), user("a"), user("a"), user("b")), (200, 200, 429, 200));
    reload(&ops, &text);
    assert_eq!((ops.status("/one"), user("a")), (429, 429), "a reload adds no tokens");
    assert_eq!((ops.status("/two"), user("b"), user("b")), (200, 200, 429), "the other buckets keep their tokens");
    // a different limit has a new bucket
    let wider = text.replacen("maxTokens: 2", "maxTokens: 3", 1);
    reload(&ops, &wider);
    assert_eq!((ops.status("/one"), ops.status("/two"), ops.status("/two")), (200, 200, 429));
}

#[test]
fn a_verified_password_is_not_hashed_again() {
    let backend = Backend::ok();
    // expensive enough to measure whether the hash is computed again
    let hash = bcrypt::hash("secret", 11).unwrap();
    let text = yaml(backend.address(), &format!("      policies: {{basicAuth: {{htpasswd: 'alice:{hash}'}}}}\n"));
    let ops = TestGateway::start(&text);
    let login = |text: &str| {
        let start = std::time::Instant::now();
        let headers = [("authorization", text)];
        (ops.client().get("/", &headers).status(), start.elapsed())
    };
    let good = "Basic YWxpY2U6c2VjcmV0";
    let (status, first) = login(good);
    assert_eq!(status, 200);
    reload(&ops, &text);
    let (status, second) = login(good);
    assert!(status == 200 && second < first / 2, "{status}: {first:?} before, {second:?} after");
    assert_eq!(login("Basic YWxpY2U6d3Jvbmc=").0, 401);
    // after a password change, earlier verifications are void
    let other = text.replace(&hash, &bcrypt::hash("other", 4).unwrap());
    ops.gateway().replace(load(&other).unwrap()).unwrap();
    assert_eq!((login(good).0, login("Basic YWxpY2U6b3RoZXI=").0), (401, 200));
}

#[test]
fn upstream_connections_and_verified_tokens_survive_a_reload() {
    let key = Key::new(Alg::Es256, "k");
    let backend = Backend::ok();
    let text = yaml(
        backend.address(),
        &format!(
            "      policies: {{jwtAuth: {{mode: strict, issuer: agentgateway.dev, jwks: {{inline: '{}'}}}}}}\n",
            mint::jwks([&key])
        ),
    );
    let ops = TestGateway::start(&text.replace("workerThreads: 2", "workerThreads: 1"));
    let bearer = format!("Bearer {}", key.token(&mint::claims()));
    let mut client = ops.client();
    let mut status = || client.get("/", &[("authorization", &bearer)]).status();
    assert_eq!((status(), status()), (200, 200));
    assert!(ops.has_metric("portcullis_jwt_cache_hits_total 1"), "{}", ops.metrics());
    reload(&ops, &text.replace("workerThreads: 2", "workerThreads: 1"));
    assert_eq!(status(), 200);
    assert!(ops.has_metric("portcullis_jwt_cache_hits_total 2"), "{}", ops.metrics());
    assert_eq!(backend.connections(), 1);
    // the requirements on the token have changed, so it is verified again
    let other = text.replace("workerThreads: 2", "workerThreads: 1").replace("agentgateway.dev", "elsewhere");
    ops.gateway().replace(load(&other).unwrap()).unwrap();
    assert_eq!(status(), 401);
}

#[test]
fn an_ejected_endpoint_stays_ejected_after_a_reload() {
    let good = named_backend("good");
    let hosts = format!(
        "hosts: ['{}', '{}'], policies: {{health: {{consecutiveFailures: 1, ejectionTime: 1h}}}}",
        closed_port(),
        good.address()
    );
    let text = yaml(good.address(), "").replace(&format!("host: '{}'", good.address()), &hosts);
    let ops = TestGateway::start(&text);
    eventually(TEST_TIMEOUT, "the closed port is tried once", || (ops.status("/") != 200).then_some(()));
    for round in 0..40 {
        if round % 10 == 0 {
            reload(&ops, &text);
        }
        assert_eq!(ops.status("/"), 200, "round {round}");
    }
}

#[test]
fn fetched_keys_survive_a_reload_without_a_new_fetch() {
    let key = Key::new(Alg::Es256, "k");
    let set = mint::jwks([&key]);
    let idp = Backend::start(move |_| ScriptedResponse::new(200, &[("content-type", "application/json")], &set));
    let backend = Backend::ok();
    let url = format!("http://{}/keys", idp.address());
    let text = yaml(
        backend.address(),
        &format!("      policies: {{jwtAuth: {{mode: strict, issuer: agentgateway.dev, jwks: {{url: '{url}'}}}}}}\n"),
    );
    let ops = TestGateway::start(&text);
    let bearer = format!("Bearer {}", key.token(&mint::claims()));
    let status = || RawClient::connect(ops.address()).get("/", &[("authorization", &bearer)]).status();
    eventually(TEST_TIMEOUT, "keys", || (status() == 200).then_some(()));
    drop(idp);
    for _ in 0..5 {
        reload(&ops, &text);
        assert_eq!(status(), 200);
    }
    std::thread::sleep(Duration::from_millis(20));
    assert!(ops.has_metric("portcullis_jwks_keys{provider=\"agentgateway.dev\"} 1"));
}

#[test]
fn fetched_keys_survive_changed_fetch_settings_while_the_issuer_is_down() {
    let key = Key::new(Alg::Es256, "k");
    let set = mint::jwks([&key]);
    let idp = Backend::start(move |_| ScriptedResponse::new(200, &[("content-type", "application/json")], &set));
    let backend = Backend::ok();
    let with = |more: &str| {
        let url = format!("http://{}/keys", idp.address());
        let jwks = format!("{{url: '{url}'{more}}}");
        let policy = format!("jwtAuth: {{mode: strict, issuer: agentgateway.dev, jwks: {jwks}}}");
        yaml(backend.address(), &format!("      policies: {{{policy}}}\n"))
    };
    let ops = TestGateway::start(&with(""));
    let bearer = format!("Bearer {}", key.token(&mint::claims()));
    let status = || RawClient::connect(ops.address()).get("/", &[("authorization", &bearer)]).status();
    eventually(TEST_TIMEOUT, "keys", || (status() == 200).then_some(()));
    let changes = [", cacheDuration: 10m", ", timeout: 3s, maxSize: 2MiB", ", staleFor: 1h, retry: {attempts: 0}"];
    let texts = changes.map(with);
    let elsewhere = with(&format!(", connectTo: '{}'", closed_port()));
    drop(idp);
    for text in &texts {
        reload(&ops, text);
        assert_eq!(status(), 200, "{text}");
    }
    reload(&ops, &elsewhere);
    assert_eq!(status(), 503, "the cached keys came from another address");
}
