//! Route choice: the behavior that the Gateway API's conformance tests require, and a comparison with a naive model.

use http::{HeaderMap, HeaderValue, Version};
use proptest::prelude::*;

use super::*;
use crate::request::{ClientInfo, Scheme};

/// One match: host, path, conditions and target.
#[derive(Debug, Clone)]
struct RouteSpec {
    host: Hostname,
    path: PathMatch,
    conditions: Conditions,
    target: usize,
}

/// The properties of a request that routing depends on.
#[derive(Debug, Clone, Default)]
struct RequestSpec {
    host: String,
    path: String,
    method: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
}

/// `way("host /path* METHOD name=value ?name=value", target)`: a host or `-`; a path with `*` for a prefix or `~` before
/// a regular expression; conditions, where `name~regex` is one too.
fn route_spec(text: &str, target: usize) -> RouteSpec {
    let mut words = text.split_whitespace();
    let host = match words.next().unwrap() {
        "-" => Hostname::Any,
        host => host.strip_prefix('*').map_or(Hostname::Exact(host.into()), |suffix| Hostname::Suffix(suffix.into())),
    };
    let regex = |text: &str| Regex::try_from(text.to_owned()).unwrap();
    let path = words.next().unwrap();
    let path = match (path.strip_prefix('~'), path.strip_suffix('*')) {
        (Some(text), _) => PathMatch::Regex(regex(text)),
        (None, Some(prefix)) => {
            PathMatch::Prefix(if prefix == "/" { prefix } else { prefix.trim_end_matches('/') }.into())
        }
        (None, None) => PathMatch::Exact(path.into()),
    };
    let value = |text: &str| -> (String, ValueMatch) {
        match (text.split_once('='), text.split_once('~')) {
            (Some((name, value)), _) => (name.to_owned(), ValueMatch::Exact(value.into())),
            (None, Some((name, value))) => (name.to_owned(), ValueMatch::Regex(regex(value))),
            (None, None) => panic!("{text}"),
        }
    };
    let mut conditions = Conditions::default();
    for word in words {
        if let Some(parameter) = word.strip_prefix('?') {
            let (name, value) = value(parameter);
            conditions.query.push((name.into(), value));
        } else if word.contains(['=', '~']) {
            let (name, value) = value(word);
            conditions.headers.push((name.parse().unwrap(), value));
        } else {
            conditions.method = Some(word.parse().unwrap());
        }
    }
    RouteSpec { host, path, conditions, target }
}

/// `asked("host /path?query METHOD name=value")`.
fn request_spec(text: &str) -> RequestSpec {
    let mut words = text.split_whitespace();
    let host = words.next().unwrap().to_owned();
    let target = words.next().unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    let mut request = RequestSpec { host, path: path.to_owned(), method: "GET".to_owned(), query, headers: Vec::new() };
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => request.headers.push((name.to_owned(), value.to_owned())),
            None => word.clone_into(&mut request.method),
        }
    }
    request
}

fn router(routes: &[RouteSpec]) -> Router<usize> {
    let mut router = Router::default();
    for route in routes {
        router.add(&route.host, &route.path, route.conditions.clone(), Arc::new(route.target));
    }
    router.finish();
    router
}

fn with_head<T>(request: &RequestSpec, test: impl FnOnce(&RequestHead<'_>) -> T) -> T {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    test(&RequestHead {
        method: &request.method.parse().unwrap(),
        scheme: Scheme::Http,
        authority: &request.host.parse().unwrap(),
        host: &request.host,
        port: 80,
        path: &request.path,
        query: request.query.as_deref(),
        version: Version::HTTP_11,
        headers: &headers,
        id: &HeaderValue::from_static(""),
        client: &ClientInfo::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1))),
    })
}

fn find(router: &Router<usize>, request: &RequestSpec) -> Option<usize> {
    with_head(request, |head| router.find_target(head, UnixTime(0.0)).map(|target| **target))
}

