//! Constant subexpressions are evaluated when the config is loaded.

use super::*;

/// Sources that always fail, with the offset and the text of the error.
const ALWAYS_FAILING: &[(&str, usize, &str)] = &[
    (
        "now > timestamp(\"2027-01-01\")",
        6,
        "\"2027-01-01\": not a timestamp; write it as in RFC 3339, such as \"2027-01-01T00:00:00Z\"",
    ),
    (
        "timestamp('2025-13-01T00:00:00Z') < now",
        0,
        "\"2025-13-01T00:00:00Z\": not a timestamp; write it as in RFC 3339, such as \"2027-01-01T00:00:00Z\"",
    ),
    (
        "now - timestamp(jwt.iat) > duration(\"1d\")",
        27,
        "\"1d\": not a duration; write it as \"24h\" or \"1h30m\": the units are h, m, s, ms, us and ns, and CEL has none \
         for days",
    ),
    (
        "duration('5 parsecs') > duration('1s')",
        0,
        "\"5 parsecs\": not a duration; write it as \"24h\" or \"1h30m\": the units are h, m, s, ms, us and ns, and CEL \
         has none for days",
    ),
    ("jwt.level == int('abc')", 13, "\"abc\": not an int; write a whole number, such as \"42\""),
    ("uint('-1') == 1u", 0, "\"-1\": not a uint; write a whole number that is not negative, such as \"42\""),
    ("double('x') == 1.0", 0, "\"x\": not a double; write a number, such as \"1.5\""),
    ("bool('yes')", 0, "\"yes\": not a bool; write \"true\" or \"false\""),
    ("base64.decode('!!!') == bytes(jwt.s)", 0, "\"!!!\": not base64"),
    ("json('{') == 1", 0, "\"{\": not JSON at line 1, column 1"),
    ("cidr('10.0.0.0/8').containsIP('foo')", 30, "\"foo\": not an IP address"),
    ("cidr(jwt.net).containsIP('foo')", 25, "\"foo\": not an IP address"),
    ("ip(source.address) == ip('300.1.1.1')", 22, "\"300.1.1.1\": not an IP address"),
    (
        "now.getHours('Europe/Brlin') > 8",
        13,
        "\"Europe/Brlin\": not a time zone; write it as \"Europe/Berlin\" or \"+01:00\"",
    ),
    ("1 / 0 == 1", 0, "this always fails: a division by zero"),
    ("jwt.level == 3 || 1 % 0 == 1", 18, "this always fails: a division by zero"),
    ("false && 1 / 0 == 1", 9, "this always fails: a division by zero"),
    ("jwt.a ? 1 / 0 == 1 : true", 8, "this always fails: a division by zero"),
    ("9223372036854775807 + 1 > 0", 0, "this always fails: a number too large for its type"),
    ("[1, 2][2] == jwt.level", 0, "this always fails: the list has no element at that index"),
    ("{'a': 1}['b'] == jwt.level", 0, "this always fails: there is no `b`"),
    ("{'a': 1}.b == jwt.level", 0, "this always fails: there is no `b`"),
    ("jwt.sub in {'a': 1, 'a': 2}", 11, "this always fails: a map with the same key twice"),
    ("[1, 0].exists(x, 1 / x == 3)", 0, "this always fails: a division by zero"),
    ("[1, 2].map(x, x / 0).size() == 2", 0, "this always fails: a division by zero"),
    ("'abc'.substring(5) == jwt.sub", 0, "this always fails: substring: index out of range: 5"),
    ("optional.none().value() == 1", 0, "this always fails: value: optional.none() dereference"),
    ("jwt.l.exists(x, x == int('abc'))", 21, "\"abc\": not an int; write a whole number, such as \"42\""),
    ("request.path.matches('^/' + '(')", 21, "not a regex: unclosed group"),
    ("'a'.matches('b' + string(1 / 0))", 25, "this always fails: a division by zero"),
];

#[test]
fn constant_that_always_fails_is_rejected_with_its_position() {
    for (source, offset, message) in ALWAYS_FAILING {
        let errors = Expression::compile(source, Scope::Rule).err().unwrap_or_default();
        let result: Vec<(usize, String)> = errors.iter().map(|error| (error.offset, error.to_string())).collect();
        assert_eq!(result, [(*offset, (*message).to_owned())], "{source}");
    }
}

#[test]
fn folded_constant_has_the_value_of_its_expression() {
    let sample = test_request(claims());
    for (source, expected) in [
        (
            "now > timestamp('2020-01-01T00:00:00Z') && now < timestamp('2020-01-01T00:00:00Z') + duration('87600h')",
            true,
        ),
        ("now - timestamp('2020-01-01T00:00:00Z') > duration('24h')", true),
        ("jwt.level == int('3') && jwt.level == int(3.7) && jwt.level == 1 + 2", true),
        ("jwt.sub == 'al' + 'ice' && bytes(jwt.sub) == base64.decode('YWxpY2U=')", true),
        ("cidr('10.0.0.0/' + string(4 + 4)).containsIP(source.address)", true),
        ("ip('10.1.2.3') == ip(source.address) && cidr('10.0.0.0/8').containsIP(ip('10.1.1.1'))", true),
        ("jwt.groups == 'admins,staff'.split(',') && jwt.groups.contains('a,admins'.split(',')[1])", true),
        ("json('{\"a\": [1, {\"b\": 3}]}').a[1].b == jwt.level", true),
        ("{'alice': 1, 'bob': 2}[jwt.sub] == 1 && {'alice': {'x': 7}}.alice.x == 7", true),
        ("[1, 2, 3].map(x, x * 2).exists(x, x == jwt.level + 3)", true),
        ("[1, 2, 3].filter(x, x > 2)[0] == jwt.level && [1, 2, 3].exists_one(x, x == 2)", true),
        ("jwt.groups.exists(g, g in ['x', 'admins'].map(x, x))", true),
        ("optional.of('alice').optMap(x, x + '!').value() == jwt.sub + '!'", true),
        ("optional.none().orValue('alice') == jwt.sub && !optional.none().hasValue()", true),
        ("type(jwt.level) == int && type(1) == int && type('') != int && type(int) == type", true),
        ("[1].exists(int, int == jwt.level)", false),
        ("jwt.sub.matches('^al' + 'ice$') && 'alice'.matches('^a')", true),
        ("'%s-%d'.format(['alice', 3]) == jwt.sub + '-' + string(jwt.level)", true),
        ("request.path.startsWith('/' + 'adm') && 'x'.upperAscii() == 'X'", true),
        ("(true ? jwt.level : 1) == 3 && (1 == 1 || jwt.none) && !(1 == 2 && jwt.none)", true),
        ("0.0 / 0.0 == 0.0 / 0.0", false),
        ("now.getHours('Europe/Berlin') >= 0 && now.getHours('+01:00') >= 0", true),
    ] {
        assert_eq!(sample.with_vars(|vars| compile(source).eval_bool(vars)), Ok(expected), "{source}");
    }
}
