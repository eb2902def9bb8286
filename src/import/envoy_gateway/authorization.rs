//! `spec.authorization` of a `SecurityPolicy`: the first rule that matches decides.

use super::cel;
use crate::import::condition::{
    Condition, Pattern, address_in, claim_list_contains, claim_string_in, claim_words_contain, full_match, header_in,
    string_in, string_literal,
};
use crate::import::field::FieldRef;
use crate::import::yaml_writer::{Commented, Map, Value};

#[derive(Clone, Copy, PartialEq)]
enum Action {
    Allow,
    Deny,
}

/// Translates the rules of a policy into one `authorization`.
pub(super) fn translate(field: FieldRef<'_>) -> Commented {
    let default = field.get("defaultAction").map_or(Action::Deny, |action_field| self::parse_action(action_field));
    let allows = |rule: FieldRef<'_>| rule.get_text("action") == Some("Allow");
    let only_allows = default == Action::Deny && field.list("rules").all(allows);
    let mut rules = Vec::new();
    for (index, rule) in field.list("rules").enumerate() {
        let action = rule.get("action").map_or(Action::Deny, |action| self::parse_action(action));
        let name = rule.get("name").inspect(|name| name.exact("rule name")).and_then(FieldRef::text);
        let name = name.map_or_else(|| format!("rule-{index}"), str::to_owned);
        rules.push((name, action, rule_condition(rule, action, only_allows), rule.origin()));
    }
    if field.entries().next().is_none() {
        field.exact("no rules: all requests are denied");
    }
    let rule_value = |kind: &str, (name, _, cond, origin): &(String, Action, Condition, String)| {
        let rule = Map::default().with("name", name.as_str()).with(kind, cond.to_string());
        Commented::new(format!("from {origin}"), rule)
    };
    let all_are = |action| rules.iter().all(|(_, rule_action, ..)| *rule_action == action);
    let rules_value = match default {
        Action::Deny if rules.is_empty() => vec![single_rule("default", "false")],
        Action::Deny if all_are(Action::Allow) => rules.iter().map(|rule| rule_value("allow", rule)).collect(),
        Action::Allow if all_are(Action::Deny) => rules.iter().map(|rule| rule_value("deny", rule)).collect(),
        // the first rule that matches decides
        _ => {
            let last = if default == Action::Allow { "true" } else { "false" };
            let chain = rules.iter().rev().fold(last.to_owned(), |otherwise, (_, action, cond, _)| {
                let outcome = *action == Action::Allow;
                match cond {
                    Condition::Never => otherwise,
                    Condition::Always => outcome.to_string(),
                    cond => format!("({cond}) ? {outcome} : ({otherwise})"),
                }
            });
            vec![single_rule("ordered-rules", &chain)]
        }
    };
    Commented::new(format!("from {}", field.origin()), Map::default().with("rules", Value::List(rules_value)))
}

fn single_rule(name: &str, condition: &str) -> Commented {
    Commented::from(Value::from(Map::default().with("name", name).with("require", condition)))
}

fn parse_action(field: FieldRef<'_>) -> Action {
    match field.text() {
        Some("Allow") => {
            field.exact("the kind of rule");
            Action::Allow
        }
        Some("Deny") => {
            field.exact("the kind of rule");
            Action::Deny
        }
        _ => {
            field.rejected("expected Allow or Deny");
            Action::Deny
        }
    }
}

fn rule_condition(rule: FieldRef<'_>, action: Action, only_allows: bool) -> Condition {
    let mut parts = Vec::new();
    if let Some(operation) = rule.get("operation") {
        let methods = operation.strings("methods");
        if let Some(list) = operation.get("methods").filter(|_| !methods.is_empty()) {
            list.exact("request.method, whatever its case");
            let upper: Vec<String> = methods.iter().map(|method| method.to_ascii_uppercase()).collect();
            let methods: Vec<_> = upper.iter().map(|method| Pattern::Exact(method)).collect();
            parts.push(string_in("request.method.upperAscii()", &methods));
        }
        if let Some(path) = operation.get("path") {
            parts.push(self::path_condition(path, action));
        }
    }
    if let Some(principal) = rule.get("principal") {
        let conditions = self::principal_conditions(principal);
        if conditions.is_empty() {
            principal.rejected("this `principal` has no condition");
        }
        parts.extend(conditions);
    }
    parts.extend(rule.get("cel").map(|cel| cel_condition(cel, only_allows)));
    if rule.get("principal").is_none() && rule.get("cel").is_none() {
        rule.rejected("a rule requires a `principal`");
    }
    Condition::all(parts)
}

/// Translates `cel`. In Envoy, an expression that fails to evaluate does not match. Here, that is so only in allow
/// rules.
fn cel_condition(field: FieldRef<'_>, only_allows: bool) -> Condition {
    let translated = match field.text().filter(|_| only_allows) {
        Some(text) => cel::translate(text),
        None => Err("CEL is supported only if all rules allow and the default is Deny".to_owned()),
    };
    match translated {
        Ok(text) => {
            field.exact("the expression, with the names of this gateway");
            Condition::expr(format!("({text})"))
        }
        Err(reason) => {
            field.rejected(reason);
            Condition::Never
        }
    }
}

