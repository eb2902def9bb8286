//! `spec.authorization` of a `SecurityPolicy`: rules in order, the first that matches decides.

use super::super::cel::{
    Cond, Pattern, address_in, claim_list, claim_string, claim_words, header, quote, string_in, whole_match,
};
use super::super::manifest::Field;
use super::super::out::{Commented, Map, Value};
use super::cel;

#[derive(Clone, Copy, PartialEq)]
enum Action {
    Allow,
    Deny,
}

/// The policy's rules as one `authorization`.
pub(super) fn translate(field: Field<'_>) -> Commented {
    let default = field.get("defaultAction").map_or(Action::Deny, |action| self::action(action));
    let allows = |rule: Field<'_>| rule.text_of("action") == Some("Allow");
    let only_allows = default == Action::Deny && field.list("rules").all(allows);
    let mut rules = Vec::new();
    for (index, rule) in field.list("rules").enumerate() {
        let action = rule.get("action").map_or(Action::Deny, |action| self::action(action));
        let name = rule.get("name").inspect(|name| name.exact("rule name")).and_then(Field::text);
        let name = name.map_or_else(|| format!("rule-{index}"), str::to_owned);
        rules.push((name, action, condition(rule, action, only_allows), rule.origin()));
    }
    if field.entries().next().is_none() {
        field.exact("no rules: everything is denied");
    }
    let of = |kind: &str, (name, _, cond, origin): &(String, Action, Cond, String)| {
        let rule = Map::default().with("name", name.as_str()).with(kind, cond.to_string());
        Commented::new(format!("from {origin}"), rule)
    };
    let all = |action| rules.iter().all(|(_, own, ..)| *own == action);
    let written = match default {
        Action::Deny if rules.is_empty() => vec![single("default", "false")],
        Action::Deny if all(Action::Allow) => rules.iter().map(|rule| of("allow", rule)).collect(),
        Action::Allow if all(Action::Deny) => rules.iter().map(|rule| of("deny", rule)).collect(),
        // in order, the first that matches decides
        _ => {
            let last = if default == Action::Allow { "true" } else { "false" };
            let chain = rules.iter().rev().fold(last.to_owned(), |rest, (_, action, cond, _)| {
                let outcome = *action == Action::Allow;
                match cond {
                    Cond::Never => rest,
                    Cond::Always => outcome.to_string(),
                    cond => format!("({cond}) ? {outcome} : ({rest})"),
                }
            });
            vec![single("ordered-rules", &chain)]
        }
    };
    Commented::new(format!("from {}", field.origin()), Map::default().with("rules", Value::List(written)))
}

fn single(name: &str, condition: &str) -> Commented {
    Commented::from(Value::from(Map::default().with("name", name).with("require", condition)))
}

fn action(field: Field<'_>) -> Action {
    match field.text() {
        Some("Allow") => {
            field.exact("what the rule does");
            Action::Allow
        }
        Some("Deny") => {
            field.exact("what the rule does");
            Action::Deny
        }
        _ => {
            field.refused("expected Allow or Deny");
            Action::Deny
        }
    }
}

fn condition(rule: Field<'_>, action: Action, only_allows: bool) -> Cond {
    let mut parts = Vec::new();
    if let Some(operation) = rule.get("operation") {
        let methods = operation.texts("methods");
        if let Some(list) = operation.get("methods").filter(|_| !methods.is_empty()) {
            list.exact("request.method, whatever its case");
            let upper: Vec<String> = methods.iter().map(|method| method.to_ascii_uppercase()).collect();
            let methods: Vec<_> = upper.iter().map(|method| Pattern::Exact(method)).collect();
            parts.push(string_in("request.method.upperAscii()", &methods));
        }
        if let Some(path) = operation.get("path") {
            parts.push(self::path(path, action));
        }
    }
    if let Some(principal) = rule.get("principal") {
        let conds = self::principal(principal);
        if conds.is_empty() {
            principal.refused("a `principal` says who: nothing here does");
        }
        parts.extend(conds);
    }
    parts.extend(rule.get("cel").map(|cel| expression(cel, only_allows)));
    if rule.get("principal").is_none() && rule.get("cel").is_none() {
        rule.refused("a rule needs a `principal`");
    }
    Cond::all(parts)
}

/// `cel`. One that fails to evaluate matches nothing there; here that is so in an allow and nowhere else.
fn expression(field: Field<'_>, only_allows: bool) -> Cond {
    let translated = match field.text().filter(|_| only_allows) {
        Some(text) => cel::translate(text),
        None => Err("Envoy's CEL is taken over where all rules allow and the default is Deny".to_owned()),
    };
    match translated {
        Ok(text) => {
            field.exact("the expression, with this gateway's names");
            Cond::test(format!("({text})"))
        }
        Err(why) => {
            field.refused(why);
            Cond::Never
        }
    }
}

