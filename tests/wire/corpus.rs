//! The raw requests of other projects' test suites, one by one, in front of a recording backend. What the backend sees
//! is what the gateway accounts for, whatever a client sends.
//!
//! `PORTCULLIS_VECTORS` names the folder that has `http1_corpus.jsonl` (from nodejs/llhttp and
//! aws/http-desync-guardian); without it there is nothing to run, and the test says so.

use std::sync::Mutex;

use base64::Engine;
use serde_json::Value;

use crate::support::{Backend, InProcessGateway, RecordedRequest, TEST_TIMEOUT, eventually, vectors};

/// How many rows are tried at a time: most of a row's time is waiting for a limit.
const CONCURRENCY: usize = 12;

/// What came of a row.
struct Outcome {
    statuses: Vec<u16>,
    seen: Vec<RecordedRequest>,
    /// Lines of the access log for these requests.
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

/// The row with a host, and what it expects; and the row without one, which is never forwarded.
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
    let answer = client.read_to_close();
    let text = String::from_utf8_lossy(&answer);
    let statuses: Vec<u16> =
        text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok()).collect();
    let finals = statuses.iter().filter(|status| **status >= 200).count();
    let logged = eventually(TEST_TIMEOUT, "a line for every answer", || {
        let log = gateway.log();
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= finals).then_some(lines)
    });
    gateway.stop();
    Outcome { statuses, seen: backend.requests(), logged }
}

/// Whether the backend saw what was judged and answered, in one framing, and nothing else.
fn check_accounted(outcome: &Outcome) -> Result<(), String> {
    let mut forwarded = outcome.logged.iter().filter(|line| line.get("backend").is_some());
    for seen in &outcome.seen {
        let path = seen.target().split('?').next().unwrap_or_default();
        match forwarded.find(|line| line["request.id"].as_str() == seen.header("x-request-id")) {
            Some(line) if line["method"] == seen.method() && line["path"] == path => {}
            Some(line) => return Err(format!("judged was {} {}", line["method"], line["path"])),
            None => return Err(format!("nobody accounted for {}", seen.start_line)),
        }
        if seen.headers.values("content-length").len() + seen.headers.values("transfer-encoding").len() > 1 {
            return Err("a framing that can be read in two ways".to_owned());
        }
    }
    Ok(())
}

fn check_outcome(outcome: &Outcome, expect: &str, incomplete: bool) -> Result<(), String> {
    check_accounted(outcome)?;
    let finals: Vec<u16> = outcome.statuses.iter().copied().filter(|status| *status >= 200).collect();
    let (first, last) = (finals.first().copied(), finals.last().copied());
    let complete = outcome.seen.iter().filter(|seen| seen.complete).count();
    let well = finals.iter().filter(|status| **status == 200).count();
    if complete != well {
        return Err(format!("{well} answers to {complete} requests"));
    }
    let good = match expect {
        "accept" | "upgrade" if incomplete => !outcome.seen.is_empty(),
        "accept" | "upgrade" => first == Some(200),
        "accept-then-close" => finals == [200],
        "accept-or-reject" | "normalise-or-reject" => matches!(first, Some(200 | 400..=499 | 501)) || incomplete,
        // what stands before the bad request in the same row may be good
        "reject" | "lenient-only" => match last {
            Some(status) => matches!(status, 400..=499 | 501),
            None => outcome.seen.is_empty(),
        },
        "incomplete" => complete == 0,
        other => return Err(format!("an expectation of a new kind: {other}")),
    };
    if good { Ok(()) } else { Err("that is not what came of it".to_owned()) }
}

/// Rows of which the contract says something else than their origin, and why.
const DEPARTURES: [(&str, &str, &str); 18] = [
    ("llhttp/connection/4", "accept-then-close", "what follows a closing request is dropped, not refused"),
    ("llhttp/connection/11", "accept-then-close", "the same"),
    ("llhttp/invalid/6", "normalise-or-reject", "a bare line feed is one line end to the judge and to the backend"),
    ("llhttp/invalid/10", "normalise-or-reject", "the same"),
    ("llhttp/invalid/18", "normalise-or-reject", "the same"),
    ("llhttp/lenient-header-value-relaxed/3", "normalise-or-reject", "the same"),
    ("llhttp/sample/3", "reject", "no host has a `=` in its name"),
    ("llhttp/sample/4", "reject", "the same"),
    ("llhttp/transfer-encoding/9", "normalise-or-reject", "chunk extensions are not passed on, however they look"),
    ("llhttp/transfer-encoding/11", "normalise-or-reject", "the same"),
    ("llhttp/transfer-encoding/30", "normalise-or-reject", "chunks are made anew, so a blank behind a size is gone"),
    ("llhttp/transfer-encoding/31", "normalise-or-reject", "the same"),
    ("llhttp/uri/1", "reject", "quotes in a query are refused by the parser"),
    ("llhttp/uri/8", "normalise-or-reject", "a fragment is dropped before anything is judged"),
    ("desync-guardian/rfc-compliant/12", "normalise-or-reject", "the same"),
    ("desync-guardian/uri-specific-test-cases/11", "reject", "control characters in a path are refused, also encoded"),
    ("desync-guardian/uri-specific-test-cases/13", "reject", "the same"),
    ("desync-guardian/uri-specific-test-cases/14", "reject", "the same"),
];

/// Requests that the mutations begin with.
const SEEDS: [&str; 6] = [
    "GET /a/../b%2e?q=1 HTTP/1.1\r\nHost: victim.example\r\nX-A: 1\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: victim.example\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: victim.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: victim.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET http://victim.example/x HTTP/1.1\r\nHost: victim.example\r\nConnection: keep-alive, x-a\r\nX-A: 1\r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: victim.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /z HTTP/1.1\r\n\r\n",
];
/// What they are mutated with.
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

/// Bytes nobody thought of: the same seeds every time, so that what fails once fails again.
#[test]
fn no_mutation_slips_a_request_past_the_account() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut cases = Vec::new();
    for number in 0..240 {
        // two in a row, of which the first is mutated: what is wrong with it must not become a third
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