/// Checks that each request selects the expected line. The target of a match is the number of its line.
#[track_caller]
fn check(routes: &[&str], cases: &[(&str, Option<usize>)]) {
    let routes: Vec<RouteSpec> = routes.iter().enumerate().map(|(index, text)| route_spec(text, index + 1)).collect();
    let router = router(&routes);
    for (text, expected) in cases {
        assert_eq!(find(&router, &request_spec(text)), *expected, "{text}");
    }
}

#[test]
fn exact_paths_are_whole_and_case_sensitive() {
    // HTTPRouteExactPathMatching
    check(
        &["- /one", "- /two"],
        &[
            ("h /one", Some(1)),
            ("h /two", Some(2)),
            ("h /", None),
            ("h /one/example", None),
            ("h /two/", None),
            ("h /Two", None),
        ],
    );
}

#[test]
fn prefixes_match_whole_segments_and_longer_ones_come_first() {
    // HTTPRouteMatching: the matches of one route are alternatives
    let routes = ["- /*", "- /* version=one", "- /v2*", "- /* version=two"];
    check(
        &routes,
        &[
            ("h /", Some(1)),
            ("h /example", Some(1)),
            ("h / version=one", Some(2)),
            ("h /v2", Some(3)),
            ("h /v2?q=1", Some(3)),
            ("h /v2/", Some(3)),
            ("h /v2/example", Some(3)),
            ("h /v2example", Some(1)),
            ("h /foo/v2/example", Some(1)),
            ("h / version=two", Some(4)),
            ("h /v2 version=one", Some(3)),
        ],
    );
    check(&["- /v2/*"], &[("h /v2", Some(1)), ("h /v2/", Some(1)), ("h /v2/a/b", Some(1)), ("h /v2a", None)]);
}

#[test]
fn exact_beats_prefix_beats_regex_in_any_order() {
    // HTTPRoutePathMatchOrder
    check(
        &[
            "- ~/match/.*/and/very/long/.*",
            "- /match*",
            "- /match/prefix*",
            "- /match/prefix/one*",
            "- /match",
            "- /match/exact",
            "- /match/exact/one",
            "- ~/other/[0-9]+",
            "- ~/other/[0-9]+/.*",
        ],
        &[
            ("h /match/exact/one", Some(7)),
            ("h /match/exact", Some(6)),
            ("h /match", Some(5)),
            ("h /match/prefix/one/any", Some(4)),
            ("h /match/prefix/any", Some(3)),
            ("h /match/any", Some(2)),
            ("h /match/x/and/very/long/y", Some(2)),
            ("h /other/12", Some(8)),
            ("h /other/12/x", Some(9)),
            ("h /other/x", None),
            ("h /an/other/12", None),
        ],
    );
}

#[test]
fn exact_hosts_beat_the_longest_wildcard_which_beats_any() {
    // HTTPRouteHostnameIntersection, GRPCRouteListenerHostnameMatching, HTTPRouteMatchingAcrossRoutes
    check(
        &[
            "- /*",
            "*.com /*",
            "*.example.com /*",
            "www.example.com /deep*",
            "example.net /*",
            "example.net /* version=one",
            "example.net /v2*",
        ],
        &[
            ("other.org /", Some(1)),
            ("example.com /", Some(2)),
            ("a.example.com /", Some(3)),
            ("a.b.example.com /", Some(3)),
            ("notexample.com /", Some(2)),
            ("www.example.com /deep/er", Some(4)),
            // the better host has no match for this path, the next best has
            ("www.example.com /shallow", Some(3)),
            ("example.net /", Some(5)),
            ("example.net / version=one", Some(6)),
            ("example.net /v2/x", Some(7)),
            ("example.net /v2example", Some(5)),
        ],
    );
}

