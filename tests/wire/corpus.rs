//! Raw requests from the test suites of other projects, and mutations of requests, sent to a recording backend. The backend
//! sees only requests that are in the access log, no matter what the client sends.
//!
//! `PORTCULLIS_VECTORS` is the folder with `http1_corpus.jsonl` (from nodejs/llhttp and aws/http-desync-guardian).

use std::sync::Mutex;

use base64::Engine;
use serde_json::Value;

use crate::support::{Backend, InProcessGateway, RecordedRequest, TEST_TIMEOUT, eventually, vectors};

/// The number of rows that run at a time. Most of them wait for a timeout.
const CONCURRENCY: usize = 12;

/// The outcome of a row.
struct Outcome {
    statuses: Vec<u16>,
    seen: Vec<RecordedRequest>,
    /// The access-log lines of these requests.
    logged: Vec<Value>,
}

#[test]
#[ignore = "needs PORTCULLIS_VECTORS"]
fn backend_receives_from_the_vectors_only_what_the_gateway_accounted_for() {
    let folder = vectors();
    let text = std::fs::read_to_string(folder.join("http1_corpus.jsonl")).expect("the corpus");
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    assert!(rows.len() >= 325, "{}", rows.len());
    let queue = Mutex::new(rows.iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                while let Some(row) = { queue.lock().unwrap().next() } {
                    for (raw, expect) in variants(row) {
                        let outcome = send(&raw);
                        if let Err(why) = check_outcome(&outcome, &expect, row["incomplete"] == true) {
                            wrong.lock().unwrap().push(format!(
                                "{} expects {expect}: {why}\n  sent {:?}\n  got {:?}, the backend saw {:?}",
                                row["id"],
                                String::from_utf8_lossy(&raw),
                                outcome.statuses,
                                outcome.seen.iter().map(|r| String::from_utf8_lossy(&r.head)).collect::<Vec<_>>()
                            ));
                        }
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// Returns the row with a host and its expectation, and the row without a host, which must not be forwarded.
fn variants(row: &Value) -> Vec<(Vec<u8>, String)> {
    let bytes = |name: &str| {
        row[name].as_str().map(|text| base64::engine::general_purpose::STANDARD.decode(text).expect("base64"))
    };
    let departure = DEPARTURES.iter().find(|(id, ..)| row["id"] == *id).map(|(_, expect, _)| *expect);
    let expect =
        departure.or(row["gateway_expect"].as_str()).or(row["expect"].as_str()).expect("an expectation").to_owned();
    let raw = bytes("raw_b64").expect("bytes");
    match bytes("raw_with_host_b64") {
        Some(with_host) => vec![(with_host, expect), (raw, "reject".to_owned())],
        None => vec![(raw, expect)],
    }
}

fn send(raw: &[u8]) -> Outcome {
    let backend = Backend::ok();
    let gateway = InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{headTimeout: 200ms, idleTimeout: 200ms, stallTimeout: 200ms}}}}
binds: [{{port: 0, address: 127.0.0.1, listeners: [{{routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ));
    let mut client = gateway.client();
    client.send(raw);
    let received = client.read_to_close();
    let text = String::from_utf8_lossy(&received);
    let statuses: Vec<u16> =
        text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok()).collect();
    let finals = statuses.iter().filter(|status| **status >= 200).count();
    let logged = eventually(TEST_TIMEOUT, "a line for every response", || {
        let log = gateway.log();
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= finals).then_some(lines)
    });
    gateway.stop();
    Outcome { statuses, seen: backend.requests(), logged }
}

/// Checks that the backend saw only requests that were authorized and answered, each with unambiguous framing.
fn check_accounted(outcome: &Outcome) -> Result<(), String> {
    let mut forwarded = outcome.logged.iter().filter(|line| line.get("backend").is_some());
    for seen in &outcome.seen {
        let path = seen.target().split('?').next().unwrap_or_default();
        match forwarded.find(|line| line["request.id"].as_str() == seen.header("x-request-id")) {
            Some(line) if line["method"] == seen.method() && line["path"] == path => {}
            Some(line) => return Err(format!("the access log has {} {}", line["method"], line["path"])),
            None => return Err(format!("not in the access log: {}", seen.start_line)),
        }
        if seen.headers.values("content-length").len() + seen.headers.values("transfer-encoding").len() > 1 {
            return Err("ambiguous framing".to_owned());
        }
    }
    Ok(())
}

fn check_outcome(outcome: &Outcome, expect: &str, incomplete: bool) -> Result<(), String> {
    check_accounted(outcome)?;
    let finals: Vec<u16> = outcome.statuses.iter().copied().filter(|status| *status >= 200).collect();
    let (first, last) = (finals.first().copied(), finals.last().copied());
    let complete = outcome.seen.iter().filter(|seen| seen.complete).count();
    let succeeded = finals.iter().filter(|status| **status == 200).count();
    if complete != succeeded {
        return Err(format!("{succeeded} responses to {complete} requests"));
    }
    let good = match expect {
        "accept" | "upgrade" if incomplete => !outcome.seen.is_empty(),
        "accept" | "upgrade" => first == Some(200),
        "accept-then-close" => finals == [200],
        "accept-or-reject" | "normalise-or-reject" => matches!(first, Some(200 | 400..=499 | 501)) || incomplete,
        // requests before the bad one in the same row may be valid
        "reject" | "lenient-only" => match last {
            Some(status) => matches!(status, 400..=499 | 501),
            None => outcome.seen.is_empty(),
        },
        "incomplete" => complete == 0,
        other => return Err(format!("unknown expectation: {other}")),
    };
    if good { Ok(()) } else { Err("unexpected outcome".to_owned()) }
}

/// Rows for which the gateway deliberately differs from the origin of the row, and the reason.
const DEPARTURES: [(&str, &str, &str); 18] = [
    ("llhttp/connection/4", "accept-then-close", "what follows a closing request is dropped, not rejected"),
    ("llhttp/connection/11", "accept-then-close", "the same"),
    ("llhttp/invalid/6", "normalise-or-reject", "a bare line feed ends a line for the gateway and for the backend"),
    ("llhttp/invalid/10", "normalise-or-reject", "the same"),
    ("llhttp/invalid/18", "normalise-or-reject", "the same"),
    ("llhttp/lenient-header-value-relaxed/3", "normalise-or-reject", "the same"),
    ("llhttp/sample/3", "reject", "`=` is not valid in a host name"),
    ("llhttp/sample/4", "reject", "the same"),
    ("llhttp/transfer-encoding/9", "normalise-or-reject", "chunk extensions are not passed on"),
    ("llhttp/transfer-encoding/11", "normalise-or-reject", "the same"),
    (
        "llhttp/transfer-encoding/30",
        "normalise-or-reject",
        "chunks are encoded again, so a blank after a size is dropped",
    ),
    ("llhttp/transfer-encoding/31", "normalise-or-reject", "the same"),
    ("llhttp/uri/1", "reject", "the parser rejects quotes in a query"),
    ("llhttp/uri/8", "normalise-or-reject", "a fragment is dropped before authorization"),
    ("desync-guardian/rfc-compliant/12", "normalise-or-reject", "the same"),
    ("desync-guardian/uri-specific-test-cases/11", "reject", "control characters in a path are rejected, even encoded"),
    ("desync-guardian/uri-specific-test-cases/13", "reject", "the same"),
    ("desync-guardian/uri-specific-test-cases/14", "reject", "the same"),
];

/// The requests that are mutated.
const SEEDS: [&str; 6] = [
    "GET /a/../b%2e?q=1 HTTP/1.1\r\nHost: victim.example\r\nX-A: 1\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: victim.example\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: victim.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: victim.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET http://victim.example/x HTTP/1.1\r\nHost: victim.example\r\nConnection: keep-alive, x-a\r\nX-A: 1\r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: victim.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /z HTTP/1.1\r\n\r\n",
];
/// The fragments that mutations insert.
const FRAGMENTS: [&str; 20] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    "chunked",
    "identity",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 05\r\n",
    "Host: evil.example\r\n",
    "0\r\n\r\n",
    "%2f",
    "..",
    "//",
    "\u{b}",
    "\u{e9}",
];

/// Sends random mutations. The random numbers are the same in every run, so that failures can be reproduced.
#[test]
fn mutated_requests_do_not_reach_the_backend_unlogged() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut cases = Vec::new();
    for number in 0..240 {
        // two requests, of which the first is mutated: it must not turn into two
        let mut raw = SEEDS[number % SEEDS.len()].as_bytes().to_vec();
        for _ in 0..=draw(3) {
            let at = draw(raw.len() + 1);
            match draw(4) {
                0 => drop(raw.drain(at..(at + 1 + draw(4)).min(raw.len()))),
                1 if at < raw.len() => raw[at] ^= 1 << draw(8),
                _ => drop(raw.splice(at..at, FRAGMENTS[draw(FRAGMENTS.len())].bytes())),
            }
        }
        raw.extend_from_slice(SEEDS[1].as_bytes());
        cases.push(raw);
    }
    let queue = Mutex::new(cases.iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                while let Some(raw) = { queue.lock().unwrap().next() } {
                    let outcome = send(raw);
                    if let Err(why) = check_accounted(&outcome) {
                        let sent = String::from_utf8_lossy(raw);
                        wrong.lock().unwrap().push(format!("{why}: {sent:?} got {:?}", outcome.statuses));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
