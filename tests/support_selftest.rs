//! Tests of the test support.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};
use support::mint::{self, Alg, Key};
use support::{Backend, Gate, RawClient, ScriptedResponse, TempDir, eventually};

#[test]
fn backend_records_requests_byte_for_byte() {
    let backend = Backend::ok();
    let request = "POST /a//b?c HTTP/1.1\r\nhOsT:  x \r\nTransfer-Encoding: chunked\r\n\r\n\
                   2;why=not\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n";
    let response = RawClient::connect(backend.address()).send(request).response();
    assert_eq!((response.status(), response.text()), (200, "ok"));
    let [recorded] = &backend.wait_for(1)[..] else { panic!("one request") };
    assert_eq!([&recorded.head[..], &recorded.raw_body].concat(), request.as_bytes());
    assert_eq!((recorded.method(), recorded.target(), recorded.header("host")), ("POST", "/a//b?c", Some("x")));
    assert_eq!((recorded.text(), recorded.trailers.get("x-sum")), ("hi", Some("1")));
}

#[test]
fn connection_is_reused_for_several_requests() {
    let backend = Backend::with_responses([
        ScriptedResponse::new(201, &[("x-one", "1")], "first"),
        ScriptedResponse::chunked(200, &[], &["sec", "ond"]),
        ScriptedResponse::head(204, &[]),
    ]);
    let mut client = RawClient::connect(backend.address());
    let first = client.get("/1", &[("x-a", "b")]);
    assert_eq!((first.status(), first.header("x-one"), first.text()), (201, Some("1"), "first"));
    assert_eq!(client.get("/2", &[]).text(), "second");
    assert_eq!(client.get("/3", &[]).status(), 204);
    assert_eq!(client.get("/4", &[]).status(), 500, "no scripted response is left");
    assert_eq!((backend.connections(), backend.requests().len()), (1, 4));
}

#[test]
fn backend_can_truncate_close_and_hang() {
    let truncated = ScriptedResponse::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    let backend = Backend::with_responses([
        truncated.clone().then_close(),
        truncated.stall(),
        ScriptedResponse::close(),
        ScriptedResponse::hang(),
    ]);
    let connect_and_send = || {
        let mut client = RawClient::connect(backend.address());
        client.send("GET / HTTP/1.1\r\n\r\n");
        client
    };
    assert!(connect_and_send().read_to_close().ends_with(b"\r\n\r\nhalf"));
    let mut stalled = connect_and_send();
    assert_eq!(stalled.response_head().status(), 200);
    assert_eq!(stalled.bytes(4), b"half");
    assert!(connect_and_send().is_closed());
    let mut hung = connect_and_send();
    backend.wait_for(4);
    drop(backend);
    assert!(hung.is_closed() && stalled.is_closed(), "dropping the backend closes hanging connections");
}

#[test]
fn response_waits_for_its_gate() {
    let gate = Gate::new();
    let backend = Backend::start({
        let gate = gate.clone();
        move |_| {
            ScriptedResponse::head(200, &[("transfer-encoding", "chunked")]).wait(&gate).chunk("late").send("0\r\n\r\n")
        }
    });
    let mut client = RawClient::connect(backend.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response_head().status(), 200);
    assert!(client.is_silent());
    gate.open();
    assert_eq!(client.bytes(14), b"4\r\nlate\r\n0\r\n\r\n");
}

#[test]
fn response_can_precede_the_body_or_follow_100_continue() {
    let early = Backend::start_on_head(|_| ScriptedResponse::new(413, &[], "no"));
    let mut client = RawClient::connect(early.address());
    client.send("PUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\nx");
    assert_eq!(client.response().status(), 413);
    assert!(!early.requests()[0].complete);
    client.send("y");
    assert_eq!(early.wait_for(1)[0].text(), "xy");

    let patient = Backend::ok();
    let mut client = RawClient::connect(patient.address());
    client.send("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.response().status(), 100);
    assert_eq!(client.send("ab").response().status(), 200);
}

#[test]
fn tunnel_echoes_every_byte() {
    let backend = Backend::start_on_head(|_| ScriptedResponse::head(101, &[("upgrade", "x")]).echo());
    let mut client = RawClient::connect(backend.address());
    assert_eq!(
        client.send("GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").response_head().status(),
        101
    );
    assert_eq!(client.send("ping").bytes(4), b"ping");
    assert!(client.finish().is_closed());
}

#[test]
fn delay_is_observed() {
    let pause = Duration::from_millis(30);
    let backend = Backend::start(move |_| ScriptedResponse::default().delay(pause).send("HTTP/1.1 204 No\r\n\r\n"));
    let start = std::time::Instant::now();
    assert_eq!(RawClient::connect(backend.address()).get("/", &[]).status(), 204);
    assert!(start.elapsed() >= pause);
}

#[test]
fn tokens_verify_with_an_independent_library() {
    let verify = |key: &Key, token: &str| {
        let set: JwkSet = serde_json::from_str(&mint::jwks([key])).unwrap();
        let header = jsonwebtoken::decode_header(token).unwrap();
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[mint::AUDIENCE]);
        validation.set_issuer(&[mint::ISSUER]);
        jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(&set.keys[0]).unwrap(), &validation)
    };
    for alg in Alg::ASYMMETRIC.into_iter().chain(Alg::SYMMETRIC) {
        let key = Key::new(alg, "k1");
        let token = key.token(&mint::claims_with(json!({"groups": ["admins"], "sub": null})));
        if alg == Alg::Es512 {
            // The library does not support ES512: verify with the crypto library directly.
            let (input, signature) = token.rsplit_once('.').unwrap();
            let decode = |text: &str| base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
            let jwk = key.jwk();
            let [x, y] = ["x", "y"].map(|name| decode(jwk[name].as_str().unwrap()).unwrap());
            let point = [&[4], &x[..], &y].concat();
            let public =
                aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P521_SHA512_FIXED, point);
            public.verify(input.as_bytes(), &decode(signature).unwrap()).expect("ES512");
            continue;
        }
        let decoded = verify(&key, &token).unwrap_or_else(|error| panic!("{alg:?}: {error}"));
        assert_eq!(decoded.claims["groups"], json!(["admins"]), "{alg:?}");
        assert!(decoded.claims.get("sub").is_none() && decoded.header.kid.as_deref() == Some("k1"));
        assert!(verify(&Key::new(alg, "k1"), &token).is_err(), "{alg:?} with another key");
    }
}

