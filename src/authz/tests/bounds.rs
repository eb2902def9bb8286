//! The limits of an evaluation hold for every rule and every token.

use std::time::Instant;

use super::*;

#[test]
fn evaluation_over_the_limits_fails() {
    let long: Vec<usize> = (0..6_000).collect();
    let sample = test_request(json!({"a": long, "s": "x,".repeat(3_000)}));
    for (source, expected) in [
        ("jwt.a.all(x, x >= 0)", Ok(true)),
        ("jwt.a.exists(x, x == 5999) && 5999 in jwt.a", Ok(true)),
        ("jwt.a.all(x, jwt.a.exists(y, x == y))", Err(EvalError::Steps)),
        ("jwt.a.all(x, x in jwt.a)", Err(EvalError::Steps)),
        ("jwt.a.all(x, jwt.a.map(y, y) == jwt.a)", Err(EvalError::Steps)),
        ("jwt.s.split(',').all(x, jwt.s.split(',').all(y, y != 'q'))", Err(EvalError::Steps)),
        ("jwt.a.map(x, jwt.a).size() > jwt.a.map(x, jwt.a).size()", Err(EvalError::Steps)),
        // Neither a logical operator nor an optional absorbs the failure.
        ("jwt.a.all(x, jwt.a.exists(y, x == y)) || true", Err(EvalError::Steps)),
        ("true || jwt.a.all(x, jwt.a.exists(y, x == y))", Ok(true)),
    ] {
        assert_eq!(sample.with_vars(|vars| compile(source).eval_bool(vars)), expected, "{source}");
    }
    let big = super::test_request(json!({"s": "a".repeat(10_000)}));
    for source in ["jwt.s.replace('a', jwt.s) == ''", "jwt.s.split('').join(jwt.s) == ''"] {
        assert_eq!(big.with_vars(|vars| compile(source).eval_bool(vars)), Err(EvalError::Size), "{source}");
    }
}

/// Initial values, each with a step that at least doubles it.
const GROWING: &[(&str, &str)] = &[
    ("[jwt.s]", ".map(x, x + x)"),
    ("[bytes(jwt.s)]", ".map(x, x + x)"),
    ("[[jwt.s]]", ".map(x, x + x)"),
    ("[jwt.a]", ".map(x, x + x)"),
    ("[jwt.s]", ".map(x, [x, x])"),
    ("[jwt.s + jwt.s]", ".map(x, [x, x])"),
    ("[[jwt.s + 'a']]", ".map(x, {'a': x, 'b': x})"),
    ("[jwt.s + 'a']", ".map(x, [optional.of(x), optional.of(x)])"),
    ("[jwt.s + 'a']", ".map(x, [?optional.of(x), ?optional.of(x)])"),
    ("[jwt.s + 'a']", ".map(x, {?'a': optional.of(x), ?'b': optional.of(x)})"),
    ("[jwt.s]", ".map(x, '%s%s'.format([x, x]))"),
    ("[jwt.s]", ".map(x, '%x'.format([x]))"),
    ("[jwt.a]", ".map(x, '%s%s'.format([x, x]))"),
    ("[jwt.s]", ".map(x, [x, x].join())"),
    ("[jwt.s]", ".map(x, [x, 'a'].join(x))"),
    ("[jwt.s]", ".map(x, x.replace('a', 'aa'))"),
    ("[jwt.s]", ".map(x, x.replace('', 'a'))"),
    ("[jwt.q]", ".map(x, strings.quote(x))"),
    ("[jwt.s]", ".map(x, base64.encode(base64.encode(base64.encode(x))))"),
    ("[jwt.s]", ".map(x, string(bytes(x)) + x.lowerAscii())"),
    ("optional.of(jwt.s)", ".optMap(x, x + x)"),
    ("optional.of([jwt.s + 'a'])", ".optMap(x, [x, x])"),
    ("optional.of([jwt.s + 'a'])", ".optFlatMap(x, optional.of([x, x]))"),
    ("jwt.?a", ".optMap(x, x + x)"),
];

