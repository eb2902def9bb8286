//! The results of rules, and the decisions of rule sets, for one request.

use serde_json::json;

use super::*;

/// Conditions with their results, where `None` is a failure.
const CASES: &[(&str, Option<bool>)] = &[
    // Variables.
    ("request.path == '/admin'", Some(true)),
    ("request.method == 'GET'", Some(true)),
    ("request.method in ['GET', 'HEAD']", Some(true)),
    ("request.method in ['POST']", Some(false)),
    ("request.query == 'debug=1'", Some(true)),
    ("has(request.query)", Some(true)),
    ("request.uri == 'https://WWW.Example.com:8443/admin?debug=1'", Some(true)),
    ("request.host == 'www.example.com'", Some(true)),
    ("request.authority == 'WWW.Example.com:8443'", Some(true)),
    ("request.port == 8443", Some(true)),
    ("request.port + 1 == 8444", Some(true)),
    ("request.scheme == 'https'", Some(true)),
    ("request.version == 'HTTP/1.1'", Some(true)),
    ("request.id == 'req-1'", Some(true)),
    ("request['path'] == '/admin'", Some(true)),
    ("route.name == 'admin' && listener.name == 'default'", Some(true)),
    ("source.address == '10.1.2.3'", Some(true)),
    ("source.port == 4567", Some(true)),
    ("has(source.tls)", Some(false)),
    ("source.tls.sni == 'x'", None),
    ("has(source.tls) && source.tls.sni == 'x'", Some(false)),
    ("'tls' in source", Some(false)),
    ("now == timestamp('2023-11-14T22:15:00Z')", Some(true)),
    ("now < timestamp(jwt.exp)", Some(true)),
    ("now - duration('100s') == jwtAuth.token.issuedAt", Some(true)),
    ("jwtAuth.provider == 'keycloak' && jwtAuth.alg == 'ES256'", Some(true)),
    ("has(jwtAuth.kid)", Some(false)),
    ("jwtAuth.kid == 'a'", None),
    ("has(jwtAuth.token.expiresAt)", Some(false)),
    ("jwtAuth.token.expiresAt > now", None),
    // Headers.
    ("request.headers['x-env'] == 'prod'", Some(true)),
    ("request.headers['X-Env'] == 'prod'", Some(true)),
    ("request.headers['x-two'] == 'a,b'", Some(true)),
    ("request.headers.accept == 'text/html'", Some(true)),
    ("request.headers.`x-env` == 'prod' && has(request.headers.`x-env`)", Some(true)),
    ("jwt.`a.b` == 1 && has(jwt.`a.b`) && jwt.?`a.b`.hasValue()", Some(true)),
    ("jwt.`realm_access.roles` == 1", None),
    ("request.headers['x-none'] == ''", None),
    ("request.headers['x-odd'] == 'x'", None),
    ("has(request.headers['x-env'])", Some(true)),
    ("has(request.headers['x-none'])", Some(false)),
    ("has(jwt['sub']) && !has(jwt['https://none'])", Some(true)),
    ("has(request.headers.accept)", Some(true)),
    ("has(request.headers.missing)", Some(false)),
    ("'x-env' in request.headers", Some(true)),
    ("'X-ENV' in request.headers", Some(true)),
    ("'x-none' in request.headers", Some(false)),
    ("headers(request, 'x-two') == ['a', 'b']", Some(true)),
    ("headers(request, 'x-none') == []", Some(true)),
    ("size(headers(request, 'x-two')) == 2", Some(true)),
    ("request.headers.exists(name, name.startsWith('x-'))", Some(true)),
    ("default(request.headers['x-none'], 'none') == 'none'", Some(true)),
    ("default(request.headers['x-env'], 'none') == 'prod'", Some(true)),
    // Claims.
    ("jwt.sub == 'alice'", Some(true)),
    ("jwt['sub'] == 'alice'", Some(true)),
    ("jwt != null", Some(true)),
    ("null != jwt", Some(true)),
    ("has(jwt.sub)", Some(true)),
    ("has(jwt.nope)", Some(false)),
    ("jwt.nope == 'x'", None),
    ("'sub' in jwt", Some(true)),
    ("jwt.nothing == null", Some(true)),
    ("has(jwt.nothing)", Some(true)),
    ("jwt.level == 3", Some(true)),
    ("jwt.level + 1 == 4", Some(true)),
    ("jwt.level == 3.0", Some(true)),
    ("jwt.level == 3u", Some(true)),
    ("jwt.level >= 2 && jwt.level < 10", Some(true)),
    ("jwt.level == '3'", Some(false)),
    ("jwt.ratio < 0.6", Some(true)),
    ("jwt.big > 0", Some(true)),
    ("type(jwt.level) == int", Some(true)),
    ("type(jwt.groups) == list && type(jwt) == map", Some(true)),
    ("jwt.sub > 1", None),
    ("jwt.realm_access.roles == ['editor', 'viewer']", Some(true)),
    ("jwt.realm_access.roles[0] == 'editor'", Some(true)),
    ("jwt.realm_access.roles[5] == 'editor'", None),
    ("jwt.realm_access.roles['a'] == 'editor'", None),
    ("jwt.sub.x == 1", None),
    ("has(jwt.realm_access.roles)", Some(true)),
    ("has(jwt.realm_access.none)", Some(false)),
    ("has(jwt.none.roles)", None),
    ("jwt['https://x/roles'].contains('owner')", Some(true)),
    ("jwt['a.b'] == 1", Some(true)),
    ("jwt[1] == 'empty name'", None),
    ("jwt.nested.list.exists(x, x.id == 2)", Some(true)),
    ("jwt.nested.list.all(x, x.id > 1)", Some(false)),
    ("jwt.nested.list.map(x, x.id) == [1, 2]", Some(true)),
    ("jwt.nested.list.filter(x, x.id > 1).size() == 1", Some(true)),
    ("jwt.groups.exists_one(g, g == 'staff')", Some(true)),
    ("jwt.all(name, name != 'admin')", Some(true)),
    ("jwt.banned", Some(false)),
    ("!jwt.banned", Some(true)),
    ("jwt.sub", None),
    ("jwt.groups", None),
    ("!jwt.sub", None),
    // contains.
    ("jwt.groups.contains('admins')", Some(true)),
    ("jwt.groups.contains('admin')", Some(false)),
    ("jwt.groups.contains(1)", Some(false)),
    ("'admins' in jwt.groups", Some(true)),
    ("jwt.group.contains('admins')", None),
    ("jwt['group'].contains('admins')", None),
    ("claim(jwt, ['group']).contains('admins')", None),
    ("default(jwt.group, []).contains('admins')", None),
    ("jwt.?group.orValue([]).contains('admins')", None),
    ("dyn(jwt.group).contains('admins')", None),
    ("(jwt.banned ? jwt.groups : jwt.group).contains('admins')", None),
    ("'admins' in jwt.group", None),
    ("jwt.?group.optMap(g, g.contains('admins')).orValue(false)", None),
    ("jwt.?groups.optMap(g, g.contains('admins')).orValue(false)", Some(true)),
    ("[jwt.group][0].contains('admins')", None),
    ("[jwt.sub, jwt.group][1].contains('admins')", None),
    ("[[jwt.group]][0][0].contains('admins')", None),
    ("{'a': jwt.group}.a.contains('admins')", None),
    ("{'a': jwt.group}['a'].contains('admins')", None),
    ("{'a': {'b': jwt.group}}.?a.b.value().contains('admins')", None),
    ("default({'a': jwt.group}.a, '').contains('admins')", None),
    ("optional.of([jwt.group]).optMap(x, x[0].contains('admins')).orValue(false)", None),
    ("([jwt.group] + ['x'])[0].contains('admins')", None),
    ("(jwt.groups + [jwt.group])[2].contains('admins')", None),
    ("[jwt.group, jwt.sub].contains('alice')", Some(true)),
    ("[jwt.groups][0].contains('admins')", Some(true)),
    ("{'a': jwt.groups}.a.contains('admins')", Some(true)),
    ("{'alice': jwt.group}.contains(jwt.sub)", Some(true)),
    ("[jwt.group].exists(g, g.contains('admins'))", Some(true)),
    ("(jwt.group + '').contains('admins')", Some(true)),
    ("jwt.level.contains(3)", None),
    ("jwt.nothing.contains('a')", None),
    ("jwt.realm_access.contains('roles')", Some(true)),
    ("jwt.contains('sub')", Some(true)),
    ("jwt.none.contains('a')", None),
    ("string(jwt.group).contains('admins')", Some(true)),
    ("request.path.contains('dmi')", Some(true)),
    ("['a', 'b'].contains(jwt.sub)", Some(false)),
    ("['alice'].contains(jwt.sub)", Some(true)),
    ("{'alice': 1}.contains(jwt.sub)", Some(true)),
    ("jwt.groups.exists(g, g.contains('adm'))", Some(true)),
    // Lists and maps of the request together with those of the engine.
    ("['admins', 'staff'] == jwt.groups", Some(true)),
    ("['admins', 'staff'] != jwt.groups", Some(false)),
    ("jwt.groups == jwt.groups", Some(true)),
    ("[jwt.groups] == [['admins', 'staff']]", Some(true)),
    ("jwt.groups in [['admins', 'staff']]", Some(true)),
    ("{'roles': ['editor', 'viewer']} == jwt.realm_access", Some(true)),
    ("{'roles': ['editor']} != jwt.realm_access", Some(true)),
    ("jwt.groups + ['x'] == ['admins', 'staff', 'x']", Some(true)),
    ("['x'] + jwt.groups == ['x', 'admins', 'staff']", Some(true)),
    ("jwt.groups + jwt.empty == jwt.groups", Some(true)),
    ("jwt.sub in ['alice', 'bob']", Some(true)),
    ("jwt.sub in ['bob', 1, null]", Some(false)),
    ("{'id': 1} in jwt.nested.list", Some(true)),
    ("size(jwt.empty) == 0", Some(true)),
    // Functions.
    ("scopes(jwt).contains('write')", Some(true)),
    ("scopes(jwt) == ['read', 'write', 'audit']", Some(true)),
    ("'writ' in scopes(jwt)", Some(false)),
    ("claim(jwt, ['realm_access', 'roles']).contains('editor')", Some(true)),
    ("claim(jwt, ['none', 'roles']) == null", Some(true)),
    ("claim(jwt, ['sub', 'x']) == null", Some(true)),
    ("claim(jwt, ['https://x/roles']) == ['owner']", Some(true)),
    ("cidr('10.0.0.0/8').containsIP(source.address)", Some(true)),
    ("cidr('10.0.0.0/8').containsIP(jwt.net)", Some(true)),
    ("cidr('192.168.0.0/16').containsIP(source.address)", Some(false)),
    ("cidr('::/0').containsIP(source.address)", Some(false)),
    ("cidr('0.0.0.0/0').containsIP(source.address)", Some(true)),
    ("cidr('10.1.2.3/32').containsIP(ip(source.address))", Some(true)),
    ("cidr('::ffff:10.0.0.0/104').containsIP('10.1.1.1')", Some(true)),
    ("cidr('10.0.0.0/8').containsIP(jwt.sub)", None),
    ("cidr(jwt.sub).containsIP('10.0.0.1')", None),
    ("ip('::ffff:10.0.0.1') == ip('10.0.0.1')", Some(true)),
    ("string(ip('::1')) == '::1'", Some(true)),
    ("request.path.matches('^/adm')", Some(true)),
    ("matches(request.path, 'min$')", Some(true)),
    ("request.path.matches('^/x')", Some(false)),
    ("'aaa'.matches(jwt.sub)", Some(false)),
    ("'aaa'.matches(jwt.group + '(')", None),
    ("request.path.split('/')[1] == 'admin'", Some(true)),
    ("jwt.groups.join(' ') == 'admins staff'", Some(true)),
    ("jwt.nested.list.join(' ') == ''", None),
    ("'AbC'.lowerAscii() == 'abc' && 'x'.upperAscii() == 'X' && ' a '.trim() == 'a'", Some(true)),
    ("'a-b-c'.replace('-', '') == 'abc' && 'a-b-c'.replace('-', '', 1) == 'ab-c'", Some(true)),
    ("request.path.substring(1) == 'admin' && request.path.substring(0, 4) == '/adm'", Some(true)),
    ("request.path.substring(9) == ''", None),
    ("request.path.stripPrefix('/') == 'admin' && request.path.stripSuffix('min') == '/ad'", Some(true)),
    ("default(jwt.none, 'x') == 'x' && default(jwt.sub, 'x') == 'alice'", Some(true)),
    ("default(jwt.none.deeper, 'x') == 'x'", Some(true)),
    ("default(jwt.level / 0, 7) == 7", None),
    ("json(jwt.json).a[0] == 1", Some(true)),
    ("json(jwt.sub).a == 1", None),
    ("base64.decode(base64.encode('hi')) == b'hi'", Some(true)),
    ("base64.decode(jwt.sub + '*') == b''", None),
    ("sha256.encode('') == 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'", Some(true)),
    ("jwt.?none.orValue('x') == 'x' && jwt.?sub.hasValue()", Some(true)),
    ("optional.of(jwt.sub).optMap(s, s + '!').value() == 'alice!'", Some(true)),
    ("'%s is %d'.format([jwt.sub, jwt.level]) == 'alice is 3'", Some(true)),
    // Logical operators absorb failures as in the CEL specification.
    ("jwt.none == 1 || true", Some(true)),
    ("true || jwt.none == 1", Some(true)),
    ("jwt.none == 1 && false", Some(false)),
    ("jwt.none == 1 || false", None),
    ("jwt.none == 1 ? true : true", None),
    ("jwt.level / 0 == 1", None),
    ("jwt.level * 9223372036854775807 > 0", None),
    ("{jwt.sub: 1, 'alice': 2}.alice == 1", None),
    ("{jwt.groups: 1} == {}", None),
];

