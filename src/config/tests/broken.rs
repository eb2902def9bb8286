//! Error messages, word for word: each invalid config with all of its findings.

use proptest::prelude::*;

use super::super::{Source, load, unreadable_file};
use super::{env, errors, render_findings};

#[test]
fn invalid_configs_report_all_errors_with_positions() {
    for (text, want) in TABLE {
        assert_eq!(errors(text), *want, "{text}");
    }
}

#[test]
fn all_errors_of_a_file_are_reported_in_one_run() {
    let text = "config:
  limits: {head: 1KB}
  typo: 1
binds:
- port: x
  listeners:
  - name: 5
    name: 6
    policies:
      jwtAuth: {mode: strikt, issuer: i, leeway: 1}
    routes:
    - matches: [{path: /a}, {methd: GET}]
      backends: [{host: a}, {hots: 'b:1'}]
gatewayPolicies:
- {target: {gatewy: a}, policy: {corse: {}}}
";
    let lines: Vec<_> =
        errors(text).iter().map(|line| line.split(':').next().unwrap().parse::<u32>().unwrap()).collect();
    assert_eq!(lines, [2, 3, 5, 7, 8, 10, 10, 12, 12, 13, 13, 15, 15], "{:#?}", errors(text));
}

#[test]
fn errors_are_limited_to_one_hundred() {
    let bad = "x, ".repeat(500);
    let text = format!("config: {{trustedProxies: [{bad}]}}\n");
    assert_eq!(errors(&text).len(), 100);
}

#[test]
fn error_shows_its_line() {
    let source = Source::new("gw.yaml", "binds:\n- port: 1\n  listeners:\n  - hostnam: a.b\n".to_owned());
    let found = load(source.clone(), &env).unwrap_err();
    assert_eq!(
        found[0].render(Some(&source)),
        "error: gw.yaml:4:5: binds[0].listeners[0].hostnam\n 4 |   - hostnam: a.b\n   |     ^^^^^^^\n  \
         unknown key `hostnam`\n  hint: did you mean `hostname`?\n"
    );
}

#[test]
fn rule_offset_maps_to_file_position() {
    let text = "binds:
- port: 1
  listeners:
  - policies:
      authorization:
        rules:
        - allow: 'a == ''b'' && x'
        - |
          first &&
            second
";
    let loaded = super::loaded(text);
    let rules = &loaded.config.binds[0].listeners[0].policies.authorization.0[0].rules;
    let at = |rule: usize, word: &str| {
        let cel = &rules[rule].cel;
        let span = loaded.source.span_inside(&cel.span, cel.value.find(word).unwrap());
        (span.line, span.column, span.path.to_string())
    };
    let path = "binds[0].listeners[0].policies.authorization.rules";
    assert_eq!(at(0, "x"), (7, 33, format!("{path}[0].allow")));
    assert_eq!(at(1, "first"), (9, 11, format!("{path}[1]")));
    assert_eq!(at(1, "second"), (10, 13, format!("{path}[1]")));
}