/// Translates a path match. Versions of Envoy Gateway differ about the text after the path; the stricter reading is
/// used.
fn path_condition(field: FieldRef<'_>, action: Action) -> Condition {
    field.reject_unknown_keys(&["type", "value", "invert"]);
    let invert = field.get("invert").is_some_and(|flag| flag.boolean() == Some(true));
    let Some(value) = field.get_text("value") else {
        field.rejected("a path requires a `value`");
        return Condition::Never;
    };
    // in a deny rule, a wider match is the stricter one
    let needs_wider_match = (action == Action::Deny) != invert;
    let starts_with = |text: String| Condition::expr(format!("request.path.startsWith({})", string_literal(&text)));
    let equals = |text: &str| Condition::expr(format!("request.path == {}", string_literal(text)));
    let cond = match field.get_text("type").unwrap_or("PathPrefix") {
        "Exact" => {
            field.exact("request.path");
            let parameters = if needs_wider_match { starts_with(format!("{value};")) } else { Condition::Never };
            Condition::any([equals(value), parameters])
        }
        "PathPrefix" if value == "/" => {
            field.exact("every path");
            Condition::Always
        }
        "PathPrefix" => {
            field.exact("request.path under the prefix, by whole segments");
            let bare = value.strip_suffix('/').unwrap_or(value);
            Condition::any([equals(bare), starts_with(format!("{bare}/")), starts_with(format!("{bare};"))])
        }
        "RegularExpression" => {
            let whole = format!("[^:]+://[^/?]*(?:{value})");
            let matchers = full_match("request.path", value).zip(full_match("request.uri", &whole));
            match matchers {
                Some((without_query, with_query)) => {
                    field.narrower(
                        "request.path with and without the query: if the results differ, the request is rejected",
                    );
                    if needs_wider_match {
                        Condition::any([without_query, with_query])
                    } else {
                        Condition::all([without_query, with_query])
                    }
                }
                None => {
                    field.rejected("this regular expression is not supported");
                    Condition::Never
                }
            }
        }
        _ => {
            field.rejected("this type of path match is not supported");
            Condition::Never
        }
    };
    if invert { cond.negated() } else { cond }
}

fn principal_conditions(field: FieldRef<'_>) -> Vec<Condition> {
    let mut parts = Vec::new();
    let ranges: Vec<_> = field.list("clientCIDRs").collect();
    if !ranges.is_empty() {
        let mut ranges_match = Vec::new();
        for range in ranges {
            match range.text().and_then(|text| address_in("source.address", text)) {
                Some(cond) => {
                    range.exact("source.address");
                    ranges_match.push(cond);
                }
                None => range.rejected("not an address range"),
            }
        }
        parts.push(Condition::any(ranges_match));
    }
    if let Some(jwt) = field.get("jwt") {
        parts.extend(jwt_conditions(jwt));
    }
    for header_field in field.list("headers") {
        header_field.reject_unknown_keys(&["name", "values"]);
        let values = header_field.strings("values");
        match header_field.get_text("name").filter(|_| !values.is_empty()) {
            Some(name) => {
                header_field.exact("request.headers");
                let values: Vec<_> = values.iter().map(|value| Pattern::Exact(value)).collect();
                parts.push(header_in(name, &values));
            }
            None => header_field.rejected("a header requires a `name` and `values`"),
        }
    }
    if let Some(geo_locations) = field.get("clientIPGeoLocations") {
        geo_locations.rejected("geographic locations of addresses are not supported");
    }
    parts
}

fn jwt_conditions(field: FieldRef<'_>) -> Vec<Condition> {
    let mut parts = vec![Condition::expr("jwt != null")];
    if let Some((provider, name)) =
        field.get("provider").and_then(|provider_field| Some((provider_field, provider_field.text()?)))
    {
        provider.exact("jwtAuth.provider");
        parts.push(Condition::expr(format!("jwtAuth.provider == {}", string_literal(name))));
    }
    for claim_field in field.list("claims") {
        claim_field.reject_unknown_keys(&["name", "valueType", "values"]);
        let values = claim_field.strings("values");
        let Some(name) = claim_field.get_text("name").filter(|_| !values.is_empty()) else {
            claim_field.rejected("a claim requires a `name` and `values`");
            continue;
        };
        let path: Vec<&str> = name.split('.').collect();
        let values: Vec<_> = values.iter().map(|value| Pattern::Exact(value)).collect();
        match claim_field.get_text("valueType").unwrap_or("String") {
            // Envoy Gateway splits these two into a list before comparing
            "String" if matches!(path.as_slice(), ["scope" | "scp"]) => parts.push(Condition::Never),
            "StringArray" if matches!(path.as_slice(), ["scope" | "scp"]) => {
                parts.push(claim_words_contain(&path, &values))
            }
            "String" => parts.push(claim_string_in(&path, &values)),
            "StringArray" => parts.push(claim_list_contains(&path, &values)),
            _ => {
                claim_field.rejected("this `valueType` is not supported");
                continue;
            }
        }
        claim_field.exact("the claim");
    }
    for scope in field.list("scopes") {
        if let Some(text) = scope.string() {
            scope.exact("a word of `scope` or `scp`");
            let scope_value = [Pattern::Exact(text)];
            parts.push(Condition::any([
                claim_words_contain(&["scope"], &scope_value),
                claim_words_contain(&["scp"], &scope_value),
            ]));
        }
    }
    if field.get("claims").is_none() && field.get("scopes").is_none() {
        field.rejected("`claims` or `scopes` is required");
    }
    parts
}