#[test]
fn rules_evaluate_as_in_the_table() {
    let sample = test_request(claims());
    for (source, expected) in CASES {
        let result = sample.with_vars(|vars| compile(source).eval_bool(vars));
        assert_eq!(result.clone().ok(), *expected, "{source}: {result:?}");
    }
}

#[test]
fn jwt_is_null_and_empty_without_a_token() {
    let sample = test_request(Value::Null);
    for (source, expected) in [
        ("jwt == null", Some(true)),
        ("null == jwt", Some(true)),
        ("jwt != null", Some(false)),
        ("null in [jwt]", Some(true)),
        ("type(jwt) == null_type", Some(true)),
        ("has(jwt.sub)", Some(false)),
        ("jwt.sub == 'a'", None),
        ("jwt.sub != 'a'", None),
        ("jwt['sub'] == 'a'", None),
        ("'sub' in jwt", Some(false)),
        ("jwt.groups.contains('admins')", None),
        ("jwt.contains('sub')", None),
        ("jwt.exists(name, true)", None),
        ("size(jwt) == 0", None),
        ("scopes(jwt) == []", Some(true)),
        ("claim(jwt, ['sub']) == null", Some(true)),
        ("default(jwt.sub, 'nobody') == 'nobody'", Some(true)),
        ("jwt.?sub.orValue('nobody') == 'nobody'", Some(true)),
        ("jwtAuth == null", Some(true)),
        ("has(jwtAuth.provider)", Some(false)),
        ("jwtAuth.provider == 'keycloak'", None),
        ("jwtAuth.token.issuedAt < now", None),
        ("request.path == '/admin' && jwt.groups.contains('admins')", None),
    ] {
        let result = sample.with_vars(|vars| compile(source).eval_bool(vars));
        assert_eq!(result.clone().ok(), expected, "{source}: {result:?}");
    }
}

