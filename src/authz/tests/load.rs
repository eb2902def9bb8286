//! Expressions that are rejected when the config is loaded, with the positions of their errors.

use proptest::prelude::*;

use super::*;

/// Invalid sources, with the offset and the text of the first error.
const REJECTED: &[(&str, usize, &str)] = &[
    ("", 0, "the expression is empty"),
    ("   ", 0, "the expression is empty"),
    (".", 1, "not CEL: no viable alternative at input '.'"),
    ("'", 0, "not CEL: token recognition error at: '''"),
    ("/", 0, "not CEL: mismatched input '/'"),
    ("(((", 3, "not CEL: mismatched input '<EOF>'"),
    ("jwt.sub ==", 10, "not CEL: mismatched input '<EOF>'"),
    ("jwt.sub = 'a'", 8, "not CEL: token recognition error at: '= '"),
    ("true and false", 5, "not CEL: mismatched input 'and'"),
    ("\n  true &&\n  é", 13, "not CEL: token recognition error at: 'é'"),
    ("'é' == 'é' && requst.path == ''", 16, "unknown variable `requst`; did you mean `request`?"),
    ("requst.path == '/'", 0, "unknown variable `requst`; did you mean `request`?"),
    (
        "true || nonsense",
        8,
        "unknown variable `nonsense`; there are `request`, `source`, `jwt`, `jwtAuth`, `basicAuth`, `apiKey`, `route`, `listener`, `now`",
    ),
    ("request.pth == '/'", 0, "`request.pth` is not a field of request; did you mean `request.path`?"),
    (
        "true && request.body == ''",
        8,
        "`request.body` is not a field of request; its fields are `method`, `path`, `query`, `uri`, `host`, `port`, `authority`, `scheme`, `version`, `headers`, `id`",
    ),
    ("request['pth'] == '/'", 0, "`request.pth` is not a field of request; did you mean `request.path`?"),
    ("has(request.pth)", 4, "`request.pth` is not a field of request; did you mean `request.path`?"),
    ("source.ip == ''", 0, "`source.ip` is not a field of source; its fields are `address`, `port`, `tls`"),
    (
        "source.tls.cn == ''",
        0,
        "`source.tls.cn` is not a field of source.tls; its fields are `sni`, `subject`, `sans`, `spiffeId`",
    ),
    (
        "has(source.tls.cn)",
        4,
        "`source.tls.cn` is not a field of source.tls; its fields are `sni`, `subject`, `sans`, `spiffeId`",
    ),
    ("source.?tsl.?sni.hasValue()", 0, "`source.tsl` is not a field of source; did you mean `source.tls`?"),
    (
        "jwtAuth.issuer == ''",
        0,
        "`jwtAuth.issuer` is not a field of jwtAuth; its fields are `provider`, `kid`, `alg`, `token`",
    ),
    (
        "jwtAuth.token.exp == now",
        0,
        "`jwtAuth.token.exp` is not a field of jwtAuth.token; its fields are `issuedAt`, `expiresAt`",
    ),
    ("route.nme == ''", 0, "`route.nme` is not a field of route; did you mean `route.name`?"),
    ("response.status == 200", 0, "`response` can't be used here; rules run before the backend has responded"),
    ("request == 'x'", 0, "a map and a string are never equal"),
    ("jwt.sub.startWith('a')", 0, "unknown function `startWith`; did you mean `startsWith`?"),
    ("startsWith(jwt.sub, 'a')", 0, "`startsWith` is a method; write `x.startsWith(…)`"),
    ("jwt.sub.size(1) == 1", 0, "`size` takes 0 arguments, and 1 are given"),
    ("now() == now", 0, "unknown function `now`; `now` is a variable; remove the parentheses"),
    ("jwt.groups.exist(g, g == 'a')", 0, "unknown function `exist`; did you mean `exists`?"),
    ("jwt.groups.exists(g == 'a')", 0, "`exists` can't be used like this; write list.exists(x, condition)"),
    ("has(jwt)", 0, "`has` can't be used like this; write has(a.b) or has(a[\"b\"])"),
    ("has(jwt[request.path])", 0, "`has` can't be used like this; write has(a.b) or has(a[\"b\"])"),
    ("request.path.matches('(')", 21, "not a regex: unclosed group"),
    ("request.path.matches('a{999}{999}{999}')", 21, "not a regex: the regex is too big once compiled"),
    ("cidr('10.0.0.0/33').containsIP(source.address)", 0, "\"10.0.0.0/33\": the prefix is longer than an address"),
    (
        "cidr('10.0.0.0').containsIP(source.address)",
        0,
        "\"10.0.0.0\": not a CIDR range, such as 10.0.0.0/8 or 2001:db8::/32",
    ),
    ("ip('1.2.3') == ip('1.2.3.4')", 0, "\"1.2.3\": not an IP address"),
    ("request.path", 0, "this gives a string, not true or false"),
    ("1", 0, "this gives an int, not true or false"),
    ("jwt", 0, "this gives a map, not true or false"),
    ("[true]", 0, "this gives a list, not true or false"),
    ("jwt.level + 1 == 2 ? 'a' : 'b'", 0, "this gives a string, not true or false"),
    ("request.path && true", 0, "an operand of `&&` must be true or false, and this is a string"),
    ("!request.path", 1, "an operand of `!` must be true or false, and this is a string"),
    ("request.port == '8443'", 0, "an int and a string are never equal; convert one side: int(x) or string(x)"),
    ("jwt.exp < now", 0, "`<` can't compare a claim with a timestamp; convert the number: timestamp(jwt.exp)"),
    ("jwt.exp == now", 0, "a claim and a timestamp are never equal; convert the number: timestamp(jwt.exp)"),
    ("jwt.sub == b'a'", 0, "a claim and bytes are never equal"),
    ("jwt == 'alice'", 0, "a map and a string are never equal"),
    ("request.path > 1", 0, "`>` can't compare a string with an int; convert one side: int(x) or string(x)"),
    (
        "request.port + 'a' == ''",
        0,
        "`+` can't be applied to an int and a string; convert one side: int(x) or string(x)",
    ),
    ("-request.path == ''", 1, "`-` can't be applied to a string"),
    (
        "'a' in request.path",
        0,
        "`in` needs a list or a map on its right, not a string; for a substring write text.contains(part)",
    ),
    ("request.path['a'] == ''", 0, "a string has no elements"),
    ("request.path.a == ''", 0, "a string has no fields"),
    ("source.tls.sans['a'] == ''", 16, "a list is indexed by an int, not by a string"),
    ("source.tls.sans.a == ''", 0, "a list has no fields"),
    ("request.path.exists(x, true)", 0, "a string cannot be iterated over"),
    ("[1].exists(jwt, true)", 0, "`jwt` is already a variable; choose another name for the element"),
    (
        "[1].all(a, [1].all(b, [1].all(c, true)))",
        22,
        "more than 2 nested comprehensions; their costs multiply; split the rule",
    ),
    ("{[1]: 2} == {}", 1, "a list can't be a map's key"),
    ("scopes(request).contains('a')", 0, "`scopes` reads the token; write `scopes(jwt…)`"),
    ("claim(jwt.a, ['b']) == 1", 0, "`claim` reads the token; write `claim(jwt…)`"),
    ("claim(jwt, ['a', 1]) == 1", 17, "a step of the path is an int, not a string"),
    ("claim(jwt, 'a') == 1", 0, "`claim` can't be called with (a map, a string)"),
    ("headers(source, 'a') == []", 0, "`headers` reads a request; write `headers(request, \"x\")`"),
    ("jwt.sub.format([1]) == ''", 0, "the pattern of `format` must be a string literal"),
    (
        "google.protobuf.Int64Value{value: 1} == 1",
        26,
        "`google.protobuf.Int64Value{…}` is a protobuf message, which is not supported",
    ),
    ("jwt.sub.startsWith(1)", 0, "`startsWith` can't be called on a claim with (an int)"),
    ("request.path.contains(1)", 0, "`contains` can't be called on a string with (an int)"),
    (
        "math.greatest(1, 2) == 2",
        0,
        "unknown variable `math`; there are `request`, `source`, `jwt`, `jwtAuth`, `basicAuth`, `apiKey`, `route`, `listener`, `now`",
    ),
];

