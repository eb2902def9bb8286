//! Compares the import with slow models of the rules of Istio and Envoy Gateway. The models follow the documentation of
//! the gateways and not the import. For random policies and requests the decisions agree, and no rule fails to
//! evaluate. The values contain characters that are special in CEL and YAML.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::*;

/// Generates words that often match each other, and arbitrary text.
fn word() -> impl Strategy<Value = String> {
    let odd = [
        "\"",
        "\\",
        "'",
        "'''",
        "${A}",
        "$$",
        "a\nb",
        "\t",
        "é\u{1f600}",
        "true",
        "1",
        "~",
        "# c",
        "a: b",
        "{{x}}",
        "\\n",
        "a,b",
        "\u{7f}",
        "\u{2028}",
        "\") || true || (\"",
        "%",
        "(",
        "[",
        "a*b",
        "a b",
        " ",
    ];
    prop_oneof![6 => select(vec!["a", "b", "ab", "ba", "a/b", "b/a"]), 2 => select(odd.to_vec())]
        .prop_map(str::to_owned)
}

/// Generates words with a leading or trailing star, and single stars.
fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => word(),
        2 => word().prop_map(|word| format!("{word}*")),
        2 => word().prop_map(|word| format!("*{word}")),
        1 => word().prop_map(|word| format!("*{word}*")),
        2 => Just("*".to_owned()),
    ]
}

fn one_or_two<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(strategy, 1..3)
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => word().prop_map(Value::from),
        1 => (word(), word()).prop_map(|(a, b)| Value::from(format!("{a} {b}"))),
        1 => select(vec![json!(null), json!(true), json!(1), json!(1.5), json!(""), json!({}), json!(-0.0)]),
    ]
}

fn claim() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => scalar(),
        2 => prop::collection::vec(scalar(), 0..3).prop_map(Value::from),
        1 => (select(vec!["a", "roles", "x.y"]), scalar()).prop_map(|(key, value)| json!({key: value})),
    ]
}

fn token() -> impl Strategy<Value = Option<Value>> {
    let names = vec!["aud", "azp", "scope", "scp", "groups", "a.b", "a"];
    let claims = prop::collection::vec((select(names), claim()), 0..5);
    // these two claims matter mostly in combination
    let who = || prop_oneof![3 => word().prop_map(Value::from), 1 => Just(json!("")), 1 => claim()];
    let who = (prop::option::weighted(0.8, who()), prop::option::weighted(0.8, who()));
    let token = (claims, who).prop_map(|(claims, (iss, sub))| {
        let who = [("iss", iss), ("sub", sub)].into_iter().filter_map(|(name, value)| Some((name, value?)));
        claims.into_iter().chain(who).map(|(name, value)| (name.to_owned(), value)).collect::<Value>()
    });
    prop::option::weighted(0.85, token)
}

/// Removes the characters that HTTP does not allow in a header value.
fn header_value(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}

#[derive(Debug, Clone)]
struct ModelRequest {
    method: &'static str,
    path: String,
    query: Option<&'static str>,
    host: &'static str,
    env: Vec<String>,
    peer: &'static str,
    token: Option<Value>,
    provider: &'static str,
}

fn model_request() -> impl Strategy<Value = ModelRequest> {
    let methods = select(vec!["GET", "PUT", "POST", "get", "OPTIONS"]);
    let paths = vec![
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/ab",
        "/a/b/c",
        "/a/x*y/c",
        "/a/b=c",
        "/a;v=1",
        "/b/a.html",
        "/A",
        "/a//b",
        "/a/%22",
        "/a/'",
    ];
    let query = select(vec![None, Some("x=1"), Some("/a"), Some("")]);
    let host = select(vec!["a.test", "A.test", "a.test:80", "b.example"]);
    let env = prop::collection::vec(word().prop_map(|w| header_value(&w)), 0..3);
    let peer = select(vec!["192.0.2.1", "10.1.2.3", "2001:db8::1"]);
    let target = (methods, select(paths), query, host);
    (target, env, peer, token(), select(vec!["p1", "p2"])).prop_map(
        |((method, path, query, host), env, peer, token, provider)| ModelRequest {
            method,
            path: path.to_owned(),
            query,
            host,
            env,
            peer,
            token,
            provider,
        },
    )
}