#[test]
fn rules_can_read_the_client_certificate() {
    let sample = test_request(Value::Null).with_tls();
    for (source, expected) in [
        ("source.tls.sni == 'www.example.com'", Some(true)),
        ("source.tls.sans.contains('a.example')", Some(true)),
        ("source.tls.spiffeId.startsWith('spiffe://td/')", Some(true)),
        ("has(source.tls.subject)", Some(false)),
        ("source.tls.subject == 'CN=x'", None),
        ("source.?tls.?sni.orValue('') == 'www.example.com'", Some(true)),
    ] {
        assert_eq!(sample.with_vars(|vars| compile(source).eval_bool(vars)).ok(), expected, "{source}");
    }
}

/// The decision, true for allowed, and the index of the rule that decided.
type ExpectedDecision = (bool, Option<usize>);

/// Rules, with the decisions for the token of [`claims`] and without a token.
const DECISIONS: &[(&[&str], ExpectedDecision, ExpectedDecision)] = &[
    (&[], (true, None), (true, None)),
    (&["true"], (true, Some(0)), (true, Some(0))),
    (&["false"], (false, None), (false, None)),
    (&["false", "true"], (true, Some(1)), (true, Some(1))),
    (&["request.path == '/admin' && jwt.groups.contains('admins')"], (true, Some(0)), (false, None)),
    (&["jwt.groups.contains('none')"], (false, None), (false, None)),
    (&["jwt.group.contains('admins')"], (false, None), (false, None)),
    (&["jwt.none == 1", "true"], (true, Some(1)), (true, Some(1))),
    (&["jwt.sub"], (false, None), (false, None)),
    (&["deny: true"], (false, Some(0)), (false, Some(0))),
    (&["deny: false"], (true, None), (true, None)),
    (&["deny: jwt.banned == true"], (true, None), (false, Some(0))),
    (&["deny: jwt.none == true"], (false, Some(0)), (false, Some(0))),
    (&["deny: has(jwt.none) && jwt.none == true"], (true, None), (true, None)),
    (&["deny: jwt.group.contains('admins')"], (false, Some(0)), (false, Some(0))),
    (&["deny: jwt.sub"], (false, Some(0)), (false, Some(0))),
    (&["deny: false", "true"], (true, Some(1)), (true, Some(1))),
    (&["true", "deny: true"], (false, Some(1)), (false, Some(1))),
    (&["true", "deny: false", "deny: jwt.none"], (false, Some(2)), (false, Some(2))),
    (&["require: true"], (true, None), (true, None)),
    (&["require: false"], (false, Some(0)), (false, Some(0))),
    (&["require: 'mfa' in jwt.amr"], (true, None), (false, Some(0))),
    (&["require: jwt.none"], (false, Some(0)), (false, Some(0))),
    (&["require: jwt.sub"], (false, Some(0)), (false, Some(0))),
    (&["require: true", "false"], (false, None), (false, None)),
    (&["require: true", "true"], (true, Some(1)), (true, Some(1))),
    (&["true", "require: false"], (false, Some(1)), (false, Some(1))),
    (&["require: false", "deny: true"], (false, Some(1)), (false, Some(1))),
    (&["require: true", "require: false", "true"], (false, Some(1)), (false, Some(1))),
    (&["deny: jwt == null", "require: 'mfa' in jwt.amr", "jwt.level > 2"], (true, Some(2)), (false, Some(0))),
];