/// The path. Where versions of Envoy Gateway differ about what follows it, the stricter reading is taken.
fn path(field: Field<'_>, action: Action) -> Cond {
    field.only(&["type", "value", "invert"]);
    let invert = field.get("invert").is_some_and(|flag| flag.truth() == Some(true));
    let Some(value) = field.text_of("value") else {
        field.refused("a path needs a `value`");
        return Cond::Never;
    };
    // a wider match lets fewer in where it denies
    let wider = (action == Action::Deny) != invert;
    let starts = |text: String| Cond::test(format!("request.path.startsWith({})", quote(&text)));
    let is = |text: &str| Cond::test(format!("request.path == {}", quote(text)));
    let cond = match field.text_of("type").unwrap_or("PathPrefix") {
        "Exact" => {
            field.exact("request.path");
            let parameters = if wider { starts(format!("{value};")) } else { Cond::Never };
            Cond::any([is(value), parameters])
        }
        "PathPrefix" if value == "/" => {
            field.exact("every path");
            Cond::Always
        }
        "PathPrefix" => {
            field.exact("request.path below the prefix, by whole segments");
            let bare = value.strip_suffix('/').unwrap_or(value);
            Cond::any([is(bare), starts(format!("{bare}/")), starts(format!("{bare};"))])
        }
        "RegularExpression" => {
            let whole = format!("[^:]+://[^/?]*(?:{value})");
            let both = whole_match("request.path", value).zip(whole_match("request.uri", &whole));
            match both {
                Some((without, with)) => {
                    field.narrower(
                        "request.path, with its query and without: where they differ, the request is refused",
                    );
                    if wider { Cond::any([without, with]) } else { Cond::all([without, with]) }
                }
                None => {
                    field.refused("this regular expression is not understood here");
                    Cond::Never
                }
            }
        }
        _ => {
            field.refused("this kind of path is not understood");
            Cond::Never
        }
    };
    if invert { cond.negated() } else { cond }
}

fn principal(field: Field<'_>) -> Vec<Cond> {
    let mut parts = Vec::new();
    let ranges: Vec<_> = field.list("clientCIDRs").collect();
    if !ranges.is_empty() {
        let mut any = Vec::new();
        for range in ranges {
            match range.text().and_then(|text| address_in("source.address", text)) {
                Some(cond) => {
                    range.exact("source.address");
                    any.push(cond);
                }
                None => range.refused("not a network range"),
            }
        }
        parts.push(Cond::any(any));
    }
    if let Some(jwt) = field.get("jwt") {
        parts.extend(token(jwt));
    }
    for one in field.list("headers") {
        one.only(&["name", "values"]);
        let values = one.texts("values");
        match one.text_of("name").filter(|_| !values.is_empty()) {
            Some(name) => {
                one.exact("request.headers");
                let values: Vec<_> = values.iter().map(|value| Pattern::Exact(value)).collect();
                parts.push(header(name, &values));
            }
            None => one.refused("a header needs a `name` and `values`"),
        }
    }
    if let Some(places) = field.get("clientIPGeoLocations") {
        places.refused("where an address is on earth is not known here");
    }
    parts
}

fn token(field: Field<'_>) -> Vec<Cond> {
    let mut parts = vec![Cond::test("jwt != null")];
    if let Some((provider, name)) = field.get("provider").and_then(|one| Some((one, one.text()?))) {
        provider.exact("jwtAuth.provider");
        parts.push(Cond::test(format!("jwtAuth.provider == {}", quote(name))));
    }
    for one in field.list("claims") {
        one.only(&["name", "valueType", "values"]);
        let values = one.texts("values");
        let Some(name) = one.text_of("name").filter(|_| !values.is_empty()) else {
            one.refused("a claim needs a `name` and `values`");
            continue;
        };
        let path: Vec<&str> = name.split('.').collect();
        let values: Vec<_> = values.iter().map(|value| Pattern::Exact(value)).collect();
        match one.text_of("valueType").unwrap_or("String") {
            // these two are split into a list before they are compared
            "String" if matches!(path.as_slice(), ["scope" | "scp"]) => parts.push(Cond::Never),
            "StringArray" if matches!(path.as_slice(), ["scope" | "scp"]) => parts.push(claim_words(&path, &values)),
            "String" => parts.push(claim_string(&path, &values)),
            "StringArray" => parts.push(claim_list(&path, &values)),
            _ => {
                one.refused("this `valueType` is not understood");
                continue;
            }
        }
        one.exact("the claim");
    }
    for scope in field.list("scopes") {
        if let Some(text) = scope.string() {
            scope.exact("a word of `scope` or `scp`");
            let word = [Pattern::Exact(text)];
            parts.push(Cond::any([claim_words(&["scope"], &word), claim_words(&["scp"], &word)]));
        }
    }
    if field.get("claims").is_none() && field.get("scopes").is_none() {
        field.refused("`claims` or `scopes` are needed");
    }
    parts
}