impl ModelRequest {
    fn to_request(&self, base: &str) -> Request {
        let target = match self.query {
            Some(query) => format!("{base}{}?{query}", self.path),
            None => format!("{base}{}", self.path),
        };
        let request = get_request(&target).method(self.method).host(self.host).peer(self.peer).provider(self.provider);
        let request = self.env.iter().fold(request, |request, value| request.header("x-env", value));
        request.token(self.token.clone().unwrap_or(Value::Null))
    }

    /// Returns the combined value of a repeated header.
    fn env(&self) -> Option<String> {
        (!self.env.is_empty()).then(|| self.env.join(","))
    }

    fn claims(&self) -> Option<&Map<String, Value>> {
        self.token.as_ref().and_then(Value::as_object)
    }
}

/// Formats JSON, which is YAML, and escapes the characters that YAML treats as line breaks.
fn yaml(value: &Value) -> String {
    value.to_string().replace('\u{7f}', "\\u007f").replace('\u{2028}', "\\u2028")
}

mod istio {
    use super::*;

    const KINDS: [&str; 4] = ["ALLOW", "DENY", "AUDIT", "ALLOW"];

    /// A field of a source, an operation or a condition: its name, its values, and a flag for negation.
    type Field = (&'static str, Vec<String>, bool);

    fn paths() -> impl Strategy<Value = String> {
        let templates =
            vec!["/a/{*}", "/{*}/b", "/a/{**}", "/a/{*}/c", "/{**}", "/{*}.html", "/b/{*}.html", "/a/{*}/{**}"];
        let plain = vec!["/a", "/a*", "*/b", "*", "/a/b", "*.html", "*a*", "/"];
        prop_oneof![select(templates), select(plain)].prop_map(str::to_owned)
    }

    fn source() -> impl Strategy<Value = Vec<Field>> {
        let principal = prop_oneof![pattern(), (pattern(), pattern()).prop_map(|(iss, sub)| format!("{iss}/{sub}")),];
        let range = select(vec!["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]).prop_map(str::to_owned);
        let field = prop_oneof![
            3 => one_or_two(principal).prop_map(|values| ("requestPrincipals", values)),
            1 => one_or_two(range).prop_map(|values| ("remoteIpBlocks", values)),
            1 => one_or_two(pattern()).prop_map(|values| ("principals", values)),
        ];
        distinct_fields(field)
    }

    fn operation() -> impl Strategy<Value = Vec<Field>> {
        let methods = select(vec!["GET", "P*", "*T", "*", "OPTIONS"]).prop_map(str::to_owned);
        let hosts = select(vec!["a.test", "A.TEST", "*.test", "a.*", "*", "b.example"]).prop_map(str::to_owned);
        let ports = select(vec!["80", "8080"]).prop_map(str::to_owned);
        let field = prop_oneof![
            one_or_two(methods).prop_map(|values| ("methods", values)),
            one_or_two(paths()).prop_map(|values| ("paths", values)),
            one_or_two(hosts).prop_map(|values| ("hosts", values)),
            one_or_two(ports).prop_map(|values| ("ports", values)),
        ];
        distinct_fields(field)
    }

    fn when() -> impl Strategy<Value = Field> {
        let keys = vec![
            "request.headers[X-Env]",
            "request.auth.principal",
            "request.auth.audiences",
            "request.auth.presenter",
            "request.auth.claims[groups]",
            "request.auth.claims[a.b]",
            "request.auth.claims[a][roles]",
            "request.auth.claims[a][x.y]",
            "request.auth.claims[scope]",
            "request.auth.claims[iss]",
        ];
        (select(keys), one_or_two(pattern()), any::<bool>())
    }

    /// Generates fields without duplicates.
    fn distinct_fields(field: impl Strategy<Value = (&'static str, Vec<String>)>) -> impl Strategy<Value = Vec<Field>> {
        prop::collection::vec((field, any::<bool>()), 1..3).prop_map(|all| {
            let mut fields: Vec<Field> = Vec::new();
            for ((name, values), negative) in all {
                if !fields.iter().any(|(existing, _, sign)| (*existing, *sign) == (name, negative)) {
                    fields.push((name, values, negative));
                }
            }
            fields
        })
    }

    #[derive(Debug, Clone)]
    pub(super) struct Rule {
        from: Vec<Vec<Field>>,
        to: Vec<Vec<Field>>,
        when: Vec<Field>,
    }

    #[derive(Debug, Clone)]
    pub(super) struct Policy {
        action: &'static str,
        trial: bool,
        rules: Vec<Rule>,
    }

    pub(super) fn policies() -> impl Strategy<Value = Vec<Policy>> {
        let few = |item| prop::collection::vec(item, 0..2);
        let rule = (few(source().boxed()), few(operation().boxed()), prop::collection::vec(when(), 0..2))
            .prop_map(|(from, to, when)| Rule { from, to, when });
        // a single condition decides alone
        let simple = prop_oneof![
            source().prop_map(|mut source_fields| Rule {
                from: vec![source_fields.split_off(source_fields.len() - 1)],
                to: vec![],
                when: vec![]
            }),
            operation().prop_map(|mut operation_fields| Rule {
                from: vec![],
                to: vec![operation_fields.split_off(operation_fields.len() - 1)],
                when: vec![]
            }),
            when().prop_map(|condition| Rule { from: vec![], to: vec![], when: vec![condition] }),
        ];
        let simple = (select(vec!["ALLOW", "DENY"]), simple)
            .prop_map(|(action, rule)| vec![Policy { action, trial: false, rules: vec![rule] }]);
        let policy = (select(KINDS.to_vec()), prop::bool::weighted(0.2), prop::collection::vec(rule, 0..3))
            .prop_map(|(action, trial, rules)| Policy { action, trial, rules });
        prop_oneof![2 => simple, 1 => prop::collection::vec(policy, 1..4)]
    }

    impl Policy {
        /// Reports whether a DENY has a condition on the mesh identity, which is rejected.
        pub(super) fn is_refused(&self) -> bool {
            let names_principals = |rule: &Rule| rule.from.iter().flatten().any(|(name, ..)| *name == "principals");
            self.action == "DENY" && !self.trial && self.rules.iter().any(names_principals)
        }

        pub(super) fn manifest(&self, name: usize) -> String {
            let map = |fields: &Vec<Field>| -> Value {
                let name = |name: &str, negative: bool| match negative {
                    true => format!("not{}{}", name[..1].to_uppercase(), &name[1..]),
                    false => name.to_owned(),
                };
                fields
                    .iter()
                    .map(|(n, values, negative)| (name(n, *negative), json!(values)))
                    .collect::<Map<_, _>>()
                    .into()
            };
            let rules: Vec<Value> = self
                .rules
                .iter()
                .map(|rule| {
                    let mut json_rule = Map::new();
                    if !rule.from.is_empty() {
                        let all: Vec<Value> = rule.from.iter().map(|source| json!({"source": map(source)})).collect();
                        json_rule.insert("from".into(), all.into());
                    }
                    if !rule.to.is_empty() {
                        let all: Vec<Value> =
                            rule.to.iter().map(|operation| json!({"operation": map(operation)})).collect();
                        json_rule.insert("to".into(), all.into());
                    }
                    let when = rule.when.iter().map(|(key, values, negative)| {
                        json!({"key": key, if *negative { "notValues" } else { "values" }: values})
                    });
                    if !rule.when.is_empty() {
                        json_rule.insert("when".into(), when.collect::<Vec<_>>().into());
                    }
                    json_rule.into()
                })
                .collect();
            yaml(&json!({
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": format!("p{name}"), "annotations": {"istio.io/dry-run": self.trial.to_string()}},
                "spec": {"selector": {"matchLabels": {"app": "web"}}, "action": self.action, "rules": rules},
            }))
        }
    }

    fn text(value: &str, text: &str) -> bool {
        if value == "*" {
            return !text.is_empty();
        }
        match (value.strip_prefix('*'), value.strip_suffix('*')) {
            (Some(end), _) => text.ends_with(end),
            (None, Some(start)) => text.starts_with(start),
            (None, None) => text == value,
        }
    }

    fn principal(value: &str, request: &ModelRequest) -> bool {
        let string = |name: &str| request.claims().and_then(|claims| claims.get(name)).and_then(Value::as_str);
        let (Some(iss), Some(sub)) = (string("iss"), string("sub")) else { return false };
        let slash = value.rfind('/');
        if value == "*" {
            return !iss.is_empty() && !sub.is_empty();
        }
        if let Some(rest) = value.strip_prefix('*') {
            return match slash {
                Some(1) => !iss.is_empty() && sub == &value[2..],
                Some(at) => iss.ends_with(&value[1..at]) && sub == &value[at + 1..],
                None => !iss.is_empty() && sub.ends_with(rest),
            };
        }
        if let Some(rest) = value.strip_suffix('*') {
            return match slash {
                Some(at) if at + 1 == rest.len() => iss == &value[..at] && !sub.is_empty(),
                Some(at) => iss == &value[..at] && sub.starts_with(&rest[at + 1..]),
                None => iss.starts_with(rest) && !sub.is_empty(),
            };
        }
        match slash {
            Some(at) => iss == &value[..at] && sub == &value[at + 1..],
            None => iss == value && sub.is_empty(),
        }
    }

    /// Matches a string or a list of strings. A claim with words is a list of words.
    fn claim(values: &[String], path: &[&str], request: &ModelRequest) -> bool {
        let mut found = request.token.as_ref();
        for name in path {
            found = found.and_then(Value::as_object).and_then(|map| map.get(*name));
        }
        let strings: Vec<&str> = match found {
            Some(Value::String(text)) if *path == ["scope"] => text.split(' ').collect(),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        strings.iter().any(|claim_value| values.iter().any(|value| text(value, claim_value)))
    }

    /// Matches templates by trying every possibility, segment by segment and character by character.
    fn path(value: &str, path: &str) -> bool {
        fn template(template: &str, path: &str) -> bool {
            let may = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@".contains(c);
            if let Some(rest) = template.strip_prefix("{**}") {
                let ends =
                    path.char_indices().take_while(|(_, c)| may(*c) || *c == '/').map(|(at, c)| at + c.len_utf8());
                return std::iter::once(0).chain(ends).any(|at| self::path_rest(rest, &path[at..]));
            }
            if let Some(rest) = template.strip_prefix("{*}") {
                let ends = path.char_indices().take_while(|(_, c)| may(*c)).map(|(at, c)| at + c.len_utf8());
                return ends.into_iter().any(|at| self::path_rest(rest, &path[at..]));
            }
            match (template.chars().next(), path.chars().next()) {
                (None, None) => true,
                (Some(a), Some(b)) if a == b => template_from(&template[a.len_utf8()..], &path[b.len_utf8()..]),
                _ => false,
            }
        }
        fn template_from(rest: &str, path: &str) -> bool {
            template(rest, path)
        }
        match value.contains("{*}") || value.contains("{**}") {
            true => template(value, path),
            false => text(value, path),
        }
    }

    fn path_rest(rest: &str, path: &str) -> bool {
        match rest.is_empty() {
            true => path.is_empty(),
            false => self::path_template(rest, path),
        }
    }

    fn path_template(rest: &str, path: &str) -> bool {
        // a remainder without a wildcard is compared literally
        match rest.contains("{*}") || rest.contains("{**}") {
            true => self::path(rest, path),
            false => rest == path,
        }
    }

    fn holds((name, values, negative): &Field, request: &ModelRequest) -> bool {
        let any = |test: &dyn Fn(&str) -> bool| values.iter().any(|value| test(value));
        let claims = |path: &[&str]| claim(values, path, request);
        let found = match *name {
            "requestPrincipals" | "request.auth.principal" => any(&|value| principal(value, request)),
            "principals" => false,
            "remoteIpBlocks" => any(&|value| match value {
                "10.0.0.0/8" => request.peer.starts_with("10."),
                "192.0.2.1" => request.peer == "192.0.2.1",
                _ => request.peer.starts_with("2001:db8:"),
            }),
            "methods" => any(&|value| text(value, request.method)),
            "hosts" => any(&|value| text(&value.to_lowercase(), &request.host.to_lowercase())),
            "paths" => any(&|value| path(value, &request.path)),
            "ports" => values.iter().any(|value| value == "8080"),
            "request.headers[X-Env]" => {
                request.env().is_some_and(|env| any(&|value| value == "*" || text(value, &env)))
            }
            "request.auth.audiences" => claims(&["aud"]),
            "request.auth.presenter" => claims(&["azp"]),
            "request.auth.claims[groups]" => claims(&["groups"]),
            "request.auth.claims[a.b]" => claims(&["a.b"]),
            "request.auth.claims[a][roles]" => claims(&["a", "roles"]),
            "request.auth.claims[a][x.y]" => claims(&["a", "x.y"]),
            "request.auth.claims[scope]" => claims(&["scope"]),
            "request.auth.claims[iss]" => claims(&["iss"]),
            other => unreachable!("{other}"),
        };
        found != *negative
    }

    fn matches(rule: &Rule, request: &ModelRequest) -> bool {
        let all = |fields: &Vec<Field>| fields.iter().all(|field| holds(field, request));
        (rule.from.is_empty() || rule.from.iter().any(all))
            && (rule.to.is_empty() || rule.to.iter().any(all))
            && rule.when.iter().all(|field| holds(field, request))
    }

    pub(super) fn allows(policies: &[Policy], request: &ModelRequest) -> bool {
        let enforced = |action| policies.iter().filter(move |policy| policy.action == action && !policy.trial);
        let any = |policy: &Policy| policy.rules.iter().any(|rule| matches(rule, request));
        !enforced("DENY").any(any) && (enforced("ALLOW").next().is_none() || enforced("ALLOW").any(any))
    }
}

mod envoy_gateway {
    use super::*;

    const EVERYONE: [&str; 3] = ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"];

    #[derive(Debug, Clone)]
    pub(super) struct Rule {
        allow: bool,
        methods: Vec<&'static str>,
        path: Option<(&'static str, &'static str, bool)>,
        ranges: Vec<&'static str>,
        env: Vec<String>,
        jwt: Option<Jwt>,
    }

    #[derive(Debug, Clone)]
    struct Jwt {
        provider: &'static str,
        claims: Vec<(&'static str, bool, Vec<String>)>,
        scopes: Vec<String>,
    }

    #[derive(Debug, Clone)]
    pub(super) struct Policy {
        default: Option<bool>,
        rules: Vec<Rule>,
    }

    fn few<T: std::fmt::Debug + Clone + 'static>(choices: Vec<T>) -> impl Strategy<Value = Vec<T>> {
        prop::collection::vec(select(choices), 0..3)
    }

    fn jwt() -> impl Strategy<Value = Jwt> {
        let names = vec!["groups", "sub", "a.roles", "a.a", "scope", "iss"];
        let claim = (select(names), any::<bool>(), one_or_two(word()));
        let (claims, scopes) = (prop::collection::vec(claim, 0..2), prop::collection::vec(word(), 0..2));
        (select(vec!["p1", "p2"]), claims, scopes)
            .prop_filter("one of them is there", |(_, claims, scopes)| !claims.is_empty() || !scopes.is_empty())
            .prop_map(|(provider, claims, scopes)| Jwt { provider, claims, scopes })
    }

    pub(super) fn policy() -> impl Strategy<Value = Policy> {
        let kinds = select(vec!["Exact", "PathPrefix", "RegularExpression"]);
        let values = select(vec!["/foo/a", "/foo/a/", "/foo/a/b", "/foo/.*", "/foo/a/[a-z]+"]);
        let path = prop::option::of((kinds, values, any::<bool>()));
        let env = prop::collection::vec(word(), 0..3);
        let ranges = few(EVERYONE.to_vec());
        let principal = (ranges, env, prop::option::of(jwt()));
        let principal = principal.prop_filter("a principal says who", |(ranges, env, jwt)| {
            !ranges.is_empty() || !env.is_empty() || jwt.is_some()
        });
        let rule = (any::<bool>(), few(vec!["GET", "PUT", "OPTIONS"]), path.clone(), principal)
            .prop_map(|(allow, methods, path, (ranges, env, jwt))| Rule { allow, methods, path, ranges, env, jwt });
        // a single condition decides alone
        let anyone =
            Rule { allow: true, methods: vec![], path: None, ranges: EVERYONE.to_vec(), env: vec![], jwt: None };
        let (with_path, with_jwt) = (anyone.clone(), Rule { ranges: vec![], ..anyone });
        let simple = prop_oneof![
            path.prop_map(move |path| Rule { path, ..with_path.clone() }),
            jwt().prop_map(move |jwt| Rule { jwt: Some(jwt), ..with_jwt.clone() }),
        ];
        let simple = (any::<bool>(), simple).prop_map(|(allow, rule)| vec![Rule { allow, ..rule }]);
        let rules = prop_oneof![simple, prop::collection::vec(rule, 0..4)];
        (prop::option::of(any::<bool>()), rules).prop_map(|(default, rules)| Policy { default, rules })
    }

    fn word_of(allow: bool) -> &'static str {
        if allow { "Allow" } else { "Deny" }
    }

    impl Policy {
        pub(super) fn spec(&self) -> Value {
            let mut authorization = Map::new();
            if let Some(default) = self.default {
                authorization.insert("defaultAction".into(), word_of(default).into());
            }
            let rules: Vec<Value> = self.rules.iter().map(rule).collect();
            if !rules.is_empty() {
                authorization.insert("rules".into(), rules.into());
            }
            authorization.into()
        }
    }

    fn rule(rule: &Rule) -> Value {
        let (mut json_rule, mut principal, mut operation) = (Map::new(), Map::new(), Map::new());
        json_rule.insert("action".into(), word_of(rule.allow).into());
        if !rule.methods.is_empty() {
            operation.insert("methods".into(), json!(rule.methods));
        }
        if let Some((kind, value, invert)) = rule.path {
            operation.insert("path".into(), json!({"type": kind, "value": value, "invert": invert}));
        }
        if !rule.ranges.is_empty() {
            principal.insert("clientCIDRs".into(), json!(rule.ranges));
        }
        if !rule.env.is_empty() {
            principal.insert("headers".into(), json!([{"name": "X-Env", "values": rule.env}]));
        }
        if let Some(jwt) = &rule.jwt {
            let claims: Vec<Value> = jwt
                .claims
                .iter()
                .map(|(name, list, values)| {
                    json!({"name": name, "valueType": if *list { "StringArray" } else { "String" }, "values": values})
                })
                .collect();
            let mut jwt_principal = Map::from_iter([("provider".to_owned(), json!(jwt.provider))]);
            if !claims.is_empty() {
                jwt_principal.insert("claims".into(), claims.into());
            }
            if !jwt.scopes.is_empty() {
                jwt_principal.insert("scopes".into(), json!(jwt.scopes));
            }
            principal.insert("jwt".into(), jwt_principal.into());
        }
        if !operation.is_empty() {
            json_rule.insert("operation".into(), operation.into());
        }
        json_rule.insert("principal".into(), principal.into());
        json_rule.into()
    }

    /// Returns a claim as Envoy stores it for Envoy Gateway: `scope` and `scp` as lists of words.
    fn claim_value(name: &str, request: &ModelRequest) -> Option<Value> {
        let mut found = request.token.clone()?;
        for step in name.split('.') {
            found = found.as_object()?.get(step)?.clone();
        }
        match found {
            Value::String(words) if matches!(name, "scope" | "scp") => {
                Some(words.split(' ').map(Value::from).collect::<Vec<_>>().into())
            }
            other => Some(other),
        }
    }

    fn in_list(value: Option<Value>, words: &[String]) -> bool {
        let Some(Value::Array(all)) = value else { return false };
        all.iter().any(|value| words.iter().any(|word| value.as_str() == Some(word)))
    }

    fn matches(rule: &Rule, request: &ModelRequest) -> bool {
        let path = format!("/foo{}", request.path);
        let whole = match request.query {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        };
        let methods =
            rule.methods.is_empty() || rule.methods.iter().any(|method| method.eq_ignore_ascii_case(request.method));
        let by_path = rule.path.is_none_or(|(kind, value, invert)| {
            let found = match kind {
                "Exact" => path == value,
                "PathPrefix" => {
                    let bare = value.strip_suffix('/').unwrap_or(value);
                    let rest = whole.strip_prefix(bare);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#', ';']))
                }
                _ => regex::Regex::new(&format!("^(?:{value})$")).unwrap().is_match(&whole),
            };
            found != invert
        });
        let ranges = rule.ranges.is_empty()
            || rule.ranges.iter().any(|range| match *range {
                "10.0.0.0/8" => request.peer.starts_with("10."),
                "192.0.2.0/24" => request.peer.starts_with("192.0.2."),
                _ => request.peer.starts_with("2001:db8:"),
            });
        let env = rule.env.is_empty() || request.env().is_some_and(|env| rule.env.contains(&env));
        let jwt = rule.jwt.as_ref().is_none_or(|jwt| {
            request.token.is_some()
                && jwt.provider == request.provider
                && jwt.claims.iter().all(|(name, list, values)| match list {
                    true => in_list(claim_value(name, request), values),
                    false => {
                        claim_value(name, request).is_some_and(|v| values.iter().any(|word| v.as_str() == Some(word)))
                    }
                })
                && jwt.scopes.iter().all(|word| {
                    let word = std::slice::from_ref(word);
                    in_list(claim_value("scope", request), word) || in_list(claim_value("scp", request), word)
                })
        });
        methods && by_path && ranges && env && jwt
    }

    pub(super) fn allows(policy: &Policy, request: &ModelRequest) -> bool {
        let decided = policy.rules.iter().find(|rule| matches(rule, request)).map(|rule| rule.allow);
        decided.or(policy.default).unwrap_or(false)
    }

    /// Reports whether a path is matched exactly or by a regular expression, where the import uses the stricter
    /// reading.
    pub(super) fn may_be_stricter(policy: &Policy) -> bool {
        policy.rules.iter().any(|rule| matches!(rule.path, Some(("RegularExpression" | "Exact", ..))))
    }
}

const ISTIO: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: ["*"], gateways: [istio-system/gw], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  jwtRules:
  - issuer: i
    jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
"#;

proptest! {
    #[test]
    fn istio_import_matches_the_model(policies in istio::policies(), all in prop::collection::vec(model_request(), 40)) {
        prop_assume!(!policies.iter().any(istio::Policy::is_refused));
        let manifests: String =
            policies.iter().enumerate().map(|(index, policy)| format!("---\n{}\n", policy.manifest(index))).collect();
        let gateway = ImportedGateway::import(Dialect::Istio, &format!("{ISTIO}{manifests}"), &mapped_options());
        for request in &all {
            // preflights are not authenticated
            let evaluation = gateway.evaluate(&request.to_request(""));
            prop_assert_eq!(evaluation.failed, 0, "{:?}\n{}", request, gateway.yaml);
            let allowed = !matches!(&*evaluation.outcome, "401" | "403" | "404");
            prop_assert_eq!(allowed, istio::allows(&policies, request), "{:?}\n{}", request, gateway.yaml);
        }
    }

    #[test]
    fn envoy_gateway_import_matches_the_model(policy in envoy_gateway::policy(), all in prop::collection::vec(model_request(), 40)) {
        let provider = |name: &str| json!({"name": name, "localJWKS": {"inline": KEYS}});
        let spec = json!({
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "foo"}],
            "jwt": {"optional": true, "providers": [provider("p1"), provider("p2")]},
            "authorization": policy.spec(),
        });
        let object = json!({
            "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy", "metadata": {"name": "p"}, "spec": spec,
        });
        let manifests = format!("{}\n{}\n", super::envoy_gateway::ROUTES, yaml(&object));
        let gateway = ImportedGateway::import(Dialect::EnvoyGateway, &manifests, &mapped_options());
        for request in &all {
            let evaluation = gateway.evaluate(&request.to_request("/foo"));
            prop_assert_eq!(evaluation.failed, 0, "{:?}\n{}", request, gateway.yaml);
            let (allowed, expected) =
                (!matches!(&*evaluation.outcome, "401" | "403" | "404"), envoy_gateway::allows(&policy, request));
            let stricter = envoy_gateway::may_be_stricter(&policy) && !allowed;
            prop_assert!(allowed == expected || stricter, "{:?}\n{:?}\n{}", request, policy, gateway.yaml);
        }
    }
}
