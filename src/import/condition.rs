//! CEL conditions of imported rules, which never fail to evaluate where the source would not fail.
//!
//! A condition is built as a tree and simplified before it is written, so that conditions that are decided during the
//! import (the port of a listener, a selector) leave no trace in the rules. Only a header value that is not UTF-8 can
//! fail to evaluate. The rule then rejects the request.

use std::fmt;

/// A condition over a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    /// Holds for every request.
    Always,
    /// Holds for no request.
    Never,
    /// An expression that needs no parentheses as an operand of `&&`, `||` and `!`.
    Expr(String),
    /// Holds if all of the conditions hold.
    All(Vec<Condition>),
    /// Holds if at least one of the conditions holds.
    Any(Vec<Condition>),
    /// Holds if the condition does not hold.
    Not(Box<Condition>),
}

impl Condition {
    /// Combines conditions that must all hold.
    pub(super) fn all(conds: impl IntoIterator<Item = Condition>) -> Condition {
        let mut parts = Vec::new();
        for cond in conds {
            match cond {
                Condition::Always => {}
                Condition::Never => return Condition::Never,
                Condition::All(more) => parts.extend(more),
                other => parts.push(other),
            }
        }
        match parts.len() {
            0 => Condition::Always,
            1 => parts.remove(0),
            _ => Condition::All(parts),
        }
    }

    /// Combines conditions of which at least one must hold. An empty list never holds.
    pub(super) fn any(conds: impl IntoIterator<Item = Condition>) -> Condition {
        let mut parts = Vec::new();
        for cond in conds {
            match cond {
                Condition::Never => {}
                Condition::Always => return Condition::Always,
                Condition::Any(more) => parts.extend(more),
                other => parts.push(other),
            }
        }
        match parts.len() {
            0 => Condition::Never,
            1 => parts.remove(0),
            _ => Condition::Any(parts),
        }
    }

    /// Negates the condition.
    #[must_use]
    pub(super) fn negated(self) -> Condition {
        match self {
            Condition::Always => Condition::Never,
            Condition::Never => Condition::Always,
            Condition::Not(inner) => *inner,
            other => Condition::Not(Box::new(other)),
        }
    }

    /// Wraps a CEL expression.
    pub(super) fn expr(expression: impl Into<String>) -> Condition {
        Condition::Expr(expression.into())
    }

