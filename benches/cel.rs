//! The time to evaluate rules, compared with naive use of the engine.
//!
//! Targets: the rule of the README in at most 1 µs, a set of three rules in 2.5 µs, and a `matches` with a literal in 1 µs.

use cel_interpreter as cel;
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use portcullis::authz::{
    EnforcementMode, Expression, Rule, RuleAction, RuleSet, Scope, SourceLocation, Vars, VerifiedToken, authorize,
};
use portcullis::request::{ClientInfo, RequestHead, Scheme, UnixTime};
use serde_json::{Map, Value, json};

const README_RULE: &str = r#"request.path == "/admin" && jwt.groups.contains("admins")"#;

fn main() {
    divan::main();
}

/// Runs `work` with eleven claims and six headers, as sent by a typical identity provider and browser.
fn with_vars<T>(work: impl FnOnce(&Vars<'_>) -> T) -> T {
    let claims: Map<String, Value> = serde_json::from_value(json!({
        "iss": "https://idp.example/realms/a", "sub": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "aud": ["my-app", "account"],
        "exp": 1_900_000_000, "iat": 1_700_000_000, "jti": "4b1c", "azp": "my-app", "scope": "openid email profile",
        "email": "alice@example.com", "groups": ["staff", "dev", "admins"], "realm_access": {"roles": ["editor", "viewer"]},
    }))
    .unwrap_or_default();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"),
        ("accept", "text/html"),
        ("accept-language", "en"),
        ("accept-encoding", "gzip, br"),
        ("x-request-id", "9f86d081"),
        ("x-env", "prod"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let source = ClientInfo { address: [10, 1, 2, 3].into(), port: 4567, tls: None };
    let head = RequestHead {
        method: &Method::GET,
        scheme: Scheme::Https,
        authority: &http::HeaderValue::from_static("www.example.com"),
        host: "www.example.com",
        port: 443,
        path: "/admin",
        query: None,
        version: Version::HTTP_11,
        headers: &headers,
        id: &http::HeaderValue::from_static("9f86d081"),
        client: &source,
    };
    let token = VerifiedToken {
        claims: &claims,
        provider: "keycloak",
        kid: Some("a"),
        alg: "RS256",
        issued_at: Some(1.7e9),
        expires_at: Some(1.9e9),
        split_claims: &[],
    };
    work(&Vars {
        token: Some(token),
        route: "admin",
        listener: "default",
        ..Vars::for_request(&head, UnixTime(1.75e9))
    })
}

fn compile(source: &str) -> Expression {
    match Expression::compile(source, Scope::Rule) {
        Ok(expression) => expression,
        Err(errors) => unreachable!("{errors:?}"),
    }
}

fn bench_expression(bencher: Bencher<'_, '_>, source: &str) {
    let expression = compile(source);
    with_vars(|vars| {
        assert_eq!(expression.eval_bool(vars), Ok(true), "{source}");
        bencher.bench_local(|| black_box(&expression).eval_bool(black_box(vars)));
    });
}

#[divan::bench]
fn literal(bencher: Bencher<'_, '_>) {
    bench_expression(bencher, "true");
}

#[divan::bench]
fn readme_rule(bencher: Bencher<'_, '_>) {
    bench_expression(bencher, README_RULE);
}

#[divan::bench]
fn matches_literal_regex(bencher: Bencher<'_, '_>) {
    bench_expression(bencher, "request.path.matches('^/(admin|ops)(/|$)')");
}

#[divan::bench]
fn cidr_contains_ip(bencher: Bencher<'_, '_>) {
    bench_expression(bencher, "cidr('10.0.0.0/8').containsIP(source.address)");
}

#[divan::bench]
fn three_rules(bencher: Bencher<'_, '_>) {
    let rules = [
        (RuleAction::Deny, "has(jwt.banned) && jwt.banned == true"),
        (RuleAction::Require, "request.method in ['GET', 'HEAD'] || 'editor' in jwt.realm_access.roles"),
        (RuleAction::Allow, README_RULE),
    ];
    let rules = rules
        .iter()
        .enumerate()
        .map(|(index, (action, source))| Rule::new(*action, None, index, compile(source), SourceLocation::default()));
    let set = RuleSet {
        mode: EnforcementMode::Enforce,
        level: portcullis::config::PolicyLevel::Route,
        location: SourceLocation::default(),
        rules: rules.collect(),
    };
    with_vars(|vars| {
        assert!(authorize(&[&set], vars).allowed());
        bencher.bench_local(|| authorize(&[black_box(&set)], black_box(vars)).allowed());
    });
}

/// Evaluates the rule with a context for each request, into which all variables are converted.
#[divan::bench]
fn readme_rule_naive(bencher: Bencher<'_, '_>) {
    let source = r#"request.path == "/admin" && "admins" in jwt.groups"#;
    let program = match cel::Program::compile(source) {
        Ok(program) => program,
        Err(errors) => unreachable!("{errors}"),
    };
    with_vars(|vars| {
        bencher.bench_local(|| {
            let headers: Map<String, Value> = (vars.head.headers.iter())
                .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap_or_default().into()))
                .collect();
            let request = json!({"path": vars.head.path, "method": vars.head.method.as_str(), "headers": headers});
            let mut context = cel::Context::default();
            let added = context.add_variable("request", request).is_ok()
                && context.add_variable("jwt", vars.token.map(|token| token.claims)).is_ok();
            (added, black_box(&program).execute(&context))
        });
    });
}

#[divan::bench]
fn compile_readme_rule(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| Expression::compile(black_box(README_RULE), Scope::Rule));
}