#[test]
fn invalid_expression_is_rejected_with_the_position_of_the_error() {
    for (source, offset, message) in REJECTED {
        let errors = Expression::compile(source, Scope::Rule).err().unwrap_or_default();
        let actual = errors.first().map(|error| (error.offset, error.to_string()));
        assert_eq!(actual, Some((*offset, (*message).to_owned())), "{source}");
    }
}

#[test]
fn all_errors_of_an_expression_are_reported_together() {
    let errors = Expression::compile("request.pth == '/' && jwt.a.startWith('b') && nope", Scope::Rule).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.offset).collect::<Vec<_>>(), [0, 22, 46]);
}

#[test]
fn scope_limits_the_visible_variables() {
    let early = Expression::compile("request.path == '/' && source.port > 0", Scope::RouteMatch);
    assert!(early.is_ok());
    for source in ["jwt.sub == 'a'", "jwtAuth.kid == 'a'", "route.name == 'a'", "now == now", "response.status == 200"]
    {
        let errors = Expression::compile(source, Scope::RouteMatch).unwrap_err();
        assert!(errors.iter().all(|error| error.message.contains("can't be used here")), "{source}: {errors:?}");
    }
    let value = |source| Expression::compile(source, Scope::Value { extra: &["backend"] });
    assert!(value("jwt.sub + backend").is_ok());
    assert!(value("response.status").is_ok());
    assert!(value("backnd").unwrap_err().iter().any(|error| error.to_string().contains("did you mean `backend`?")));
}