#[test]
fn repeated_doubling_fails_early() {
    let sample = test_request(json!({"s": "a".repeat(5_000), "q": "\"".repeat(5_000), "a": vec![1; 5_000]}));
    for (start, step) in GROWING {
        for times in [30, 60] {
            let source = format!("[{start}{}] == [0]", step.repeat(times));
            if source.len() > MAX_SOURCE_LEN {
                continue;
            }
            let expression = compile(&source);
            let started = Instant::now();
            let result = sample.with_vars(|vars| expression.eval_bool(vars));
            assert!(matches!(result, Err(EvalError::Size | EvalError::Steps)), "{start}{step}: {result:?}");
            assert!(started.elapsed().as_millis() < 1_000, "{start}{step}: {:?}", started.elapsed());
        }
        let source = format!("[{start}{step}] == [0]");
        assert_eq!(sample.with_vars(|vars| compile(&source).eval_bool(vars)), Ok(false), "{source}");
    }
}

#[test]
fn repeated_allocations_are_charged_together() {
    let numbers: Vec<usize> = (0..500).collect();
    let sample = test_request(json!({"s": "a".repeat(5_000), "n": numbers, "j": format!("[{}1]", "1,".repeat(2_000))}));
    for source in [
        "jwt.n.map(x, jwt.s + string(x)).size() > 0",
        "jwt.n.map(x, [jwt.s + 'a']).size() > 0",
        "jwt.n.map(x, jwt.n.map(y, jwt.s.upperAscii())).size() > 0",
        "jwt.n.exists(x, jwt.s + string(x) == '')",
        "jwt.n.exists(x, jwt.s.reverse() == '')",
        "jwt.n.exists(x, jwt.s.split('').size() == 0)",
        "jwt.n.exists(x, json(jwt.j).size() == x + 5000)",
        "jwt.n.exists(x, base64.decode(base64.encode(jwt.s)) == b'')",
        "jwt.n.map(x, json(jwt.j)).size() > 0",
        "jwt.n.exists(x, '%s'.format([jwt.n]) == '')",
        "jwt.n.exists(x, jwt.s + string(x) == '') || true",
        "default([jwt.s + 'a'].map(x, jwt.n.map(y, x))[0], 1) == 1",
    ] {
        let result = sample.with_vars(|vars| compile(source).eval_bool(vars));
        assert!(matches!(result, Err(EvalError::Size | EvalError::Steps)), "{source}: {result:?}");
    }
    let value =
        Expression::compile(&format!("[{}]", vec!["jwt.n"; 300].join(",")), Scope::Value { extra: &[] }).unwrap();
    assert_eq!(sample.with_vars(|vars| value.eval_json(vars)), Err(EvalError::Size));
}

#[test]
fn repeated_reads_of_long_texts_are_charged_steps() {
    let numbers: Vec<usize> = (0..1_000).collect();
    let sample = test_request(json!({"s": "a".repeat(100_000), "t": "a".repeat(100_000), "n": numbers}));
    for condition in [
        "jwt.s != jwt.t",
        "jwt.s < jwt.t",
        "[jwt.s] == [jwt.t, 1]  || [jwt.s] != [jwt.t]",
        "string(jwt.s).contains('b')",
        "jwt.s.size() == 1",
        "jwt.s.indexOf('b') == 1",
        "jwt.s.lastIndexOf('b') == 1",
        "jwt.s.startsWith(jwt.t + 'b')",
        "jwt.s.matches('b')",
    ] {
        let source = format!("jwt.n.exists(x, {condition})");
        let result = sample.with_vars(|vars| compile(&source).eval_bool(vars));
        assert!(matches!(result, Err(EvalError::Size | EvalError::Steps)), "{source}: {result:?}");
    }
}

/// Typical rules that read a big token.
#[test]
fn typical_rules_on_a_big_token_stay_within_the_limits() {
    let groups: Vec<String> = (0..400).map(|at| format!("CN=group-{at},OU=teams,DC=example,DC=com")).collect();
    let sample = test_request(json!({"groups": groups, "scope": groups.join(" "), "roles": groups[..20]}));
    for source in [
        "jwt.groups.exists(g, g.lowerAscii().startsWith('cn=group-399,'))",
        "jwt.groups.map(g, g.split(',')[0].stripPrefix('CN=')).contains('group-399')",
        "jwt.groups.filter(g, g.contains('group-39')).size() == 11",
        "jwt.groups.map(g, g.lowerAscii()).map(g, g.replace('cn=', '')).exists(g, g.startsWith('group-399'))",
        "jwt.roles.all(r, jwt.groups.contains(r))",
        "jwt.roles.all(r, r in jwt.groups)",
        "jwt.roles.all(r, jwt.groups.exists(g, g == r))",
        "jwt.roles.all(r, ('x-' + r) in jwt.groups.map(g, 'x-' + g))",
        "scopes(jwt).contains('CN=group-399,OU=teams,DC=example,DC=com')",
        "(jwt.groups + jwt.roles).size() == 420",
        "jwt.groups.join(' ') == jwt.scope && jwt.scope.split(' ') == jwt.groups",
        "'%s'.format([jwt.groups]).contains('group-399')",
    ] {
        assert_eq!(sample.with_vars(|vars| compile(source).eval_bool(vars)), Ok(true), "{source}");
    }
}