#[test]
fn rule_sets_decide_as_in_the_table() {
    for (rules, with_token, anonymous) in DECISIONS {
        for (claims, (allowed, by)) in [(claims(), with_token), (Value::Null, anonymous)] {
            let set = rule_set(rules);
            let (decided_by, authorization) =
                test_request(claims).with_vars(|vars| (decide(&set, vars), authorize(&[&set], vars)));
            assert_eq!((decided_by.allows(), decided_by.rule_index()), (*allowed, *by), "{rules:?}");
            assert_eq!(authorization.allowed(), *allowed, "{rules:?}");
            assert_eq!(authorization.permit().is_some(), *allowed);
            assert_eq!(authorization.rejection().is_none(), *allowed);
        }
    }
}

#[test]
fn tables_have_at_least_150_cases() {
    assert!(CASES.len() + 2 * DECISIONS.len() >= 150);
}

#[test]
fn error_messages_are_actionable_and_contain_no_value() {
    let sample = test_request(claims());
    for (source, message) in [
        ("jwt.none == 1", "the token has no claim `jwt.none`"),
        ("jwt.sub.x == 1", "`jwt.sub.x` is missing, since `jwt.sub` is not an object"),
        ("jwt['none'] == 1", "there is no `none`"),
        ("source.tls.sni == ''", "this request has no `source.tls.sni`"),
        ("request.headers['x-none'] == ''", "there is no `x-none`"),
        ("jwt.sub > 1", "`>` can't be applied to (string, int)"),
        ("jwt.sub + 1 == 2", "`add` can't be applied to (string, int)"),
        ("jwt.sub", "the result is a string, not true or false"),
        (
            "jwt.group.contains('admins')",
            "contains: this claim is a string, where contains() would be a substring test; use ==, startsWith, endsWith \
             or matches, or scopes(jwt) for a space-separated list",
        ),
        ("cidr('10.0.0.0/8').containsIP(jwt.sub)", "containsIP: not an IP address"),
    ] {
        let error = sample.with_vars(|vars| compile(source).eval_bool(vars)).unwrap_err().to_string();
        assert_eq!(error, message, "{source}");
        assert!(!error.contains("alice"), "{error}");
    }
    let error =
        super::test_request(json!(null)).with_vars(|vars| compile("jwt.sub == 'a'").eval_bool(vars)).unwrap_err();
    assert_eq!(error.to_string(), "`jwt.sub` needs a token, and this request has no verified one");
}