#[test]
fn ties_go_to_method_then_headers_then_query_then_order() {
    // HTTPRouteMethodMatching, HTTPRouteHeaderMatching, HTTPRouteQueryParamMatching
    check(
        &[
            "- /*",
            "- /* ?animal=whale",
            "- /* ?animal=whale ?fin=yes",
            "- /* version=one",
            "- /* version=two color=orange",
            "- /* color~blue|green",
            "- /* POST",
            "- /* POST version=one",
            "- /path* PATCH",
            "- /* color~blue|green",
        ],
        &[
            ("h /", Some(1)),
            ("h /?animal=whale", Some(2)),
            ("h /?animal=wh%61le", Some(2)),
            ("h /?animal=whale&fin=yes", Some(3)),
            ("h /?animal=dolphin", Some(1)),
            // only the first of several values counts
            ("h /?animal=dolphin&animal=whale", Some(1)),
            ("h /?animal=whale version=one", Some(4)),
            ("h / version=two color=orange", Some(5)),
            ("h / version=two", Some(1)),
            ("h / color=blue", Some(6)),
            ("h / color=blueish", Some(1)),
            ("h / version=one color=blue", Some(4)),
            ("h / POST", Some(7)),
            ("h / POST color=blue", Some(7)),
            ("h / POST version=one", Some(8)),
            ("h /path PATCH", Some(9)),
            ("h /path GET", Some(1)),
            ("h / post", Some(1)),
        ],
    );
}

#[test]
fn grpc_methods_are_exact_paths() {
    // GRPCExactMethodMatching, GRPCRouteHeaderMatching
    check(
        &["- /pkg.Echo/Echo POST", "- /pkg.Echo/Two POST", "- /pkg.Echo* POST version=two", "- /pkg.Echo* POST"],
        &[
            ("h /pkg.Echo/Echo POST", Some(1)),
            ("h /pkg.Echo/Two POST", Some(2)),
            ("h /pkg.Echo/Other POST version=two", Some(3)),
            ("h /pkg.Echo/Other POST", Some(4)),
            ("h /pkg.EchoX/Echo POST", None),
        ],
    );
}

#[test]
fn matched_part_of_the_path_is_reported() {
    let routes = ["- /a/b*", "- /*", "- /exact", "- ~/re/.*"].map(|text| route_spec(text, 0));
    let router = router(&routes);
    for (path, matched) in [("/a/b/c", "/a/b"), ("/a/b", "/a/b"), ("/x", ""), ("/", "/"), ("/exact", "/exact")] {
        let matched_len = with_head(&request_spec(&format!("h {path}")), |head| {
            router.find(head, UnixTime(0.0)).unwrap().matched_len
        });
        assert_eq!(&path[..matched_len], matched, "{path}");
    }
}

/// The specification of route choice as code: of all matches that apply, the best.
fn model(routes: &[RouteSpec], request: &RequestSpec) -> Option<usize> {
    use std::cmp::Reverse;
    let host = |route: &RouteSpec| match &route.host {
        Hostname::Exact(name) => (**name == *request.host).then_some((0, 0)),
        Hostname::Suffix(suffix) => request.host.ends_with(&**suffix).then_some((1, usize::MAX - suffix.len())),
        Hostname::Any => Some((2, 0)),
    };
    let path = |route: &RouteSpec| match &route.path {
        PathMatch::Exact(path) => (**path == *request.path).then_some((0, 0)),
        PathMatch::Prefix(prefix) => {
            let segments =
                |text: &str| text.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            let matches = segments(&request.path).starts_with(&segments(prefix));
            matches.then_some((1, usize::MAX - prefix.len()))
        }
        PathMatch::Regex(regex) => regex.is_match(&request.path).then_some((2, usize::MAX - regex.as_str().len())),
    };
    let candidates = routes.iter().enumerate().filter_map(|(order, route)| {
        let (host, path) = (host(route)?, path(route)?);
        with_head(request, |head| route.conditions.matches(head, UnixTime(0.0))).then_some(())?;
        let Conditions { method, headers, query, .. } = &route.conditions;
        Some(((host, path, method.is_none(), Reverse(headers.len()), Reverse(query.len()), order), route.target))
    });
    candidates.min_by_key(|(rank, _)| *rank).map(|(_, target)| target)
}