#[test]
fn values_of_every_type_convert_to_json() {
    let sample = test_request(claims());
    let extra = [("backend", json!("a:80")), ("list", json!([1]))];
    for (source, expected) in [
        ("jwt.sub", json!("alice")),
        ("jwt.groups", json!(["admins", "staff"])),
        ("jwt.nested", json!({"list": [{"id": 1}, {"id": 2}]})),
        ("{'a': jwt.level, 2: [true, null, 1.5, 3u]}", json!({"a": 3, "2": [true, null, 1.5, 3]})),
        ("now", json!("2023-11-14T22:15:00Z")),
        ("duration('1500ms')", json!("1.5s")),
        ("b'hi'", json!("aGk=")),
        ("jwt.?none", json!(null)),
        ("jwt.?sub", json!("alice")),
        ("type(1)", json!("int")),
        ("backend + string(list[0])", json!("a:801")),
        ("response.status", json!(204)),
        ("response.headers['x-a']", json!("1")),
    ] {
        let expression = Expression::compile(source, Scope::Value { extra: &["backend", "list"] }).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        let actual = sample.with_vars(|vars| {
            let response = Some(ResponseHead { status: 204, headers: &headers });
            expression.eval_json(&Vars { response, extra: &extra, ..*vars })
        });
        assert_eq!(actual, Ok(expected), "{source}");
    }
    let nan = Expression::compile("0.0 / 0.0", Scope::Value { extra: &[] }).unwrap();
    assert!(matches!(sample.with_vars(|vars| nan.eval_json(vars)), Err(EvalError::Result(_))));
    let early = Expression::compile("response.status", Scope::Value { extra: &[] }).unwrap();
    assert!(matches!(sample.with_vars(|vars| early.eval_json(vars)), Err(EvalError::Missing(_))));
}

#[test]
fn long_and_deep_expressions_are_rejected() {
    let rejected = |source: &str| Expression::compile(source, Scope::Rule).is_err();
    assert!(rejected(&format!("true{}", " ".repeat(MAX_SOURCE_LEN))), "too long");
    assert!(rejected(&format!("0{} == 0", "+1".repeat(5_000))), "too long");
    assert!(rejected(&format!("0{} == 0", "+1".repeat(2_000))), "too deep");
    assert!(rejected(&format!("jwt{} == 0", ".a".repeat(2_000))), "too deep");
    assert!(rejected(&format!("{}1{} == 1", "(".repeat(300), ")".repeat(300))), "too deep");
    assert!(rejected(&format!("{}{} == 1", "[".repeat(125), "(".repeat(125))));
    assert!(rejected(&format!("jwt.a{} == 0", ".b(1)".repeat(700))));
    assert!(rejected(&"!".repeat(4_000)));
    assert!(rejected(&"{".repeat(4_000)));
    assert!(rejected(&"a?".repeat(2_000)));
}

