//! The cost of a request besides its token and its route: normalization, and the edits of its head.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use divan::{Bencher, black_box};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request as HttpRequest};
use portcullis::request::known_headers::KnownHeaders;
use portcullis::request::normalize::NormalizedRequest;
use portcullis::request::path::PathRules;
use portcullis::request::{ClientInfo, HeadLimits, Scheme};
use portcullis::request::{forwarded, hop_by_hop};
use portcullis::telemetry::trace_context::TraceParent;

fn main() {
    divan::main();
}

/// The headers of a browser.
const HEAD: [(&str, &str); 12] = [
    ("host", "api.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://www.example.com/orders"),
    ("connection", "keep-alive"),
    ("cookie", "theme=dark; lang=en; seen=1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-site"),
    ("te", "trailers"),
];

fn head(path: &str) -> Box<Parts> {
    let request = HEAD.iter().fold(HttpRequest::get(path), |request, (name, value)| request.header(*name, *value));
    Box::new(request.body(()).unwrap().into_parts().0)
}

/// Normalizes a canonical path, which is only checked, and one with dots and escapes, which is rebuilt.
#[divan::bench(args = ["/orders/12?page=2", "/a/../orders//%7e12/./items?page=2"])]
fn normalize(bencher: Bencher<'_, '_>, path: &str) {
    let client = ClientInfo::from(std::net::SocketAddr::from(([192, 0, 2, 1], 50_000)));
    let limits = HeadLimits { size: 64 << 10, headers: 100, drop_underscores: true };
    let id = HeaderValue::from_static("0123456789abcdef0123456789abcdef");
    bencher.with_inputs(|| head(path)).bench_local_values(|parts| {
        let (client, names) = (client.clone(), KnownHeaders::from_headers(&parts.headers));
        let mut request =
            NormalizedRequest::from_parts(parts, names, Scheme::Http, client, id.clone(), &limits).unwrap();
        request.normalize_path(&PathRules::default()).unwrap();
        request
    });
}

/// Applies the edits that every request's head gets.
#[divan::bench]
fn edit_in_place(bencher: Bencher<'_, '_>) {
    let peer = HeaderValue::from_static("192.0.2.1");
    bencher.with_inputs(|| head("/").headers).bench_local_values(|mut headers: HeaderMap| {
        let names = KnownHeaders::from_headers(&headers);
        hop_by_hop::strip_request(&mut headers, names, |_| false);
        let (address, host) = (([192, 0, 2, 1].into(), &peer), HeaderValue::from_static("api.example.com"));
        forwarded::write_headers(&mut headers, names, address, |_| false, Scheme::Http, host);
        TraceParent::new(&headers, names, black_box(7)).write_headers(&mut headers);
        headers
    });
}

/// Copies that head, for comparison.
#[divan::bench]
fn copy(bencher: Bencher<'_, '_>) {
    let headers = head("/").headers;
    bencher.bench_local(|| black_box(&headers).clone());
}

/// Strips the head of a response.
#[divan::bench]
fn response(bencher: Bencher<'_, '_>) {
    let headers = || {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("server", "nginx"),
            ("date", "Sun, 22 Nov 2026 02:25:52 GMT"),
            ("content-type", "text/plain"),
            ("content-length", "23"),
            ("connection", "keep-alive"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    };
    bencher.with_inputs(headers).bench_local_values(|mut headers| {
        hop_by_hop::strip_response(&mut headers);
        headers
    });
}
