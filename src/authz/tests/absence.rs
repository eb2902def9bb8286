//! `default()`, `has()` and optionals handle only absence. Any other failure remains a failure, since a client could
//! otherwise bypass a deny rule by making it fail.

use super::*;

/// Expressions that read a value that is present but unreadable, or a field of a value without fields. Each of them fails.
const FAILING: &[&str] = &[
    // A header that is not UTF-8.
    "default(request.headers['x-odd'], '') == 'admin'",
    "default(request.headers.`x-odd`, '') == 'admin'",
    "request.headers[?'x-odd'].orValue('') == 'admin'",
    "request.headers.?`x-odd`.orValue('') == 'admin'",
    "request.?headers['x-odd'].orValue('') == 'admin'",
    "request.?headers.`x-odd`.orValue('') == 'admin'",
    "optional.of(request.headers)['x-odd'].orValue('') == 'admin'",
    "optional.of(request.headers)[?'x-odd'].hasValue()",
    "optional.of(request.headers).?`x-odd`.hasValue()",
    "[request.headers][0][?'x-odd'].hasValue()",
    "{'h': request.headers}.h.?`x-odd`.hasValue()",
    "[optional.of(request.headers)][0]['x-odd'].hasValue()",
    "has(optional.of(request.headers)['x-odd'])",
    "has(request.?headers['x-odd'])",
    "has(request.headers['x-odd'])",
    "has([request.headers][0]['x-odd'])",
    "request.headers[?'x-odd'].optMap(v, v == 'admin').orValue(false)",
    "request.headers[?'x-odd'].optFlatMap(v, optional.of(v)).hasValue()",
    "request.headers[?'x-odd'].or(optional.of('')).hasValue()",
    "[?request.headers[?'x-odd']] == []",
    "{?'a': request.headers[?'x-odd']} == {}",
    "optional.of(request.headers).optMap(h, h['x-odd']).hasValue()",
    "optional.of(request.headers).optMap(h, h[?'x-odd'].orValue('')).orValue('') == 'admin'",
    "default(headers(request, 'x-odd')[0], '') == 'admin'",
    "headers(request, 'x-odd').exists(line, line == 'admin')",
    "request.headers.exists(name, request.headers[name] == 'admin')",
    "request.headers.filter(name, request.headers[name] == 'admin').size() > 0",
    "request.headers.map(name, request.headers[name]).contains('admin')",
    "request.headers.exists_one(name, request.headers[name] == 'admin')",
    "request.headers == {'x-env': 'prod', 'x-two': 'a,b', 'accept': 'text/html', 'x-odd': 'admin'}",
    "request.headers != {'x-env': 'prod', 'x-two': 'a,b', 'accept': 'text/html', 'x-odd': 'admin'}",
    "[request.headers] == [{'x-env': 'prod', 'x-two': 'a,b', 'accept': 'text/html', 'x-odd': 'admin'}]",
    "{'x-env': 'prod', 'x-two': 'a,b', 'accept': 'text/html', 'x-odd': 'admin'} in [request.headers]",
    "[{'x-env': 'prod', 'x-two': 'a,b', 'accept': 'text/html', 'x-odd': 'admin'}].contains(request.headers)",
    // A field of a value without fields.
    "default(jwt.sub.x, 'd') == 'd'",
    "default(jwt.sub['x'], 'd') == 'd'",
    "default(jwt.sub.x.y, 'd') == 'd'",
    "default(jwt.nothing.x, 'd') == 'd'",
    "default(jwt.level.x, 'd') == 'd'",
    "default(jwt.amr.x, 'd') == 'd'",
    "default(jwt.amr['x'], 'd') == 'd'",
    "default(jwt.amr[0.5], 'd') == 'd'",
    "default(jwt.amr[0].x, 'd') == 'd'",
    "default(request.headers['x-env'].x, 'd') == 'd'",
    "default(source.address.x, 'd') == 'd'",
    "default(json(jwt.json).a.x, 'd') == 'd'",
    "default(json(jwt.sub).a, 'd') == 'd'",
    "default(claim(jwt, ['sub']).x, 'd') == 'd'",
    "jwt.sub[?0].hasValue()",
    "jwt.sub[?'x'].hasValue()",
    "jwt.?sub.x.hasValue()",
    "jwt.?sub[0].hasValue()",
    "jwt.?sub.?x.hasValue()",
    "jwt.?amr.x.hasValue()",
    "jwt.amr[?'x'].hasValue()",
    "jwt.amr.?x.hasValue()",
    "jwt.groups[?[]].hasValue()",
    "jwt[?null].hasValue()",
    "jwt.?nothing.?x.hasValue()",
    "[jwt.level][?'x'].hasValue()",
    "optional.of([jwt.level])['x'].hasValue()",
    "optional.of(jwt.sub)[0].hasValue()",
    "has(jwt.sub.x)",
    "has(jwt.amr.x)",
    "has(jwt.nothing.x)",
    "has(jwt.?sub.x)",
    "has(jwt.?amr.x)",
    "has([jwt.sub][0].x)",
    "jwt.?sub.optMap(s, s.x).hasValue()",
    "jwt.?sub.optMap(s, s[?0]).hasValue()",
    "jwt.?sub.optMap(s, has(s.x)).orValue(false)",
    "jwt.groups.exists(g, g.?x.hasValue())",
    "jwt.groups.exists(g, default(g.x, 'd') == 'd')",
    "claim(jwt, ['amr', jwt.level]) == null",
    "'x' in jwt.sub",
    "null in jwt",
    // A time claim outside of the supported years.
    "has(jwtAuth.token.issuedAt) && jwtAuth.token.issuedAt > now",
    "default(jwtAuth.token.issuedAt, now) > now",
    "jwtAuth.token.?issuedAt.hasValue()",
    "jwtAuth.?token.?issuedAt.hasValue()",
    // A scope claim of an invalid type.
    "scopes(jwt).contains('write')",
    "size(scopes(jwt)) > 0",
    "'write' in scopes(jwt)",
];

