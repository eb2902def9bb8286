//! Route choice. A lookup among ten thousand routes must cost what one among ten does.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::sync::Arc;

use divan::Bencher;
use http::{HeaderMap, Method, Version};
use portcullis::request::{ClientInfo, RequestHead, Scheme, UnixTime};
use portcullis::router::{Conditions, Hostname, PathMatch, Router};

fn main() {
    divan::main();
}

const SIZES: [usize; 3] = [10, 1000, 10_000];

fn bench_find(bencher: Bencher<'_, '_>, router: &Router<usize>, host: &str, path: &str) {
    let source = ClientInfo::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    let headers = HeaderMap::new();
    let head = RequestHead {
        method: &Method::GET,
        scheme: Scheme::Http,
        authority: &http::HeaderValue::try_from(host).unwrap(),
        host,
        port: 80,
        path,
        query: None,
        version: Version::HTTP_11,
        headers: &headers,
        id: &http::HeaderValue::from_static(""),
        client: &source,
    };
    assert!(router.find_target(&head, UnixTime(0.0)).is_some());
    bencher.bench_local(|| router.find_target(divan::black_box(&head), UnixTime(0.0)).is_some());
}

#[divan::bench(args = SIZES)]
fn by_prefix(bencher: Bencher<'_, '_>, count: usize) {
    let mut router = Router::default();
    for at in 0..count {
        let path = PathMatch::Prefix(format!("/tenant/{at}").into());
        router.add(&Hostname::Any, &path, Conditions::default(), Arc::new(at));
    }
    bench_find(bencher, &router, "api.example.com", "/tenant/7/orders/12");
}

#[divan::bench(args = SIZES)]
fn by_regex(bencher: Bencher<'_, '_>, count: usize) {
    let mut router = Router::default();
    for at in 0..count {
        let path = PathMatch::Regex(format!("/tenant/{at}/[^/]+/[0-9]+").try_into().unwrap());
        router.add(&Hostname::Any, &path, Conditions::default(), Arc::new(at));
    }
    router.finish();
    bench_find(bencher, &router, "api.example.com", "/tenant/7/orders/12");
}

/// The expressions have no distinguishing literal prefix.
#[divan::bench(args = SIZES)]
fn by_loose_regex(bencher: Bencher<'_, '_>, count: usize) {
    let mut router = Router::default();
    for at in 0..count {
        let path = PathMatch::Regex(format!("/[^/]+/{at}/[0-9]+").try_into().unwrap());
        router.add(&Hostname::Any, &path, Conditions::default(), Arc::new(at));
    }
    router.finish();
    bench_find(bencher, &router, "api.example.com", "/orders/7/12");
}

#[divan::bench(args = SIZES)]
fn by_host(bencher: Bencher<'_, '_>, count: usize) {
    let mut router = Router::default();
    for at in 0..count {
        let host = Hostname::Exact(format!("{at}.example.com").into());
        router.add(&host, &PathMatch::Prefix("/".into()), Conditions::default(), Arc::new(at));
    }
    bench_find(bencher, &router, "7.example.com", "/orders/12");
}