    fn fmt_nested(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::All(_) | Condition::Any(_) => write!(f, "({self})"),
            other => write!(f, "{other}"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, parts: &[Condition], separator: &str| {
            for (index, part) in parts.iter().enumerate() {
                f.write_str(if index > 0 { separator } else { "" })?;
                part.fmt_nested(f)?;
            }
            Ok(())
        };
        match self {
            Condition::Always => f.write_str("true"),
            Condition::Never => f.write_str("false"),
            Condition::Expr(text) => f.write_str(text),
            Condition::All(parts) => join(f, parts, " && "),
            Condition::Any(parts) => join(f, parts, " || "),
            Condition::Not(inner) => write!(f, "!({inner})"),
        }
    }
}

/// Formats a string as a CEL literal.
pub(super) fn string_literal(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list_literal<'v>(values: impl IntoIterator<Item = &'v str>) -> String {
    let quoted: Vec<String> = values.into_iter().map(string_literal).collect();
    format!("[{}]", quoted.join(", "))
}

/// A value of an Istio rule, which may contain a wildcard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pattern<'v> {
    /// `*`: any value that is not empty.
    NonEmpty,
    /// `abc*`: a prefix.
    Prefix(&'v str),
    /// `*abc`: a suffix.
    Suffix(&'v str),
    /// An exact value.
    Exact(&'v str),
}

impl<'v> Pattern<'v> {
    /// Parses a value of an Istio rule.
    pub(super) fn parse(value: &'v str) -> Self {
        // a leading star takes precedence; a trailing one is then a literal star
        match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
            ("*", ..) => Self::NonEmpty,
            (_, Some(suffix), _) => Self::Suffix(suffix),
            (_, _, Some(prefix)) => Self::Prefix(prefix),
            _ => Self::Exact(value),
        }
    }
}

/// Matches if the string `expression` is one of the values. If it is not a string, the values must all be exact.
pub(super) fn string_in(expression: &str, patterns: &[Pattern<'_>]) -> Condition {
    let exact: Vec<&str> =
        patterns.iter().filter_map(|p| if let Pattern::Exact(value) = p { Some(*value) } else { None }).collect();
    let exact = match exact.as_slice() {
        [] => Condition::Never,
        [value] => Condition::expr(format!("{expression} == {}", string_literal(value))),
        values => Condition::expr(format!("{expression} in {}", list_literal(values.iter().copied()))),
    };
    let others = patterns.iter().filter_map(|pattern| match pattern {
        Pattern::Exact(_) => None,
        Pattern::NonEmpty => Some(Condition::expr(format!("{expression} != \"\""))),
        Pattern::Prefix(prefix) => {
            Some(Condition::expr(format!("{expression}.startsWith({})", string_literal(prefix))))
        }
        Pattern::Suffix(suffix) => Some(Condition::expr(format!("{expression}.endsWith({})", string_literal(suffix)))),
    });
    Condition::any(std::iter::once(exact).chain(others.collect::<Vec<_>>()))
}

/// Returns an expression for a claim that is null if the claim or the token is absent.
pub(super) fn claim_expr(path: &[&str]) -> String {
    format!("claim(jwt, {})", list_literal(path.iter().copied()))
}

/// Matches if a claim is a string and is one of the values.
pub(super) fn claim_string_in(path: &[&str], patterns: &[Pattern<'_>]) -> Condition {
    if patterns.iter().all(|pattern| matches!(pattern, Pattern::Exact(_))) {
        return string_in(&claim_expr(path), patterns);
    }
    let inner = Condition::all([Condition::expr("type(c) == string"), string_in("c", patterns)]);
    Condition::expr(format!("[{}].exists(c, {inner})", claim_expr(path)))
}

/// Matches if a claim is a list that contains a string that is one of the values.
pub(super) fn claim_list_contains(path: &[&str], patterns: &[Pattern<'_>]) -> Condition {
    let element = Condition::all([Condition::expr("type(e) == string"), string_in("e", patterns)]);
    Condition::expr(format!("[{}].exists(c, type(c) == list && c.exists(e, {element}))", claim_expr(path)))
}

/// Matches if a claim is a string of words or a list, and contains one of the values.
pub(super) fn claim_words_contain(path: &[&str], patterns: &[Pattern<'_>]) -> Condition {
    let element = Condition::all([Condition::expr("type(e) == string"), string_in("e", patterns)]);
    let words = "(type(c) == string ? c.split(\" \") : c)";
    let guard = "type(c) == string || type(c) == list";
    Condition::expr(format!("[{}].exists(c, ({guard}) && {words}.exists(e, {element}))", claim_expr(path)))
}

/// Matches if a header is present and its value is one of the values. The value may be empty for `*`.
pub(super) fn header_in(name: &str, patterns: &[Pattern<'_>]) -> Condition {
    let name = string_literal(&name.to_ascii_lowercase());
    let present = Condition::expr(format!("{name} in request.headers"));
    match patterns.contains(&Pattern::NonEmpty) {
        true => present,
        false => Condition::all([present, string_in(&format!("request.headers[{name}]"), patterns)]),
    }
}

/// Matches preflight requests as Envoy defines them: `OPTIONS` with both headers, neither of them empty.
pub(super) fn is_preflight() -> Condition {
    let names = ["origin", "access-control-request-method"];
    let headers = names.iter().flat_map(|name| {
        let name = string_literal(name);
        [format!("{name} in request.headers"), format!("request.headers[{name}] != \"\"")]
    });
    Condition::all(std::iter::once("request.method == \"OPTIONS\"".to_owned()).chain(headers).map(Condition::expr))
}

/// Matches if an expression with an IP address is in a range. Returns `None` if the text is not an address or range.
pub(super) fn address_in(expression: &str, range: &str) -> Option<Condition> {
    let range = match range.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => format!("{ip}/32"),
        Ok(std::net::IpAddr::V6(ip)) => format!("{ip}/128"),
        Err(_) => {
            crate::config::value::Cidr::try_from(range.to_owned()).ok()?;
            range.to_owned()
        }
    };
    Some(Condition::expr(format!("cidr({}).containsIP({expression})", string_literal(&range))))
}

/// Matches if the whole string matches a regular expression. Returns `None` if the expression is not supported.
pub(super) fn full_match(expression: &str, regex: &str) -> Option<Condition> {
    crate::config::value::Regex::try_from(regex.to_owned()).ok()?;
    Some(Condition::expr(format!("{expression}.matches({})", string_literal(&format!("^(?:{regex})$")))))
}