/// Expressions that handle absent and present values, with their results.
const ABSENT_OR_PRESENT: &[(&str, bool)] = &[
    ("default(request.headers['x-none'], 'd') == 'd'", true),
    ("request.headers[?'x-none'].hasValue()", false),
    ("request.?headers['x-none'].orValue('d') == 'd'", true),
    ("request.?headers['x-env'].orValue('d') == 'prod'", true),
    ("has(request.?headers['x-none'])", false),
    ("has(request.?headers['x-env'])", true),
    ("optional.of(request.headers).optMap(h, h[?'x-env'].orValue('')).orValue('') == 'prod'", true),
    ("'x-odd' in request.headers", true),
    ("size(headers(request, 'x-none')) == 0 && default(headers(request, 'x-none')[0], 'd') == 'd'", true),
    ("default(headers(request, 'x-two')[1], 'd') == 'b'", true),
    ("default(request.query, 'd') == 'debug=1'", true),
    ("default(source.tls.sni, 'd') == 'd'", true),
    ("default(jwtAuth.kid, 'd') == 'd'", true),
    ("default(jwtAuth.token.expiresAt, now) == now", true),
    ("default(jwt.none, 'd') == 'd'", true),
    ("default(jwt.none.x.y, 'd') == 'd'", true),
    ("default(jwt['none']['x'], 'd') == 'd'", true),
    ("default(jwt.realm_access.none, 'd') == 'd'", true),
    ("default(jwt.realm_access.roles[1], 'd') == 'viewer'", true),
    ("default(jwt.realm_access.roles[2], 'd') == 'd'", true),
    ("default(jwt.realm_access.roles[-1], 'd') == 'd'", true),
    ("default(jwt.nothing, 'd') == null", true),
    ("default(json(jwt.json).b, 'd') == 'd'", true),
    ("default(json(jwt.json).a[0], 7) == 1", true),
    ("jwt[?0].hasValue()", false),
    ("jwt.?realm_access.roles[0].orValue('d') == 'editor'", true),
    ("jwt.?realm_access.?roles[?0].orValue('d') == 'editor'", true),
    ("jwt.?none.x.hasValue()", false),
    ("jwt.?none[0].hasValue()", false),
    ("has(jwt.?none.x)", false),
    ("has(jwt.?realm_access.roles)", true),
    ("[{'a': 1}][0].?b.hasValue()", false),
    ("[{'a': 1}][0].a == 1 && !has([{'a': 1}][0].b)", true),
    ("{'a': {'b': 1}}[?'a'].b.value() == 1", true),
    ("[1][?1].hasValue() || [1][?-1].hasValue()", false),
    ("jwt.nested.list.exists(x, x.?id.orValue(0) == 2)", true),
    ("jwt.nested.list.exists(x, has(x.none))", false),
    ("jwt.?nested.optMap(n, n.list[1].id).orValue(0) == 2", true),
    ("jwt.?nested.optMap(n, n.?none.orValue(7)).orValue(0) == 7", true),
    ("claim(jwt, ['none', 'x']) == null && claim(jwt, ['realm_access', 'none']) == null", true),
    ("claim(jwt, []) == jwt", true),
    // The path of a claim leads through objects only, so a step into any other value is absent.
    ("claim(jwt, ['sub', 'x']) == null && claim(jwt, ['amr', 'x']) == null", true),
    ("claim(jwt, ['nothing', 'x']) == null && claim(jwt, ['nothing']) == null", true),
    // As in the CEL specification, an element that decides absorbs the failure of another.
    ("request.headers.exists(name, request.headers[name] == 'prod')", true),
    ("request.headers.all(name, request.headers[name] != 'prod')", false),
    ("default(request.headers['x-odd'], '') == 'admin' || request.path == '/admin'", true),
];