fn any_route() -> impl Strategy<Value = String> {
    let host = prop_oneof![Just("-"), Just("a.b"), Just("c.a.b"), Just("*.b"), Just("*.a.b")];
    let path = prop_oneof![
        "(/[ab]){0,3}/?".prop_map(|p| format!("{p}*")),
        "(/[ab]){1,3}",
        Just("~/a.*".to_owned()),
        Just("~/a/b.*".to_owned()),
        Just("~/[ab]/b".to_owned()),
        Just("~.*/b".to_owned()),
        Just("~.*a.*".to_owned()),
        Just("~/(a|b)(/.*)?".to_owned()),
        Just("~(?i)/A/?b?".to_owned()),
    ]
    .prop_map(|p| if p == "*" { "/*".to_owned() } else { p });
    let conditions = prop_oneof![
        4 => Just(""), 1 => Just("GET"), 1 => Just("POST"), 1 => Just("x=1"), 1 => Just("x=1 y~1|2"), 1 => Just("?q=1"),
        1 => Just("POST x=1 ?q=1"),
    ];
    (host, path, conditions).prop_map(|(host, path, conditions)| format!("{host} {path} {conditions}"))
}

fn any_request() -> impl Strategy<Value = String> {
    let host = prop_oneof![Just("b"), Just("a.b"), Just("c.a.b"), Just("x.b"), Just("d.c.a.b")];
    let query = prop_oneof![Just(""), Just("?q=1"), Just("?q=2&q=1")];
    let rest = prop_oneof![Just(""), Just("POST"), Just("x=1"), Just("POST x=1 y=2"), Just("x=1 y=1"), Just("y=1")];
    (host, "(/[ab]){1,4}/?|/", query, rest).prop_map(|(host, path, query, rest)| format!("{host} {path}{query} {rest}"))
}

#[test]
fn order_of_many_regular_expressions_is_kept() {
    let mut routes = Vec::new();
    for at in 0..300 {
        routes.push(format!("- ~/known/{at}/.*"));
        routes.push(format!("- ~.*/loose/{at}"));
    }
    // the same length as others, but later in the file
    routes.extend(["- ~.*/l..se/7".to_owned(), "- ~/kn.wn/7/.*".to_owned(), "- ~.*/loose/299 POST".to_owned()]);
    let routes: Vec<RouteSpec> = routes.iter().enumerate().map(|(at, text)| route_spec(text, at)).collect();
    let (finished, mut unfinished) = (router(&routes), Router::default());
    routes
        .iter()
        .for_each(|route| unfinished.add(&route.host, &route.path, route.conditions.clone(), Arc::new(route.target)));
    for (request, target) in [
        ("h /known/7/x", Some(14)),
        ("h /x/loose/7", Some(15)),
        ("h /known/299/loose/299", Some(598)),
        ("h /loose/299 POST", Some(602)),
        ("h /known/300/x", None),
        ("h /kn\u{f6}wn/7/x", Some(601)),
        ("h /x/looose/7", None),
    ] {
        let spec = request_spec(request);
        assert_eq!(find(&finished, &spec), target, "{request}");
        assert_eq!(find(&unfinished, &spec), target, "{request}");
        assert_eq!(model(&routes, &spec), target, "{request}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn router_agrees_with_the_model(
        lines in proptest::collection::vec(any_route(), 1..24), requests in proptest::collection::vec(any_request(), 1..8),
    ) {
        let routes: Vec<RouteSpec> = lines.iter().enumerate().map(|(index, text)| route_spec(text, index)).collect();
        let router = router(&routes);
        for text in requests {
            let request = request_spec(&text);
            let found = find(&router, &request);
            prop_assert_eq!(found, model(&routes, &request), "{}", text);
            let applying: Option<Vec<usize>> = with_head(&request, |head| {
                let matches = router.explain(head, UnixTime(0.0));
                let in_order = matches.iter().map(|explained| **explained.target).eq(0..routes.len());
                in_order.then(|| matches.iter().filter(|m| m.unmet.is_empty()).map(|m| **m.target).collect())
            });
            let applying = applying.expect("all matches are explained in the order of the file");
            prop_assert_eq!(found.is_some(), !applying.is_empty(), "{}", text);
            prop_assert!(found.is_none_or(|target| applying.contains(&target)), "{}", text);
        }
    }
}