#[test]
fn searches_count_characters_like_the_engine() {
    let sample = test_request(json!({"m": "hello mellow", "u": "ta©o©αT", "e": "", "n": "bananananana"}));
    for (source, expected) in [
        ("jwt.m.indexOf('')", Some(0)),
        ("jwt.m.indexOf('ello')", Some(1)),
        ("jwt.m.indexOf('jello')", Some(-1)),
        ("jwt.m.indexOf('', 2)", Some(2)),
        ("jwt.m.indexOf('', 99)", Some(12)),
        ("jwt.m.indexOf('ello', 2)", Some(7)),
        ("jwt.m.indexOf('ello', 20)", None),
        ("jwt.m.indexOf('ello', 12)", None),
        ("jwt.m.indexOf('ello', -1)", None),
        ("jwt.u.indexOf('©', 3)", Some(4)),
        ("jwt.u.indexOf('©α', 5)", Some(-1)),
        ("jwt.m.lastIndexOf('')", Some(12)),
        ("jwt.m.lastIndexOf('ello')", Some(7)),
        ("jwt.e.lastIndexOf('@@')", Some(-1)),
        ("jwt.m.lastIndexOf('ello', 6)", Some(1)),
        ("jwt.m.lastIndexOf('ello', 7)", Some(7)),
        ("jwt.m.lastIndexOf('ello', 0)", Some(-1)),
        ("jwt.u.lastIndexOf('©', 3)", Some(2)),
        ("jwt.u.lastIndexOf('o©', 3)", Some(3)),
        ("jwt.u.lastIndexOf('oX', 3)", Some(-1)),
        ("jwt.n.lastIndexOf('nana', 7)", Some(6)),
        ("jwt.m.lastIndexOf('ello', 20)", None),
        ("jwt.m.lastIndexOf('a', -1)", None),
    ] {
        let expression = Expression::compile(source, Scope::Value { extra: &[] }).unwrap();
        assert_eq!(sample.with_vars(|vars| expression.eval_json(vars)).ok(), expected.map(Value::from), "{source}");
    }
}

#[test]
fn split_counts_parts_like_the_engine() {
    let sample = test_request(json!({"c": "a,b,c", "u": "©ab", "e": ""}));
    for (source, expected) in [
        ("jwt.c.split(',')", json!(["a", "b", "c"])),
        ("jwt.c.split(',', 0)", json!([])),
        ("jwt.c.split(',', 1)", json!(["a,b,c"])),
        ("jwt.c.split(',', 2)", json!(["a", "b,c"])),
        ("jwt.c.split(',', 9)", json!(["a", "b", "c"])),
        ("jwt.c.split(',', -1)", json!(["a", "b", "c"])),
        ("jwt.c.split(';')", json!(["a,b,c"])),
        ("jwt.e.split(',')", json!([""])),
        ("jwt.u.split('')", json!(["©", "a", "b"])),
        ("jwt.u.split('', 0)", json!([])),
        ("jwt.u.split('', 1)", json!(["©ab"])),
        ("jwt.u.split('', 2)", json!(["©", "ab"])),
        ("jwt.u.split('', 3)", json!(["©", "a", "b"])),
        ("jwt.u.split('', 9)", json!(["©", "a", "b"])),
        ("jwt.e.split('')", json!([])),
    ] {
        let expression = Expression::compile(source, Scope::Value { extra: &[] }).unwrap();
        assert_eq!(sample.with_vars(|vars| expression.eval_json(vars)), Ok(expected), "{source}");
    }
}