/// A tokio worker has 2 MiB of stack. Half of it is reserved for the caller.
#[test]
fn deepest_accepted_expression_does_not_overflow_the_stack() {
    let repeated = |part: &str, times: usize| part.repeat(times);
    let sources = [
        format!("0{} == 250", repeated("+1", 250)),
        format!("0{} == 14", repeated("+1", 14)),
        format!("jwt.?groups{} == 1", repeated(".orValue(jwt.?groups)", 120)),
        format!("jwt{} == 1", repeated("['a']", 250)),
        format!("{}true{} == []", repeated("[", 80), repeated("]", 80)),
        format!("{}true", repeated("true ? true : ", 80)),
        format!("{}true{}", repeated("!(false || ", 40), repeated(")", 40)),
        format!("true{}", repeated(" != false", 200)),
    ];
    let expressions: Vec<Expression> = sources.iter().map(|source| compile(source)).collect();
    let run = || {
        let sample = test_request(claims());
        for expression in &expressions {
            assert_ne!(sample.with_vars(|vars| expression.eval_bool(vars)), Err(EvalError::Panicked));
        }
        assert_eq!(sample.with_vars(|vars| expressions[0].eval_bool(vars)), Ok(true));
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(1 << 20).spawn_scoped(scope, run).unwrap().join().unwrap();
    });
}

#[test]
fn many_expressions_compile_on_one_thread() {
    let sources = [("true", Scope::Rule), ("nope", Scope::Rule), ("jwt.a == 1", Scope::RouteMatch)];
    let compiled = with_deep_stack(|| sources.map(|(source, scope)| Expression::compile(source, scope))).unwrap();
    assert_eq!(compiled.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn deny_with_an_unguarded_read_has_a_warning() {
    let warning = |source| rule(RuleAction::Deny, source).unguarded_read_warning();
    assert_eq!(
        warning("jwt.banned == true").unwrap(),
        "this deny also rejects every request without `jwt.banned`, since it then fails to evaluate; to reject only \
         those that have it, write: has(jwt.banned) && (jwt.banned == true)"
    );
    for unguarded in
        ["jwt['a b'] == 1", "request.headers['x-a'] == '1'", "request.headers.accept == '1'", "jwt.a.b == 1"]
    {
        assert!(warning(unguarded).is_some(), "{unguarded}");
    }
    for guarded in [
        "has(request.headers['x-a']) && request.headers['x-a'] == '1'",
        "'x-a' in request.headers && request.headers['x-a'] == '1'",
        "has(jwt['a b']) && jwt['a b'] == 1",
        "has(jwt.banned) && jwt['banned'] == true",
        "'banned' in jwt && jwt.banned == true",
        "has(jwt.banned) && jwt.banned == true",
        "default(jwt.banned, false)",
        "jwt.?banned.orValue(false)",
        "claim(jwt, ['banned']) == true",
        "request.path == '/'",
        "jwt == null",
    ] {
        assert_eq!(warning(guarded), None, "{guarded}");
    }
    assert_eq!(rule(RuleAction::Allow, "jwt.banned == false").unguarded_read_warning(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_text_compiles_or_is_rejected_with_a_position_in_it(source in "\\PC{0,60}") {
        if let Err(errors) = Expression::compile(&source, Scope::Rule) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(error.offset <= source.len());
            }
        }
    }

    #[test]
    fn any_tokens_compile_or_are_rejected_with_a_position_in_them(tokens in prop::collection::vec(prop::sample::select(vec![
        "jwt", "request", ".", "path", "sub", "groups", "[", "]", "(", ")", "{", "}", "'a'", "\"", "1", "1u", "2.5", "&&", "||", "!", "-", "+",
        "==", "in", "?", ":", ",", "has", "exists", "all", "map", "contains", "matches", "x", ".?", "[?", "null", "true", "é", "\n", "//",
    ]), 0..25)) {
        let source = tokens.concat();
        if let Err(errors) = Expression::compile(&source, Scope::Rule) {
            prop_assert!(!errors.is_empty() && errors.iter().all(|error| error.offset <= source.len()), "{source}");
        }
    }
}