#[test]
fn non_text_too_long_and_too_deep_files_are_rejected() {
    let rejection =
        |bytes: Vec<u8>| Source::from_bytes("gw.yaml", bytes).map(|_| ()).map_err(|e| render_findings(&[e]).remove(0));
    assert_eq!(rejection(b"a: 1\nb: \xff\n".to_vec()), Err("2:4 : not UTF-8 text (save the file in UTF-8)".to_owned()));
    assert_eq!(rejection(vec![b' '; (4 << 20) + 1]), Err("1:1 : longer than 4 MiB".to_owned()));
    assert!(rejection(vec![b' '; 4 << 20]).is_ok());
    assert_eq!(
        errors(&format!("{}{}", "[".repeat(100), "]".repeat(100))),
        ["1:65 : the config is nested more than 64 levels deep"]
    );
    assert_eq!(errors(&"[".repeat(100_000)).len(), 1);
    let bomb = (1..30)
        .fold("a0: &a0 [x, x]\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1));
    assert!(errors(&bomb)[0].contains("more than 500000 values"), "{:?}", errors(&bomb));
}

#[test]
fn missing_file_next_to_the_config_is_suggested() {
    let folder = std::env::temp_dir().join(format!("portcullis-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("here.json"), "{}").unwrap();
    let name = folder.join("gw.yaml").display().to_string();
    let span = Source::new(&name, "x: y\n".to_owned()).span(3, 4, "x");
    let unreadable = |file: &str| {
        let named = super::super::Spanned { value: file.into(), span: span.clone() };
        unreadable_file(&named, &std::io::Error::from(std::io::ErrorKind::NotFound))
    };
    let found_nearby = unreadable("./here.json");
    assert!(found_nearby.message.starts_with("there is no such file: /"), "{}", found_nearby.message);
    assert!(found_nearby.hint.unwrap().contains("next to the config file"));
    assert_eq!(unreadable("./elsewhere.json").hint, None);
    let missing = Source::read(&folder.join("none.yaml")).unwrap_err();
    let shown = format!("error: {}: there is no such file\n", folder.join("none.yaml").display());
    assert_eq!(missing.render(None), shown);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn probable_mistakes_are_warnings() {
    let jwt = |fields: &str| format!("binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {{{fields}}}\n");
    let count = |text: &str| super::loaded(text).warnings.len();
    assert_eq!(count(&jwt("mode: strict, issuer: i, audiences: [a], jwks: {file: k}")), 0);
    assert_eq!(count(&jwt("issuer: i, audiences: [a], jwks: {file: k}")), 1);
    assert_eq!(count(&jwt("mode: optional, jwks: {file: k}")), 2);
    assert_eq!(count(&jwt("mode: strict, issuer: i, audiences: [a], jwks: {url: 'http://x/'}")), 1);
    assert_eq!(count("binds: [{port: 1, listeners: [{policies: {authorization: {rules: []}}}]}]"), 1);
}

#[test]
fn variable_value_never_becomes_structure() {
    let text = "binds: [{port: 1, listeners: [{routes: [{matches: [{path: '${YAML}'}]}]}]}]";
    assert!(errors(text)[0].contains("found `{exact: /x}`"), "{:?}", errors(text));
    let host = super::loaded("binds: [{port: 1, listeners: [{hostname: '${HOST}'}]}]").config;
    assert_eq!(host.binds[0].listeners[0].hostname.as_ref().unwrap().to_string(), "db.internal");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}|[-a-z:\\[\\]{}\"'|>&*!#$ \n]{0,120}") {
        let _ = load(Source::new("t", text), &env);
    }

    #[test]
    fn no_mutation_of_a_valid_file_panics(at in 0usize..6000, cut in 0usize..40, new in "[-:{}\\[\\]|>&*$'\" \n\ta0]{0,6}") {
        let mut text = include_str!("everything.yaml").to_owned();
        let at = at.min(text.len());
        text.replace_range(at..(at + cut).min(text.len()), &new);
        if let Err(found) = load(Source::new("t", text.clone()), &env) {
            let source = Source::new("t", text);
            prop_assert!(!found.is_empty());
            for finding in found {
                prop_assert!(finding.render(Some(&source)).lines().count() >= 2);
            }
        }
    }
}

const TABLE: &[(&str, &[&str])] = &[
    ("", &["1:1 : the config is empty"]),
    ("# nothing\n", &["1:1 : the config is empty"]),
    ("a: b: c\n", &["1:5 : not YAML: mapping values are not allowed in this context"]),
    ("a: [1\n", &["1:4 : not YAML: unclosed bracket '['"]),
    ("a: 'x\n", &["2:1 : not YAML: invalid indentation in multiline quoted scalar"]),
    ("- 1\n", &["1:1 : expected a map, found a list (remove the `- ` at the start of its lines)"]),
    ("x\n", &["1:1 : expected a map, found the string `x`"]),
    ("binds: []\n", &["1:1 : the config has neither `binds` nor `gateways`, so nothing is served"]),
    ("config: {}\n", &["1:1 : the config has neither `binds` nor `gateways`, so nothing is served"]),
    ("binds: [{port: 1, listeners: []}]\n", &["1:9 binds[0]: `listeners` is empty, so the bind serves no requests"]),
    ("binds:\n", &["1:1 binds: the value is missing (write one, or remove the key)"]),
    ("binds: {}\n", &["1:8 binds: expected a list, found a map (start each entry of a list with `- `)"]),
    ("binds: [{prot: 1, listeners: [{}]}]\n", &["1:10 binds[0].prot: unknown key `prot` (did you mean `port`?)"]),
    (
        "binds: [{port: 70000, listeners: [{}]}]\n",
        &["1:16 binds[0].port: expected a whole number from 0 to 65535, found the number `70000`"],
    ),
    ("binds: [{port: x, listeners: [{}]}]\n", &["1:16 binds[0].port: expected a whole number, found the string `x`"]),
    (
        "binds: [{port: '80', listeners: [{}]}]\n",
        &["1:16 binds[0].port: expected a whole number, found the string `80`"],
    ),
    (
        "binds: [{port: -1, listeners: [{}]}]\n",
        &["1:16 binds[0].port: expected a whole number from 0 to 65535, found the number `-1`"],
    ),
    (
        "binds: [{port: 1.5, listeners: [{}]}]\n",
        &["1:16 binds[0].port: expected a whole number, found the number `1.5`"],
    ),
    (
        "binds: [{port: 1, port: 2, port: 3, listeners: [{}, {}]}]\n",
        &[
            "1:19 binds[0].port: the key `port` is a duplicate; first on line 1",
            "1:28 binds[0].port: the key `port` is a duplicate; first on line 1",
            "1:53 binds[0].listeners[1]: the listener `listener0` on line 1 serves the same hosts, so this one is unreachable",
        ],
    ),
    ("binds: [{port: 1}]\n", &["1:9 binds[0]: `listeners` is missing"]),
    (
        "binds: [{port: 1, listener: [{}]}]\n",
        &["1:19 binds[0].listener: unknown key `listener` (did you mean `listeners`?)"],
    ),
    (
        "binds: [{port: 1, listeners: {name: a}}]\n",
        &["1:30 binds[0].listeners: expected a list, found a map (start each entry of a list with `- `)"],
    ),
    (
        "binds: [{port: 1, address: 'a', listeners: [{}]}]\n",
        &["1:28 binds[0].address: not an IP address: `a`; the address of a bind is an IP address without a port"],
    ),
    (
        "binds: [{port: 1, listeners: [{}]}, {port: 1, address: '[::]', listeners: [{}]}]\n",
        &["1:37 binds[1]: port 1 is a duplicate; first on line 1"],
    ),
    (
        "binds: [{port: 1, listeners: [{}]}, {port: 1, address: 127.0.0.1, listeners: [{}]}]\n",
        &["1:37 binds[1]: port 1 is a duplicate; first on line 1"],
    ),
    ("binds: [{port: 0, listeners: [{}]}, {port: 0, listeners: [{}]}]\n", &[]),
    (
        "config: {statsAddr: off}\nbinds: [{port: 15020, listeners: [{}]}, {port: 15000, address: '::1', listeners: [{}]}]\n",
        &[],
    ),
    (
        "binds:\n- port: 15020\n  listeners: [{}]\n- port: 15000\n  address: 127.0.0.1\n  listeners: [{}]\n",
        &[
            "2:3 binds[0]: [::]:15020 is used by `config.statsAddr`, its default (use another port, or another `config.statsAddr`; it can be `off`)",
            "4:3 binds[1]: 127.0.0.1:15000 is used by `config.adminAddr`, its default (use another port, or another `config.adminAddr`; it can be `off`)",
        ],
    ),
    (
        "config:\n  statsAddr: localhost:1\n  readinessAddr: 0.0.0.0:1\n  adminAddr: :15021\nbinds: [{port: 1, listeners: [{}]}]\n",
        &[
            "3:18 config.readinessAddr: 0.0.0.0:1 is used by `config.statsAddr` on line 2 (use another port, or another `config.statsAddr`; it can be `off`)",
            "5:9 binds[0]: [::]:1 is used by `config.statsAddr` on line 2 (use another port, or another `config.statsAddr`; it can be `off`)",
        ],
    ),
    (
        "config: {adminAddr: '127.0.0.1:15020'}\nbinds: [{port: 1, listeners: [{}]}]\n",
        &[
            "1:21 config.adminAddr: 127.0.0.1:15020 is used by `config.statsAddr`, its default (use another port, or another `config.statsAddr`; it can be `off`)",
        ],
    ),
    ("a: &x [*x]\n", &["1:8 : the alias is inside the value that it refers to"]),
    ("a: 1\n---\nb: 2\n", &["2:1 : a second document starts here; a config is a single document"]),
    ("a: !foo 1\n", &["1:9 : tags (`!name`) are not supported"]),
    ("[a]: 1\n", &["1:1 : a key must be a scalar, not a list or map"]),
    (
        "<<: {a: 1}\nbinds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\n",
        &["1:1 <<: unknown key `<<` (merge keys are not part of YAML 1.2; write the keys out)"],
    ),
    (
        "binds: [{port: 1, listeners: [{hostname: 'a:80'}]}]\n",
        &["1:42 binds[0].listeners[0].hostname: a hostname cannot contain a port here: `a:80`"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: 5}]}]\n",
        &["1:38 binds[0].listeners[0].name: expected a string, found the number `5` (put it in quotes)"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: true}]}]\n",
        &["1:38 binds[0].listeners[0].name: expected a string, found `true` (put it in quotes)"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: }]}]\n",
        &["1:32 binds[0].listeners[0].name: the value is missing (write one, or remove the key)"],
    ),
    (
        "binds: [{port: 1, listeners: [{protocol: http2}]}]\n",
        &["1:42 binds[0].listeners[0].protocol: expected one of `HTTP`, `HTTPS`, found `http2` (did you mean `HTTP`?)"],
    ),
    (
        "binds: [{port: 1, listeners: [{protocol: HTTPS}]}]\n",
        &["1:42 binds[0].listeners[0].protocol: `protocol: HTTPS` needs `tls` with `cert` and `key`"],
    ),
    (
        "binds: [{port: 1, listeners: [{protocol: HTTP, tls: {cert: c, key: k}}]}]\n",
        &["1:53 binds[0].listeners[0].tls: `tls` cannot be combined with `protocol: HTTP`"],
    ),
    ("binds: [{port: 1, listeners: [{tls: {cert: c}}]}]\n", &["1:37 binds[0].listeners[0].tls: `key` is missing"]),
    (
        "binds: [{port: 1, listeners: [{tls: {cert: c, key: k, minTLSVersion: TLS_V1_3, maxTLSVersion: TLS_V1_2}}]}]\n",
        &["1:37 binds[0].listeners[0].tls: `minTLSVersion` is newer than `maxTLSVersion`, so no client could connect"],
    ),
    (
        "binds: [{port: 1, listeners: [{}, {name: x}, {hostname: y, name: x}]}]\n",
        &[
            "1:35 binds[0].listeners[1]: the listener `listener0` on line 1 serves the same hosts, so this one is unreachable",
            "1:46 binds[0].listeners[2]: a second listener `x` on this bind; first on line 1",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{hostname: a.b}, {hostname: A.B.}]}]\n",
        &[
            "1:48 binds[0].listeners[1]: the listener `listener0` on line 1 serves the same hosts, so this one is unreachable",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{name: '${NOPE}'}]}]\n",
        &["1:38 binds[0].listeners[0].name: the environment variable `NOPE` is not set; `${NOPE:-…}` gives a default"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: '${PORT'}]}]\n",
        &["1:38 binds[0].listeners[0].name: `${` has no closing `}`; write `$${` for a literal `${`"],
    ),
    (
        "binds: [{port: 1, listeners: [{pathNormalization: {escapedSlashes: sometimes}}]}]\n",
        &[
            "1:68 binds[0].listeners[0].pathNormalization.escapedSlashes: expected one of `reject`, `keep`, `decode`, found `sometimes`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {urlRewrite: {path: {full: /x}}}}]}]\n",
        &[
            "1:55 binds[0].listeners[0].policies.urlRewrite: `urlRewrite` is allowed on routes only (move it into the `policies` of routes)",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {oidc: {}}}]}]\n",
        &[
            "1:43 binds[0].listeners[0].policies.oidc: unknown key `oidc` (this policy is not supported; ignoring it would not be safe)",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {jwtauth: {}}}]}]\n",
        &["1:43 binds[0].listeners[0].policies.jwtauth: unknown key `jwtauth` (did you mean `jwtAuth`?)"],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {timeout: {request: 5}}}]}]\n",
        &[
            "1:62 binds[0].listeners[0].policies.timeout.request: not a duration: `5`; a duration has a number and a unit, such as 300ms, 1.5s, 5m or 1h30m",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {timeout: {request: '5'}}}]}]\n",
        &[
            "1:62 binds[0].listeners[0].policies.timeout.request: not a duration: `5`; a duration has a number and a unit, such as 300ms, 1.5s, 5m or 1h30m",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {timeout: {request: -1s, idle: 1x}}}]}]\n",
        &[
            "1:62 binds[0].listeners[0].policies.timeout.request: a duration cannot be negative: `-1s`",
            "1:73 binds[0].listeners[0].policies.timeout.idle: not a duration: `1x`; a duration has a number and a unit, such as 300ms, 1.5s, 5m or 1h30m",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {retry: {codes: [99, 'x']}}}]}]\n",
        &[
            "1:59 binds[0].listeners[0].policies.retry.codes[0]: not a status code: 99; status codes are 100 to 599",
            "1:63 binds[0].listeners[0].policies.retry.codes[1]: expected a whole number, found the string `x`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {localRateLimit: {maxTokens: 0, fillInterval: 0s}}}]}]\n",
        &[
            "1:71 binds[0].listeners[0].policies.localRateLimit.maxTokens: expected a whole number above 0, found the number `0`",
            "1:88 binds[0].listeners[0].policies.localRateLimit.fillInterval: must be longer than 0",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {cors: {allowOrigins: [a.b]}}}]}]\n",
        &[
            "1:65 binds[0].listeners[0].policies.cors.allowOrigins[0]: not an origin: `a.b`; an origin is `*`, or a scheme and host such as `https://app.example.com`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {requestHeaderModifier: {set: {'a b': c}}}}]}]\n",
        &["1:73 binds[0].listeners[0].policies.requestHeaderModifier.set[\"a b\"]: not a header name: `a b`"],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {requestHeaderModifier: {set: {a: 1}}}}]}]\n",
        &[
            "1:76 binds[0].listeners[0].policies.requestHeaderModifier.set.a: expected a string, found the number `1` (put it in quotes)",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{policies: {requestHeaderModifier: {set: {a: \"x\\ny\"}}}}]}]\n",
        &[
            "1:76 binds[0].listeners[0].policies.requestHeaderModifier.set.a: not a header value: it contains a line break or a control character",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth:\n",
        &["5:7 binds[0].listeners[0].policies.jwtAuth: the value is missing (write one, or remove the key)"],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      authorization: []\n",
        &[
            "5:22 binds[0].listeners[0].policies.authorization: expected a map, found a list (remove the `- ` at the start of its lines)",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      authorization: {rules: 'x'}\n",
        &["5:30 binds[0].listeners[0].policies.authorization.rules: expected a list, found the string `x`"],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      authorization: {}\n",
        &["5:22 binds[0].listeners[0].policies.authorization: `rules` is missing"],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      authorization: {rules: [{allow: a, deny: b}, {name: n}, {alow: a}, [x], 7]}\n",
        &[
            "5:31 binds[0].listeners[0].policies.authorization.rules[0]: a rule has exactly one of `allow`, `deny` and `require`; write several rules",
            "5:52 binds[0].listeners[0].policies.authorization.rules[1]: a rule needs one of `allow`, `deny` and `require`",
            "5:64 binds[0].listeners[0].policies.authorization.rules[2].alow: unknown key `alow` (did you mean `allow`?)",
            "5:74 binds[0].listeners[0].policies.authorization.rules[3]: expected a map, found a list (remove the `- ` at the start of its lines)",
            "5:79 binds[0].listeners[0].policies.authorization.rules[4]: expected a string, found the number `7` (put it in quotes)",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      authorization: {mode: off, rules: []}\n",
        &["5:29 binds[0].listeners[0].policies.authorization.mode: expected one of `enforce`, `shadow`, found `off`"],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {}\n",
        &[
            "5:16 binds[0].listeners[0].policies.jwtAuth: `jwks` is missing; write it, or an `issuer` to discover the keys from",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {mode: strikt, issuer: i}\n",
        &[
            "5:23 binds[0].listeners[0].policies.jwtAuth.mode: expected one of `strict`, `optional`, `permissive`, `shadow`, found `strikt` (did you mean `strict`?)",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, jwks: {}}\n",
        &[
            "5:34 binds[0].listeners[0].policies.jwtAuth.jwks: `jwks` has exactly one of `file`, `url`, `inline` and `keys`; found none",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, jwks: {file: a, url: 'https://b'}}\n",
        &[
            "5:34 binds[0].listeners[0].policies.jwtAuth.jwks: `jwks` has exactly one of `file`, `url`, `inline` and `keys`; found several",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, jwks: {fil: a}}\n",
        &["5:35 binds[0].listeners[0].policies.jwtAuth.jwks.fil: unknown key `fil` (did you mean `file`?)"],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, jwks: not json}\n",
        &[
            "5:34 binds[0].listeners[0].policies.jwtAuth.jwks: a string here must be a key set as JSON; use `file:` or `url:` for a key set that is elsewhere",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, jwks: {file: a, timeout: 1s}}\n",
        &["5:34 binds[0].listeners[0].policies.jwtAuth.jwks: `timeout` requires `url`"],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, jwks: {url: 'ftp://x'}}\n",
        &["5:34 binds[0].listeners[0].policies.jwtAuth.jwks: a URL starts with `https://` or `http://`: `ftp://x`"],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: [a, b]}\n",
        &[
            "5:16 binds[0].listeners[0].policies.jwtAuth: keys can be discovered for one issuer only; write `jwks`, or one provider for each issuer",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: []}\n",
        &[
            "5:16 binds[0].listeners[0].policies.jwtAuth: `issuer` is empty, so no token could be accepted; leave it out to accept any issuer",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, algorithms: [none]}\n",
        &[
            "5:41 binds[0].listeners[0].policies.jwtAuth.algorithms[0]: expected one of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `Ed25519`, `EdDSA`, `HS256`, `HS384`, `HS512`, found `none`",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, algorithms: []}\n",
        &["5:16 binds[0].listeners[0].policies.jwtAuth: `algorithms` is empty, so no token could be accepted"],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, providers: []}\n",
        &[
            "5:16 binds[0].listeners[0].policies.jwtAuth: `issuer` cannot be combined with `providers`; move it into a provider",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {providers: []}\n",
        &["5:16 binds[0].listeners[0].policies.jwtAuth: `providers` is empty, so no token could be accepted"],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {providers: [{name: a, issuer: i}, {name: a, issuer: i}]}\n",
        &["5:16 binds[0].listeners[0].policies.jwtAuth: two providers have the name `a`; give each a unique `name`"],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {providers: [{issuer: a, leway: 1s}, {audiences: [x]}]}\n",
        &[
            "5:41 binds[0].listeners[0].policies.jwtAuth.providers[0].leway: unknown key `leway` (did you mean `leeway`?)",
            "5:53 binds[0].listeners[0].policies.jwtAuth.providers[1]: `jwks` is missing; write it, or an `issuer` to discover the keys from",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, location: {expression: x}}\n",
        &[
            "5:39 binds[0].listeners[0].policies.jwtAuth.location: expected one of `header`, `cookie`, `queryParameter`, found `expression`",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, location: {header: {name: a}, cookie: {name: b}}}\n",
        &[
            "5:38 binds[0].listeners[0].policies.jwtAuth.location: expected exactly one of `header`, `cookie`, `queryParameter`",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, requiredClaims: [a], jwtValidationOptions: {requiredClaims: [b]}}\n",
        &[
            "5:16 binds[0].listeners[0].policies.jwtAuth: `requiredClaims` and `jwtValidationOptions.requiredClaims` cannot be combined",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, realm: 'a\"b'}\n",
        &[
            "5:16 binds[0].listeners[0].policies.jwtAuth: `realm` contains a character that is not allowed in a quoted header parameter; use printable ASCII without quotes and backslashes",
        ],
    ),
    (
        "binds:\n- port: 1\n  listeners:\n  - policies:\n      jwtAuth: {issuer: i, leeway: soon, forward: maybe, claimsToHeaders: [{claim: [], header: 'x y'}]}\n",
        &[
            "5:36 binds[0].listeners[0].policies.jwtAuth.leeway: not a duration: `soon`; a duration has a number and a unit, such as 300ms, 1.5s, 5m or 1h30m",
            "5:51 binds[0].listeners[0].policies.jwtAuth.forward: expected `true` or `false`, found the string `maybe`",
            "5:84 binds[0].listeners[0].policies.jwtAuth.claimsToHeaders[0].claim: a claim name is empty",
            "5:96 binds[0].listeners[0].policies.jwtAuth.claimsToHeaders[0].header: not a header name: `x y`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{matches: [{path: /x}]}]}]}]\n",
        &[
            "1:59 binds[0].listeners[0].routes[0].matches[0].path: expected one of `exact`, `pathPrefix`, `regex`, found `/x`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{matches: [{path: {prefix: /x}}]}]}]}]\n",
        &[
            "1:60 binds[0].listeners[0].routes[0].matches[0].path: expected one of `exact`, `pathPrefix`, `regex`, found `prefix`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{matches: [{path: {exact: x}}]}]}]}]\n",
        &["1:59 binds[0].listeners[0].routes[0].matches[0].path: a path starts with `/`: `x`"],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{matches: [{path: {regex: '('}}]}]}]}]\n",
        &["1:67 binds[0].listeners[0].routes[0].matches[0].path.regex: not a regular expression: unclosed group"],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{matches: [{path: {exact: /a, regex: b}}]}]}]}]\n",
        &[
            "1:59 binds[0].listeners[0].routes[0].matches[0].path: expected exactly one of `exact`, `pathPrefix`, `regex`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{matches: [{method: get}]}]}]}]\n",
        &["1:61 binds[0].listeners[0].routes[0].matches[0].method: methods are case-sensitive: write `GET` for `get`"],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{matches: [{headers: [{name: a, value: b}]}]}]}]}]\n",
        &[
            "1:80 binds[0].listeners[0].routes[0].matches[0].headers[0].value: expected one of `exact`, `regex`, found `b`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{matches: {path: {exact: /}}}]}]}]\n",
        &[
            "1:51 binds[0].listeners[0].routes[0].matches: expected a list, found a map (start each entry of a list with `- `)",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{hostnames: ['*.*.a']}]}]}]\n",
        &[
            "1:54 binds[0].listeners[0].routes[0].hostnames[0]: `*` can replace only the first label, as in `*.example.com`: `*.*.a`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{name: r}, {name: r}]}]}]\n",
        &["1:52 binds[0].listeners[0].routes[1]: a second route `r` on this listener; first on line 1"],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{backends: [{}]}]}]}]\n",
        &["1:53 binds[0].listeners[0].routes[0].backends[0]: `host` is missing"],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{backends: [{host: localhost}]}]}]}]\n",
        &[
            "1:60 binds[0].listeners[0].routes[0].backends[0].host: a backend needs a port: `localhost`; write `localhost:80`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{backends: [{host: '::1:80'}]}]}]}]\n",
        &[
            "1:60 binds[0].listeners[0].routes[0].backends[0].host: an IPv6 address needs brackets: `::1:80`; write `[…]:port`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{backends: [{host: 'a:1', weight: -1}]}]}]}]\n",
        &[
            "1:75 binds[0].listeners[0].routes[0].backends[0].weight: expected a whole number from 0 to 4294967295, found the number `-1`",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{backends: [{backend: x}]}]}]}]\n",
        &[
            "1:63 binds[0].listeners[0].routes[0].backends[0].backend: unknown backend `x` (the config has no backend to refer to)",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{backends: [{host: 'a:1', policies: {backendTLS: {cert: c}}}]}]}]}]\n",
        &[
            "1:90 binds[0].listeners[0].routes[0].backends[0].policies.backendTLS: `cert` and `key` must be set together",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{policies: {requestRedirect: {status: 200}}}]}]}]\n",
        &[
            "1:79 binds[0].listeners[0].routes[0].policies.requestRedirect.status: not a redirect status: 200; use 301, 302, 303, 307 or 308",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{policies: {requestMirror: {backend: {host: 'a:1'}, percentage: 2}}}]}]}]\n",
        &["1:105 binds[0].listeners[0].routes[0].policies.requestMirror.percentage: not a ratio from 0 to 1: 2"],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{policies: {urlRewrite: {authority: aut}}}]}]}]\n",
        &[
            "1:77 binds[0].listeners[0].routes[0].policies.urlRewrite.authority: expected one of `full`, `host`, `port`, `auto`, `none`, found `aut` (did you mean `auto`?)",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{routes: [{gateways: a}]}]}]\n",
        &[
            "1:42 binds[0].listeners[0].routes[0].gateways: unknown key `gateways` (valid keys: `name`, `namespace`, `hostnames`, `matches`, `policies`, `backends`)",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\ngatewayPolicies: [{target: {gateway: gg}, policy: {timeout: {}}}]\n",
        &["2:38 gatewayPolicies[0].target.gateway: unknown gateway `gg` (valid names: `g`)"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\ngatewayPolicies: [{target: {route: rr}, policy: {timeout: {}}}]\n",
        &["2:36 gatewayPolicies[0].target.route: unknown route `rr` (valid names: `r`)"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\ngatewayPolicies: [{target: {listener: nothing}, policy: {timeout: {}}}]\n",
        &["2:39 gatewayPolicies[0].target.listener: unknown listener `nothing` (valid names: `l`)"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\ngatewayPolicies: [{target: {gateway: g}, policy: {}}]\n",
        &["2:50 gatewayPolicies[0].policy: `policy` is empty, so this entry has no effect"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\ngatewayPolicies: [{target: {gateway: g}}]\n",
        &["2:19 gatewayPolicies[0]: `policy` is missing"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\ngatewayPolicies: [{target: {gateway: default}, policy: {timeout: {}}}]\n",
        &["2:38 gatewayPolicies[0].target.gateway: unknown gateway `default` (valid names: `g`)"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\ngatewayPolicies: [{target: {service: g}, policy: {timeout: {}}}]\n",
        &["2:29 gatewayPolicies[0].target: expected one of `gateway`, `listener`, `route`, found `service`"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\ngatewayPolicies: [{target: {}, policy: {timeout: {}}}]\n",
        &["2:28 gatewayPolicies[0].target: expected exactly one of `gateway`, `listener`, `route`"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\ngatewayPolicies:\n- {target: {gateway: g}, policy: {cors: {}}}\n- {target: {gateway: g}, policy: {cors: {}}}\n",
        &[
            "4:41 gatewayPolicies[1].policy.cors: a second `cors` for the same target; first on line 3 (it would be ambiguous which one applies; keep one)",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\npolicies: [{target: {gateway: {gatewayName: g, listenerName: m}}, policy: {cors: {}}}]\n",
        &["2:62 policies[0].target.gateway.listenerName: unknown listener `m` (valid names: `l`)"],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\npolicies: [{target: {gateway: g}, policy: {directResponse: {status: 200}}}]\n",
        &[
            "2:60 policies[0].policy.directResponse: `directResponse` is allowed on routes only (move it into the `policies` of routes)",
        ],
    ),
    (
        "binds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\nroutes: [{name: x}]\n",
        &["2:10 routes[0]: unknown gateway `default` (set `gateways` to the name of a gateway)"],
    ),
    ("gateways: {g: {prot: 1}}\n", &["1:16 gateways.g.prot: unknown key `prot` (did you mean `port`?)"]),
    (
        "gateways: {g: {port: 1, jwtAut: {}}}\n",
        &["1:25 gateways.g.jwtAut: unknown key `jwtAut` (did you mean `jwtAuth`?)"],
    ),
    (
        "gateways: {g: {port: 1, tls: {cert: c, key: k}, listeners: [{name: a}]}}\n",
        &[
            "1:15 gateways.g: `protocol`, `tls` and `hostname` cannot be combined with `listeners`; move them into the listeners",
        ],
    ),
    (
        "backends: [{name: a, host: 'b:1'}, {name: a}]\nbinds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\n",
        &["1:36 backends[1]: `host` is missing", "1:43 backends[1].name: a second backend `a`; first on line 1"],
    ),
    (
        "config: {adminAddr: nowhere, limits: {head: 64KB, header: 5}, trustedProxies: [10.0.0.1/8], workerThreads: 0, via: yes}\nbinds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\n",
        &[
            "1:21 config.adminAddr: not an address: `nowhere`; an address is `ip:port`, `[v6]:port`, `localhost:port`, `:port`, or `off`",
            "1:45 config.limits.head: not a size: `64KB`; a size is a number of bytes, or has a unit such as 64KiB, 2MiB or 1GiB",
            "1:51 config.limits.header: unknown key `header` (did you mean `headers`?)",
            "1:80 config.trustedProxies[0]: the range has bits set beyond its length: `10.0.0.1/8`; write `10.0.0.0/8`",
            "1:108 config.workerThreads: expected a whole number above 0, found the number `0`",
            "1:116 config.via: expected `true` or `false`, found the string `yes`",
        ],
    ),
    (
        "config: {logging: {format: xml, fields: [a]}}\nfrontendPolicies: {}\nbinds: [{port: 1, listeners: [{name: l, gatewayName: g, routes: [{name: r}]}]}]\n",
        &[
            "1:28 config.logging.format: expected one of `text`, `json`, found `xml`",
            "1:41 config.logging.fields: expected a map, found a list (remove the `- ` at the start of its lines)",
            "2:1 frontendPolicies: unknown key `frontendPolicies` (this agentgateway feature is not supported; this gateway proxies HTTP only)",
        ],
    ),
];