#[test]
fn example_tokens_are_signed_with_the_example_key() {
    let set = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/jwt/pub-key")).unwrap();
    let set: JwkSet = serde_json::from_str(&set).unwrap();
    let key = DecodingKey::from_jwk(&set.keys[0]).unwrap();
    let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&[mint::AUDIENCE]);
    validation.set_issuer(&[mint::ISSUER]);
    for (name, groups) in [("alice", json!(["admins"])), ("bob", json!(["users"]))] {
        let token = jsonwebtoken::decode::<Value>(mint::example_token(name), &key, &validation).unwrap();
        assert_eq!((&token.claims["sub"], &token.claims["groups"]), (&json!(name), &groups));
    }
    let minted = Key::example().token(&mint::claims());
    assert!(jsonwebtoken::decode::<Value>(minted, &key, &validation).is_ok());
    let expired = jsonwebtoken::decode::<Value>(mint::example_token("expired"), &key, &validation).unwrap_err();
    assert_eq!(*expired.kind(), jsonwebtoken::errors::ErrorKind::ExpiredSignature);
}

#[test]
fn private_jwk_is_parsed() {
    // RFC 8037, appendix A: the key, and the signature of the input in the example.
    let key = Key::from_jwk(&json!({
        "kty": "OKP", "crv": "Ed25519",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }));
    assert_eq!(
        key.compact(r#"{"alg":"EdDSA"}"#, "Example of Ed25519 signing"),
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
         hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}

#[test]
fn temporary_directory_is_removed_on_drop() {
    let (first, second) = (TempDir::new(), TempDir::new());
    assert_ne!(first.path(), second.path());
    let file = first.write("a.yaml", "binds: []");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "binds: []");
    drop(first);
    assert!(!file.exists() && second.path().exists());
}

#[test]
fn eventually_waits_for_a_value() {
    let mut remaining = 3;
    let found = eventually(Duration::from_secs(5), "a countdown", || {
        remaining -= 1;
        (remaining == 0).then_some("zero")
    });
    assert_eq!(found, "zero");
    let closed_address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let timed_out = std::panic::catch_unwind(|| eventually(Duration::from_millis(5), "never", || None::<()>));
    assert!(timed_out.is_err() && std::net::TcpStream::connect(closed_address).is_err());
}

/// Tests of the backend in `examples/echo.rs`.
mod echo_backend {
    use bytes::Bytes;
    use http::Request;
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use crate::support::start_echo_backend;

    #[tokio::test]
    async fn responds_over_http1_with_the_request() {
        let mut client = TcpStream::connect(start_echo_backend()).await.unwrap();
        let request = "POST /a%20b?c=d HTTP/1.1\r\nHost: Api.example:80\r\nX-One: 1\r\nx-one: \"2\"\r\n\
                       Connection: close\r\nContent-Length: 3\r\n\r\nxyz";
        client.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"), "{head}");
        let lines = [
            "{",
            "  \"method\": \"POST\",",
            "  \"path\": \"/a%20b\",",
            "  \"query\": \"c=d\",",
            "  \"host\": \"Api.example:80\",",
            "  \"headers\": {",
            "    \"connection\": [\"close\"],",
            "    \"content-length\": [\"3\"],",
            "    \"host\": [\"Api.example:80\"],",
            "    \"x-one\": [\"1\",\"\\\"2\\\"\"]",
            "  },",
            "  \"bodyBytes\": 3",
            "}\n",
        ];
        assert_eq!(body, lines.join("\n"));
        assert!(serde_json::from_str::<Value>(body).is_ok());
    }

    #[tokio::test]
    async fn responds_over_http2_with_prior_knowledge() {
        let stream = TcpStream::connect(start_echo_backend()).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        drop(tokio::spawn(connection));
        let request = Request::get("http://h2.example/x").body(Full::<Bytes>::default()).unwrap();
        let body = client.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        let echoed: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            echoed,
            json!({"method": "GET", "path": "/x", "query": null, "host": "h2.example", "headers": {}, "bodyBytes": 0})
        );
    }

    #[tokio::test]
    async fn split_preface_is_http2() {
        let mut client = TcpStream::connect(start_echo_backend()).await.unwrap();
        client.set_nodelay(true).unwrap();
        for chunk in ["P", "R", "I * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            client.write_all(chunk.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // an empty SETTINGS frame
        let mut frame = [0; 9];
        client.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[3], 4, "the server's SETTINGS: {frame:?}");
    }
}