/// A request whose token is validly signed, and has unusual claims.
fn unusual_token() -> TestRequest {
    let mut claims = claims();
    claims["scope"] = json!({"write": true});
    let mut sample = test_request(claims);
    sample.issued_at = 1e15;
    sample
}

#[test]
fn failure_is_never_treated_as_absence() {
    let sample = unusual_token();
    for source in FAILING {
        let result = sample.with_vars(|vars| compile(source).eval_bool(vars));
        assert!(result.is_err(), "{source}: {result:?}");
        for rule in [format!("deny: {source}"), format!("deny: !({source})"), format!("require: !({source})")] {
            assert!(!sample.with_vars(|vars| decide(&rule_set(&[&rule]), vars)).allows(), "{rule}");
        }
    }
}

#[test]
fn absent_value_is_replaced_or_reported_absent() {
    let sample = test_request(claims());
    for (source, expected) in ABSENT_OR_PRESENT {
        assert_eq!(sample.with_vars(|vars| compile(source).eval_bool(vars)), Ok(*expected), "{source}");
    }
}

#[test]
fn deny_sees_the_first_of_several_header_lines() {
    for lines in [&[b"admin".as_slice(), b"\xff"][..], &[b"\xff", b"admin"], &[b"admin\xff"]] {
        let mut sample = test_request(Value::Null);
        for line in lines {
            sample.headers.append("x-role", HeaderValue::from_bytes(line).unwrap());
        }
        for rule in [
            "deny: default(request.headers['x-role'], '') == 'admin'",
            "deny: request.headers[?'x-role'].orValue('').contains('admin')",
            "deny: has(request.headers['x-role']) && request.headers['x-role'].contains('admin')",
            "deny: headers(request, 'x-role').exists(line, line == 'admin\u{ff}')",
            "require: default(request.headers['x-role'], '') != 'admin'",
        ] {
            assert!(!sample.with_vars(|vars| decide(&rule_set(&[rule]), vars)).allows(), "{rule}: {lines:?}");
        }
    }
}

#[test]
fn scopes_are_words_of_strings_and_lists_of_strings() {
    for (scope, expected) in [
        (json!("read write"), Some(true)),
        (json!(["read", "write"]), Some(true)),
        (json!(""), Some(false)),
        (json!([]), Some(false)),
        (json!({"write": true}), None),
        (json!(7), None),
        (json!(null), None),
        (json!(["read", 7]), None),
    ] {
        let result = test_request(json!({"scope": scope}))
            .with_vars(|vars| compile("scopes(jwt).contains('write')").eval_bool(vars));
        assert_eq!(result.ok(), expected, "{scope}");
    }
    let mut unsplit = test_request(json!({"scope": "write"}));
    unsplit.split_claims.clear();
    let error = unsplit.with_vars(|vars| compile("scopes(jwt).contains('write')").eval_bool(vars)).unwrap_err();
    assert_eq!(error.to_string(), "`scopes(jwt)`: `jwtAuth` has no `splitClaims`");
}
